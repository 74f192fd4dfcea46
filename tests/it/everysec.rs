//! A power cut of Redis under the load of the kill test. `appendfsync always` keeps everything that was acknowledged.
//! `everysec`, the control, loses the updates of the last second, and repeats references unless the high-water marks, which are
//! stored elsewhere, detect the loss.
//!
//! The disk is a loop-mounted ext4 image, which only root can mount. Outside CI the test says so and passes.

use std::path::Path;
use std::time::Duration;

use statuslist::base::clock::Clock;

use crate::support::disk::{Disk, can_mount};
use crate::support::fleet::{Instance, PUBLIC_URL, on_redis};
use crate::support::k6::K6;
use crate::support::redis::RedisServer;
use crate::support::told::Told;
use crate::support::{proof, tries};

const INSTANCES: usize = 2;

/// Returns how many references were repeated and how many acknowledged updates were lost after a power cut.
async fn repeated_and_lost(appendfsync: &str, demanded: &str, marks: bool) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "disk");
    let options = [("appendfsync", appendfsync)];
    let settings = |redis: &RedisServer| {
        // A small buffer, so that references are leased continuously.
        let pool = "api-key: x, size: 40000, update-interval: 1s, open-lists: 1, prefetch: { capacity: 40, threshold: 40 }";
        format!(
            "{}high-water-marks: {marks}
status-list-pools: {{ free: {{ bits: 2, {pool} }}, final: {{ final-status: 1, {pool} }} }}",
            on_redis(redis, &format!("persistence-strategy: {demanded}")),
        )
    };

    let mut redis = RedisServer::start_in(&disk.mounted, &options);
    let mut instances = start(folder.path(), &settings(&redis)).await;
    disk.sync();
    let load = K6::start("instances.js", folder.path(), &environment(&instances));
    late_in_a_second(Duration::from_secs(3)).await;
    redis.kill();
    let left = disk.after_power_cut(folder.path(), "left");
    instances.iter_mut().for_each(Instance::kill);
    let mut told = Told::read(&load.stop());
    assert!(told.references.len() > 500 && told.updates > 500, "too little happened before the power cut");

    let redis = RedisServer::start_in(&left.mounted, &options);
    let instances = start(folder.path(), &settings(&redis)).await;
    let issuers: Vec<_> = instances.iter().map(Instance::issuer).collect();
    let lost = told.lost_from_store(&issuers).await;
    let load = K6::start("instances.js", folder.path(), &environment(&instances));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let again = Told::read(&load.stop());
    assert!(again.references.len() > 500, "too little was handed out afterwards");
    told.references.extend(again.references);
    let tried = format!("{} references, {} updates", told.references.len(), told.updates);
    let control = if appendfsync == "always" { "" } else { "control: " };
    proof(
        &format!("{control}power cut of Redis, appendfsync {appendfsync}, marks {marks}"),
        &tried,
        &format!("{} repeated, {lost} lost", told.duplicates()),
    );
    (told.duplicates(), lost)
}

/// Starts the instances with their previous identities, and waits until they have references.
async fn start(folder: &Path, settings: &str) -> Vec<Instance> {
    let instances: Vec<_> =
        (0..INSTANCES).map(|n| Instance::start(folder, &n.to_string(), settings)).collect();
    for instance in &instances {
        instance.issuer().references("free", 1).await;
        instance.issuer().references("final", 1).await;
    }
    instances
}

fn environment(instances: &[Instance]) -> [(&'static str, String); 3] {
    let urls: Vec<_> = instances.iter().map(Instance::url).collect();
    [("INSTANCES", urls.join(" ")), ("PUBLIC_URL", PUBLIC_URL.to_owned()), ("CLIENTS", "8".to_owned())]
}

/// Waits for `time`, and then until just before the clock's next second: that is when `everysec` fsyncs, so that most writes are
/// now unsynced.
async fn late_in_a_second(time: Duration) {
    tokio::time::sleep(time).await;
    let late = (1850 - Clock::System.now().millis() % 1000) % 1000;
    tokio::time::sleep(Duration::from_millis(late)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_redis_loses_nothing_that_was_acknowledged_but_would_with_everysec() {
    if !can_mount() {
        return;
    }
    // The fsync alone suffices.
    for _ in 0..tries("STATUSLIST_TEST_POWER_CUTS", 1) {
        assert_eq!(repeated_and_lost("always", "append-fsync-always", false).await, (0, 0));
    }
    // The marks keep references from being repeated even when Redis loses its last writes.
    let (repeated, lost) = repeated_and_lost("everysec", "disabled", true).await;
    assert!(repeated == 0 && lost > 0, "{repeated} references were repeated, {lost} updates were lost");
    let (repeated, lost) = repeated_and_lost("everysec", "disabled", false).await;
    assert!(
        repeated > 0 && lost > 0,
        "the control: {repeated} references were repeated, {lost} updates were lost"
    );
}
