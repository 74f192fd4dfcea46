//! Queries of committed data, through the reading connection.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::schema::{CHUNK_BYTES, EVERY, MANY};
use super::{many, schema};
use crate::base::clock::{NumericDate, Timestamp};
use crate::model::instance::InstanceId;
use crate::model::order::OrderKey;
use crate::model::pool::PoolId;
use crate::status_list::{Bits, Capacity, ListId, Status, StatusArray};
use crate::store::Spread;
use crate::store::values::{
    Changes, DueMark, Fence, Lease, ListRecord, OpenList, Order, Pending, PoolUsage, Publication,
    PublisherState, Snapshot, StoreError, Version,
};

/// A connection that can only read. Fails with [`StoreError::Unfinished`] if a copy into the database was not finished.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let shown = path.display().to_string();
    let open_error = |why: rusqlite::Error| StoreError::Open { path: shown.clone(), why: why.to_string() };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags).map_err(open_error)?;
    reader.busy_timeout(Duration::from_secs(5)).map_err(open_error)?;
    if schema::is_unfinished(&reader).map_err(open_error)? {
        let remove = format!("rm {shown} {shown}-wal {shown}-shm");
        return Err(StoreError::Unfinished { place: shown, remove });
    }
    Ok(reader)
}

/// A value in the database that this program never writes.
fn damaged(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, Box::new(error))
}

fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| damaged(column, error))
}

