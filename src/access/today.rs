//! How many references of a pool were handed out today, in all and to each caller, so that no caller fills the store.
//!
//! Counts in memory: each instance by itself, and anew after a restart. A day begins at midnight UTC.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::Identity;
use crate::base::clock::Timestamp;
use crate::config::Quotas;

const DAY_SECS: u64 = 86_400;

/// The references of one pool that were handed out today.
#[derive(Debug, Default)]
pub struct Today(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// Days since 1970.
    day: u64,
    all: u64,
    of_callers: HashMap<Identity, u64>,
}

/// A request asks for more references than are left today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedUp {
    /// The setting that says so, below that of the pool.
    pub setting: &'static str,
    /// Its value.
    pub most: u32,
    /// How many are left.
    pub left: u64,
    /// The time to midnight.
    pub retry_after: Duration,
}

impl Today {
    /// Counts `amount` references for this caller, or fails without counting. Returns how many were handed out today in all.
    pub fn count(
        &self,
        caller: &Identity,
        amount: u32,
        quotas: &Quotas,
        now: Timestamp,
    ) -> Result<u64, UsedUp> {
        let mut counted = self.0.lock();
        let secs = now.date().secs();
        let day = secs / DAY_SECS;
        if counted.day != day {
            *counted = Counted { day, ..Counted::default() };
        }
        let of_caller = counted.of_callers.get(caller).copied().unwrap_or_default();
        for (setting, most, used) in [
            ("quotas.references-per-day", quotas.references_per_day, counted.all),
            ("quotas.references-per-key-per-day", quotas.references_per_key_per_day, of_caller),
        ] {
            let Some(most) = most else { continue };
            let left = u64::from(most).saturating_sub(used);
            if u64::from(amount) > left {
                let retry_after = Duration::from_secs(DAY_SECS - secs % DAY_SECS);
                return Err(UsedUp { setting, most, left, retry_after });
            }
        }
        counted.all += u64::from(amount);
        if quotas.references_per_key_per_day.is_some() {
            counted.of_callers.insert(*caller, of_caller + u64::from(amount));
        }
        Ok(counted.all)
    }

    /// Takes back what was counted for references that the caller did not get after all.
    pub fn take_back(&self, caller: &Identity, amount: u32) {
        let mut counted = self.0.lock();
        counted.all = counted.all.saturating_sub(amount.into());
        if let Some(of_caller) = counted.of_callers.get_mut(caller) {
            *of_caller = of_caller.saturating_sub(amount.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::api_key::ApiKeyHash;

    const MIDNIGHT: u64 = 20_000 * DAY_SECS;

    fn caller(key: &str) -> Identity {
        Identity::of_api_key(&ApiKeyHash::of(key))
    }

    fn quotas(all: u32, of_each: u32) -> Quotas {
        Quotas { lists: 1, references_per_day: Some(all), references_per_key_per_day: Some(of_each) }
    }

    #[test]
    fn each_day_has_a_quota_for_all_and_one_for_each_caller() {
        let (today, quotas, now) = (Today::default(), quotas(10, 6), Timestamp::from_secs(MIDNIGHT + 100));
        let (one, other) = (caller("one"), caller("other"));
        assert_eq!(today.count(&one, 6, &quotas, now), Ok(6));
        let retry_after = Duration::from_secs(DAY_SECS - 100);
        let setting = "quotas.references-per-key-per-day";
        assert_eq!(
            today.count(&one, 1, &quotas, now),
            Err(UsedUp { setting, most: 6, left: 0, retry_after })
        );
        let setting = "quotas.references-per-day";
        assert_eq!(
            today.count(&other, 5, &quotas, now),
            Err(UsedUp { setting, most: 10, left: 4, retry_after })
        );
        assert_eq!(today.count(&other, 4, &quotas, now), Ok(10), "what was refused is not counted");
        today.take_back(&one, 2);
        assert_eq!(today.count(&one, 2, &quotas, now), Ok(10));
        let tomorrow = Timestamp::from_secs(MIDNIGHT + DAY_SECS);
        assert_eq!(today.count(&one, 6, &quotas, tomorrow), Ok(6));
    }

    #[test]
    fn without_a_quota_everything_is_counted_and_nothing_refused() {
        let none = Quotas { lists: 1, references_per_day: None, references_per_key_per_day: None };
        let (today, now) = (Today::default(), Timestamp::from_secs(MIDNIGHT));
        assert_eq!(today.count(&caller("one"), u32::MAX, &none, now), Ok(u32::MAX.into()));
        // A quota that comes by a reload counts what was handed out before.
        assert!(today.count(&caller("one"), 1, &quotas(7, 7), now).is_err());
    }
}
