//! Many updates in one request: a value for each entry, or one for a whole list; and updates of references never handed out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::process::{Process, command, free_port};
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

const BATCH: &str = "/status-lists/batch-update";

fn updates(entries: &[(&str, u64, Value)]) -> Value {
    let updates: Vec<_> = entries
        .iter()
        .map(|(uri, index, value)| json!({ "uri": uri, "index": index, "value": value }))
        .collect();
    json!({ "updates": updates })
}

async fn batch(app: &TestApp, body: Value) -> (StatusCode, Value) {
    app.send(Method::PATCH, BATCH, Some(body)).await
}

fn list_path(reference: &Reference) -> String {
    format!("/pools/p/lists/{}", reference.uri.rsplit('/').next().unwrap())
}

async fn fill(app: &TestApp, reference: &Reference, value: Value) -> (StatusCode, Value) {
    app.send(Method::PATCH, &list_path(reference), Some(json!({ "value": value }))).await
}

async fn until_published(app: &TestApp, reference: &Reference) {
    eventually("the update to be published", async || {
        (app.stored(reference).await["published"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_entry_of_a_batch_can_have_a_value_of_its_own_and_all_or_none_is_set() {
    let app = TestApp::start("bits: 2, final-status: 1, update-interval: 1s, size: 8000");
    let all = app.references(4).await;
    let entry = |n: usize, value: Value| (all[n].uri.as_str(), all[n].index, value);
    let (status, problem) =
        batch(&app, updates(&[entry(0, json!("suspended")), entry(1, json!(1)), entry(2, json!(2))])).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{problem}");
    let values = async || {
        let mut values = Vec::new();
        for reference in &all {
            values.push(app.stored(reference).await["value"].as_u64().unwrap());
        }
        values
    };
    assert_eq!(values().await, [2, 1, 2, 0]);
    let (status, _) = batch(&app, updates(&[entry(0, json!(0)), entry(1, json!(0))])).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "the second has its final status");
    let twice = [entry(3, json!(2)), entry(0, json!(0)), entry(3, json!("suspended"))];
    assert_eq!(batch(&app, updates(&twice)).await.0, StatusCode::NO_CONTENT, "the same value, given twice");
    assert_eq!(values().await, [0, 1, 2, 2]);

    let refused = [
        (updates(&[entry(3, json!(0)), entry(0, json!(2)), entry(3, json!(2))]), "Two values for one entry"),
        (updates(&[]), "updates must have 1 to 100000 entries, got 0"),
        (json!({ "updates": [], "value": 1 }), "either `statusListReferences`"),
        (json!({ "value": 1 }), "either `statusListReferences`"),
        (
            json!({ "statusListReferences": [{ "uri": all[0].uri, "index": 1 }] }),
            "either `statusListReferences`",
        ),
        (
            json!({ "updates": [{ "uri": all[0].uri, "index": 1, "value": 1 }],
                    "statusListReferences": [{ "uri": all[0].uri, "index": 1 }], "value": 1 }),
            "either `statusListReferences`",
        ),
        (json!({ "updates": [{ "uri": all[0].uri, "index": 1 }] }), "missing field `value`"),
        (
            json!({ "updates": [{ "uri": all[0].uri, "index": 1, "value": 1, "at": 1 }] }),
            "unknown field `at`",
        ),
    ];
    for (body, expected) in refused {
        let (status, problem) = batch(&app, body).await;
        assert_eq!((status, problem["code"].as_str()), (StatusCode::BAD_REQUEST, Some("BAD_REQUEST")));
        assert!(problem["message"].as_str().unwrap().contains(expected), "{problem}");
    }
    assert_eq!(values().await, [0, 1, 2, 2], "none of these changes was applied");
}

/// A hundred thousand entries fit with the default settings, on both backends.
async fn hundred_thousand(store: &str) {
    let settings = format!(
        "{{ {store}, status-list-pools: {{ p: {{ api-key: {KEY}, bits: 2, size: 200000, update-interval: 1s, open-lists: 1 }} }} }}"
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    let entries: Vec<_> = (0..100_000)
        .map(|n| (reference.uri.as_str(), 2 * n, json!(["invalid", "suspended"][n as usize % 2])))
        .collect();
    let (status, problem) = batch(&app, updates(&entries)).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{problem}");
    let of = |index| Reference { uri: reference.uri.clone(), index };
    for (index, value) in [(0, 1), (1, 0), (2, 2), (199_996, 1), (199_998, 2), (199_999, 0)] {
        assert_eq!(app.stored(&of(index)).await["value"], value, "index {index}");
    }
    until_published(&app, &of(0)).await;
    let list = published(app.folder(), &reference.uri).unwrap();
    assert_eq!((list.status(199_996), list.status(199_998), list.status(199_999)), (1, 2, 0));
}

#[tokio::test]
async fn a_hundred_thousand_entries_are_one_request_on_sqlite() {
    hundred_thousand("storage-type: sqlite").await;
}

#[tokio::test]
async fn a_hundred_thousand_entries_are_one_request_on_redis() {
    let redis = RedisServer::start();
    hundred_thousand(&format!("storage-type: redis, redis: {{ {} }}", redis.settings())).await;
}

/// Sets a whole list, waits for its publication, and gets no references that are invalid from the start.
async fn whole_list(store: &str) {
    let settings = format!(
        "{{ {store}, status-list-pools: {{ p: {{ api-key: {KEY}, bits: 2, size: 8000, update-interval: 1s, open-lists: 2, prefetch: {{ capacity: 500 }} }} }} }}"
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    app.update(&reference, json!("suspended")).await;
    until_published(&app, &reference).await;
    let (status, problem) = fill(&app, &reference, json!("invalid")).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{problem}");
    let reinstated = Reference { index: (reference.index + 1) % 8000, ..reference.clone() };
    assert_eq!(app.update(&reinstated, json!(0)).await.0, StatusCode::NO_CONTENT);
    until_published(&app, &reinstated).await;
    let list = published(app.folder(), &reference.uri).unwrap();
    for index in 0..8000 {
        assert_eq!(list.status(index), u8::from(index != reinstated.index), "index {index}");
    }
    // More than both lists still had, so others are now open.
    for _ in 0..20 {
        let given = app.references(500).await;
        assert!(given.iter().all(|given| given.uri != reference.uri), "it would be invalid from the start");
    }
}

#[tokio::test]
async fn a_whole_list_is_set_and_published_and_gives_no_more_references_on_sqlite() {
    whole_list("storage-type: sqlite").await;
}

#[tokio::test]
async fn a_whole_list_is_set_and_published_and_gives_no_more_references_on_redis() {
    let redis = RedisServer::start();
    whole_list(&format!("storage-type: redis, redis: {{ {} }}", redis.settings())).await;
}

#[tokio::test]
async fn references_in_the_memory_of_another_instance_are_dropped_with_their_list() {
    let redis = RedisServer::start();
    let settings = format!(
        "{{ storage-type: redis, redis: {{ {} }}, status-list-pools: {{ p: {{ api-key: {KEY}, size: 8000, update-interval: 1s, open-lists: 2, precreation: {{ check-delay: 200ms }}, prefetch: {{ capacity: 2000, threshold: 1 }} }} }} }}",
        redis.settings()
    );
    let start = || {
        let folder = tempfile::tempdir().unwrap();
        TestApp::start_at(folder, "http://status.example", &settings, Clock::System)
    };
    let owner = start();
    let reference = owner.references(1).await.remove(0);
    let pool = async || owner.send(Method::GET, "/pools/p", None).await.1["references"].clone();
    let is_full = async || pool().await["ready"].as_u64().filter(|ready| *ready >= 2000);
    eventually("the owner's memory to be full", is_full).await;
    let before = owner.references(500).await;
    assert!(
        before.iter().any(|given| given.uri == reference.uri),
        "the control: it held references of the list"
    );
    eventually("the owner's memory to be full", is_full).await;
    let used = pool().await["used"].as_u64().unwrap();

    let other = start();
    assert_eq!(fill(&other, &reference, json!(1)).await.0, StatusCode::NO_CONTENT);
    // Others are leased to replace the dropped ones; the other instance alone leases its own 2000.
    eventually("the owner to lease again", async || {
        let used = pool().await["used"].as_u64()? - used;
        is_full().await.filter(|_| used > 2500)
    })
    .await;
    let given = owner.references(2000).await;
    assert!(given.iter().all(|given| given.uri != reference.uri), "they would be invalid from the start");
}

#[tokio::test]
async fn refused_changes_of_a_whole_list_change_nothing() {
    let settings = format!(
        "status-list-pools: {{ p: {{ api-key: {KEY}, bits: 2, size: 8000, final-status: 1 }}, q: {{ api-key: other, size: 8000 }} }}"
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    app.update(&reference, json!("invalid")).await;
    let path = list_path(&reference);
    let nowhere = "/pools/p/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d";
    let value = |value: Value| json!({ "value": value });
    for (path, body, expected, code) in [
        (path.as_str(), value(json!(0)), 403, "FORBIDDEN"),
        (&path, value(json!(2)), 403, "FORBIDDEN"),
        (&path, value(json!(3)), 400, "VALUE_OUT_OF_RANGE"),
        (&path, value(json!(4)), 400, "VALUE_OUT_OF_RANGE"),
        (&path, json!({ "value": 1, "other": 1 }), 400, "BAD_REQUEST"),
        (&path, json!({}), 400, "BAD_REQUEST"),
        (nowhere, value(json!(1)), 404, "NO_SUCH_LIST"),
        ("/pools/p/lists/abc", value(json!(1)), 404, "NO_SUCH_LIST"),
        (&path.replace("/p/", "/q/"), value(json!(1)), 401, "UNAUTHORIZED"),
    ] {
        let (status, problem) = app.send(Method::PATCH, path, Some(body.clone())).await;
        assert_eq!((status.as_u16(), problem["code"].as_str()), (expected, Some(code)), "{path} {body}");
    }
    let theirs = app.client.patch(format!("{}{}", app.url, path.replace("/p/", "/q/")));
    let theirs = theirs.header("X-Api-Key", "other").header("Content-Type", "application/json");
    let theirs = theirs.body(value(json!(1)).to_string()).send().await.unwrap();
    assert_eq!(theirs.status(), StatusCode::NOT_FOUND, "a list of another pool");
    assert_eq!(app.stored(&reference).await["version"], 1, "nothing was changed");
    let lists = app.send(Method::GET, "/pools/p/lists", None).await.1;
    assert!(lists["lists"].as_array().unwrap().iter().all(|list| list["open"] == true), "{lists}");

    let wrong_method = app.client.get(format!("{}{path}", app.url)).send().await.unwrap();
    assert_eq!(wrong_method.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong_method.headers()["allow"], "DELETE, PATCH");

    assert_eq!(
        fill(&app, &reference, json!(1)).await.0,
        StatusCode::NO_CONTENT,
        "the final status can be set"
    );
    let retired = app.send(Method::DELETE, &format!("{path}?force=true"), None).await;
    assert_eq!(retired.0, StatusCode::NO_CONTENT);
    let (status, problem) = fill(&app, &reference, json!(1)).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::GONE, Some("LIST_RETIRED")));
}

#[tokio::test]
async fn an_acknowledged_change_of_a_whole_list_survives_kill_9() {
    const SETTINGS: &str = "
status-list-pools:
  p: { api-key: the key of this test, size: 20000, update-interval: 1s }";
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let start = || Process::start(command(folder.path(), port, SETTINGS), folder.path(), port);
    // No connection outlives the process at its other end.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let ask = async |method: Method, path: &str, body: String| {
        let request = http.request(method, format!("{url}{path}")).header("X-Api-Key", KEY);
        request.header("Content-Type", "application/json").body(body).send().await.unwrap()
    };
    let mut process = start();
    let mut filled = HashSet::new();
    for _ in 0..3 {
        let answer = ask(Method::POST, "/pools/p/new-references", String::new()).await.text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let uri = answer["references"][0]["uri"].as_str().unwrap().to_owned();
        let path = format!("/pools/p/lists/{}", uri.rsplit('/').next().unwrap());
        let status = ask(Method::PATCH, &path, json!({ "value": 1 }).to_string()).await.status();
        assert_eq!(status, StatusCode::NO_CONTENT);
        process.kill();
        process = start();
        assert!(filled.insert(uri), "a filled list gave a reference");
    }
    for uri in filled {
        eventually("the filled list to be published", async || {
            let list = published(folder.path(), &uri).ok()?;
            (0..20_000).all(|index| list.status(index) == 1).then_some(())
        })
        .await;
    }
}

const REJECTING: &str = "size: 8000, update-interval: 1s, open-lists: 1, precreation: { check-delay: 1h }, prefetch: { capacity: 100, threshold: 1 }";

/// How many positions of the list of `reference` are leased.
async fn leased(app: &TestApp, reference: &Reference) -> usize {
    let lists = app.send(Method::GET, "/pools/p/lists", None).await.1;
    let list = lists["lists"].as_array().unwrap().iter().find(|list| list["uri"] == reference.uri.as_str());
    usize::try_from(list.unwrap()["used"].as_u64().unwrap()).unwrap()
}

/// Returns every index of the list of `reference` whose update was accepted.
async fn accepted(app: &TestApp, reference: &Reference) -> HashSet<u64> {
    let mut accepted = HashSet::new();
    for index in 0..8000 {
        let (status, problem) = app.update(&Reference { index, ..reference.clone() }, json!(1)).await;
        match status {
            StatusCode::NO_CONTENT => assert!(accepted.insert(index)),
            _ => {
                let code = problem["code"].as_str();
                assert_eq!((status, code), (StatusCode::BAD_REQUEST, Some("INDEX_NOT_ALLOCATED")));
                assert!(problem["message"].as_str().unwrap().contains("never handed out"), "{problem}");
            }
        }
    }
    accepted
}

async fn only_leased_indices_are_accepted(store: &str) {
    let settings = |option: &str| {
        format!("{{ {store}, status-list-pools: {{ p: {{ api-key: {KEY}, {option} {REJECTING} }} }} }}")
    };
    let public = "http://status.example";
    let start = |folder, option| TestApp::start_at(folder, public, &settings(option), Clock::System);
    let app = start(tempfile::tempdir().unwrap(), "reject-unallocated: true,");
    let given = app.references(50).await;
    let reference = &given[0];
    let before = leased(&app, reference).await;
    let allowed = accepted(&app, reference).await;
    assert!((50..1000).contains(&before), "the leased positions were handed out or are in memory");
    assert!((before..=leased(&app, reference).await).contains(&allowed.len()), "{} accepted", allowed.len());
    assert!(given.iter().all(|given| allowed.contains(&given.index)));

    let free = (0..8000).find(|index| !allowed.contains(index)).unwrap();
    let mixed = updates(&[(&given[1].uri, given[1].index, json!(0)), (&reference.uri, free, json!(1))]);
    assert_eq!(batch(&app, mixed).await.1["code"], "INDEX_NOT_ALLOCATED");
    assert_eq!(app.stored(&given[1]).await["value"], 1, "no change of that request was applied");
    let (_, problem) = app.update(&Reference { index: 8000, ..reference.clone() }, json!(1)).await;
    assert_eq!(problem["code"], "INDEX_OUT_OF_BOUNDS");

    // A sealed list no longer has its order.
    assert_eq!(fill(&app, reference, json!(1)).await.0, StatusCode::NO_CONTENT);
    let unknown = Reference { index: free, ..reference.clone() };
    assert_eq!(app.update(&unknown, json!(0)).await.0, StatusCode::NO_CONTENT);

    let app = start(app.stop(), "");
    let other = app.references(1).await.remove(0);
    assert_ne!(other.uri, reference.uri);
    for index in 0..200 {
        let answer = app.update(&Reference { index, ..other.clone() }, json!(1)).await;
        assert_eq!(answer.0, StatusCode::NO_CONTENT, "the control: by default every index is accepted");
    }
}

#[tokio::test]
async fn only_leased_indices_are_accepted_if_so_set_on_sqlite() {
    only_leased_indices_are_accepted("storage-type: sqlite").await;
}

#[tokio::test]
async fn only_leased_indices_are_accepted_if_so_set_on_redis() {
    let redis = RedisServer::start();
    only_leased_indices_are_accepted(&format!("storage-type: redis, redis: {{ {} }}", redis.settings()))
        .await;
}

/// Every reference can be updated as soon as it is handed out, whatever is being leased in the meantime.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reference_that_was_handed_out_is_refused_under_load() {
    let pool = "reject-unallocated: true, size: 2000, update-interval: 1s, open-lists: 3, prefetch: { capacity: 60, threshold: 60 }";
    let app = Arc::new(TestApp::start(pool));
    let clients = (0..8).map(|_| {
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            for _ in 0..60 {
                for reference in app.references(3).await {
                    let (status, problem) = app.update(&reference, json!(1)).await;
                    assert_eq!(status, StatusCode::NO_CONTENT, "{reference:?}: {problem}");
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}
