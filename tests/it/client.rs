//! The commands for issuers and scripts, against the real service.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::process::{PROGRAM, Process, command, free_port, pause, signal};
use crate::support::relying_party::published;

/// A command against the service at `url`, without settings from our environment.
fn client(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("STATUSLIST_URL", url).env("STATUSLIST_API_KEY", KEY);
    command.env_remove("STATUSLIST_TOKEN").env_remove("STATUSLIST_API_KEY_FILE");
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn references(lines: &str) -> Vec<Reference> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write(path: &Path, content: &str) {
    std::fs::File::create(path).unwrap().write_all(content.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allocate_set_and_info_work_together() {
    let app = TestApp::start("size: 8000, bits: 2, update-interval: 1s");
    let (code, out, _) =
        run(&mut client(&app.url, &["allocate", "--pool", "p", "--amount", "1700", "--claims"]));
    let given = references(&out);
    assert_eq!(
        (code, given.len()),
        (0, 1700),
        "several requests, because a pool hands out at most 1000 at once"
    );
    let distinct: std::collections::HashSet<_> = given.iter().collect();
    assert_eq!(distinct.len(), 1700);
    let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(first["status"]["status_list"]["uri"], first["uri"], "{first}");

    let (uri, idx) = (given[0].uri.as_str(), given[0].index.to_string());
    for (value, number) in [("revoked", 1), ("suspended", 2), ("valid", 0), ("invalid", 1), ("2", 2)] {
        let (code, out, error) = run(&mut client(&app.url, &["set", uri, &idx, value]));
        assert_eq!(code, 0, "{error}");
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["value"], number);
        let (code, out, error) = run(&mut client(&app.url, &["info", "--pool", "p", uri, &idx]));
        assert_eq!(code, 0, "{error}");
        let facts: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&facts["value"], facts["version"].is_u64()), (&number.into(), true), "{facts}");
    }
    let set = |expected| run(&mut client(&app.url, &["set", uri, &idx, "valid", "--expected", expected]));
    let (code, _, error) = set("revoked");
    assert!(code == 1 && error.contains("expected=1, stored=2"), "{code} {error}");
    assert_eq!((set("suspended").0, set("suspended").0), (0, 1), "the second finds what the first set");
    let (code, out, _) = run(&mut client(&app.url, &["info", "--pool", "p", "--format", "table"]));
    assert!(
        code == 0 && out.contains("bits per entry                 2\n") && out.contains("references used"),
        "{out}"
    );
    let (code, out, _) = run(&mut client(&app.url, &["allocate", "--pool", "p", "--format", "table"]));
    assert!(code == 0 && out.starts_with("URI ") && out.lines().count() == 2, "{out}");
    let (code, out, _) = run(&mut client(&app.url, &["info"]));
    assert!(code == 0 && out.contains(env!("CARGO_PKG_VERSION")) && out.contains("\"pool\":\"p\""), "{out}");
    let (code, out, _) = run(&mut client(&app.url, &["info", uri, &idx, "--format", "table"]));
    assert!(code == 0 && out.contains("stored status                  valid (0)\n"), "without --pool: {out}");
}

/// Behind the shipped nginx, or with this setting, callers do not reach `/version`.
#[test]
fn info_shows_the_pools_also_where_operators_keep_the_version_to_themselves() {
    let (folder, port, management) = (tempfile::tempdir().unwrap(), free_port(), free_port());
    let settings = format!(
        "server: {{ management-listen: \"127.0.0.1:{management}\" }}\n\
         status-list-pools: {{ p: {{ api-key: {KEY}, size: 800 }} }}"
    );
    let service = Process::start(command(folder.path(), port, &settings), folder.path(), port);
    let (code, out, error) = run(&mut client(&service.url, &["info"]));
    assert!(code == 0 && out.contains("\"pool\":\"p\"") && !out.contains("version"), "{out}{error}");
}

