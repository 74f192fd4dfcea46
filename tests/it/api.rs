//! The write API: every error has its code and message, and changes nothing.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{KEY, TestApp};

/// Sends a request unchanged, and compares status, code and message.
async fn check(
    app: &TestApp,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
    expected: (u16, &str, &str),
) {
    let mut request = app.client.request(method.clone(), format!("{}{path}", app.url)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, content_type) = (response.status(), response.headers().get("content-type").cloned());
    let text = response.text().await.unwrap();
    let problem: Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {status} {text}"));
    assert_eq!(content_type.unwrap(), "application/problem+json", "{method} {path}");
    assert_eq!(
        (status.as_u16(), problem["code"].as_str().unwrap()),
        (expected.0, expected.1),
        "{method} {path}: {problem}"
    );
    assert!(problem["message"].as_str().unwrap().contains(expected.2), "{method} {path}: {problem}");
    assert_eq!(problem.as_object().unwrap().len(), 2, "exactly code and message: {problem}");
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const RIGHT: (&str, &str) = ("X-Api-Key", KEY);
const WRONG: (&str, &str) = ("X-Api-Key", "another key");
const OTHERS: (&str, &str) = ("X-Api-Key", "the key of q");

async fn two_pools() -> TestApp {
    let settings = format!(
        "limits: {{ amount: 50, batch: 10, body-bytes: 3000 }}
status-list-pools:
  p: {{ api-key: {KEY}, size: 800, bits: 2, final-status: 1, update-interval: 1s, prefetch: {{ capacity: 100 }} }}
  q: {{ api-key: the key of q, size: 800 }}"
    );
    TestApp::start_with(tempfile::tempdir().unwrap(), &settings, statuslist::base::clock::Clock::System)
}

#[tokio::test]
async fn every_refused_request_has_its_code_and_changes_nothing() {
    let app = two_pools().await;
    let reference = app.references(1).await.remove(0);
    let uri = &reference.uri;
    let base = uri.rsplit_once('/').unwrap().0;
    let nowhere = format!("{base}/5f1ae880-251c-4ec2-b3d0-b61ea62a306d");
    let update =
        |uri: &str, index: &str, value: &str| format!(r#"{{"uri":"{uri}","index":{index},"value":{value}}}"#);
    let good = update(uri, "3", "1");
    let patch = |headers: &'static [(&'static str, &'static str)],
                 body: String,
                 expected: (u16, &'static str, &'static str)| {
        let app = &app;
        async move { check(app, Method::PATCH, "/status-lists/update", headers, &body, expected).await }
    };

    patch(&[JSON], good.clone(), (401, "UNAUTHORIZED", "Missing api key")).await;
    patch(&[JSON, WRONG], good.clone(), (401, "UNAUTHORIZED", "Invalid api key")).await;
    patch(&[JSON, OTHERS], good.clone(), (401, "UNAUTHORIZED", "Invalid api key")).await;
    patch(&[RIGHT], good.clone(), (415, "UNSUPPORTED_MEDIA_TYPE", "application/json")).await;
    patch(&[JSON, RIGHT], "{".into(), (400, "BAD_REQUEST", "EOF")).await;
    patch(&[JSON, RIGHT], String::new(), (400, "BAD_REQUEST", "EOF")).await;
    patch(
        &[JSON, RIGHT],
        r#"{"uri":"a","idx":1,"value":1}"#.into(),
        (400, "BAD_REQUEST", "unknown field `idx`"),
    )
    .await;
    patch(&[JSON, RIGHT], r#"{"uri":"a","index":1}"#.into(), (400, "BAD_REQUEST", "missing field `value`"))
        .await;
    patch(&[JSON, RIGHT], update(uri, "-1", "1"), (400, "INDEX_OUT_OF_BOUNDS", "index=-1")).await;
    patch(&[JSON, RIGHT], update(uri, "1", "-1"), (400, "VALUE_OUT_OF_RANGE", "value=-1")).await;
    patch(&[JSON, RIGHT], update(uri, "1", "\"gone\""), (400, "BAD_REQUEST", "`value` must be")).await;
    let plain = ("Content-Type", "text/plain");
    check(
        &app,
        Method::PATCH,
        "/status-lists/update",
        &[plain, RIGHT],
        &good,
        (415, "UNSUPPORTED_MEDIA_TYPE", "got `text/plain`"),
    )
    .await;
    let hash = statuslist::model::api_key::ApiKeyHash::of(KEY).to_setting();
    let hashed = ("X-Api-Key", hash.as_str());
    check(
        &app,
        Method::PATCH,
        "/status-lists/update",
        &[JSON, hashed],
        &good,
        (401, "UNAUTHORIZED", "send the key that it was made of"),
    )
    .await;
    let bearer = format!("Bearer {KEY}");
    let bearer = ("Authorization", bearer.as_str());
    check(
        &app,
        Method::PATCH,
        "/status-lists/update",
        &[JSON, bearer],
        &good,
        (401, "UNAUTHORIZED", "in the header X-Api-Key"),
    )
    .await;
    let known = format!("the lists of this service are {base}/<list id>");
    check(
        &app,
        Method::PATCH,
        "/status-lists/update",
        &[JSON, RIGHT],
        &update("abc", "1", "1"),
        (400, "NO_SUCH_LIST", &known),
    )
    .await;
    patch(&[JSON, RIGHT], update("abc", "1", "1"), (400, "NO_SUCH_LIST", "listUri abc invalid")).await;
    patch(&[JSON, RIGHT], update(&nowhere, "1", "1"), (400, "NO_SUCH_LIST", "No list with id 5f1ae880"))
        .await;
    let out = (400, "INDEX_OUT_OF_BOUNDS", "Index out of bounds (uri=http");
    patch(&[JSON, RIGHT], update(uri, "800", "1"), out).await;
    patch(&[JSON, RIGHT], update(uri, "18446744073709551615", "1"), out).await;
    patch(&[JSON, RIGHT], update(uri, "3", "4"), (400, "VALUE_OUT_OF_RANGE", "holds 0 to 3")).await;
    patch(&[JSON, RIGHT], update(uri, "3", "3"), (400, "VALUE_OUT_OF_RANGE", "application-statuses")).await;
    patch(&[JSON, RIGHT], " ".repeat(3001), (413, "PAYLOAD_TOO_LARGE", "3000 bytes")).await;

    let batch = |indices: &[u64], uri: &str| {
        let targets: Vec<_> = indices.iter().map(|index| json!({ "uri": uri, "index": index })).collect();
        json!({ "statusListReferences": targets, "value": 1 }).to_string()
    };
    let other = {
        let response = app
            .client
            .post(format!("{}/pools/q/new-references", app.url))
            .header(OTHERS.0, OTHERS.1)
            .send()
            .await
            .unwrap();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        body["references"][0]["uri"].as_str().unwrap().to_owned()
    };
    let path = "/status-lists/batch-update";
    check(
        &app,
        Method::PATCH,
        path,
        &[JSON, RIGHT],
        &batch(&[], uri),
        (400, "BAD_REQUEST", "1 to 10 entries"),
    )
    .await;
    check(&app, Method::PATCH, path, &[JSON, RIGHT], &batch(&[3; 11], uri), (400, "BAD_REQUEST", "got 11"))
        .await;
    check(
        &app,
        Method::PATCH,
        path,
        &[JSON, RIGHT],
        &batch(&[3, 800], uri),
        (
            400,
            "INDEX_OUT_OF_BOUNDS",
            "index=800); the list has the indices 0 to 799; it is statusListReferences[1]",
        ),
    )
    .await;
    let third = json!({ "updates": [{"uri": uri, "index": 1, "value": 1}, {"uri": uri, "index": 2, "value": "gone"}] }).to_string();
    check(
        &app,
        Method::PATCH,
        path,
        &[JSON, RIGHT],
        &third,
        (400, "BAD_REQUEST", "updates[1].value: `value` must be"),
    )
    .await;
    check(
        &app,
        Method::PATCH,
        path,
        &[JSON, RIGHT],
        &json!({ "updates": [{"uri": uri, "index": 1, "value": 1}, {"uri": "abc", "index": 2, "value": 1}] })
            .to_string(),
        (400, "NO_SUCH_LIST", "it is updates[1]"),
    )
    .await;
    check(
        &app,
        Method::PATCH,
        path,
        &[JSON, RIGHT],
        &batch(&[3], &other),
        (401, "UNAUTHORIZED", "Invalid api key"),
    )
    .await;

    let allocate = "/pools/p/new-references";
    check(&app, Method::POST, allocate, &[], "", (401, "UNAUTHORIZED", "Missing api key")).await;
    check(&app, Method::POST, allocate, &[OTHERS], "", (401, "UNAUTHORIZED", "Invalid api key")).await;
    check(
        &app,
        Method::POST,
        "/pools/abc/new-references",
        &[RIGHT],
        "",
        (404, "NO_SUCH_POOL", "No pool with id abc"),
    )
    .await;
    for amount in ["0", "-1", "51"] {
        let path = format!("{allocate}?amount={amount}");
        let expected = (400, "VALUE_OUT_OF_RANGE", "amount must be 1 to 50, got ");
        check(&app, Method::POST, &path, &[RIGHT], "", expected).await;
        check(&app, Method::POST, &format!("/api/p/new-references/{amount}"), &[RIGHT], "", expected).await;
    }
    for path in
        [format!("{allocate}?ammount=5"), "/api/p/new-reference?amount=5".to_owned(), "/pools/p?x".to_owned()]
    {
        let method = if path.contains("new") { Method::POST } else { Method::GET };
        check(&app, method, &path, &[RIGHT], "", (400, "BAD_REQUEST", "is unknown")).await;
    }
    check(
        &app,
        Method::POST,
        "/pools/p/new-references?amount=x",
        &[RIGHT],
        "",
        (400, "BAD_REQUEST", "The query parameter `amount` must be a number from 1, got `x`"),
    )
    .await;
    check(&app, Method::GET, allocate, &[RIGHT], "", (405, "METHOD_NOT_ALLOWED", "only POST")).await;
    check(&app, Method::GET, "/nothing", &[], "", (404, "NOT_FOUND", "")).await;
    let wrong_method = app.client.get(format!("{}{allocate}", app.url)).send().await.unwrap();
    assert_eq!(wrong_method.headers()["allow"], "POST");
    let lists = "/pools/p/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d/statuses/1";
    check(&app, Method::GET, lists, &[RIGHT], "", (404, "NO_SUCH_LIST", "No list with id 5f1ae880")).await;

    for index in 0..6 {
        let stored = app.stored(&crate::support::app::Reference { uri: uri.clone(), index }).await;
        assert_eq!((stored["value"].as_u64(), stored["version"].as_u64()), (Some(0), Some(0)), "{stored}");
    }
}

#[tokio::test]
async fn final_status_is_forbidden_to_leave() {
    let app = two_pools().await;
    let reference = app.references(1).await.remove(0);
    assert_eq!(app.update(&reference, json!("suspended")).await.0, StatusCode::NO_CONTENT);
    assert_eq!(app.update(&reference, json!("invalid")).await.0, StatusCode::NO_CONTENT);
    let (status, problem) = app.update(&reference, json!("valid")).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::FORBIDDEN, Some("FORBIDDEN")), "{problem}");
    assert_eq!(app.stored(&reference).await["value"], 1);
}

#[tokio::test]
async fn a_status_is_only_set_if_the_expected_one_is_stored() {
    let app = two_pools().await;
    let references = app.references(3).await;
    let (uri, index) = (&references[0].uri, references[0].index);
    let send = async |path: &str, body: Value| app.send(Method::PATCH, path, Some(body)).await;
    let set = async |expected: Value, value: Value| {
        let body = json!({ "uri": uri, "index": index, "value": value, "expected": expected });
        send("/status-lists/update", body).await
    };
    let stored = async |n: usize| app.stored(&references[n]).await["value"].as_u64().unwrap();
    assert_eq!(set(json!("valid"), json!(2)).await.0, StatusCode::NO_CONTENT);
    let (status, problem) = set(json!(0), json!("invalid")).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{problem}");
    let message =
        format!("The status is not the expected one (uri={uri}, index={index}, expected=0, stored=2)");
    assert_eq!(problem, json!({ "code": "PRECONDITION_FAILED", "message": message }));
    assert_eq!(stored(0).await, 2, "nothing was changed");
    for (expected, code, part) in [
        (json!(null), "BAD_REQUEST", "`expected` must be a number"),
        (json!("gone"), "BAD_REQUEST", "`expected` must be a number"),
        (json!(-1), "VALUE_OUT_OF_RANGE", "value=-1"),
        (json!(4), "VALUE_OUT_OF_RANGE", "value=4"),
        (json!(256), "VALUE_OUT_OF_RANGE", "value=256"),
    ] {
        let (status, problem) = set(expected, json!(0)).await;
        assert_eq!((status.as_u16(), problem["code"].as_str()), (400, Some(code)), "{problem}");
        assert!(problem["message"].as_str().unwrap().contains(part), "{problem}");
    }
    assert_eq!(set(json!(3), json!(0)).await.0, StatusCode::PRECONDITION_FAILED, "undeclared, but it fits");

    // A batch is all or nothing, in both forms.
    let target = |n: usize| json!({ "uri": references[n].uri, "index": references[n].index });
    let update = |n: usize, value: u8, expected: Option<u8>| {
        let mut update = target(n);
        update["value"] = json!(value);
        if let Some(expected) = expected {
            update["expected"] = json!(expected);
        }
        update
    };
    let batch = async |body: Value| send("/status-lists/batch-update", body).await;
    let (status, problem) =
        batch(json!({ "updates": [update(1, 2, None), update(2, 2, Some(0)), update(0, 0, Some(1))] })).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{problem}");
    let in_batch = format!("{}; it is updates[2]", message.replace("expected=0", "expected=1"));
    assert_eq!(problem["message"].as_str().unwrap(), in_batch);
    assert_eq!([stored(0).await, stored(1).await, stored(2).await], [2, 0, 0]);
    let of_all = |expected: &str| json!({ "statusListReferences": [target(1), target(0)], "value": 0, "expected": expected });
    assert_eq!(batch(of_all("valid")).await.0, StatusCode::PRECONDITION_FAILED);
    assert_eq!([stored(0).await, stored(1).await], [2, 0]);
    let (status, problem) = batch(json!({ "updates": [update(1, 2, None)], "expected": 0 })).await;
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("BAD_REQUEST")), "{problem}");
    assert_eq!(
        batch(json!({ "updates": [update(1, 2, Some(0)), update(2, 0, None)] })).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(batch(of_all("suspended")).await.0, StatusCode::NO_CONTENT);
    assert_eq!([stored(0).await, stored(1).await, stored(2).await], [0, 0, 0]);
}

