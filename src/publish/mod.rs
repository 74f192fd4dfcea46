//! The publisher: takes the lists that changed or are to be renewed, signs them, and writes them as static files.
//!
//! `publish_pending` is one pass; `run` loops over it on the beat, `publish --once` and the tests call it directly. It knows
//! nothing of HTTP and meets the API only in the store. Invariants: a file is replaced only by one that passed the gate; a
//! list is settled only after its files are durable, so a crash at any point leaves it pending, never a change unpublished.
//! Buckets get the same files a little later, see `sinks`.

mod aggregation;
mod finish;
mod gate;
mod history;
mod job;
mod key_set;
mod lease;
mod live;
mod pass;
mod rehearse;
mod render;
pub mod schedule;
mod sinks;
mod site;
mod spread;
pub mod sweep;

pub use gate::Refused;
pub use key_set::{KeySet, KeySetError, PoolKeys};
pub use pass::{Pass, PublishError};
pub use rehearse::rehearse;
pub use sinks::Bucket;
pub use site::{Prepared, Site, SiteError, SiteLock, Stamp, TokenFiles};

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::{Clock, Timestamp};
use crate::config::{Lifetimes, PoolConfig, PublishRole};
use crate::metrics::PoolMetrics;
use crate::sign::KeyRing;
use crate::signals::Signals;
use crate::status_list::{BaseUri, ListId};
use crate::stopper::{Stopper, stopper};
use crate::store::{Fence, InstanceId, Pending, Publication, Store, StoreError};
use job::Job;
use lease::PublisherLease;
use render::Template;
use schedule::NotNow;
use sinks::{Files, Sinks};

/// Lists whose files share one fsync of the folder and one commit. Larger saves more of both; smaller makes the first of them
/// count as published sooner, and bounds the memory.
const CHUNK: usize = 64;

/// Until the clock shows another second, for lists that were signed in this one.
pub const NEXT_SECOND: Duration = Duration::from_secs(1);

/// How often it is looked whether all files are there and as they should be, the first time at the start.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// A list whose files were put in place, what they are, and when its snapshot was asked for; or why not.
type Put = (Pending, Result<(Publication, Timestamp), PublishError>);

/// Why a pass begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Look,
    Beat,
    NextSecond,
    ListWanted,
    Changed,
}

/// Publishes one pool.
#[derive(Debug)]
pub struct PoolPublisher {
    /// The settings of the start: what never changes while the service runs.
    pool: PoolConfig,
    /// The settings of now: times and issuer may change.
    live: Arc<ArcSwap<PoolConfig>>,
    changed: Notify,
    store: Store,
    site: Site,
    base: BaseUri,
    keys: Arc<KeyRing>,
    clock: Clock,
    metrics: Arc<PoolMetrics>,
    lease: Arc<PublisherLease>,
    /// The lease under which it was looked whether all files are there.
    swept: Mutex<Option<Fence>>,
    /// When the spreads were advanced last.
    advanced_at: Mutex<Option<Instant>>,
    sinks: Sinks,
}

/// The parts that a publisher works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where the truth is.
    pub store: Store,
    /// Where the files go.
    pub site: Site,
    /// Where the world finds them.
    pub base: BaseUri,
    /// The time.
    pub clock: Clock,
    /// Who we are to the other instances.
    pub holder: InstanceId,
    /// Our part in the publishing.
    pub role: PublishRole,
    /// Where the files go besides.
    pub buckets: Vec<Bucket>,
}

impl PoolPublisher {
    /// The publisher of `pool`.
    pub fn new(pool: PoolConfig, keys: Arc<KeyRing>, metrics: Arc<PoolMetrics>, parts: Parts) -> Self {
        let Parts { store, site, base, clock, holder, role, buckets } = parts;
        let id = pool.shape.id.clone();
        let lease = Arc::new(PublisherLease::new(store.clone(), id, holder, role, pool.update_interval));
        let live = Arc::new(ArcSwap::from_pointee(pool.clone()));
        let files = Files {
            site: site.clone(),
            base: base.clone(),
            pool: pool.clone(),
            live: Arc::clone(&live),
            keys: Arc::clone(&keys),
            lease: Arc::clone(&lease),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        };
        let sinks = Sinks::new(&buckets, &files);
        let (swept, advanced_at, changed) = Default::default();
        Self {
            pool,
            live,
            changed,
            store,
            site,
            base,
            keys,
            clock,
            metrics,
            lease,
            swept,
            advanced_at,
            sinks,
        }
    }

    /// Publishes on every beat, and new lists as soon as they are wanted, until asked to stop. What was acknowledged by then is
    /// published in a last pass.
    pub async fn run(&self, signals: &Signals, stop: &Stopper) {
        let (published, all_published) = stopper();
        let publish = async {
            self.publish_until(signals, stop).await;
            published.stop();
        };
        tokio::join!(publish, self.sinks.run(&all_published));
        self.release().await;
    }

