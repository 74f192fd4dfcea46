//! The audit trail of the running service: complete, whole, never bypassed, and silent about who holds which reference.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;

use super::reload::Live;
use crate::disk_full::{fill, on_small_disk};
use crate::support::app::{KEY, Reference, TestApp};
use crate::support::process::{PROGRAM, Process, command, free_port, log_path};
use crate::support::told::Told;
use crate::support::{eventually, proof};

/// All files of the trail at `path`, the current one and the older ones.
fn files(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let is_of_trail = |file: &PathBuf| {
        let file = file.file_name().unwrap().to_str().unwrap();
        file.starts_with(name) && ![".lock", ".tmp"].iter().any(|ending| file.ends_with(ending))
    };
    entries.filter(|file| is_of_trail(file) && !file.to_str().unwrap().contains(".torn-")).collect()
}

fn lines(path: &Path) -> Vec<Value> {
    let text: String = files(path).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["seq"].as_u64().unwrap());
    lines
}

/// Runs `statuslist audit verify`. Returns its exit code and output.
fn verify(files: &[PathBuf], arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(PROGRAM);
    let output = command.args(["audit", "verify"]).args(files).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (output.status.code().unwrap(), text)
}

fn start(pool: &str) -> (TestApp, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let settings = format!(
        "audit: {{ path: {} }}\nstatus-list-pools: {{ p: {{ api-key: {KEY}, update-interval: 1s, {pool} }}, q: {{ api-key: other }} }}",
        path.display()
    );
    (TestApp::start_with(folder, &settings, Clock::System), path)
}

#[tokio::test]
async fn the_trail_records_who_did_what_but_never_who_got_which_reference() {
    let (app, path) = start("size: 8000, final-status: 1");
    let given = app.references(150).await;
    assert_eq!(app.update(&given[0], json!(1)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(app.update(&given[0], json!(0)).await.0, StatusCode::FORBIDDEN);
    let conditional = json!({ "uri": given[0].uri, "index": given[0].index, "value": 1, "expected": 0 });
    let (status, _) = app.send(Method::PATCH, "/status-lists/update", Some(conditional)).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    let batch = |of: &[Reference]| {
        let targets: Vec<_> =
            of.iter().map(|reference| json!({ "uri": reference.uri, "index": reference.index })).collect();
        json!({ "statusListReferences": targets, "value": 1 })
    };
    for of in [&given[1..3], &given[3..140]] {
        let (status, body) = app.send(Method::PATCH, "/status-lists/batch-update", Some(batch(of))).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    }
    let list = given[0].uri.rsplit('/').next().unwrap();
    let (status, _) = app.send(Method::DELETE, &format!("/pools/p/lists/{list}?force=true"), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);

    let lines = lines(&path);
    let of = |action: &str| -> Vec<_> { lines.iter().filter(|line| line["action"] == action).collect() };
    let outcome = |line: &Value| {
        let mut ends = of("outcome").into_iter().filter(|end| end["of"] == line["seq"]);
        let outcome = ends.next().unwrap()["outcome"].clone();
        assert!(ends.next().is_none());
        outcome
    };
    let [allocated] = of("allocate")[..] else { panic!("{lines:#?}") };
    assert_eq!((&allocated["pool"], &allocated["amount"]), (&json!("p"), &json!(150)));
    let caller = allocated["caller"].as_str().unwrap();
    assert!(caller.starts_with("key:") && caller.len() == 12, "{caller}");
    let [made, refused, unexpected] = of("update")[..] else { panic!("{lines:#?}") };
    assert_eq!(
        (&made["list"], &made["index"], &made["value"]),
        (&json!(list), &json!(given[0].index), &json!(1))
    );
    assert_eq!((outcome(made), outcome(refused)), (json!("done"), json!("refused")));
    let end = of("outcome").into_iter().find(|end| end["of"] == unexpected["seq"]).unwrap();
    assert_eq!((&end["outcome"], &end["code"]), (&json!("refused"), &json!("PRECONDITION_FAILED")));
    let [named, hashed] = of("batch-update")[..] else { panic!("{lines:#?}") };
    assert_eq!((&named["count"], named["targets"].as_array().unwrap().len()), (&json!(2), 2));
    assert_eq!((&hashed["count"], hashed.get("targets")), (&json!(137), None));
    assert_eq!(hashed["targets-sha256"].as_str().unwrap().len(), 64);
    let [retired] = of("retire")[..] else { panic!("{lines:#?}") };
    assert_eq!((&retired["list"], outcome(retired)), (&json!(list), json!("done")));

    // Neither a reference that was only allocated nor a key is in the trail.
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(KEY));
    let told: HashSet<_> = of("update")
        .iter()
        .map(|line| (line["list"].clone(), line["index"].clone()))
        .chain(
            named["targets"].as_array().unwrap().iter().map(|target| (target[0].clone(), target[1].clone())),
        )
        .collect();
    let (uri, index) = (&given[145].uri, given[145].index);
    assert!(!told.contains(&(json!(uri.rsplit('/').next().unwrap()), json!(index))));
    assert_eq!(told.len(), 3, "one single update, two in a batch, and nothing else");

    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, text) = verify(&files(&path), &[]);
    assert!(code == 0 && text.contains("intact: lines 1 to"), "{text}");
    let metrics = app.client.get(format!("{}/metrics", app.url)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("statuslist_audit_failed_total 0"), "{metrics}");
}

