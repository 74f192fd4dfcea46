//! Times in human notation, for reports and messages.

use jiff::{SignedDuration, Timestamp};

/// A time in seconds since 1970, in human notation.
pub(super) fn instant(secs: u64) -> String {
    let timestamp = i64::try_from(secs).ok().and_then(|secs| Timestamp::from_second(secs).ok());
    timestamp.map_or_else(|| format!("second {secs} after 1970"), |timestamp| timestamp.to_string())
}

/// A duration in human notation.
pub(super) fn span(secs: u64) -> String {
    i64::try_from(secs)
        .map_or_else(|_| format!("{secs}s"), |secs| format!("{:#}", SignedDuration::from_secs(secs)))
}
