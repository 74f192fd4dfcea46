//! Setting statuses: some entries, every entry, a share of them.

use std::collections::BTreeMap;

use super::data::List;
use super::server::Server;
use crate::base::clock::Timestamp;
use crate::status_list::{Index, ListId, Status, StatusArray};
use crate::store::Applied;
use crate::store::spread::Spread;
use crate::store::values::{Refusal, StatusChange, StoreError};

impl Server {
    pub(super) fn apply(&mut self, requests: &[Vec<StatusChange>], now: Timestamp) -> Vec<Applied> {
        // What was accepted so far. It lies over a spread that a later request completes.
        let mut accepted: BTreeMap<ListId, Vec<(Index, Status)>> = BTreeMap::new();
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let answer = self.check(request);
            answers.push(answer);
            if answers.last().is_some_and(Result::is_err) {
                continue;
            }
            for &StatusChange { list, index, status, .. } in request {
                accepted.entry(list).or_default().push((index, status));
                let Some(found) = self.data.lists.get_mut(&list) else { continue };
                found.array.set(index, status);
                // All that is left of a spread comes before another status.
                if let Some(spread) = found.spread.take_if(|spread| spread.value != status) {
                    found.array = StatusArray::filled(found.array.capacity(), spread.value);
                }
            }
            for &StatusChange { list, .. } in request {
                if let (Some(found), Some(changes)) = (self.data.lists.get_mut(&list), accepted.get(&list)) {
                    for (index, status) in changes {
                        found.array.set(*index, *status);
                    }
                }
            }
        }
        for list in accepted.keys() {
            if let Some(found) = self.data.lists.get_mut(list) {
                found.changed(now);
            }
        }
        answers
    }

    /// Whether every change of a request may be made, each after those before it.
    fn check(&self, request: &[StatusChange]) -> Applied {
        for &StatusChange { list, index, expected, .. } in request {
            let Some(expected) = expected else { continue };
            let stored = self.updatable(list)?.array.get(index);
            if stored != expected {
                return Err(Refusal::NotAsExpected { list, index, expected, stored });
            }
        }
        let mut set: BTreeMap<(ListId, Index), Status> = BTreeMap::new();
        for &StatusChange { list, index, status, .. } in request {
            let found = self.updatable(list)?;
            let current = set.get(&(list, index)).copied().unwrap_or_else(|| found.array.get(index));
            if let Some(last) = self.final_status(list).filter(|last| *last != status)
                && (current == last || found.spread.is_some_and(|spread| spread.value == last))
            {
                return Err(Refusal::FinalStatus { list, index, status: last });
            }
            set.insert((list, index), status);
        }
        Ok(())
    }

    fn updatable(&self, list: ListId) -> Result<&List, Refusal> {
        let found = self.data.lists.get(&list).ok_or(Refusal::NoSuchList { list })?;
        if found.retired { Err(Refusal::Retired { list }) } else { Ok(found) }
    }

    fn final_status(&self, list: ListId) -> Option<Status> {
        self.data.pool(&self.data.lists.get(&list)?.pool)?.shape.final_status
    }

    pub(super) fn fill_list(&mut self, id: ListId, status: Status, beats: u32, now: Timestamp) -> Applied {
        let (last, key) = (self.final_status(id), self.order_key());
        let Some(list) = self.data.lists.get_mut(&id) else { return Err(Refusal::NoSuchList { list: id }) };
        if list.retired {
            return Err(Refusal::Retired { list: id });
        }
        if let Some(last) = last.filter(|last| *last != status) {
            let first = match list.spread {
                Some(spread) if spread.value == last => list.array.capacity().index(0).ok(),
                _ => list.array.find(last),
            };
            if let Some(index) = first {
                return Err(Refusal::FinalStatus { list: id, index, status: last });
            }
        }
        if beats > 1 {
            let goes_on = list.spread.is_some_and(|spread| (spread.value, spread.beats) == (status, beats));
            if !goes_on {
                list.spread = Some(Spread { value: status, beats, key, done: 0 });
            }
        } else {
            list.spread = None;
            list.array = StatusArray::filled(list.array.capacity(), status);
            list.changed(now);
        }
        let pool = list.pool.clone();
        let default = self.data.pool(&pool).map(|pool| pool.shape.default_status);
        if default != Some(status)
            && let Some(list) = self.data.lists.get_mut(&id)
        {
            list.seal();
        }
        Ok(())
    }

    pub(super) fn advance_spread(
        &mut self,
        list: ListId,
        spread: &Spread,
        entries: &[Index],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let list = self.known(list)?;
        if list.spread.as_ref() != Some(spread) {
            return Ok(false);
        }
        for index in entries {
            list.array.set(*index, spread.value);
        }
        list.changed(now);
        let advanced = spread.advanced(entries);
        list.spread = Some(advanced).filter(|advanced| advanced.done < list.size());
        Ok(true)
    }
}
