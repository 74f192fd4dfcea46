//! Commands on the store itself: moving it, and ending allocation from its present lists.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::settings::Settings;

use crate::config::StoreConfig;
use crate::model::pool::PoolId;
use crate::store::{Deadline, ListRecord, ListTransfer, Registered, Store};

/// How long the new store may take for what operators made at run time.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(10);

/// `statuslist migrate`
#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// The present store: sqlite:PATH, redis://HOST:PORT, postgres://ROLE@HOST:PORT/DATABASE, or sqlite, redis or postgres to use
    /// the settings, which can also hold a password (or the environment: STATUSLIST__REDIS__PASSWORD, STATUSLIST__POSTGRES__PASSWORD)
    #[arg(long)]
    from: String,
    /// The new store; it must have no lists yet
    #[arg(long)]
    to: String,
}

/// `statuslist seal`
#[derive(Debug, Args)]
pub(super) struct Seal {
    /// The pool whose lists hand out no more references; the next start opens new ones
    pool: PoolId,
}

impl Migrate {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode> {
        ensure!(self.from != self.to, "--from and --to are the same store");
        actix_web::rt::System::new().block_on(async {
            let from = self.open(&self.from, settings).await.context("--from")?;
            let to = self.open(&self.to, settings).await.context("--to")?;
            let (pools, lists) = migrate(&from, &to).await?;
            println!("moved and compared: {pools} pool(s), {lists} list(s)");
            println!("Set `storage-type` in the settings before the next start, and keep instance-directory as it is.");
            println!("Never start a service on the old store again: its lists are out of date.");
            if self.from.starts_with("sqlite") {
                println!("Its journal, the history of all changes, is not moved; keep the file for as long as you need it.");
            }
            Ok(ExitCode::SUCCESS)
        })
    }

    async fn open(&self, place: &str, settings: &Settings) -> Result<Store> {
        let given = match place.split_once(':') {
            None if ["sqlite", "redis", "postgres"].contains(&place) => vec![("STORAGE_TYPE", place)],
            Some(("sqlite", path)) if !path.is_empty() => {
                vec![("STORAGE_TYPE", "sqlite"), ("SQLITE__PATH", path)]
            }
            Some(("redis" | "rediss", _)) => vec![("STORAGE_TYPE", "redis"), ("REDIS__URL", place)],
            Some(("postgres" | "postgresql", _)) => {
                vec![("STORAGE_TYPE", "postgres"), ("POSTGRES__URL", place)]
            }
            _ => bail!(
                "this is not a store; write sqlite:PATH, redis://HOST:PORT, postgres://ROLE@HOST:PORT/DATABASE, or sqlite, redis or \
                 postgres as in the settings"
            ),
        };
        let given = given.into_iter().map(|(name, value)| (format!("STATUSLIST__{name}"), value.to_owned()));
        let config = settings.load_with(given)?;
        if let StoreConfig::Sqlite { path, .. } = &config.store {
            let new = place == self.to;
            ensure!(new || path.exists(), "{} does not exist", path.display());
        }
        Ok(Store::open(&config.store).await?)
    }
}

/// Copies all pools and lists, and compares the copies with the originals. Does not copy responses stored under
/// Idempotency-Keys: they last a day, and a retry with an unknown key gets new references, never the same ones twice.
async fn migrate(from: &Store, to: &Store) -> Result<(usize, u64)> {
    if let Some((pool, lists)) = to.pools().await?.into_iter().find(|(_, lists)| *lists > 0) {
        bail!(
            "--to already has pool {pool} with {lists} lists; name an empty store (another file, another redis.key-prefix, or another postgres.schema)"
        );
    }
    let none = Registered::default();
    if to.registry().await? != none {
        bail!("--to already has pools or keys that were made at run time; name an empty store");
    }
    let pools = from.pools().await?;
    for (pool, _) in &pools {
        let left = from.publisher(pool).await?.left;
        if !left.is_zero() {
            bail!(
                "an instance is publishing pool {pool}; stop all instances that use --from, and try again in {} s",
                left.as_secs() + 1
            );
        }
    }
    // Until the copy is complete, no command and no service can open it.
    to.begin_import().await?;
    let total = pools.iter().map(|(_, lists)| lists).sum();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} lists, {per_sec}, {eta} left")?;
    let bar = ProgressBar::new(total).with_style(style);
    let mut done = 0;
    for (pool, _) in &pools {
        let shape =
            from.shape_of(pool).await?.with_context(|| format!("--from has no settings of pool {pool}"))?;
        from.declare_pool(&shape).await?;
        to.declare_pool(&shape).await?;
        for record in from.lists(pool).await? {
            let sent = from.export_list(record.id).await?;
            let new = to.import_list(&sent).await?;
            ensure!(new, "--to already has list {}: another program writes to it; stop it", record.id);
            let arrived = to.export_list(record.id).await?;
            ensure!(
                same(&sent, &arrived),
                "the copy of list {} differs from the original; --from was not changed",
                record.id
            );
            done += 1;
            bar.set_position(done);
        }
    }
    bar.finish_and_clear();
    let registry = from.registry().await?;
    if registry != none {
        let deadline = Deadline::after(REGISTRY_PATIENCE);
        let copied = to.replace_registry(&none.stamp, &registry, deadline).await?;
        ensure!(copied, "another program writes to --to; stop it, and try again with an empty --to");
    }
    check_unwritten(from, to, &pools).await?;
    to.finish_import()
        .await
        .context("the copy is complete, but its mark as unfinished could not be removed")?;
    Ok((pools.len(), done))
}