    async fn publish_until(&self, signals: &Signals, stopper: &Stopper) {
        let mut beat = self.beat();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = false;
        let mut uploaded = self.sinks.watch_paid();
        loop {
            let next = async {
                tokio::select! {
                    biased;
                    _ = look.tick() => Wake::Look,
                    _ = beat.tick() => Wake::Beat,
                    () = tokio::time::sleep(NEXT_SECOND), if waiting => Wake::NextSecond,
                    () = signals.list_wanted.notified() => Wake::ListWanted,
                    () = self.sinks.released(&mut uploaded) => Wake::ListWanted,
                    () = self.changed.notified() => Wake::Changed,
                }
            };
            let Some(wake) = stopper.until(next).await else { break };
            let begun = self.clock.now();
            let pass = match wake {
                Wake::Look => {
                    self.look().await;
                    continue;
                }
                Wake::Changed => {
                    // Its first tick comes at once: what is due before the next beat may be more than it was.
                    beat = self.beat();
                    continue;
                }
                Wake::Beat => {
                    self.advance_spreads().await;
                    self.publish_pending(signals, &|_, _| ()).await
                }
                Wake::NextSecond => self.publish_pending(signals, &|_, _| ()).await,
                Wake::ListWanted => self.publish_new(signals, &|_, _| ()).await,
            };
            waiting = pass.waiting > 0 || waiting && wake == Wake::ListWanted;
            self.log(&pass, self.clock.now().since(begun));
        }
        self.publish_pending(signals, &|_, _| ()).await;
    }

    /// Uploads everything that is owed; answers how many new lists could be settled by that, and how many uploads are left.
    pub async fn upload(&self, signals: &Signals, patience: Duration) -> (usize, usize) {
        self.sinks.flush(patience).await;
        let settled = self.publish_new(signals, &|_, _| ()).await.published.len();
        // The aggregation, if there are new lists.
        (settled, self.sinks.flush(patience).await)
    }

    /// Lets another instance publish the pool at once.
    pub async fn release(&self) {
        self.lease.release(self.clock.now()).await;
    }

    fn swept(&self) -> MutexGuard<'_, Option<Fence>> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes lists due whose files are not as they should be, and writes the aggregation; if it is ours to publish.
    pub async fn look(&self) {
        match self.lease.take(self.clock.now()).await {
            Ok(Some(fence)) => self.look_as_publisher(fence).await,
            Ok(None) => {}
            Err(error) => {
                tracing::error!(pool = %self.pool.shape.id, %error, "cannot take the right to publish")
            }
        }
    }

    async fn look_as_publisher(&self, fence: Fence) {
        match self.sweep(self.clock.now()).await {
            Ok(stale) => {
                *self.swept() = Some(fence);
                if stale > 0 {
                    tracing::warn!(pool = %self.pool.shape.id, stale, "files are missing or out of date; publishing them anew");
                }
            }
            Err(error) => {
                tracing::error!(pool = %self.pool.shape.id, %error, "cannot look through the published files")
            }
        }
        self.write_aggregation().await;
        match self.store.lists(&self.pool.shape.id).await {
            Ok(lists) => {
                let published = lists.iter().filter(|list| list.published.is_some());
                self.sinks.compare(published.map(|list| list.id));
            }
            Err(error) => tracing::error!(pool = %self.pool.shape.id, %error, "cannot compare the buckets"),
        }
    }

    /// One pass: everything that changed, is new, or is to be renewed before the next beat. `progress` hears how many of how many are done.
    pub async fn publish_pending(&self, signals: &Signals, progress: &(dyn Fn(usize, usize) + Sync)) -> Pass {
        let now = self.clock.now();
        let pool = &self.pool.shape.id;
        let pending = async {
            let Some(fence) = self.lease.take(now).await? else { return Ok(None) };
            if *self.swept() != Some(fence) {
                // Whoever published before us may have left files unfinished, or had a folder of its own.
                self.look_as_publisher(fence).await;
            }
            let mut pending = self.store.dirty(pool).await?;
            let oldest = pending.iter().filter_map(|list| list.since).min();
            let age = oldest.map_or(0, |oldest| now.since(Timestamp::from_millis(oldest)).as_secs());
            self.metrics.oldest_unpublished.set(i64::try_from(age).unwrap_or(i64::MAX));
            let due = self.store.due(pool, schedule::due_by(now, self.live.load().update_interval)).await?;
            let dirty: HashSet<_> = pending.iter().map(|list| list.list).collect();
            pending.extend(due.into_iter().filter(|list| !dirty.contains(&list.list)));
            if let Some(renewal) = self.store.next_due(pool).await? {
                // Never later than what is true: a list is renewed as long before its end at least.
                let Lifetimes { list_lifetime, resign_after, .. } = self.live.load().lifetimes;
                let until = renewal.plus(list_lifetime - resign_after).secs();
                self.metrics.tokens_valid_until.set(i64::try_from(until).unwrap_or(i64::MAX));
            }
            // New lists first: references wait for them, maybe in another instance.
            pending.sort_by_key(|list| list.published.is_some());
            Ok(Some(pending))
        };
        self.publish(pending.await, signals, progress).await
    }

