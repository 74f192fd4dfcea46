//! Sets statuses: requests of one or several callers in one step, each all or nothing, in order.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;

use super::PostgresStore;
use super::chunks::{self, Chunks};
use super::journal::{self, Entry};
use super::query::{Query, get, list_id, number, parsed, query};
use super::read::{SPREAD, spread};
use crate::base::clock::Timestamp;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{ListId, Status};
use crate::store::values::{Refusal, StatusChange, StoreError};
use crate::store::{Applied, Deadline, Spread};

/// How often a step is tried that met others: they hold the lists that it needs in another order, which none of this program does.
const TRIES: usize = 3;

/// One list as it stands, locked.
pub(super) struct Locked {
    /// The id of its row.
    pub(super) id: u64,
    pub(super) pool: PoolId,
    pub(super) retired: bool,
    pub(super) spread: Option<Spread>,
    pub(super) filled: Status,
}

/// Locks lists, always in the same order, so that no two steps wait for each other; then reads them.
pub(super) fn lock(lists: &[ListId]) -> [Query; 2] {
    let read = format!(
        "SELECT list.uuid, list.id, pool.name, list.retired, list.filled, {SPREAD} FROM list JOIN pool ON pool.id = list.pool
         LEFT JOIN spread ON spread.list = list.id WHERE list.uuid = ANY($1)"
    );
    // Two statements: the second sees what the first waited for.
    ["SELECT id FROM list WHERE uuid = ANY($1) ORDER BY id FOR UPDATE".to_owned(), read]
        .map(|sql| query(sql).lists(lists))
}

/// The lists that exist.
pub(super) fn locked(rows: &[Row]) -> Result<BTreeMap<ListId, Locked>, StoreError> {
    let one = |row: &Row| {
        let (id, pool, retired) = (number(row, 1)?, parsed(row, 2)?, get(row, 3)?);
        let filled = Status::new(number(row, 4)?);
        Ok((list_id(row, 0)?, Locked { id, pool, retired, spread: spread(row, 5)?, filled }))
    };
    rows.iter().map(one).collect()
}

impl PostgresStore {
    pub(in crate::store) async fn apply(
        &self,
        pool: &PoolId,
        requests: Vec<Vec<StatusChange>>,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let shape = self.shape(pool)?;
        for _ in 1..TRIES {
            if let Some(answers) = self.try_apply(&shape, &requests, deadline, now).await? {
                return Ok(answers);
            }
        }
        let met = || StoreError::Unavailable("others hold the lists of this batch".to_owned());
        self.try_apply(&shape, &requests, deadline, now).await?.ok_or_else(met)
    }

    /// Returns `None` if it met others and changed nothing.
    async fn try_apply(
        &self,
        shape: &PoolShape,
        requests: &[Vec<StatusChange>],
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Option<Vec<Applied>>, StoreError> {
        let changes = || requests.iter().flatten();
        let lists: BTreeSet<ListId> = changes().map(|change| change.list).collect();
        let lists: Vec<_> = lists.into_iter().collect();
        let wanted: BTreeSet<_> =
            changes().map(|change| (change.list, chunks::chunk_of(shape.capacity, change.index))).collect();
        let (of, numbers): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();

        let mut step = self.0.link.begin(deadline).await?;
        let [lock, read] = lock(&lists);
        let answers = match step.run(vec![lock, read, chunks::read(&of, numbers)]).await {
            Err(_) if step.met_others() => return Ok(None),
            answers => answers?,
        };
        let mut batch = Batch::new(shape, locked(&answers[1])?);
        for row in &answers[2] {
            let (n, bytes) = chunks::row(row)?;
            batch.add(list_id(row, 0)?, n, bytes)?;
        }
        let answers =
            requests.iter().map(|request| batch.request(request)).collect::<Result<Vec<_>, StoreError>>()?;
        let writes = batch.writes(now);
        if writes.is_empty() {
            step.end().await?;
            return Ok(Some(answers));
        }
        match step.commit(writes).await {
            Err(_) if step.met_others() => Ok(None),
            committed => committed.map(|_| Some(answers)),
        }
    }
}

/// The lists of a batch in memory, and what becomes of them.
struct Batch<'a> {
    shape: &'a PoolShape,
    lists: BTreeMap<ListId, Loaded>,
}

struct Loaded {
    stored: Locked,
    chunks: Chunks,
    accepted: Vec<StatusChange>,
    /// The value of the spread that was completed.
    completed: Option<Status>,
}

impl<'a> Batch<'a> {
    fn new(shape: &'a PoolShape, stored: BTreeMap<ListId, Locked>) -> Self {
        let of_pool = stored.into_iter().filter(|(_, stored)| stored.pool == shape.id);
        let load = |stored: Locked| Loaded {
            chunks: Chunks::new(shape.capacity, stored.filled),
            stored,
            accepted: Vec::new(),
            completed: None,
        };
        Self { shape, lists: of_pool.map(|(list, stored)| (list, load(stored))).collect() }
    }

