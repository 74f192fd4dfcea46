//! References that were never handed out before.
//!
//! Positions of a list's order are leased durably in blocks and only then turned into references in memory; a request takes
//! from there. A crash skips what was in memory (those entries become decoys), a graceful stop gives it back.
//! Invariant: a reference leaves this folder at most once, and only after its list's `uri` answers.

mod buffer;
mod permutation;

pub use buffer::Allocated;
pub use permutation::Permutation;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::Clock;
use crate::config::{OnUnderflow, PoolConfig};
use crate::metrics::PoolMetrics;
use crate::pool::PoolId;
use crate::signals::Signals;
use crate::stopper::Stopper;
use crate::store::{OpenList, Store, StoreError};
use buffer::Buffer;

/// How long to wait before the store is asked again after it failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Gives references of one pool.
#[derive(Debug)]
pub struct Allocator {
    pool: PoolId,
    list_entries: u32,
    settings: Settings,
    buffer: Mutex<Buffer>,
    /// Waiting requests hear of new references.
    refilled: Notify,
    /// The refilling task hears that few are left.
    wanted: Notify,
    metrics: Arc<PoolMetrics>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    capacity: usize,
    threshold: usize,
    on_underflow: OnUnderflow,
    open_lists: usize,
    spare_lists: usize,
    check_delay: Duration,
}

/// Whether to wait for the first publication of new lists, so that references are mixed over as many as the pool is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Wait,
    /// It has been long enough: better references of fewer lists than none.
    Over,
}

/// Too few references are in memory, and the pool is set to say so at once.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no references are ready")]
pub struct Underflow;

impl Allocator {
    /// An empty allocator; [`run`](Self::run) fills it.
    pub fn new(pool: &PoolConfig, metrics: Arc<PoolMetrics>) -> Self {
        Self {
            pool: pool.shape.id.clone(),
            list_entries: pool.shape.capacity.entries(),
            settings: Settings {
                capacity: pool.prefetch.capacity as usize,
                threshold: pool.prefetch.threshold as usize,
                on_underflow: pool.prefetch.on_underflow,
                open_lists: pool.open_lists,
                spare_lists: pool.precreation.lists,
                check_delay: pool.precreation.check_delay,
            },
            buffer: Mutex::default(),
            refilled: Notify::new(),
            wanted: Notify::new(),
            metrics,
        }
    }

    /// `amount` references. Waits for them if the pool is set to; dropping the future loses nothing.
    pub async fn allocate(&self, amount: usize) -> Result<Vec<Allocated>, Underflow> {
        let mut taken = Taken { allocator: self, references: Vec::new() };
        loop {
            // Registered before looking, so that a refill in between is not missed.
            let refilled = self.refilled.notified();
            tokio::pin!(refilled);
            refilled.as_mut().enable();
            let left = {
                let mut buffer = self.buffer();
                let available = buffer.len();
                if self.settings.on_underflow == OnUnderflow::Delay || available >= amount {
                    let missing = amount - taken.references.len();
                    taken.references.append(&mut buffer.take(missing));
                }
                buffer.len()
            };
            let complete = taken.references.len() == amount;
            if left < self.settings.threshold || !complete {
                self.wanted.notify_one();
            }
            if complete {
                self.metrics.references_issued.inc_by(amount as u64);
                return Ok(std::mem::take(&mut taken.references));
            }
            self.metrics.buffer_underflows.inc();
            if self.settings.on_underflow == OnUnderflow::Fail {
                return Err(Underflow);
            }
            refilled.await;
        }
    }

    /// How many references are in memory.
    pub fn ready(&self) -> usize {
        self.buffer().len()
    }

    /// Keeps the buffer full and lists ready until asked to stop; then gives back what nobody has.
    pub async fn run(&self, store: &Store, signals: &Signals, clock: &Clock, stopper: &Stopper) {
        let mut published = signals.watch_published();
        let mut check =
            tokio::time::interval_at(Instant::now() + self.settings.check_delay, self.settings.check_delay);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut patience = Patience::Wait;
        loop {
            if let Err(error) = self.refill(store, signals, clock, patience).await {
                tracing::warn!(pool = %self.pool, %error, "cannot refill the references; trying again");
                if stopper.until(tokio::time::sleep(RETRY_AFTER)).await.is_none() {
                    break;
                }
                continue;
            }
            let next = async {
                tokio::select! {
                    () = self.wanted.notified() => Patience::Wait,
                    _ = check.tick() => Patience::Over,
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

    /// Leases blocks until the buffer is full or no published list has any left, and opens lists where they are too few.
    async fn refill(
        &self,
        store: &Store,
        signals: &Signals,
        clock: &Clock,
        patience: Patience,
    ) -> Result<(), StoreError> {
        loop {
            let open = store.open_lists(&self.pool).await?;
            let wanted_lists = self.settings.open_lists + self.settings.spare_lists;
            for _ in open.len()..wanted_lists {
                let list = store.open_list(&self.pool, clock.now()).await?;
                tracing::info!(pool = %self.pool, list.id = %list, "opened a list");
                signals.list_wanted.notify_one();
            }
            let mixed = self.settings.open_lists.min(open.len());
            let missing = self.settings.capacity.saturating_sub(self.ready());
            let published: Vec<_> =
                open.into_iter().filter(|list| list.published).take(self.settings.open_lists).collect();
            let too_few = published.len() < mixed && patience == Patience::Wait;
            if missing == 0
                || published.is_empty()
                || too_few
                || !self.lease(store, &published, missing).await?
            {
                return Ok(());
            }
        }
    }

    /// Leases an equal share of `missing` from each list; answers whether there was anything.
    async fn lease(&self, store: &Store, lists: &[OpenList], missing: usize) -> Result<bool, StoreError> {
        let share = u32::try_from(missing.div_ceil(lists.len())).unwrap_or(u32::MAX);
        // Asked for together, so that they share a commit.
        let leases: Vec<_> = lists
            .iter()
            .map(|list| {
                let (store, list) = (store.clone(), list.id);
                tokio::spawn(async move { store.lease_block(list, share).await })
            })
            .collect();
        let mut blocks = Vec::with_capacity(leases.len());
        let mut failed = None;
        for lease in leases {
            match lease.await.expect("leasing does not panic, and nobody aborts it") {
                Ok(block) => blocks.extend(block),
                Err(error) => failed = Some(error),
            }
        }
        let any = !blocks.is_empty();
        let mut seed = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut seed)
            .map_err(|_| StoreError::Unavailable("no random numbers".to_owned()))?;
        let mixed = buffer::mix(&blocks, self.list_entries, seed);
        self.buffer().add(mixed, blocks);
        self.refilled.notify_waiters();
        failed.map_or(Ok(any), Err)
    }

    async fn return_tails(&self, store: &Store) {
        let mut returns = JoinSet::new();
        for (block, from) in self.buffer().drain_tails() {
            let store = store.clone();
            // Asked for together, so that they share a commit.
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
        // Nothing that runs under this lock panics halfway through a change.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a waiting request has so far; given back if it gives up.
struct Taken<'a> {
    allocator: &'a Allocator,
    references: Vec<Allocated>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.references.is_empty() {
            let references = std::mem::take(&mut self.references);
            self.allocator.buffer().put_back(references);
            self.allocator.refilled.notify_waiters();
        }
    }
}
