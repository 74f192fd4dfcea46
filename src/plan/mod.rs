//! What a deployment comes to before there is one: from how much is issued, revoked and asked to lists, sizes, signatures,
//! traffic, memory and staleness. Pure arithmetic but for `token`, which encodes and signs real lists to see their size.
//!
//! The model: references are taken evenly over time and live equally long; revocations hit any of them at any time, each on
//! its own; verifiers ask for any list at any time and keep what they fetched for `ttl`. Where issuance comes in bursts, the
//! busiest day is what to plan with.

mod token;

pub use token::TokenSize;

use std::time::Duration;

use serde::Serialize;

use crate::status_list::Capacity;

const DAY_SECS: f64 = 86_400.0;
/// Bytes of a list in Redis beside its statuses: its hash, its places in the pool's sets, what the allocator rounds up (measured
/// with lists of 10 kB).
const REDIS_LIST_BYTES: f64 = 3000.0;
/// Bytes of an update in SQLite's journal with its share of the tree (measured).
const JOURNAL_ROW_BYTES: f64 = 30.0;
/// Bytes of a list's row in SQLite beside its statuses (measured).
const SQLITE_LIST_BYTES: f64 = 500.0;

/// What is known or wanted.
#[derive(Clone, Debug)]
pub struct Demand {
    /// New references a day.
    pub references_per_day: f64,
    /// How long a credential with a reference is valid.
    pub lifetime: Duration,
    /// Which share of all references is revoked before its end, 0 to 1.
    pub revocation_rate: f64,
    /// How many verifiers (or caches in front of them) fetch lists.
    pub verifiers: f64,
    /// How many credentials each of them checks a day.
    pub checks_per_day: f64,
    /// Entries of a list, and bits of each.
    pub capacity: Capacity,
    /// `update-interval`.
    pub beat: Duration,
    /// `ttl`.
    pub ttl: Duration,
    /// `list-lifetime`.
    pub list_lifetime: Duration,
}

/// What it comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Lists that have references of valid credentials, and the ones that are open.
    pub lists: f64,
    /// New lists a day.
    pub new_lists_per_day: f64,
    /// Valid credentials.
    pub live_references: f64,
    /// The share of entries that are set in a list that is about to end: the largest there will be.
    pub set_share_at_end: f64,
    /// Updates a second, on average.
    pub updates_per_second: f64,
    /// Lists that a beat finds changed, on average.
    pub changed_lists_per_beat: f64,
    /// Lists that a beat renews although nothing changed, on average.
    pub renewed_lists_per_beat: f64,
    /// Signatures a day, in one format.
    pub signatures_per_day: f64,
    /// Fetches that verifiers make a second: each list at most once in a `ttl`.
    pub fetches_per_second: f64,
    /// The least that the origin answers a second behind one cache that keeps lists for a beat.
    pub origin_fetches_per_second: f64,
    /// Seconds until the last verifier sees a revocation: the beat, what a cache may keep and serve once more, and `ttl`.
    pub staleness_max_seconds: f64,
    /// The same where verifiers fetch from the origin.
    pub staleness_max_without_cache_seconds: f64,
    /// Bytes that Redis needs for all lists.
    pub redis_bytes: f64,
    /// Bytes of the SQLite file after as long as a credential is valid, journal included.
    pub sqlite_bytes: f64,
}

impl Plan {
    /// What `demand` comes to.
    pub fn of(demand: &Demand) -> Self {
        let lifetime_days = demand.lifetime.as_secs_f64() / DAY_SECS;
        let beat = demand.beat.as_secs_f64();
        let size = f64::from(demand.capacity.entries());
        let live_references = demand.references_per_day * lifetime_days;
        let new_lists_per_day = demand.references_per_day / size;
        // A list is needed from its first reference until the last one given out of it has ended.
        let lists = live_references / size + 1.0;
        let updates_per_second = demand.references_per_day * demand.revocation_rate / DAY_SECS;
        let changed_lists_per_beat = hit(lists, updates_per_second * beat);
        // What changes is renewed by that.
        let resign_after = demand.list_lifetime.as_secs_f64() / 2.0;
        let unchanged = (1.0 - changed_lists_per_beat / lists).max(0.0);
        let renewed_lists_per_beat =
            lists * (beat / resign_after).min(1.0) * unchanged.powf(resign_after / beat);
        let signatures_per_day = (changed_lists_per_beat + renewed_lists_per_beat) * DAY_SECS / beat;
        let ttl = demand.ttl.as_secs_f64();
        let fetches_of_one = hit(lists, demand.checks_per_day * ttl / DAY_SECS) / ttl;
        let fetches_per_second = demand.verifiers * fetches_of_one;
        let array_bytes = demand.capacity.bytes() as f64;
        let updates_in_store = demand.references_per_day * demand.revocation_rate * lifetime_days;
        Self {
            lists,
            new_lists_per_day,
            live_references,
            set_share_at_end: demand.revocation_rate,
            updates_per_second,
            changed_lists_per_beat,
            renewed_lists_per_beat,
            signatures_per_day,
            fetches_per_second,
            origin_fetches_per_second: hit(lists, fetches_per_second * beat) / beat,
            staleness_max_seconds: 3.0 * beat + 1.0 + ttl,
            staleness_max_without_cache_seconds: beat + 1.0 + ttl,
            redis_bytes: lists * (array_bytes + REDIS_LIST_BYTES),
            sqlite_bytes: lists * (array_bytes + SQLITE_LIST_BYTES) + updates_in_store * JOURNAL_ROW_BYTES,
        }
    }
}

