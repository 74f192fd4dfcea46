//! Whether this process slept: it was stopped (SIGSTOP, a debugger, a frozen container), or its machine was suspended.
//!
//! Requests in the sockets of a process that wakes up may be old: their clients may have given up since and sent something
//! else elsewhere. So code that reads from a socket compares [`Awake::sleeps`] now with its value when the connection was
//! accepted. A thread that starves for a second looks like a short sleep. That is harmless: only some requests are refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// How often the thread records that it runs.
const TICK_EVERY: Duration = Duration::from_millis(100);
/// A longer gap between two ticks counts as a sleep, in milliseconds.
const SLEPT_MIN_MILLIS: u64 = 1000;
/// How long a new connection may have waited to be accepted, in milliseconds. One that is accepted within this time after a
/// sleep counts as made before the sleep.
const BACKLOG_MILLIS: u64 = 1000;

/// Counts the sleeps of this process.
#[derive(Debug, Default)]
pub struct Awake {
    /// Time of the latest tick, in milliseconds since the machine started. Written after `sleeps`.
    ticked: AtomicU64,
    sleeps: AtomicU64,
    /// End of the latest sleep, in the same unit.
    woken: AtomicU64,
    noticing: Mutex<()>,
}

impl Awake {
    /// Starts to watch. The thread ends when the last handle is dropped.
    pub fn watch() -> Arc<Self> {
        let awake = Arc::new(Self { ticked: now_millis().into(), ..Self::default() });
        let watched = Arc::downgrade(&awake);
        let started = std::thread::Builder::new().name("awake".to_owned()).spawn(move || tick(&watched));
        if let Err(error) = started {
            tracing::warn!(%error, "cannot start the thread that notices when this process was stopped");
        }
        awake
    }

    /// How often the process has slept up to now. A sleep that has just ended counts.
    pub fn sleeps(&self) -> u64 {
        self.notice(now_millis());
        self.sleeps.load(Ordering::Acquire)
    }

    /// The value of [`Self::sleeps`] to record for a connection that is accepted now. A connection that may have waited
    /// since before the latest sleep gets the count from before it.
    pub fn sleeps_before_connection(&self) -> u64 {
        let now = now_millis();
        self.notice(now);
        let sleeps = self.sleeps.load(Ordering::Acquire);
        match sleeps > 0 && now < self.woken.load(Ordering::Acquire) + BACKLOG_MILLIS {
            true => sleeps - 1,
            false => sleeps,
        }
    }

    fn notice(&self, now: u64) {
        if now.saturating_sub(self.ticked.load(Ordering::Acquire)) <= SLEPT_MIN_MILLIS {
            return;
        }
        let _one_of_many = self.noticing.lock();
        let slept = now.saturating_sub(self.ticked.load(Ordering::Acquire));
        if slept > SLEPT_MIN_MILLIS {
            self.woken.store(now, Ordering::Release);
            self.sleeps.fetch_add(1, Ordering::AcqRel);
            self.ticked.store(now, Ordering::Release);
            tracing::warn!(
                slept_ms = slept,
                "this process was stopped or starved; refusing changes sent before"
            );
        }
    }
}

fn tick(watched: &Weak<Awake>) {
    while let Some(awake) = watched.upgrade() {
        let now = now_millis();
        awake.notice(now);
        awake.ticked.fetch_max(now, Ordering::AcqRel);
        drop(awake);
        std::thread::park_timeout(TICK_EVERY);
    }
}

/// Milliseconds since the machine started, those of its suspension included.
fn now_millis() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let millis = now.tv_sec * 1000 + now.tv_nsec / 1_000_000;
    u64::try_from(millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_once_and_covers_earlier_connections() {
        let awake = Awake { ticked: 10_000.into(), ..Awake::default() };
        let before = awake.sleeps.load(Ordering::Acquire);
        awake.notice(10_900);
        assert_eq!(awake.sleeps.load(Ordering::Acquire), before, "a late tick is no sleep");
        for _ in 0..3 {
            awake.notice(15_000);
        }
        assert_eq!(awake.sleeps.load(Ordering::Acquire), before + 1);
    }

    #[test]
    fn a_process_that_runs_has_not_slept() {
        let awake = Awake::watch();
        std::thread::park_timeout(Duration::from_millis(1500));
        assert_eq!(awake.sleeps_before_connection(), awake.sleeps());
    }
}
