//! The scripts of `bench/`, as far as they can be tested without a measurement: `tests/bench/` tests them in their own language, and the
//! page that `bench/compare` writes of recorded runs is opened in a real browser.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::explorer::play;

fn python(arguments: &[&str]) -> Output {
    let mut command = Command::new("python3");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

#[test]
fn the_scripts_pass_their_own_tests() {
    let output = python(&["-m", "unittest", "discover", "--start-directory", "tests/bench"]);
    assert!(output.status.success(), "{}", said(&output));
    // The control: tests that nobody finds would pass as well.
    assert!(!said(&output).contains("Ran 0 tests"), "{}", said(&output));
}

#[tokio::test]
async fn the_page_of_all_runs_opens_without_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("compare.html");
    let recorded = Path::new("tests/bench/results");
    let output = python(&[
        "bench/compare",
        "--results",
        recorded.to_str().unwrap(),
        "--output",
        page.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", said(&output));
    // The rows, and a scenario with its step, in both runs.
    let groups = json!([{ "runs": 2, "rows": 5 }]);
    play("compare", json!({ "page": format!("file://{}", page.display()), "groups": groups })).await;
}
