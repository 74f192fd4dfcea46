//! "At night": each row is caused for real, its alert fires in a real Prometheus with the shipped rules, what the row says is done, and
//! the alert ends. In the rules a minute lasts a second and an hour ten; all else is as shipped.
//!
//! The rows go on side by side, each with services and a pool of its own, because most of the time they wait. "The service stops by
//! itself" is a kill, and the gate refuses what somebody changed in the database, because the program has no such faults that a test
//! could use.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::{Client, Method};

use super::callers::{Callers, Issuer, until_published};
use super::machine::Machine;
use super::runbook::{blocks, section};
use crate::disk_full::fill;
use crate::held_lock::stop_with_lock;
use crate::observability::alerts_in;
use crate::support::disk::{Disk, can_mount};
use crate::support::process::free_port;
use crate::support::prometheus::{Prometheus, Scraped, shipped};
use crate::support::{eventually, fake_clock};

/// How long after its cause each alert fires, and after the repair it ends, also on a busy machine.
const FIRES: Duration = Duration::from_secs(30);
const ENDS: Duration = Duration::from_secs(60);

/// The shipped rules, faster.
fn in_haste(rules: &str) -> String {
    let mut hasty = rules.replace("m]", "s]").replace("[1h]", "[10s]");
    for (shipped, ours) in [("_seconds) + 60\n", "_seconds) + 1\n"), ("< 3600\n", "< 10\n")] {
        assert!(hasty.contains(shipped), "{shipped} is not in the rules");
        hasty = hasty.replace(shipped, ours);
    }
    let lines = hasty.lines().map(|line| match line.trim_start().strip_prefix("for: ") {
        Some(time) => line.replace(time, &time.replace('m', "s")),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The rows of the table.
fn rows() -> Vec<String> {
    let rows = section("At night").lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(str::to_owned).collect()
}

/// Watches the alerts.
struct Watch {
    prometheus: Prometheus,
    client: Client,
    /// Rows and alerts that fired and ended.
    done: Mutex<BTreeSet<(String, String)>>,
}

/// A row that is being caused.
struct Row<'a> {
    watch: &'a Watch,
    text: String,
    alerts: &'static [&'static str],
    machine: &'a Machine,
    since: Instant,
}

impl Watch {
    /// Whether an alert fires for this machine.
    async fn fires(&self, alert: &str, machine: &Machine) -> bool {
        let query = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}");
        let found = self.prometheus.ask("query", &[("query", &query)]).await;
        found["result"].as_array().unwrap().iter().any(|alert| {
            let labels = &alert["metric"];
            let (instance, pool) = (labels["instance"].as_str(), labels["pool"].as_str());
            instance.map_or(pool == Some(machine.pool()), |instance| instance == machine.address())
        })
    }

    /// Waits until these alerts fire, or do not. Returns how long that took.
    async fn until(&self, alerts: &[&str], machine: &Machine, fire: bool, patience: Duration) -> Duration {
        let begun = Instant::now();
        for alert in alerts {
            while self.fires(alert, machine).await != fire {
                assert!(
                    begun.elapsed() < patience,
                    "{alert} of {}: not {fire} in {patience:?}",
                    machine.pool()
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        begun.elapsed()
    }

    /// Begins with the row that has this text; its cause follows.
    async fn row<'a>(&'a self, text: &str, alerts: &'static [&'static str], machine: &'a Machine) -> Row<'a> {
        let row = rows().into_iter().find(|row| row.contains(text));
        let row = row.unwrap_or_else(|| panic!("no row has `{text}`"));
        let named = alerts_in(&row);
        assert!(alerts.iter().all(|alert| named.contains(*alert)), "the row names {named:?}");
        // An increase from 0 is one only if the 0 was seen.
        let up = format!("up{{instance=\"{}\"}} == 1", machine.address());
        eventually("a first scrape", async || {
            let found = self.prometheus.ask("query", &[("query", &up)]).await;
            (!found["result"].as_array().unwrap().is_empty()).then_some(())
        })
        .await;
        self.until(alerts, machine, false, ENDS).await;
        Row { watch: self, text: row, alerts, machine, since: Instant::now() }
    }

    async fn status(&self, url: &str) -> u16 {
        self.client.get(url).send().await.unwrap().status().as_u16()
    }

    async fn metrics(&self, machine: &Machine) -> String {
        self.client.get(format!("{}/metrics", machine.url())).send().await.unwrap().text().await.unwrap()
    }
}

impl Row<'_> {
    /// Waits for the alerts after the cause; the repair follows.
    async fn fired(&mut self) {
        self.watch.until(self.alerts, self.machine, true, FIRES).await;
        let fired = self.since.elapsed();
        assert!(fired < FIRES * 2, "the cause took {fired:?}");
        println!("{:?} of {} fired after {fired:.1?}", self.alerts, self.machine.pool());
        self.since = Instant::now();
    }

    /// Waits for the end of the alerts after the repair.
    async fn ended(self) {
        self.watch.until(self.alerts, self.machine, false, ENDS).await;
        println!("{:?} of {} ended after {:.1?}", self.alerts, self.machine.pool(), self.since.elapsed());
        let done = self.alerts.iter().map(|alert| (self.text.clone(), (*alert).to_owned()));
        self.watch.done.lock().extend(done);
    }
}

/// Starts the service of a machine. Returns an issuer that has got a first reference.
async fn serve(machine: &Machine) -> Issuer {
    machine.follow("systemctl start statuslist").await;
    let issuer = Issuer::new(&machine.url(), machine.pool());
    issuer.references(1).await;
    issuer
}

/// Redis is away.
async fn store_is_down(watch: &Watch, machine: &Machine) {
    let port = free_port();
    machine.install_redis(port, "");
    machine.follow("systemctl start redis-server").await;
    let top = format!("storage-type: redis\nredis: {{ host: 127.0.0.1, port: {port} }}");
    machine.configure(&top, "api-key: x");
    let issuer = serve(machine).await;
    let callers = Callers::start(issuer.clone(), &machine.url(), Duration::ZERO);
    let mut row = watch.row("writes get 503", &["StatuslistRequestsFail"], machine).await;
    machine.kill("redis-server").await;
    row.fired().await;
    machine.follow("systemctl start redis-server").await;
    issuer.revoke(&issuer.references(1).await[0]).await;
    row.ended().await;
    let tally = callers.end().await;
    tally.everything_readable();
    tally.check(&machine.data()).await;
}

/// The disk of the published folder is full, and then it hangs.
async fn disk(watch: &Watch, machine: &Machine, disk: &Disk) {
    machine.configure("", "api-key: x");
    let issuer = serve(machine).await;
    let references = issuer.references(2).await;
    let seen = |reference| until_published(&disk.mounted, reference, 1);

    let mut row = watch
        .row("`statuslist_oldest_unpublished_seconds` grows", &["StatuslistRevocationsWait"], machine)
        .await;
    let filler = disk.mounted.join("filler");
    fill(&filler);
    issuer.revoke(&references[0]).await;
    row.fired().await;
    assert!(machine.log().contains("list not published"), "the log says why");
    std::fs::remove_file(&filler).unwrap();
    seen(&references[0]).await;
    row.ended().await;

    let mut row = watch.row("publishing takes long", &["StatuslistPassHangs"], machine).await;
    let frozen = Frozen::new(disk);
    issuer.revoke(&references[1]).await;
    row.fired().await;
    assert_eq!(watch.status(&format!("{}/health/fresh", machine.url())).await, 503);
    eventually("the log to say it", async || machine.log().contains("publishing takes long").then_some(()))
        .await;
    drop(frozen);
    seen(&references[1]).await;
    row.ended().await;
}

/// A frozen disk, thawed when dropped: also if the test fails.
struct Frozen<'a>(&'a Disk);

