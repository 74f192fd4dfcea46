//! The publisher: takes the lists that changed or must be renewed, signs them, and writes them as static files.
//!
//! `publish_pending` is one pass; `run` loops over it on the beat, `publish --once` and the tests call it directly. It knows
//! nothing of HTTP and meets the API only in the store. Invariants: a file is replaced only by one that passed the gate; a
//! list is settled only after its files are durable, so a crash at any point leaves it pending, never a change unpublished.
//! Buckets get the same files a little later, see `sinks`.

mod aggregation;
mod certificates;
mod history;
mod key_set;
mod lease;
mod ours;
pub mod pass;
mod rehearse;
mod sinks;
mod spread;
mod statistics;
pub mod sweep;
mod verify;

pub use key_set::{KeySet, KeySetError, PoolKeys};
pub use ours::published;
pub use pass::gate::Refused;
pub use pass::{Pass, PublishError};
pub use rehearse::rehearse;
pub use sinks::Bucket;
pub use verify::{Fault, FaultKind, Verification, Verified};

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::base::clock::Clock;
use crate::base::clock_watch::ClockWatch;
use crate::base::signals::Signals;
use crate::base::stopper::{Stopper, stopper};
use crate::config::{PoolConfig, PoolLive, PoolStart, PublishRole};
use crate::model::instance::InstanceId;
use crate::model::pool::PoolShape;
use crate::sign::{KeyRing, Signer};
use crate::site::folder::Site;
use crate::status_list::BaseUri;
use crate::store::{Fence, Store};
use crate::telemetry::metrics::PoolMetrics;
use lease::PublisherLease;
use sinks::{Files, Name, Sinks};
use statistics::ListCounts;

/// The time until the clock shows another second, for lists that were signed in this one.
pub const NEXT_SECOND: Duration = Duration::from_secs(1);

/// How long a stop waits for lists that were signed in this second. One second is enough unless the clock was set back.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How often to check that all files exist and are current. The first check is at the start.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// A pass that takes more beats is reported.
const BEATS_OF_A_PASS: u32 = 3;

/// Why a pass begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Beat,
    NextSecond,
    ListWanted,
    StaleFound,
    Changed,
}

/// Publishes one pool.
#[derive(Debug)]
pub struct PoolPublisher {
    shape: PoolShape,
    start: PoolStart,
    live: Arc<ArcSwap<PoolLive>>,
    changed: Notify,
    /// Asks for a comparison of all files now.
    look_wanted: Notify,
    /// A comparison found files that must be published anew.
    stale_found: Notify,
    store: Store,
    site: Site,
    base: BaseUri,
    keys: Arc<KeyRing>,
    clock: Clock,
    clock_watch: Arc<ClockWatch>,
    /// Whether an operator demands that tokens with an `iat` in the future are replaced.
    replace_future: Arc<AtomicBool>,
    metrics: Arc<PoolMetrics>,
    lease: Arc<PublisherLease>,
    /// The lease under which the latest comparison of all files began; `None` to compare them anew.
    swept: Mutex<Option<Fence>>,
    /// When the spreads were last advanced.
    advanced_at: Mutex<Option<Instant>>,
    sinks: Sinks,
    /// What the statistics count.
    counts: Arc<ListCounts>,
}

/// The parts that a publisher works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The folder of published files.
    pub site: Site,
    /// The public address of the lists.
    pub base: BaseUri,
    /// The clock.
    pub clock: Clock,
    /// Whether it can be believed.
    pub clock_watch: Arc<ClockWatch>,
    /// The id of this instance.
    pub holder: InstanceId,
    /// The role of this instance.
    pub role: PublishRole,
    /// The buckets that get copies of the files.
    pub buckets: Vec<Bucket>,
}

