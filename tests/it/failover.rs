//! Failovers to a replica that lags behind: no acknowledged update is lost, and no reference is repeated.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;
use tokio::task::JoinSet;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::patroni::Patroni;
use crate::support::postgres::{PostgresServer, wait_in_step};
use crate::support::redis::{RedisServer, Sentinels};
use crate::support::relying_party::published;
use crate::support::told::Told;
use crate::support::wire::Wire;
use crate::support::{eventually, proof, tries};

/// The number of failovers.
fn failovers() -> u64 {
    tries("STATUSLIST_TEST_FAILOVERS", 5)
}

const POOLS: &str = "status-list-pools: {
    p: { api-key: the key of this test, size: 20000, update-interval: 1s, prefetch: { capacity: 200 } },
    f: { api-key: the key of this test, size: 20000, update-interval: 1s, prefetch: { capacity: 20 }, final-status: 1 } }";

/// The pause between two requests of a client, because other tests share the machine.
const PAUSE: Duration = Duration::from_millis(5);

/// One failover test at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The result of a run.
#[derive(Debug)]
struct Outcome {
    references: usize,
    updates: usize,
    repeated: usize,
    lost: usize,
    /// Final statuses that were seen in published lists.
    revoked: usize,
}

impl Outcome {
    fn proof(&self, what: &str, failovers: u64) {
        let Self { references, updates, repeated, lost, revoked } = self;
        let tried = format!(
            "{failovers} failovers, {references} references, {updates} updates, {revoked} revocations seen"
        );
        proof(what, &tried, &format!("{repeated} repeated, {lost} lost"));
    }
}

