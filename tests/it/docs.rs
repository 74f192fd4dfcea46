//! The description at `/openapi.json` and the page at `/docs`, from the running service. `tests/browser/docs.mjs` says what must
//! be visible.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::explorer::play;
use crate::support::app::TestApp;
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
async fn the_page_shows_every_operation_and_sends_requests_only_to_the_service() {
    let app = TestApp::start("");
    let description = description(&app).await;
    let operations = operations(&description);
    assert!(operations.len() > 15, "{operations:?}");
    let schemas: Vec<_> = description["components"]["schemas"].as_object().unwrap().keys().collect();
    play(
        "docs",
        json!({ "page": format!("{}/docs", app.url), "operations": operations, "schemas": schemas }),
    )
    .await;
}

#[tokio::test]
async fn page_and_description_come_with_a_strict_policy() {
    let app = TestApp::start("");
    for (path, media_type) in [
        ("/openapi.json", "application/json"),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
    ] {
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
async fn the_program_prints_what_the_service_serves() {
    let printed = std::process::Command::new(PROGRAM).arg("openapi").output().unwrap();
    assert!(printed.status.success());
    let mut printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    // What is served leads to where it is served.
    printed["servers"] = json!([{ "url": "/", "description": "This service" }]);
    // The service of this test has its lists at the usual place.
    assert_eq!(printed, description(&TestApp::start("")).await);
}
