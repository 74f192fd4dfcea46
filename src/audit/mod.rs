//! The audit trail: who asked for which change, and what became of it, as JSON lines that are chained by their hashes.
//!
//! Responsible for the lines, their order and their durability. Leaves it to `api/` when to write one. Invariants:
//! 1. **Nothing acknowledged without a line.** A line that is waited for is on the disk; a trail that cannot be written makes
//!    the caller answer 503.
//! 2. **Nothing changed without a line.** A change has two of them: `begun` is durable before the store is asked, its outcome
//!    before the answer. One line after the store's step would be cheaper, but a full disk or a crash in between would leave
//!    changes that no line tells of. Like this, what is left is a line that promises too much: a `begun` without an outcome,
//!    or with the outcome `unknown`, *may* have been made, and the store says whether it was.
//! 3. **Never who holds which reference.** An allocation is told as an amount, on one line: what was taken from memory and
//!    could not be told is not handed out.
//!
//! It is off unless the settings name a file: it costs two more fsyncs for each update (shared by those that wait at the same
//! time), and somebody must decide for how long its files are kept.

mod chain;
mod line;
#[cfg(test)]
mod tests;
mod writer;

pub use chain::{Broken, Span, verify};
pub use line::{Action, Caller, Change, Line, Outcome, Refusal};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::base::clock::Clock;
use crate::base::durable::FileError;
use crate::config::AuditConfig;
use crate::telemetry::metrics::AuditMetrics;
use writer::{Job, Writer};

/// The most lines that wait to be written. Those who want to write one more wait for room.
const QUEUE_MAX: usize = 4096;

/// The trail of one instance. Cloning gives another handle to it.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// `None`: it is off, and all that is asked of it succeeds at once.
    trail: Option<Trail>,
}

#[derive(Clone, Debug)]
struct Trail {
    queue: mpsc::Sender<Job>,
    /// Lines that found no room since the latest one that did.
    left_out: Arc<AtomicU64>,
}

/// Why the trail cannot be used.
#[derive(Debug, Error)]
pub enum AuditError {
    /// A file cannot be used.
    #[error(transparent)]
    Unusable(#[from] FileError),
    /// Another process writes it.
    #[error("{path} is written by another process; give each instance an `audit.path` of its own", path = .0.display())]
    InUse(PathBuf),
    /// Somebody changed it.
    #[error(
        "the audit trail was changed: {0}. Keep the file as evidence: move it elsewhere, and the next start begins a new chain"
    )]
    Tampered(Broken),
}

/// The line is not on the disk; the log says why.
#[derive(Debug, Error)]
#[error("the audit trail cannot be written")]
pub struct NotWritten;

impl Audit {
    /// The trail of these settings, continued where it was left. A line that a crash cut short is moved aside.
    pub fn open(
        config: Option<&AuditConfig>,
        clock: Clock,
        metrics: AuditMetrics,
    ) -> Result<Self, AuditError> {
        let Some(config) = config else { return Ok(Self::default()) };
        let writer = Writer::open(config.clone(), clock, metrics)?;
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let spawned = thread.spawn(move || writer.run(jobs));
        spawned.map_err(|source| FileError::new("start the thread that writes", &config.path, source))?;
        Ok(Self { trail: Some(Trail { queue, left_out: Arc::default() }) })
    }

    /// Whether there is a trail.
    pub fn is_on(&self) -> bool {
        self.trail.is_some()
    }

    /// Writes one line; it is durable when this answers, with the line's number.
    pub async fn record(&self, line: Line) -> Result<u64, NotWritten> {
        let Some(trail) = &self.trail else { return Ok(0) };
        let (answer, answered) = oneshot::channel();
        trail.queue.send(Job { line, answer: Some(answer) }).await.map_err(|_| NotWritten)?;
        answered.await.map_err(|_| NotWritten)?
    }

    /// Writes one line that nobody waits for. Under a load at which it finds no room it is left out, and counted.
    pub fn note(&self, mut line: Line) {
        let Some(trail) = &self.trail else { return };
        let left_out = trail.left_out.swap(0, Ordering::Relaxed);
        line.left_out += left_out;
        let count = line.left_out + 1;
        if trail.queue.try_send(Job { line, answer: None }).is_err() {
            trail.left_out.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Writes what is about to be done. Nothing may be done without it.
    pub async fn begin(&self, line: Line) -> Result<Begun, NotWritten> {
        let seq = self.record(line).await?;
        Ok(Begun { audit: self.clone(), seq, ended: !self.is_on() })
    }

    /// Waits until the trail can never be written again, which only a fault of the program brings about.
    pub async fn ended(&self) {
        match &self.trail {
            Some(trail) => trail.queue.closed().await,
            None => std::future::pending().await,
        }
    }
}

/// A change that was begun. When it is dropped without an outcome, because its client went away, the outcome is unknown.
#[derive(Debug)]
pub struct Begun {
    audit: Audit,
    seq: u64,
    ended: bool,
}

impl Begun {
    /// Writes what became of it. It is durable when this answers.
    pub async fn end(mut self, outcome: Outcome) -> Result<(), NotWritten> {
        self.ended = true;
        self.audit.record(Line::outcome(self.seq, outcome)).await.map(|_| ())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            self.audit.note(Line::outcome(self.seq, Outcome::Unknown));
        }
    }
}
