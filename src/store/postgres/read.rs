//! Queries. Each sees one moment.

use std::time::Duration;

use tokio_postgres::Row;

use super::chunks::{self, CHUNK_BYTES, Chunks};
use super::query::{Query, damaged, get, list_id, maybe, now, number, order_key, parsed, query};
use super::{PostgresStore, journal};
use crate::base::clock::{NumericDate, Timestamp};
use crate::model::instance::InstanceId;
use crate::model::pool::PoolId;
use crate::status_list::{Capacity, Index, ListId, Status};
use crate::store::Spread;
use crate::store::values::{
    Changes, DueMark, Fence, Lease, ListRecord, OpenList, Order, Pending, PoolUsage, Publication,
    PublisherState, Snapshot, StoreError, Version,
};

/// The pool of this name, as an expression.
pub(super) const POOL: &str = "(SELECT id FROM pool WHERE name = $1)";
/// The columns of a [`spread`].
pub(super) const SPREAD: &str = "spread.value, spread.beats, spread.key, spread.done";
/// The columns of a [`pending`] list.
const PENDING: &str = "uuid, dirty_since, retired, due_mark, published_version, published_iat, resign_at";
/// The columns of a [`record`], and the tables that have them.
const RECORD: &str = "list.uuid, pool.name, list.leased, list.leases, list.owner, list.leased_at, list.open,
    list.permutation_key IS NULL, list.retired, list.version, list.published_version, list.published_iat, list.resign_at,
    spread.value, spread.beats, spread.key, spread.done
    FROM list JOIN pool ON pool.id = list.pool LEFT JOIN spread ON spread.list = list.id";

impl PostgresStore {
    pub(in crate::store) async fn open_lists(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
    ) -> Result<Vec<OpenList>, StoreError> {
        let sql = format!(
            "SELECT uuid, leased, published_version IS NOT NULL FROM list WHERE pool = {POOL} AND open AND owner = $2 ORDER BY id"
        );
        let rows = self.read(query(sql).text(pool.as_str()).text(owner.as_str())).await?;
        let open = |row: &Row| {
            Ok(OpenList { id: list_id(row, 0)?, leased: number(row, 1)?, published: get(row, 2)? })
        };
        rows.iter().map(open).collect()
    }

    pub(in crate::store) async fn order_of(&self, list: ListId) -> Result<Option<Order>, StoreError> {
        let rows =
            self.read(query("SELECT permutation_key, leased FROM list WHERE uuid = $1").list(list)).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let leased = number(row, 1)?;
        Ok(order_key(row, 0)?.map(|key| Order { key, leased }))
    }

    pub(in crate::store) async fn dirty(&self, pool: &PoolId) -> Result<Vec<Pending>, StoreError> {
        let sql = format!(
            "SELECT {PENDING} FROM list WHERE pool = {POOL} AND dirty_since IS NOT NULL ORDER BY dirty_since"
        );
        self.read(query(sql).text(pool.as_str())).await?.iter().map(pending).collect()
    }

    pub(in crate::store) async fn due(
        &self,
        pool: &PoolId,
        t: Timestamp,
    ) -> Result<Vec<Pending>, StoreError> {
        let sql =
            format!("SELECT {PENDING} FROM list WHERE pool = {POOL} AND resign_at <= $2 ORDER BY resign_at");
        self.read(query(sql).text(pool.as_str()).number(t.date().secs())).await?.iter().map(pending).collect()
    }

    pub(in crate::store) async fn next_due(&self, pool: &PoolId) -> Result<Option<Timestamp>, StoreError> {
        // Zero: never published, or due at once.
        let sql = format!(
            "SELECT min(resign_at) FROM list WHERE pool = {POOL} AND resign_at > 0 AND resign_at < $2"
        );
        let rows = self.read(query(sql).text(pool.as_str()).number(Publication::NEVER.secs())).await?;
        let first = rows.first().map_or(Ok(None), |row| maybe(row, 0))?;
        Ok(first.map(Timestamp::from_secs))
    }

    pub(in crate::store) async fn snapshot(&self, list: ListId) -> Result<Snapshot, StoreError> {
        // What is published must not be lost afterwards.
        let answers = self.0.link.read_confirmed(snapshot_queries(list).into()).await?;
        snapshot(list, &answers)
    }

    pub(in crate::store) async fn status(
        &self,
        list: ListId,
        index: Index,
    ) -> Result<(Status, Version), StoreError> {
        let sql = format!(
            "SELECT pool.size, pool.bits, list.filled, list.version, chunk.n, chunk.bytes FROM list
             JOIN pool ON pool.id = list.pool
             LEFT JOIN chunk ON chunk.list = list.id AND chunk.n = $2 * pool.bits / 8 / {CHUNK_BYTES}
             WHERE list.uuid = $1"
        );
        let rows = self.read(query(sql).list(list).number(index.get())).await?;
        let row = rows.first().ok_or(StoreError::NoSuchList(list))?;
        let mut chunks = Chunks::new(capacity(row, 0)?, Status::new(number(row, 2)?));
        if let Some(n) = maybe(row, 4)? {
            chunks.add(n, get(row, 5)?)?;
        }
        Ok((chunks.get(index)?, Version(number(row, 3)?)))
    }

    pub(in crate::store) async fn changes_since_publication(
        &self,
        list: ListId,
        version: Version,
    ) -> Result<Option<Changes>, StoreError> {
        journal::changes(&self.read(journal::read(list, version)).await?).map(Some)
    }

