//! Faults of every kind at random moments, up to two at a time, on real processes under load by k6: no reference is repeated, no
//! acknowledged update is lost, every file verifies, and all of it is published afterwards. `STATUSLIST_TEST_CHAOS` says for how many
//! seconds. A seed decides which faults come when, but not what the processes do meanwhile.
//!
//! The published folder is on a disk of its own, which only root can mount. Outside CI the tests say so and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::disk::{Disk, can_mount};
use crate::support::fleet::{Instance, PUBLIC_URL, shared, signer};
use crate::support::k6::K6;
use crate::support::postgres::PostgresServer;
use crate::support::process::{PROGRAM, pause};
use crate::support::reader::Reader;
use crate::support::redis::{Cluster, RedisServer, Sentinels};
use crate::support::relying_party::published;
use crate::support::told::Told;
use crate::support::{eventually, fake_clock, proof, tries};

/// How long after the last fault everything is published: a lease, the time until a deleted file is missed, and some beats.
const CALM: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// kill -9.
    KillInstance,
    /// SIGSTOP, sometimes for longer than a lease.
    PauseInstance,
    /// A wrong clock of one instance, by this.
    Clock(&'static str),
    /// kill -9 of a server of the store: of the master, where there are several.
    KillServer,
    PauseServer,
    /// The server is told not to fsync any more.
    NoFsync,
    MoveSlots,
    DeleteTokens,
    DeleteLocks,
    FullDisk,
    /// A disk that does not answer.
    FrozenDisk,
    NewKey,
}

use Fault::*;

impl Fault {
    /// The shortest and the longest time that it lasts, in milliseconds.
    fn lasts(self) -> (u64, u64) {
        match self {
            KillInstance | KillServer => (0, 400),
            PauseInstance => (500, 14_000),
            Clock(_) | FrozenDisk | FullDisk => (1000, 5000),
            PauseServer | NoFsync => (500, 3000),
            MoveSlots | DeleteTokens | DeleteLocks | NewKey => (0, 0),
        }
    }

    fn is_of_instance(self) -> bool {
        matches!(self, KillInstance | PauseInstance | Clock(_))
    }

    fn is_of_server(self) -> bool {
        matches!(self, KillServer | PauseServer | NoFsync | MoveSlots)
    }
}

enum Servers {
    Sqlite,
    One(RedisServer),
    Sentinels(Sentinels),
    Cluster(Cluster),
    Postgres(PostgresServer),
}

impl Servers {
    fn settings(&self) -> String {
        let redis = match self {
            Self::Sqlite => return String::new(),
            Self::One(server) => server.settings(),
            Self::Sentinels(sentinels) => format!("{}, replicas: 1", sentinels.settings()),
            Self::Cluster(cluster) => format!("{}, replicas: 1", cluster.settings()),
            Self::Postgres(server) => {
                return format!(
                    "storage-type: postgres\npostgres: {{ {}, connections: 8 }}\n",
                    server.settings()
                );
            }
        };
        format!("storage-type: redis\nredis: {{ {redis}, connections: 8 }}\n")
    }

    fn kill(&mut self) {
        match self {
            Self::Postgres(server) => server.kill(),
            _ => self.victim().kill(),
        }
    }

    fn pause(&mut self) {
        match self {
            Self::Postgres(server) => server.freeze(true),
            _ => self.victim().freeze(true),
        }
    }

    /// Whether writes are on the disk before they are answered.
    fn fsync(&mut self, always: bool) {
        match self {
            Self::Postgres(server) => server.set("fsync", if always { "on" } else { "off" }),
            _ => {
                let when = if always { "always" } else { "everysec" };
                self.victim().cli(&["CONFIG", "SET", "appendfsync", when]);
            }
        }
    }

    /// The Redis to which the next fault happens.
    fn victim(&mut self) -> &mut RedisServer {
        match self {
            Self::Sqlite | Self::Postgres(_) => panic!("there is no Redis"),
            Self::One(server) => server,
            Self::Sentinels(sentinels) => {
                let master = sentinels.master();
                &mut sentinels.servers[master]
            }
            Self::Cluster(cluster) => {
                let master = |server: &RedisServer| server.says(&["INFO", "replication"], "role:master");
                let at = cluster.servers.iter().position(master).expect("a cluster has masters");
                &mut cluster.servers[at]
            }
        }
    }

