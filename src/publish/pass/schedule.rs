//! When a list is signed, and with which `iat`: pure functions.

use std::time::Duration;

use thiserror::Error;

use crate::base::clock::Timestamp;
use crate::config::Lifetimes;
use crate::status_list::ListId;

/// How far the clock may be behind the previous `iat` before publishing stops: beyond that it is wrong, not just inaccurate.
pub const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(60);

/// Why a list cannot be signed now.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotNow {
    /// The second of the previous `iat` is not over. Verifiers refuse a token from the future, so the list waits for the next second.
    #[error("the list was signed within this second")]
    SameSecond,
    /// The clock was set back.
    #[error(
        "the clock is {behind:?} behind the list's previous `iat`; set it right (ntp), or publishing stays stopped"
    )]
    ClockBehind {
        /// How far it is behind.
        behind: Duration,
    },
}

/// Returns the `iat` of a token signed now: whole seconds, never in the future, and later than that of any earlier token of the
/// list.
pub fn issued_at(now: Timestamp, previous: Option<u64>) -> Result<u64, NotNow> {
    let Some(previous) = previous else { return Ok(now.secs()) };
    if previous < now.secs() {
        return Ok(now.secs());
    }
    let behind = Duration::from_secs(previous - now.secs());
    Err(if behind > CLOCK_BEHIND_MAX { NotNow::ClockBehind { behind } } else { NotNow::SameSecond })
}

/// Returns when a list signed at `iat` must be signed again, in seconds since 1970. Up to a tenth earlier than `resign-after`,
/// by a different amount for each list, so that lists made together are not all renewed together.
pub fn resign_at(iat: u64, list: &ListId, lifetimes: &Lifetimes) -> u64 {
    let bytes = list.as_bytes();
    let share = u64::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let resign_after = lifetimes.resign_after.as_secs();
    iat + resign_after - resign_after * share / (10 * u64::from(u16::MAX))
}

/// Lists to be renewed by this time are due now: the next beat would be too late.
pub fn due_by(now: Timestamp, beat: Duration) -> Timestamp {
    now.plus(beat)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_900);

    #[test]
    fn iat_is_the_current_second_and_always_grows() {
        assert_eq!(issued_at(NOW, None), Ok(1_700_000_000));
        assert_eq!(issued_at(NOW, Some(1_699_999_999)), Ok(1_700_000_000));
        assert_eq!(issued_at(NOW, Some(1_700_000_000)), Err(NotNow::SameSecond));
        assert_eq!(issued_at(NOW, Some(1_700_000_060)), Err(NotNow::SameSecond));
        let behind = Duration::from_secs(61);
        assert_eq!(issued_at(NOW, Some(1_700_000_061)), Err(NotNow::ClockBehind { behind }));
    }

    #[test]
    fn lists_are_renewed_within_the_last_tenth_before_resign_after() {
        let lifetimes = Lifetimes {
            list_lifetime: Duration::from_secs(86400),
            ttl: Duration::from_secs(10),
            resign_after: Duration::from_secs(43200),
        };
        let times: Vec<_> = (0..1000).map(|_| resign_at(1000, &ListId::random(), &lifetimes)).collect();
        assert!(times.iter().all(|at| (1000 + 43200 - 4320..=1000 + 43200).contains(at)));
        let early = times.iter().filter(|at| **at < 1000 + 43200 - 2160).count();
        assert!((350..650).contains(&early), "{early} of 1000 in the earlier half");
    }
}