    fn add(&mut self, list: ListId, n: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.lists.get_mut(&list).map_or(Ok(()), |loaded| loaded.chunks.add(n, bytes))
    }

    /// The list, if it takes changes.
    fn open(&mut self, list: ListId) -> Result<&mut Loaded, Refusal> {
        match self.lists.get_mut(&list) {
            None => Err(Refusal::NoSuchList { list }),
            Some(loaded) if loaded.stored.retired => Err(Refusal::Retired { list }),
            Some(loaded) => Ok(loaded),
        }
    }

    /// Makes the changes of one request in memory, or none of them.
    fn request(&mut self, request: &[StatusChange]) -> Result<Applied, StoreError> {
        if let Err(refusal) = self.expected(request)? {
            return Ok(Err(refusal));
        }
        let mut done: Vec<(StatusChange, Status)> = Vec::with_capacity(request.len());
        for change in request {
            match self.set(change)? {
                Ok(old) => done.push((*change, old)),
                Err(refusal) => {
                    for (change, old) in done.into_iter().rev() {
                        if let Ok(loaded) = self.open(change.list) {
                            loaded.chunks.set(change.index, old)?;
                        }
                    }
                    return Ok(Err(refusal));
                }
            }
        }
        for change in request {
            if let Ok(loaded) = self.open(change.list) {
                loaded.accepted.push(*change);
            }
        }
        self.complete_spreads(request)?;
        Ok(Ok(()))
    }

    /// Compares what stands with what the request expects, before anything of it is made.
    fn expected(&mut self, request: &[StatusChange]) -> Result<Applied, StoreError> {
        for change in request {
            let &StatusChange { list, index, expected: Some(expected), .. } = change else { continue };
            let stored = match self.open(list) {
                Ok(loaded) => loaded.chunks.get(index)?,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if stored != expected {
                return Ok(Err(Refusal::NotAsExpected { list, index, expected, stored }));
            }
        }
        Ok(Ok(()))
    }

    /// Checks one change and makes it in memory. Returns the entry's old status.
    fn set(&mut self, change: &StatusChange) -> Result<Result<Status, Refusal>, StoreError> {
        let &StatusChange { list, index, status: new, .. } = change;
        let last = self.shape.final_status.filter(|last| *last != new);
        let loaded = match self.open(list) {
            Ok(loaded) => loaded,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let old = loaded.chunks.get(index)?;
        let stands = [Some(old), loaded.stored.spread.map(|spread| spread.value)];
        if let Some(status) = last.filter(|last| stands.contains(&Some(*last))) {
            return Ok(Err(Refusal::FinalStatus { list, index, status }));
        }
        loaded.chunks.set(index, new).map(Ok)
    }

    /// Completes the spreads that an accepted request overrules, under everything that was accepted: what is asked for last must
    /// stand, so nothing of the spread may come after it. Later requests find the entries as they are then.
    fn complete_spreads(&mut self, request: &[StatusChange]) -> Result<(), StoreError> {
        for change in request {
            let Ok(loaded) = self.open(change.list) else { continue };
            let Some(spread) = loaded.stored.spread.take_if(|spread| spread.value != change.status) else {
                continue;
            };
            loaded.chunks.fill(spread.value);
            for change in &loaded.accepted {
                loaded.chunks.set(change.index, change.status)?;
            }
            loaded.completed = Some(spread.value);
        }
        Ok(())
    }

    /// What is to be written.
    fn writes(&self, now: Timestamp) -> Vec<Query> {
        let changed: Vec<_> = self.lists.values().filter(|loaded| !loaded.accepted.is_empty()).collect();
        if changed.is_empty() {
            return Vec::new();
        }
        let change = |change: &StatusChange| (change.index.get(), change.status);
        let entries = changed.iter().map(|loaded| Entry {
            list: loaded.stored.id,
            filled: loaded.chunks.filled(),
            every: loaded.completed,
            changes: loaded.accepted.iter().map(change).collect(),
        });
        let completed = changed.iter().filter(|loaded| loaded.completed.is_some());
        let completed: Vec<_> = completed.map(|loaded| loaded.stored.id).collect();
        let written = changed
            .iter()
            .flat_map(|loaded| loaded.chunks.changed().map(|(n, bytes)| (loaded.stored.id, n, bytes)));
        let mut writes = vec![journal::append(&entries.collect::<Vec<_>>(), now)];
        writes.extend(chunks::remove(completed.clone()));
        writes.extend(chunks::write(written));
        writes.extend(end_spreads(completed));
        writes
    }
}

/// Removes the spreads of lists, by the id of their rows.
pub(super) fn end_spreads(lists: Vec<u64>) -> Option<Query> {
    (!lists.is_empty()).then(|| query("DELETE FROM spread WHERE list = ANY($1)").numbers(lists))
}