#[tokio::test]
async fn of_many_changes_that_expect_the_same_status_one_is_made() {
    let app = TestApp::start("bits: 2");
    let reference = app.references(1).await.remove(0);
    let requests: Vec<_> = (0..40)
        .map(|n| {
            let value = 1 + n % 2;
            let body =
                json!({ "uri": reference.uri, "index": reference.index, "value": value, "expected": 0 });
            let request = app.client.patch(format!("{}/status-lists/update", app.url));
            let request = request.header(RIGHT.0, RIGHT.1).header(JSON.0, JSON.1).body(body.to_string());
            tokio::spawn(async move { (value, request.send().await.unwrap().status()) })
        })
        .collect();
    let mut made = Vec::new();
    for request in requests {
        match request.await.unwrap() {
            (value, StatusCode::NO_CONTENT) => made.push(value),
            (_, status) => assert_eq!(status, StatusCode::PRECONDITION_FAILED),
        }
    }
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(app.stored(&reference).await["value"], made[0]);
}

#[tokio::test]
async fn names_and_numbers_mean_the_same_and_older_path_works() {
    let app = TestApp::start("bits: 2");
    let reference = app.references(1).await.remove(0);
    for (value, number) in [
        (json!("invalid"), 1),
        (json!("suspended"), 2),
        (json!("revoked"), 1),
        (json!("valid"), 0),
        (json!(2), 2),
    ] {
        assert_eq!(app.update(&reference, value).await.0, StatusCode::NO_CONTENT);
        assert_eq!(app.stored(&reference).await["value"], number);
    }
    let body = json!({ "uri": reference.uri, "index": reference.index, "value": 1 });
    assert_eq!(app.send(Method::POST, "/api/update-status", Some(body)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(app.stored(&reference).await["value"], 1);
}

/// What `compatibility: lenient` promises, and that it is no more than that.
#[tokio::test]
async fn lenient_ignores_only_what_it_does_not_know() {
    let settings =
        format!("compatibility: lenient\nstatus-list-pools: {{ p: {{ api-key: {KEY}, bits: 2 }} }}");
    let app =
        TestApp::start_with(tempfile::tempdir().unwrap(), &settings, statuslist::base::clock::Clock::System);
    let (status, body) = app.send(Method::POST, "/pools/p/new-references?amount=2&reason=x", None).await;
    assert_eq!((status, body["references"].as_array().map(Vec::len)), (StatusCode::OK, Some(2)), "{body}");
    let reference = app.references(1).await.remove(0);
    let (uri, index) = (&reference.uri, reference.index);
    let send = async |path: &str, body: Value| app.send(Method::PATCH, path, Some(body)).await;
    let one = json!({ "uri": uri, "index": index, "value": 1, "reason": { "value": 2 } });
    assert_eq!(send("/status-lists/update", one).await.0, StatusCode::NO_CONTENT);
    assert_eq!(app.stored(&reference).await["value"], 1);
    for batch in [
        json!({ "statusListReferences": [{ "uri": uri, "index": index, "idx": 0, "value": 1 }], "value": 2, "note": [1] }),
        json!({ "updates": [{ "uri": uri, "index": index, "value": 0, "note": "x" }], "by": "me" }),
    ] {
        let (status, problem) = send("/status-lists/batch-update", batch).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{problem}");
    }
    assert_eq!(app.stored(&reference).await["value"], 0, "the last one");
    for wrong in [
        json!({ "uri": uri, "idx": index, "value": 1 }),
        json!({ "uri": uri, "index": index, "value": 1, "expected": null }),
        json!([uri, index, 1]),
    ] {
        let (status, problem) = send("/status-lists/update", wrong).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("BAD_REQUEST")), "{problem}");
    }
}