/// Exit code 1 means refused, 2 means failed, and each message says what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_to_do_and_show_no_key() {
    let app = TestApp::start("size: 800, update-interval: 1s");
    let reference = app.references(1).await.remove(0);
    let uri = reference.uri.as_str();
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let wrong_key = |arguments: &[&str]| {
        let mut command = client(&app.url, arguments);
        command.env("STATUSLIST_API_KEY", "not the key");
        command
    };
    let no_key = |arguments: &[&str]| {
        let mut command = client(&app.url, arguments);
        command.env_remove("STATUSLIST_API_KEY");
        command
    };
    for (mut command, expected, advice) in [
        (client(&nowhere, &["info", "--pool", "p"]), 2, "is it running?"),
        (wrong_key(&["allocate", "--pool", "p"]), 1, "must be for this pool"),
        (wrong_key(&["info"]), 1, "Invalid api key"),
        (no_key(&["allocate", "--pool", "p"]), 1, "STATUSLIST_API_KEY"),
        (client(&app.url, &["allocate", "--pool", "q"]), 1, "No pool with id q"),
        (client(&app.url, &["set", uri, "800", "1"]), 1, "Index out of bounds"),
        (client(&app.url, &["set", uri, "1", "suspended"]), 1, "more bits"),
        (client(&app.url, &["set", uri, "1"]), 2, "<VALUE>"),
        (client(&app.url, &["info", uri]), 2, "<IDX>"),
        (
            client(
                &app.url,
                &["info", &format!("{}/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d", app.url), "1"],
            ),
            1,
            "No list with id 5f1ae880",
        ),
        (client(&format!("{}/lists", app.url), &["info", "--pool", "p"]), 2, "is --url right?"),
    ] {
        let (code, out, error) = run(&mut command);
        assert!(code == expected && error.contains(advice), "{command:?}: {code} {out}{error}");
        assert!(!error.contains("not the key") && !error.contains(KEY), "{error}");
    }

    let key = app.folder().join("key");
    write(&key, &format!("{KEY}\n"));
    let mut from_file = no_key(&["allocate", "--pool", "p"]);
    assert_eq!(run(from_file.env("STATUSLIST_API_KEY_FILE", &key)).0, 0);
    let (code, _, error) = run(no_key(&["info"]).env("STATUSLIST_API_KEY_FILE", "/no/such/file"));
    assert!(code == 2 && error.contains("/no/such/file"), "{error}");
    for subcommand in ["allocate", "set", "info", "retire"] {
        let (_, help, _) = run(&mut client(&app.url, &[subcommand, "--help"]));
        assert!(help.contains("1 if it was refused") && !help.contains(KEY), "{help}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_stops_at_the_first_refused_line_and_can_be_continued() {
    let app = TestApp::start("size: 8000, update-interval: 1s, final-status: 1");
    let given = app.references(20).await;
    let mut lines: Vec<_> =
        given.iter().map(|reference| format!("{} {} revoked", reference.uri, reference.index)).collect();
    lines.insert(0, "# the requests of Monday".to_owned());
    let good = lines[12].clone();
    lines[12] = format!("{} 8000 revoked", given[0].uri);
    let file = app.folder().join("batch");
    write(&file, &lines.join("\n"));
    let batch = ["set", "--batch", file.to_str().unwrap()];
    let (code, out, error) = run(&mut client(&app.url, &batch));
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &summary["refused"]["line"]), (1, &13.into()), "{out}{error}");
    assert!(error.contains("line 13: Index out of bounds"), "{error}");
    let ways = [
        "correct line 13 and run statuslist set --batch ",
        " --skip 12\n",
        "or leave it out: ",
        " --skip 13\n",
    ];
    assert!(ways.iter().all(|way| error.contains(way)), "{error}");
    assert_eq!(summary["through"], 12, "all lines before it are done");
    for reference in &given[..11] {
        assert_eq!(app.stored(reference).await["value"], 1, "{reference:?}");
    }

    lines[12] = good;
    write(&file, &lines.join("\n"));
    let (code, out, error) = run(&mut client(&app.url, &[batch.as_slice(), &["--skip", "12"]].concat()));
    assert_eq!(code, 0, "{out}{error}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["through"], 21);
    for reference in &given {
        assert_eq!(app.stored(reference).await["value"], 1, "{reference:?}");
    }

    // Revoked is final here: the service refuses the whole request, and the command finds the line.
    let (uri, other) = (&given[0].uri, app.references(1).await.remove(0));
    write(&file, &format!("{} {} 0\n{uri} {} 0\nnonsense\n", other.uri, other.index, given[0].index));
    let (code, out, error) = run(&mut client(&app.url, &batch));
    assert!(code == 1 && error.contains("line 2: The status is final"), "{out}{error}");
    write(&file, "nonsense\n");
    let (code, _, error) = run(&mut client(&app.url, &batch));
    assert!(code == 1 && error.contains("line 1: a line is URI, IDX and VALUE"), "{error}");
}

