//! `publish.role`: a leader publishes, a follower only when the leader is gone, and an instance that is `off` never does. Each
//! has a folder of its own here, which shows who wrote.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::support::eventually;
use crate::support::fleet::{Instance, on_redis, publisher, signer};
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

/// How long the lease to publish outlives its holder; a follower waits for the same time again.
const LEASE: Duration = Duration::from_secs(12);

/// How many lists an instance has written.
fn lists(instance: &Instance) -> usize {
    let files = std::fs::read_dir(instance.folder().join("public/lists")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "jwt")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_takes_over_when_the_leader_is_gone_and_off_never_does() {
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    let pool = format!("api-key: x, size: 8000, update-interval: 1s, {}", signer(folder.path()));
    let settings = |role: &str| {
        format!(
            "{}publish: {{ role: {role} }}\nexplorer: {{ pools: {{ p: {{ statistics: true }} }} }}\nstatus-list-pools: {{ p: {{ {pool} }} }}",
            on_redis(&redis, "")
        )
    };
    // First, because the first instance publishes as long as it runs. It hands out references once it has published.
    let mut leader = Instance::start(folder.path(), "leader", &settings("leader"));
    let mut references = leader.issuer().references("p", 1).await;
    let off = Instance::start(folder.path(), "off", &settings("off"));
    let follower = Instance::start(folder.path(), "follower", &settings("follower"));
    // The leader also publishes the others' lists: only then do they hand out references.
    for instance in [&off, &follower] {
        references.push(instance.issuer().references("p", 1).await.remove(0));
    }
    for reference in &references {
        assert_eq!(off.issuer().set(reference, 1).await, Some(StatusCode::NO_CONTENT));
    }
    eventually("the leader to publish", async || {
        let is_set = |uri, index| published(leader.folder(), uri).is_ok_and(|list| list.status(index) == 1);
        references.iter().all(|reference| is_set(&reference.uri, reference.index)).then_some(())
    })
    .await;
    let (holder, fence) = publisher(&redis, "p");
    assert_eq!((holder, lists(&off), lists(&follower)), (leader.id(), 0, 0));
    assert!(lists(&leader) >= references.len());
    let keeps_statistics = |instance: &Instance| instance.folder().join("public/lists/status/p.csv").exists();
    eventually("the statistics", async || keeps_statistics(&leader).then_some(())).await;
    assert_eq!(
        (keeps_statistics(&off), keeps_statistics(&follower)),
        (false, false),
        "only who publishes counts"
    );

    leader.kill();
    let gone = Instant::now();
    assert_eq!(off.issuer().set(&references[0], 0).await, Some(StatusCode::NO_CONTENT));
    while published(follower.folder(), &references[0].uri).is_err() {
        assert!(gone.elapsed() < LEASE * 2 + Duration::from_secs(5), "the follower does not take over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let taken = gone.elapsed();
    // Its lease may have been half over when the leader was killed.
    assert!(taken > LEASE + LEASE / 2 - Duration::from_secs(1), "the follower did not wait for a leader");
    assert_eq!(published(follower.folder(), &references[0].uri).unwrap().status(references[0].index), 0);
    // Its folder was empty, so it publishes all lists anew.
    eventually("all lists", async || (lists(&follower) >= references.len()).then_some(())).await;
    eventually("the statistics of the follower", async || keeps_statistics(&follower).then_some(())).await;
    assert!(!keeps_statistics(&off));
    let (holder, new_fence) = publisher(&redis, "p");
    assert_eq!((holder, new_fence, lists(&off)), (follower.id(), fence + 1, 0));
    println!("the follower took over after {taken:?}");
}