/// Checks that `from` has not changed since its lists were copied to `to`.
async fn check_unwritten(from: &Store, to: &Store, pools: &[(PoolId, u64)]) -> Result<()> {
    // The time when a dirty list was last published may become unknown, which is harmless.
    let content = |list: ListRecord| ListRecord { published: None, ..list };
    let mut same = from.registry().await? == to.registry().await?;
    for (pool, _) in pools {
        let (sent, left) = (to.lists(pool).await?, from.lists(pool).await?);
        same &= sent.into_iter().map(content).eq(left.into_iter().map(content));
    }
    ensure!(
        same,
        "--from changed during the copy, or --to was written to by another program; stop all instances that use them, and \
         try again with an empty --to"
    );
    Ok(())
}

/// Compares everything except when a dirty list was last published: that may become unknown, so that the list is published
/// anew.
fn same(sent: &ListTransfer, arrived: &ListTransfer) -> bool {
    let mut expected = sent.clone();
    if let (Some(expected), Some(arrived)) = (&mut expected.record.published, &arrived.record.published)
        && sent.dirty_since.is_some()
    {
        expected.iat = arrived.iat;
    }
    expected == *arrived
}

impl Seal {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode> {
        let config = settings.load()?;
        actix_web::rt::System::new().block_on(async {
            let store = Store::open(&config.store).await?;
            let lists = store.lists(&self.pool).await?;
            ensure!(!lists.is_empty(), "the store has no pool {} with lists", self.pool);
            let open: Vec<_> = lists.iter().filter(|list| list.open).collect();
            for list in &open {
                store.seal_list(list.id).await?;
            }
            println!("sealed {} of {} lists of pool {}: they stay published and can be updated, but hand out no more references", open.len(), lists.len(), self.pool);
            Ok(ExitCode::SUCCESS)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::config::Synchronous;
    use crate::model::instance::InstanceId;
    use crate::model::pool::PoolShape;
    use crate::status_list::{Bits, Capacity, ListId, Status, StatusSet};
    use crate::store::SqliteStore;

    /// Two stores, the second a copy of the first, and one of their lists.
    async fn migrated(folder: &std::path::Path) -> (Store, Store, ListId) {
        let open = |name| Store::Sqlite(SqliteStore::open(&folder.join(name), Synchronous::Full).unwrap());
        let (from, to) = (open("from.db"), open("to.db"));
        let shape = PoolShape {
            id: "p".parse().unwrap(),
            public_url: "http://x/lists".parse().unwrap(),
            capacity: Capacity::new(800, Bits::One).unwrap(),
            default_status: Status::VALID,
            final_status: None,
            statuses: StatusSet::new(Bits::One, &[]).unwrap(),
        };
        from.declare_pool(&shape).await.unwrap();
        let now = Timestamp::from_secs(1000);
        let list = from.open_list(&shape.id, &InstanceId::random(), u64::MAX, now).await.unwrap();
        migrate(&from, &to).await.unwrap();
        (from, to, list)
    }

    #[tokio::test]
    async fn writes_acknowledged_during_the_copy_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to, list) = migrated(folder.path()).await;
        let pools = from.pools().await.unwrap();
        check_unwritten(&from, &to, &pools).await.unwrap();
        // Neither a version nor a lease grows with it.
        from.fill_list(
            list,
            Status::INVALID,
            10,
            Deadline::after(std::time::Duration::from_secs(9)),
            Timestamp::from_secs(1001),
        )
        .await
        .unwrap()
        .unwrap();
        let noticed = check_unwritten(&from, &to, &pools).await.unwrap_err().to_string();
        assert!(noticed.starts_with("--from changed"), "{noticed}");
    }

    /// Pools and keys that were made at run time are in no list.
    #[tokio::test]
    async fn a_registry_is_copied_whole_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to, _) = migrated(folder.path()).await;
        let pools = from.pools().await.unwrap();
        let first = Registered::default().followed_by("first".to_owned());
        let deadline = Deadline::after(REGISTRY_PATIENCE);
        assert!(from.replace_registry(&Registered::default().stamp, &first, deadline).await.unwrap());
        let noticed = check_unwritten(&from, &to, &pools).await.unwrap_err().to_string();
        assert!(noticed.starts_with("--from changed"), "{noticed}");

        let open = |name: &str| SqliteStore::open(&folder.path().join(name), Synchronous::Full).unwrap();
        let third = Store::Sqlite(open("third.db"));
        migrate(&from, &third).await.unwrap();
        assert_eq!(third.registry().await.unwrap(), first);
        let taken = Store::Sqlite(open("taken.db"));
        let other = Registered::default().followed_by("other".to_owned());
        assert!(taken.replace_registry(&Registered::default().stamp, &other, deadline).await.unwrap());
        let refused = migrate(&from, &taken).await.unwrap_err().to_string();
        assert!(refused.contains("made at run time"), "{refused}");
        assert_eq!(taken.registry().await.unwrap(), other);
    }
}
