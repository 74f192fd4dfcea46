//! When a list is signed, and with which `iat`: pure functions.

use std::time::Duration;

use thiserror::Error;

use crate::base::clock::{NumericDate, Timestamp};
use crate::base::digest::digest;
use crate::config::Lifetimes;
use crate::status_list::ListId;

/// How far the clock may lie behind the previous `iat` for a list to wait until the clock is past it.
pub const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(60);

/// How far it may lie behind for the list to be signed with the next `iat` after the previous one. Larger: more of a wrong clock's
/// mistakes mend themselves; smaller: a damaged store makes tokens valid for less long.
pub const LEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why a list cannot be signed now.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotNow {
    /// The second of the previous `iat` is not over. Verifiers refuse a token from the future, so the list waits for the next second.
    #[error("the list was signed within this second")]
    SameSecond,
    /// The clock was set back.
    #[error(
        "the clock is {behind:?} behind the list's previous `iat`, more than a day; set it right (ntp), or if it is right, stop the \
         service and run `statuslist publish --once --replace-future`"
    )]
    ClockBehind {
        /// How far it is behind.
        behind: Duration,
    },
}

/// Returns the `iat` of a token signed now: whole seconds, and later than that of any earlier token of the list. It lies in the future
/// only if the earlier one lies there by more than a minute: see ARCHITECTURE.md, "Times".
pub fn issued_at(now: Timestamp, previous: Option<NumericDate>) -> Result<NumericDate, NotNow> {
    let Some(previous) = previous else { return Ok(now.date()) };
    if previous < now.date() {
        return Ok(now.date());
    }
    let behind = previous.since(now.date());
    match behind {
        _ if behind > LEAD_MAX => Err(NotNow::ClockBehind { behind }),
        _ if behind > CLOCK_BEHIND_MAX => Ok(previous.plus(Duration::from_secs(1))),
        _ => Err(NotNow::SameSecond),
    }
}

/// The latest `iat` that a token signed now may have: see [`issued_at`].
pub fn latest_issued_at(now: Timestamp, previous: Option<NumericDate>) -> NumericDate {
    issued_at(now, previous).unwrap_or_default().max(now.date())
}

/// Whether this `iat` lies so far in the future that a clock was wrong: the one that made it, or this one.
pub fn is_ahead(iat: NumericDate, now: Timestamp) -> bool {
    iat > now.plus(CLOCK_BEHIND_MAX).date()
}

/// Returns when a list signed at `iat` must be signed again. Up to a tenth earlier than `resign-after`,
/// by a different amount for each list, so that lists made together are not all renewed together.
pub fn resign_at(iat: NumericDate, list: &ListId, lifetimes: &Lifetimes) -> NumericDate {
    let share = u64::from(share(list));
    let resign_after = lifetimes.resign_after.as_secs();
    let early = resign_after * share / (10 * u64::from(u16::MAX));
    iat.plus(Duration::from_secs(resign_after - early))
}

/// A number that differs from list to list: a UUID is random, other names are often alike.
fn share(list: &ListId) -> u16 {
    if list.is_uuid() {
        let [first, second, ..] = *list.as_bytes();
        return u16::from_le_bytes([first, second]);
    }
    let [first, second, ..] = digest("when to renew a list", &[list.to_string().as_bytes()]);
    u16::from_le_bytes([first, second])
}

/// Lists to be renewed by this time are due now: the next beat would be too late.
pub fn due_by(now: Timestamp, beat: Duration) -> Timestamp {
    now.plus(beat)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_900);

    const fn at(secs: u64) -> NumericDate {
        NumericDate::from_secs(secs)
    }

    #[test]
    fn iat_is_the_current_second_and_always_grows() {
        assert_eq!(issued_at(NOW, None), Ok(at(1_700_000_000)));
        assert_eq!(issued_at(NOW, Some(at(1_699_999_999))), Ok(at(1_700_000_000)));
        assert_eq!(issued_at(NOW, Some(at(1_700_000_000))), Err(NotNow::SameSecond));
        assert_eq!(issued_at(NOW, Some(at(1_700_000_060))), Err(NotNow::SameSecond));
    }

    #[test]
    fn iat_follows_a_previous_one_in_the_future_for_a_day_at_most() {
        assert_eq!(issued_at(NOW, Some(at(1_700_000_061))), Ok(at(1_700_000_062)));
        assert_eq!(issued_at(NOW, Some(at(1_700_086_400))), Ok(at(1_700_086_401)));
        let behind = Duration::from_secs(86_401);
        assert_eq!(issued_at(NOW, Some(at(1_700_086_401))), Err(NotNow::ClockBehind { behind }));
        let behind = Duration::from_secs(u64::MAX - 1_700_000_000);
        assert_eq!(issued_at(NOW, Some(at(u64::MAX))), Err(NotNow::ClockBehind { behind }));
        for (previous, latest) in [
            (None, at(1_700_000_000)),
            (Some(at(1_700_000_060)), at(1_700_000_000)),
            (Some(at(1_700_000_061)), at(1_700_000_062)),
            (Some(at(1_700_086_401)), at(1_700_000_000)),
        ] {
            assert_eq!(latest_issued_at(NOW, previous), latest, "{previous:?}");
        }
    }

    #[test]
    fn lists_are_renewed_within_the_last_tenth_before_resign_after() {
        let lifetimes = Lifetimes {
            list_lifetime: Duration::from_secs(86400),
            ttl: Duration::from_secs(10),
            resign_after: Duration::from_secs(43200),
        };
        let times: Vec<_> =
            (0..1000).map(|_| resign_at(at(1000), &ListId::random(), &lifetimes).secs()).collect();
        assert!(times.iter().all(|at| (1000 + 43200 - 4320..=1000 + 43200).contains(at)));
        let early = times.iter().filter(|at| **at < 1000 + 43200 - 2160).count();
        assert!((350..650).contains(&early), "{early} of 1000 in the earlier half");
    }
}
