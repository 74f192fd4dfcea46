//! One simulation: instances, clients and faults that follow from a seed, in simulated time. `clients.rs` has what issuers do,
//! `acts.rs` what goes wrong and what operators do.

mod acts;
mod clients;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use statuslist::base::clock::{Clock, Timestamp};
use statuslist::base::durable::{self, Mode};
use statuslist::base::simulated;
use statuslist::config::Config;
use statuslist::sign::{Algorithm, KeyHints, Signer, SigningKey, generate};
use statuslist::store::Store;
use statuslist::store::sim::{Server, SimulatedStore};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

use crate::checker::{Checker, Stored, Times};
use crate::disk::SimDisk;
use crate::faults::Plan;
use crate::guard::{self, Instances};
use crate::history::History;
use crate::instance::{self, KEYS, Running, Start};
use crate::link::{Ambush, SimLink, Weather};
use crate::token::Shape;

/// What every right clock shows at the begin, in seconds since 1970.
const BEGIN: u64 = 1_700_000_000;
const BEAT: f64 = 2.0;
/// Enough that several wait for one instance and others work elsewhere.
const CLIENTS: u64 = 6;
/// How long nothing goes wrong at the end.
const CALM: Duration = Duration::from_secs(75);
/// An instance that cannot start must be able to, so long after the last fault.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A clock that is wrong by more, in milliseconds, is not believed.
const CLOCK_APART_MAX: i64 = 60_000;
/// Statuses that the pool `a` takes; `b` knows 0 and 1.
const VALUES: [u8; 8] = [1, 2, 3, 12, 13, 14, 15, 0];

/// What came of one seed.
pub(crate) struct Report {
    pub(crate) violation: Option<String>,
    pub(crate) history: Vec<String>,
    pub(crate) minutes: f64,
    pub(crate) references: usize,
    pub(crate) tokens: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
}

pub(crate) struct World {
    seed: u64,
    begun: Instant,
    pub(crate) history: History,
    pub(crate) instances: Instances,
    pub(crate) disk: Rc<SimDisk>,
    pub(crate) server: Arc<Mutex<Server>>,
    weather: Vec<Arc<Mutex<Weather>>>,
    ambush: Ambush,
    latency: Duration,
    clocks: Vec<Clock>,
    running: RefCell<Vec<Option<Rc<Running>>>>,
    pub(crate) checker: RefCell<Checker>,
    chance: RefCell<StdRng>,
    folder: TempDir,
    config: Config,
    signers: RefCell<Vec<Signer>>,
    /// Since when nothing goes wrong, and how many things do now.
    calm: Cell<Instant>,
    active: Cell<usize>,
    last_fault: Cell<Instant>,
    /// Lists that clients know, each with the pool and the entries that they were given.
    lists: RefCell<Vec<(String, String, Vec<u64>)>>,
    given: RefCell<HashMap<(String, u64), u64>>,
    /// Ids of lists that gave references and are not updated any more.
    quiet: RefCell<Vec<String>>,
    /// How many copies of the store wait to be restored.
    copies: Cell<usize>,
    stopping: Cell<bool>,
    acknowledged: Cell<u64>,
    refused: Cell<u64>,
}

/// Runs one seed in simulated time, without the faults whose numbers are in `without`.
pub(crate) fn run(seed: u64, without: &[usize]) -> Report {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, async {
        let plan = Plan::of(seed);
        let world = World::new(seed, &plan);
        simulated::begin(world.disk.clone(), seed);
        let report = Rc::clone(&world).drive(plan, without).await;
        simulated::end();
        report
    });
    drop(local);
    report
}

/// A file system in memory, if there is one: only its speed matters.
fn folder() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn signer() -> Signer {
    let key = SigningKey::from_pem(&generate(Algorithm::EdDsa).unwrap(), None, None).unwrap();
    Signer::new(key, KeyHints { kid: true, x5c: false, jwk: false })
}

