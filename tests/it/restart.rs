//! Graceful restarts: references are returned, none is repeated, and no update is forgotten.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::json;
use statuslist::base::clock::{Clock, NumericDate};
use statuslist::bitstring;
use statuslist::status_list::raw::RawList;

use crate::support::app::{KEY, TestApp};
use crate::support::relying_party::{List, jwks, published};
use crate::support::{eventually, gunzip};

#[tokio::test]
async fn references_never_repeat_and_unused_ones_come_back() {
    let mut folder = tempfile::tempdir().unwrap();
    let mut seen = HashSet::new();
    let url = "http://status.example";
    let settings = format!(
        "status-list-pools: {{ p: {{ api-key: {KEY}, size: 8000, open-lists: 1, precreation: {{ lists: 0 }} }} }}"
    );
    for _ in 0..10 {
        let app = TestApp::start_at(folder, url, &settings, Clock::System);
        for reference in app.references(790).await {
            assert!(seen.insert((reference.uri.clone(), reference.index)), "{reference:?} was repeated");
        }
        folder = app.stop();
    }
    let lists: HashSet<_> = seen.iter().map(|(uri, _)| uri).collect();
    assert_eq!(
        lists.len(),
        1,
        "7900 references of 8000 fit into one list only if every stop returned the unused ones"
    );
}

#[tokio::test]
async fn what_was_acknowledged_before_a_stop_is_published_when_it_has_stopped() {
    let app = TestApp::start("update-interval: 1h, list-lifetime: 24h");
    let reference = app.references(1).await.remove(0);
    // The list was signed within this second; its next token must wait for the next second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(app.update(&reference, json!(1)).await.0, StatusCode::NO_CONTENT);
    let folder = app.stop();
    let list = crate::support::relying_party::published(folder.path(), &reference.uri).unwrap();
    assert_eq!(list.status(reference.index), 1);
}

/// A list is signed at most once a second, so a change right after a signature waits for the next second, also at a stop.
#[tokio::test]
async fn what_was_acknowledged_in_the_second_of_a_signature_is_published_when_the_service_has_stopped() {
    let mut missing = 0;
    for _ in 0..20 {
        let app = TestApp::start("update-interval: 1h, list-lifetime: 24h, precreation: { lists: 0 }");
        let reference = app.references(1).await.remove(0);
        assert_eq!(app.update(&reference, json!(1)).await.0, StatusCode::NO_CONTENT);
        let folder = app.stop();
        let list = crate::support::relying_party::published(folder.path(), &reference.uri).unwrap();
        missing += u32::from(list.status(reference.index) != 1);
    }
    assert_eq!(missing, 0, "the number of stops, of 20, that left an acknowledged update unpublished");
}

