//! One pass: takes what is pending, runs a job for each list, puts the files in place and settles the lists in the store.
//!
//! `publish_pending` may be called at any time and as often as needed; what a pass does not finish stays pending.

pub(super) mod gate;
pub(super) mod job;
mod render;
pub mod schedule;
mod settle;

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PoolPublisher;
use crate::base::clock::Timestamp;
use crate::base::clock_watch::Implausible;
use crate::base::signals::Signals;
use crate::config::Lifetimes;
use crate::sign::SignError;
use crate::site::folder::SiteError;
use crate::status_list::ListId;
use crate::store::{Fence, Pending, Publication, StoreError};
use gate::Refused;
use job::{Job, Ready};
use render::Template;
use schedule::NotNow;

/// Lists whose files share one fsync of the folder and one commit. Larger saves more of both; smaller makes the first of them
/// count as published sooner, and bounds the memory.
const CHUNK: usize = 64;

/// How long prepared lists wait for others of their chunk. Longer saves an fsync and a commit; shorter keeps a large list from
/// delaying the others.
const SLOW: Duration = Duration::from_millis(100);

/// How many lists of a pool are prepared at a time if another service signs them: that is mostly waiting, so the cores do not count.
/// More sooner ends a pass; fewer are gentler to the service, and bound the memory.
const JOBS_ELSEWHERE: usize = 8;

/// A list whose files were put in place, its publication, and when its snapshot was requested; or the reason for a failure.
pub(super) type Put = (Pending, Result<(Publication, Timestamp), PublishError>);

/// The result of one pass.
#[derive(Debug, Default)]
pub struct Pass {
    /// Lists that were signed and written.
    pub published: Vec<ListId>,
    /// Lists that wait for the next second of the clock.
    pub waiting: usize,
    /// Lists that stay as they were, and why; the next beat retries them.
    pub failed: Vec<(ListId, PublishError)>,
    /// Whether another instance publishes this pool.
    pub not_ours: bool,
    /// Why the pass ended early, if it did.
    pub ended_by: Option<PublishError>,
}

