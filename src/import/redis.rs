//! The original service's lists in Redis.
//!
//! ```text
//! pool:lists:all:<pool>   set: the `uri`s of all lists
//! list:config:<uri>       hash: listId, bits, size, poolId, version, finalStatus
//! list:data:<uri>         the packed array, in our order of bits
//! list:indices:<uri>      list: the indices that were never handed out
//! ```

use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Pipeline, RedisError, cmd};

use super::{Found, ImportError, Refused};

/// The longest that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a reply may take: a list has up to 64 MiB.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to the original's Redis.
pub struct OriginalRedis(MultiplexedConnection);

impl std::fmt::Debug for OriginalRedis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OriginalRedis")
    }
}

impl From<RedisError> for ImportError {
    fn from(error: RedisError) -> Self {
        Self::Source(error.to_string())
    }
}

impl OriginalRedis {
    /// Connects to one server.
    pub async fn connect(url: &str, password: Option<&str>) -> Result<Self, ImportError> {
        let mut info = url.into_connection_info()?;
        if let Some(password) = password {
            let settings = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(settings);
        }
        let patience = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        Ok(Self(Client::open(info)?.get_multiplexed_async_connection_with_config(&patience).await?))
    }

    pub(super) async fn uris(&self) -> Result<Vec<String>, ImportError> {
        let mut connection = self.0.clone();
        let (mut uris, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg("pool:lists:all:*").arg("COUNT").arg(1000);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
            for key in keys {
                let of_pool: Vec<String> = cmd("SMEMBERS").arg(key).query_async(&mut connection).await?;
                uris.extend(of_pool);
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        // A scan may return a key twice.
        uris.sort_unstable();
        uris.dedup();
        Ok(uris)
    }

    pub(super) async fn read(&self, uri: &str) -> Result<Found, Refused> {
        let key = format!("list:config:{uri}");
        let mut commands = Pipeline::new();
        commands
            .cmd("HMGET")
            .arg(key)
            .arg(&["bits", "size", "poolId", "finalStatus"])
            .cmd("GET")
            .arg(format!("list:data:{uri}"))
            .cmd("LLEN")
            .arg(format!("list:indices:{uri}"));
        type Answers = (Vec<Option<String>>, Option<Vec<u8>>, u64);
        let answers: Answers = commands.query_async(&mut self.0.clone()).await.map_err(ImportError::from)?;
        let (config, bytes, free) = answers;
        let [bits, size, pool, last] =
            <[Option<String>; 4]>::try_from(config).map_err(|_| missing("list:config"))?;
        let number = |value: Option<String>| value.and_then(|value| value.parse().ok());
        Ok(Found {
            pool: Some(pool.ok_or_else(|| missing("list:config"))?),
            bits: number(bits).ok_or_else(|| missing("bits in list:config"))?,
            entries: number(size).ok_or_else(|| missing("size in list:config"))?,
            free,
            final_status: number(last),
            bytes: bytes.ok_or_else(|| missing("list:data"))?,
        })
    }
}

fn missing(what: &str) -> Refused {
    Refused::This(format!("it is damaged there: it has no {what}"))
}