pub(super) fn open_lists(
    connection: &Connection,
    pool: &PoolId,
    owner: &InstanceId,
) -> Result<Vec<OpenList>, StoreError> {
    let sql = "SELECT uuid, leased, published_version IS NOT NULL FROM list
               WHERE pool = (SELECT id FROM pool WHERE name = ?1) AND open = 1 AND owner = ?2 ORDER BY id";
    let mut query = connection.prepare_cached(sql)?;
    let rows = query.query_map([pool.as_str(), owner.as_str()], |row| {
        Ok(OpenList { id: parsed(row, 0)?, leased: row.get(1)?, published: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

const PENDING: &str = "uuid, dirty_since, published_version, published_iat, resign_at, retired, due_mark";

fn pending(row: &Row<'_>) -> rusqlite::Result<Pending> {
    let published = publication(row, 2)?;
    let (since, due_mark) = (moment(row, 1)?, DueMark(row.get(6)?));
    Ok(Pending { list: parsed(row, 0)?, since, retired: row.get(5)?, published, due_mark })
}

/// A time in milliseconds since 1970, or none.
fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<u64>>(column)?.map(Timestamp::from_millis))
}

/// A time in seconds since 1970.
fn date(row: &Row<'_>, column: usize) -> rusqlite::Result<NumericDate> {
    row.get(column).map(NumericDate::from_secs)
}

fn publication(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Publication>> {
    let Some(version) = row.get::<_, Option<u64>>(first)?.map(Version) else { return Ok(None) };
    Ok(Some(Publication { version, iat: date(row, first + 1)?, resign_at: date(row, first + 2)? }))
}

fn spread(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Spread>> {
    let Some(value) = row.get(first)? else { return Ok(None) };
    let (beats, key, done) = (row.get(first + 1)?, row.get(first + 2)?, row.get(first + 3)?);
    Ok(Some(Spread { value: Status::new(value), beats, key: OrderKey::from_bytes(key), done }))
}

pub(super) fn dirty(connection: &Connection, pool: &PoolId) -> Result<Vec<Pending>, StoreError> {
    let sql = format!(
        "SELECT {PENDING} FROM list WHERE pool = (SELECT id FROM pool WHERE name = ?1) AND dirty_since IS NOT NULL ORDER BY dirty_since"
    );
    let mut query = connection.prepare_cached(&sql)?;
    let rows = query.query_map([pool.as_str()], pending)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn due(connection: &Connection, pool: &PoolId, t: Timestamp) -> Result<Vec<Pending>, StoreError> {
    let sql = format!(
        "SELECT {PENDING} FROM list WHERE pool = (SELECT id FROM pool WHERE name = ?1) AND resign_at <= ?2 ORDER BY resign_at"
    );
    let mut query = connection.prepare_cached(&sql)?;
    let rows = query.query_map(params![pool.as_str(), t.date().secs()], pending)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns when the next renewal of a published list is due.
pub(super) fn next_due(connection: &Connection, pool: &PoolId) -> Result<Option<Timestamp>, StoreError> {
    // Zero: never published, or due at once.
    let sql = "SELECT min(resign_at) FROM list WHERE pool = (SELECT id FROM pool WHERE name = ?1) AND resign_at > 0 AND resign_at < ?2";
    let mut query = connection.prepare_cached(sql)?;
    let first: Option<u64> =
        query.query_row(params![pool.as_str(), Publication::NEVER.secs()], |row| row.get(0))?;
    Ok(first.map(Timestamp::from_secs))
}

/// Returns the committed statuses of a list: its chunks, with the journal rows applied that were written since the last folding.
pub(super) fn snapshot(connection: &mut Connection, list: ListId) -> Result<Option<Snapshot>, StoreError> {
    let transaction = connection.transaction()?;
    Ok(snapshot_in(&transaction, list)?.map(|stored| stored.snapshot))
}

/// A list as it is stored.
pub(super) struct Stored {
    /// The id of its row.
    pub(super) id: i64,
    /// The seq of its latest journal row.
    pub(super) journaled: i64,
    pub(super) retired: bool,
    pub(super) spread: Option<Spread>,
    pub(super) snapshot: Snapshot,
}

/// As [`snapshot`], inside a transaction, with more facts about the list.
pub(super) fn snapshot_in(connection: &Connection, list: ListId) -> Result<Option<Stored>, StoreError> {
    let sql = "SELECT list.id, list.version, list.folded, list.journaled, pool.size, pool.bits, pool.default_status, list.retired,
                      spread.value, spread.beats, spread.key, spread.done
               FROM list JOIN pool ON pool.id = list.pool LEFT JOIN spread ON spread.list = list.id WHERE list.uuid = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([list.to_string()], |row| {
            let bits = Bits::try_from(row.get::<_, u64>(5)?).map_err(|error| damaged(5, error))?;
            let capacity = Capacity::new(row.get(4)?, bits).map_err(|error| damaged(4, error))?;
            let array = StatusArray::filled(capacity, Status::new(row.get(6)?));
            let numbers: (i64, u64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((numbers, row.get(7)?, spread(row, 8)?, array))
        })
        .optional()?;
    let Some(((id, version, folded, journaled), retired, spread, array)) = found else { return Ok(None) };

    let capacity = array.capacity();
    let mut bytes = array.as_bytes().to_vec();
    let mut chunks = connection.prepare_cached("SELECT n, bytes FROM chunk WHERE list = ?1")?;
    let mut rows = chunks.query([id])?;
    while let Some(row) = rows.next()? {
        let (start, chunk) = (row.get::<_, usize>(0)? * CHUNK_BYTES, row.get_ref(1)?);
        let chunk = chunk.as_blob().map_err(|error| damaged(1, error))?;
        let place = bytes.get_mut(start..start + chunk.len());
        place
            .ok_or_else(|| StoreError::Damaged(format!("list {list} has a chunk beyond its end")))?
            .copy_from_slice(chunk);
    }
    let mut array =
        StatusArray::from_bytes(capacity, bytes).map_err(|error| StoreError::Damaged(error.to_string()))?;
    let mut journal = connection
        .prepare_cached("SELECT idx, value, seq FROM journal WHERE list = ?1 AND seq > ?2 ORDER BY seq")?;
    let mut rows = journal.query([id, folded])?;
    while let Some(row) = rows.next()? {
        let status = Status::new(row.get(1)?);
        match row.get(0)? {
            EVERY => array = StatusArray::filled(capacity, status),
            MANY => {
                for (idx, status) in many::select(connection, id, row.get(2)?)? {
                    let index = capacity.index(idx.into()).map_err(|error| damaged(0, error))?;
                    array.set(index, status);
                }
            }
            idx => {
                let idx = u64::try_from(idx).map_err(|error| damaged(0, error))?;
                array.set(capacity.index(idx).map_err(|error| damaged(0, error))?, status);
            }
        }
    }
    Ok(Some(Stored {
        id,
        journaled,
        retired,
        spread,
        snapshot: Snapshot { version: Version(version), array },
    }))
}

pub(super) fn changes_since_publication(
    connection: &Connection,
    list: ListId,
    version: Version,
) -> Result<Changes, StoreError> {
    let sql = "SELECT journal.idx, journal.value, journal.list, journal.seq FROM list JOIN journal ON journal.list = list.id AND journal.seq > list.published_seq
               WHERE list.uuid = ?1 AND journal.version <= ?2 ORDER BY journal.seq";
    let mut query = connection.prepare_cached(sql)?;
    let mut rows = query.query(params![list.to_string(), version.0])?;
    let mut changes = Changes::default();
    while let Some(row) = rows.next()? {
        let status = Status::new(row.get(1)?);
        match row.get(0)? {
            EVERY => changes = Changes { every: Some(status), entries: Vec::new() },
            MANY => changes.entries.append(&mut many::select(connection, row.get(2)?, row.get(3)?)?),
            idx => changes.entries.push((u32::try_from(idx).map_err(|error| damaged(0, error))?, status)),
        }
    }
    Ok(changes)
}

const RECORD: &str =
    "list.uuid, pool.name, list.leased, list.leases, list.owner, list.open, list.version,
                             list.published_version, list.published_iat, list.resign_at, list.leased_at, list.retired,
                             list.permutation_key IS NULL, spread.value, spread.beats, spread.key, spread.done";
const LISTS: &str = "list JOIN pool ON pool.id = list.pool LEFT JOIN spread ON spread.list = list.id";

fn record(row: &Row<'_>) -> rusqlite::Result<ListRecord> {
    Ok(ListRecord {
        id: parsed(row, 0)?,
        pool: parsed(row, 1)?,
        leased: row.get(2)?,
        lease: Lease(row.get(3)?),
        owner: parsed(row, 4)?,
        open: row.get(5)?,
        version: Version(row.get(6)?),
        published: publication(row, 7)?,
        leased_at: moment(row, 10)?,
        retired: row.get(11)?,
        sealed: row.get(12)?,
        spread: spread(row, 13)?,
    })
}

pub(super) fn order_of(connection: &Connection, list: ListId) -> Result<Option<Order>, StoreError> {
    let sql = "SELECT permutation_key, leased FROM list WHERE uuid = ?1 AND permutation_key IS NOT NULL";
    let mut query = connection.prepare_cached(sql)?;
    let order = query.query_row([list.to_string()], |row| {
        Ok(Order { key: OrderKey::from_bytes(row.get(0)?), leased: row.get(1)? })
    });
    Ok(order.optional()?)
}

pub(super) fn list(connection: &Connection, list: ListId) -> Result<Option<ListRecord>, StoreError> {
    let mut query =
        connection.prepare_cached(&format!("SELECT {RECORD} FROM {LISTS} WHERE list.uuid = ?1"))?;
    Ok(query.query_row([list.to_string()], record).optional()?)
}

pub(super) fn lists(connection: &Connection, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
    let sql = format!("SELECT {RECORD} FROM {LISTS} WHERE pool.name = ?1 ORDER BY list.id");
    let mut query = connection.prepare_cached(&sql)?;
    let rows = query.query_map([pool.as_str()], record)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn spreading(connection: &Connection, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
    // SQLite reads the left side of a CROSS JOIN first, so the cost depends on the number of spreads, not of lists.
    let sql = format!(
        "SELECT {RECORD} FROM spread CROSS JOIN list ON list.id = spread.list JOIN pool ON pool.id = list.pool WHERE pool.name = ?1"
    );
    let mut query = connection.prepare_cached(&sql)?;
    let rows = query.query_map([pool.as_str()], record)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn publisher(connection: &Connection, pool: &PoolId) -> Result<PublisherState, StoreError> {
    let mut query = connection.prepare_cached("SELECT fence FROM pool WHERE name = ?1")?;
    let state = query.query_row([pool.as_str()], |row| {
        // A process that can read this has the database, so no other process publishes.
        Ok(PublisherState { fence: Fence(row.get(0)?), left: Duration::ZERO })
    });
    state.optional()?.ok_or_else(|| StoreError::NoSuchPool(pool.clone()))
}

pub(super) fn pools(connection: &Connection) -> Result<Vec<(PoolId, u64)>, StoreError> {
    let sql = "SELECT pool.name, count(list.id) FROM pool LEFT JOIN list ON list.pool = pool.id GROUP BY pool.id ORDER BY pool.id";
    let mut query = connection.prepare_cached(sql)?;
    let rows = query.query_map([], |row| Ok((parsed(row, 0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn usage(connection: &Connection, pool: &PoolId) -> Result<PoolUsage, StoreError> {
    let sql = "SELECT count(*), coalesce(sum(list.leased), 0), coalesce(sum(CASE WHEN list.open THEN pool.size - list.leased END), 0),
                      coalesce(sum(list.retired), 0)
               FROM list JOIN pool ON pool.id = list.pool WHERE pool.name = ?1";
    let mut query = connection.prepare_cached(sql)?;
    Ok(query.query_row([pool.as_str()], |row| {
        Ok(PoolUsage { lists: row.get(0)?, leased: row.get(1)?, free: row.get(2)?, retired: row.get(3)? })
    })?)
}
