//! A verified token that is held, and how long it may be used: `ttl` from its fetch on, never from its `exp` on (sections 8.3 and 13.7).
//!
//! Pure: the moment of a question comes in as an argument.

use std::time::Duration;

use super::rules::CacheRules;
use crate::base::clock::{Clock, NumericDate};
use crate::check::{Statuses, TokenFacts};
use crate::status_list::Format;

/// A moment on two clocks: the time of day, which `exp` is about, and one that nobody sets, which `ttl` is counted on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) date: NumericDate,
    pub(super) uptime: Duration,
}

impl Moment {
    pub(super) fn of(clock: &Clock) -> Self {
        Self { date: clock.now().date(), uptime: clock.uptime() }
    }

    /// The time since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Duration {
        self.uptime.saturating_sub(earlier.uptime)
    }
}

/// A token as it was fetched.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) format: Format,
    pub(super) bytes: Vec<u8>,
    /// By which its server names this version.
    pub(super) etag: Option<String>,
}

/// A verified token.
#[derive(Debug)]
pub(super) struct Held {
    /// Judged anew when its server says that it has not changed.
    pub(super) token: std::sync::Arc<Token>,
    pub(super) statuses: Statuses,
    pub(super) iat: NumericDate,
    /// When it was fetched, or its server said that it has not changed.
    fetched: Moment,
    fresh_for: Duration,
    renewed_after: Duration,
    /// The end of every use: `exp`, or when it is older than the rules allow.
    end: NumericDate,
}

impl Held {
    /// A token that was fetched at `fetched`. Of the time for which it may be used, `share` passes before it is renewed.
    pub(super) fn new(
        token: std::sync::Arc<Token>,
        statuses: Statuses,
        facts: &TokenFacts,
        (fetched, share): (Moment, f64),
        (rules, max_age): (&CacheRules, Option<Duration>),
    ) -> Self {
        let oldest = max_age.map(|age| facts.iat.plus(age).plus(Duration::from_secs(1)));
        let end = facts.exp.into_iter().chain(oldest).min();
        let ttl = match (facts.ttl, end) {
            (Some(ttl), _) => ttl.min(rules.ttl_max).max(rules.ttl_min),
            (None, Some(_)) => rules.ttl_max,
            (None, None) => rules.ttl_min,
        };
        let end = end.unwrap_or(NumericDate::MAX);
        let fresh_for = ttl.min(end.since(fetched.date));
        let renewed_after = fresh_for.mul_f64(share);
        Self { token, statuses, iat: facts.iat, fetched, fresh_for, renewed_after, end }
    }

    /// Whether it must not be used at all any more.
    pub(super) fn has_ended(&self, now: Moment) -> bool {
        // The second comparison is for a time of day that was set back.
        now.date >= self.end || self.age(now) >= self.end.since(self.fetched.date)
    }

    /// Since when it should have been fetched again; `None` while it is fresh.
    pub(super) fn stale_by(&self, now: Moment) -> Option<Duration> {
        match self.has_ended(now) {
            true => Some(Duration::MAX),
            false => self.age(now).checked_sub(self.fresh_for),
        }
    }

    /// Whether it is time to renew it.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.age(now) >= self.renewed_after
    }

    /// The time since it was fetched.
    pub(super) fn age(&self, now: Moment) -> Duration {
        now.since(self.fetched)
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.token.bytes.len() + self.statuses.bytes() + size_of::<Self>() + size_of::<Token>()
    }
}
