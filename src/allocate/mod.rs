//! References that were never handed out before.
//!
//! Leases positions of a list's order durably in blocks, and only then turns them into references in memory, where requests
//! take them. A crash skips the references in memory (those entries become decoys); a graceful stop gives them back.
//! Invariant: a reference leaves this folder at most once, and only after its list's `uri` answers.

mod answer;
mod buffer;
mod handed_out;
mod marks;
mod opening;
mod settings;
mod taken;

pub use buffer::Allocated;
pub use handed_out::HandedOut;
pub use marks::{Marks, MarksError};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::base::blocking::blocking;
use crate::base::clock::Clock;
use crate::base::signals::Signals;
use crate::base::stopper::Stopper;
use crate::config::{OnUnderflow, PoolConfig, PoolLive};
use crate::model::instance::InstanceId;
use crate::model::pool::PoolId;
use crate::status_list::ListId;
use crate::store::{Block, Lease, Leased, OpenList, Store, StoreError};
use crate::telemetry::metrics::PoolMetrics;
use buffer::Buffer;
use opening::Opening;
use settings::Settings;
use taken::Taken;

/// The wait before the next try after the store failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The same if the store is damaged: only an operator can repair that.
const RETRY_DAMAGED_AFTER: Duration = Duration::from_secs(60);
/// How often to check whether another instance has published our new lists.
const PUBLISHED_POLL: Duration = Duration::from_secs(1);

/// Hands out references of one pool.
#[derive(Debug)]
pub struct Allocator {
    pool: PoolId,
    list_entries: u32,
    /// How often the number of lists is checked.
    check_delay: Duration,
    settings: ArcSwap<Settings>,
    /// The instance that owns these references.
    owner: InstanceId,
    /// `None` disables the check for a store that lost data: the negative control of the tests.
    marks: Option<Arc<Mutex<Marks>>>,
    buffer: Mutex<Buffer>,
    /// Tells waiting requests of new references.
    refilled: Notify,
    /// Tells the refilling task that few references are left.
    wanted: Notify,
    opening: Opening,
    metrics: Arc<PoolMetrics>,
}

/// Whether to wait for the first publication of new lists, so that references are mixed over as many lists as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Wait,
    /// It has waited long enough: references of fewer lists are better than none.
    Over,
}

/// Why no more references could be leased.
#[derive(Debug, Error)]
enum RefillError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Marks(#[from] MarksError),
}

/// Whether the store was compared with the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    No,
    Yes,
    /// The store failed since then. Leases are compared anyway, so this only needs to find lists that are missing
    /// altogether.
    Doubtful,
}

/// The result of a refill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refilled {
    Full,
    /// New lists are still to be published, possibly by another instance.
    AwaitsPublication,
}

/// Why a request gets no references.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotAllocated {
    /// Too few are in memory, and the pool is set to fail at once.
    #[error("no references are ready")]
    Underflow,
    /// Too few are left in the pool's lists, and it has as many lists as it may have.
    #[error(
        "the pool has {lists} lists, as many as its quotas.lists allows, and too few references are left in them"
    )]
    TooManyLists {
        /// The most lists of the pool.
        lists: u64,
    },
}

impl Allocator {
    /// An empty allocator of this instance. [`run`](Self::run) fills it.
    pub fn new(
        pool: &PoolConfig,
        owner: InstanceId,
        marks: Option<Marks>,
        metrics: Arc<PoolMetrics>,
    ) -> Self {
        metrics.lists_max.set(opening::gauge(pool.live.quotas.lists));
        Self {
            pool: pool.shape.id.clone(),
            list_entries: pool.shape.capacity.entries(),
            check_delay: pool.start.check_delay,
            settings: ArcSwap::from_pointee(Settings::of(&pool.live)),
            owner,
            marks: marks.map(|marks| Arc::new(Mutex::new(marks))),
            buffer: Mutex::default(),
            refilled: Notify::new(),
            wanted: Notify::new(),
            opening: Opening::default(),
            metrics,
        }
    }

