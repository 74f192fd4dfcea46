//! Whether a server may currently be used, and what its clock shows. Shared by the backends that are servers.
//!
//! Invariant: while a server is known not to be usable, nobody waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::deadline::Deadline;
use super::values::StoreError;
use crate::base::clock::Timestamp;

/// How often an unusable server is checked again.
pub(super) const PROBE_EVERY: Duration = Duration::from_millis(500);
/// How often a usable server is checked.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// Why nothing is currently sent to the server; `None` if it may be used.
type Closed = Option<Arc<str>>;

/// What is known about a server. Closed until its first check.
pub(super) struct Standing {
    /// The kind of server, for messages.
    kind: &'static str,
    /// The server, for messages.
    place: String,
    closed: watch::Sender<Closed>,
    /// The server's time at the latest check, in milliseconds since 1970, and when it was read.
    time: Mutex<(u64, Instant)>,
    /// Tells the watcher to check at once.
    doubted: Notify,
}

impl Standing {
    pub(super) fn new(kind: &'static str, place: String) -> Self {
        let (closed, _) = watch::channel(Some(Arc::from("it was not checked yet")));
        Self { kind, place, closed, time: Mutex::new((0, Instant::now())), doubted: Notify::new() }
    }

    /// Opens or closes the way to the server. Logs a change.
    pub(super) fn set(&self, closed: Closed) {
        self.closed.send_if_modified(|now| {
            if *now == closed {
                return false;
            }
            let (kind, place) = (self.kind, &self.place);
            match &closed {
                Some(why) => {
                    tracing::error!(store = %place, %why, "{kind} cannot be used; writes answer 503")
                }
                None => tracing::info!(store = %place, "{kind} can be used"),
            }
            *now = closed;
            true
        });
    }

    /// Closes the way to the server until a check finds it usable again.
    pub(super) fn doubt(&self, why: &str) {
        self.set(Some(Arc::from(why)));
        self.recheck();
    }

    /// Has the watcher check at once.
    pub(super) fn recheck(&self) {
        self.doubted.notify_one();
    }

    pub(super) fn refuse_if_closed(&self) -> Result<(), StoreError> {
        match &*self.closed.borrow() {
            Some(why) => Err(StoreError::Unavailable(format!("{}: {why}", self.kind))),
            None => Ok(()),
        }
    }

    /// Records what the server's clock showed a moment ago: so a deadline is early, never late.
    pub(super) fn saw_clock(&self, millis: u64) {
        *self.time.lock() = (millis, Instant::now());
    }

    /// The server's time now, going by the latest check; `None` before the first.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let (millis, read_at) = *self.time.lock();
        (millis > 0).then(|| Timestamp::from_millis(millis).plus(read_at.elapsed()))
    }

    /// The deadline by the server's clock, in milliseconds since 1970.
    pub(super) fn by_its_clock(&self, deadline: Deadline) -> u64 {
        let (millis, read_at) = *self.time.lock();
        deadline.by_clock(millis, read_at)
    }

    /// Waits until the server is to be checked again.
    pub(super) async fn next_check(&self) {
        let pause = if self.closed.borrow().is_none() { CHECK_EVERY } else { PROBE_EVERY };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.doubted.notified() => {}
        }
    }
}