/// How many of `places` are hit at least once by so many events that fall on any of them.
fn hit(places: f64, events: f64) -> f64 {
    places * -(-events / places).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::Bits;

    /// A country's wallets.
    fn country() -> Demand {
        Demand {
            references_per_day: 200_000.0,
            lifetime: Duration::from_secs(365 * 86_400),
            revocation_rate: 0.01,
            verifiers: 1000.0,
            checks_per_day: 5000.0,
            capacity: Capacity::new(100_000, Bits::One).unwrap(),
            beat: Duration::from_secs(60),
            ttl: Duration::from_secs(900),
            list_lifetime: Duration::from_secs(86_400),
        }
    }

    #[test]
    fn plain_sums_add_up() {
        let plan = Plan::of(&country());
        assert_eq!((plan.live_references, plan.lists, plan.new_lists_per_day), (73e6, 731.0, 2.0));
        assert!((plan.updates_per_second - 2000.0 / 86_400.0).abs() < 1e-9);
        // 1.4 updates a beat hit about as many of 731 lists.
        assert!((plan.changed_lists_per_beat - 1.388).abs() < 0.01, "{}", plan.changed_lists_per_beat);
        // A verifier checks 52 credentials in a `ttl`, nearly all of different lists.
        assert!((plan.fetches_per_second - 1000.0 * 50.3 / 900.0).abs() < 0.5, "{}", plan.fetches_per_second);
        assert_eq!(plan.staleness_max_seconds, 3.0 * 60.0 + 1.0 + 900.0);
        // 12.5 kB a list and 3 kB around it.
        assert!((11.2e6..11.5e6).contains(&plan.redis_bytes), "{}", plan.redis_bytes);
    }

    #[test]
    fn nothing_is_more_than_it_can_be() {
        let mut busy = country();
        busy.revocation_rate = 1.0;
        busy.references_per_day = 50e6;
        busy.lifetime = Duration::from_secs(86_400);
        let plan = Plan::of(&busy);
        assert!(plan.changed_lists_per_beat <= plan.lists && plan.renewed_lists_per_beat < 1e-6, "{plan:?}");
        assert!(plan.origin_fetches_per_second <= plan.lists / 60.0, "{plan:?}");
        let mut idle = country();
        idle.revocation_rate = 0.0;
        let plan = Plan::of(&idle);
        // All lists once in half of their lifetime.
        assert!((plan.signatures_per_day - plan.lists * 2.0).abs() < 1.0, "{plan:?}");
    }

    /// Changes thrown at lists at random, beat by beat, and each list renewed when it was not signed for long enough.
    #[test]
    fn signatures_are_those_of_a_simulation() {
        let mut demand = country();
        demand.references_per_day = 20_000.0;
        demand.revocation_rate = 0.05;
        let plan = Plan::of(&demand);
        let (lists, beats_a_day) = (plan.lists.round() as usize, 1440);
        let resign_after = 720;
        let per_beat = plan.updates_per_second * 60.0;
        let mut signed_at: Vec<i64> = (0..lists).map(|list| -((list * 720 / lists) as i64)).collect();
        let (mut state, mut signatures, mut owed) = (7_u64, 0, 0.0);
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let days = 50;
        for beat in 0..i64::from(beats_a_day * days) {
            owed += per_beat;
            let mut changed = std::collections::BTreeSet::new();
            while owed >= 1.0 {
                owed -= 1.0;
                changed.insert(random(lists));
            }
            for (list, signed) in signed_at.iter_mut().enumerate() {
                if changed.contains(&list) || beat - *signed >= resign_after {
                    *signed = beat;
                    signatures += 1;
                }
            }
        }
        let simulated = f64::from(signatures) / f64::from(days);
        let ratio = plan.signatures_per_day / simulated;
        assert!((0.8..=1.25).contains(&ratio), "planned {}, simulated {simulated}", plan.signatures_per_day);
    }

    /// Verifiers that ask for random lists and keep each for `ttl`.
    #[test]
    fn fetches_are_those_of_a_simulation() {
        let mut demand = country();
        demand.verifiers = 1.0;
        let plan = Plan::of(&demand);
        let lists = plan.lists.round() as usize;
        let mut kept_until = vec![0.0_f64; lists];
        let (mut state, mut fetches) = (11_u64, 0_u32);
        let days = 20.0;
        let every = DAY_SECS / demand.checks_per_day;
        let mut now = 0.0;
        while now < days * DAY_SECS {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let list = ((state >> 33) % lists as u64) as usize;
            if kept_until[list] <= now {
                kept_until[list] = now + 900.0;
                fetches += 1;
            }
            now += every;
        }
        let simulated = f64::from(fetches) / (days * DAY_SECS);
        let ratio = plan.fetches_per_second / simulated;
        assert!((0.95..=1.1).contains(&ratio), "planned {}, simulated {simulated}", plan.fetches_per_second);
    }
}