    /// Applies a new buffer size and numbers of lists. The interval of checks stays.
    pub fn set(&self, live: &PoolLive) {
        self.metrics.lists_max.set(opening::gauge(live.quotas.lists));
        self.settings.store(Arc::new(Settings::of(live)));
        self.wanted.notify_one();
    }

    fn settings(&self) -> Settings {
        **self.settings.load()
    }

    /// Returns `amount` references. Waits for them if the pool is set to; a dropped future loses none.
    pub async fn allocate(&self, amount: usize) -> Result<Vec<Allocated>, NotAllocated> {
        let mut taken = Taken { allocator: self, references: Vec::new() };
        let mut underflow = None;
        loop {
            // Created before the check, so that it notices a refill in between.
            let refilled = self.refilled.notified();
            let settings = self.settings();
            let left = {
                let mut buffer = self.buffer();
                let available = buffer.len();
                if settings.on_underflow == OnUnderflow::Delay || available >= amount {
                    let missing = amount - taken.references.len();
                    taken.references.append(&mut buffer.take(missing));
                }
                buffer.len()
            };
            self.metrics.references_ready.set(left as i64);
            let complete = taken.references.len() == amount;
            if left < settings.threshold || !complete {
                self.wanted.notify_one();
            }
            if complete {
                self.metrics.references_issued.inc_by(amount as u64);
                return Ok(std::mem::take(&mut taken.references));
            }
            // A request counts once, however often it wakes up.
            underflow.get_or_insert_with(|| self.metrics.buffer_underflows.inc());
            if self.opening.is_at_its_end() {
                return Err(NotAllocated::TooManyLists { lists: settings.lists_max });
            }
            if settings.on_underflow == OnUnderflow::Fail {
                return Err(NotAllocated::Underflow);
            }
            refilled.await;
        }
    }

    /// Takes back references from [`allocate`](Self::allocate) that nobody has seen. The metric still counts them.
    pub fn give_back(&self, unseen: Vec<Allocated>) {
        self.buffer().put_back(unseen);
        self.refilled.notify_waiters();
    }

    /// Stops handing out references of a sealed list. Other instances notice the seal by themselves, a moment later.
    pub fn forget(&self, list: &ListId) {
        self.buffer().forget(list);
    }

    /// The number of references in memory.
    pub fn ready(&self) -> usize {
        self.buffer().len()
    }

    /// Keeps the buffer full and lists ready until the stop, then gives back what was not handed out.
    pub async fn run(&self, store: &Store, signals: &Signals, clock: &Clock, stopper: &Stopper) {
        let mut published = signals.watch_published();
        let mut check = tokio::time::interval_at(Instant::now() + self.check_delay, self.check_delay);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut patience = Patience::Wait;
        let mut compared = Compared::No;
        loop {
            let refilled = async {
                match compared {
                    Compared::No => self.compare_with_marks(store).await?,
                    Compared::Doubtful => self.check_buffered_lists(store, &[]).await?,
                    Compared::Yes => {}
                }
                compared = Compared::Yes;
                self.refill(store, signals, clock, patience).await
            };
            let awaits = match refilled.await {
                Ok(refilled) => refilled == Refilled::AwaitsPublication,
                Err(error) => {
                    let pause = match error {
                        RefillError::Store(StoreError::Damaged(_)) => RETRY_DAMAGED_AFTER,
                        _ => RETRY_AFTER,
                    };
                    tracing::warn!(pool = %self.pool, %error, retry_secs = pause.as_secs_f64(), "cannot refill the references; retrying");
                    // After a failure the store may be another server, or the same one with older data.
                    if compared == Compared::Yes {
                        compared = Compared::Doubtful;
                    }
                    if stopper.until(tokio::time::sleep(pause)).await.is_none() {
                        break;
                    }
                    continue;
                }
            };
            let next = async {
                tokio::select! {
                    // In one order, so that a simulation is the same again; the rarest first, so that none is starved.
                    biased;
                    _ = check.tick() => Patience::Over,
                    () = self.wanted.notified() => Patience::Wait,
                    () = tokio::time::sleep(PUBLISHED_POLL), if awaits => patience,
                    changed = published.changed() => {
                        changed.expect("the signals outlive the allocator's run");
                        Patience::Wait
                    }
                }
            };
            let Some(woken) = stopper.until(next).await else { break };
            patience = woken;
        }
        self.return_tails(store).await;
    }

