//! One simulation: instances, clients and faults that follow from a seed, in simulated time.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use statuslist::base::clock::{Clock, Timestamp};
use statuslist::base::durable::{self, Mode};
use statuslist::base::simulated;
use statuslist::config::Config;
use statuslist::sign::{Algorithm, KeyHints, Signer, SigningKey, generate};
use statuslist::store::Store;
use statuslist::store::sim::{Server, SimulatedStore};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

use crate::checker::{Checker, Outcome, Shape, Times};
use crate::disk::{Doom, Errors, SimDisk};
use crate::faults::{Fault, Plan};
use crate::guard::{self, Instances};
use crate::history::History;
use crate::instance::{self, Heard, KEYS, Running, Start};
use crate::link::{SimLink, Weather};

/// What every right clock shows at the begin, in seconds since 1970.
const BEGIN: u64 = 1_700_000_000;
const BEAT: f64 = 2.0;
/// Enough that several wait for one instance and others work elsewhere.
const CLIENTS: u64 = 6;
/// How long nothing goes wrong at the end.
const CALM: Duration = Duration::from_secs(75);
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
    /// Lists that clients know, each with the pool and the entries that they were given.
    lists: RefCell<Vec<(String, String, Vec<u64>)>>,
    given: RefCell<HashMap<(String, u64), u64>>,
    /// The pool of each list that clients ever knew, by its id.
    pools: RefCell<HashMap<String, String>>,
    /// The lists that somebody wanted to retire, whatever came of it, by their ids.
    retiring: RefCell<HashSet<String>>,
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
            "public-url: https://status.example/lists\nlimits: {{ request-timeout: 3s }}\nstatus-list-pools:\n  \
             a: {{ api-keys: [{{ key: {first}, name: one }}, {{ key: {second}, name: two }}], size: 64, bits: 4, application-statuses: [3, 12, 13, 14, 15], \
             list-lifetime: 60s, resign-after: 30s, {common} }}\n  \
             b: {{ api-keys: [{{ key: {first}, name: one }}, {{ key: {second}, name: two }}], size: 96, bits: 1, final-status: 1, \
             list-lifetime: 300s, resign-after: 150s, {common} }}\n",
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
            lists: RefCell::default(),
            given: RefCell::default(),
            pools: RefCell::default(),
            retiring: RefCell::default(),
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
            }
            if guard::count_steps_anew() {
                let what = "tasks wake each other without end: the time does not go on".to_owned();
                self.checker.borrow_mut().violation.get_or_insert(what);
            }
            self.look();
        }
        if self.checker.borrow().violation.is_some() {
            self.server.lock().unwrap().describe().iter().for_each(|line| self.history.note(line));
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
        let lists = self.lists.borrow();
        let retiring = self.retiring.borrow();
        let known = lists.iter().map(|(_, list, _)| id(list)).filter(|list| !retiring.contains(list));
        let known: Vec<_> = known.collect();
        let pools = self.pools.borrow();
        let shapes = |id: &str| {
            let pool = pools.get(id)?;
            Some(if pool == "a" { Shape { size: 64, bits: 4 } } else { Shape { size: 96, bits: 1 } })
        };
        let times = Times { now, calm, right: BEGIN + now as u64, fastest };
        self.checker.borrow_mut().look(&public, &known, &shapes, times);
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
            let pause = 100 + self.roll(4000);
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
                    self.history.note(format!("instance {who} cannot start: {error:#}"));
                    self.instances.kill(who);
                }
                Err(_) => self.instances.kill(who),
            }
        }
    }

    /// Where a client sends its next request.
    fn anyone(&self) -> usize {
        self.roll(self.instances.count() as u64) as usize
    }

    /// Another instance than this one, if there is one.
    fn anyone_but(&self, who: usize) -> usize {
        let count = self.instances.count();
        if count == 1 { who } else { (who + 1 + self.roll(count as u64 - 1) as usize) % count }
    }

    pub(crate) async fn ask(
        &self,
        request: (u64, Method, &str),
        key: Option<&str>,
        body: Option<Value>,
    ) -> (usize, Heard) {
        let who = self.anyone();
        (who, self.ask_at(who, request, key, body).await)
    }

    async fn ask_at(
        &self,
        who: usize,
        (client, method, path): (u64, Method, &str),
        key: Option<&str>,
        body: Option<Value>,
    ) -> Heard {
        let Some(running) = self.running.borrow()[who].clone() else { return Heard::Nothing };
        let instances = self.instances.clone();
        let calm = self.calm.get();
        let heard = running.request(move || instances.sleeps(who), (client, method, path), key, body).await;
        match &heard {
            Heard::Answer(200..=299, _) => self.acknowledged.set(self.acknowledged.get() + 1),
            _ => self.refused.set(self.refused.get() + 1),
        }
        let well =
            self.calm.get() == calm && calm.elapsed() > Duration::from_secs(50) && self.active.get() == 0;
        if well && matches!(heard, Heard::Nothing | Heard::Answer(500.., _)) && !self.stopping.get() {
            let what = format!("instance {who} answers {heard:?} to {path} although all is well");
            self.checker.borrow_mut().violation.get_or_insert(what);
        }
        heard
    }

    async fn client(self: Rc<Self>, client: u64) {
        let mut count = 0;
        while !self.stopping.get() {
            sleep(Duration::from_millis(20 + self.roll(1500))).await;
            count += 1;
            match self.roll(100) {
                0..=34 => self.take_references(client, count).await,
                _ => self.update(1 + self.roll(4) / 3 * self.roll(4), None).await,
            }
        }
    }

    async fn take_references(&self, client: u64, count: u64) {
        // Callers may choose the same Idempotency-Key.
        let (name, chosen) = (format!("c{client}-{count}"), format!("key-{}", count / 2));
        let pool = if self.roll(3) == 0 { "b" } else { "a" };
        let (amount, keyed) = (1 + self.roll(3), self.roll(2) == 0);
        let path = format!("/pools/{pool}/new-references?amount={amount}");
        for attempt in 0..4 {
            let key = keyed.then_some(chosen.as_str());
            let (who, heard) = self.ask((client, Method::POST, &path), key, None).await;
            let Heard::Answer(status, body) = heard else {
                self.history.note(format!("{name} heard nothing of {who}"));
                if !keyed {
                    return;
                }
                sleep(Duration::from_millis(100 * (attempt + 1))).await;
                continue;
            };
            if status == 200 {
                let items = body["references"].as_array().unwrap();
                let reference = |item: &Value| {
                    (item["uri"].as_str().unwrap().to_owned(), item["index"].as_u64().unwrap())
                };
                let references: Vec<_> = items.iter().map(reference).collect();
                self.history.note(format!("{name} has of {who} {}", show(&references)));
                // Of one caller, a key stands for one request; another amount under it is refused.
                let answer = key.map(|key| format!("{key} of caller {} in {pool}", client % 2));
                let moment = (self.now(), self.calm.get().elapsed().as_secs_f64());
                let public = (!self.disk.is_off()).then(|| self.public());
                let mut checker = self.checker.borrow_mut();
                checker.handed_out(&name, answer.as_deref(), references.clone(), public.as_deref(), moment);
                drop(checker);
                let mut lists = self.lists.borrow_mut();
                for (uri, index) in references {
                    match lists.iter_mut().find(|(_, list, _)| *list == uri) {
                        Some((_, _, entries)) => entries.push(index),
                        None => {
                            self.pools.borrow_mut().insert(id(&uri), pool.to_owned());
                            lists.push((pool.to_owned(), uri, vec![index]));
                        }
                    }
                }
                // Now and then somebody asks again although all went well.
                if !(keyed && self.roll(4) == 0) {
                    return;
                }
            } else if !keyed {
                self.history.note(format!("{name} is refused by {who}: {status}"));
                return;
            }
            sleep(Duration::from_millis(100 * (attempt + 1))).await;
        }
    }

    /// Sets statuses. Whoever does not know what became of that sets another one at once, elsewhere.
    async fn update(&self, amount: u64, again: Option<(usize, String, u64)>) {
        let mut changes = Vec::new();
        {
            let lists = self.lists.borrow();
            if lists.is_empty() {
                return;
            }
            // Those of late are busiest.
            let first = lists.len() - 1 - self.roll(lists.len().min(4) as u64) as usize;
            let again = again.as_ref().and_then(|(_, uri, entry)| {
                let (pool, list, _) = lists.iter().find(|(_, list, _)| list == uri)?;
                Some((pool, list, *entry))
            });
            let pool = again.map_or(&lists[first].0, |(pool, _, _)| pool).clone();
            for _ in 0..amount {
                let of_pool: Vec<_> = lists.iter().filter(|(of, _, _)| *of == pool).collect();
                let late = if self.roll(2) == 0 { of_pool.len() } else { of_pool.len().min(3) };
                let (_, list, entries) = of_pool[of_pool.len() - 1 - self.roll(late as u64) as usize];
                // Most are set once or twice: what goes wrong with one stays to be seen.
                let entry = entries[self.roll(entries.len() as u64) as usize];
                let (list, entry) = again.map_or((list, entry), |(_, list, entry)| (list, entry));
                let mut given = self.given.borrow_mut();
                let number = given.entry((list.clone(), entry)).or_default();
                let value = if pool == "a" { VALUES[(*number % 8) as usize] } else { 1 };
                *number += 1;
                if changes.iter().any(|(uri, other, _)| uri == list && *other == entry) {
                    continue;
                }
                changes.push((list.clone(), entry, value));
            }
        }
        let expected =
            (amount == 1 && again.is_none() && self.roll(4) == 0).then(|| self.expect(&changes[0]));
        let writes: Vec<_> =
            changes.iter().map(|(list, entry, value)| (id(list), Some(*entry), *value)).collect();
        let begun = self.checker.borrow_mut().begin(&writes, self.now(), false);
        let updates: Vec<_> = changes
            .iter()
            .map(|(uri, index, value)| json!({ "uri": uri, "index": index, "value": value }))
            .collect();
        let (sent, one) = (self.now(), updates.len() == 1);
        let who = again.as_ref().map_or_else(|| self.anyone(), |(before, ..)| self.anyone_but(*before));
        let heard = match one {
            true => {
                let mut update = updates[0].clone();
                if let Some(expected) = expected {
                    update["expected"] = expected.into();
                }
                self.ask_at(who, (0, Method::PATCH, "/status-lists/update"), None, Some(update)).await
            }
            false => {
                self.ask_at(
                    who,
                    (0, Method::PATCH, "/status-lists/batch-update"),
                    None,
                    Some(json!({ "updates": updates })),
                )
                .await
            }
        };
        let shown = expected.map(|expected| format!(" if it is {expected}")).unwrap_or_default();
        self.settle_write(who, &heard, &begun, sent, &format!("{}{shown}", show_writes(&writes)));
        if let (Some(expected), Heard::Answer(200..=299, _)) = (expected, &heard) {
            let entry = usize::try_from(changes[0].1).unwrap();
            self.checker.borrow_mut().stood(&id(&changes[0].0), entry, expected, (sent, self.now()));
        }
        let unknown = matches!(heard, Heard::Answer(500.., _));
        if unknown && self.roll(4) > 0 {
            let (list, entry, _) = changes.swap_remove(0);
            Box::pin(self.update(1, Some((who, list, entry)))).await;
        }
    }

    /// What a caller believes of an entry: mostly what it asked for before.
    fn expect(&self, (list, entry, value): &(String, u64, u8)) -> u8 {
        let number = self.given.borrow()[&(list.clone(), *entry)];
        let of_pool_a = self.lists.borrow().iter().any(|(pool, other, _)| pool == "a" && other == list);
        match (of_pool_a, self.roll(3)) {
            (true, 0) => VALUES[((number + 3) % 8) as usize],
            (true, _) if number > 1 => VALUES[((number - 2) % 8) as usize],
            (false, 0) => *value,
            _ => u8::from(!of_pool_a && number > 1),
        }
    }

    fn settle_write(&self, who: usize, heard: &Heard, begun: &crate::checker::Begun, sent: f64, what: &str) {
        let now = self.now();
        let (outcome, ended, shown) = match heard {
            Heard::Answer(200..=299, _) => (Some(Outcome::Done), now, "done".to_owned()),
            Heard::Answer(400..=499, _) => (None, now, "refused".to_owned()),
            Heard::Answer(status, _) => (Some(Outcome::Unknown), now, format!("{status}")),
            // The process is gone, its call may be on its way until its deadline.
            Heard::Nothing => (Some(Outcome::Unknown), now.max(sent + 6.0), "no answer".to_owned()),
        };
        self.history.note(format!("to {who}: {what}, sent at {sent:.3}: {shown}"));
        self.checker.borrow_mut().end(begun, outcome, ended);
    }

    async fn strike(self: &Rc<Self>, fault: Fault) {
        if fault.is_harmless() {
            match fault {
                Fault::Fill(beats) => self.fill(beats).await,
                _ => self.retire().await,
            }
            return;
        }
        let alone = self.active.get() == 0 && self.calm.get().elapsed() > Duration::from_secs(15);
        self.active.set(self.active.get() + 1);
        self.disturbed();
        match fault {
            Fault::Kill(who) => self.instances.kill(who),
            Fault::KillAfterCalls(calls) => self.disk.doom_after(calls, Doom::Kill),
            Fault::Power => {
                self.disk.switch_off();
                self.instances.kill_all();
            }
            Fault::PowerAfterCalls(calls) => self.disk.doom_after(calls, Doom::Power),
            Fault::Pause(who, length) => {
                self.instances.pause(who);
                sleep(length).await;
                self.instances.resume(who);
            }
            Fault::PauseAfterCalls(calls, length) => {
                self.disk.doom_after(calls, Doom::Pause);
                let mut paused = None;
                for _ in 0..100 {
                    sleep(Duration::from_millis(100)).await;
                    paused = self.disk.take_paused();
                    if paused.is_some() {
                        break;
                    }
                }
                match paused {
                    Some(who) => {
                        sleep(length).await;
                        self.instances.resume(who);
                    }
                    // Nobody would resume whom it struck later.
                    None => self.disk.spare(),
                }
            }
            Fault::Clock(who, millis) => {
                let clock = &self.clocks[who];
                // What was signed until now is compared with what this clock showed.
                self.look();
                let right = BEGIN * 1000 + self.begun.elapsed().as_millis() as u64;
                clock.set(Timestamp::from_millis(right.saturating_add_signed(millis)));
                sleep(Duration::from_secs(20)).await;
                self.look();
                let right = BEGIN * 1000 + self.begun.elapsed().as_millis() as u64;
                clock.set(Timestamp::from_millis(right));
                if millis.abs() > CLOCK_APART_MAX {
                    // An instance that started meanwhile took the wrong clock for the right one. It believes the step after a minute.
                    sleep(Duration::from_secs(60)).await;
                }
            }
            Fault::Weather(who, weather, length) => {
                *self.weather[who].lock().unwrap() = weather;
                sleep(length).await;
                *self.weather[who].lock().unwrap() = Weather::Fair;
            }
            Fault::Standstill(length) => {
                for weather in &self.weather {
                    *weather.lock().unwrap() = Weather::Still(Instant::now() + length);
                }
                sleep(length).await;
                for weather in &self.weather {
                    *weather.lock().unwrap() = Weather::Fair;
                }
            }
            Fault::Disk(percent, full, length) => {
                self.disk.set_errors(Errors { percent, full });
                sleep(length).await;
                self.disk.set_errors(Errors::default());
            }
            Fault::Stop(who) => self.stop(who, alone).await,
            Fault::Restore(age) => {
                let copy = self.copy(age).await;
                self.checker.borrow_mut().lossy = true;
                self.server.lock().unwrap().restore(copy);
            }
            Fault::Disaster(age) => {
                let copy = self.copy(age).await;
                self.checker.borrow_mut().lossy = true;
                self.disk.switch_off();
                self.instances.kill_all();
                self.server.lock().unwrap().restore(copy);
            }
            Fault::LostMarks(who, age) => {
                let copy = self.copy(age).await;
                self.checker.borrow_mut().lossy = true;
                self.instances.kill(who);
                // While another copy is on its way, the store could go back to lists that it does not know when the loss is noticed.
                for pool in self.config.pools.keys().filter(|_| self.copies.get() == 0) {
                    let marks = self.folder.path().join(format!("instance-{who}/{pool}.marks"));
                    let _ = durable::remove(&marks);
                }
                self.server.lock().unwrap().restore(copy);
            }
            Fault::Vandal => self.vandal(),
            Fault::Retire | Fault::Fill(_) => {}
            Fault::Reload(who, millis, capacity) => self.reload(who, millis, capacity),
        }
        self.disturbed();
        self.active.set(self.active.get() - 1);
    }

    /// A stop in order. If nothing was wrong before, and nobody else could have published, all that was acknowledged is public.
    async fn stop(&self, who: usize, alone: bool) {
        let Some(running) = self.running.borrow()[who].clone() else { return };
        let (asked, last_fault) = (self.now(), self.calm.get());
        let stopped = tokio::time::timeout(Duration::from_secs(40), running.stop()).await;
        self.history.note(format!("instance {who} was stopped"));
        // Another fault meanwhile, such as a second stop, may have ended it early.
        let alone = alone && self.calm.get() == last_fault && self.active.get() == 1;
        if alone && stopped.is_ok() && self.instances.count() == 1 {
            self.look();
            self.checker.borrow_mut().all_is_public(asked);
        }
        if !running.life.is_over() {
            self.instances.kill(who);
        }
    }

    /// Brings the power back whenever it is gone.
    async fn power(self: Rc<Self>) {
        while !self.stopping.get() {
            if self.disk.is_off() {
                self.active.set(self.active.get() + 1);
                sleep(Duration::from_millis(50 + self.roll(3000))).await;
                self.checker.borrow_mut().forget_order();
                self.disk.switch_on();
                self.history.note("the power is back");
                self.look();
                self.disturbed();
                self.active.set(self.active.get() - 1);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the store has now, after a while.
    async fn copy(&self, age: Duration) -> statuslist::store::sim::Copy {
        self.copies.set(self.copies.get() + 1);
        let copy = self.server.lock().unwrap().copy();
        sleep(age).await;
        self.copies.set(self.copies.get() - 1);
        copy
    }

    /// Removes the files of a list, and kills all instances.
    fn vandal(&self) {
        if let Some((_, list)) = self.some_list()
            && !self.disk.is_off()
        {
            self.history.note(format!("the files of {} are removed", id(&list)));
            for ending in ["jwt", "jwt.gz", "cwt"] {
                let _ = durable::remove(&self.public().join(format!("{}.{ending}", id(&list))));
            }
            // Nobody can know what was in them.
            self.checker.borrow_mut().forget_order_of(&id(&list));
            self.instances.kill_all();
        }
    }

    /// A list that has given references, but is not the newest.
    fn some_list(&self) -> Option<(String, String)> {
        let lists = self.lists.borrow();
        let (pool, list, _) = lists.get(self.roll(lists.len().max(1) as u64) as usize)?;
        Some((pool.clone(), list.clone()))
    }

    async fn retire(&self) {
        let Some((pool, list)) = self.some_list() else { return };
        // Nobody updates what may be retired.
        self.lists.borrow_mut().retain(|(_, other, _)| *other != list);
        self.retiring.borrow_mut().insert(id(&list));
        let path = format!("/pools/{pool}/lists/{}?force=true", id(&list));
        let (who, heard) = self.ask((0, Method::DELETE, &path), None, None).await;
        self.history.note(format!("to {who}: retire {}: {heard:?}", id(&list)));
        if let Heard::Answer(200..=299, _) = heard {
            self.checker.borrow_mut().retired(&id(&list), self.now());
        }
    }

    async fn fill(&self, beats: u64) {
        let Some((pool, list)) = self.some_list() else { return };
        let value = if pool == "a" { VALUES[self.roll(7) as usize] } else { 1 };
        let writes = [(id(&list), None, value)];
        let begun = self.checker.borrow_mut().begin(&writes, self.now(), beats > 1);
        let path = format!("/pools/{pool}/lists/{}", id(&list));
        let body = json!({ "value": value, "spread-beats": beats });
        let sent = self.now();
        let (who, heard) = self.ask((0, Method::PATCH, &path), None, Some(body)).await;
        self.settle_write(who, &heard, &begun, sent, &format!("all of {} = {value} over {beats}", id(&list)));
    }

    fn reload(&self, who: usize, millis: u64, capacity: u32) {
        let Some(running) = self.running.borrow()[who].clone() else { return };
        for (parts, pool) in running.pools.iter().zip(self.config.pools.values()) {
            let mut live = pool.live.clone();
            live.update_interval = Duration::from_millis(millis);
            live.prefetch.capacity = capacity;
            parts.allocator.set(&live);
            parts.publisher.set(live);
        }
    }
}

fn id(uri: &str) -> String {
    uri[uri.len() - 36..].to_owned()
}

fn show(references: &[(String, u64)]) -> String {
    let each = references.iter().map(|(uri, index)| format!("{}/{index}", &id(uri)[..8]));
    each.collect::<Vec<_>>().join(" ")
}

fn show_writes(writes: &[(String, Option<u64>, u8)]) -> String {
    let each = writes
        .iter()
        .map(|(list, entry, value)| format!("{}/{} = {value}", &list[..8], entry.unwrap_or_default()));
    each.collect::<Vec<_>>().join(", ")
}