    /// Waits until a fault would lose nothing: every master has a replica in step.
    fn wait_until_whole(&self) {
        let whole = |server: &RedisServer| {
            let replication = server.try_cli(&["INFO", "replication"]).unwrap_or_default();
            !replication.contains("role:master") || replication.contains("min_slaves_good_slaves:1")
        };
        match self {
            Self::Sqlite | Self::One(_) | Self::Postgres(_) => {}
            Self::Sentinels(sentinels) => {
                let deadline = Instant::now() + Duration::from_secs(60);
                let is_whole = || {
                    sentinels.servers[sentinels.master()]
                        .says(&["INFO", "replication"], "min_slaves_good_slaves:1")
                };
                while !is_whole() {
                    assert!(Instant::now() < deadline, "the sentinels do not recover");
                    pause(Duration::from_millis(100));
                }
            }
            Self::Cluster(cluster) => {
                for server in &cluster.servers {
                    server.wait("a whole cluster", |server| {
                        server.says(&["CLUSTER", "INFO"], "cluster_state:ok") && whole(server)
                    });
                }
            }
        }
    }
}

struct World {
    folder: PathBuf,
    site: Disk,
    instances: Vec<Instance>,
    servers: Servers,
    /// Of the pseudo-random numbers.
    state: u64,
    /// Each with the instance or server that it happens to, and its end.
    active: Vec<(Fault, usize, Instant)>,
    happened: BTreeMap<String, usize>,
}

impl World {
    fn random(&mut self, below: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn kinds(&self) -> Vec<Fault> {
        let mut kinds = vec![
            KillInstance,
            KillInstance,
            PauseInstance,
            Clock("+2h"),
            Clock("-2h"),
            Clock("+90s"),
            DeleteTokens,
            DeleteLocks,
            FullDisk,
            FrozenDisk,
            NewKey,
        ];
        kinds.extend(match self.servers {
            Servers::Sqlite => vec![],
            Servers::One(_) | Servers::Postgres(_) => vec![KillServer, KillServer, PauseServer, NoFsync],
            Servers::Sentinels(_) => vec![KillServer, PauseServer],
            Servers::Cluster(_) => vec![KillServer, PauseServer, MoveSlots],
        });
        kinds
    }

    fn run(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            self.end_those(|(_, _, end)| *end <= Instant::now());
            let kinds = self.kinds();
            let fault = kinds[usize::try_from(self.random(kinds.len() as u64)).unwrap()];
            let instance = usize::try_from(self.random(self.instances.len() as u64)).unwrap();
            if self.may_begin(fault, instance) {
                self.begin(fault, instance);
            }
            let wait = 50 + self.random(700);
            pause(Duration::from_millis(wait));
        }
        self.end_those(|_| true);
    }

    /// At most two at a time, and not two of one kind. While the disk is frozen, nothing else: a killed process that waits for the
    /// disk ends only with the frost.
    fn may_begin(&self, fault: Fault, instance: usize) -> bool {
        let alone = |fault: Fault| fault == FrozenDisk;
        let conflicts = |(active, at, _): &(Fault, usize, Instant)| {
            alone(*active)
                || alone(fault)
                || (fault.is_of_server() && active.is_of_server())
                || (fault.is_of_instance() && active.is_of_instance() && *at == instance)
                || *active == fault
        };
        self.active.len() < 2 && !self.active.iter().any(conflicts)
    }

    fn begin(&mut self, fault: Fault, instance: usize) {
        match fault {
            KillInstance => self.instances[instance].kill(),
            PauseInstance => self.instances[instance].freeze(true),
            Clock(by) => self.set_clock(instance, by),
            KillServer => self.servers.kill(),
            PauseServer => self.servers.pause(),
            NoFsync => self.servers.fsync(false),
            MoveSlots => self.move_slots(),
            DeleteTokens => self.delete(|name| name.contains(".jwt") || name.ends_with(".cwt")),
            DeleteLocks => self.delete(|name| name.ends_with(".lock")),
            FullDisk => {
                let fill = ["-l", "1G", "fill"];
                drop(Command::new("fallocate").args(fill).current_dir(&self.site.mounted).output().unwrap());
                // What fallocate leaves is less than a token.
                let _ = std::fs::File::create(self.site.mounted.join("rest"))
                    .and_then(|mut file| std::io::Write::write_all(&mut file, &vec![0; 64 << 20]));
            }
            FrozenDisk => self.site.freeze(true),
            NewKey => {
                let new = self.folder.join("signer.new");
                let _ = std::fs::remove_file(&new);
                assert!(
                    Command::new(PROGRAM).arg("generate-key").arg(&new).output().unwrap().status.success()
                );
                std::fs::rename(new, self.folder.join("signer.pem")).unwrap();
            }
        }
        *self.happened.entry(format!("{fault:?}")).or_default() += 1;
        let (least, most) = fault.lasts();
        let lasts = least + self.random(most - least + 1);
        self.active.push((fault, instance, Instant::now() + Duration::from_millis(lasts)));
    }