    /// Leases blocks until the buffer is full or the published lists are exhausted, and opens lists if there are too few.
    async fn refill(
        &self,
        store: &Store,
        signals: &Signals,
        clock: &Clock,
        patience: Patience,
    ) -> Result<Refilled, RefillError> {
        let mut filled = false;
        loop {
            let open = store.open_lists(&self.pool, &self.owner).await?;
            if patience == Patience::Over {
                self.check_buffered_lists(store, &open).await?;
            }
            let Settings { capacity, threshold, open_lists, spare_lists, .. } = self.settings();
            let wanted_lists = open_lists + spare_lists;
            let opened = self.open_missing(store, signals, clock, wanted_lists, open.len()).await?;
            let left = open.iter().map(|list| i64::from(self.list_entries) - i64::from(list.leased));
            self.metrics.references_free.set(left.sum());
            let (mixed, none_open) = (open_lists.min(open.len()), open.len() + opened == 0);
            let unpublished = opened > 0 || open.iter().any(|list| !list.published);
            let missing = match self.ready() {
                // References taken while the buffer was filled do not justify another commit.
                ready if filled && ready >= threshold => 0,
                ready => capacity.saturating_sub(ready),
            };
            let published: Vec<_> = open.into_iter().filter(|list| list.published).take(open_lists).collect();
            let too_few = published.len() < mixed && patience == Patience::Wait;
            let idle = missing == 0 || published.is_empty() || too_few;
            let leased = if idle { 0 } else { self.lease(store, clock, &published, missing).await? };
            if leased == 0 {
                self.note_end(none_open);
                return Ok(if unpublished { Refilled::AwaitsPublication } else { Refilled::Full });
            }
            filled = leased >= missing;
        }
    }

    /// Leases an equal share of `missing` from each list. Returns how many references it leased.
    async fn lease(
        &self,
        store: &Store,
        clock: &Clock,
        lists: &[OpenList],
        missing: usize,
    ) -> Result<usize, RefillError> {
        let now = clock.now();
        self.buffer().begin_lease();
        let share = u32::try_from(missing.div_ceil(lists.len())).unwrap_or(u32::MAX);
        // Leased concurrently, so that the leases share a commit.
        let leases: Vec<_> = lists
            .iter()
            .map(|list| {
                let (store, list, owner) = (store.clone(), list.id, self.owner.clone());
                let mark = self.mark_of(&list);
                let lease = async move { store.lease_block(list, share, &owner, mark, now).await };
                (list, mark, tokio::spawn(lease))
            })
            .collect();
        let mut blocks = Vec::with_capacity(leases.len());
        let mut failed = None;
        for (list, mark, lease) in leases {
            match lease.await.expect("leasing does not panic, and nobody aborts it") {
                Ok(Leased::Block(block)) => blocks.push(block),
                Ok(Leased::Nothing) => {}
                Ok(Leased::Behind { lease }) => self.give_up(store, list, mark, Some(lease)).await?,
                Err(error) => failed = Some(error),
            }
        }
        let leased = blocks.iter().map(|block| block.positions.len()).sum();
        self.raise_marks(&blocks).await?;
        let mixed = buffer::mix(&blocks, self.list_entries, now);
        let ready = {
            let mut buffer = self.buffer();
            buffer.add(mixed, blocks);
            buffer.len()
        };
        self.metrics.references_ready.set(ready as i64);
        self.refilled.notify_waiters();
        failed.map_or(Ok(leased), |error| Err(error.into()))
    }

