//! A rate in the settings: `100/s`, `600/m`, `5000/h`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// So many requests in a period; the same number may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Number of requests.
    pub times: NonZeroU32,
    /// The period.
    pub period: Duration,
}

impl FromStr for Rate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (times, unit) = text.split_once('/').ok_or(())?;
        let secs = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(()),
        };
        Ok(Self { times: times.trim().parse().map_err(|_| ())?, period: Duration::from_secs(secs) })
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number above 0 for each second, minute or hour, such as `100/s` or `20/m`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                text.parse().map_err(|()| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_number_and_a_unit() {
        for (text, times, secs) in [("100/s", 100, 1), ("20/m", 20, 60), ("1 / h", 1, 3600)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.times.get(), rate.period.as_secs()), (times, secs), "{text}");
        }
        for wrong in ["", "100", "0/s", "-1/s", "10/d", "10/ms", "/s", "1.5/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
