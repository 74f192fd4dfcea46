//! The result of a check, for people and for programs.
//!
//! Text from a token is quoted and escaped: a stranger's `kid` must not move the cursor of a terminal.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::times::{instant, span};
use super::{Check, Format, NotValid, Outcome, TrustedBy};
use crate::base::clock::NumericDate;
use crate::status_list::{Bits, Status};

/// The result of a [`Check`].
#[derive(Debug)]
pub struct Report {
    /// The list's `uri`.
    pub uri: String,
    /// The index.
    pub idx: u64,
    /// The time of the status, if not that of the check.
    pub time: Option<NumericDate>,
    /// The time of the check.
    pub checked_at: NumericDate,
    /// The outcome.
    pub outcome: Outcome,
    /// The token, if one could be read. Rely on its claims only if `trusted_by` is set.
    pub token: Option<TokenFacts>,
    /// The final address of the token, if not `uri`.
    pub redirected_to: Option<String>,
}

/// A token's statements about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Its format.
    pub format: Format,
    /// Its length.
    pub bytes: usize,
    /// Its signature's algorithm.
    pub alg: String,
    /// The id of the key that signed it.
    pub kid: Option<String>,
    /// Why its signature is trusted; `None` if it is not.
    pub trusted_by: Option<TrustedBy>,
    /// `iat`.
    pub iat: NumericDate,
    /// `exp`.
    pub exp: Option<NumericDate>,
    /// `ttl`: how long a copy may be used before it is fetched again.
    pub ttl: Option<Duration>,
    /// When the first of the certificates that it carries expires.
    pub certificates_end: Option<NumericDate>,
    /// Distinguishes it from tokens with other statuses.
    pub content: [u8; 32],
    /// Bits of an entry.
    pub bits: Bits,
    /// Number of entries, if the list was inflated.
    pub entries: Option<u32>,
}

const CREDENTIAL_NOTE: &str = "this says nothing about the credential itself: check its signature and its expiry \
                               first, they come before its status";
const UNKNOWN_NOTE: &str = "treat the credential as not valid until a check succeeds";
const CACHE_NOTE: &str = "HTTP cache headers are ignored: `exp` and `ttl` decide";

impl Report {
    pub(super) fn new(
        request: &Check,
        now: NumericDate,
        outcome: Outcome,
        token: Option<TokenFacts>,
    ) -> Self {
        Self {
            uri: request.uri.clone(),
            idx: request.idx,
            time: request.time,
            checked_at: now,
            outcome,
            token,
            redirected_to: None,
        }
    }

    /// The exit code of a program that prints this report: 0 valid, 1 not valid, 2 could not tell.
    pub fn exit_code(&self) -> u8 {
        self.outcome.exit_code()
    }

    /// The status at the index, if known.
    pub fn status(&self) -> Option<Status> {
        match &self.outcome {
            Outcome::Valid => Some(Status::VALID),
            Outcome::NotValid(NotValid::Status(status)) => Some(*status),
            _ => None,
        }
    }

    /// Until when the token may be cached: `ttl` from now on, but never beyond `exp`. `None` if it has neither, if it must
    /// not be relied on, or if it is one of the past.
    pub fn cache_until(&self) -> Option<NumericDate> {
        let token = self.token.as_ref().filter(|_| self.is_current())?;
        let ttl_over = token.ttl.map(|ttl| self.checked_at.plus(ttl));
        ttl_over.into_iter().chain(token.exp).min()
    }

    /// The report for programs. Times are RFC 3339 in UTC, durations are seconds.
    pub fn to_json(&self) -> Value {
        let outcome = match &self.outcome {
            Outcome::Valid => "valid",
            Outcome::NotValid(_) => "not-valid",
            Outcome::Unknown(_) => "unknown",
        };
        let token = self.token.as_ref().map(|token| {
            json!({
                "format": token.format.to_string(),
                "bytes": token.bytes,
                "alg": token.alg,
                "kid": token.kid,
                "trusted_by": token.trusted_by.as_ref().map(ToString::to_string),
                "issued_at": instant(token.iat),
                "age_secs": self.checked_at.since(token.iat).as_secs(),
                "expires_at": token.exp.map(instant),
                "ttl_secs": token.ttl,
                "cache_until": self.cache_until().map(instant),
                "bits": token.bits.get(),
                "entries": token.entries,
                "redirected_to": self.redirected_to,
            })
        });
        json!({
            "outcome": outcome,
            "status": self.status().map(|status| status.to_string()),
            "value": self.status().map(Status::value),
            "why": self.why(),
            "uri": self.uri,
            "idx": self.idx,
            "time": self.time.map(instant),
            "checked_at": instant(self.checked_at),
            "token": token,
            "note": CREDENTIAL_NOTE,
        })
    }