impl<'a> Frozen<'a> {
    fn new(disk: &'a Disk) -> Self {
        disk.freeze(true);
        Self(disk)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.freeze(false);
    }
}

/// The clock jumps and comes back; then lists are signed while it is ahead.
async fn clock(watch: &Watch, machine: &Machine) {
    let text = "`/health/ready` is 503, `THE CLOCK IS WRONG`";
    let clock = machine.root().join("clock");
    fake_clock::set(&clock, "+0");
    machine.unit_with(&fake_clock::follows(&clock));
    machine.configure("", "api-key: x");
    let issuer = serve(machine).await;
    let mut row = watch.row(text, &["StatuslistClockWrong"], machine).await;
    fake_clock::set(&clock, "+7200");
    row.fired().await;
    assert_eq!(watch.status(&format!("{}/health/ready", machine.url())).await, 503);
    fake_clock::set(&clock, "+0");
    row.ended().await;

    let mut row = watch.row(text, &["StatuslistListsAhead"], machine).await;
    machine.follow("systemctl stop statuslist").await;
    fake_clock::set(&clock, "+7200");
    machine.follow("systemctl start statuslist").await;
    let reference = issuer.references(1).await.remove(0);
    issuer.revoke(&reference).await;
    until_published(&machine.data(), &reference, 1).await;
    machine.follow("systemctl stop statuslist").await;
    fake_clock::set(&clock, "+0");
    machine.follow("systemctl start statuslist").await;
    row.fired().await;
    machine.follow(&blocks("A wrong clock")[0]).await;
    row.ended().await;
}

