//! What a deployment will need: computes lists, sizes, signatures, traffic, memory and staleness from issuance, revocations
//! and fetches. Pure arithmetic except for `token`, which rehearses publications to measure sizes and times. The results
//! are compared with simulations here, and with the running service in `tests/it/plan.rs`.
//!
//! The model: references are taken evenly over time and are valid equally long; revocations hit any of them at any time,
//! independently; verifiers fetch any list at any time and keep it for `ttl`. If issuance comes in bursts, plan with the
//! busiest day.

mod token;

pub use token::TokenSize;

use std::time::Duration;

use serde::Serialize;

use crate::status_list::Capacity;

const DAY_SECS: f64 = 86_400.0;
/// Bytes of a list in Redis besides its statuses: its hash, and its entries in the pool's sets (measured).
const REDIS_LIST_BYTES: f64 = 1100.0;
/// Bytes in Redis for the scripts, and for one instance's connections (measured).
const REDIS_BASE_BYTES: f64 = 540_000.0;
/// Bytes of an update in SQLite's journal, including its share of the B-tree (measured). Many updates of a list in one step take less.
const JOURNAL_ROW_BYTES: f64 = 30.0;
/// Bytes of a list's row in SQLite with its indexes (measured).
const SQLITE_LIST_BYTES: f64 = 300.0;
/// Bytes of statuses in one row of SQLite, and the space of such a row, full or not: a page of its own, and a share in
/// another.
const SQLITE_CHUNK: f64 = 4096.0;
const SQLITE_CHUNK_BYTES: f64 = 4600.0;
/// Bytes of SQLite's write-ahead log: a thousand pages with their headers.
const SQLITE_LOG_BYTES: f64 = 1000.0 * (4096.0 + 24.0);
/// Seconds that the hourly comparison of files takes for each list (measured).
const LOOK_SECONDS: f64 = 0.000_061;
/// The interval of that comparison.
const LOOKS_PER_SECOND: f64 = 1.0 / 3600.0;
/// The part of `resign-after` at which an unchanged list is renewed: within the last tenth, differently for each list.
const RENEWED_AT: f64 = 0.95;
/// Seconds for small delays: timers, fsyncs, and waiting for the next second if a list already has a token of this second.
const MOMENT_SECONDS: f64 = 1.0;

/// The expected load, and the settings.
#[derive(Clone, Debug)]
pub struct Demand {
    /// New references per day.
    pub references_per_day: f64,
    /// How long a credential with a reference is valid.
    pub lifetime: Duration,
    /// The share of all references that is revoked before its end, 0 to 1.
    pub revocation_rate: f64,
    /// Number of verifiers (or caches in front of them) that fetch lists.
    pub verifiers: f64,
    /// Number of credentials that each of them checks per day.
    pub checks_per_day: f64,
    /// Entries of a list, and bits of an entry.
    pub capacity: Capacity,
    /// `open-lists`, summed over all instances.
    pub open_lists: u32,
    /// `precreation.lists`, summed over all instances.
    pub precreated_lists: u32,
    /// `update-interval`.
    pub beat: Duration,
    /// `ttl`.
    pub ttl: Duration,
    /// `list-lifetime`.
    pub list_lifetime: Duration,
    /// CPU seconds to publish a changed list.
    pub publish_seconds: f64,
    /// CPU seconds to renew an unchanged list.
    pub renewal_seconds: f64,
}

/// What the demand requires.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Published lists, if each is retired when its last credential has ended: lists with references of valid credentials,
    /// lists being filled, and unused ones.
    pub lists: f64,
    /// New lists per day.
    pub new_lists_per_day: f64,
    /// Valid credentials.
    pub live_references: f64,
    /// The share of set entries in a list that is about to end: the largest share that occurs.
    pub set_share_at_end: f64,
    /// Updates per second, on average.
    pub updates_per_second: f64,
    /// Changed lists per beat, on average.
    pub changed_lists_per_beat: f64,
    /// Unchanged lists renewed per beat, on average.
    pub renewed_lists_per_beat: f64,
    /// Signatures per day, in one format.
    pub signatures_per_day: f64,
    /// CPU seconds to publish the lists of an average beat, in one format.
    pub publishing_seconds_per_beat: f64,
    /// The share of one core that publishing takes.
    pub publishing_cpu_share: f64,
    /// Fetches by verifiers per second: each list at most once in a `ttl`.
    pub fetches_per_second: f64,
    /// The least number of requests per second at the origin, behind one cache that keeps lists for a beat.
    pub origin_fetches_per_second: f64,
    /// Seconds until the last verifier sees a revocation through a cache: as without a cache, plus the time that the cache
    /// may keep a list and then serve it once more.
    pub staleness_max_seconds: f64,
    /// The same for verifiers that fetch from the origin: the beat, the time in which one core publishes the lists of an
    /// average beat and compares all files, the small delays, and `ttl`.
    pub staleness_max_without_cache_seconds: f64,
    /// Bytes of memory that Redis needs for all lists.
    pub redis_bytes: f64,
    /// Bytes of SQLite's files after the lifetime of a credential, journal included.
    pub sqlite_bytes: f64,
}

