//! Verified lists in memory, so that a Relying Party tells statuses without a request for each: the rules of `check`, and those for
//! "Caching" (sections 8.3, 11.5, 13.7 and 13.8).
//!
//! Invariants: a token is used until its `ttl` after the fetch or its `exp` has passed, whichever is first, and longer only if the
//! rules allow stale answers, which say that they are stale. Of one list there is never more than one fetch at a time. A list never
//! goes back to an older token.

mod anchors;
mod answer;
mod held;
mod lists;
mod rules;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Freshness, NoStatus};
pub use rules::CacheRules;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::anchors::Anchors;
use self::held::{Held, Moment, Token};
use self::lists::{Flight, Landed, Lists};
use crate::base::clock::Clock;
use crate::check::{CannotTell, Check, FetchError, Trust, read, token_unless};
use crate::status_list::Reference;

/// The share of its time for which a token is used before it is renewed in the background, if it is asked for. It differs from fetch to
/// fetch, so that lists that were fetched together are not renewed together.
const RENEWED_AFTER: std::ops::Range<f64> = 0.7..0.9;

/// Tells statuses from lists that it fetches, verifies and holds in memory. A clone is another handle to the same cache.
///
/// It renews lists that are asked for when most of their time has passed, in tasks of the Tokio runtime that it is called on. A list that
/// nobody asks for is not fetched. What it knows ends with the process: an older token is recognised only while a newer one of the list
/// is held.
#[derive(Clone, Debug)]
pub struct StatusListCache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    check: Check,
    rules: CacheRules,
    clock: Clock,
    lists: Mutex<Lists>,
    anchors: Anchors,
    fetches: Semaphore,
    renewals: Arc<Semaphore>,
    counted: [AtomicU64; 4],
}

/// What a cache has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions that were answered from memory at once, those included whose answer is a failure that is remembered.
    pub from_memory: u64,
    /// Questions that had to wait for a fetch.
    pub waited: u64,
    /// Fetches, those in the background included.
    pub fetches: u64,
    /// Fetches that brought no usable token.
    pub failures: u64,
    /// Lists that are held at this moment.
    pub lists: usize,
    /// The memory that they take.
    pub bytes: usize,
}

#[derive(Clone, Copy)]
enum Event {
    FromMemory,
    Waited,
    Fetch,
    Failure,
}

/// What can be said without waiting.
enum Asked {
    Answered(Result<Answer, NoStatus>),
    Awaits(Flight),
}

impl StatusListCache {
    /// A cache that fetches and verifies by the rules of `check`: its trust anchors, profiles, format, `max_age`, limits and so on. Its
    /// `uri` and `idx` do not matter, and `time` is ignored. Issuers with other trust anchors need a cache of their own.
    pub fn new(check: Check, rules: CacheRules) -> Self {
        Self::with_clock(check, rules, Clock::System)
    }

    /// The same with another clock, for tests.
    pub fn with_clock(check: Check, rules: CacheRules, clock: Clock) -> Self {
        let fetches = Semaphore::new(rules.fetches_max.clamp(1, Semaphore::MAX_PERMITS));
        let renewals = Arc::new(Semaphore::new(rules.renewals_max.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared {
            check: Check { time: None, ..check },
            rules,
            clock,
            lists: Mutex::default(),
            anchors: Anchors::default(),
            fetches,
            renewals,
            counted: Default::default(),
        }))
    }