impl World {
    fn new(seed: u64, plan: &Plan) -> Rc<Self> {
        let history = History::begin();
        let instances = Instances::new(plan.instances);
        let settings = format!(
            "public-url: https://status.example/lists\nlimits: {{ request-timeout: 3s }}\n\
             explorer: {{ pools: {{ a: {{ statistics: true }} }} }}\nstatus-list-pools:\n  \
             a: {{ api-keys: [{{ key: {first}, name: one }}, {{ key: {second}, name: two }}], size: 64, bits: 4, application-statuses: [3, 12, 13, 14, 15], \
             list-lifetime: 60s, resign-after: 30s, {common} }}\n  \
             b: {{ api-keys: [{{ key: {first}, name: one }}, {{ key: {second}, name: two }}], size: 96, bits: 1, final-status: 1, \
             list-lifetime: 900s, resign-after: 450s, {common} }}\n",
            first = KEYS[0],
            second = KEYS[1],
            common = "formats: [jwt, cwt], open-lists: 2, precreation: { lists: 1, check-delay: 5s }, \
                      prefetch: { capacity: 12, threshold: 5 }, update-interval: 2s, ttl: 10s"
        );
        let config = Config::load(Some(&settings), std::iter::empty()).unwrap();
        let signers: Vec<_> = config.pools.iter().map(|_| signer()).collect();
        let keys = signers.iter().map(|signer| serde_json::to_value(signer.jwk()).unwrap());
        let folder = folder();
        for who in 0..plan.instances {
            let directory = folder.path().join(format!("instance-{who}"));
            std::fs::create_dir(&directory).unwrap();
            let id = format!("instance-{who}\n");
            durable::replace(&directory.join("id"), id.as_bytes(), Mode::Private).unwrap();
        }
        let clocks = plan.skews.iter().map(|skew| {
            Clock::simulated(Timestamp::from_millis((BEGIN * 1000).saturating_add_signed(*skew)))
        });
        let checker = Checker::new(keys.collect(), BEAT);
        Rc::new(Self {
            seed,
            begun: Instant::now(),
            disk: SimDisk::new(seed ^ 1, instances.clone(), history.clone()),
            server: Arc::new(Mutex::new(Server::new(seed ^ 2))),
            weather: (0..plan.instances).map(|_| Arc::default()).collect(),
            ambush: Ambush::default(),
            latency: plan.latency,
            clocks: clocks.collect(),
            running: RefCell::new((0..plan.instances).map(|_| None).collect()),
            checker: RefCell::new(checker),
            chance: RefCell::new(StdRng::seed_from_u64(seed ^ 3)),
            folder,
            signers: RefCell::new(signers),
            config,
            calm: Cell::new(Instant::now()),
            active: Cell::new(0),
            last_fault: Cell::new(Instant::now()),
            lists: RefCell::default(),
            given: RefCell::default(),
            quiet: RefCell::default(),
            copies: Cell::new(0),
            stopping: Cell::new(false),
            acknowledged: Cell::new(0),
            refused: Cell::new(0),
            history,
            instances,
        })
    }

    fn public(&self) -> std::path::PathBuf {
        self.folder.path().join("public/lists")
    }

    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn roll(&self, below: u64) -> u64 {
        self.chance.borrow_mut().random_range(0..below)
    }

    fn disturbed(&self) {
        self.calm.set(Instant::now());
    }