impl Plan {
    /// Computes what `demand` requires.
    pub fn of(demand: &Demand) -> Self {
        let lifetime_days = demand.lifetime.as_secs_f64() / DAY_SECS;
        let beat = demand.beat.as_secs_f64();
        let size = f64::from(demand.capacity.entries());
        let live_references = demand.references_per_day * lifetime_days;
        let new_lists_per_day = demand.references_per_day / size;
        // A list is needed from its first reference until its last one has ended. If several lists are filled at the same
        // time, each takes that many times longer to fill.
        let lists_in_use = live_references / size + f64::from(demand.open_lists);
        let lists = lists_in_use + f64::from(demand.precreated_lists);
        let updates_per_second = demand.references_per_day * demand.revocation_rate / DAY_SECS;
        let changed_lists_per_beat = hit(lists_in_use, updates_per_second * beat);
        // A change also renews the list.
        let resign_after = demand.list_lifetime.as_secs_f64() / 2.0 * RENEWED_AT;
        let unchanged = (1.0 - changed_lists_per_beat / lists).max(0.0);
        let renewed_lists_per_beat =
            lists * (beat / resign_after).min(1.0) * unchanged.powf(resign_after / beat);
        let signatures_per_day = (changed_lists_per_beat + renewed_lists_per_beat) * DAY_SECS / beat;
        let publishing_seconds_per_beat =
            changed_lists_per_beat * demand.publish_seconds + renewed_lists_per_beat * demand.renewal_seconds;
        let look_seconds = lists * LOOK_SECONDS;
        let ttl = demand.ttl.as_secs_f64();
        let staleness_at_origin = beat + publishing_seconds_per_beat + look_seconds + MOMENT_SECONDS;
        // Origins send `max-age`, and `stale-while-revalidate` of the same length.
        let kept_by_cache = 2.0 * beat.min(ttl);
        let fetches_of_one = hit(lists_in_use, demand.checks_per_day * ttl / DAY_SECS) / ttl;
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
            publishing_seconds_per_beat,
            publishing_cpu_share: publishing_seconds_per_beat / beat + look_seconds * LOOKS_PER_SECOND,
            fetches_per_second,
            origin_fetches_per_second: hit(lists_in_use, fetches_per_second * beat) / beat,
            staleness_max_seconds: staleness_at_origin + kept_by_cache + ttl,
            staleness_max_without_cache_seconds: staleness_at_origin + ttl,
            redis_bytes: REDIS_BASE_BYTES + lists * (allocated(array_bytes) + REDIS_LIST_BYTES),
            sqlite_bytes: SQLITE_LOG_BYTES
                + lists * ((array_bytes / SQLITE_CHUNK).ceil() * SQLITE_CHUNK_BYTES + SQLITE_LIST_BYTES)
                + updates_in_store * JOURNAL_ROW_BYTES,
        }
    }
}

/// How many of `places` are hit at least once by this many random events.
fn hit(places: f64, events: f64) -> f64 {
    places * -(-events / places).exp_m1()
}