    fn is_current(&self) -> bool {
        self.time.is_none() && !matches!(self.outcome, Outcome::Unknown(_))
    }

    fn why(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Valid => None,
            Outcome::NotValid(why) => Some(why.to_string()),
            Outcome::Unknown(why) => Some(why.to_string()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::NotValid(NotValid::OutsideList(_)) => f.write_str("NOT VALID")?,
            Outcome::Unknown(_) => f.write_str("COULD NOT TELL")?,
            _ => write!(f, "{}", self.status().unwrap_or(Status::VALID))?,
        }
        write!(f, "  idx {} of {}", self.idx, self.uri.escape_debug())?;
        if let Some(time) = self.time {
            write!(f, " at {}", instant(time))?;
        }
        writeln!(f)?;
        let mut line = |name: &str, text: &str| writeln!(f, "  {name:<12} {text}");
        // The first word already names a status.
        if let Some(why) = self.why().filter(|_| self.status().is_none()) {
            line("why", &why)?;
        }
        if let Some(token) = &self.token {
            for (name, text) in self.token_lines(token) {
                line(name, &text)?;
            }
        }
        if matches!(self.outcome, Outcome::Unknown(_)) {
            line("note", UNKNOWN_NOTE)?;
        }
        line("note", CREDENTIAL_NOTE)
    }
}