    /// Only lists that were never published, whose `uri` must answer before it is handed out.
    pub async fn publish_new(&self, signals: &Signals, progress: &(dyn Fn(usize, usize) + Sync)) -> Pass {
        let due = self.store.due(&self.pool.shape.id, Timestamp::from_secs(0)).await;
        let new = due.map(|due| Some(due.into_iter().filter(|list| list.published.is_none()).collect()));
        self.publish(new, signals, progress).await
    }

    /// Publishes what is pending; `None` where another instance does.
    async fn publish(
        &self,
        pending: Result<Option<Vec<Pending>>, StoreError>,
        signals: &Signals,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Pass {
        let mut pass = Pass::default();
        let mut pending = match pending {
            Ok(Some(pending)) => pending,
            Ok(None) => {
                self.sinks.forget();
                return Pass { not_ours: true, ..pass };
            }
            Err(error) => {
                tracing::error!(pool = %self.pool.shape.id, %error, "cannot ask the store what to publish");
                self.metrics.publish_failed.inc();
                pass.ended_by = Some(error.into());
                return pass;
            }
        };
        let never_published = pending.iter().filter(|list| list.published.is_none());
        let changed = never_published.chain(pending.iter().filter(|list| list.retired));
        let new: HashSet<_> = changed.map(|list| list.list).collect();
        let uploaded = self.sinks.release(&mut pending);
        if !uploaded.is_empty()
            && let Some(fence) = self.fence(&mut pass).await
        {
            self.settle(uploaded, fence, &mut pass).await;
        }
        let mut done = 0;
        for chunk in pending.chunks(CHUNK) {
            let Some(fence) = self.fence(&mut pass).await else { return pass };
            self.publish_chunk(chunk, fence, &mut pass).await;
            done += chunk.len();
            progress(done, pending.len());
        }
        if pass.published.iter().any(|list| new.contains(list)) {
            self.write_aggregation().await;
            signals.list_published();
        }
        pass
    }

    /// The number of our right to publish; `None`, with the reason noted in `pass`, if it is not ours.
    async fn fence(&self, pass: &mut Pass) -> Option<Fence> {
        match self.lease.take(self.clock.now()).await {
            Ok(Some(fence)) => return Some(fence),
            Ok(None) => {
                self.sinks.forget();
                pass.not_ours = true;
            }
            Err(error) => {
                tracing::error!(pool = %self.pool.shape.id, %error, "cannot take the right to publish");
                self.metrics.publish_failed.inc();
                pass.ended_by = Some(error.into());
            }
        }
        None
    }

    async fn publish_chunk(&self, chunk: &[Pending], fence: Fence, pass: &mut Pass) {
        let mut ready = Vec::with_capacity(chunk.len());
        let mut renders = JoinSet::new();
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get) * 2;
        let mut left = chunk.iter();
        loop {
            while renders.len() < threads
                && let Some(pending) = left.next()
            {
                renders.spawn(self.job(*pending).run());
            }
            match renders.join_next().await {
                Some(Ok((_, Ok(list)))) => ready.push(list),
                Some(Ok((pending, Err(error)))) => self.note_failure(pass, pending.list, error),
                Some(Err(error)) => {
                    tracing::error!(pool = %self.pool.shape.id, %error, "a publishing task ended early");
                    pass.ended_by = Some(PublishError::Interrupted(error.to_string()));
                }
                None => break,
            }
        }
        if ready.is_empty() {
            return;
        }
        match self.put_in_place(ready, fence).await {
            Ok(put) => self.settle(self.sinks.accept(put).await, fence, pass).await,
            Err(error) => {
                tracing::error!(pool = %self.pool.shape.id, %error, "the lists are not published, or not for sure; trying again at the next beat");
                self.metrics.publish_failed.inc();
                pass.ended_by = Some(error);
            }
        }
    }

    /// Counts and logs why a list is not published.
    fn note_failure(&self, pass: &mut Pass, list: ListId, error: PublishError) {
        if let PublishError::NotNow(NotNow::SameSecond) = error {
            pass.waiting += 1;
            return;
        }
        self.metrics.publish_failed.inc();
        if let PublishError::Refused(refused) = &error {
            self.metrics.publish_refused(refused.check());
        }
        tracing::error!(pool = %self.pool.shape.id, list.id = %list, %error, "list not published; its old token stays");
        pass.failed.push((list, error));
    }

    fn log(&self, pass: &Pass, took: Duration) {
        if !pass.published.is_empty() {
            let (published, duration_ms) = (pass.published.len(), took.as_millis());
            tracing::info!(pool = %self.pool.shape.id, published, duration_ms, "published");
        }
    }

    fn job(&self, pending: Pending) -> Job {
        let pool = PoolConfig::clone(&self.live.load());
        Job {
            pending,
            store: self.store.clone(),
            site: self.site.clone(),
            uri: self.base.join(&pending.list),
            keys: Arc::clone(&self.keys),
            metrics: Arc::clone(&self.metrics),
            template: Template::of(&pool, &self.base),
            pool,
            now: self.clock.now(),
        }
    }
}