/// Somebody changes the database.
fn damage(machine: &Machine, sql: &str, bytes: &[u8]) {
    let store = rusqlite::Connection::open(machine.data().join("data/statuslist.db")).unwrap();
    assert!(store.execute(sql, [bytes]).unwrap() > 0);
}

/// The database holds what the program never writes, then statuses that nobody requested.
async fn damaged_store(watch: &Watch, machine: &Machine) {
    machine.configure("", "api-key: x");
    let issuer = serve(machine).await;
    let references = issuer.references(5).await;
    issuer.revoke(&references[0]).await;
    until_published(&machine.data(), &references[0], 1).await;
    let [back_up, restore, ..] = &blocks("Backup and restore")[..] else { panic!("the page has changed") };
    machine.follow(back_up).await;
    let [stop] = <[String; 1]>::try_from(blocks("A damaged store")).expect("the page has changed");
    let restore = async || {
        machine.follow(&stop).await;
        machine.follow(restore).await;
        machine.follow("systemctl start statuslist").await;
    };

    let mut row = watch.row("`STORE_DAMAGED`", &["StatuslistStoreDamaged"], machine).await;
    machine.follow("systemctl stop statuslist").await;
    damage(machine, "INSERT INTO chunk SELECT id, 99, ?1 FROM list", &[0]);
    machine.follow("systemctl start statuslist").await;
    let list = references[1].uri.rsplit('/').next().unwrap();
    let path = format!("/pools/{}/lists/{list}/statuses/{}", machine.pool(), references[1].index);
    let refused = eventually("an answer", async || {
        issuer.send(Method::GET, &path, None).await.err().filter(|why| !why.starts_with("no answer"))
    });
    assert!(refused.await.contains("STORE_DAMAGED"));
    row.fired().await;
    restore().await;
    issuer.revoke(&references[1]).await;
    row.ended().await;

    let text = "`statuslist_publish_refused_total` grows";
    let mut row = watch.row(text, &["StatuslistPublicationRefused"], machine).await;
    machine.follow("systemctl stop statuslist").await;
    damage(machine, "INSERT OR REPLACE INTO chunk SELECT id, 0, ?1 FROM list", &[0xFF; 1000]);
    machine.follow("systemctl start statuslist").await;
    issuer.revoke(&references[2]).await;
    row.fired().await;
    let metrics = watch.metrics(machine).await;
    let refused = metrics.lines().filter(|line| line.starts_with("statuslist_publish_refused_total"));
    let checks: Vec<_> = refused.filter(|line| !line.ends_with(" 0")).collect();
    assert!(checks.len() == 1 && checks[0].contains("check=\"unexplained\""), "{checks:?}");
    restore().await;
    issuer.revoke(&references[2]).await;
    row.ended().await;
    until_published(&machine.data(), &references[2], 1).await;
}

