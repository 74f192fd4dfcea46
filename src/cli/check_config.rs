//! `statuslist check-config`: reads what `serve` would read, and reports every mistake, changing nothing.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Error, Result, bail};
use clap::Args;
use rustix::fs::{Access as Right, access};
use tracing_subscriber::filter::LevelFilter;

use super::settings::Settings;
use crate::access::Access;
use crate::base::clock::{Clock, Timestamp};
use crate::base::durable::folder_of;
use crate::config::{Config, Mistakes, StoreConfig, show_duration};
use crate::keys::signers::PoolSigners;
use crate::publish::Bucket;
use crate::store::Store;
use crate::telemetry;

/// `statuslist check-config`
#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    /// Also ask Redis or PostgreSQL whether it answers, and is as durable as the settings want
    #[arg(long)]
    online: bool,
}

impl CheckConfig {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode> {
        let (config, mut mistakes) = settings.examine();
        if let Some(config) = &config {
            let _exporting = telemetry::start(&config.telemetry, LevelFilter::INFO)?;
            let now = Clock::System.now();
            config.warnings.iter().for_each(|warning| println!("warning: {warning}"));
            warn_of_ended_keys(config, now);
            keys(config, now, &mut mistakes);
            folders(config, &mut mistakes);
            servers(config, &mut mistakes);
            if self.online && !mistakes.are_in("redis") && !mistakes.are_in("postgres") {
                online(config, &mut mistakes)?;
            }
        }
        if let (Some(config), true) = (config, mistakes.is_empty()) {
            config.pools.values().for_each(|pool| println!("{}", described(pool)));
            println!(
                "{} good",
                if settings.are_built_in() { "the built-in settings are" } else { "the settings are" }
            );
            return Ok(ExitCode::SUCCESS);
        }
        Err(Error::new(mistakes.sorted()).context("cannot use the settings"))
    }
}

fn described(pool: &crate::config::PoolConfig) -> String {
    let (capacity, lifetimes) = (pool.shape.capacity, &pool.live.lifetimes);
    format!(
        "pool {}: {} entries of {} bit(s), published every {}, valid for {}, signed again after {}, ttl {}",
        pool.shape.id,
        capacity.entries(),
        capacity.bits(),
        show_duration(pool.live.update_interval),
        show_duration(lifetimes.list_lifetime),
        show_duration(lifetimes.resign_after),
        show_duration(lifetimes.ttl)
    )
}

/// Their callers get the same answer as with an unknown key.
fn warn_of_ended_keys(config: &Config, now: Timestamp) {
    for (id, pool) in &config.pools {
        for key in pool.api_keys.iter().filter(|key| key.not_after.is_some_and(|end| end < now)) {
            println!(
                "warning: status-list-pools.{id}.api-keys: the key `{}` has ended (not-after): remove it, or give its holder another",
                key.name
            );
        }
    }
}

/// The signing keys with their certificates, and the keys of the authorization server.
fn keys(config: &Config, now: Timestamp, mistakes: &mut Mistakes) {
    let pools = config.pools.iter().map(|(id, pool)| (format!("status-list-pools.{id}.signer"), pool));
    let templates = config.of_templates.iter().map(|(id, pool)| (format!("templates.{id}.signer"), pool));
    for (setting, pool) in pools.chain(templates) {
        // A password that could not be read opens no key store.
        if mistakes.are_in(&setting) {
            continue;
        }
        for refusal in PoolSigners::refusals(pool, &config.publish.key_directory, now) {
            let why = format!("{refusal:#}");
            let (key, why) =
                match (why.strip_prefix("signer.next: "), why.strip_prefix(&format!("{setting}: "))) {
                    (Some(why), _) => (format!("{setting}.next"), why),
                    (None, Some(why)) => (setting.clone(), why),
                    (None, None) => (setting.clone(), why.as_str()),
                };
            mistakes.push(config.mistake(&key, why));
        }
    }
    let patience = config.limits.request_timeout;
    if let Err(why) = Access::new(Vec::new(), config.access.clone(), patience, Clock::System, None) {
        mistakes.push(config.mistake("oauth", why.to_string()));
    }
}

/// The folders that the service writes to: those that exist, or those in which it would make them.
fn folders(config: &Config, mistakes: &mut Mistakes) {
    let mut folders = vec![
        ("storage-directory", config.publish.storage_directory.as_path()),
        ("key-directory", config.publish.key_directory.as_path()),
        ("instance-directory", config.instance.directory.as_path()),
    ];
    if let StoreConfig::Sqlite { path, .. } = &config.store {
        folders.push(("sqlite.path", folder_of(path)));
    }
    folders.extend(config.audit.as_ref().map(|audit| ("audit.path", folder_of(&audit.path))));
    for (key, folder) in folders {
        if let Err(why) = can_write(folder) {
            mistakes.push(config.mistake(key, format!("{why:#}")));
        }
    }
}

/// Whether files can be made in this folder, or the folder itself.
fn can_write(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if folder.exists() && !folder.is_dir() {
        bail!("{} is not a folder", folder.display());
    }
    match access(folder, Right::WRITE_OK | Right::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOTDIR) => bail!("{} is not a folder", folder.display()),
        Err(rustix::io::Errno::NOENT) => match folder.parent() {
            Some(parent) => can_write(parent),
            None => bail!("{} does not exist", folder.display()),
        },
        Err(why) => Err(why).with_context(|| format!("cannot write in {}", folder.display())),
    }
}

/// The buckets, as far as they can be checked without asking them.
fn servers(config: &Config, mistakes: &mut Mistakes) {
    for (number, sink) in config.publish.sinks.iter().enumerate() {
        if let Err(why) = Bucket::open(sink) {
            mistakes.push(config.mistake(&format!("publish.sinks[{number}]"), why.to_string()));
        }
    }
}

fn online(config: &Config, mistakes: &mut Mistakes) -> Result<()> {
    let key = match &config.store {
        StoreConfig::Sqlite { .. } => return Ok(()),
        StoreConfig::Redis(_) => "redis",
        StoreConfig::Postgres(_) => "postgres",
    };
    let answer = super::runtime()?.block_on(Store::check_server(&config.store));
    if let Err(why) = answer {
        mistakes.push(config.mistake(key, why.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_must_be_writable_or_possible_to_make() {
        let folder = tempfile::tempdir().unwrap();
        assert!(can_write(folder.path()).is_ok() && can_write(&folder.path().join("a/b")).is_ok());
        assert!(can_write(Path::new("")).is_ok(), "the working directory");
        let file = folder.path().join("file");
        std::fs::File::create(&file).unwrap();
        for not_a_folder in [file.join("a"), file] {
            let why = can_write(&not_a_folder).unwrap_err().to_string();
            assert!(why.contains("is not a folder"), "{why}");
        }
    }
}
