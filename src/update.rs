//! Status changes, made durable in batches: while one batch is in the store, the next one gathers.
//!
//! Responsible for order, batching and back pressure. Leaves the rules (index, value, final status) to the store, which
//! checks them inside its atomic step. Invariant: nobody is answered before the change is durable.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::metrics::PoolMetrics;
use crate::pool::PoolId;
use crate::store::{Refusal, StatusChange, Store, StoreError};

/// The most changes of one batch, unless a single request has more.
const BATCH_MAX: usize = 512;

/// Takes the updates of one pool.
#[derive(Clone, Debug)]
pub struct Updater {
    queue: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    changes: Vec<StatusChange>,
    answer: oneshot::Sender<Result<(), UpdateError>>,
}

/// Why an update was not made, or why that is not known.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// It breaks a rule; nothing of the request was applied.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many others wait; nothing of the request was applied.
    #[error("too many updates are waiting for the store")]
    Busy,
    /// The store failed. Whether the change was made is unknown; it may be repeated.
    #[error("{0}")]
    Unavailable(String),
}

impl Updater {
    /// An updater, and the task that must be run for it. The task ends when all updaters are dropped and all is answered.
    pub fn new(
        pool: PoolId,
        store: Store,
        clock: Clock,
        queue_max: usize,
        metrics: Arc<PoolMetrics>,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, requests) = mpsc::channel(queue_max);
        (Self { queue }, apply_batches(pool, store, clock, requests, metrics))
    }

    /// Makes all changes or none, durably.
    pub async fn update(&self, changes: Vec<StatusChange>) -> Result<(), UpdateError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Request { changes, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => UpdateError::Busy,
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        answered.await.map_err(|_| stopping())?
    }
}

async fn apply_batches(
    pool: PoolId,
    store: Store,
    clock: Clock,
    mut requests: mpsc::Receiver<Request>,
    metrics: Arc<PoolMetrics>,
) {
    while let Some(first) = requests.recv().await {
        let mut size = first.changes.len();
        let (mut changes, mut answers) = (vec![first.changes], vec![first.answer]);
        while size < BATCH_MAX {
            let Ok(next) = requests.try_recv() else { break };
            size += next.changes.len();
            changes.push(next.changes);
            answers.push(next.answer);
        }
        let sizes: Vec<_> = changes.iter().map(Vec::len).collect();
        match store.apply(changes, clock.now()).await {
            Ok(applied) => {
                for ((applied, answer), size) in applied.into_iter().zip(answers).zip(sizes) {
                    if applied.is_ok() {
                        metrics.updates.inc_by(size as u64);
                    }
                    // A caller that went away knows nothing; the change stands all the same.
                    let _ = answer.send(applied.map_err(UpdateError::from));
                }
            }
            Err(error) => {
                tracing::error!(%pool, %error, updates = size, "updates could not be stored");
                for answer in answers {
                    let _ = answer.send(Err(UpdateError::Unavailable(error.to_string())));
                }
            }
        }
    }
}

fn stopping() -> UpdateError {
    UpdateError::Unavailable(StoreError::Unavailable("the service is stopping".to_owned()).to_string())
}