/// The database is restored from an old copy; then the marks are gone.
async fn lost_data(watch: &Watch, machine: &Machine) {
    const ALERT: &[&str] = &["StatuslistStoreLostData"];
    machine.configure("", "api-key: x, prefetch: { capacity: 50 }");
    let issuer = serve(machine).await;
    let [back_up, restore, ..] = &blocks("Backup and restore")[..] else { panic!("the page has changed") };
    machine.follow(back_up).await;
    let mut given = issuer.references(200).await;
    issuer.revoke(&given[0]).await;

    let mut row = watch.row("`THE STORE LOST DATA`", ALERT, machine).await;
    machine.follow("systemctl stop statuslist").await;
    machine.follow(restore).await;
    machine.follow("systemctl start statuslist").await;
    row.fired().await;
    assert!(machine.log().contains("THE STORE LOST DATA"));
    // The issuer's records say what is missing.
    issuer.revoke(&given[0]).await;
    until_published(&machine.data(), &given[0], 1).await;
    row.ended().await;
    given.extend(issuer.references(200).await);

    let mut row = watch.row("`THE MARKS ARE LOST`", ALERT, machine).await;
    machine.follow("systemctl stop statuslist").await;
    machine.follow("rm /var/lib/statuslist/data/instance/*.marks").await;
    machine.follow("systemctl start statuslist").await;
    row.fired().await;
    assert!(machine.log().contains("THE MARKS ARE LOST"));
    row.ended().await;
    given.extend(issuer.references(200).await);
    let different: BTreeSet<_> = given.iter().map(|reference| (&reference.uri, reference.index)).collect();
    assert_eq!(different.len(), given.len(), "a reference was handed out twice");
}

/// The key service is away.
async fn key_service(watch: &Watch, machine: &Machine) {
    machine.configure("", "api-key: x");
    let socket = machine.install_key_service();
    let start = async || {
        machine.follow("systemctl start key-service").await;
        let listens = async || std::os::unix::net::UnixStream::connect(&socket).ok().map(drop);
        eventually("the key service to listen", listens).await;
    };
    start().await;
    let issuer = serve(machine).await;
    let reference = issuer.references(1).await.remove(0);
    let mut row = watch.row("the key service", &["StatuslistRevocationsWait"], machine).await;
    machine.follow("systemctl stop key-service").await;
    issuer.revoke(&reference).await;
    row.fired().await;
    assert!(machine.log().contains("cannot be reached"), "the log says why");
    start().await;
    until_published(&machine.data(), &reference, 1).await;
    row.ended().await;
}

/// A publisher is stopped with the lock of its pool.
async fn held_lock(watch: &Watch, first: &Machine, second: &Machine, shared: &Path) {
    let port = free_port();
    first.install_redis(port, "");
    first.follow("systemctl start redis-server").await;
    let top = format!("storage-type: redis\nredis: {{ host: 127.0.0.1, port: {port} }}");
    first.configure(&top, "api-key: x");
    second.configure(&top, "api-key: x");
    let reference = serve(first).await.references(1).await.remove(0);
    let issuer = serve(second).await;
    let text = "`another instance has held it for 10s`";
    let mut row = watch.row(text, &["StatuslistRevocationsWait"], second).await;
    let lock = shared.join(format!("public/lists/.pool-{}.lock", first.pool()));
    stop_with_lock(&lock, first.pid("statuslist"), first.pid("redis-server"), issuer.revoke(&reference))
        .await;
    row.fired().await;
    eventually("the log to say who waits for what", async || {
        second.log().contains("another instance has held it for 10s").then_some(())
    })
    .await;
    let [find] = <[String; 1]>::try_from(blocks("A publisher that hangs")).expect("the page has changed");
    let found = second.follow(&find).await;
    let line = found.lines().find(|line| line.ends_with(lock.to_str().unwrap()));
    let pid = line.unwrap_or_else(|| panic!("{found}")).split_whitespace().next().unwrap().to_owned();
    assert_eq!(pid, first.pid("statuslist").to_string());
    second.follow(&format!("kill -9 {pid}")).await;
    until_published(shared, &reference, 1).await;
    row.ended().await;
}

