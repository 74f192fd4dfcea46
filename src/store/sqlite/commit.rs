//! Group commit: steps that arrive while one transaction is being fsynced go into the next one and share its fsync.
//!
//! Each job is a savepoint of its own: a failed job does not affect the others. No job is answered before the transaction is
//! durable. A large job has a transaction of its own, and after it the next large one rests while others update: their steps wait
//! for a large one rarely, and never for two in a row. Each pool has only one batch of updates here at a time, and large jobs run in
//! the order in which they came, so pools take turns as well.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::write::Writer;
use crate::store::StoreError;

/// The most jobs of one transaction. More would only delay the first of them.
const JOBS_MAX: usize = 256;
/// The most entries that the jobs of one transaction change, and from which on a job is large.
const ENTRIES_MAX: usize = 4096;
/// The rest after a large step, as a multiple of the time that the step took: fewer than one in a hundred steps of others wait for
/// a large one.
const REST: u32 = 20;
/// The longest rest. On a slow disk, more would only delay the large steps.
const REST_MAX: Duration = Duration::from_millis(250);
/// Large steps rest while the latest small update is not older than this. Without others they follow each other.
const OTHERS: Duration = Duration::from_secs(1);

/// One atomic step.
pub(super) struct Job {
    /// How many entries it changes.
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
        let large = batch.first().is_some_and(Job::is_large);
        let started = Instant::now();
        let begun = writer.begin();
        let replies: Vec<Reply> = match &begun {
            Ok(()) => batch.into_iter().map(|job| (job.work)(Ok(&mut writer))).collect(),
            Err(error) => batch.into_iter().map(|job| (job.work)(Err(error))).collect(),
        };
        let committed = begun.and_then(|()| writer.commit());
        for reply in replies {
            reply(committed.as_ref().copied());
        }
        if large {
            waiting.rest(started.elapsed());
        }
    }
}

impl Job {
    fn is_large(&self) -> bool {
        self.entries >= ENTRIES_MAX
    }
}

/// Jobs that wait for their transaction.
#[derive(Default)]
struct Waiting {
    small: VecDeque<Job>,
    large: VecDeque<Job>,
    /// The time of the latest small update; steps that change no entries do not count.
    updated: Option<Instant>,
    /// Whether the latest transaction was a large one.
    large_was_latest: bool,
    /// No large job runs earlier while others update.
    resting_until: Option<Instant>,
}

impl Waiting {
    /// The jobs of the next transaction, at least one; `None` when all senders are gone and nothing waits.
    fn next(&mut self, jobs: &Receiver<Job>) -> Option<Vec<Job>> {
        if self.small.is_empty() && self.large.is_empty() {
            self.add(jobs.recv().ok()?);
        }
        jobs.try_iter().for_each(|job| self.add(job));
        while self.small.is_empty() && !self.large.is_empty() {
            // Ends early for a small job, and when all senders are gone.
            match self.rest_left().map(|rest| jobs.recv_timeout(rest)) {
                Some(Ok(job)) => self.add(job),
                Some(Err(_)) | None => break,
            }
        }
        let wait = !self.small.is_empty() && (self.large_was_latest || self.rest_left().is_some());
        self.large_was_latest = !wait && !self.large.is_empty();
        match self.large_was_latest {
            true => self.large.pop_front().map(|job| vec![job]),
            false => Some(self.take_small()),
        }
    }

    /// After a large step that took so long. The more pools wait with a large one, the shorter is the rest, so that they are not
    /// delayed by each other.
    fn rest(&mut self, took: Duration) {
        let pools = u32::try_from(self.large.len()).unwrap_or(u32::MAX).max(1);
        self.resting_until = Some(Instant::now() + (took * REST).min(REST_MAX) / pools);
    }

    fn rest_left(&self) -> Option<Duration> {
        let others = self.updated.is_some_and(|updated| updated.elapsed() < OTHERS);
        let left = self.resting_until?.saturating_duration_since(Instant::now());
        (others && !left.is_zero()).then_some(left)
    }

