//! Schemathesis (`scripts/install-test-tools` installs it) reads the description of the running service and tries to refute it:
//! thousands of valid and invalid requests, whose answers must be as described, and never an undescribed 5xx.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use reqwest::Method;
use serde_json::{Value, json};
use statuslist::base::clock::Clock;

use crate::support::app::{KEY, TestApp};
use crate::support::process::PROGRAM;

/// The limits of a pool (bits, size, the amount) are in its settings and not in the description, so a request that matches the
/// description may be refused. All other checks are made.
const EXCLUDED_CHECKS: &str = "positive_data_acceptance";
/// Not failures where they are described: 501, the specification's answer of a server without history; 503, a service whose
/// store is busy; and 410 for a bad index in a retired list, because the list is checked first.
const SETTINGS: &str = "
[checks.not_a_server_error]
expected-statuses = ['2xx', '3xx', '4xx', '501', '503']
[checks.negative_data_rejection]
expected-statuses = ['400', '401', '403', '404', '405', '406', '408', '409', '410', '413', '415', '422', '429', '501', '503']
";
/// Random requests of each operation.
const CASES: &str = "100";
const SEED: &str = "20261122";

fn program() -> PathBuf {
    let builds = Path::new(PROGRAM).ancestors().skip(1);
    let found = builds
        .map(|folder| folder.join("test-tools/venv/bin/schemathesis"))
        .find(|program| program.is_file());
    found.expect("Schemathesis is not installed: run scripts/install-test-tools")
}

/// Two pools: lists of `q` may be retired during the run.
fn service() -> TestApp {
    let settings = format!(
        "limits: {{ amount: 100, batch: 10, body-bytes: 20000 }}
status-list-pools:
  p: {{ api-key: {KEY}, size: 800, bits: 2, final-status: 1, update-interval: 1s, open-lists: 1, history: {{ retention: 1h }} }}
  q: {{ api-key: {KEY}, size: 800, update-interval: 1s, open-lists: 1 }}"
    );
    TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System)
}

/// The served description, with the names of existing pools and lists: otherwise nearly every request would end at the first
/// 404.
async fn description(app: &TestApp) -> Value {
    let (_, mut description) = app.send(Method::GET, "/openapi.json", None).await;
    let list_of = async |pool: &str| {
        let (_, answer) = app.send(Method::POST, &format!("/pools/{pool}/new-references"), None).await;
        answer["references"][0]["uri"].as_str().unwrap().to_owned()
    };
    let (kept, retired) = (list_of("p").await, list_of("q").await);
    let id = |uri: &str| uri.rsplit('/').next().unwrap().to_owned();
    // They are on the address for management, which this service does not have.
    description["paths"].as_object_mut().unwrap().retain(|path, _| !path.starts_with("/admin/"));
    for operations in description["paths"].as_object_mut().unwrap().values_mut() {
        for (method, operation) in operations.as_object_mut().unwrap() {
            let (pool, list) = if method == "delete" { ("q", &retired) } else { ("p", &kept) };
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            for parameter in parameters.into_iter().flatten() {
                let known = match parameter["name"].as_str().unwrap() {
                    "pool" => json!(pool),
                    "id" | "list" => json!(id(list)),
                    _ => continue,
                };
                parameter["schema"]["enum"] = json!([known]);
                parameter["example"] = known;
            }
        }
    }
    for name in ["Update", "Target"] {
        let uri = &mut description["components"]["schemas"][name]["properties"]["uri"];
        assert!(uri.is_object(), "{name}");
        uri["enum"] = json!([kept, retired]);
        uri["example"] = json!(kept);
    }
    description
}

/// Runs Schemathesis against `app` with this description.
async fn run(app: &TestApp, description: &Value, more: &[&str]) -> Output {
    let folder = app.folder().to_owned();
    for (name, content) in
        [("described.json", description.to_string().as_str()), ("schemathesis.toml", SETTINGS)]
    {
        std::io::Write::write_all(&mut std::fs::File::create(folder.join(name)).unwrap(), content.as_bytes())
            .unwrap();
    }
    let mut command = Command::new(program());
    // Its settings are read from its working directory.
    command.current_dir(folder).args(["--no-color", "run", "described.json", "--url", &app.url]);
    command.args(["--header", &format!("X-Api-Key:{KEY}"), "--phases", "examples,coverage,fuzzing"]);
    command.args(["--checks", "all", "--exclude-checks", EXCLUDED_CHECKS, "--continue-on-failure"]);
    command.args(["--max-examples", CASES, "--seed", SEED, "--generation-database", "none", "--no-shrink"]);
    command
        .args(["--warnings", "off", "--suppress-health-check", "all", "--request-timeout", "20"])
        .args(more);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn every_answer_is_as_described() {
    let app = service();
    let description = description(&app).await;
    let output = run(&app, &description, &[]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("No issues found"), "{said}");
}

#[tokio::test]
async fn undescribed_answers_are_detected() {
    let app = service();
    let mut description = description(&app).await;
    let responses = &mut description["paths"]["/pools/{pool}/new-references"]["post"]["responses"];
    assert!(responses.as_object_mut().unwrap().remove("400").is_some());
    let output = run(&app, &description, &["--include-path", "/pools/{pool}/new-references"]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Undocumented status code") && said.contains("Received: 400"), "{said}");
}