/// What Redis' allocator takes for this many bytes: there are four sizes from one power of two to the next.
fn allocated(bytes: f64) -> f64 {
    /// The overhead of a string.
    const AROUND: f64 = 8.0;
    let step = 2_f64.powf((bytes + AROUND).log2().floor()) / 4.0;
    ((bytes + AROUND) / step).ceil() * step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::NumericDate;
    use crate::config::Lifetimes;
    use crate::publish::pass::schedule;
    use crate::status_list::{Bits, ListId};

    /// The wallets of a whole country.
    fn country() -> Demand {
        Demand {
            references_per_day: 200_000.0,
            lifetime: Duration::from_secs(365 * 86_400),
            revocation_rate: 0.01,
            verifiers: 1000.0,
            checks_per_day: 5000.0,
            capacity: Capacity::new(100_000, Bits::One).unwrap(),
            open_lists: 2,
            precreated_lists: 1,
            beat: Duration::from_secs(60),
            ttl: Duration::from_secs(900),
            list_lifetime: Duration::from_secs(86_400),
            publish_seconds: 0.004,
            renewal_seconds: 0.001,
        }
    }

    #[test]
    fn plain_sums_add_up() {
        let plan = Plan::of(&country());
        assert_eq!((plan.live_references, plan.lists, plan.new_lists_per_day), (73e6, 733.0, 2.0));
        assert!((plan.updates_per_second - 2000.0 / 86_400.0).abs() < 1e-9);
        // 1.4 updates per beat hit about as many of 732 lists.
        assert!((plan.changed_lists_per_beat - 1.388).abs() < 0.01, "{}", plan.changed_lists_per_beat);
        // A verifier checks 52 credentials in a `ttl`, nearly all of different lists.
        assert!((plan.fetches_per_second - 1000.0 * 50.3 / 900.0).abs() < 0.5, "{}", plan.fetches_per_second);
        let publishing = plan.changed_lists_per_beat * 0.004 + plan.renewed_lists_per_beat * 0.001;
        assert!((plan.publishing_seconds_per_beat - publishing).abs() < 1e-9, "{plan:?}");
        // Comparing the files of 733 lists takes less than a twentieth of a second, once an hour.
        assert!((plan.publishing_cpu_share - publishing / 60.0 - 0.045 / 3600.0).abs() < 1e-6, "{plan:?}");
        let at_origin = 60.0 + publishing + 733.0 * 0.000_061 + 1.0 + 900.0;
        assert!((plan.staleness_max_without_cache_seconds - at_origin).abs() < 1e-9, "{plan:?}");
        assert!((plan.staleness_max_seconds - at_origin - 120.0).abs() < 1e-9, "{plan:?}");
        // 12.5 kB per list, for which the allocator takes 14 KiB, and a kilobyte of overhead.
        assert!((11.7e6..11.9e6).contains(&plan.redis_bytes), "{}", plan.redis_bytes);
    }

    #[test]
    fn no_result_exceeds_its_bound() {
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
        // All lists once in half of their lifetime, or a little earlier.
        assert!((plan.signatures_per_day - plan.lists * 2.0 / 0.95).abs() < 1.0, "{plan:?}");
    }

    /// References taken in turn from lists that are filled at the same time, and that begin and end at different times.
    #[test]
    fn lists_match_a_simulation() {
        for (open_lists, lifetime_lists) in [(1, 5), (2, 5), (4, 3), (3, 0)] {
            const SIZE: u32 = 800;
            let lifetime = lifetime_lists * SIZE + 1;
            let mut demand = country();
            demand.capacity = Capacity::new(SIZE.into(), Bits::One).unwrap();
            (demand.open_lists, demand.precreated_lists) = (open_lists, 2);
            // One reference per second.
            (demand.references_per_day, demand.lifetime) = (DAY_SECS, Duration::from_secs(lifetime.into()));
            // The number of references taken from each open list, and the end of the last one of each full list.
            let mut open: Vec<_> = (0..open_lists).map(|list| SIZE * list / open_lists).collect();
            let (mut full, mut published, mut taken) = (std::collections::VecDeque::new(), 0.0, 0_u32);
            let (settled, end) = (20 * SIZE, 100 * SIZE);
            for now in 0..end {
                let list = (taken % open_lists) as usize;
                taken += 1;
                open[list] += 1;
                if open[list] == SIZE {
                    open[list] = 0;
                    full.push_back(now + lifetime);
                }
                while full.front().is_some_and(|ended| *ended < now) {
                    full.pop_front();
                }
                if now >= settled {
                    published += f64::from(open_lists) + full.len() as f64 + 2.0;
                }
            }
            let (simulated, planned) = (published / f64::from(end - settled), Plan::of(&demand).lists);
            assert!(
                (planned - simulated).abs() < 0.1,
                "{open_lists} open: planned {planned}, simulated {simulated}"
            );
        }
    }

    /// Random changes of lists, beat by beat. Each list is renewed when the publisher's own schedule says so.
    #[test]
    fn signatures_match_a_simulation() {
        let mut demand = country();
        demand.references_per_day = 20_000.0;
        demand.revocation_rate = 0.05;
        let plan = Plan::of(&demand);
        let lists = plan.lists.round() as usize;
        let in_use = lists - demand.precreated_lists as usize;
        let (beats_a_day, beat) = (1440, 60);
        let lifetimes = Lifetimes {
            list_lifetime: demand.list_lifetime,
            ttl: demand.ttl,
            resign_after: demand.list_lifetime / 2,
        };
        let per_beat = plan.updates_per_second * 60.0;
        let mut resign: Vec<_> = (0..lists as u64)
            .map(|list| {
                let at = list * lifetimes.resign_after.as_secs() / lists as u64;
                (ListId::random(), NumericDate::from_secs(at))
            })
            .collect();
        let (mut state, mut signatures, mut owed) = (7_u64, 0, 0.0);
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let days = 50_u32;
        for now in (0..beats_a_day * u64::from(days)).map(|n| NumericDate::from_secs(n * beat)) {
            owed += per_beat;
            let mut changed = std::collections::BTreeSet::new();
            while owed >= 1.0 {
                owed -= 1.0;
                changed.insert(random(in_use));
            }
            let due = schedule::due_by(now.into(), Duration::from_secs(beat)).date();
            for (n, (list, resign_at)) in resign.iter_mut().enumerate() {
                if changed.contains(&n) || *resign_at <= due {
                    *resign_at = schedule::resign_at(now, list, &lifetimes);
                    signatures += 1;
                }
            }
        }
        let simulated = f64::from(signatures) / f64::from(days);
        let ratio = plan.signatures_per_day / simulated;
        assert!((0.8..=1.25).contains(&ratio), "planned {}, simulated {simulated}", plan.signatures_per_day);
    }

    /// Verifiers that fetch random lists and keep each for `ttl`.
    #[test]
    fn fetches_match_a_simulation() {
        let mut demand = country();
        demand.verifiers = 1.0;
        let plan = Plan::of(&demand);
        let lists = plan.lists.round() as usize - demand.precreated_lists as usize;
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
