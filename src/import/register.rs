//! An issuer's own register, as the last word: sets the statuses of lists that the store has.

use std::collections::BTreeMap;
use std::io::Read;

use super::take::PATIENCE;
use super::{Import, ImportError, Refused, Report};
use crate::model::pool::PoolShape;
use crate::status_list::{ListId, Status};
use crate::store::{Deadline, StatusChange, Store};

/// The most statuses of one step of the store.
pub(super) const STEP_MAX: usize = 4096;

/// What an issuer's register says.
#[derive(Debug, Default)]
pub struct Register {
    /// The statuses of each list. The last row of an entry counts.
    lists: BTreeMap<String, BTreeMap<u64, u64>>,
    /// Rows that cannot be read: their lines, and why.
    malformed: Vec<(String, String)>,
}

/// One row: `uri`, `idx`, and a value.
pub type Row = (String, u64, u64);

impl Register {
    /// Reads CSV: `uri`, `idx` and value, separated by commas, with or without a header. `value` parses the third column.
    pub fn read(csv: impl Read, value: impl Fn(&str) -> Result<u64, String>) -> Self {
        let mut register = Self::default();
        let mut rows = csv::ReaderBuilder::new();
        rows.has_headers(false).flexible(true).trim(csv::Trim::All).comment(Some(b'#'));
        for (number, record) in rows.from_reader(csv).records().enumerate() {
            let line = |record: &csv::StringRecord| record.position().map_or(0, csv::Position::line);
            match record {
                Ok(record) if number == 0 && is_header(&record) => {}
                Ok(record) => match row(&record, &value) {
                    Ok((uri, idx, value)) => _ = register.lists.entry(uri).or_default().insert(idx, value),
                    Err(why) => register.malformed.push((format!("line {}", line(&record)), why)),
                },
                Err(error) => register.malformed.push((format!("row {}", number + 1), error.to_string())),
            }
        }
        register
    }

    /// The number of lists that it names.
    pub fn lists(&self) -> usize {
        self.lists.len()
    }
}

fn is_header(record: &csv::StringRecord) -> bool {
    let second = record.get(1).unwrap_or_default();
    ["idx", "index"].iter().any(|name| second.eq_ignore_ascii_case(name))
}

fn row(record: &csv::StringRecord, value: impl Fn(&str) -> Result<u64, String>) -> Result<Row, String> {
    let [uri, idx, status] = record.iter().collect::<Vec<_>>()[..] else {
        return Err(format!("a row is uri, idx and value, this one has {} columns", record.len()));
    };
    let idx = idx.parse().map_err(|_| format!("the index `{idx}` is not a number"))?;
    Ok((uri.trim_start_matches('\u{feff}').to_owned(), idx, value(status)?))
}

impl Import<'_> {
    /// Sets the statuses of `register` that the store has otherwise.
    pub async fn apply(
        &self,
        register: Register,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Report, ImportError> {
        let mut report = Report { refused: register.malformed, ..Report::default() };
        let mut done = 0;
        for (uri, entries) in register.lists {
            match self.set(&uri, &entries, &mut report.refused).await {
                Ok(0) => report.same += 1,
                Ok(statuses) => {
                    report.corrected += 1;
                    report.statuses += statuses;
                }
                Err(Refused::This(why)) => report.refused.push((uri, why)),
                Err(Refused::All(error)) => return Err(error),
            }
            done += 1;
            progress(done);
        }
        Ok(report)
    }

    async fn set(
        &self,
        uri: &str,
        entries: &BTreeMap<u64, u64>,
        refused: &mut Vec<(String, String)>,
    ) -> Result<u64, Refused> {
        let unknown = || Refused::This("the store has no list with this uri".to_owned());
        let bases = self.pools.values().map(|pool| &pool.shape.public_url);
        let list = bases.filter_map(|base| base.list_id(uri)).next().ok_or_else(unknown)?;
        let store = self.store.ok_or_else(unknown)?;
        let record = store.list(list).await?.ok_or_else(unknown)?;
        let pool = self.pools.get(&record.pool).map(|pool| &pool.shape);
        let shape = pool.filter(|shape| shape.public_url.list_id(uri).is_some()).ok_or_else(unknown)?;
        let stored = store.snapshot(list).await?.array;
        let mut changes = Vec::new();
        for (&idx, &value) in entries {
            let checked = shape.capacity.index(idx).map_err(|why| why.to_string());
            let checked = checked.and_then(|index| {
                let status = shape.statuses.check(value).map_err(|why| why.to_string())?;
                Ok((index, stored.get(index), status))
            });
            match checked {
                Ok((_, before, status)) if before == status => {}
                Ok((index, before, status)) => match leaves_final(shape, before) {
                    false => changes.push(StatusChange { list, index, status, expected: None }),
                    true => refused.push((
                        format!("{uri} {idx}"),
                        format!("it has the final status {before}, the register says {status}"),
                    )),
                },
                Err(why) => refused.push((format!("{uri} {idx}"), why)),
            }
        }
        let statuses = changes.len() as u64;
        if !self.dry_run {
            apply_all(store, shape, list, changes, self.now).await?;
        }
        Ok(statuses)
    }
}

/// Whether an entry with this status can get no other.
pub(super) fn leaves_final(shape: &PoolShape, before: Status) -> bool {
    shape.final_status == Some(before)
}

/// Applies changes of one list, in as many steps as they need.
pub(super) async fn apply_all(
    store: &Store,
    shape: &PoolShape,
    list: ListId,
    mut changes: Vec<StatusChange>,
    now: crate::base::clock::Timestamp,
) -> Result<(), Refused> {
    while !changes.is_empty() {
        let rest = changes.split_off(changes.len().min(STEP_MAX));
        let applied = store.apply(&shape.id, vec![changes], Deadline::after(PATIENCE), now).await?;
        if let Some(Err(refusal)) = applied.into_iter().next() {
            return Err(Refused::This(format!("some of the statuses of {list} were not set: {refusal}")));
        }
        changes = rest;
    }
    Ok(())
}