    fn add(&mut self, job: Job) {
        if job.is_large() {
            self.large.push_back(job);
        } else {
            if job.entries > 0 {
                self.updated = Some(Instant::now());
            }
            self.small.push_back(job);
        }
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

    /// The sizes of the jobs of each transaction, for jobs of these sizes that all wait. Large steps take so long.
    fn transactions(sizes: &[usize], took: Duration) -> Vec<Vec<usize>> {
        let (sender, jobs) = channel();
        sizes.iter().for_each(|&entries| sender.send(of(entries)).unwrap());
        drop(sender);
        let mut waiting = Waiting::default();
        let batches = std::iter::from_fn(|| {
            let batch = waiting.next(&jobs)?;
            if batch[0].is_large() {
                waiting.rest(took);
            }
            Some(batch)
        });
        batches.map(|batch| batch.iter().map(|job| job.entries).collect()).collect()
    }

    fn of(entries: usize) -> Job {
        job(entries, |_| Ok(()), oneshot::channel().0)
    }

    #[test]
    fn small_jobs_share_a_transaction_and_large_ones_have_their_own() {
        let turns = |sizes: &[usize]| transactions(sizes, Duration::from_millis(50));
        assert_eq!(turns(&[1, 2, 3]), [[1, 2, 3]]);
        assert_eq!(turns(&[100_000, 1, 2]), [vec![100_000], vec![1, 2]]);
        assert_eq!(turns(&[5000, 6000, 1]), [vec![5000], vec![1], vec![6000]]);
        let crowded = [3000, 3000, 5000, 3000, 3000, 6000, 3000];
        let small_first_in_the_rest =
            [vec![5000], vec![3000, 3000], vec![3000, 3000], vec![3000], vec![6000]];
        assert_eq!(turns(&crowded), small_first_in_the_rest);
        assert_eq!(turns(&vec![1; 300]).iter().map(Vec::len).collect::<Vec<_>>(), [256, 44]);
    }

    #[test]
    fn large_jobs_have_their_turn_however_many_small_ones_wait() {
        let sizes = [&[5000, 6000][..], &[4000; 200][..]].concat();
        let order = transactions(&sizes, Duration::ZERO);
        assert_eq!(order[..4], [vec![5000], vec![4000, 4000], vec![6000], vec![4000, 4000]]);
    }

    #[test]
    fn large_jobs_rest_only_while_others_update() {
        for (others, rests) in [(None, false), (Some(0), false), (Some(1), true)] {
            let (sender, jobs) = channel();
            let mut waiting = Waiting::default();
            if let Some(entries) = others {
                sender.send(of(entries)).unwrap();
                waiting.next(&jobs).unwrap();
            }
            let began = Instant::now();
            waiting.rest(Duration::from_secs(1));
            assert_eq!(waiting.rest_left().is_some(), rests, "{others:?}");
            sender.send(of(5000)).unwrap();
            assert!(waiting.next(&jobs).unwrap()[0].is_large());
            assert!(!rests || began.elapsed() >= REST_MAX, "{:?}", began.elapsed());
        }
    }

    #[test]
    fn a_small_job_ends_the_rest_of_a_large_one_that_waits() {
        let (sender, jobs) = channel();
        let mut waiting = Waiting::default();
        sender.send(of(1)).unwrap();
        waiting.next(&jobs).unwrap();
        waiting.rest(Duration::from_secs(1));
        sender.send(of(5000)).unwrap();
        let client = std::thread::spawn(move || {
            let _ = channel::<()>().1.recv_timeout(Duration::from_millis(20));
            sender.send(of(2)).unwrap();
            sender
        });
        assert_eq!(waiting.next(&jobs).unwrap()[0].entries, 2);
        assert_eq!(waiting.next(&jobs).unwrap()[0].entries, 5000);
        drop(client.join().unwrap());
    }

    #[test]
    fn the_rest_is_shared_by_the_pools_that_wait() {
        let mut waiting = Waiting { updated: Some(Instant::now()), ..Waiting::default() };
        (0..5).for_each(|_| waiting.add(of(5000)));
        waiting.rest(Duration::from_secs(1));
        assert!(waiting.rest_left().unwrap() <= REST_MAX / 5);
    }
}