    fn end_those(&mut self, ends: impl Fn(&(Fault, usize, Instant)) -> bool) {
        let (mut ended, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.active).into_iter().partition(|active| ends(active));
        self.active = left;
        // An instance starts only with its store.
        let starts = ended.iter().any(|(fault, ..)| *fault == KillInstance);
        let needed = self.active.extract_if(.., |(fault, ..)| starts && fault.is_of_server());
        ended.extend(needed);
        ended.sort_by_key(|(fault, ..)| *fault == KillInstance);
        for (fault, instance, _) in ended {
            match fault {
                KillInstance => self.instances[instance].start_again(),
                PauseInstance => self.instances[instance].freeze(false),
                Clock(_) => self.set_clock(instance, "+0"),
                KillServer => self.revive(),
                PauseServer => self.resume(),
                NoFsync => self.servers.fsync(true),
                FullDisk => self.delete_fill(),
                FrozenDisk => self.site.freeze(false),
                MoveSlots | DeleteTokens | DeleteLocks | NewKey => {}
            }
            if fault.is_of_server() {
                self.servers.wait_until_whole();
            }
        }
    }

    fn each_redis(&mut self, act: impl Fn(&mut RedisServer)) {
        match &mut self.servers {
            Servers::Sqlite | Servers::Postgres(_) => {}
            Servers::One(server) => act(server),
            Servers::Sentinels(sentinels) => sentinels.servers.iter_mut().for_each(act),
            Servers::Cluster(cluster) => cluster.servers.iter_mut().for_each(act),
        }
    }

    fn resume(&mut self) {
        if let Servers::Postgres(server) = &self.servers {
            server.freeze(false);
        }
        self.each_redis(|server| server.freeze(false));
    }

    fn revive(&mut self) {
        if let Servers::Postgres(server) = &mut self.servers {
            return server.start_again();
        }
        // Long enough that another server has become the master.
        if !matches!(self.servers, Servers::One(_)) {
            pause(Duration::from_secs(4));
        }
        self.each_redis(|server| {
            if !server.is_running() {
                server.start_again();
            }
        });
    }

