//! The description at `/openapi.json` and the page at `/docs`, from the running service. `tests/browser/docs.mjs` says what must
//! be visible.

use std::io::Read;

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::explorer::play;
use crate::support::app::{KEY, TestApp};
use crate::support::process::PROGRAM;

async fn description(app: &TestApp) -> Value {
    let (status, description) = app.send(Method::GET, "/openapi.json", None).await;
    assert_eq!(status, StatusCode::OK);
    description
}

fn operations(description: &Value) -> Vec<String> {
    let paths = description["paths"].as_object().unwrap().iter();
    let each = paths.flat_map(|(path, item)| {
        item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    each.collect()
}

#[tokio::test]
async fn the_page_shows_and_executes_operations_and_sends_requests_only_to_the_service() {
    let app = TestApp::start("");
    let description = description(&app).await;
    let operations = operations(&description);
    assert!(operations.len() > 15, "{operations:?}");
    let schemas: Vec<_> = description["components"]["schemas"].as_object().unwrap().keys().collect();
    let page = format!("{}/docs", app.url);
    play("docs", json!({ "page": page, "operations": operations, "schemas": schemas, "apiKey": KEY })).await;
}

/// The description and the files of the page.
const FILES: [(&str, &str); 6] = [
    ("/openapi.json", "application/json"),
    ("/docs", "text/html; charset=utf-8"),
    ("/docs/page.css", "text/css; charset=utf-8"),
    ("/docs/page.js", "text/javascript; charset=utf-8"),
    ("/docs/swagger-ui.css", "text/css; charset=utf-8"),
    ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
];

#[tokio::test]
async fn page_and_description_come_with_a_strict_policy() {
    let app = TestApp::start("");
    for (path, media_type) in FILES {
        let response = app.client.get(format!("{}{path}", app.url)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], media_type);
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"),
            "{policy}"
        );
        let post = app.client.post(format!("{}{path}", app.url)).send().await.unwrap();
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[tokio::test]
async fn large_files_are_sent_compressed_and_once() {
    let app = TestApp::start("");
    for (path, _) in FILES {
        let get = |name, value: &str| {
            app.client.get(format!("{}{path}", app.url)).header(name, value.to_owned()).send()
        };
        let plain = get(header::ACCEPT_ENCODING, "identity").await.unwrap();
        let tag = plain.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(plain.headers().get(header::CONTENT_ENCODING), None, "{path}");
        let plain = plain.bytes().await.unwrap();
        let compressed = get(header::ACCEPT_ENCODING, "gzip").await.unwrap();
        if path.starts_with("/docs/swagger-ui") {
            assert_eq!(compressed.headers()[header::CONTENT_ENCODING], "gzip", "{path}");
            assert_eq!(compressed.headers()[header::VARY], "accept-encoding", "{path}");
            let compressed = compressed.bytes().await.unwrap();
            let mut content = Vec::new();
            flate2::read::GzDecoder::new(compressed.as_ref()).read_to_end(&mut content).unwrap();
            assert!(content == plain, "{path}");
        }
        let again = get(header::IF_NONE_MATCH, &tag).await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert_eq!(
            get(header::IF_NONE_MATCH, "\"another\"").await.unwrap().status(),
            StatusCode::OK,
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_program_prints_what_the_service_serves() {
    let printed = std::process::Command::new(PROGRAM).arg("openapi").output().unwrap();
    assert!(printed.status.success());
    let mut printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    // What is served leads to where it is served.
    printed["servers"] = json!([{ "url": "/", "description": "This service" }]);
    // The service of this test has its lists at the usual place.
    assert_eq!(printed, description(&TestApp::start("")).await);
}