impl Report {
    fn token_lines(&self, token: &TokenFacts) -> Vec<(&'static str, String)> {
        let now = self.checked_at;
        let expires = match token.exp {
            Some(exp) if exp > now => format!("{} (in {})", instant(exp), span(exp.since(now))),
            Some(exp) => format!("{} ({} ago)", instant(exp), span(now.since(exp))),
            None => "never, which the specification advises against".to_owned(),
        };
        let cache = match (self.cache_until(), token.ttl) {
            (Some(until), Some(ttl)) => format!("{} (ttl {}); {CACHE_NOTE}", instant(until), span(ttl)),
            (Some(until), None) => format!("{} (no ttl, so `exp`); {CACHE_NOTE}", instant(until)),
            (None, _) => "fetch again each time: it has neither `ttl` nor `exp`".to_owned(),
        };
        let entries = match token.entries {
            Some(entries) => format!("{entries} entries of {} bit(s)", token.bits),
            None => format!("entries of {} bit(s), not inflated", token.bits),
        };
        let key = token.kid.as_ref().map_or("not named".to_owned(), |kid| format!("{kid:?}"));
        let trusted = match &token.trusted_by {
            Some(by) => format!("trusted through {by}"),
            None => "NOT trusted: do not rely on what the token says".to_owned(),
        };
        let issued = format!("{} (age {})", instant(token.iat), span(now.since(token.iat)));
        let mut lines = vec![("issued at", issued), ("expires at", expires)];
        if self.is_current() {
            lines.push(("cache until", cache));
        }
        lines.extend([
            ("list", entries),
            ("token", format!("{}, {} bytes, alg {:?}", token.format.media_type(), token.bytes, token.alg)),
            ("key", format!("{key}, {trusted}")),
        ]);
        lines.extend(self.redirected_to.iter().map(|to| ("came from", to.clone())));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::tests::{NOW, after};
    use super::super::{CannotTell, FetchError};
    use super::*;
    use crate::status_list::IndexOutOfRange;

    fn report(outcome: Outcome) -> Report {
        let token = TokenFacts {
            format: Format::Jwt,
            bytes: 321,
            alg: "ES256".into(),
            kid: Some("a\u{1b}[2J".into()),
            trusted_by: Some(TrustedBy::Jwks),
            iat: after(-12),
            exp: Some(after(86_400)),
            ttl: Some(Duration::from_secs(600)),
            certificates_end: None,
            content: [0; 32],
            bits: Bits::One,
            entries: Some(100_000),
        };
        Report::new(&Check::new("http://localhost:8090/lists/1", 4711), NOW, outcome, Some(token))
    }

    #[test]
    fn text_form_is_for_people() {
        let text = report(Outcome::NotValid(NotValid::Status(Status::INVALID))).to_string();
        assert_eq!(
            text,
            r#"INVALID  idx 4711 of http://localhost:8090/lists/1
  issued at    2027-01-15T07:59:48Z (age 12s)
  expires at   2027-01-16T08:00:00Z (in 24h)
  cache until  2027-01-15T08:10:00Z (ttl 10m); HTTP cache headers are ignored: `exp` and `ttl` decide
  list         100000 entries of 1 bit(s)
  token        application/statuslist+jwt, 321 bytes, alg "ES256"
  key          "a\u{1b}[2J", trusted through a key of the trusted JWKS
  note         this says nothing about the credential itself: check its signature and its expiry first, they come before its status
"#
        );
    }

    #[test]
    fn first_word_is_the_outcome() {
        let first = |outcome| report(outcome).to_string().split("  ").next().unwrap().to_owned();
        let status = |value| Outcome::NotValid(NotValid::Status(Status::new(value)));
        assert_eq!(first(Outcome::Valid), "VALID");
        assert_eq!(first(status(2)), "SUSPENDED");
        assert_eq!(first(status(3)), "APPLICATION_SPECIFIC (0x03)");
        assert_eq!(first(status(0x0B)), "UNREGISTERED (0x0b)");
        assert_eq!(first(Outcome::NotValid(IndexOutOfRange { idx: 4711, entries: 16 }.into())), "NOT VALID");
        assert_eq!(first(Outcome::Unknown(CannotTell::NoTrust)), "COULD NOT TELL");
    }

    #[test]
    fn failure_without_a_token_is_short() {
        let why = FetchError::TooLarge { max: 9 };
        let request = Check { time: Some(NumericDate::MIN), ..Check::new("http://x/\u{1b}", 0) };
        let report = Report::new(&request, NOW, Outcome::Unknown(why.into()), None);
        let text = report.to_string();
        assert!(
            text.starts_with(
                "COULD NOT TELL  idx 0 of http://x/\\u{1b} at 1970-01-01T00:00:00Z\n  \
                 why          the response has more than 9 bytes\n  \
                 note         treat the credential as not valid"
            ),
            "{text}"
        );
        assert_eq!(report.to_json()["token"], Value::Null);
    }

    #[test]
    fn json_form_is_for_programs() {
        let json = report(Outcome::NotValid(NotValid::Status(Status::INVALID))).to_json();
        assert_eq!(
            (&json["outcome"], &json["status"], &json["value"]),
            (&json!("not-valid"), &json!("INVALID"), &json!(1))
        );
        assert_eq!(json["token"]["cache_until"], "2027-01-15T08:10:00Z");
        assert_eq!(json["token"]["age_secs"], 12);
        let json = report(Outcome::Unknown(CannotTell::NoTrust)).to_json();
        assert_eq!((&json["outcome"], &json["status"]), (&json!("unknown"), &Value::Null));
        assert!(json["why"].as_str().unwrap().contains("--trust"));
    }

    #[test]
    fn cache_ends_with_the_earlier_of_ttl_and_exp() {
        let check = |ttl, exp, expected| {
            let mut report = report(Outcome::Valid);
            report.token = report.token.map(|token| TokenFacts { ttl, exp, ..token });
            assert_eq!(report.cache_until(), expected);
            assert!(report.to_string().contains("cache until"), "each of them can be displayed");
        };
        let ttl = Some(Duration::from_secs(600));
        check(ttl, Some(after(10)), Some(after(10)));
        check(ttl, None, Some(after(600)));
        check(None, Some(after(10)), Some(after(10)));
        check(None, None, None);
        check(Some(Duration::MAX), None, Some(NumericDate::MAX));

        let unknown = report(Outcome::Unknown(CannotTell::NoTrust));
        let past = Report { time: Some(after(-60)), ..report(Outcome::Valid) };
        for report in [unknown, past] {
            assert_eq!(report.cache_until(), None);
            assert!(!report.to_string().contains("cache until"), "{report}");
        }
    }
}