/// Why a list was not published. Its old file stays, and it stays pending.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A file could not be read or written.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The gate refused it.
    #[error("refused by the gate: {0}")]
    Refused(#[from] Refused),
    /// Another instance replaced the list's files in between.
    #[error("another instance published the list in the meantime")]
    Overtaken,
    /// The time does not allow it; see [`NotNow`].
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// The clock cannot be believed.
    #[error(transparent)]
    Clock(#[from] Implausible),
    /// A thread ended early; only at a stop.
    #[error("interrupted: {0}")]
    Interrupted(String),
}

impl PoolPublisher {
    /// Runs one pass: publishes everything that changed, is new, or must be renewed before the next beat. `progress` gets the number
    /// of lists that are done, and of all lists.
    pub async fn publish_pending(&self, signals: &Signals, progress: &(dyn Fn(usize, usize) + Sync)) -> Pass {
        let now = match self.believed_now() {
            Ok(now) => now,
            Err(error) => return self.wait_for_clock(error).await,
        };
        let pool = &self.shape.id;
        let pending = async {
            let Some(fence) = self.lease.take(now).await? else { return Ok(None) };
            if self.swept().replace(fence) != Some(fence) {
                // The publisher before us may have left files unfinished, or had a folder of its own.
                self.look_wanted.notify_one();
            }
            let mut pending = self.store.dirty(pool).await?;
            let oldest = pending.iter().filter_map(|list| list.since).min();
            self.metrics.freshness.note_unpublished(oldest);
            let due = self.store.due(pool, schedule::due_by(now, self.live.load().update_interval)).await?;
            let dirty: HashSet<_> = pending.iter().map(|list| list.list).collect();
            pending.extend(due.into_iter().filter(|list| !dirty.contains(&list.list)));
            if let Some(renewal) = self.store.next_due(pool).await? {
                // An earlier time than necessary: every list is renewed at least this long before its end.
                let Lifetimes { list_lifetime, resign_after, .. } = self.live.load().lifetimes;
                let until = renewal.plus(list_lifetime - resign_after).date();
                self.metrics.freshness.note_valid_until(until);
            }
            // New lists first: references wait for them, perhaps in another instance.
            pending.sort_by_key(|list| list.published.is_some());
            Ok(Some(pending))
        };
        self.publish(pending.await, signals, progress).await
    }

    /// Publishes only lists that were never published: their `uri` must be published before it is handed out.
    pub async fn publish_new(&self, signals: &Signals, progress: &(dyn Fn(usize, usize) + Sync)) -> Pass {
        if let Err(error) = self.believed_now() {
            return self.wait_for_clock(error).await;
        }
        let due = self.store.due(&self.shape.id, Timestamp::from_secs(0)).await;
        let new = due.map(|due| Some(due.into_iter().filter(|list| list.published.is_none()).collect()));
        self.publish(new, signals, progress).await
    }

    /// Publishes what is pending; `None` if another instance publishes the pool.
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
                tracing::error!(pool = %self.shape.id, %error, "cannot query the store for lists to publish");
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
        if !pass.published.is_empty() {
            self.counts.wake();
        }
        if pass.published.iter().any(|list| new.contains(list)) {
            self.write_aggregation().await;
            signals.list_published();
        }
        pass
    }

    /// Returns the fence of our lease to publish; `None`, with the reason noted in `pass`, if we do not hold it.
    async fn fence(&self, pass: &mut Pass) -> Option<Fence> {
        match self.lease.take(self.clock.now()).await {
            Ok(Some(fence)) => return Some(fence),
            Ok(None) => {
                self.sinks.forget();
                pass.not_ours = true;
            }
            Err(error) => {
                tracing::error!(pool = %self.shape.id, %error, "cannot take the lease to publish");
                self.metrics.publish_failed.inc();
                pass.ended_by = Some(error.into());
            }
        }
        None
    }

    async fn publish_chunk(&self, chunk: &[Pending], fence: Fence, pass: &mut Pass) {
        let mut ready = Vec::with_capacity(chunk.len());
        let mut renders = JoinSet::new();
        let at_once = match self.keys.signer().is_elsewhere() {
            true => JOBS_ELSEWHERE,
            false => std::thread::available_parallelism().map_or(1, NonZero::get) * 2,
        };
        let mut left = chunk.iter();
        loop {
            while renders.len() < at_once
                && let Some(pending) = left.next()
            {
                // Each time, because the clock may jump within a pass.
                match self.believed_now() {
                    Ok(now) => drop(renders.spawn(self.job(*pending, now).run())),
                    Err(error) => self.note_failure(pass, pending.list, error.into()),
                }
            }
            let next = match ready.is_empty() {
                true => renders.join_next().await,
                false => match timeout(SLOW, renders.join_next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        self.finish(std::mem::take(&mut ready), fence, pass).await;
                        continue;
                    }
                },
            };
            match next {
                Some(Ok((_, Ok(list)))) => ready.push(list),
                Some(Ok((pending, Err(error)))) => self.note_failure(pass, pending.list, error),
                Some(Err(error)) => {
                    tracing::error!(pool = %self.shape.id, %error, "a publishing task ended early");
                    pass.ended_by = Some(PublishError::Interrupted(error.to_string()));
                }
                None => break,
            }
        }
        if !ready.is_empty() {
            self.finish(ready, fence, pass).await;
        }
    }

    /// Puts prepared lists in place, and settles them.
    async fn finish(&self, ready: Vec<Ready>, fence: Fence, pass: &mut Pass) {
        match self.put_in_place(ready, fence).await {
            Ok(put) => self.settle(self.sinks.accept(put).await, fence, pass).await,
            Err(error) => {
                tracing::error!(pool = %self.shape.id, %error, "the lists may not be published; retrying at the next beat");
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
        tracing::error!(pool = %self.shape.id, list.id = %list, %error, "list not published; its old token stays");
        pass.failed.push((list, error));
    }

    /// The time of day, unless it cannot be believed: nothing may be signed with it then.
    pub(super) fn believed_now(&self) -> Result<Timestamp, Implausible> {
        let now = self.clock_watch.now(self.store.time());
        self.metrics.clock_implausible.set(now.is_err().into());
        now
    }

    /// A pass that does nothing because the clock cannot be believed. Another instance, whose clock is right, may take over at once.
    async fn wait_for_clock(&self, error: Implausible) -> Pass {
        if self.lease.may_publish() {
            tracing::error!(pool = %self.shape.id, %error, "THE CLOCK IS WRONG: publishing nothing");
            self.metrics.publish_failed.inc();
            self.release().await;
        }
        Pass { ended_by: Some(error.into()), ..Pass::default() }
    }

    fn job(&self, pending: Pending, now: Timestamp) -> Job {
        let live = self.live.load();
        Job {
            pending,
            store: self.store.clone(),
            site: self.site.clone(),
            uri: self.base.join(&pending.list),
            keys: Arc::clone(&self.keys),
            metrics: Arc::clone(&self.metrics),
            template: Template::of(&self.shape, self.start.aggregation, &live, &self.base),
            shape: self.shape.clone(),
            formats: self.start.formats,
            profiles: self.start.profiles,
            history: self.start.history.is_some(),
            counts: self.list_counts(),
            now,
            replace_future: self.replaces_future(),
        }
    }
}