#[tokio::test]
async fn failed_authentications_are_recorded_but_cannot_fill_the_disk() {
    const ATTEMPTS: u64 = 400;
    let (app, path) = start("size: 800");
    for _ in 0..ATTEMPTS {
        let request = app.client.post(format!("{}/pools/p/new-references", app.url));
        let answer = request.header("X-Api-Key", "guessed").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    // The key of another pool is also refused.
    let reference = app.references(1).await.remove(0);
    let body = json!({ "uri": reference.uri, "index": reference.index, "value": 1 }).to_string();
    let request = app.client.patch(format!("{}/status-lists/update", app.url)).header("X-Api-Key", "other");
    let answer = request.header("Content-Type", "application/json").body(body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    app.client.get(format!("{}/pools/p", app.url)).send().await.unwrap();
    let told = eventually("the latest refusal", async || {
        let told: Vec<_> = lines(&path).into_iter().filter(|line| line["action"] == "refused").collect();
        (told.last()?["method"] == "GET").then_some(told)
    })
    .await;
    let first = &told[0];
    assert_eq!((&first["status"], &first["code"]), (&json!(401), &json!("UNAUTHORIZED")));
    assert_eq!(
        (&first["route"], &first["from"]),
        (&json!("/pools/{pool}/new-references"), &json!("127.0.0.1"))
    );
    assert!(first.get("caller").is_none(), "{first}");
    assert!((100..250).contains(&told.len()), "{} lines", told.len());
    let left_out: u64 = told.iter().filter_map(|line| line["left-out"].as_u64()).sum();
    assert_eq!(told.len() as u64 + left_out, ATTEMPTS + 2, "each is recorded or counted");
}

#[tokio::test]
async fn a_full_disk_of_the_trail_stops_changes_before_they_are_made() {
    const SETTINGS: &str = "
audit: { path: disk/audit.jsonl }
status-list-pools: { p: { api-key: x, size: 80000, update-interval: 1s } }";
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let port = free_port();
    let inner = command(folder.path(), port, SETTINGS);
    let process = Process::start(on_small_disk(&inner, &disk), folder.path(), port);
    let seen =
        Path::new("/proc").join(process.id().to_string()).join("root").join(disk.strip_prefix("/").unwrap());
    let (http, base) = (Client::new(), process.url.clone());
    let given = eventually("first references", async || allocate(&http, &base, 2).await).await;
    assert_eq!(update(&http, &base, &given[0], 1).await, Some(StatusCode::NO_CONTENT));

    let filler = seen.join("filler");
    eventually("updates to be refused", async || {
        fill(&filler);
        (update(&http, &base, &given[0], 1).await == Some(StatusCode::SERVICE_UNAVAILABLE)).then_some(())
    })
    .await;
    assert_eq!(update(&http, &base, &given[1], 1).await, Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(stored(&http, &base, &given[1]).await, 0, "a change that could not be recorded was made");
    // The line of an allocation is shorter, so it may still fit into the last block.
    eventually("references to be refused", async || {
        fill(&filler);
        allocate(&http, &base, 1).await.is_none().then_some(())
    })
    .await;

    std::fs::remove_file(&filler).unwrap();
    eventually("updates to go on", async || {
        (update(&http, &base, &given[1], 1).await == Some(StatusCode::NO_CONTENT)).then_some(())
    })
    .await;
    assert_eq!(stored(&http, &base, &given[1]).await, 1);
    let (code, text) = verify(&[seen.join("audit.jsonl")], &[]);
    assert_eq!(code, 0, "{text}");
    let log = std::fs::read_to_string(log_path(folder.path())).unwrap();
    assert!(log.contains("audit trail cannot be written") && log.contains("written again"), "{log}");
}

/// List and index of a reference.
fn target(reference: &Reference) -> (String, u64) {
    (reference.uri.rsplit('/').next().unwrap().to_owned(), reference.index)
}

fn update_of(line: &Value) -> (String, u64) {
    (line["list"].as_str().unwrap().to_owned(), line["index"].as_u64().unwrap())
}

/// Counts the updates that are missing in the trail; with `done`, those without a successful outcome there.
fn without_line(updates: &[(String, u64)], lines: &[Value], done: bool) -> usize {
    let made = lines.iter().filter(|line| line["outcome"] == "done").map(|line| line["of"].as_u64().unwrap());
    let made: HashSet<_> = made.collect();
    let begun = lines.iter().filter(|line| line["action"] == "update");
    let begun = begun.filter(|line| !done || made.contains(&line["seq"].as_u64().unwrap()));
    let told: HashSet<_> = begun.map(update_of).collect();
    updates.iter().filter(|update| !told.contains(*update)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_leave_a_line_for_everything_that_was_acknowledged() {
    const KILLS: u64 = 12;
    const SETTINGS: &str = "
audit: { path: audit.jsonl, rotate-bytes: 20000 }
status-list-pools: { p: { api-key: x, size: 20000, update-interval: 1s } }";
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::new(Mutex::new(Told::default()));
    let mut process = Some(Process::start(command(folder.path(), port, SETTINGS), folder.path(), port));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (stop, told) = (Arc::clone(&stop), Arc::clone(&told));
            tokio::spawn(async move { load(client, port, &told, &stop).await })
        })
        .collect();
    for kill in 0..KILLS {
        // A busy machine takes longer for as much.
        let before = told.lock().unwrap().acknowledged.len();
        eventually("updates since the last kill", async || {
            (told.lock().unwrap().acknowledged.len() > before + 20).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(50 + (kill * 37) % 200)).await;
        process.take().unwrap().kill();
        let path = folder.path().to_owned();
        let again = move || Process::start(command(&path, port, SETTINGS), &path, port);
        process = Some(tokio::task::spawn_blocking(again).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let told = Arc::into_inner(told).unwrap().into_inner().unwrap();
    let (http, base) = (Client::new(), format!("http://127.0.0.1:{port}"));
    let mut changed = Vec::new();
    for reference in &told.references {
        if stored(&http, &base, reference).await == 1 {
            changed.push(target(reference));
        }
    }
    drop(process);

    let path = folder.path().join("audit.jsonl");
    let (code, text) = verify(&files(&path), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(files(&path).len() > 2, "files were rotated under the kills");
    let lines = lines(&path);
    let updates: Vec<_> = told.acknowledged.keys().map(target).collect();
    let acknowledged = updates.len();
    assert!(acknowledged > 200, "{acknowledged} updates were acknowledged");
    assert_eq!(without_line(&updates, &lines, true), 0, "updates were acknowledged without a line");
    assert_eq!(without_line(&changed, &lines, false), 0, "statuses were changed without a line");
    let amounts: u64 = lines.iter().filter_map(|line| line["amount"].as_u64()).sum();
    let given = told.references.len() as u64;
    assert!(amounts >= given, "{amounts} recorded, {given} handed out");

    // The control: the same comparison detects a missing line, and so does the chain.
    let outcome = lines.iter().rposition(|line| line["outcome"] == "done").unwrap();
    let fewer = [&lines[..outcome], &lines[outcome + 1..]].concat();
    assert!(without_line(&updates, &fewer, true) > 0);
    let begun = lines.iter().rposition(|line| line["action"] == "update").unwrap();
    let fewer = [&lines[..begun], &lines[begun + 1..]].concat();
    assert_eq!(without_line(&[update_of(&lines[begun])], &fewer, false), 1);
    let last = text.lines().last().unwrap().rsplit(' ').next().unwrap();
    assert_eq!(verify(&files(&path), &["--anchor", last]).0, 0);
    // Without files, those of the settings, the current one included.
    let of_settings = |path: &Path| {
        let variable = ("STATUSLIST__AUDIT__PATH", path);
        let mut command = Command::new(PROGRAM);
        command.args(["audit", "verify"]).env(variable.0, variable.1).current_dir(folder.path());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.code().unwrap(), text)
    };
    let (code, found) = of_settings(&path);
    assert!(
        code == 0 && files(&path).iter().all(|file| found.contains(&format!("read {}\n", file.display()))),
        "{found}"
    );
    let (code, found) = of_settings(&folder.path().join("none.jsonl"));
    assert!(code == 2 && found.contains("audit.path"), "{found}");
    let whole = std::fs::read_to_string(&path).unwrap();
    let shorter: String = whole.split_inclusive('\n').take(whole.lines().count() - 1).collect();
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), shorter.as_bytes()).unwrap();
    let (code, text) = verify(&files(&path), &["--anchor", last]);
    assert!(code == 1 && text.contains("cut off"), "{text}");
    let broken = shorter.replacen("\"seq\":", "\"seq\":1", 1);
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), broken.as_bytes()).unwrap();
    let (code, text) = of_settings(&path);
    assert!(code == 1 && text.contains("line 1 of") && text.contains("audit.jsonl "), "{text}");
    let tried = format!("{KILLS} kills, {acknowledged} updates, {} lines", lines.len());
    proof("a line of the audit trail for every change", &tried, "0 missing");
}

/// Sets each reference once, and records what was acknowledged.
async fn load(client: u64, port: u16, told: &Mutex<Told>, stop: &AtomicBool) {
    let http = Client::builder().timeout(Duration::from_secs(3)).build().unwrap();
    let base = format!("http://127.0.0.1:{port}");
    while !stop.load(Ordering::SeqCst) {
        let Some(given) = allocate(&http, &base, 5 + client).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        told.lock().unwrap().references.extend(given.iter().cloned());
        for reference in given {
            if update(&http, &base, &reference, 1).await == Some(StatusCode::NO_CONTENT) {
                told.lock().unwrap().acknowledged.insert(reference, 1);
            }
        }
    }
}

async fn allocate(http: &Client, base: &str, amount: u64) -> Option<Vec<Reference>> {
    let request =
        http.post(format!("{base}/pools/p/new-references?amount={amount}")).header("X-Api-Key", "x");
    let answer = request.send().await.ok().filter(|answer| answer.status() == StatusCode::OK)?;
    let body: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
    serde_json::from_value(body["references"].clone()).ok()
}

async fn update(http: &Client, base: &str, reference: &Reference, value: u64) -> Option<StatusCode> {
    let body = json!({ "uri": reference.uri, "index": reference.index, "value": value }).to_string();
    let request = http.patch(format!("{base}/status-lists/update")).header("X-Api-Key", "x");
    let answer = request.header("Content-Type", "application/json").body(body).send().await;
    Some(answer.ok()?.status())
}

async fn stored(http: &Client, base: &str, reference: &Reference) -> Value {
    let list = reference.uri.rsplit('/').next().unwrap();
    let request = http.get(format!("{base}/pools/p/lists/{list}/statuses/{}", reference.index));
    let body = request.header("X-Api-Key", "x").send().await.unwrap().text().await.unwrap();
    serde_json::from_str::<Value>(&body).unwrap()["value"].clone()
}

#[tokio::test]
async fn a_reload_records_whose_keys_are_valid_but_no_key() {
    let settings = |keys: &str| {
        format!(
            "audit: {{ path: audit.jsonl }}\nstatus-list-pools: {{ p: {{ update-interval: 1s, api-keys: [{keys}] }} }}"
        )
    };
    let live = Live::start(&settings("{ key: first-secret, name: first }"));
    live.set(&settings("{ key: first-secret, name: first }, { key: second-secret, name: second }"));
    let path = live.folder().join("audit.jsonl");
    let line =
        eventually("the line", async || lines(&path).into_iter().find(|line| line["action"] == "reloaded"));
    let line = line.await;
    assert_eq!(line["api-keys"], json!({ "p": ["first", "second"] }));
    assert_eq!(line["signing-keys"]["p"], live.pool("first-secret").await.1["keyId"]);
    assert!(!std::fs::read_to_string(&path).unwrap().contains("secret"));
    assert_eq!(verify(&files(&path), &[]).0, 0);
}
