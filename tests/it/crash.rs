//! kill -9 under load, again and again: no reference is repeated, no acknowledged update is lost, every file verifies.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::support::app::Reference;
use crate::support::postgres::PostgresServer;
use crate::support::process::{Process, command, free_port};
use crate::support::relying_party::{List, jwks, published};
use crate::support::told::Told;
use crate::support::{eventually, proof, tries};

const CLIENTS: usize = 8;
const POOLS: &str = "
status-list-pools:
  p: { api-key: x, size: 20000, update-interval: 1s, prefetch: { capacity: 500 }, open-lists: 3 }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing_and_repeat_nothing() {
    under_load("", "kills of an instance on SQLite", tries("STATUSLIST_TEST_KILLS", 50), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_on_postgresql_lose_nothing_and_repeat_nothing() {
    let server = PostgresServer::start();
    let store = format!("storage-type: postgres\npostgres: {{ {} }}", server.settings());
    under_load(&store, "kills of an instance on PostgreSQL", tries("STATUSLIST_TEST_KILLS", 10), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_postgresql_lose_nothing_and_repeat_nothing() {
    let server = PostgresServer::start();
    let store = format!("storage-type: postgres\npostgres: {{ {} }}", server.settings());
    under_load(&store, "kills of PostgreSQL", tries("STATUSLIST_TEST_KILLS", 4), Some(server)).await;
}

/// Kills the instance again and again, or this server.
async fn under_load(store: &str, what: &str, kills: u64, mut server: Option<PostgresServer>) {
    let settings = format!("{store}\n{POOLS}");
    // The shortest life in milliseconds, and as many updates as take a few seconds. A server is farther than a file.
    let (least, enough) = if store.is_empty() { (20, 500) } else { (400, 200) };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let told = Arc::new(Mutex::new(Told::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut process = Some(Process::start(command(folder.path(), port, &settings), folder.path(), port));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(load(client, port, Arc::clone(&told), Arc::clone(&stop))))
        .collect();
    let readers = tokio::spawn(read_files(folder.path().to_owned(), Arc::clone(&told), Arc::clone(&stop)));
    for kill in 0..kills {
        // Times that fall differently relative to beats, batches and refills; the start is interrupted too.
        let life = Duration::from_millis(least + (kill * 37) % 400);
        tokio::time::sleep(life).await;
        if let Some(server) = &mut server {
            // It takes a moment until it is used again.
            tokio::time::sleep(Duration::from_millis(800)).await;
            server.kill();
            server.start_again();
            continue;
        }
        process.take().unwrap().kill();
        let (path, settings) = (folder.path().to_owned(), settings.clone());
        let again = move || Process::start(command(&path, port, &settings), &path, port);
        process = Some(tokio::task::spawn_blocking(again).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A busy machine takes longer for as much.
    eventually("as much to be written as the promises are measured by", async || {
        let told = told.lock().unwrap();
        (told.references.len() > 1000 && told.acknowledged.len() > enough).then_some(())
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let files_read = readers.await.unwrap();

    // Nobody else holds them any more.
    let told = Arc::into_inner(told).unwrap().into_inner().unwrap();
    assert_eq!(told.duplicates(), 0, "a reference was handed out twice");
    let Told { references, acknowledged, unknown, .. } = told;
    assert!(files_read > 100, "{files_read} files were read");

    // Whatever was published before the last kill, every acknowledged update is published within a beat of the restart.
    let uris: HashSet<_> = acknowledged.keys().map(|reference| reference.uri.clone()).collect();
    let lost = eventually("all acknowledged updates to be published", async || {
        let lists: Option<HashMap<_, _>> =
            uris.iter().map(|uri| Some((uri.as_str(), published(folder.path(), uri).ok()?))).collect();
        let lists = lists?;
        let lost = acknowledged.iter().filter(|(reference, value)| {
            !unknown.contains(reference) && lists[reference.uri.as_str()].status(reference.index) != **value
        });
        let lost = lost.count();
        (lost == 0).then_some(lost)
    })
    .await;
    assert_eq!(lost, 0);

    // And in the store, queried one by one.
    let client = Client::new();
    for (reference, value) in
        acknowledged.iter().filter(|(reference, _)| !unknown.contains(reference)).take(300)
    {
        let list = reference.uri.rsplit('/').next().unwrap();
        let url = format!("http://127.0.0.1:{port}/pools/p/lists/{list}/statuses/{}", reference.index);
        let body = client.get(url).header("X-Api-Key", "x").send().await.unwrap().text().await.unwrap();
        let stored: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(stored["value"], *value, "{reference:?}");
    }
    let tried = format!(
        "{kills} kills, {} references, {} updates, {files_read} files",
        references.len(),
        acknowledged.len()
    );
    proof(what, &tried, "0 repeated, 0 lost");
}

/// Allocates, revokes, and un-revokes; records only what was answered.
pub(crate) async fn load(client: usize, port: u16, told: Arc<Mutex<Told>>, stop: Arc<AtomicBool>) {
    let http = Client::builder().timeout(Duration::from_secs(3)).build().unwrap();
    let base = format!("http://127.0.0.1:{port}");
    let mut mine: Vec<Reference> = Vec::new();
    let mut round = client;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        let amount = 1 + round % 20;
        if let Some(references) = allocate(&http, &base, amount).await {
            told.lock().unwrap().references.extend(references.iter().cloned());
            mine.extend(references);
        }
        if mine.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let reference = mine[round * 31 % mine.len()].clone();
        let value = u8::from(!round.is_multiple_of(4));
        let body = json!({ "uri": reference.uri, "index": reference.index, "value": value }).to_string();
        let request = http
            .patch(format!("{base}/status-lists/update"))
            .header("X-Api-Key", "x")
            .header("Content-Type", "application/json");
        match request.body(body).send().await {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => {
                let mut told = told.lock().unwrap();
                told.unknown.remove(&reference);
                told.acknowledged.insert(reference, value);
            }
            _ => {
                told.lock().unwrap().unknown.insert(reference);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

async fn allocate(http: &Client, base: &str, amount: usize) -> Option<Vec<Reference>> {
    let request =
        http.post(format!("{base}/pools/p/new-references?amount={amount}")).header("X-Api-Key", "x");
    let response = request.send().await.ok().filter(|response| response.status() == StatusCode::OK)?;
    let body: serde_json::Value = serde_json::from_str(&response.text().await.ok()?).ok()?;
    serde_json::from_value(body["references"].clone()).ok()
}

/// Reads the files continuously, as nginx would: each must verify, and no `iat` may decrease.
async fn read_files(folder: std::path::PathBuf, told: Arc<Mutex<Told>>, stop: Arc<AtomicBool>) -> usize {
    let mut latest: HashMap<String, u64> = HashMap::new();
    let mut read = 0;
    while !stop.load(Ordering::SeqCst) {
        let uris: HashSet<_> =
            told.lock().unwrap().references.iter().map(|reference| reference.uri.clone()).collect();
        for uri in uris {
            let list: List =
                published(&folder, &uri).unwrap_or_else(|error| panic!("{uri} does not verify: {error}"));
            let iat = list.claims["iat"].as_u64().unwrap();
            let before = latest.insert(uri.clone(), iat).unwrap_or(0);
            assert!(iat >= before, "iat of {uri} went back from {before} to {iat}");
            read += 1;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!jwks(&folder).keys.is_empty());
    read
}
