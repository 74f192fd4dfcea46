//! Rate limits for each caller, counted with `governor` (the generic cell rate algorithm): smooth, without fixed windows.
//!
//! One number is kept for each caller, and evicted once it no longer limits that caller. Eviction runs after as many checks
//! as there are callers, so at most twice as many are kept as came within the rate's period.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota};
use parking_lot::{Mutex, MutexGuard};

use crate::config::Rate;

/// The fewest checks between two evictions.
const SWEEP_MIN: usize = 1024;

/// Limits the rate of each `K`.
pub(super) struct Limiter<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    checks_until_sweep: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    pub(super) fn new(rate: Rate) -> Self {
        let limiter = DefaultKeyedRateLimiter::keyed(quota(rate));
        Self { limiter, checks_until_sweep: SWEEP_MIN.into() }
    }

    /// Counts one event. If that is one too many, fails with the time to wait.
    pub(super) fn check(&self, who: &K) -> Result<(), Duration> {
        // Only the thread that sees 1 evicts; further checks in the meantime are harmless.
        if self.checks_until_sweep.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
            self.checks_until_sweep.store(self.limiter.len().max(SWEEP_MIN), Ordering::Relaxed);
        }
        let too_early =
            |not_until: governor::NotUntil<_>| not_until.wait_time_from(self.limiter.clock().now());
        self.limiter.check_key(who).map_err(too_early)
    }
}

/// Counts failures, and blocks addresses that failed too often.
pub(super) struct Failures {
    limiter: Limiter<IpAddr>,
    /// Blocked addresses and the end of each block. The next block removes those that are over.
    blocked: Mutex<HashMap<IpAddr, Instant>>,
}

impl Failures {
    pub(super) fn new(rate: Rate) -> Self {
        Self { limiter: Limiter::new(rate), blocked: Mutex::default() }
    }

    /// Fails with the time to wait if the address is blocked.
    pub(super) fn check(&self, who: &IpAddr) -> Result<(), Duration> {
        let until = self.blocked().get(who).copied();
        let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
        left.filter(|left| !left.is_zero()).map_or(Ok(()), Err)
    }

    /// Counts one failure.
    pub(super) fn count(&self, who: &IpAddr) {
        if let Err(wait) = self.limiter.check(who) {
            let now = Instant::now();
            let mut blocked = self.blocked();
            blocked.retain(|_, until| *until > now);
            blocked.insert(*who, now + wait);
        }
    }

    fn blocked(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.blocked.lock()
    }
}

fn quota(rate: Rate) -> Quota {
    let each = (rate.period / rate.times.get()).max(Duration::from_nanos(1));
    Quota::with_period(each).expect("the period is at least a nanosecond").allow_burst(rate.times)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn callers_that_no_longer_count_are_evicted() {
        // A nanosecond later each of them can be evicted.
        let limiter = Limiter::new(Rate { times: NonZeroU32::MIN, period: Duration::from_nanos(1) });
        for who in 0..100_000_u32 {
            limiter.check(&who).unwrap();
        }
        assert!(limiter.limiter.len() <= 2 * SWEEP_MIN, "{}", limiter.limiter.len());
    }

    #[test]
    fn callers_that_still_count_are_kept() {
        let limiter = Limiter::new("1/h".parse().unwrap());
        for who in 0..10_000_u32 {
            limiter.check(&who).unwrap();
        }
        assert!((0..10_000).all(|who| limiter.check(&who).is_err()));
    }

    #[test]
    fn addresses_with_too_many_failures_are_blocked_for_a_while() {
        let failures = Failures::new("20/s".parse().unwrap());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..21 {
            assert_eq!(failures.check(&one), Ok(()));
            failures.count(&one);
        }
        let wait = failures.check(&one).unwrap_err();
        assert!(wait <= Duration::from_millis(50), "{wait:?}");
        assert_eq!(failures.check(&other), Ok(()));
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(wait);
        assert_eq!(failures.check(&one), Ok(()));
    }
}
