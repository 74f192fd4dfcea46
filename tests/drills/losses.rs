//! "Losing Redis" and "Losing the disk": what was acknowledged, or is in the copy, is there afterwards, and no reference comes twice.

use std::collections::HashSet;
use std::time::Duration;

use super::callers::{Callers, Issuer, until_published};
use super::machine::Machine;
use super::runbook::blocks;
use crate::support::app::Reference;
use crate::support::eventually;
use crate::support::process::free_port;

const KEPT: Duration = Duration::ZERO;

/// Redis comes back, then it does not and its replica takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_or_is_replaced_by_its_replica_loses_nothing() {
    let [start, promote, use_it] =
        <[String; 3]>::try_from(blocks("Losing Redis")).expect("the page has changed");
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (free_port(), free_port());
    let mut machine = Machine::new(folder.path(), "one", "demo");
    machine.install_redis(first, "min-replicas-to-write 1");
    machine.follow("systemctl start redis-server").await;
    let replica = Machine::new(folder.path(), "replica", "demo");
    replica.install_redis(second, &format!("min-replicas-to-write 1\nreplicaof 127.0.0.1 {first}"));
    replica.follow("systemctl start redis-server").await;
    machine.call("host: 192.0.2.21", format!("port: {first}, host: 127.0.0.1"));
    machine.call("host: 192.0.2.22", format!("port: {second}, host: 127.0.0.1"));
    let redis = "storage-type: redis\nredis: { host: 192.0.2.21, replicas: 1 }";
    machine.configure(redis, "api-key: x");
    eventually("a replica in step", async || {
        let said = machine.follow("redis-cli INFO replication").await;
        said.contains("min_slaves_good_slaves:1").then_some(())
    })
    .await;
    machine.follow("systemctl start statuslist").await;
    let issuer = Issuer::new(&machine.url(), "demo");
    issuer.references(1).await;

    let callers = Callers::start(issuer.clone(), &machine.url(), KEPT);
    machine.kill("redis-server").await;
    let reference = issuer.references(1).await.remove(0);
    let refused = issuer.set(&reference, 1).await.unwrap_err();
    assert!(refused.starts_with("503 "), "references come from memory, changes are refused: {refused}");
    machine.follow(&start).await;
    issuer.revoke(&reference).await;

    machine.kill("redis-server").await;
    replica.follow(&promote).await;
    machine.follow(&use_it).await;
    issuer.revoke(&issuer.references(1).await[0]).await;
    let mut tally = callers.end().await;
    tally.add([reference]);
    tally.add(issuer.references(1000).await);
    assert!(tally.refused.iter().any(|why| why.starts_with("503 ")), "the control: Redis was away");
    tally.check(&machine.data()).await;
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml verify").await;
    assert!(!machine.log().contains("THE STORE LOST DATA"), "the replica has everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_loss_of_the_disk_the_copy_serves_and_repeats_nothing() {
    let [restore] = <[String; 1]>::try_from(blocks("Losing the disk")).expect("the page has changed");
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(folder.path(), "one", "demo");
    let copy = folder.path().join("copy.db");
    machine.call("/backup/statuslist-2026-11-27-0300.db", copy.display());
    machine.configure("", "api-key: x, prefetch: { capacity: 100 }");
    machine.follow("systemctl start statuslist").await;
    let issuer = Issuer::new(&machine.url(), "demo");
    let before = issuer.references(50).await;
    for reference in &before[..20] {
        issuer.revoke(reference).await;
    }
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml backup /backup/statuslist-2026-11-27-0300.db").await;
    // More than the service keeps at hand, so that the copy does not know how far the lists were handed out.
    let mut given: HashSet<Reference> = before.iter().cloned().collect();
    for _ in 0..4 {
        given.extend(issuer.references(100).await);
    }
    for reference in &before[20..30] {
        issuer.revoke(reference).await;
    }

    machine.kill("statuslist").await;
    std::fs::remove_dir_all(machine.data()).unwrap();
    machine.follow(&restore).await;
    let later: Vec<Reference> =
        eventually("references", async || issuer.try_references(500).await.ok()).await;
    assert!(later.iter().all(|later| !given.contains(later)), "a reference was handed out twice");
    for reference in &before[..20] {
        until_published(&machine.data(), reference, 1).await;
    }
    // Which updates are lost, the issuer knows; it repeats them.
    for reference in &before[20..30] {
        issuer.revoke(reference).await;
    }
    for reference in &before[20..30] {
        until_published(&machine.data(), reference, 1).await;
    }
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml verify").await;
}