impl PoolPublisher {
    /// The publisher of `pool`.
    pub fn new(pool: &PoolConfig, keys: Arc<KeyRing>, metrics: Arc<PoolMetrics>, parts: Parts) -> Self {
        let Parts { store, site, base, clock, clock_watch, holder, role, buckets } = parts;
        let replace_future = Arc::new(AtomicBool::new(false));
        let PoolConfig { shape, start, live, .. } = pool.clone();
        let id = shape.id.clone();
        let lease = Arc::new(PublisherLease::new(store.clone(), id, holder, role, live.update_interval));
        let live = Arc::new(ArcSwap::from_pointee(live));
        let files = Files {
            site: site.clone(),
            base: base.clone(),
            pool: shape.id.clone(),
            formats: start.formats,
            aggregation: start.aggregation,
            live: Arc::clone(&live),
            keys: Arc::clone(&keys),
            lease: Arc::clone(&lease),
            clock: clock.clone(),
            replace_future: Arc::clone(&replace_future),
            metrics: Arc::clone(&metrics),
        };
        let sinks = Sinks::new(&buckets, &files);
        metrics.publish_checks(&Refused::CHECKS);
        metrics.freshness.set_times(live.load().update_interval, live.load().lifetimes.list_lifetime);
        let (swept, advanced_at, changed, look_wanted, stale_found, counts) = Default::default();
        Self {
            shape,
            start,
            live,
            changed,
            look_wanted,
            stale_found,
            store,
            site,
            base,
            keys,
            clock,
            clock_watch,
            replace_future,
            metrics,
            lease,
            swept,
            advanced_at,
            sinks,
            counts,
        }
    }

    /// Publishes on every beat, and new lists as soon as they are wanted, until the stop. Then publishes everything that was
    /// acknowledged, in one pass or several, and finishes with the last uploads and the last line of the statistics.
    pub async fn run(&self, signals: &Signals, stop: &Stopper) {
        let (published, all_published) = stopper();
        let publish = async {
            self.publish_until(signals, stop).await;
            published.stop();
        };
        // Beside the publishing, because a pool has many files and a disk may hang.
        let statistics = self.run_statistics(&all_published);
        tokio::join!(publish, self.look_until(stop), self.sinks.run(&all_published), statistics);
        self.release().await;
    }