    /// The status that `reference` points to: from memory, if the list is held and fresh, else after a fetch. The caller must check first
    /// that the credential with this reference is authentic and has not expired.
    pub async fn status(&self, reference: &Reference) -> Result<Answer, NoStatus> {
        let mut flight = match self.ask(reference) {
            Asked::Answered(answer) => return answer,
            Asked::Awaits(flight) => flight,
        };
        let landed = match flight.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone(),
            Err(_) => None,
        };
        match landed.unwrap_or_else(|| Err(broken_off())) {
            Ok(held) => answer(&held, reference.idx, Moment::of(&self.0.clock), Freshness::Fresh),
            Err(why) => {
                let held = self.0.lists.lock().held(&reference.uri).cloned();
                self.0.instead(held.as_ref(), reference.idx, why)
            }
        }
    }

    /// What the cache has done since its start.
    pub fn counts(&self) -> Counts {
        let [from_memory, waited, fetches, failures] =
            [Event::FromMemory, Event::Waited, Event::Fetch, Event::Failure]
                .map(|event| self.0.counted[event as usize].load(Ordering::Relaxed));
        let (lists, bytes) = self.0.lists.lock().size();
        Counts { from_memory, waited, fetches, failures, lists, bytes }
    }

    /// Answers from memory, or joins the fetch of the list, or begins it.
    fn ask(&self, reference: &Reference) -> Asked {
        let (shared, now) = (&self.0, Moment::of(&self.0.clock));
        let mut lists = shared.lists.lock();
        let slot = match lists.slot(&reference.uri, &shared.rules) {
            Ok(slot) => slot,
            Err(full) => return Asked::Answered(Err(full)),
        };
        let held = slot.held().cloned();
        let failure = slot.failure(now, shared.rules.failure_pause).cloned();
        if let Some(held) = held.as_ref().filter(|held| held.stale_by(now).is_none()) {
            if held.is_due(now)
                && failure.is_none()
                && slot.flight().is_none()
                && let Ok(permit) = Arc::clone(&shared.renewals).try_acquire_owned()
            {
                slot.set_flight(self.fetch(&reference.uri, Some(Arc::clone(held)), Some(permit)));
            }
            drop(lists);
            shared.count(Event::FromMemory);
            return Asked::Answered(answer(held, reference.idx, now, Freshness::Fresh));
        }
        if let Some(why) = failure {
            drop(lists);
            shared.count(Event::FromMemory);
            return Asked::Answered(shared.instead(held.as_ref(), reference.idx, why));
        }
        shared.count(Event::Waited);
        if let Some(flight) = slot.flight() {
            return Asked::Awaits(flight.clone());
        }
        let flight = self.fetch(&reference.uri, held, None);
        slot.set_flight(flight.clone());
        Asked::Awaits(flight)
    }

    /// Begins a fetch, which goes on even if nobody waits for it any more.
    fn fetch(&self, uri: &str, held: Option<Arc<Held>>, renewal: Option<OwnedSemaphorePermit>) -> Flight {
        let (shared, uri) = (Arc::clone(&self.0), uri.to_owned());
        let (landing, flight) = watch::channel(None);
        tokio::spawn(async move {
            let landed = shared.fetched(&uri, held, renewal.is_some()).await;
            let landed = shared.lists.lock().land(&uri, landed, Moment::of(&shared.clock), &shared.rules);
            shared.count(Event::Fetch);
            if landed.is_err() {
                shared.count(Event::Failure);
            }
            drop(renewal);
            landing.send_replace(Some(landed));
        });
        flight
    }
}

impl Shared {
    /// Fetches a list and judges its token.
    async fn fetched(&self, uri: &str, held: Option<Arc<Held>>, is_renewal: bool) -> Landed {
        let _permit = match is_renewal {
            true => None,
            false => Some(self.fetches.acquire().await.expect("the semaphore is never closed")),
        };
        let request = Check { uri: uri.to_owned(), ..self.check.clone() };
        let begun = Moment::of(&self.clock);
        let of_trust = (begun.uptime, self.rules.failure_pause);
        let trust = self.anchors.no_older_than(self.rules.trust_max_age, &request, of_trust).await?;
        let etag = held.as_ref().and_then(|held| held.token.etag.as_deref());
        let fetched = token_unless(&request, etag).await.map_err(CannotTell::from)?;
        let token = match (fetched, held) {
            (Some(new), _) => Arc::new(Token { format: new.format, bytes: new.body, etag: new.etag }),
            (None, Some(held)) => Arc::clone(&held.token),
            (None, None) => return Err(broken_off()),
        };
        let now = self.clock.now().date();
        let judged = |trust: &Trust| read(&request, token.format, &token.bytes, Some(trust), now);
        let (facts, statuses) = match judged(&trust) {
            // Its signer may have got a new key.
            (_, Err(CannotTell::Untrusted(why))) => {
                let newer = self.anchors.no_older_than(self.rules.failure_pause, &request, of_trust).await?;
                match Arc::ptr_eq(&newer, &trust) {
                    true => return Err(CannotTell::from(why).into()),
                    false => judged(&newer),
                }
            }
            judged => judged,
        };
        let statuses = statuses?;
        let facts = facts.expect("a token with statuses was decoded");
        let fetched = (begun, rand::random_range(RENEWED_AFTER));
        Ok(Arc::new(Held::new(token, statuses, &facts, fetched, (&self.rules, self.check.max_age))))
    }

    /// The answer when no fresh token can be had: from the stale one, if the server cannot be reached and the rules allow that.
    fn instead(&self, held: Option<&Arc<Held>>, idx: u64, why: NoStatus) -> Result<Answer, NoStatus> {
        let now = Moment::of(&self.clock);
        let Some(held) = held.filter(|held| !held.has_ended(now)) else { return Err(why) };
        match held.stale_by(now) {
            None => answer(held, idx, now, Freshness::Fresh),
            Some(by)
                if by <= self.rules.stale_max && !self.rules.stale_max.is_zero() && why.is_unreachable() =>
            {
                answer(held, idx, now, Freshness::Stale { by })
            }
            Some(_) => Err(why),
        }
    }

    fn count(&self, event: Event) {
        self.counted[event as usize].fetch_add(1, Ordering::Relaxed);
    }
}

fn answer(held: &Held, idx: u64, now: Moment, freshness: Freshness) -> Result<Answer, NoStatus> {
    let status = held.statuses.get(idx)?;
    Ok(Answer { status, freshness, age: held.age(now), iat: held.iat })
}

/// The reason when a fetch ended without a result, as with its runtime.
fn broken_off() -> NoStatus {
    CannotTell::from(FetchError::Transport { why: "the fetch was broken off".to_owned() }).into()
}
