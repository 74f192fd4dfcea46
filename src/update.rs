//! Status changes, made durable in batches: while the store applies one batch, the next one gathers.
//!
//! Responsible for order, batching and backpressure. Leaves the rules (index, value, final status) to the store, which
//! checks them inside its atomic step. Invariant: an update is acknowledged only after it is durable.

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::base::clock::Clock;
use crate::model::pool::PoolId;
use crate::store::{Deadline, Refusal, StatusChange, Store, StoreError};
use crate::telemetry::metrics::PoolMetrics;

/// The most changes in a batch, unless a single request has more.
const BATCH_MAX: usize = 512;

/// Takes the updates of one pool.
#[derive(Clone, Debug)]
pub struct Updater {
    queue: mpsc::UnboundedSender<Request>,
    /// One permit for each change that may wait.
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Request {
    changes: Vec<StatusChange>,
    deadline: Deadline,
    answer: oneshot::Sender<Result<(), UpdateError>>,
    room: OwnedSemaphorePermit,
}

/// Why an update was not made, or why its outcome is unknown.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// It breaks a rule. Nothing of the request was applied.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many changes are waiting. Nothing of the request was applied.
    #[error("too many updates are waiting for the store")]
    Busy,
    /// The deadline passed before the store applied it. Nothing of the request was applied.
    #[error("the update reached the store after its deadline")]
    Late,
    /// The store is damaged: an operator must act. A retry does not help.
    #[error("{0}")]
    Damaged(String),
    /// The store failed. It is unknown whether the change was made; the client may retry.
    #[error("{0}")]
    Unavailable(String),
}

impl Updater {
    /// Returns an updater for at most `entries_max` waiting changes, and the task that must run for it. The task ends when
    /// all updaters are dropped and all requests are answered.
    pub fn new(
        pool: PoolId,
        store: Store,
        clock: Clock,
        entries_max: usize,
        metrics: Arc<PoolMetrics>,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, requests) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(entries_max));
        (Self { queue, room }, apply_batches(pool, store, clock, requests, metrics))
    }

    /// Makes all changes durably, or none; makes none after the deadline.
    pub async fn update(&self, changes: Vec<StatusChange>, deadline: Deadline) -> Result<(), UpdateError> {
        let entries = u32::try_from(changes.len()).map_err(|_| UpdateError::Busy)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(entries).map_err(|_| UpdateError::Busy)?;
        let (answer, answered) = oneshot::channel();
        self.queue.send(Request { changes, deadline, answer, room }).map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }
}

async fn apply_batches(
    pool: PoolId,
    store: Store,
    clock: Clock,
    mut requests: mpsc::UnboundedReceiver<Request>,
    metrics: Arc<PoolMetrics>,
) {
    while let Some(first) = requests.recv().await {
        let (mut changes, mut answers, mut rooms, mut size) = (Vec::new(), Vec::new(), Vec::new(), 0);
        // The deadline of the batch is the earliest of its requests.
        let mut deadline = None;
        let mut next = Some(first);
        while let Some(request) = next {
            if request.deadline.has_passed() {
                let _ = request.answer.send(Err(UpdateError::Late));
            } else if !request.answer.is_closed() {
                // A closed request got the answer that its outcome is unknown, and its client will retry.
                deadline = deadline
                    .map(|earliest: Deadline| earliest.min(request.deadline))
                    .or(Some(request.deadline));
                size += request.changes.len();
                changes.push(request.changes);
                answers.push(request.answer);
                rooms.push(request.room);
            }
            next = if size < BATCH_MAX { requests.try_recv().ok() } else { None };
        }
        let Some(deadline) = deadline else { continue };
        let sizes: Vec<_> = changes.iter().map(Vec::len).collect();
        let begun = Instant::now();
        let applied = store.apply(&pool, changes, deadline, clock.now()).await;
        metrics.store_commit.observe(begun.elapsed().as_secs_f64());
        metrics.batch_size.observe(size as f64);
        drop(rooms);
        match applied {
            Ok(applied) => {
                for ((applied, answer), size) in applied.into_iter().zip(answers).zip(sizes) {
                    if applied.is_ok() {
                        metrics.updates.inc_by(size as u64);
                    }
                    // The caller may have gone away. The change stands nevertheless.
                    let _ = answer.send(applied.map_err(UpdateError::from));
                }
            }
            Err(error) => {
                tracing::error!(%pool, %error, updates = size, "updates could not be stored");
                for answer in answers {
                    let _ = answer.send(Err(UpdateError::from(&error)));
                }
            }
        }
    }
}

impl From<&StoreError> for UpdateError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Damaged(_) => Self::Damaged(error.to_string()),
            StoreError::Late => Self::Late,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

fn stopping() -> UpdateError {
    UpdateError::from(&StoreError::Unavailable("the service is stopping".to_owned()))
}