    async fn drive(self: Rc<Self>, plan: Plan, without: &[usize]) -> Report {
        self.history.note(format!(
            "seed {}: {} instances, clocks off by {:?} ms",
            self.seed, plan.instances, plan.skews
        ));
        for who in 0..plan.instances {
            tokio::task::spawn_local(Rc::clone(&self).supervise(who));
        }
        tokio::task::spawn_local(Rc::clone(&self).power());
        for client in 0..CLIENTS {
            tokio::task::spawn_local(Rc::clone(&self).client(client));
        }
        let end = self.begun + plan.length + CALM;
        for (number, (at, fault)) in plan.faults.into_iter().enumerate() {
            if without.contains(&number) {
                continue;
            }
            let world = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                sleep_until(world.begun + at).await;
                world.history.note(format!("fault {number}: {fault:?}"));
                world.strike(fault).await;
            });
        }
        while Instant::now() < end && self.checker.borrow().violation.is_none() {
            sleep(Duration::from_millis(250)).await;
            if self.active.get() > 0 {
                self.disturbed();
                self.last_fault.set(Instant::now());
            }
            if guard::count_steps_anew() {
                let what = "tasks wake each other without end: the time does not go on".to_owned();
                self.checker.borrow_mut().violation.get_or_insert(what);
            }
            self.look();
        }
        if self.checker.borrow().violation.is_some() {
            self.server.lock().describe().iter().for_each(|line| self.history.note(line));
        }
        self.stopping.set(true);
        self.instances.kill_all();
        for running in self.running.borrow().iter().flatten() {
            running.bury();
        }
        let checker = self.checker.borrow();
        Report {
            violation: checker.violation.clone(),
            history: self.history.lines(),
            minutes: self.now() / 60.0,
            references: checker.references(),
            tokens: checker.tokens,
            acknowledged: self.acknowledged.get(),
            refused: self.refused.get(),
        }
    }

    /// What a Relying Party would see at this moment.
    pub(crate) fn look(&self) {
        if self.disk.is_off() {
            return;
        }
        let public = self.public();
        if !public.is_dir() {
            return;
        }
        let now = self.now();
        let calm = now - self.calm.get().elapsed().as_secs_f64();
        // Of the clocks that may be believed.
        let right = (BEGIN * 1000).saturating_add_signed((now * 1000.0) as i64);
        let shown = self.clocks.iter().map(|clock| clock.now().millis());
        let fastest = shown
            .filter(|shown| shown.abs_diff(right) <= CLOCK_APART_MAX.unsigned_abs())
            .max()
            .unwrap_or(right)
            / 1000;
        let (lists, quiet) = (self.lists.borrow(), self.quiet.borrow());
        let known = lists.iter().map(|(_, list, _)| id(list)).chain(quiet.iter().cloned());
        let known: Vec<_> = known.collect();
        let stored = self.server.lock().lists_stored().into_iter().map(|stored| Stored {
            list: stored.id.to_string(),
            shape: match stored.pool.as_str() {
                "a" => Shape { size: 64, bits: 4 },
                _ => Shape { size: 96, bits: 1 },
            },
            iat: stored.published_at.map(|iat| iat.secs()),
            gone: stored.gone,
            retired: stored.retired,
        });
        let times = Times { now, calm, right: BEGIN + now as u64, fastest };
        self.checker.borrow_mut().look(&public, &known, &stored.collect::<Vec<_>>(), times);
    }

    /// Starts an instance whenever it is dead.
    async fn supervise(self: Rc<Self>, who: usize) {
        loop {
            let dead = self.instances.is_dead(who);
            if dead && let Some(buried) = self.running.borrow_mut()[who].take() {
                buried.bury();
                self.disturbed();
            }
            if self.stopping.get() {
                return;
            }
            if !dead || self.disk.is_off() {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            // Some supervisors wait before they start it again.
            let pause = 100 + self.roll([300, 4000][self.roll(2) as usize]);
            if self.now() > 0.1 {
                sleep(Duration::from_millis(pause)).await;
            }
            if self.disk.is_off() || self.stopping.get() {
                continue;
            }
            let life = self.instances.begin(who);
            let link = SimLink::new(
                life.clone(),
                Arc::clone(&self.weather[who]),
                (self.ambush.clone(), self.history.clone()),
                self.begun,
                self.latency,
                self.seed ^ (self.roll(1 << 40) + 4),
            );
            let store = Store::Simulated(SimulatedStore::new(Arc::clone(&self.server), Arc::new(link)));
            let signers = self.signers.borrow().clone();
            let start = Start {
                config: &self.config,
                folder: self.folder.path(),
                who,
                life: life.clone(),
                store,
                clock: self.clocks[who].clone(),
                signers: &signers,
            };
            let started =
                tokio::time::timeout(Duration::from_secs(40), life.guard(instance::start(start))).await;
            self.disturbed();
            match started {
                Ok(Ok(running)) if !self.instances.is_dead(who) => {
                    self.history.note(format!("instance {who} runs"));
                    self.running.borrow_mut()[who] = Some(Rc::new(running));
                }
                Ok(Ok(running)) => running.bury(),
                Ok(Err(error)) => {
                    let what = format!("instance {who} cannot start: {error:#}");
                    self.history.note(&what);
                    self.instances.kill(who);
                    if self.active.get() == 0 && self.last_fault.get().elapsed() > START_PATIENCE {
                        self.checker.borrow_mut().violated(what);
                    }
                }
                Err(_) => self.instances.kill(who),
            }
        }
    }
}

fn id(uri: &str) -> String {
    uri[uri.len() - 36..].to_owned()
}
