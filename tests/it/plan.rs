//! `statuslist plan` compared with measurements: stores, publishing, and how long a revocation takes.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use statuslist::base::clock::{Clock, Timestamp};
use statuslist::config::Config;
use statuslist::model::instance::InstanceId;
use statuslist::model::pool::PoolId;
use statuslist::status_list::{ListId, Status};
use statuslist::store::{Deadline, DueMark, Publication, StatusChange, Store};

use crate::support::app::TestApp;
use crate::support::process::PROGRAM;
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

/// Returns the plan for these arguments.
fn plan(arguments: &[&str]) -> Value {
    let output = Command::new(PROGRAM).args(["plan", "--json"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Lists, with the same number of updates each.
#[derive(Clone, Copy)]
struct Filling {
    lists: u64,
    entries: u64,
    /// The updates of each list, spread evenly, so that every part of its array changes.
    updates: u64,
}

/// Lists with little overhead, and lists whose overhead matters.
const LARGE: Filling = Filling { lists: 300, entries: 80_000, updates: 400 };
const SMALL: Filling = Filling { lists: 1000, entries: 8000, updates: 40 };

impl Filling {
    /// The pool's settings.
    fn pool(self) -> String {
        format!("status-list-pools: {{ p: {{ api-key: x, size: {} }} }}", self.entries)
    }

    /// Creates the lists in the store of these settings.
    async fn fill(self, settings: &str, now: Timestamp) -> (Store, Vec<ListId>) {
        let config = Config::load(Some(settings), std::iter::empty()).unwrap();
        let store = Store::open(&config.store).await.unwrap();
        let pool = pool();
        store.declare_pool(&config.pools[&pool].shape).await.unwrap();
        let owner: InstanceId = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        let (mut lists, mut changes, mut state) = (Vec::new(), Vec::new(), 1);
        for _ in 0..self.lists {
            let list = store.open_list(&pool, &owner, u64::MAX, now).await.unwrap();
            // Anywhere between two updates, so that the array has no pattern that compresses well.
            let between = self.entries / self.updates;
            let idx = |n| n * between + random(&mut state) % between;
            let capacity = config.pools[&pool].shape.capacity;
            let change = |idx| {
                let index = capacity.index(idx).unwrap();
                StatusChange { list, index, status: Status::INVALID, expected: None }
            };
            changes.push((0..self.updates).map(idx).map(change).collect::<Vec<_>>());
            lists.push(list);
        }
        // A few of each list at a time, as when issuers update them one by one: many changes of one list in one step take less.
        while changes.iter().any(|left| !left.is_empty()) {
            let some = changes.iter_mut().map(|left| left.drain(..left.len().min(20)).collect());
            let applied = store.apply(&pool, some.collect(), deadline(), now).await.unwrap();
            assert!(applied.iter().all(Result::is_ok));
        }
        (store, lists)
    }

    /// As [`Self::fill`], and published as far as the store knows: only that folds the changes into the arrays.
    async fn fill_settled(self, settings: &str) -> Store {
        let now = Timestamp::from_secs(1_700_000_000);
        let (store, lists) = self.fill(settings, now).await;
        let (pool, holder) = (pool(), "publisher".parse().unwrap());
        let leased = store.lease_publisher(&pool, &holder, Duration::ZERO, Duration::ZERO);
        let fence = leased.await.unwrap().unwrap();
        for list in lists {
            let version = store.snapshot(list).await.unwrap().version;
            let publication = Publication {
                version,
                iat: now.date(),
                resign_at: now.date().plus(Duration::from_secs(43_200)),
            };
            store.settle(list, publication, now, DueMark::default(), fence).await.unwrap();
        }
        store
    }

    /// Returns a member of the plan for a pool with this number of lists and updates.
    fn planned(self, member: &str) -> f64 {
        // Two are being filled, and one waits.
        let references = (self.lists - 3) * self.entries;
        let rate = (self.lists * self.updates) as f64 / references as f64;
        let plan = plan(&[
            "--lifetime=1d",
            &format!("--size={}", self.entries),
            &format!("--references-per-day={references}"),
            &format!("--revocation-rate={rate}"),
        ]);
        assert_eq!(plan["plan"]["lists"].as_f64().unwrap(), self.lists as f64);
        plan["plan"][member].as_f64().unwrap()
    }
}

/// A deadline that no test reaches.
fn deadline() -> Deadline {
    Deadline::after(std::time::Duration::from_secs(600))
}

fn pool() -> PoolId {
    "p".parse().unwrap()
}

/// The next number of a pseudo-random sequence.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn size_of(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn redis_needs_what_was_planned() {
    for filling in [LARGE, SMALL] {
        let redis = RedisServer::start();
        let used = || -> f64 {
            let memory = redis.cli(&["INFO", "memory"]);
            let line = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
            line.trim().parse().unwrap()
        };
        let before = used();
        let settings = format!("storage-type: redis\nredis: {{ {} }}\n{}", redis.settings(), filling.pool());
        let _open = filling.fill_settled(&settings).await;
        let (needed, planned) = (used() - before, filling.planned("redis_bytes"));
        assert!((0.85..=1.15).contains(&(needed / planned)), "needed {needed}, planned {planned}");
    }
}

#[tokio::test]
async fn sqlite_needs_what_was_planned() {
    for filling in [LARGE, SMALL] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statuslist.db");
        let settings = format!("sqlite: {{ path: {} }}\n{}", path.display(), filling.pool());
        // Open, because its log exists only while the service runs.
        let _open = filling.fill_settled(&settings).await;
        let (needed, planned) = (size_of(folder.path()) as f64, filling.planned("sqlite_bytes"));
        assert!((0.8..=1.2).contains(&(needed / planned)), "needed {needed}, planned {planned}");
    }
}

/// Publishes what is pending in `folder` with these settings. Returns the number of lists, and the CPU seconds of the process
/// itself.
fn publish_once(folder: &Path, settings: &str) -> (u64, f64) {
    let file = folder.join("settings.yaml");
    std::fs::File::create(&file).unwrap().write_all(settings.as_bytes()).unwrap();
    let mut shell = Command::new("sh");
    shell.current_dir(folder).args([
        "-c",
        r#""$@" && times"#,
        "sh",
        PROGRAM,
        "publish",
        "--once",
        "--config",
    ]);
    let output = shell.arg(file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<_> = told.lines().collect();
    let [.., published, _of_the_shell, of_its_children] = lines.as_slice() else { panic!("{told}") };
    let published = published.split(' ').nth(1).unwrap().parse().unwrap();
    // Only what the program computed: how long the system works for an fsync differs several times between disks and minutes.
    let computed = of_its_children.split_whitespace().next().unwrap();
    let (minutes, seconds) = computed.trim_end_matches('s').split_once('m').unwrap();
    (published, minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap())
}

/// CPU seconds for each changed and each renewed list, as the program itself publishes them.
async fn measured(filling: Filling) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statuslist.db");
    let settings = format!("sqlite: {{ path: {} }}\n{}", path.display(), filling.pool());
    let now = Clock::System.now();
    let (store, lists) = filling.fill(&settings, now).await;
    drop(store);
    let change = async |idx| {
        let config = Config::load(Some(&settings), std::iter::empty()).unwrap();
        let store = Store::open(&config.store).await.unwrap();
        store.declare_pool(&config.pools[&pool()].shape).await.unwrap();
        let index = config.pools[&pool()].shape.capacity.index(idx).unwrap();
        let change = |&list| vec![StatusChange { list, index, status: Status::INVALID, expected: None }];
        let changes = lists.iter().map(change).collect();
        assert!(store.apply(&pool(), changes, deadline(), now).await.unwrap().iter().all(Result::is_ok));
    };
    assert_eq!(publish_once(folder.path(), &settings).0, filling.lists);
    let idle = publish_once(folder.path(), &settings);
    change(1).await;
    let changed = publish_once(folder.path(), &settings);
    // With these settings each list is due again a second later, so a pass may publish it twice.
    let restless = settings.replace("size:", "resign-after: 1s, size:");
    change(2).await;
    publish_once(folder.path(), &restless);
    let renewed = publish_once(folder.path(), &restless);
    assert_eq!((idle.0, changed.0), (0, filling.lists));
    assert!(renewed.0 >= filling.lists, "{renewed:?}");
    let each = |(published, seconds): (u64, f64)| (seconds - idle.1) / published as f64;
    (each(changed), each(renewed))
}

#[tokio::test]
async fn publishing_takes_the_cpu_that_was_planned() {
    for filling in [
        Filling { lists: 150, entries: 100_000, updates: 1000 },
        // For these lists the files take more than the compression.
        Filling { lists: 300, entries: 8000, updates: 80 },
    ] {
        let (changed, renewed) = measured(filling).await;
        let plan = plan(&[
            "--lifetime=1d",
            "--references-per-day=1000000",
            &format!("--size={}", filling.entries),
            &format!("--revocation-rate={}", filling.updates as f64 / filling.entries as f64),
        ]);
        for (what, measured, member) in
            [("changed", changed, "seconds"), ("renewed", renewed, "renewal_seconds")]
        {
            let planned = plan["token"][member].as_f64().unwrap();
            let entries = filling.entries;
            assert!(
                (0.4..=2.5).contains(&(measured / planned)),
                "{entries} entries, {what}: measured {measured}, planned {planned}"
            );
        }
    }
}

/// The time that other tests on the same cores may take from the publisher; without them it stays a second below the plan.
const BUSY_SECONDS: f64 = 2.0;

#[tokio::test]
async fn a_revocation_takes_as_long_as_was_planned_at_most() {
    let app = TestApp::start("update-interval: 2s, size: 8000");
    let plan =
        plan(&["--references-per-day=1000", "--lifetime=30d", "--size=8000", "--beat=2s", "--ttl=60s"]);
    let planned = plan["plan"]["staleness_max_without_cache_seconds"].as_f64().unwrap() - 60.0;
    let references = app.references(120).await;
    let mut waiting: Vec<(Instant, usize)> = Vec::new();
    let mut longest = 0_f64;
    let mut state = 1;
    let mut next = Instant::now();
    let mut asked = 0;
    while asked < references.len() || !waiting.is_empty() {
        if asked < references.len() && Instant::now() >= next {
            let (status, body) = app.update(&references[asked], json!(1)).await;
            assert!(status.is_success(), "{body}");
            waiting.push((Instant::now(), asked));
            asked += 1;
            // From nothing to a fifth of a second.
            next = Instant::now() + Duration::from_millis(random(&mut state) % 200);
        }
        waiting.retain(|(acknowledged, reference)| {
            let reference = &references[*reference];
            let is_published =
                published(app.folder(), &reference.uri).is_ok_and(|list| list.status(reference.index) == 1);
            let waited = acknowledged.elapsed().as_secs_f64();
            let patience = planned + BUSY_SECONDS;
            assert!(waited <= patience, "{reference:?} is not published after {waited} s, planned {planned}");
            longest = if is_published { longest.max(waited) } else { longest };
            !is_published
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(longest >= planned / 2.0, "planned {planned}, but {longest} at most");
}

#[tokio::test]
async fn caches_keep_a_list_as_long_as_was_planned() {
    // If `ttl` is shorter, it limits what caches may keep.
    for (beat, ttl) in [(2, 30), (30, 7)] {
        let app = TestApp::start(&format!("update-interval: {beat}s, ttl: {ttl}s"));
        let uri = app.references(1).await.remove(0).uri;
        let response = app.client.get(uri).send().await.unwrap();
        let told = response.headers()["cache-control"].to_str().unwrap().to_owned();
        let max_age: f64 = told.rsplit_once("max-age=").unwrap().1.parse().unwrap();
        let (beat, ttl) = (format!("--beat={beat}s"), format!("--ttl={ttl}s"));
        let plan = plan(&["--references-per-day=1000", "--lifetime=30d", &beat, &ttl]);
        let of = |member: &str| plan["plan"][member].as_f64().unwrap();
        let planned = of("staleness_max_seconds") - of("staleness_max_without_cache_seconds");
        // nginx, whose `$max_age` should be the same, lets caches serve their copy once more for as long.
        let nginx = include_str!("../../nginx/snippets/caching.conf");
        assert!(nginx.contains(r#""public, max-age=$max_age, stale-while-revalidate=$max_age""#));
        assert!((planned - 2.0 * max_age).abs() < 1e-6, "planned {planned}, told {told}");
    }
}

#[tokio::test]
async fn as_many_lists_are_published_as_was_planned() {
    for (open, spare) in [(2, 1), (3, 2)] {
        let app = TestApp::start(&format!(
            "open-lists: {open}, precreation: {{ lists: {spare} }}, update-interval: 1s, size: 8000"
        ));
        // All of its open lists are now being filled.
        let given = app.references(50).await;
        let planned = plan(&[
            "--references-per-day=1",
            "--lifetime=1d",
            "--size=8000",
            &format!("--open-lists={open}"),
            &format!("--precreated-lists={spare}"),
        ]);
        let planned = planned["plan"]["lists"].as_f64().unwrap().round() as usize;
        let tokens = || {
            let names = std::fs::read_dir(app.folder().join("public/lists")).unwrap();
            names.filter(|name| name.as_ref().unwrap().path().extension() == Some("jwt".as_ref())).count()
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while tokens() < planned {
            assert!(Instant::now() < deadline, "{} are published, planned {planned}", tokens());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Neither waiting nor further requests add more.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let lists: std::collections::HashSet<_> = given.iter().map(|reference| &reference.uri).collect();
        assert_eq!((tokens(), lists.len()), (planned, open));
    }
}
