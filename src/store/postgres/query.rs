//! One statement with its values, and what its rows say.
//!
//! Statements are never prepared under a name: pgbouncer in transaction mode gives each transaction another session.

use std::error::Error as StdError;

use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use crate::model::order::OrderKey;
use crate::status_list::ListId;
use crate::store::values::StoreError;

/// The database's time of day in milliseconds since 1970, as an expression. Not that of the transaction's start.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::int8"
    };
}
pub(super) use now;

/// A statement and its values, in the order of `$1`, `$2`, …
pub(super) struct Query {
    sql: String,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

/// A statement, so far without values.
pub(super) fn query(sql: impl Into<String>) -> Query {
    Query { sql: sql.into(), values: Vec::new() }
}

impl Query {
    fn with(mut self, value: impl ToSql + Sync + Send + 'static, kind: Type) -> Self {
        self.values.push((Box::new(value), kind));
        self
    }

    pub(super) fn text(self, value: &str) -> Self {
        self.with(value.to_owned(), Type::TEXT)
    }

    pub(super) fn bool(self, value: bool) -> Self {
        self.with(value, Type::BOOL)
    }

    pub(super) fn bytes(self, value: &[u8]) -> Self {
        self.with(value.to_vec(), Type::BYTEA)
    }

    pub(super) fn key(self, value: Option<OrderKey>) -> Self {
        self.with(value.map(|key| key.as_bytes().to_vec()), Type::BYTEA)
    }

    pub(super) fn list(self, list: ListId) -> Self {
        self.with(list.to_string(), Type::TEXT)
    }

    pub(super) fn lists(self, lists: &[ListId]) -> Self {
        self.with(lists.iter().map(ListId::to_string).collect::<Vec<_>>(), Type::TEXT_ARRAY)
    }

    pub(super) fn number(self, value: impl Into<u64>) -> Self {
        self.with(signed(value.into()), Type::INT8)
    }

    pub(super) fn maybe(self, value: Option<u64>) -> Self {
        self.with(value.map(signed), Type::INT8)
    }

    pub(super) fn numbers(self, values: impl IntoIterator<Item = u64>) -> Self {
        self.with(values.into_iter().map(signed).collect::<Vec<_>>(), Type::INT8_ARRAY)
    }

    pub(super) fn maybes(self, values: impl IntoIterator<Item = Option<u64>>) -> Self {
        self.with(values.into_iter().map(|value| value.map(signed)).collect::<Vec<_>>(), Type::INT8_ARRAY)
    }

    pub(super) fn byte_strings(self, values: Vec<Vec<u8>>) -> Self {
        self.with(values, Type::BYTEA_ARRAY)
    }

    /// Sends it and returns its rows.
    pub(super) async fn send(&self, client: &Client) -> Result<Vec<Row>, Error> {
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            self.values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect();
        client.query_typed(&self.sql, &values).await
    }
}

/// No number of ours is as large; one that is (a limit that means "none") is as good as the largest.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A column of a row.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| damaged(&error))
}

/// A column that holds a number.
pub(super) fn number<T: TryFrom<i64, Error: StdError>>(row: &Row, column: usize) -> Result<T, StoreError> {
    T::try_from(get(row, column)?).map_err(|error| damaged(&error))
}

/// A column that holds a number or nothing.
pub(super) fn maybe<T: TryFrom<i64, Error: StdError>>(
    row: &Row,
    column: usize,
) -> Result<Option<T>, StoreError> {
    let value: Option<i64> = get(row, column)?;
    value.map(T::try_from).transpose().map_err(|error| damaged(&error))
}

/// A column that holds the text of a value.
pub(super) fn parsed<T: std::str::FromStr<Err: StdError>>(row: &Row, column: usize) -> Result<T, StoreError> {
    get::<&str>(row, column)?.parse().map_err(|error: T::Err| damaged(&error))
}

/// A column that holds a list's id.
pub(super) fn list_id(row: &Row, column: usize) -> Result<ListId, StoreError> {
    parsed(row, column)
}

/// A column that holds the key of an order, or nothing.
pub(super) fn order_key(row: &Row, column: usize) -> Result<Option<OrderKey>, StoreError> {
    let key: Option<&[u8]> = get(row, column)?;
    let key = key.map(<[u8; 16]>::try_from).transpose().map_err(|error| damaged(&error))?;
    Ok(key.map(OrderKey::from_bytes))
}

/// Data that this program never writes.
pub(super) fn damaged(what: &dyn ToString) -> StoreError {
    StoreError::Damaged(what.to_string())
}