#[tokio::test]
async fn batch_is_applied_as_a_whole() {
    let app = TestApp::start("");
    let references = app.references(1000).await;
    let targets: Vec<_> = references
        .iter()
        .map(|reference| json!({ "uri": reference.uri, "index": reference.index }))
        .collect();
    let body = json!({ "statusListReferences": targets, "value": "invalid" });
    let (status, problem) = app.send(Method::PATCH, "/status-lists/batch-update", Some(body)).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{problem}");
    for reference in [&references[0], &references[999]] {
        assert_eq!(app.stored(reference).await["value"], 1);
    }
}

#[tokio::test]
async fn the_facts_of_a_pool_are_returned() {
    let app = TestApp::start("bits: 2, size: 8000, formats: [jwt, cwt], ttl: 5m, update-interval: 1m");
    app.references(1).await;
    let (status, pool) = app.send(Method::GET, "/pools/p", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&pool["bits"], &pool["size"], &pool["ttl"], &pool["listLifetime"]),
        (&json!(2), &json!(8000), &json!(300), &json!(86400))
    );
    assert_eq!(pool["formats"], json!(["jwt", "cwt"]));
    assert!(pool["references"]["free"].as_u64().unwrap() > 0 && pool["keyId"].is_string(), "{pool}");
    let (status, pools) = app.send(Method::GET, "/pools", None).await;
    assert_eq!((status, &pools["pools"][0]["pool"]), (StatusCode::OK, &json!("p")), "{pools}");
    let (_, version) = app.send(Method::GET, "/version", None).await;
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let as_text =
        app.client.get(format!("{}/version", app.url)).header("Accept", "text/plain").send().await.unwrap();
    assert!(as_text.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert_eq!(as_text.text().await.unwrap(), env!("CARGO_PKG_VERSION"));
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(app.send(Method::GET, path, None).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_slow_body_is_cut_off() {
    use std::io::{Read, Write};
    let settings =
        format!("limits: {{ request-timeout: 1s }}\nstatus-list-pools: {{ p: {{ api-key: {KEY} }} }}");
    let app =
        TestApp::start_with(tempfile::tempdir().unwrap(), &settings, statuslist::base::clock::Clock::System);
    let mut stream = std::net::TcpStream::connect(app.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "PATCH /status-lists/update HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn no_answer_of_the_api_is_kept_by_caches_or_taken_for_a_page() {
    let app = two_pools().await;
    let reference = app.references(1).await.remove(0);
    let list = reference.uri.rsplit('/').next().unwrap();
    let update = json!({ "uri": reference.uri, "index": reference.index, "value": 1 }).to_string();
    for (method, path, key, body, expected) in [
        (Method::POST, "/pools/p/new-references", KEY, "", 200),
        (Method::PATCH, "/status-lists/update", KEY, update.as_str(), 204),
        (Method::PATCH, "/status-lists/update", KEY, "{", 400),
        (Method::PATCH, "/status-lists/update", "another key", "{}", 401),
        (Method::PUT, "/status-lists/update", KEY, "", 405),
        (Method::GET, "/pools/p", KEY, "", 200),
        (Method::GET, "/pools/none", KEY, "", 404),
        (Method::GET, &format!("/pools/p/lists/{list}/statuses/0"), KEY, "", 200),
        (Method::GET, "/none", KEY, "", 404),
        (Method::GET, "/health/live", KEY, "", 200),
        (Method::POST, "/health/live", KEY, "", 405),
        (Method::GET, "/health/ready", KEY, "", 200),
        (Method::GET, "/metrics", KEY, "", 200),
        (Method::GET, "/version", KEY, "", 200),
    ] {
        let request =
            app.client.request(method.clone(), format!("{}{path}", app.url)).header("X-Api-Key", key);
        let answer = request.header(JSON.0, JSON.1).body(body.to_owned()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{method} {path}");
        for (name, value) in [("cache-control", "no-store"), ("x-content-type-options", "nosniff")] {
            let values: Vec<_> = answer.headers().get_all(name).iter().collect();
            assert_eq!(values, [value], "{method} {path}: {name}");
        }
    }
    let published = app.client.get(&reference.uri).send().await.unwrap();
    let kept = published.headers()["cache-control"].to_str().unwrap();
    assert!(published.status().is_success() && !kept.contains("no-store"), "lists are for caches: {kept}");
}
