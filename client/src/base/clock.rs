//! The time of day: the system's, or a test's. Nothing else in the program reads it.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A moment, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `millis` milliseconds after the start of 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The moment `secs` seconds after the start of 1970.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970, as `iat` and `exp` count them.
    pub const fn date(self) -> NumericDate {
        NumericDate(self.0 / 1000)
    }

    /// The moment `duration` after this one.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time since `earlier`; zero if `earlier` lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A moment, in whole seconds since 1970: the unit of `iat`, `nbf` and `exp` (RFC 7519 section 2) and of certificates.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct NumericDate(u64);

impl NumericDate {
    /// The start of 1970.
    pub const MIN: Self = Self(0);
    /// A moment that never comes.
    pub const MAX: Self = Self(u64::MAX);

    /// The moment `secs` seconds after the start of 1970.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// The same, of a number that may be negative, as in a certificate; no earlier than 1970.
    pub fn from_signed_secs(secs: i64) -> Self {
        Self(u64::try_from(secs).unwrap_or(0))
    }

    /// Seconds since 1970.
    pub const fn secs(self) -> u64 {
        self.0
    }

    /// The moment `duration` after this one, without its fractions of a second.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// The moment `duration` before this one, without its fractions of a second; the start of 1970 at the earliest.
    #[must_use]
    pub const fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }

    /// The time since `earlier`; zero if `earlier` lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// Seconds since 1970.
impl FromStr for NumericDate {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// Seconds since 1970.
impl fmt::Display for NumericDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The first moment of that second.
impl From<NumericDate> for Timestamp {
    fn from(date: NumericDate) -> Self {
        Self(date.0.saturating_mul(1000))
    }
}

/// A source of time. A clone is another handle to the same clock.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's.
    System,
    /// A test's.
    Set(Arc<SetClock>),
    /// An instance's in the simulator, which goes on with the simulated time.
    #[cfg(feature = "sim")]
    Simulated(Arc<Simulated>),
}

/// A clock that stands still until it is moved. Both values are in milliseconds.
#[derive(Debug)]
pub struct SetClock {
    time_of_day: AtomicU64,
    uptime: AtomicU64,
}

/// A clock that is ahead of the simulated time, or behind.
#[cfg(feature = "sim")]
#[derive(Debug)]
pub struct Simulated {
    begun: tokio::time::Instant,
    /// What it shows at `begun`, in milliseconds since 1970; grows when the clock is set forward.
    at_begin: AtomicU64,
}

impl Clock {
    /// A clock that stands still until it is [advanced](Self::advance).
    pub fn set_to(now: Timestamp) -> Self {
        Self::Set(Arc::new(SetClock { time_of_day: AtomicU64::new(now.0), uptime: AtomicU64::new(0) }))
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the one home of the time of day")]
                let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
            }
            Self::Set(clock) => Timestamp(clock.time_of_day.load(Ordering::SeqCst)),
            #[cfg(feature = "sim")]
            Self::Simulated(clock) => {
                Timestamp(clock.at_begin.load(Ordering::SeqCst)).plus(clock.begun.elapsed())
            }
        }
    }

    /// A clock that shows `now` and goes on with the simulated time.
    #[cfg(feature = "sim")]
    pub fn simulated(now: Timestamp) -> Self {
        let begun = tokio::time::Instant::now();
        Self::Simulated(Arc::new(Simulated { begun, at_begin: AtomicU64::new(now.0) }))
    }

    /// Sets a simulated clock.
    #[cfg(feature = "sim")]
    pub fn set(&self, now: Timestamp) {
        if let Self::Simulated(clock) = self {
            let elapsed = u64::try_from(clock.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            clock.at_begin.store(now.0.saturating_sub(elapsed), Ordering::SeqCst);
        }
    }

    /// The time since the machine started, its suspensions included. Nobody can set it.
    pub fn uptime(&self) -> Duration {
        match self {
            Self::System => {
                let now = clock_gettime(ClockId::Boottime);
                Duration::try_from(now).unwrap_or_default()
            }
            Self::Set(clock) => Duration::from_millis(clock.uptime.load(Ordering::SeqCst)),
            #[cfg(feature = "sim")]
            Self::Simulated(clock) => clock.begun.elapsed(),
        }
    }

    /// Lets time pass on a test's clock. Does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Self::Set(clock) = self {
            let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            clock.uptime.fetch_add(by, Ordering::SeqCst);
            clock.time_of_day.fetch_add(by, Ordering::SeqCst);
        }
    }

    /// Sets a test's time of day this many seconds ahead or back, without time passing. Does nothing to the system's.
    pub fn jump(&self, secs: i64) {
        if let Self::Set(clock) = self {
            let millis = secs.unsigned_abs().saturating_mul(1000);
            match secs < 0 {
                true => clock.time_of_day.fetch_sub(millis, Ordering::SeqCst),
                false => clock.time_of_day.fetch_add(millis, Ordering::SeqCst),
            };
        }
    }
}
