//! Group commit: steps that arrive while one transaction is being fsynced go into the next one and share its fsync.
//!
//! Each job is a savepoint of its own: a failed job does not affect the others. No job is answered before the transaction is
//! durable.

use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::write::Writer;
use crate::store::StoreError;

/// The most jobs of one transaction. More would only delay the first of them.
const JOBS_MAX: usize = 256;

/// One atomic step: runs inside a transaction, and is answered with the outcome of its commit.
pub(super) type Job = Box<dyn FnOnce(Result<&mut Writer, &StoreError>) -> Reply + Send>;
type Reply = Box<dyn FnOnce(Result<(), &StoreError>) + Send>;

pub(super) fn job<T: Send + 'static>(
    work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    answer: oneshot::Sender<Result<T, StoreError>>,
) -> Job {
    Box::new(move |writer| {
        let outcome = writer.map_err(repeat).and_then(|writer| writer.in_savepoint(work));
        Box::new(move |committed| {
            // Fails if the caller gave up; the work is done anyway.
            let _ = answer.send(outcome.and_then(|value| committed.map(|()| value).map_err(repeat)));
        })
    })
}

/// Runs jobs until all senders are gone.
pub(super) fn run(mut writer: Writer, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let batch = std::iter::once(first).chain(jobs.try_iter().take(JOBS_MAX - 1));
        let begun = writer.begin();
        let replies: Vec<Reply> = match &begun {
            Ok(()) => batch.map(|job| job(Ok(&mut writer))).collect(),
            Err(error) => batch.map(|job| job(Err(error))).collect(),
        };
        let committed = begun.and_then(|()| writer.commit());
        for reply in replies {
            reply(committed.as_ref().copied());
        }
    }
}

/// Copies the error of a failed transaction for each of its steps.
fn repeat(error: &StoreError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