    /// Compares the store with the marks, and gives up lists whose references it would hand out again.
    async fn compare_with_marks(&self, store: &Store) -> Result<(), RefillError> {
        let Some(marks) = &self.marks else { return Ok(()) };
        let marks: Vec<_> = marks.lock().iter().collect();
        if marks.is_empty() {
            return Ok(());
        }
        let known: HashMap<_, _> =
            store.lists(&self.pool).await?.into_iter().map(|list| (list.id, list)).collect();
        for (list, mark) in marks {
            match known.get(&list) {
                None => self.give_up(store, list, mark, None).await?,
                Some(record) if record.lease < mark && record.open => {
                    self.give_up(store, list, mark, Some(record.lease)).await?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Ends allocation from a list whose leases the store lost, with a loud log line.
    async fn give_up(
        &self,
        store: &Store,
        list: ListId,
        mark: Lease,
        found: Option<Lease>,
    ) -> Result<(), StoreError> {
        self.metrics.lists_behind.inc();
        self.buffer().forget(&list);
        match found {
            Some(found) => {
                tracing::error!(
                    pool = %self.pool, list.id = %list, lease = found.0, expected = mark.0,
                    "THE STORE LOST DATA: it would hand out references of this list again; sealing the list. \
                     Updates since its last good state may be lost as well: see docs/OPERATIONS.md, \"When the store lost data\""
                );
                store.seal_list(list).await
            }
            None => {
                tracing::error!(
                    pool = %self.pool, list.id = %list, expected = mark.0,
                    "THE STORE LOST DATA: it does not know this list, whose references were handed out; \
                     their statuses cannot be updated: see docs/OPERATIONS.md, \"When the store lost data\""
                );
                Ok(())
            }
        }
    }

    /// Drops buffered references of lists that were sealed or lost since their lease. Skips the lists in `open`.
    async fn check_buffered_lists(&self, store: &Store, open: &[OpenList]) -> Result<(), StoreError> {
        let mut others = self.buffer().lists();
        others.retain(|list| open.iter().all(|open| open.id != *list));
        for list in others {
            match store.list(list).await? {
                Some(record) if record.sealed => self.buffer().forget(&list),
                Some(_) => {}
                None => self.give_up(store, list, self.mark_of(&list), None).await?,
            }
        }
        Ok(())
    }

    fn mark_of(&self, list: &ListId) -> Lease {
        let of = |marks: &Arc<Mutex<Marks>>| marks.lock().of(list);
        self.marks.as_ref().map_or(Lease::default(), of)
    }

    /// Raises the marks of these leases durably, before a reference of them is handed out.
    async fn raise_marks(&self, blocks: &[Block]) -> Result<(), MarksError> {
        let Some(marks) = self.marks.clone().filter(|_| !blocks.is_empty()) else { return Ok(()) };
        let raised: Vec<_> = blocks.iter().map(|block| (block.list, block.lease)).collect();
        let raise = move || marks.lock().raise(&raised);
        blocking(raise).await.expect("raising marks does not panic, and nobody aborts it")
    }

    async fn return_tails(&self, store: &Store) {
        let mut returns = JoinSet::new();
        for (block, from) in self.buffer().drain_tails() {
            let store = store.clone();
            // Returned concurrently, so that they share a commit.
            returns.spawn(async move {
                match store.return_tail(&block, from).await {
                    Ok(returned) => tracing::debug!(list.id = %block.list, from, returned, "gave references back"),
                    Err(error) => {
                        tracing::warn!(list.id = %block.list, %error, "could not give references back; they stay unused");
                    }
                }
            });
        }
        returns.join_all().await;
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // Nothing that runs under this lock panics in the middle of a change.
        self.buffer.lock()
    }
}
