//! The audit trail: who requested which change, and its outcome, as JSON lines chained by their hashes.
//!
//! Responsible for the lines, their order and their durability. Leaves it to `http/api/` when to write one. Invariants:
//! 1. **Nothing acknowledged without a line.** A line that a caller waits for is durable; if the trail cannot be written,
//!    the caller answers 503.
//! 2. **Nothing changed without a line.** A change has two lines: `begun` is durable before the store is called, the
//!    outcome before the answer. One line after the store's step would be cheaper, but a full disk or a crash in between would
//!    leave changes without a line. With two lines, a crash leaves at most a `begun` without an outcome, or one with the
//!    outcome `unknown`: the change *may* have been made, and the store shows whether it was.
//! 3. **Never who holds which reference.** An allocation is recorded as an amount, on one line. References taken from
//!    memory are not handed out if that line cannot be written.
//!
//! It is off unless the settings name a file: it costs two more fsyncs for each update (shared by updates that wait at the
//! same time), and an operator must decide how long to keep its files.

mod chain;
mod files;
mod line;
#[cfg(test)]
mod tests;
mod writer;

pub use chain::{Broken, Span, verify};
pub use files::files_of;
pub use line::{Action, Caller, Change, Line, Outcome, PoolName, Refusal};

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

/// The most lines that wait to be written. Further lines wait for room.
const QUEUE_MAX: usize = 4096;

/// The trail of one instance. A clone is another handle to it.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// `None` if the trail is off: then every call succeeds at once.
    trail: Option<Trail>,
}

#[derive(Clone, Debug)]
struct Trail {
    queue: mpsc::Sender<Job>,
    /// Lines dropped since the latest one that found room.
    left_out: Arc<AtomicU64>,
}

/// Why the trail cannot be used.
#[derive(Debug, Error)]
pub enum AuditError {
    /// A file cannot be used.
    #[error(transparent)]
    Unusable(#[from] FileError),
    /// Another process is writing the trail.
    #[error("another process is writing {path}; give each instance an `audit.path` of its own", path = .0.display())]
    InUse(PathBuf),
    /// The trail was tampered with.
    #[error(
        "the audit trail was changed: {0}. Keep the file as evidence: move it elsewhere, and the next start begins a new chain"
    )]
    Tampered(Broken),
}

/// The line is not durable. The log says why.
#[derive(Debug, Error)]
#[error("the audit trail cannot be written")]
pub struct NotWritten;

impl Audit {
    /// Opens the trail in the settings and continues it. Moves aside a line that a crash cut short.
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

    /// Whether the trail is on.
    pub fn is_on(&self) -> bool {
        self.trail.is_some()
    }

    /// Writes one line and returns its number. The line is durable when this returns.
    pub async fn record(&self, line: Line) -> Result<u64, NotWritten> {
        let Some(trail) = &self.trail else { return Ok(0) };
        let (answer, answered) = oneshot::channel();
        trail.queue.send(Job { line, answer: Some(answer) }).await.map_err(|_| NotWritten)?;
        answered.await.map_err(|_| NotWritten)?
    }

    /// Writes one line without waiting. If there is no room under load, drops and counts it.
    pub fn record_unwaited(&self, mut line: Line) {
        let Some(trail) = &self.trail else { return };
        let left_out = trail.left_out.swap(0, Ordering::Relaxed);
        line.left_out += left_out;
        let count = line.left_out + 1;
        if trail.queue.try_send(Job { line, answer: None }).is_err() {
            trail.left_out.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Records a change that is about to be made. The change must not be made if this fails.
    pub async fn begin(&self, line: Line) -> Result<Begun, NotWritten> {
        let seq = self.record(line).await?;
        Ok(Begun { audit: self.clone(), seq, ended: !self.is_on() })
    }

    /// Waits until the trail can never be written again, which happens only if the program has a bug.
    pub async fn ended(&self) {
        match &self.trail {
            Some(trail) => trail.queue.closed().await,
            None => std::future::pending().await,
        }
    }
}

/// A change that has begun. If it is dropped without an outcome, because its client went away, the outcome is unknown.
#[derive(Debug)]
pub struct Begun {
    audit: Audit,
    seq: u64,
    ended: bool,
}

impl Begun {
    /// Records the outcome, which is durable when this returns.
    pub async fn end(mut self, outcome: Outcome) -> Result<(), NotWritten> {
        self.ended = true;
        self.audit.record(Line::outcome(self.seq, outcome)).await.map(|_| ())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.ended {
            self.audit.record_unwaited(Line::outcome(self.seq, Outcome::Unknown));
        }
    }
}
