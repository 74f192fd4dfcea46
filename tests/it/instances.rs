//! Three instances on one Redis, and kill -9 of instances and of Redis under load by k6: no reference is repeated, no
//! acknowledged update is lost, every file verifies, and publishing continues. `STATUSLIST_TEST_KILLS` says how often each is
//! killed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::support::app::Reference;
use crate::support::fleet::{Instance, Issuer, PUBLIC_URL, on_redis, publisher, shared, signer};
use crate::support::k6::K6;
use crate::support::process::pause;
use crate::support::reader::Reader;
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;
use crate::support::told::Told;
use crate::support::{eventually, proof, tries};

const INSTANCES: usize = 3;
const CLIENTS: usize = 12;
const BEAT: Duration = Duration::from_secs(1);
/// How long the lease to publish outlives its holder.
const LEASE: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kills_of_instances_and_of_redis_lose_nothing_repeat_nothing_and_stop_nobody() {
    let kills = tries("STATUSLIST_TEST_KILLS", 20);
    let begun = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    let settings = settings(folder.path(), &redis);
    let instances: Vec<_> =
        (0..INSTANCES).map(|n| Instance::start(folder.path(), &n.to_string(), &settings)).collect();
    let issuers: Vec<_> = instances.iter().map(Instance::issuer).collect();
    for issuer in &issuers {
        issuer.references("free", 1).await;
        issuer.references("final", 1).await;
    }
    let urls: Vec<_> = instances.iter().map(Instance::url).collect();
    let environment = [
        ("INSTANCES", urls.join(" ")),
        ("PUBLIC_URL", PUBLIC_URL.to_owned()),
        ("CLIENTS", CLIENTS.to_string()),
    ];
    let load = K6::start("instances.js", folder.path(), &environment);
    let reader = Reader::start(folder.path());
    // Two independent killers, so that everything is interrupted in every state, including starts.
    let of_instances = tokio::task::spawn_blocking(move || kill_instances(instances, kills));
    let of_redis = tokio::task::spawn_blocking(move || kill_redis(redis, kills));
    let killed = AtomicBool::new(false);
    let killing = async {
        let left = (of_instances.await.unwrap(), of_redis.await.unwrap());
        killed.store(true, Ordering::SeqCst);
        left
    };
    let ((mut instances, redis), slowest) = tokio::join!(killing, probe(folder.path(), &issuers, &killed));
    let mut taken_over = Vec::new();
    for _ in 0..=kills / 50 {
        taken_over.push(lose_the_publisher(folder.path(), &mut instances, &redis).await);
    }
    let told = Told::read(&load.stop());
    all_work(&mut instances).await;

    let duplicates = told.duplicates();
    let lost_from_files = told.lost_from_files(folder.path(), LEASE + Duration::from_secs(5)).await;
    let lost = told.lost_from_store(&issuers).await;
    let tokens_read = reader.end().await;
    let tried = format!(
        "{kills} kills of instances, {kills} of Redis, {} references of {} lists, {} updates ({} of unknown fate), {tokens_read} tokens read",
        told.references.len(),
        told.lists.len(),
        told.updates,
        told.unknown.len(),
    );
    let found = format!("{duplicates} repeated, {lost} lost, {lost_from_files} not published");
    proof("kills of three instances and of Redis", &tried, &found);
    println!(
        "at most {slowest:?} from update to file, {taken_over:?} when the publisher was gone; fence {}; {:?} in all",
        publisher(&redis, "free").1,
        begun.elapsed(),
    );
    assert_eq!((duplicates, lost, lost_from_files), (0, 0, 0));
    assert!(told.references.len() > 2000 && told.updates > 1000 && tokens_read > 100, "too little was done");
}

fn settings(folder: &Path, redis: &RedisServer) -> String {
    let signer = signer(folder);
    let pool = format!(
        "api-key: x, size: 1600, update-interval: {}s, open-lists: 2, prefetch: {{ capacity: 300 }}, {signer}",
        BEAT.as_secs()
    );
    format!(
        "{}{}status-list-pools: {{ free: {{ bits: 2, {pool} }}, final: {{ final-status: 1, {pool} }} }}",
        on_redis(redis, "connections: 8"),
        shared(folder),
    )
}

