//! Setting statuses: some entries, every entry, a share of them.

use std::collections::{BTreeMap, BTreeSet};

use super::server::Server;
use crate::base::clock::Timestamp;
use crate::status_list::{Index, ListId, Status, StatusArray};
use crate::store::Applied;
use crate::store::spread::Spread;
use crate::store::values::{Refusal, StatusChange, StoreError};

impl Server {
    pub(super) fn apply(&mut self, requests: &[Vec<StatusChange>], now: Timestamp) -> Vec<Applied> {
        // What each touched list will hold, were it not for its spread; which entries that is about; whether a spread ends.
        let mut arrays: BTreeMap<ListId, StatusArray> = BTreeMap::new();
        let mut touched: BTreeMap<ListId, BTreeSet<u32>> = BTreeMap::new();
        let mut overruled = BTreeSet::new();
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let before = arrays.clone();
            let mut answer = Ok(());
            for change in request {
                answer = self.set(&mut arrays, change);
                if answer.is_err() {
                    break;
                }
            }
            match &answer {
                Err(_) => arrays = before,
                Ok(()) => {
                    for &StatusChange { list, index, status } in request {
                        touched.entry(list).or_default().insert(index.get());
                        let spread = self.data.lists.get(&list).and_then(|list| list.spread);
                        if spread.is_some_and(|spread| spread.value != status) {
                            overruled.insert(list);
                        }
                    }
                }
            }
            answers.push(answer);
        }
        for (id, entries) in touched {
            let (Some(list), Some(wanted)) = (self.data.lists.get_mut(&id), arrays.remove(&id)) else {
                continue;
            };
            let capacity = list.array.capacity();
            // All that is left of a spread comes before another status.
            if overruled.contains(&id)
                && let Some(spread) = list.spread.take()
            {
                list.array = StatusArray::filled(capacity, spread.value);
            }
            for index in entries.into_iter().filter_map(|entry| capacity.index(entry.into()).ok()) {
                list.array.set(index, wanted.get(index));
            }
            list.changed(now);
        }
        answers
    }

    /// Makes one change in `arrays`, if it is allowed after those that were made there.
    fn set(&self, arrays: &mut BTreeMap<ListId, StatusArray>, change: &StatusChange) -> Applied {
        let &StatusChange { list, index, status } = change;
        let Some(found) = self.data.lists.get(&list) else { return Err(Refusal::NoSuchList { list }) };
        if found.retired {
            return Err(Refusal::Retired { list });
        }
        let array = arrays.entry(list).or_insert_with(|| found.array.clone());
        if let Some(last) = self.final_status(list).filter(|last| *last != status)
            && (array.get(index) == last || found.spread.is_some_and(|spread| spread.value == last))
        {
            return Err(Refusal::FinalStatus { list, index, status: last });
        }
        array.set(index, status);
        Ok(())
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
