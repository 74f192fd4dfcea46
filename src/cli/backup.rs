//! `statuslist backup`: copies the SQLite database while the service runs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::settings::Settings;
use crate::config::StoreConfig;
use crate::store::SqliteStore;

/// `statuslist backup`
#[derive(Debug, Args)]
#[command(
    after_help = "Restore it with the service stopped: put it in the place of `sqlite.path`, remove the files with -wal and -shm at \
                  the end of their name, and never restore instance-directory. See docs/OPERATIONS.md, \"Backup and restore\"."
)]
pub(super) struct Backup {
    /// The copy; an existing file is never overwritten
    file: PathBuf,
}

impl Backup {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode> {
        let instead = "see docs/OPERATIONS.md, \"Backup and restore\"";
        let path = match settings.load()?.store {
            StoreConfig::Sqlite { path, .. } => path,
            StoreConfig::Redis(_) => bail!("the store is Redis, and this copies SQLite: {instead}"),
            StoreConfig::Postgres(_) => {
                bail!(
                    "the store is PostgreSQL, and this copies SQLite: use pg_dump or an archive of the WAL; {instead}"
                )
            }
        };
        ensure!(path.exists(), "{} does not exist: the service has never been started", path.display());
        ensure!(!self.file.exists(), "{} exists already; name a new file", self.file.display());
        let lists = SqliteStore::back_up(&path, &self.file).context("cannot back up the store")?;
        let bytes = std::fs::metadata(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?
            .len();
        println!("{}: {lists} lists, {bytes} bytes, whole and durable", self.file.display());
        Ok(ExitCode::SUCCESS)
    }
}
