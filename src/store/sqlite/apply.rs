//! Sets statuses: requests of one or several callers in one step, each all or nothing, in order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::Connection;

use super::hot::HotLists;
use super::schema::EVERY;
use super::write::{Writer, shape_of};
use super::{journal, spread_row};
use crate::base::clock::Timestamp;
use crate::model::pool::PoolShape;
use crate::status_list::{Index, ListId, Status};
use crate::store::Applied;
use crate::store::values::{Refusal, StatusChange, StoreError};

impl Writer {
    pub(super) fn apply(
        &mut self,
        requests: &[Vec<StatusChange>],
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        let applied = self.apply_all(requests, now);
        if applied.is_err() {
            // Memory may be ahead of what is committed, so drop those lists.
            for change in requests.iter().flatten() {
                self.hot.forget(change.list);
            }
        }
        applied
    }

    fn apply_all(
        &mut self,
        requests: &[Vec<StatusChange>],
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        let Self { connection, pools, hot, .. } = self;
        let mut accepted: BTreeMap<ListId, Vec<(Index, Status)>> = BTreeMap::new();
        // The values of the spreads that were completed.
        let mut completed: BTreeMap<ListId, Status> = BTreeMap::new();
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            let mut done: Vec<(ListId, Index, Status, Status)> = Vec::with_capacity(request.len());
            let mut answer = expected(connection, pools, hot, request)?;
            let mut overrules = false;
            for change in if answer.is_ok() { request.as_slice() } else { &[] } {
                match set(connection, pools, hot, change)? {
                    Ok((old, overrules_spread)) => {
                        overrules |= overrules_spread;
                        done.push((change.list, change.index, change.status, old));
                    }
                    Err(refusal) => {
                        for &(list, index, _, old) in done.iter().rev() {
                            hot.loaded(list).set(index, old);
                        }
                        done.clear();
                        answer = Err(refusal);
                        break;
                    }
                }
            }
            for of_list in done.chunk_by(|one, next| one.0 == next.0) {
                let changes = of_list.iter().map(|(_, index, new, _)| (*index, *new));
                accepted.entry(of_list[0].0).or_default().extend(changes);
            }
            if overrules && answer.is_ok() {
                complete_spreads(connection, hot, request, &accepted, &mut completed)?;
            }
            answers.push(answer);
        }
        for (list, changes) in accepted {
            let first = completed.get(&list).map(|value| (EVERY, *value));
            let list = hot.loaded(list);
            let changes = changes.into_iter().map(|(index, status)| (index.get().into(), status));
            journal::append(connection, list, first.into_iter().chain(changes), now)?;
        }
        Ok(answers)
    }
}

/// Compares what stands with what the request expects, before anything of it is made.
fn expected(
    connection: &Connection,
    pools: &HashMap<i64, Arc<PoolShape>>,
    hot: &mut HotLists,
    request: &[StatusChange],
) -> Result<Applied, StoreError> {
    for change in request {
        let &StatusChange { list, index, expected: Some(expected), .. } = change else { continue };
        let Some(loaded) = hot.load(connection, list, |id| shape_of(connection, pools, id))? else {
            return Ok(Err(Refusal::NoSuchList { list }));
        };
        if loaded.retired {
            return Ok(Err(Refusal::Retired { list }));
        }
        let stored = loaded.get(index);
        if stored != expected {
            return Ok(Err(Refusal::NotAsExpected { list, index, expected, stored }));
        }
    }
    Ok(Ok(()))
}

/// Completes the spreads that an accepted request overrules, under everything that was accepted: what is asked for last must
/// stand, so nothing of the spread may come after it. Later requests find the entries as they are then.
fn complete_spreads(
    connection: &Connection,
    hot: &mut HotLists,
    request: &[StatusChange],
    accepted: &BTreeMap<ListId, Vec<(Index, Status)>>,
    completed: &mut BTreeMap<ListId, Status>,
) -> Result<(), StoreError> {
    for change in request {
        let list = hot.loaded(change.list);
        let Some(spread) = list.spread.filter(|spread| spread.value != change.status) else { continue };
        spread_row::remove(connection, list)?;
        list.fill(spread.value);
        for (index, status) in accepted.get(&change.list).into_iter().flatten() {
            list.set(*index, *status);
        }
        completed.insert(change.list, spread.value);
    }
    Ok(())
}

/// Checks one change and makes it in memory. Returns the entry's old status, and whether the list has a spread to another
/// status than the new one.
fn set(
    connection: &Connection,
    pools: &HashMap<i64, Arc<PoolShape>>,
    hot: &mut HotLists,
    change: &StatusChange,
) -> Result<Result<(Status, bool), Refusal>, StoreError> {
    let &StatusChange { list, index, status: new, .. } = change;
    let Some(loaded) = hot.load(connection, list, |id| shape_of(connection, pools, id))? else {
        return Ok(Err(Refusal::NoSuchList { list }));
    };
    if loaded.retired {
        return Ok(Err(Refusal::Retired { list }));
    }
    let shape = &loaded.shape;
    let old = loaded.get(index);
    let stands = [Some(old), loaded.spread.map(|spread| spread.value)];
    if let Some(status) = shape.final_status.filter(|last| *last != new && stands.contains(&Some(*last))) {
        return Ok(Err(Refusal::FinalStatus { list, index, status }));
    }
    loaded.set(index, new);
    Ok(Ok((old, loaded.spread.is_some_and(|spread| spread.value != new))))
}
