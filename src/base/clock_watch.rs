//! Whether the time of day can be believed: compared with the machine's uptime, which nobody can set, and with the store's clock.
//!
//! A step of more than a minute is not believed until it has lasted for a minute, and a time of day that differs by more than a
//! minute from the store's clock is never believed. So a clock that is wrong for some seconds has no effect, and one that NTP
//! sets right is believed a minute later, without a restart. What a clock showed before the process started is not known here:
//! one that was wrong from the start and stays wrong is found only by the store's clock.

use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;

use super::clock::{Clock, Timestamp};
use crate::base::clock::NumericDate;

/// How far the time of day may step, and be away from the store's clock.
pub const APART_MAX: Duration = Duration::from_secs(60);
/// How long a larger step must last before it is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// Compares the time of day with other clocks. One for the whole process.
#[derive(Debug)]
pub struct ClockWatch {
    clock: Clock,
    state: Mutex<State>,
}

/// When the uptime was zero, in milliseconds since 1970 (negative if before).
type Zero = i128;

#[derive(Debug)]
struct State {
    /// By the time of day that is believed.
    believed: Zero,
    /// By the time of day since a step that is not believed yet, and the uptime when it was first seen.
    other: Option<(Zero, Duration)>,
}

/// The time of day cannot be believed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Implausible {
    /// It jumped.
    #[error(
        "the clock jumped: it shows {shown}, and by the uptime of the machine it should show {expected}; nothing is signed until it \
         is back, or has stayed there for {BELIEVED_AFTER:?}: set it right (ntp)"
    )]
    Jumped {
        /// The time of day.
        shown: NumericDate,
        /// What it should be.
        expected: NumericDate,
    },
    /// It is not the store's.
    #[error(
        "the clock shows {shown}, the clock of the store {store}; nothing is signed until they agree: set both right (ntp)"
    )]
    NotTheStores {
        /// The time of day.
        shown: NumericDate,
        /// The store's.
        store: NumericDate,
    },
}

impl ClockWatch {
    /// Believes what `clock` shows now.
    pub fn new(clock: Clock) -> Self {
        let believed = zero(clock.now(), clock.uptime());
        Self { clock, state: Mutex::new(State { believed, other: None }) }
    }

    /// The time of day, if it can be believed. `store` is the time of day by the store's clock, if that has one of its own.
    pub fn now(&self, store: Option<Timestamp>) -> Result<Timestamp, Implausible> {
        let mut state = self.state.lock();
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let shown = zero(now, uptime);
        if is_apart(shown, state.believed) {
            let since = match state.other {
                Some((other, since)) if !is_apart(shown, other) => since,
                _ => uptime,
            };
            if uptime.saturating_sub(since) < BELIEVED_AFTER {
                state.other = Some((shown, since));
                let expected = state.believed + millis(uptime);
                let expected = Timestamp::from_millis(u64::try_from(expected).unwrap_or_default()).date();
                return Err(Implausible::Jumped { shown: now.date(), expected });
            }
            let step_secs = i64::try_from((shown - state.believed) / 1000).unwrap_or(i64::MAX);
            tracing::warn!(
                step_secs,
                "the clock was set, and has stayed there for {BELIEVED_AFTER:?}; believing it"
            );
        }
        // Small steps are followed, so that many of them do not add up to a jump.
        *state = State { believed: shown, other: None };
        match store {
            Some(store) if is_apart(i128::from(now.millis()), i128::from(store.millis())) => {
                Err(Implausible::NotTheStores { shown: now.date(), store: store.date() })
            }
            _ => Ok(now),
        }
    }
}

fn zero(now: Timestamp, uptime: Duration) -> Zero {
    i128::from(now.millis()) - millis(uptime)
}

fn millis(duration: Duration) -> i128 {
    i128::try_from(duration.as_millis()).unwrap_or(i128::MAX)
}

fn is_apart(one: i128, other: i128) -> bool {
    (one - other).unsigned_abs() > APART_MAX.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> (Clock, ClockWatch) {
        let clock = Clock::set_to(Timestamp::from_secs(1_800_000_000));
        (clock.clone(), ClockWatch::new(clock))
    }

    #[test]
    fn a_jump_is_not_believed_for_a_minute_and_then_it_is() {
        for step in [7200, -7200, 61, -61] {
            let (clock, watch) = started();
            clock.jump(step);
            for _ in 0..60 {
                assert!(matches!(watch.now(None), Err(Implausible::Jumped { .. })), "{step}");
                clock.advance(Duration::from_secs(1));
            }
            assert_eq!(watch.now(None), Ok(clock.now()), "{step}");
            // Back to where it was is a step like any other.
            clock.jump(-step);
            assert!(watch.now(None).is_err(), "{step}");
        }
    }

    #[test]
    fn a_clock_that_is_back_is_believed_at_once_and_the_minute_begins_anew() {
        let (clock, watch) = started();
        for _ in 0..3 {
            clock.jump(7200);
            for _ in 0..4 {
                assert_eq!(
                    watch.now(None),
                    Err(Implausible::Jumped {
                        shown: clock.now().date(),
                        expected: clock.now().date().minus(Duration::from_secs(7200))
                    })
                );
                clock.advance(Duration::from_secs(10));
            }
            clock.jump(-7200);
            assert_eq!(watch.now(None), Ok(clock.now()));
        }
        // One that never stays is never believed.
        for _ in 0..10 {
            clock.jump(100);
            clock.advance(Duration::from_secs(59));
            assert!(watch.now(None).is_err());
        }
    }

    #[test]
    fn small_steps_and_time_that_passes_are_believed() {
        let (clock, watch) = started();
        for step in [60, -60, 30, 30, 30, 30, -5] {
            clock.jump(step);
            assert_eq!(watch.now(None), Ok(clock.now()), "{step}");
            clock.advance(Duration::from_secs(86_400));
            assert_eq!(watch.now(None), Ok(clock.now()), "a day without a look");
        }
    }

    #[test]
    fn the_stores_clock_must_agree_however_long_the_other_stays() {
        let (clock, watch) = started();
        let store = clock.now();
        assert_eq!(watch.now(Some(store)), Ok(clock.now()));
        clock.jump(61);
        clock.advance(Duration::from_secs(3600));
        assert!(matches!(
            watch.now(Some(store.plus(Duration::from_secs(3600)))),
            Err(Implausible::Jumped { .. })
        ));
        clock.advance(Duration::from_secs(60));
        let store = store.plus(Duration::from_secs(3660));
        assert_eq!(
            watch.now(Some(store)),
            Err(Implausible::NotTheStores { shown: clock.now().date(), store: store.date() })
        );
        assert_eq!(watch.now(Some(store.plus(Duration::from_secs(1)))), Ok(clock.now()));
    }
}
