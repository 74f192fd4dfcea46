//! Times in human notation, for reports and messages.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::base::clock::NumericDate;

/// A time in human notation.
pub(super) fn instant(date: NumericDate) -> String {
    let timestamp = i64::try_from(date.secs()).ok().and_then(|secs| Timestamp::from_second(secs).ok());
    timestamp.map_or_else(|| format!("second {date} after 1970"), |timestamp| timestamp.to_string())
}

/// A duration in human notation.
pub(super) fn span(duration: Duration) -> String {
    let secs = duration.as_secs();
    i64::try_from(secs)
        .map_or_else(|_| format!("{secs}s"), |secs| format!("{:#}", SignedDuration::from_secs(secs)))
}