/// The control for the time that a stop may take: the next second never comes.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_clock_that_stands_still() {
    let clock = Clock::set_to(Clock::System.now());
    let app = TestApp::start_in(tempfile::tempdir().unwrap(), "update-interval: 1h", clock);
    let reference = app.references(1).await.remove(0);
    assert_eq!(app.update(&reference, json!(1)).await.0, StatusCode::NO_CONTENT);
    let begun = std::time::Instant::now();
    app.stop();
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_dropped_format_and_aggregation_leave_no_file() {
    let url = "http://status.example";
    let settings =
        |more: &str| format!("status-list-pools: {{ p: {{ api-key: {KEY}, update-interval: 1s, {more} }} }}");
    let app =
        TestApp::start_at(tempfile::tempdir().unwrap(), url, &settings("formats: [jwt, cwt]"), Clock::System);
    app.references(1).await;
    let folder = app.stop();
    let files = |folder: &std::path::Path| -> Vec<String> {
        let entries = walkdir::WalkDir::new(folder.join("public")).into_iter().map(|entry| entry.unwrap());
        entries
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    assert!(files(folder.path()).iter().any(|name| name == "p.json"));
    let app = TestApp::start_at(folder, url, &settings("formats: [cwt], aggregation: false"), Clock::System);
    crate::support::eventually("the JWTs to be gone", async || {
        let left = files(app.folder());
        let gone = !left.iter().any(|name| name.contains(".jwt") || name == "p.json");
        (gone && left.iter().filter(|name| name.ends_with(".cwt")).count() == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_forged_file_is_never_signed_and_a_damaged_one_is_replaced() {
    use base64::Engine;
    let url = "http://status.example";
    let settings = format!(
        "status-list-pools: {{ p: {{ api-key: {KEY}, final-status: 1, update-interval: 1s, resign-after: 2s, list-lifetime: 1h }} }}"
    );
    let app = TestApp::start_at(tempfile::tempdir().unwrap(), url, &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    app.update(&reference, json!(1)).await;
    let status = async |app: &TestApp| {
        crate::support::relying_party::published(app.folder(), &reference.uri)
            .ok()
            .map(|list| list.status(reference.index))
    };
    crate::support::eventually("the revocation", async || (status(&app).await == Some(1)).then_some(()))
        .await;

    // Someone who can write into the folder but has no key reverts the revocation: the claims stay, the array is empty.
    let file =
        app.folder().join("public/lists").join(format!("{}.jwt", reference.uri.rsplit('/').next().unwrap()));
    let token = std::fs::read_to_string(&file).unwrap();
    let parts: Vec<_> = token.split('.').collect();
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut claims: serde_json::Value = serde_json::from_slice(&engine.decode(parts[1]).unwrap()).unwrap();
    claims["status_list"]["lst"] = json!(engine.encode(statuslist::status_list::lst::compress(&[0; 12_500])));
    let forged = format!("{}.{}.{}", parts[0], engine.encode(claims.to_string()), parts[2]);
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), forged.as_bytes()).unwrap();
    assert_eq!(status(&app).await, None, "its signature does not verify");
    crate::support::eventually("the true list to come back", async || {
        (status(&app).await == Some(1)).then_some(())
    })
    .await;
}

/// Flips one bit in the middle of a file and keeps its mtime, so that only its bytes reveal the damage.
fn damage(path: &Path) -> Vec<u8> {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut file = File::create(path).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_modified(modified).unwrap();
    bytes
}

#[tokio::test]
async fn a_damaged_file_of_any_kind_is_published_anew_at_the_next_start() {
    let url = "http://status.example";
    let settings = format!(
        "status-list-pools: {{ p: {{ api-key: {KEY}, update-interval: 1s, formats: [jwt, cwt, json, cbor, bitstring], \
         issuer: 'https://issuer.example' }} }}"
    );
    let app = TestApp::start_at(tempfile::tempdir().unwrap(), url, &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    let id = reference.uri.rsplit('/').next().unwrap();
    let mut folder = app.stop();
    let of_list =
        ["jwt", "jwt.gz", "cwt", "json", "cbor", "revocation"].map(|extension| format!("{id}.{extension}"));
    for name in of_list.into_iter().chain(["aggregation/p.json".to_owned()]) {
        let file = folder.path().join("public/lists").join(&name);
        let damaged = damage(&file);
        let app = TestApp::start_at(folder, url, &settings, Clock::System);
        eventually(&format!("{name} to be published anew"), async || {
            (std::fs::read(&file).unwrap() != damaged).then_some(())
        })
        .await;
        folder = app.stop();
        // All forms are of one publication again.
        let lists = folder.path().join("public/lists");
        let read = |extension: &str| std::fs::read(lists.join(format!("{id}.{extension}"))).unwrap();
        let jwt = published(folder.path(), &reference.uri).unwrap();
        assert_eq!(gunzip(&read("jwt.gz")).unwrap(), read("jwt"), "{name}");
        let cwt = List::verify_cwt(&read("cwt"), &reference.uri, &jwks(folder.path())).unwrap();
        assert_eq!(cwt.iat, jwt.iat, "{name}");
        let json: serde_json::Value = serde_json::from_slice(&read("json")).unwrap();
        assert_eq!(json, jwt.claims["status_list"], "{name}");
        RawList::from_cbor(&read("cbor")).unwrap();
        let credential = String::from_utf8(read("revocation")).unwrap();
        let credential = bitstring::decode(&credential).unwrap().credential;
        assert_eq!(credential.iat.map(NumericDate::secs), Some(jwt.iat), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_do_not_wait_for_the_comparison_of_all_files() {
    let url = "http://status.example";
    let settings =
        format!("status-list-pools: {{ p: {{ api-key: {KEY}, update-interval: 1s, open-lists: 2 }} }}");
    let app = TestApp::start_at(tempfile::tempdir().unwrap(), url, &settings, Clock::System);
    let references = app.references(20).await;
    let (one, other) =
        (&references[0], references.iter().find(|other| other.uri != references[0].uri).unwrap());
    let folder = app.stop();
    // Whoever reads this file waits until somebody writes into it, as on a disk that hangs.
    let file =
        folder.path().join("public/lists").join(format!("{}.jwt", one.uri.rsplit('/').next().unwrap()));
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());

    let app = TestApp::start_at(folder, url, &settings, Clock::System);
    assert_eq!(app.update(other, json!(1)).await.0, StatusCode::NO_CONTENT);
    eventually("the revocation", async || {
        (published(app.folder(), &other.uri).ok()?.status(other.index) == 1).then_some(())
    })
    .await;
    // The comparison goes on, and what it finds is published anew.
    let aside = app.folder().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    File::options().write(true).open(&aside).unwrap();
    eventually("the file to be published anew", async || file.exists().then_some(())).await;
    assert_eq!(published(app.folder(), &one.uri).unwrap().status(one.index), 0);
}

#[tokio::test]
async fn a_pool_that_is_missing_in_the_settings_is_refused_unless_retired() {
    let app = TestApp::start("");
    app.references(1).await;
    let folder = app.stop();
    let start = async |retired: &str| {
        let settings =
            format!("status-list-pools: {{ other: {{ api-key: {KEY} }} }}\nretired-pools: [{retired}]");
        let config = crate::support::app::settings_in(folder.path(), "http://status.example", &settings);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        statuslist::app::App::build_on(listener, config, Clock::System)
            .await
            .map(|_| ())
            .map_err(|error| format!("{error:#}"))
    };
    let error = start("").await.unwrap_err();
    assert!(
        error.contains("the store has pool p with 3 lists") && error.contains("retired-pools"),
        "{error}"
    );
    start("p").await.unwrap();
}

#[tokio::test]
async fn pool_settings_that_differ_from_the_store_are_refused() {
    let app = TestApp::start("size: 800");
    let (url, folder) = (app.url.clone(), app.stop());
    let config = crate::support::app::settings_in(
        folder.path(),
        &url,
        &format!("status-list-pools: {{ p: {{ api-key: {KEY}, size: 1600 }} }}"),
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = statuslist::app::App::build_on(listener, config, Clock::System).await.err().unwrap();
    let error = format!("{error:#}");
    assert!(error.contains("pool p was created with size 800, the settings say 1600"), "{error}");

    let settings = format!("status-list-pools: {{ p: {{ api-key: {KEY}, size: 800 }} }}");
    let config = crate::support::app::settings_in(folder.path(), "http://elsewhere.example", &settings);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = statuslist::app::App::build_on(listener, config, Clock::System).await.err().unwrap();
    assert!(format!("{error:#}").contains("public-url"), "every credential names the old one: {error:#}");
}
