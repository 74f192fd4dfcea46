//! Durations as operators write them: `10s`, `24h`, `30d`, or ISO 8601 `PT24H`.

use std::fmt;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, de};

/// A duration from the settings; may be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting(pub(crate) Duration);

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Setting;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as `10s`, `24h` or `PT24H`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Setting, E> {
                parse(text).map(Setting).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Reads both notations.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(signed).ok()
}

/// Formats a duration for messages: `90s` as `1m 30s`.
pub(crate) fn show(duration: Duration) -> String {
    match jiff::SignedDuration::try_from(duration) {
        Ok(signed) => format!("{signed:#}"),
        Err(_) => format!("{}s", duration.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read() {
        for (text, seconds) in [
            ("10s", 10),
            ("1m", 60),
            ("24h", 86400),
            ("30d", 2_592_000),
            ("PT24H", 86400),
            ("PT1M30S", 90),
            ("1h 30m", 5400),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("1500ms"), Some(Duration::from_millis(1500)));
        for wrong in ["", "10", "-5s", "ten", "1 month"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
