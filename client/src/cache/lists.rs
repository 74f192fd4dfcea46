//! The lists of a cache: what is held of each, the fetch that is under way, and the latest failure. Bounded in number and bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::answer::NoStatus;
use super::held::{Held, Moment};
use super::rules::CacheRules;

/// What came of a fetch.
pub(super) type Landed = Result<Arc<Held>, NoStatus>;
/// Tells everybody who waits for it what came of a fetch.
pub(super) type Flight = watch::Receiver<Option<Landed>>;

/// What the cache knows of one list.
#[derive(Debug, Default)]
pub(super) struct Slot {
    held: Option<Arc<Held>>,
    failure: Option<(NoStatus, Moment)>,
    flight: Option<Flight>,
    used: u64,
}

#[derive(Debug, Default)]
pub(super) struct Lists {
    slots: HashMap<String, Slot>,
    bytes: usize,
    /// Counts questions, so that the slot with the smallest number was asked for the longest ago.
    questions: u64,
}

impl Slot {
    pub(super) fn held(&self) -> Option<&Arc<Held>> {
        self.held.as_ref()
    }

    /// The latest failure, if it is to be remembered still.
    pub(super) fn failure(&self, now: Moment, pause: Duration) -> Option<&NoStatus> {
        let (why, at) = self.failure.as_ref()?;
        (now.since(*at) < pause).then_some(why)
    }

    /// The fetch under way. One whose task has ended without a result is none.
    pub(super) fn flight(&self) -> Option<&Flight> {
        self.flight.as_ref().filter(|flight| flight.has_changed().is_ok())
    }

    pub(super) fn set_flight(&mut self, flight: Flight) {
        self.flight = Some(flight);
    }

    fn is_over(&self, now: Moment, pause: Duration) -> bool {
        self.flight().is_none()
            && self.failure(now, pause).is_none()
            && self.held.as_ref().is_none_or(|held| held.has_ended(now))
    }
}

impl Lists {
    /// The slot of a list, which is asked for. Fails if there is room for no other one.
    pub(super) fn slot(&mut self, uri: &str, rules: &CacheRules) -> Result<&mut Slot, NoStatus> {
        self.questions += 1;
        if !self.slots.contains_key(uri) {
            if self.slots.len() >= rules.lists_max && !self.drop_oldest(uri) {
                return Err(NoStatus::Full { max: rules.lists_max });
            }
            self.slots.insert(uri.to_owned(), Slot::default());
        }
        let slot = self.slots.get_mut(uri).expect("it was there, or has been inserted");
        slot.used = self.questions;
        Ok(slot)
    }

    /// What is held of a list.
    pub(super) fn held(&self, uri: &str) -> Option<&Arc<Held>> {
        self.slots.get(uri)?.held()
    }

    /// Records what came of a fetch, and drops what is no longer needed (section 13.8). An older token than the one held counts as a
    /// failure.
    pub(super) fn land(&mut self, uri: &str, landed: Landed, now: Moment, rules: &CacheRules) -> Landed {
        self.slots.retain(|of, slot| {
            let is_over = of != uri && slot.is_over(now, rules.failure_pause);
            self.bytes -= if is_over { weight(of, slot) } else { 0 };
            !is_over
        });
        // It may have gone meanwhile only if this fetch counts as ended.
        let slot = self.slots.entry(uri.to_owned()).or_default();
        let before = weight(uri, slot);
        slot.flight = None;
        let landed = landed.and_then(|new| match &slot.held {
            Some(held) if held.iat > new.iat => Err(NoStatus::WentBack { iat: new.iat, held: held.iat }),
            _ => Ok(new),
        });
        match &landed {
            Ok(new) => {
                slot.held = (new.bytes() <= rules.bytes_max).then(|| Arc::clone(new));
                slot.failure = None;
            }
            Err(why) => slot.failure = Some((why.clone(), now)),
        }
        self.bytes = self.bytes - before + weight(uri, slot);
        while self.bytes > rules.bytes_max && self.drop_oldest(uri) {}
        landed
    }

    /// How many lists are held, and the memory that they take.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.slots.values().filter(|slot| slot.held.is_some()).count(), self.bytes)
    }

    /// Drops the list that was asked for the longest ago, but not `except`, and none that is being fetched. Those that could not be
    /// fetched go first: references to them may be a stranger's, who must not drive out the others.
    fn drop_oldest(&mut self, except: &str) -> bool {
        let idle = self.slots.iter().filter(|(uri, slot)| *uri != except && slot.flight().is_none());
        let oldest = idle.min_by_key(|(_, slot)| (slot.held.is_some(), slot.used));
        let Some(uri) = oldest.map(|(uri, _)| uri.clone()) else { return false };
        if let Some(slot) = self.slots.remove(&uri) {
            self.bytes -= weight(&uri, &slot);
        }
        true
    }
}

fn weight(uri: &str, slot: &Slot) -> usize {
    slot.held.as_ref().map_or(0, |held| held.bytes() + uri.len() + size_of::<Slot>())
}
