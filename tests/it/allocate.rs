//! Allocation: references are distinct, in range, in no order, from several lists, and only of published lists.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use reqwest::{Method, StatusCode};

use crate::support::app::{Reference, TestApp};
use crate::support::eventually;

const SIZE: u64 = 10_000;
const CLIENTS: usize = 32;
const WANTED: usize = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exhaustion_gives_distinct_pseudo_random_references_of_lists_that_answer() {
    let app = std::sync::Arc::new(TestApp::start(&format!(
        "size: {SIZE}, prefetch: {{ capacity: 5000 }}, update-interval: 1s"
    )));
    let clients = (0..CLIENTS).map(|client| {
        let app = std::sync::Arc::clone(&app);
        tokio::spawn(async move {
            let mut mine: Vec<Reference> = Vec::new();
            let mut answered = HashSet::new();
            while mine.len() < WANTED / CLIENTS {
                let amount = 1 + (mine.len() * 7 + client) % 60;
                let references = app.references(amount.min(WANTED / CLIENTS - mine.len())).await;
                for reference in &references {
                    if answered.insert(reference.uri.clone()) {
                        let status = app.client.get(&reference.uri).send().await.unwrap().status();
                        assert_eq!(
                            status,
                            StatusCode::OK,
                            "{} was handed out before it was published",
                            reference.uri
                        );
                    }
                }
                mine.extend(references);
            }
            mine
        })
    });
    let mut all = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        all.extend(client.await.unwrap());
    }
    assert_eq!(all.len(), WANTED);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), WANTED, "a reference was handed out twice");

    let mut lists: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for reference in &all {
        assert!(reference.index < SIZE, "{reference:?} is out of range");
        lists.entry(&reference.uri).or_default().push(reference.index);
    }
    assert!((10..=14).contains(&lists.len()), "{} lists for {WANTED} references", lists.len());
    for (uri, indices) in &lists {
        no_order(uri, indices);
    }
}

/// The order within a client and list is that of allocation. Over 32 clients it is mixed further, which hides nothing here.
fn no_order(uri: &str, indices: &[u64]) {
    let successors = indices.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
    // Chance gives about one in a list; ten or more occur once in ten million lists.
    assert!(successors < 10, "{uri}: {successors} successors in {} indices", indices.len());
    // Chi-square of the first half over 20 bins, 19 degrees of freedom: above 60 once in 250,000 lists.
    let half = &indices[..indices.len() / 2];
    let expected = half.len() as f64 / 20.0;
    let mut bins = [0_f64; 20];
    for index in half {
        bins[usize::try_from(index * 20 / SIZE).unwrap()] += 1.0;
    }
    let chi_square: f64 = bins.iter().map(|count| (count - expected).powi(2) / expected).sum();
    assert!(chi_square < 60.0, "{uri}: chi-square {chi_square} over {} indices", half.len());
}

#[tokio::test]
async fn consecutive_references_are_spread_over_all_open_lists() {
    let app = TestApp::start("open-lists: 3, size: 8000");
    let references = app.references(300).await;
    let mut lists: BTreeMap<String, usize> = BTreeMap::new();
    for reference in references {
        *lists.entry(reference.uri).or_default() += 1;
    }
    assert_eq!(lists.len(), 3, "{lists:?}");
    assert!(lists.values().all(|count| *count > 50), "{lists:?}");
}

#[tokio::test]
async fn allocation_changes_no_byte_of_the_list() {
    let app = TestApp::start("size: 8000, update-interval: 1s");
    for reference in app.references(100).await {
        let stored = app.stored(&reference).await;
        assert_eq!((&stored["value"], &stored["version"]), (&0.into(), &0.into()), "{stored}");
    }
}

#[tokio::test]
async fn claims_can_be_pasted_into_the_credential() {
    let app = TestApp::start("");
    let (status, body) = app.send(Method::POST, "/pools/p/new-references?amount=2&claims=true", None).await;
    assert_eq!(status, StatusCode::OK);
    for reference in body["references"].as_array().unwrap() {
        let info = &reference["status"]["status_list"];
        assert_eq!((&info["idx"], &info["uri"]), (&reference["index"], &reference["uri"]));
    }
}

#[tokio::test]
async fn older_paths_give_the_same() {
    let app = TestApp::start("");
    let (status, one) = app.send(Method::POST, "/api/p/new-reference", None).await;
    assert_eq!(status, StatusCode::OK);
    let one: Reference = serde_json::from_value(one).unwrap();
    let (status, many) = app.send(Method::POST, "/api/p/new-references/3", None).await;
    assert_eq!(status, StatusCode::OK);
    let many: Vec<Reference> = serde_json::from_value(many["references"].clone()).unwrap();
    assert_eq!(many.len(), 3);
    assert!(!many.contains(&one));
}

#[tokio::test]
async fn underflow_fails_at_once_where_the_pool_is_set_to() {
    let app = TestApp::start("size: 128, prefetch: { capacity: 8, threshold: 1, on-underflow: fail }");
    eventually("a first reference", async || {
        let (status, _) = app.send(Method::POST, "/pools/p/new-references?amount=1", None).await;
        (status == StatusCode::OK).then_some(())
    })
    .await;
    let (status, body) = app.send(Method::POST, "/pools/p/new-references?amount=9", None).await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::BAD_REQUEST, Some("VALUE_OUT_OF_RANGE")),
        "{body}"
    );
    assert!(
        body["message"].as_str().unwrap().contains("1 to 8"),
        "it can never succeed, so a retry must not be advised: {body}"
    );
    eventually("an underflow", async || {
        let (status, body) = app.send(Method::POST, "/pools/p/new-references?amount=8", None).await;
        (status == StatusCode::TOO_MANY_REQUESTS && body["code"] == "RATE_LIMIT_REACHED").then_some(())
    })
    .await;
}

#[tokio::test]
async fn amounts_beyond_the_buffer_and_a_list_are_gathered() {
    let app = TestApp::start("size: 128, prefetch: { capacity: 50 }");
    let references = app.references(1000).await;
    assert_eq!(references.iter().collect::<HashSet<_>>().len(), 1000);
}

#[tokio::test]
async fn a_request_that_gave_up_loses_nothing() {
    let app = TestApp::start("size: 800, prefetch: { capacity: 100 }");
    let impatient = reqwest::Client::builder().timeout(Duration::from_millis(3)).build().unwrap();
    let url = format!("{}/pools/p/new-references?amount=900", app.url);
    for _ in 0..20 {
        let _ = impatient.post(&url).header("X-Api-Key", crate::support::app::KEY).send().await;
    }
    let references = app.references(2000).await;
    assert_eq!(references.iter().collect::<HashSet<_>>().len(), 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_larger_than_the_buffer_is_one_underflow() {
    let app =
        TestApp::start("size: 10000, prefetch: { capacity: 100, on-underflow: delay }, update-interval: 1s");
    assert_eq!(app.references(1).await.len(), 1, "the buffer is filled");
    let underflows = async || {
        let metrics =
            app.client.get(format!("{}/metrics", app.url)).send().await.unwrap().text().await.unwrap();
        let line =
            metrics.lines().find(|line| line.starts_with("statuslist_buffer_underflows_total")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = underflows().await;
    assert_eq!(app.references(5000).await.len(), 5000);
    assert_eq!(underflows().await - before, 1);
}
