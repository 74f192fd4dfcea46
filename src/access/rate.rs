//! How often somebody may come, counted with `governor` (the generic cell rate algorithm): smooth, without a window's edge.
//!
//! What is kept of somebody is one number, and it goes when it says nothing any more. That is looked after once for every so
//! many checks as there are numbers, so at most twice as many are kept as have come within the rate's period.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::config::Rate;

/// Below so many it is not worth sweeping.
const SWEEP_MIN: usize = 1024;

/// Counts each `K` apart.
pub(super) struct Limiter<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    checks_until_sweep: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    pub(super) fn new(rate: Rate) -> Self {
        let limiter = DefaultKeyedRateLimiter::keyed(quota(rate));
        Self { limiter, checks_until_sweep: SWEEP_MIN.into() }
    }

    /// Counts one more, or answers how long to wait if that is one too many.
    pub(super) fn check(&self, who: &K) -> Result<(), Duration> {
        // Of those who see 1, whoever was first sweeps; that a few more checks go by meanwhile does no harm.
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

/// Counts what failed, and shuts out who failed too often.
pub(super) struct Failures {
    limiter: Limiter<IpAddr>,
    /// Who is shut out until when; entries that are over go when the next one comes.
    shut_out: Mutex<HashMap<IpAddr, Instant>>,
}

impl Failures {
    pub(super) fn new(rate: Rate) -> Self {
        Self { limiter: Limiter::new(rate), shut_out: Mutex::default() }
    }

    /// Whether they may try, or how long they have to wait.
    pub(super) fn check(&self, who: &IpAddr) -> Result<(), Duration> {
        let until = self.shut_out().get(who).copied();
        let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
        left.filter(|left| !left.is_zero()).map_or(Ok(()), Err)
    }

    /// They failed once more.
    pub(super) fn count(&self, who: &IpAddr) {
        if let Err(wait) = self.limiter.check(who) {
            let now = Instant::now();
            let mut shut_out = self.shut_out();
            shut_out.retain(|_, until| *until > now);
            shut_out.insert(*who, now + wait);
        }
    }

    fn shut_out(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.shut_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn quota(rate: Rate) -> Quota {
    let each = (rate.period / rate.times.get()).max(Duration::from_nanos(1));
    Quota::with_period(each).expect("at least a nanosecond").allow_burst(rate.times)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn what_says_nothing_any_more_is_not_kept() {
        // A nanosecond later every one of them is forgotten.
        let limiter = Limiter::new(Rate { times: NonZeroU32::MIN, period: Duration::from_nanos(1) });
        for who in 0..100_000_u32 {
            limiter.check(&who).unwrap();
        }
        assert!(limiter.limiter.len() <= 2 * SWEEP_MIN, "{}", limiter.limiter.len());
    }

    #[test]
    fn who_still_counts_is_kept() {
        let limiter = Limiter::new("1/h".parse().unwrap());
        for who in 0..10_000_u32 {
            limiter.check(&who).unwrap();
        }
        assert!((0..10_000).all(|who| limiter.check(&who).is_err()));
    }

    #[test]
    fn who_failed_too_often_is_shut_out_for_a_while() {
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
