//! Group commit: steps that arrive while one transaction is being fsynced go into the next one and share its fsync.
//!
//! Each job is a savepoint of its own: a failed job does not affect the others. No job is answered before the transaction is
//! durable. A large job has a transaction of its own and takes turns with the others, so that no pool's small steps wait for more
//! than one large step of another pool, however many there are. Each pool has only one batch of updates here at a time, and large
//! jobs run in the order in which they came, so pools take turns as well.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::write::Writer;
use crate::store::StoreError;

/// The most jobs of one transaction. More would only delay the first of them.
const JOBS_MAX: usize = 256;
/// The most entries that the jobs of one transaction change, and from which on a job is large.
const ENTRIES_MAX: usize = 4096;

/// One atomic step.
pub(super) struct Job {
    /// How many entries it changes; 1 for a step that changes none.
    entries: usize,
    work: Work,
}

/// Runs inside a transaction, and is answered with the outcome of its commit.
type Work = Box<dyn FnOnce(Result<&mut Writer, &StoreError>) -> Reply + Send>;
type Reply = Box<dyn FnOnce(Result<(), &StoreError>) + Send>;

pub(super) fn job<T: Send + 'static>(
    entries: usize,
    work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    answer: oneshot::Sender<Result<T, StoreError>>,
) -> Job {
    let work: Work = Box::new(move |writer| {
        let outcome = writer.map_err(repeat).and_then(|writer| writer.in_savepoint(work));
        Box::new(move |committed| {
            // Fails if the caller gave up; the work is done anyway.
            let _ = answer.send(outcome.and_then(|value| committed.map(|()| value).map_err(repeat)));
        })
    });
    Job { entries, work }
}

/// Runs jobs until all senders are gone.
pub(super) fn run(mut writer: Writer, jobs: &Receiver<Job>) {
    let mut waiting = Waiting::default();
    while let Some(batch) = waiting.next(jobs) {
        let begun = writer.begin();
        let replies: Vec<Reply> = match &begun {
            Ok(()) => batch.into_iter().map(|job| (job.work)(Ok(&mut writer))).collect(),
            Err(error) => batch.into_iter().map(|job| (job.work)(Err(error))).collect(),
        };
        let committed = begun.and_then(|()| writer.commit());
        for reply in replies {
            reply(committed.as_ref().copied());
        }
    }
}

/// Jobs that wait for their transaction.
#[derive(Default)]
struct Waiting {
    small: VecDeque<Job>,
    large: VecDeque<Job>,
    /// Whether the latest transaction was one of small jobs.
    small_were_latest: bool,
}

impl Waiting {
    /// The jobs of the next transaction, at least one; `None` when all senders are gone and nothing waits.
    fn next(&mut self, jobs: &Receiver<Job>) -> Option<Vec<Job>> {
        if self.small.is_empty() && self.large.is_empty() {
            self.add(jobs.recv().ok()?);
        }
        jobs.try_iter().for_each(|job| self.add(job));
        self.small_were_latest = !self.small.is_empty() && (self.large.is_empty() || !self.small_were_latest);
        match self.small_were_latest {
            true => Some(self.take_small()),
            false => self.large.pop_front().map(|job| vec![job]),
        }
    }

    fn add(&mut self, job: Job) {
        let queue = if job.entries < ENTRIES_MAX { &mut self.small } else { &mut self.large };
        queue.push_back(job);
    }

    fn take_small(&mut self) -> Vec<Job> {
        let (mut batch, mut entries) = (Vec::new(), 0);
        while let Some(job) = self.small.pop_front() {
            entries += job.entries;
            batch.push(job);
            if batch.len() == JOBS_MAX || entries >= ENTRIES_MAX {
                break;
            }
        }
        batch
    }
}

/// Copies the error of a failed transaction for each of its steps.
fn repeat(error: &StoreError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// The sizes of the jobs of each transaction, for jobs of these sizes that all wait.
    fn transactions(sizes: &[usize]) -> Vec<Vec<usize>> {
        let (sender, jobs) = channel();
        for &entries in sizes {
            let (answer, _) = oneshot::channel();
            sender.send(job(entries, |_| Ok(()), answer)).unwrap();
        }
        drop(sender);
        let mut waiting = Waiting::default();
        let batches = std::iter::from_fn(|| waiting.next(&jobs));
        batches.map(|batch| batch.iter().map(|job| job.entries).collect()).collect()
    }

    #[test]
    fn small_jobs_share_a_transaction_and_large_ones_take_turns_with_them() {
        assert_eq!(transactions(&[1, 2, 3]), [[1, 2, 3]]);
        assert_eq!(transactions(&[100_000, 1, 2]), [vec![1, 2], vec![100_000]]);
        assert_eq!(transactions(&[5000, 6000, 1]), [vec![1], vec![5000], vec![6000]]);
        let crowded = [3000, 3000, 5000, 3000, 3000, 6000, 3000];
        let turns = [vec![3000, 3000], vec![5000], vec![3000, 3000], vec![6000], vec![3000]];
        assert_eq!(transactions(&crowded), turns, "neither kind waits for more than one of the other");
        assert_eq!(transactions(&vec![1; 300]).iter().map(Vec::len).collect::<Vec<_>>(), [256, 44]);
    }
}
