//! "A wrong clock": tokens that were signed while the clock was ahead are replaced at once, with all revocations.

use super::callers::{Issuer, until_published};
use super::machine::Machine;
use super::runbook::blocks;
use crate::support::eventually;
use crate::support::fake_clock;
use crate::support::relying_party::published;
use statuslist::base::clock::Clock;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_clock_that_was_ahead_are_replaced() {
    let [replace] = <[String; 1]>::try_from(blocks("A wrong clock")).expect("the page has changed");
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path(), "one", "demo");
    machine.configure("audit: { path: /var/lib/statuslist/data/audit.jsonl }", "api-key: x");
    let clock = folder.path().join("clock");
    fake_clock::set(&clock, "+7200");
    machine.unit_with(&fake_clock::follows(&clock));
    machine.follow("systemctl start statuslist").await;
    let issuer = Issuer::new(&machine.url(), "demo");
    let references = issuer.references(20).await;
    let now = || Clock::System.now().date().secs();
    let iat = |uri: &str| published(&machine.data(), uri).unwrap().iat;
    for reference in &references[..10] {
        issuer.revoke(reference).await;
    }
    for reference in &references[..10] {
        until_published(&machine.data(), reference, 1).await;
        assert!(iat(&reference.uri) > now() + 7000, "the control: the clock is ahead");
    }

    // NTP sets the clock right, and the machine is started again.
    machine.follow("systemctl stop statuslist").await;
    machine.unit_with(&[]);
    machine.follow("systemctl start statuslist").await;
    eventually("the log to say it", async || {
        machine.log().contains("published tokens have an `iat` in the future").then_some(())
    })
    .await;
    // Revocations go on meanwhile.
    for reference in &references[10..] {
        issuer.revoke(reference).await;
    }
    for reference in &references[10..] {
        until_published(&machine.data(), reference, 1).await;
    }
    machine.follow(&replace).await;
    for reference in &references {
        until_published(&machine.data(), reference, 1).await;
        assert!(iat(&reference.uri) <= now(), "it is from the future");
    }
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml verify").await;
    let later = issuer.references(1000).await;
    assert!(later.iter().all(|later| !references.contains(later)), "a reference was handed out twice");
}
