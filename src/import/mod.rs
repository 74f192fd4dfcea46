//! Lists of other services, taken over with the addresses that they have: from the original's store, or as they are published.
//!
//! Each becomes a sealed list: it is published and updated at its `uri`, and no reference of it is handed out any more, because only
//! the other service knows which were. Also corrects statuses in lists that the store has: from an issuer's register, and from the
//! published tokens after the store lost data. Leaves reading the command line and the settings to `cli`.
//!
//! Invariants: a list that changed here is never overwritten; what cannot be taken over whole is refused, with its reason.

mod postgres;
mod published;
mod redis;
mod register;
mod restore;
mod take;

use std::collections::{BTreeMap, HashSet};

use futures_util::StreamExt;
use futures_util::stream;
use thiserror::Error;

use crate::base::clock::Timestamp;
use crate::base::digest::digest;
use crate::config::PoolConfig;
use crate::model::pool::PoolId;
use crate::store::{Store, StoreError};
pub use postgres::OriginalPostgres;
pub use published::PublishedLists;
pub use redis::OriginalRedis;
pub use register::{Register, Row};
pub use restore::{SitePool, merge_site};
use take::Taken;

/// How many lists are in work at a time: enough to share the commits of SQLite, and the way to a server.
const AT_A_TIME: usize = 16;

/// Where lists come from.
#[derive(Debug)]
pub enum Source {
    /// The original service's Redis.
    Redis(OriginalRedis),
    /// The original service's PostgreSQL.
    Postgres(OriginalPostgres),
    /// Tokens that anyone can fetch.
    Published(PublishedLists),
}

/// A list of another service. Nothing about it is checked yet.
#[derive(Debug)]
struct Found {
    /// The name of its pool there.
    pool: Option<String>,
    bits: u64,
    entries: u64,
    /// Entries whose references were never handed out.
    free: u64,
    /// Its final status, if that is known.
    final_status: Option<u64>,
    /// The packed array.
    bytes: Vec<u8>,
}

/// Why a list cannot be taken over, or an entry not set.
#[derive(Debug, Error)]
enum Refused {
    /// This one cannot, whatever happens to the others.
    #[error("{0}")]
    This(String),
    /// None can.
    #[error(transparent)]
    All(#[from] ImportError),
}

/// Why an import ended early. What was taken over stays, and another run goes on.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The other service's store failed.
    #[error("cannot read the lists of the other service: {0}")]
    Source(String),
}

/// What became of each list, or of each entry.
#[derive(Debug, Default)]
pub struct Report {
    /// Lists that are new in the store.
    pub new: u64,
    /// Lists that the store had before, with the same statuses.
    pub same: u64,
    /// Lists that the store had before, and whose statuses were corrected.
    pub corrected: u64,
    /// Statuses that were corrected.
    pub statuses: u64,
    /// What was left as it is, and why.
    pub refused: Vec<(String, String)>,
}

/// The rules of an import.
#[derive(Debug)]
pub struct Import<'a> {
    /// The pools of the settings.
    pub pools: &'a BTreeMap<PoolId, PoolConfig>,
    /// The only pool to import into; `None` for the one that fits.
    pub only: Option<&'a PoolId>,
    /// The store; `None` if there is none yet, so that a dry run makes none.
    pub store: Option<&'a Store>,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// The time of the import.
    pub now: Timestamp,
}

impl Found {
    fn content(&self) -> [u8; 32] {
        digest("imported list", &[&self.bytes])
    }
}

impl Source {
    /// The `uri`s of all its lists.
    pub async fn uris(&self) -> Result<Vec<String>, ImportError> {
        match self {
            Self::Redis(redis) => redis.uris().await,
            Self::Postgres(postgres) => postgres.uris().await,
            Self::Published(lists) => Ok(lists.uris().to_vec()),
        }
    }

    async fn read(&self, uri: &str) -> Result<Found, Refused> {
        match self {
            Self::Redis(redis) => redis.read(uri).await,
            Self::Postgres(postgres) => postgres.read(uri).await,
            Self::Published(lists) => lists.read(uri).await,
        }
    }
}

impl Report {
    fn add(&mut self, taken: &Taken) {
        match taken {
            Taken::New => self.new += 1,
            Taken::Same => self.same += 1,
            Taken::Corrected(statuses) => {
                self.corrected += 1;
                self.statuses += statuses;
            }
        }
    }
}

impl Import<'_> {
    /// Takes over the lists at `uris`. Reads each a second time at the end, because a change that was made there meanwhile would be
    /// lost. `progress` gets the number of lists that were read.
    pub async fn run(
        &self,
        source: &Source,
        mut uris: Vec<String>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Report, ImportError> {
        uris.sort_unstable();
        uris.dedup();
        let mut report = Report::default();
        let mut taken = Vec::with_capacity(uris.len());
        // Of the lists that a dry run did not make.
        let mut names = HashSet::new();
        let mut done = 0;
        let mut working = stream::iter(uris)
            .map(|uri| async move { (self.take_from(source, &uri).await, uri) })
            .buffer_unordered(AT_A_TIME);
        while let Some((outcome, uri)) = working.next().await {
            done += 1;
            progress(done);
            match outcome {
                Ok((Taken::New, _)) if self.dry_run && !names.insert(name(&uri).to_owned()) => {
                    let why = format!("another list of this import has the name {}", name(&uri));
                    report.refused.push((uri, format!("{why}: it needs a deployment of its own")));
                }
                Ok((outcome, content)) => {
                    report.add(&outcome);
                    taken.push((uri, content));
                }
                Err(Refused::This(why)) => report.refused.push((uri, why)),
                Err(Refused::All(error)) => return Err(error),
            }
        }
        let mut again = stream::iter(taken)
            .map(|(uri, content)| async move {
                let read = source.read(&uri).await;
                (!read.is_ok_and(|found| found.content() == content), uri)
            })
            .buffer_unordered(AT_A_TIME);
        while let Some((changed, uri)) = again.next().await {
            done += 1;
            progress(done);
            if changed {
                let why = "it changed there during the import, and that change is not here: stop the other service, and import again";
                report.refused.push((uri, why.to_owned()));
            }
        }
        report.refused.sort_unstable();
        Ok(report)
    }

    /// Takes over one list. Also returns a digest of what it says.
    async fn take_from(&self, source: &Source, uri: &str) -> Result<(Taken, [u8; 32]), Refused> {
        let found = source.read(uri).await?;
        let content = found.content();
        Ok((self.take(uri, found).await?, content))
    }
}

/// The part of a `uri` that becomes the id of a list: no two lists of a deployment have the same.
fn name(uri: &str) -> &str {
    uri.rsplit_once('/').map_or(uri, |(_, name)| name)
}
