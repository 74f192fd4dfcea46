//! The deadline of a write.
//!
//! A caller that gave up, or was told that its write failed, may since have had the opposite acknowledged elsewhere. So every write
//! has a deadline, which the store checks inside its atomic step: a write that arrives later changes nothing. Redis compares the
//! deadline with its own clock, so no instance's clock matters. SQLite has one process, whose monotonic clock counts.

use std::time::{Duration, Instant as SystemInstant};

use tokio::time::Instant;

/// The moment after which a write must take no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of a write that is requested now and given up after `patience`.
    pub fn after(patience: Duration) -> Self {
        Self(Instant::now() + patience)
    }

    /// Whether the deadline has passed.
    pub fn has_passed(self) -> bool {
        Instant::now() > self.0
    }

    /// Converts the deadline to another clock, which showed `millis` at `read_at`. In milliseconds.
    pub(super) fn by_clock(self, millis: u64, read_at: SystemInstant) -> u64 {
        let deadline = self.0.into_std();
        let ahead = deadline.checked_duration_since(read_at);
        let behind = read_at.saturating_duration_since(deadline);
        let whole = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match ahead {
            Some(ahead) => millis.saturating_add(whole(ahead)),
            None => millis.saturating_sub(whole(behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_same_moment_by_any_clock() {
        let read_at = Instant::now();
        let deadline = Deadline(read_at + Duration::from_millis(1500));
        let (now, later) = (read_at.into_std(), (read_at + Duration::from_secs(2)).into_std());
        assert_eq!(deadline.by_clock(5_000_000, now), 5_001_500);
        assert_eq!(deadline.by_clock(5_000_000, later), 4_999_500);
        assert!(!deadline.has_passed() && Deadline(read_at).has_passed());
    }
}