    pub(in crate::store) async fn publisher(&self, pool: &PoolId) -> Result<PublisherState, StoreError> {
        let sql = format!(
            concat!("SELECT fence, greatest(held_until - ", now!(), ", 0) FROM publisher WHERE pool = {}"),
            POOL
        );
        let rows = self.read(query(sql).text(pool.as_str())).await?;
        let row = rows.first().ok_or_else(|| StoreError::NoSuchPool(pool.clone()))?;
        Ok(PublisherState { fence: Fence(number(row, 0)?), left: Duration::from_millis(number(row, 1)?) })
    }

    pub(in crate::store) async fn list(&self, list: ListId) -> Result<Option<ListRecord>, StoreError> {
        let rows = self.read(read_record(list)).await?;
        rows.first().map(record).transpose()
    }

    pub(in crate::store) async fn lists(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        let sql = format!("SELECT {RECORD} WHERE list.pool = {POOL} ORDER BY list.id");
        self.read(query(sql).text(pool.as_str())).await?.iter().map(record).collect()
    }

    pub(in crate::store) async fn spreading(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        let sql =
            format!("SELECT {RECORD} WHERE list.id IN (SELECT list FROM spread) AND list.pool = {POOL}");
        self.read(query(sql).text(pool.as_str())).await?.iter().map(record).collect()
    }

    pub(in crate::store) async fn pools(&self) -> Result<Vec<(PoolId, u64)>, StoreError> {
        let sql = "SELECT pool.name, count(list.id) FROM pool LEFT JOIN list ON list.pool = pool.id GROUP BY pool.id ORDER BY pool.id";
        let rows = self.read(query(sql)).await?;
        rows.iter().map(|row| Ok((parsed(row, 0)?, number(row, 1)?))).collect()
    }

    pub(in crate::store) async fn usage(&self, pool: &PoolId) -> Result<PoolUsage, StoreError> {
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE list.retired), coalesce(sum(list.leased), 0)::int8,
                    coalesce(sum(pool.size - list.leased) FILTER (WHERE list.open), 0)::int8
             FROM list JOIN pool ON pool.id = list.pool WHERE list.pool = {POOL}"
        );
        let rows = self.read(query(sql).text(pool.as_str())).await?;
        let Some(row) = rows.first() else { return Ok(PoolUsage::default()) };
        let (lists, retired) = (number(row, 0)?, number(row, 1)?);
        Ok(PoolUsage { lists, retired, leased: number(row, 2)?, free: number(row, 3)? })
    }

    /// The rows of one statement.
    async fn read(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        Ok(self.0.link.read(vec![query]).await?.swap_remove(0))
    }
}

/// A list, and all of its chunks.
pub(super) fn snapshot_queries(list: ListId) -> [Query; 2] {
    let sql = "SELECT pool.size, pool.bits, list.filled, list.version FROM list JOIN pool ON pool.id = list.pool WHERE list.uuid = $1";
    [query(sql).list(list), chunks::read_all(list)]
}

/// The answers to [`snapshot_queries`].
pub(super) fn snapshot(list: ListId, answers: &[Vec<Row>]) -> Result<Snapshot, StoreError> {
    let [found, stored] = answers else { return Err(damaged(&"two statements have other than two answers")) };
    let row = found.first().ok_or(StoreError::NoSuchList(list))?;
    let mut chunks = Chunks::new(capacity(row, 0)?, Status::new(number(row, 2)?));
    for row in stored {
        let (n, bytes) = chunks::row(row)?;
        chunks.add(n, bytes)?;
    }
    Ok(Snapshot { version: Version(number(row, 3)?), array: chunks.array()? })
}

pub(super) fn read_record(list: ListId) -> Query {
    query(format!("SELECT {RECORD} WHERE list.uuid = $1")).list(list)
}

/// A row of [`read_record`].
pub(super) fn record(row: &Row) -> Result<ListRecord, StoreError> {
    Ok(ListRecord {
        id: list_id(row, 0)?,
        pool: parsed(row, 1)?,
        leased: number(row, 2)?,
        lease: Lease(number(row, 3)?),
        owner: parsed(row, 4)?,
        leased_at: maybe(row, 5)?.map(Timestamp::from_millis),
        open: get(row, 6)?,
        sealed: get(row, 7)?,
        retired: get(row, 8)?,
        version: Version(number(row, 9)?),
        published: publication(row, 10)?,
        spread: spread(row, 13)?,
    })
}

fn pending(row: &Row) -> Result<Pending, StoreError> {
    Ok(Pending {
        list: list_id(row, 0)?,
        since: maybe(row, 1)?.map(Timestamp::from_millis),
        retired: get(row, 2)?,
        due_mark: DueMark(number(row, 3)?),
        published: publication(row, 4)?,
    })
}

fn publication(row: &Row, first: usize) -> Result<Option<Publication>, StoreError> {
    let Some(version) = maybe(row, first)?.map(Version) else { return Ok(None) };
    let date = |column| number(row, column).map(NumericDate::from_secs);
    Ok(Some(Publication { version, iat: date(first + 1)?, resign_at: date(first + 2)? }))
}

/// The columns of [`SPREAD`].
pub(super) fn spread(row: &Row, first: usize) -> Result<Option<Spread>, StoreError> {
    let (value, key) = (maybe(row, first)?.map(Status::new), order_key(row, first + 2)?);
    let (Some(value), Some(key)) = (value, key) else { return Ok(None) };
    Ok(Some(Spread { value, beats: number(row, first + 1)?, key, done: number(row, first + 3)? }))
}

/// The capacity of a pool's lists: its size and bits, from this column on.
pub(super) fn capacity(row: &Row, first: usize) -> Result<Capacity, StoreError> {
    let bits = number::<u64>(row, first + 1)?.try_into().map_err(|error| damaged(&error))?;
    Capacity::new(number(row, first)?, bits).map_err(|error| damaged(&error))
}