/// Nobody publishes; then the service is killed, and restarts again and again.
async fn nobody(watch: &Watch, machine: &Machine) {
    machine.configure("publish: { role: leader }", "api-key: x, list-lifetime: 12s, resign-after: 5s");
    let issuer = serve(machine).await;
    let reference = issuer.references(1).await.remove(0);
    let text = "`statuslist_tokens_valid_until_timestamp_seconds` comes near";
    let mut row = watch.row(text, &["StatuslistListsExpire", "StatuslistNobodyPublishes"], machine).await;
    machine.edit("role: leader", "role: off");
    machine.follow("systemctl restart statuslist").await;
    row.fired().await;
    machine.edit("role: off", "role: leader");
    machine.follow("systemctl stop statuslist").await;
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml publish --once").await;
    until_published(&machine.data(), &reference, 0).await;
    machine.follow("systemctl start statuslist").await;
    row.ended().await;

    let mut row = watch.row("the service stops by itself", &["StatuslistDown"], machine).await;
    machine.kill("statuslist").await;
    row.fired().await;
    machine.follow("systemctl start statuslist").await;
    row.ended().await;

    let mut row = watch.row("the service stops by itself", &["StatuslistRestarts"], machine).await;
    for _ in 0..3 {
        // Times of starts are in seconds, and each one must be scraped.
        tokio::time::sleep(Duration::from_millis(2000)).await;
        machine.follow("systemctl restart statuslist").await;
    }
    row.fired().await;
    row.ended().await;
    issuer.references(1).await;
}

/// Callers want more than is kept ready.
async fn demand(watch: &Watch, machine: &Machine) {
    machine.configure("", "api-key: x, prefetch: { capacity: 10 }");
    let issuer = serve(machine).await;
    let mut row = watch.row("429 or slow `new-references`", &["StatuslistReferencesShort"], machine).await;
    let demand = async {
        loop {
            issuer.references(50).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let meanwhile = async {
        row.fired().await;
        machine.edit("capacity: 10", "capacity: 2000");
        row.ended().await;
    };
    tokio::select! {
        () = demand => unreachable!("it does not end"),
        () = meanwhile => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_is_caused_fires_is_repaired_and_ends() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let shared = folder.join("shared");
    let site = Disk::new(folder, "site");
    let names = ["down", "disk", "clock", "damaged", "lost", "first", "second", "nobody", "demand", "keys"];
    let pools = names.map(|name| if name == "second" { "first" } else { name });
    let mut machines: Vec<_> =
        names.iter().zip(pools).map(|(name, pool)| Machine::new(folder, name, pool)).collect();
    std::fs::create_dir_all(shared.join("public")).unwrap();
    let key = machines[5].root().join("etc/statuslist/key.pem");
    for machine in &mut machines[5..7] {
        machine.call("/var/lib/statuslist/public", shared.join("public").display());
        machine.call("/etc/statuslist/key.pem", key.display());
    }
    // `<disk>/public`, as everywhere else.
    machines[1].call("/var/lib/statuslist/public", site.mounted.join("public").display());
    for machine in &mut machines[3..5] {
        let backups = machine.root().join("backup");
        std::fs::create_dir(&backups).unwrap();
        let copy = backups.join("copy.db");
        machine.call("/backup/statuslist-2026-11-27-0300.db", copy.display());
        machine.call("/backup/statuslist-$(date +%F-%H%M).db", copy.display());
        machine.call("/root/evidence", backups.join("evidence").display());
    }
    let services: Vec<_> = machines.iter().map(Machine::address).collect();
    let probe = format!("127.0.0.1:{}", free_port());
    let scraped = Scraped { services: &services, probe: &probe, every: "500ms" };
    let rules = in_haste(&std::fs::read_to_string(shipped("rules.yml")).unwrap());
    let prometheus = Prometheus::start(folder, &scraped, &rules).await;
    let watch = Watch { prometheus, client: Client::new(), done: Mutex::default() };

    let [down, on_disk, of_clock, damaged, lost, first, second, alone, busy, keys] = &machines[..] else {
        unreachable!()
    };
    tokio::join!(
        store_is_down(&watch, down),
        disk(&watch, on_disk, &site),
        clock(&watch, of_clock),
        damaged_store(&watch, damaged),
        lost_data(&watch, lost),
        held_lock(&watch, first, second, &shared),
        nobody(&watch, alone),
        demand(&watch, busy),
        key_service(&watch, keys),
    );
    let wanted = rows().into_iter().flat_map(|row| {
        let alerts = alerts_in(&row);
        alerts.into_iter().map(move |alert| (row.clone(), alert))
    });
    assert_eq!(*watch.done.lock(), wanted.collect(), "rows of the page, and those that were drilled");
}