/// A pseudo-random number below `below`, the same in every run.
fn varied(n: u64, below: u64) -> u64 {
    let mixed = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9) % below
}

fn kill_instances(mut instances: Vec<Instance>, kills: u64) -> Vec<Instance> {
    for kill in 0..kills {
        pause(Duration::from_millis(50 + varied(kill, 1100)));
        let instance = &mut instances[usize::try_from(varied(kill + 1000, INSTANCES as u64)).unwrap()];
        instance.kill();
        pause(Duration::from_millis(varied(kill + 2000, 200)));
        instances.iter_mut().for_each(Instance::start_again);
    }
    instances
}

fn kill_redis(mut redis: RedisServer, kills: u64) -> RedisServer {
    for kill in 0..kills {
        pause(Duration::from_millis(300 + varied(kill + 3000, 1500)));
        redis.kill();
        pause(Duration::from_millis(varied(kill + 4000, 200)));
        redis.start_again();
    }
    redis
}

/// Changes one status repeatedly through any instance until all killing is over. Returns the longest time from an acknowledgement
/// to the file. On a busy machine Redis may repeatedly be killed before a pass completes, so the promise holds only after the
/// killing.
async fn probe(folder: &Path, issuers: &[Issuer], killed: &AtomicBool) -> Duration {
    let reference = issuers[0].references("free", 1).await.remove(0);
    let mut slowest = Duration::ZERO;
    for n in 1.. {
        let value = u8::from(n % 2 == 1);
        let mut turns = issuers.iter().cycle().skip(n % INSTANCES);
        eventually("an acknowledgement", async || {
            (turns.next()?.set(&reference, value).await? == StatusCode::NO_CONTENT).then_some(())
        })
        .await;
        let begun = Instant::now();
        while !is_published(folder, &reference, value) && !killed.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let over = killed.load(Ordering::SeqCst);
        if over {
            until_published(folder, &reference, value).await;
        }
        slowest = slowest.max(begun.elapsed());
        if over {
            break;
        }
    }
    slowest
}

fn is_published(folder: &Path, reference: &Reference, value: u8) -> bool {
    published(folder, &reference.uri).is_ok_and(|list| list.status(reference.index) == value)
}

/// Waits for as long as a takeover of the publisher's lease may take, and a little longer.
async fn until_published(folder: &Path, reference: &Reference, value: u8) {
    let begun = Instant::now();
    while !is_published(folder, reference, value) {
        assert!(begun.elapsed() < LEASE + Duration::from_secs(5), "nobody publishes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts those that do not run, and waits for all.
async fn all_work(instances: &mut [Instance]) {
    eventually("all instances to work", async || {
        instances.iter_mut().for_each(Instance::start_again);
        for instance in &*instances {
            instance.issuer().try_references("free", 1).await?;
        }
        Some(())
    })
    .await;
}

/// Kills the instance that publishes. Returns how long it took until another published an update.
async fn lose_the_publisher(folder: &Path, instances: &mut [Instance], redis: &RedisServer) -> Duration {
    all_work(instances).await;
    let (holder, fence) = publisher(redis, "free");
    let lost = instances.iter().position(|instance| instance.id() == holder).expect("an instance publishes");
    let other = instances[(lost + 1) % INSTANCES].issuer();
    let reference = other.references("free", 1).await.remove(0);
    instances[lost].kill();
    let begun = Instant::now();
    eventually("an update", async || {
        (other.set(&reference, 1).await? == StatusCode::NO_CONTENT).then_some(())
    })
    .await;
    until_published(folder, &reference, 1).await;
    let taken = begun.elapsed();
    let (now_holder, now_fence) = publisher(redis, "free");
    assert!(now_holder != holder && now_fence > fence, "{now_holder} {now_fence}");
    taken
}