/// Allocates and updates until the stop; records only what was answered.
///
/// `may_lose`: this setup loses acknowledged writes.
async fn load(client: usize, url: String, may_lose: bool, told: Arc<Mutex<Told>>, stop: Arc<AtomicBool>) {
    let http = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let mut mine: Vec<Reference> = Vec::new();
    let mut round = client;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        tokio::time::sleep(PAUSE).await;
        let request = http.post(format!("{url}/pools/p/new-references?amount={}", 1 + round % 9));
        if let Ok(answer) = request.header("X-Api-Key", KEY).send().await
            && answer.status() == StatusCode::OK
        {
            let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            let references: Vec<Reference> = serde_json::from_value(body["references"].clone()).unwrap();
            told.lock().unwrap().references.extend(references.iter().cloned());
            mine.extend(references);
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let Some(reference) = mine.get(round * 31 % mine.len().max(1)).cloned() else { continue };
        let value = u8::from(!round.is_multiple_of(4));
        let body = json!({ "uri": reference.uri, "index": reference.index, "value": value }).to_string();
        let request = http.patch(format!("{url}/status-lists/update")).header("X-Api-Key", KEY);
        match request.header("Content-Type", "application/json").body(body).send().await {
            Ok(answer) if answer.status() == StatusCode::NO_CONTENT => {
                let mut told = told.lock().unwrap();
                told.unknown.remove(&reference);
                told.acknowledged.insert(reference, value);
            }
            Ok(answer) => {
                // A list that a failover removed entirely: only if nothing prevents that.
                let taken_away = may_lose && answer.status() == StatusCode::BAD_REQUEST;
                let status = answer.status();
                assert!(
                    taken_away || status == StatusCode::SERVICE_UNAVAILABLE,
                    "an unexpected failure: {status}"
                );
                told.lock().unwrap().unknown.insert(reference);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("the service itself never fails: {error}"),
        }
    }
}

/// Sets final statuses, one reference after the other. Returns their lists.
async fn revoke(url: String, stop: Arc<AtomicBool>, lists: Arc<Mutex<HashSet<String>>>) {
    let http = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    while !stop.load(Ordering::SeqCst) {
        tokio::time::sleep(PAUSE).await;
        let request = http.post(format!("{url}/pools/f/new-references")).header("X-Api-Key", KEY);
        let answer = request.send().await.unwrap();
        if answer.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let reference = &body["references"][0];
        lists.lock().unwrap().insert(reference["uri"].as_str().unwrap().to_owned());
        let body = json!({ "uri": reference["uri"], "index": reference["index"], "value": 1 }).to_string();
        let request = http.patch(format!("{url}/status-lists/update")).header("X-Api-Key", KEY);
        request.header("Content-Type", "application/json").body(body).send().await.unwrap();
    }
}

/// Reads what is published: it always verifies, `iat` never decreases, and final statuses stay.
async fn read(
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    lists: Arc<Mutex<HashSet<String>>>,
    seen_revoked: Arc<AtomicUsize>,
) {
    let mut seen: HashMap<String, (u64, HashSet<u64>)> = HashMap::new();
    while !stop.load(Ordering::SeqCst) {
        for uri in lists.lock().unwrap().clone() {
            let list = published(&folder, &uri).unwrap();
            let iat = list.claims["iat"].as_u64().unwrap();
            let revoked: HashSet<_> = (0..20_000).filter(|idx| list.status(*idx) == 1).collect();
            let before = seen.entry(uri).or_default();
            assert!(iat >= before.0, "iat went back from {} to {iat}", before.0);
            let lost: Vec<_> = before.1.difference(&revoked).collect();
            assert!(lost.is_empty(), "revocations were published and are gone: {lost:?}");
            *before = (iat, revoked);
        }
        seen_revoked.store(seen.values().map(|(_, revoked)| revoked.len()).sum(), Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs `load` on `app` during `disturb`, then compares the answers with the store.
async fn under_load(app: &TestApp, may_lose: bool, disturb: impl AsyncFnOnce(&Mutex<Told>)) -> Outcome {
    let _alone = ALONE.lock().await;
    let (told, stop) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
    // They end with this function. If it fails, they must not outlive the service and report that it does not answer.
    let mut clients = JoinSet::new();
    for client in 0..4 {
        clients.spawn(load(client, app.url.clone(), may_lose, Arc::clone(&told), Arc::clone(&stop)));
    }
    let lists = Arc::new(Mutex::new(HashSet::new()));
    clients.spawn(revoke(app.url.clone(), Arc::clone(&stop), Arc::clone(&lists)));
    let revoked = Arc::new(AtomicUsize::new(0));
    clients.spawn(read(app.folder().to_owned(), Arc::clone(&stop), lists, Arc::clone(&revoked)));
    disturb(&told).await;
    let revoked_before = revoked.load(Ordering::SeqCst);
    // It recovers by itself.
    let before = told.lock().unwrap().acknowledged.len();
    eventually("updates after the last disturbance", async || {
        (told.lock().unwrap().acknowledged.len() > before + 20).then_some(())
    })
    .await;
    // A busy machine takes longer for as much.
    eventually("as much to be written as the promises are measured by", async || {
        let told = told.lock().unwrap();
        (told.references.len() > 200 && told.acknowledged.len() > 50).then_some(())
    })
    .await;
    eventually("revocations to be published after the last disturbance", async || {
        (revoked.load(Ordering::SeqCst) > revoked_before).then_some(())
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    clients.join_all().await;
    let told = Arc::into_inner(told).unwrap().into_inner().unwrap();
    let mut lost = 0;
    for (reference, value) in told.known() {
        let list = reference.uri.rsplit('/').next().unwrap();
        let path = format!("/pools/p/lists/{list}/statuses/{}", reference.index);
        let (status, body) = app.send(reqwest::Method::GET, &path, None).await;
        lost += usize::from(status != StatusCode::OK || body["value"] != value);
    }
    Outcome {
        references: told.references.len(),
        updates: told.acknowledged.len(),
        repeated: told.duplicates(),
        lost,
        revoked: revoked.load(Ordering::SeqCst),
    }
}

/// Lets a replica receive nothing any more of what is written, for a while that differs in each round; if that may be lost, until some of
/// it was acknowledged.
async fn fall_behind(replication: &Wire, told: &Mutex<Told>, round: u64, may_lose: bool) {
    let answered = || {
        let told = told.lock().unwrap();
        (told.references.len(), told.acknowledged.len())
    };
    replication.cut();
    let (references, updates) = answered();
    tokio::time::sleep(Duration::from_millis(100 + (round * 67) % 300)).await;
    if may_lose {
        // Twice what the service keeps at hand, so that it leases references that the replica does not know of.
        eventually("answers to what the replica does not have", async || {
            let now = answered();
            (now.0 > references + 400 && now.1 > updates + 10).then_some(())
        })
        .await;
    }
}

/// `rounds` failovers, each to a replica that has not received the latest writes.
async fn fail_over(rounds: u64, replicas: u8, marks: bool) -> Outcome {
    let to_write = replicas.to_string();
    let options = [("min-replicas-to-write", to_write.as_str())];
    let mut master = RedisServer::start_with(&options);
    // Both follow the master: the address that the service knows, and the connection from its log to the replica.
    let (address, replication) = (Wire::to(master.port), Wire::to(master.port));
    let mut replica = RedisServer::replica_of(replication.port, &options);
    let settings = format!(
        "{{ storage-type: redis, high-water-marks: {marks},
            redis: {{ host: 127.0.0.1, port: {}, replicas: {replicas}, timeouts: {{ replicas: 1s, command: 3s }} }},
            {POOLS} }}",
        address.port
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    under_load(&app, replicas == 0, async |told: &Mutex<Told>| {
        for round in 0..rounds {
            tokio::time::sleep(Duration::from_millis(300)).await;
            fall_behind(&replication, told, round, replicas == 0).await;
            master.kill();
            replica.cli(&["REPLICAOF", "NO", "ONE"]);
            address.lead_to(replica.port);
            replication.lead_to(replica.port);
            std::mem::swap(&mut master, &mut replica);
            // The old master returns as the new replica, and discards what only it had.
            replica.start_again_as_replica_of(replication.port);
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failovers_to_a_lagging_replica_lose_and_repeat_nothing() {
    let outcome = fail_over(failovers(), 1, true).await;
    assert!(outcome.references > 200 && outcome.updates > 50 && outcome.revoked > 0, "{outcome:?}");
    assert_eq!((outcome.repeated, outcome.lost), (0, 0), "{outcome:?}");
    outcome.proof("failovers to a lagging replica", failovers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_waiting_for_the_replica_the_marks_still_keep_references_apart() {
    let outcome = fail_over(failovers(), 0, true).await;
    assert!(outcome.repeated == 0 && outcome.lost > 0, "{outcome:?}");
    outcome.proof("control: the same without WAIT", failovers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_waiting_and_without_marks_references_repeat_and_updates_are_lost() {
    let outcome = fail_over(failovers(), 0, false).await;
    assert!(outcome.repeated > 0 && outcome.lost > 0, "the control: {outcome:?}");
    outcome.proof("control: the same without WAIT and without marks", failovers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_behind_an_address_is_followed_although_the_old_connections_stay() {
    let mut master = RedisServer::start();
    let mut replica = RedisServer::replica_of(master.port, &[]);
    let address = Wire::to(master.port);
    let redis = format!("host: 127.0.0.1, port: {}, timeouts: {{ command: 2s }}", address.port);
    let settings = format!("{{ storage-type: redis, redis: {{ {redis} }}, {POOLS} }}");
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let outcome = under_load(&app, false, async |_: &Mutex<Told>| {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            // The master hands over its data before it steps down.
            let (host, port) = ("127.0.0.1", replica.port.to_string());
            master.cli(&["FAILOVER", "TO", host, &port, "TIMEOUT", "5000"]);
            replica.wait("the new master", |server| server.cli(&["ROLE"]).starts_with("master"));
            address.lead_new_to(replica.port);
            std::mem::swap(&mut master, &mut replica);
            replica.wait("the old one in step", |server| {
                server.says(&["INFO", "replication"], "master_link_status:up")
            });
        }
    })
    .await;
    assert_eq!((outcome.repeated, outcome.lost), (0, 0), "{outcome:?}");
    outcome.proof("planned failovers behind an address", 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_the_service_to_the_new_master() {
    let rounds = tries("STATUSLIST_TEST_FAILOVERS", 2);
    let mut sentinels = Sentinels::start(&[("min-replicas-to-write", "1"), ("min-replicas-max-lag", "2")]);
    let settings = format!(
        "{{ storage-type: redis, redis: {{ {}, replicas: 1, timeouts: {{ replicas: 1s, command: 3s }} }},
            {POOLS} }}",
        sentinels.settings()
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let outcome = under_load(&app, false, async |_: &Mutex<Told>| {
        for _ in 0..rounds {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let master = sentinels.master();
            sentinels.servers[master].kill();
            eventually("another master", async || (sentinels.master() != master).then_some(())).await;
            sentinels.servers[master].start_again();
            // Sentinels make it a replica of the new master when they see it. If they miss an answer of the new master meanwhile, as on
            // a busy machine, they make the old master the new one.
            eventually("a replica in step", async || {
                let replica = &sentinels.servers[1 - sentinels.master()];
                replica.says(&["INFO", "replication"], "master_link_status:up").then_some(())
            })
            .await;
        }
    })
    .await;
    assert_eq!((outcome.repeated, outcome.lost), (0, 0), "{outcome:?}");
    outcome.proof("failovers by sentinels", rounds);
}

/// `rounds` failovers of PostgreSQL by hand, each to a standby that has not received the latest writes.
async fn fail_over_postgresql(rounds: u64, replicas: u8, marks: bool) -> Outcome {
    let mut primary = PostgresServer::start();
    // Both follow the primary: the address that the service knows, and the connection from its log to the standby.
    let (address, replication) = (Wire::to(primary.port), Wire::to(primary.port));
    let mut standby = PostgresServer::standby_of(replication.port, &[]);
    let names = if replicas > 0 { "*" } else { "" };
    primary.set("synchronous_standby_names", names);
    let wait = |primary: &PostgresServer| {
        if replicas > 0 {
            wait_in_step(primary)
        }
    };
    wait(&primary);
    let settings = format!(
        "{{ storage-type: postgres, high-water-marks: {marks},
            postgres: {{ {}, replicas: {replicas}, timeouts: {{ command: 3s }} }}, {POOLS} }}",
        crate::support::postgres::settings(address.port)
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    under_load(&app, replicas == 0, async |told: &Mutex<Told>| {
        for round in 0..rounds {
            tokio::time::sleep(Duration::from_millis(300)).await;
            fall_behind(&replication, told, round, replicas == 0).await;
            primary.kill();
            // Before it takes writes, so that none is acknowledged without a standby.
            standby.set("synchronous_standby_names", names);
            standby.promote();
            address.lead_to(standby.port);
            replication.lead_to(standby.port);
            std::mem::swap(&mut primary, &mut standby);
            // The old primary returns as the new standby, and discards what only it had.
            standby.start_again_as_standby_of(replication.port);
            wait(&primary);
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failovers_of_postgresql_to_a_lagging_standby_lose_and_repeat_nothing() {
    let rounds = tries("STATUSLIST_TEST_FAILOVERS", 2);
    let outcome = fail_over_postgresql(rounds, 1, true).await;
    assert!(outcome.references > 200 && outcome.updates > 50 && outcome.revoked > 0, "{outcome:?}");
    assert_eq!((outcome.repeated, outcome.lost), (0, 0), "{outcome:?}");
    outcome.proof("failovers of PostgreSQL to a lagging standby", rounds);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_synchronous_standby_updates_are_lost_and_only_the_marks_keep_references_apart() {
    let outcome = fail_over_postgresql(2, 0, true).await;
    assert!(outcome.repeated == 0 && outcome.lost > 0, "{outcome:?}");
    outcome.proof("control: failovers of PostgreSQL to an asynchronous standby", 2);
    let outcome = fail_over_postgresql(2, 0, false).await;
    assert!(outcome.repeated > 0 && outcome.lost > 0, "the control: {outcome:?}");
    outcome.proof("control: the same without marks", 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's patroni, python3-etcd and etcd-server, and a minute for each failover; scripts/proof processes runs it"]
async fn patroni_leads_the_service_to_the_new_primary() {
    let rounds = tries("STATUSLIST_TEST_FAILOVERS", 1);
    let mut patroni = Patroni::start();
    let settings = format!(
        "{{ storage-type: postgres, postgres: {{ {}, replicas: 1, timeouts: {{ command: 3s }} }}, {POOLS} }}",
        patroni.settings()
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let outcome = under_load(&app, false, async |_: &Mutex<Told>| {
        for _ in 0..rounds {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let primary = patroni.primary().expect("a primary");
            patroni.kill(primary);
            // Patroni gives the old one 20 seconds.
            tokio::time::sleep(Duration::from_secs(18)).await;
            eventually("another primary", async || patroni.primary()).await;
            patroni.start_again(primary);
            eventually("a standby in step", async || patroni.is_whole().then_some(())).await;
        }
    })
    .await;
    assert_eq!((outcome.repeated, outcome.lost), (0, 0), "{outcome:?}");
    outcome.proof("failovers of PostgreSQL by Patroni", rounds);
}
