//! A power cut: the program is killed and the disk is copied before the system writes anything more. The copy contains what was
//! fsynced. With `synchronous: normal`, the control, acknowledged updates are missing; without the high-water marks references
//! are also repeated.
//!
//! The disk is a loop-mounted ext4 image, which only root can mount. Outside CI the test says so and passes.

use std::collections::HashSet;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::app::Reference;
use crate::support::disk::{Disk, can_mount};
use crate::support::process::{Process, command, free_port};
use crate::support::{eventually, proof, tries};

/// Returns how many references were repeated and how many acknowledged updates were lost after a power cut.
async fn repeated_and_lost(synchronous: &str, marks: bool) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "disk");
    let settings = format!(
        "status-list-pools: {{ p: {{ api-key: x, size: 8000, update-interval: 1h, open-lists: 1, prefetch: {{ capacity: 20, threshold: 20 }} }} }}
sqlite: {{ synchronous: {synchronous} }}
high-water-marks: {marks}"
    );
    let port = free_port();
    let client = Client::new();
    let process = Process::start(command(&disk.mounted, port, &settings), &disk.mounted, port);
    let before = references(&client, port, 200).await;
    disk.sync();
    let mut told: Vec<_> = before;
    told.extend(references(&client, port, 300).await);
    for reference in &told {
        let body = json!({ "uri": reference.uri, "index": reference.index, "value": 1 }).to_string();
        let request =
            client.patch(format!("http://127.0.0.1:{port}/status-lists/update")).header("X-Api-Key", "x");
        let answer = request.header("Content-Type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }
    // The latest writes of both kinds are those that a power cut loses first.
    let updated = told.len();
    for _ in 0..20 {
        told.extend(references(&client, port, 30).await);
    }
    process.kill();
    let left = disk.after_power_cut(folder.path(), "left");

    let process = Process::start(command(&left.mounted, port, &settings), &left.mounted, port);
    let again = references(&client, port, 1000).await;
    let known: HashSet<_> = told.iter().collect();
    let repeated = again.iter().filter(|reference| known.contains(reference)).count();
    let mut lost = 0;
    for reference in &told[..updated] {
        let list = reference.uri.rsplit('/').next().unwrap();
        let url = format!("http://127.0.0.1:{port}/pools/p/lists/{list}/statuses/{}", reference.index);
        let body = client.get(url).header("X-Api-Key", "x").send().await.unwrap().text().await.unwrap();
        let stored: Value = serde_json::from_str(&body).unwrap();
        lost += usize::from(stored["value"] != 1);
    }
    drop(process);
    let control = if synchronous == "full" { "" } else { "control: " };
    let tried = format!("{} references, {updated} updates", told.len());
    let what = format!("{control}power cut, SQLite {synchronous}, marks {marks}");
    proof(&what, &tried, &format!("{repeated} repeated, {lost} lost"));
    (repeated, lost)
}

async fn references(client: &Client, port: u16, amount: usize) -> Vec<Reference> {
    eventually("references", async || {
        let url = format!("http://127.0.0.1:{port}/pools/p/new-references?amount={amount}");
        let answer = client.post(url).header("X-Api-Key", "x").send().await.ok()?;
        let body: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
        serde_json::from_value(body["references"].clone()).ok()
    })
    .await
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_acknowledged_but_would_without_fsync() {
    if !can_mount() {
        return;
    }
    // The fsync alone suffices.
    for _ in 0..tries("STATUSLIST_TEST_POWER_CUTS", 1) {
        assert_eq!(repeated_and_lost("full", false).await, (0, 0));
    }
    // The high-water marks keep references from being repeated even when the store loses its last commits.
    let (repeated, lost) = repeated_and_lost("normal", true).await;
    assert!(repeated == 0 && lost > 0, "{repeated} references were repeated, {lost} updates were lost");
    let (repeated, lost) = repeated_and_lost("normal", false).await;
    assert!(
        repeated > 0 && lost > 0,
        "the control: {repeated} references were repeated, {lost} updates were lost"
    );
}
