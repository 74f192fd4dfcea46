//! The original service's lists in PostgreSQL.
//!
//! ```text
//! pools          id, name
//! lists          id (uuid), pool_id, base_uri (with a slash at its end), bits, size, version, data (varbit), final_status
//! list_indices   list_id, index: the indices that were never handed out
//! ```

use std::error::Error as StdError;
use std::fmt;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Found, ImportError, Refused};

/// A connection to the original's PostgreSQL.
pub struct OriginalPostgres {
    client: Client,
    /// Whether lists have a final status: a column that later versions of the original have.
    has_final_status: bool,
    connection: JoinHandle<()>,
}

impl fmt::Debug for OriginalPostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OriginalPostgres")
    }
}

impl Drop for OriginalPostgres {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl From<Error> for ImportError {
    fn from(error: Error) -> Self {
        // The error's own text says only that there was one.
        let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
        Self::Source(format!("{error}{cause}"))
    }
}

/// The bits of a `varbit`: the most significant bit of the first byte is the first.
struct BitString {
    bits: u64,
    bytes: Vec<u8>,
}

impl<'a> FromSql<'a> for BitString {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let (bits, bytes) = raw.split_first_chunk().ok_or("a bit string without its length")?;
        Ok(Self { bits: u64::try_from(i32::from_be_bytes(*bits))?, bytes: bytes.to_vec() })
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::VARBIT
    }
}

impl OriginalPostgres {
    /// Connects. `sslmode=require` in the address encrypts, and trusts the system's certificate authorities.
    pub async fn connect(url: &str, password: Option<&str>) -> Result<Self, ImportError> {
        let mut config: Config = url.parse()?;
        if let Some(password) = password {
            config.password(password);
        }
        let (client, connection) = match config.get_ssl_mode() {
            SslMode::Require => {
                let (tls, _) = MakeRustlsConnect::with_native_certs().map_err(|errors| {
                    ImportError::Source(format!("no certificate authorities: {errors:?}"))
                })?;
                let (client, connection) = config.connect(tls).await?;
                (client, tokio::spawn(async move { _ = connection.await }))
            }
            _ => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, tokio::spawn(async move { _ = connection.await }))
            }
        };
        let column =
            "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('lists') AND attname = 'final_status'";
        let has_final_status = !client.query_typed(column, &[]).await?.is_empty();
        Ok(Self { client, has_final_status, connection })
    }

    pub(super) async fn uris(&self) -> Result<Vec<String>, ImportError> {
        let rows = self.client.query_typed("SELECT base_uri || id::text FROM lists ORDER BY 1", &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    pub(super) async fn read(&self, uri: &str) -> Result<Found, Refused> {
        let last = if self.has_final_status { "lists.final_status" } else { "NULL" };
        let sql = format!(
            "SELECT pools.name::text, lists.bits::int8, lists.size::int8, ({last})::int8, lists.data,
                    (SELECT count(*) FROM list_indices WHERE list_id = lists.id)
             FROM lists JOIN pools ON pools.id = lists.pool_id WHERE lists.id = right($1, 36)::uuid AND lists.base_uri || lists.id::text = $1"
        );
        let rows = self
            .client
            .query_typed(&sql, &[(&uri as &(dyn ToSql + Sync), Type::TEXT)])
            .await
            .map_err(ImportError::from)?;
        let gone = || Refused::This("it is no longer there".to_owned());
        let row = rows.first().ok_or_else(gone)?;
        let read = || -> Result<_, Error> {
            let numbers = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(5)?);
            Ok((row.try_get(0)?, numbers, row.try_get(4)?))
        };
        type Numbers = (i64, i64, Option<i64>, i64);
        let (pool, (bits, entries, last, free), data): (String, Numbers, BitString) =
            read().map_err(ImportError::from)?;
        let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
        let (bits, entries) = (number(bits), number(entries));
        if bits.checked_mul(entries) != Some(data.bits) {
            return Err(Refused::This(format!(
                "it is damaged there: it has {} bits in place of {entries} times {bits}",
                data.bits
            )));
        }
        Ok(Found {
            pool: Some(pool),
            bits,
            entries,
            free: number(free),
            final_status: last.map(number),
            bytes: data.bytes,
        })
    }
}