    fn move_slots(&mut self) {
        let Servers::Cluster(cluster) = &self.servers else { return };
        let masters: Vec<_> = cluster
            .servers
            .iter()
            .filter(|server| server.says(&["INFO", "replication"], "role:master"))
            .collect();
        let [from, to, ..] = masters.as_slice() else { panic!("a cluster has masters") };
        let moved = Command::new("redis-cli")
            .args([
                "--cluster",
                "reshard",
                &format!("127.0.0.1:{}", from.port),
                "--cluster-yes",
                "--cluster-slots",
                "100",
            ])
            .args([
                "--cluster-from",
                &from.cli(&["CLUSTER", "MYID"]),
                "--cluster-to",
                &to.cli(&["CLUSTER", "MYID"]),
            ])
            .output()
            .unwrap();
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stdout));
    }

    fn set_clock(&self, instance: usize, by: &str) {
        fake_clock::set(&clock_file(&self.folder, instance), by);
    }

    fn delete(&self, chosen: impl Fn(&str) -> bool) {
        for file in std::fs::read_dir(self.site.mounted.join("lists")).unwrap().filter_map(Result::ok) {
            if file.file_name().to_str().is_some_and(&chosen) {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }

    fn delete_fill(&self) {
        for name in ["fill", "rest"] {
            let _ = std::fs::remove_file(self.site.mounted.join(name));
        }
    }
}

fn clock_file(folder: &Path, instance: usize) -> PathBuf {
    folder.join(format!("clock-{instance}"))
}

async fn survive(name: &str, servers: Servers, instances: usize) {
    if !can_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let site = Disk::new(folder.path(), "public");
    let signer = signer(folder.path());
    let pool = format!(
        "api-key: x, size: 1600, update-interval: 1s, open-lists: 2, prefetch: {{ capacity: 300 }}, {signer}"
    );
    let settings = format!(
        "{}{}publish: {{ keys-max-age: 2s }}
status-list-pools: {{ free: {{ bits: 2, {pool} }}, final: {{ final-status: 1, {pool} }} }}",
        servers.settings(),
        shared(folder.path()),
    );
    let seed = u64::from(std::process::id());
    let mut world = World {
        folder: folder.path().to_owned(),
        site,
        instances: Vec::new(),
        servers,
        state: seed,
        active: Vec::new(),
        happened: BTreeMap::new(),
    };
    for instance in 0..instances {
        world.set_clock(instance, "+0");
        let clock = fake_clock::follows(&clock_file(folder.path(), instance));
        world.instances.push(Instance::start_with(folder.path(), &instance.to_string(), &settings, clock));
    }
    let issuers: Vec<_> = world.instances.iter().map(Instance::issuer).collect();
    for issuer in &issuers {
        issuer.references("free", 1).await;
        issuer.references("final", 1).await;
    }
    let urls: Vec<_> = world.instances.iter().map(Instance::url).collect();
    let environment =
        [("INSTANCES", urls.join(" ")), ("PUBLIC_URL", PUBLIC_URL.to_owned()), ("CLIENTS", "8".to_owned())];
    let load = K6::start("instances.js", folder.path(), &environment);
    let reader = Reader::start(folder.path());
    let mut world = tokio::task::spawn_blocking(move || {
        world.run(Duration::from_secs(tries("STATUSLIST_TEST_CHAOS", 15)));
        // Each instance looks at all files at its start, and so misses those that were deleted.
        for instance in &mut world.instances {
            instance.kill();
            instance.start_again();
        }
        world
    })
    .await
    .unwrap();
    eventually("all instances to work", async || {
        world.instances.iter_mut().for_each(Instance::start_again);
        for issuer in &issuers {
            issuer.try_references("free", 1).await?;
        }
        Some(())
    })
    .await;
    // While much goes wrong, little may get through.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = Told::read(&load.stop());
    let begun = Instant::now();
    while let Some(missing) =
        told.lists.keys().find_map(|uri| published(folder.path(), uri).err().map(|why| (uri, why)))
    {
        assert!(begun.elapsed() < CALM, "{missing:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let repeated = told.duplicates();
    let lost_from_files = told.lost_from_files(folder.path(), CALM).await;
    let lost = told.lost_from_store(&issuers).await;
    let tokens = reader.end().await;
    let faults: usize = world.happened.values().sum();
    let tried = format!(
        "{faults} faults, {} references, {} updates, {tokens} tokens read",
        told.references.len(),
        told.updates
    );
    let found = format!("{repeated} repeated, {lost} lost, {lost_from_files} not published");
    proof(&format!("faults of every kind: {name}"), &tried, &found);
    println!("seed {seed}: {:?}", world.happened);
    assert_eq!((repeated, lost, lost_from_files), (0, 0, 0), "seed {seed}");
    assert!(told.references.len() > 300 && told.updates > 100 && tokens > 20, "too little was done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_instance_on_sqlite_survives_faults_of_every_kind() {
    survive("one instance, SQLite", Servers::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_instances_on_redis_survive_faults_of_every_kind() {
    survive("three instances, Redis", Servers::One(RedisServer::start()), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_instances_behind_sentinels_survive_faults_of_every_kind() {
    let sentinels = Sentinels::start(&[("min-replicas-to-write", "1")]);
    survive("two instances, Sentinel", Servers::Sentinels(sentinels), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_instances_on_a_cluster_survive_faults_of_every_kind() {
    survive("two instances, Cluster", Servers::Cluster(Cluster::start()), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_instances_on_postgresql_survive_faults_of_every_kind() {
    survive("two instances, PostgreSQL", Servers::Postgres(PostgresServer::start()), 2).await;
}

/// The control: after a step back to a copy of Redis, without marks, references are repeated and updates are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_an_older_copy_of_redis_repeats_and_loses() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("redis");
    std::fs::create_dir(&data).unwrap();
    let mut redis = RedisServer::start_in(&data, &[]);
    // Lists that no run fills, so that the copy has all of them.
    let pool = "api-key: x, size: 1000000, update-interval: 1s, open-lists: 1, prefetch: { capacity: 40, threshold: 40 }";
    let settings = format!(
        "storage-type: redis\nredis: {{ {} }}\nhigh-water-marks: false
status-list-pools: {{ free: {{ bits: 2, {pool} }}, final: {{ final-status: 1, {pool} }} }}",
        redis.settings()
    );
    let mut instance = Instance::start(folder.path(), "0", &settings);
    let issuer = instance.issuer();
    issuer.references("free", 1).await;
    issuer.references("final", 1).await;
    let copy = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    redis.kill();
    copy(&data, &folder.path().join("copy"));
    redis.start_again();
    issuer.references("free", 1).await;
    let environment =
        [("INSTANCES", instance.url()), ("PUBLIC_URL", PUBLIC_URL.to_owned()), ("CLIENTS", "8".to_owned())];
    let load = K6::start("instances.js", folder.path(), &environment);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut told = Told::read(&load.stop());
    instance.kill();
    redis.kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&folder.path().join("copy"), &data);
    redis.start_again();
    instance.start_again();
    issuer.references("free", 1).await;
    let lost = told.lost_from_store(std::slice::from_ref(&issuer)).await;
    let load = K6::start("instances.js", folder.path(), &environment);
    tokio::time::sleep(Duration::from_secs(3)).await;
    told.references.extend(Told::read(&load.stop()).references);
    let repeated = told.duplicates();
    let tried = format!("{} references, {} updates", told.references.len(), told.updates);
    proof(
        "control: an older copy of Redis, without marks",
        &tried,
        &format!("{repeated} repeated, {lost} lost"),
    );
    assert!(repeated > 0 && lost > 0, "the control: {repeated} repeated, {lost} lost");
}