    /// Compares all files with the store at once, every hour, and whenever that is wanted.
    async fn look_until(&self, stopper: &Stopper) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let looks = async {
            loop {
                tokio::select! {
                    _ = look.tick() => {}
                    () = self.look_wanted.notified() => {}
                }
                self.look().await;
            }
        };
        let _: Option<()> = stopper.until(looks).await;
    }

    async fn publish_until(&self, signals: &Signals, stopper: &Stopper) {
        let mut beat = self.beat();
        let mut waiting = false;
        let mut chain = self.keys.signer();
        let mut uploaded = self.sinks.watch_paid();
        loop {
            let next = async {
                tokio::select! {
                    biased;
                    _ = beat.tick() => Wake::Beat,
                    () = tokio::time::sleep(NEXT_SECOND), if waiting => Wake::NextSecond,
                    () = signals.list_wanted.notified() => Wake::ListWanted,
                    () = self.sinks.released(&mut uploaded) => Wake::ListWanted,
                    () = self.stale_found.notified() => Wake::StaleFound,
                    () = self.changed.notified() => Wake::Changed,
                }
            };
            let Some(wake) = stopper.until(next).await else { break };
            let begun = self.clock.now();
            if wake == Wake::Changed {
                // Its first tick comes at once: more may now be due before the next beat.
                beat = self.beat();
                continue;
            }
            let pass = self.watched(wake, self.pass(wake, signals, &mut chain)).await;
            waiting = pass.waiting > 0 || waiting && wake == Wake::ListWanted;
            self.log(&pass, self.clock.now().since(begun));
        }
        self.publish_last(signals).await;
    }

    async fn pass(&self, wake: Wake, signals: &Signals, chain: &mut Signer) -> Pass {
        match wake {
            Wake::ListWanted => self.publish_new(signals, &|_, _| ()).await,
            Wake::Beat => {
                self.look_at_certificates(chain);
                self.advance_spreads().await;
                self.publish_pending(signals, &|_, _| ()).await
            }
            _ => self.publish_pending(signals, &|_, _| ()).await,
        }
    }

    /// Waits for a pass. Reports one that takes longer than three beats: something that it needs may hang.
    async fn watched(&self, wake: Wake, pass: impl Future<Output = Pass>) -> Pass {
        let running = self.metrics.freshness.begin_pass();
        let patience = self.live.load().update_interval * BEATS_OF_A_PASS;
        let mut pass = pin!(pass);
        let pass = match tokio::time::timeout(patience, &mut pass).await {
            Ok(pass) => pass,
            Err(_) => {
                tracing::error!(
                    pool = %self.shape.id, seconds = patience.as_secs(),
                    "publishing takes long: what was acknowledged waits. Many lists may have changed at once; otherwise look at the \
                     disk of storage-directory, the store and the signing key, one of which may hang"
                );
                pass.await
            }
        };
        let is_whole =
            !pass.not_ours && pass.ended_by.is_none() && pass.failed.is_empty() && pass.waiting == 0;
        if is_whole && wake != Wake::ListWanted {
            running.complete(self.clock.now());
        }
        pass
    }

    /// Publishes what was acknowledged before a stop. Lists that were signed in this second wait for the next one.
    async fn publish_last(&self, signals: &Signals) {
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            let begun = self.clock.now();
            let pass = self.publish_pending(signals, &|_, _| ()).await;
            self.log(&pass, self.clock.now().since(begun));
            if pass.waiting == 0 {
                return;
            }
            if Instant::now() + NEXT_SECOND > deadline {
                let (pool, waiting) = (&self.shape.id, pass.waiting);
                tracing::error!(%pool, waiting, "stopped although lists wait for their next second; they are published at the next start");
                return;
            }
            tokio::time::sleep(NEXT_SECOND).await;
        }
    }

    /// From now on tokens whose `iat` lies more than a minute in the future are replaced by tokens of this second, in the folder and
    /// in buckets, although `iat` goes back by that. Only for an operator who has checked the clock.
    pub fn replace_future(&self) {
        self.replace_future.store(true, Ordering::Relaxed);
    }

    fn replaces_future(&self) -> bool {
        self.replace_future.load(Ordering::Relaxed)
    }

    /// Uploads everything that is owed. Returns how many new lists could then be settled, and how many uploads are left.
    pub async fn upload(&self, signals: &Signals, patience: Duration) -> (usize, usize) {
        self.sinks.flush(patience).await;
        let settled = self.publish_new(signals, &|_, _| ()).await.published.len();
        // The aggregation, if there are new lists.
        (settled, self.sinks.flush(patience).await)
    }

    /// Lets another instance publish the pool at once.
    pub async fn release(&self) {
        self.lease.release().await;
    }

    /// Applies other times; lists keep theirs until their next publication. Ignores other differences.
    pub fn set(&self, live: PoolLive) {
        self.lease.set_beat(live.update_interval);
        self.metrics.freshness.set_times(live.update_interval, live.lifetimes.list_lifetime);
        self.live.store(Arc::new(live));
        self.changed.notify_one();
        // They may have been switched on.
        self.counts.wake();
    }

    /// Marks the keys as owed to the buckets, because they have changed.
    pub fn keys_changed(&self) {
        self.sinks.owe([Name::Keys].into_iter());
    }

    /// Whether every bucket has the published keys. An instance that does not publish cannot know: its new keys wait until it
    /// publishes and has uploaded them.
    pub fn keys_are_uploaded(&self) -> bool {
        self.sinks.are_none() || self.lease.was_held() && !self.sinks.owes(Name::Keys)
    }

    fn beat(&self) -> Interval {
        let mut beat = tokio::time::interval(self.live.load().update_interval);
        // After a long pass the next one follows a whole beat later, so that two never fall into one second.
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat
    }

    fn log(&self, pass: &Pass, took: Duration) {
        if !pass.published.is_empty() {
            let published = pass.published.len();
            // A number of more than 64 bits would be text in a JSON line.
            let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(pool = %self.shape.id, published, duration_ms, "published");
        }
    }
}