/// Lines are sent in groups: a refused one must not keep earlier lines of another group from being done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_out_the_refused_line_of_an_export_does_all_others() {
    let app = TestApp::start("size: 800, update-interval: 1s");
    let given = app.references(3).await;
    let line = |n: usize, index: u64, value: &str| format!(";\"{}\";{index};{value}\r\n", given[n].uri);
    let lines = [
        "\u{feff}Name;List URI;Index;Status\r\n".to_owned(),
        line(0, given[0].index, "Revoked"),
        line(1, given[1].index, "valid"),
        line(0, 800, "revoked"),
        line(2, given[2].index, "1"),
    ];
    let file = app.folder().join("export.csv");
    write(&file, &lines.concat());
    let batch = ["set", "--batch", file.to_str().unwrap()];
    let (code, out, _) = run(&mut client("http://127.0.0.1:1", &[batch.as_slice(), &["--dry-run"]].concat()));
    assert!(code == 0 && out.contains("\"statuses\":4"), "asks nobody: {out}");
    assert_eq!(app.stored(&given[0]).await["value"], 0);
    let (code, out, error) = run(&mut client(&app.url, &batch));
    assert!(code == 1 && out.contains("\"through\":3") && error.contains("line 4: "), "{out}{error}");
    assert_eq!(app.stored(&given[0]).await["value"], 1);
    let (code, out, error) = run(&mut client(&app.url, &[batch.as_slice(), &["--skip", "4"]].concat()));
    assert!(code == 0 && app.stored(&given[2]).await["value"] == 1, "{out}{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_batch_says_where_it_stopped() {
    let app = TestApp::start("size: 8000, update-interval: 1s");
    let given = app.references(1).await.remove(0);
    let mut batch = client(&app.url, &["set", "--batch"]);
    let mut batch =
        batch.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = batch.stdin.take().unwrap();
    for index in 0..2500 {
        writeln!(input, "{} {index} revoked", given.uri).unwrap();
    }
    input.flush().unwrap();
    let last = Reference { uri: given.uri.clone(), index: 1999 };
    eventually("the first lines are done", async || (app.stored(&last).await["value"] == 1).then_some(()))
        .await;
    // The answer of that request may still be on its way.
    tokio::time::sleep(Duration::from_millis(200)).await;
    signal("-INT", batch.id());
    let output = batch.wait_with_output().unwrap();
    drop(input);
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(2), "{out}{error}");
    assert!(out.contains("\"interrupted\":true") && out.contains("\"through\":2000"), "{out}{error}");
    assert!(
        error.contains("interrupted after line 2000") && error.contains("--skip 2000 (repeating"),
        "{error}"
    );
}

/// The last line of a reference wins, although lines are grouped by value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_overtakes_an_earlier_one_of_the_same_reference() {
    let app = TestApp::start("size: 800, update-interval: 1s");
    let given = app.references(2).await;
    let line = |n: usize, value: &str| format!("{},{},{value}\n", given[n].uri, given[n].index);
    let file = app.folder().join("batch");
    write(&file, &[line(0, "1"), line(1, "0"), line(1, "1"), line(0, "0")].concat());
    let (code, out, error) = run(&mut client(&app.url, &["set", "--batch", file.to_str().unwrap()]));
    assert_eq!(code, 0, "{out}{error}");
    assert_eq!(app.stored(&given[0]).await["value"], 0);
    assert_eq!(app.stored(&given[1]).await["value"], 1);
}

#[test]
fn ten_thousand_lines_survive_kills_of_the_service() {
    const LINES: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let settings =
        format!("status-list-pools: {{ p: {{ api-key: {KEY}, size: 8000, update-interval: 1s }} }}");
    let start = || Process::start(command(folder.path(), port, &settings), folder.path(), port);
    let mut service = start();
    let url = service.url.clone();
    let amount = LINES.to_string();
    let (code, out, error) =
        run(&mut client(&url, &["allocate", "--pool", "p", "--amount", &amount, "--idempotency-key", "abc"]));
    assert_eq!(code, 0, "{error}");
    let given = references(&out);
    assert_eq!(given.len(), LINES);

    let mut batch = client(&url, &["set", "--batch", "--patience", "60s"]);
    let mut batch =
        batch.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = batch.stdin.take().unwrap();
    for (part, lines) in given.chunks(LINES / 4).enumerate() {
        for reference in lines {
            writeln!(input, "{} {} revoked", reference.uri, reference.index).unwrap();
        }
        input.flush().unwrap();
        // The command does not wait for a service that never answered.
        let (uri, idx) = (given[0].uri.as_str(), given[0].index.to_string());
        while part == 0
            && !run(&mut client(&url, &["info", "--pool", "p", uri, &idx])).1.contains("\"value\":1")
        {
            pause(Duration::from_millis(5));
        }
        // At a different moment each time: before, during and after a request.
        pause(Duration::from_millis(20 + 60 * part as u64));
        assert!(batch.try_wait().unwrap().is_none(), "the batch ended too early");
        service.kill();
        pause(Duration::from_millis(700));
        service = start();
    }
    drop(input);
    let output = batch.wait_with_output().unwrap();
    let (out, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}{error}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&summary["done"], &summary["through"]), (&LINES.into(), &LINES.into()), "{out}");

    let is_out = |reference: &Reference| {
        published(folder.path(), &reference.uri).is_ok_and(|list| list.status(reference.index) == 1)
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !(is_out(&given[0]) && is_out(&given[LINES - 1])) {
        assert!(std::time::Instant::now() < deadline, "never published");
        pause(Duration::from_millis(100));
    }
    let lists: std::collections::HashSet<_> = given.iter().map(|reference| reference.uri.as_str()).collect();
    for uri in lists {
        let of_list = || given.iter().filter(|reference| reference.uri == uri);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            let list = published(folder.path(), uri).unwrap();
            if of_list().all(|reference| list.status(reference.index) == 1) {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{uri} lost updates");
            pause(Duration::from_millis(100));
        }
    }
}
