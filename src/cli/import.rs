//! `statuslist import` and `statuslist restore`: lists and statuses from elsewhere, into the store of the settings.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use zeroize::Zeroizing;

use super::Settings;
use super::client::status_value::StatusValue;
use super::exit::REFUSED;
use super::settings::with_pools_of;
use crate::base::clock::Clock;
use crate::check::{self, Check, CheckLimits, TrustSource};
use crate::config::{Config, StoreConfig};
use crate::import::{
    Import, OriginalPostgres, OriginalRedis, PublishedLists, Register, Report, SitePool, Source, merge_site,
};
use crate::keys::signers::PoolSigners;
use crate::model::pool::PoolId;
use crate::sign::KeyRing;
use crate::site::folder::Site;
use crate::store::{Store, StoreError};

const EXIT_CODES: &str = "Exits with 0 if everything was taken over, 1 if something was left out, 2 if it ended early: run it again then.";

/// `statuslist import`
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("source").required(true).args(["from", "register"]),
    after_help = EXIT_CODES,
)]
pub(super) struct Arguments {
    /// The original service's store (redis://HOST:PORT, postgres://ROLE@HOST:PORT/DATABASE), the URL of an aggregation of published
    /// lists, or a file with the `uri`s of published lists, one on a line
    #[arg(long, value_name = "URL|FILE")]
    from: Option<String>,
    /// A file with the password of that store, so that it need not be in the URL
    #[arg(long, value_name = "FILE", requires = "from")]
    password_file: Option<PathBuf>,
    /// Whom to trust for published lists: a PEM file of certificates, a JWKS file, or the URL of a JWKS
    #[arg(long, value_name = "FILE|URL", requires = "from")]
    trust: Option<TrustSource>,
    /// The extended key usage that the certificate must have, in dotted numbers
    #[arg(long, value_name = "OID", requires = "trust")]
    eku: Option<String>,
    /// Accept a certificate that is only for other purposes, such as that of a TLS server
    #[arg(long, conflicts_with = "eku", requires = "trust")]
    any_eku: bool,
    /// Follow a redirect from a public address to a private one
    #[arg(long, requires = "trust")]
    private_redirects: bool,
    /// The pool of the settings to import into, if several fit
    #[arg(long, requires = "from")]
    pool: Option<PoolId>,
    /// An issuer's register (CSV: uri, idx, value): sets these statuses in lists that the store has
    #[arg(long, value_name = "FILE")]
    register: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// `statuslist restore`
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Restore {
    /// Read the tokens in the published folder that keys of the settings signed
    #[arg(long, required = true)]
    merge_site: bool,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// Write nothing, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode> {
        let config = settings.load()?;
        let report = actix_web::rt::System::new().block_on(async {
            let register = self.register.as_deref().map(read_register).transpose()?;
            // Before the store is opened, which may create it.
            let source = match &self.from {
                Some(from) => Some(self.open(from).await.context("--from")?),
                None => None,
            };
            let (store, config) = open_store(&config, self.options.dry_run).await?;
            if let Some(pool) = &self.pool {
                ensure!(
                    config.pools.contains_key(pool),
                    "neither the settings nor the store have a pool {pool}"
                );
            }
            let import = Import {
                pools: &config.pools,
                only: self.pool.as_ref(),
                store: store.as_ref(),
                dry_run: self.options.dry_run,
                now: Clock::System.now(),
            };
            match (source, register) {
                (Some(source), _) => {
                    let uris = source.uris().await?;
                    ensure!(!uris.is_empty(), "--from has no lists");
                    // Each is read twice.
                    let progress = Progress::of(2 * uris.len());
                    Ok(import.run(&source, uris, &|done| progress.bar.set_position(done)).await?)
                }
                (None, Some(register)) => {
                    let progress = Progress::of(register.lists());
                    Ok(import.apply(register, &|done| progress.bar.set_position(done)).await?)
                }
                (None, None) => bail!("name --from or --register"),
            }
        })?;
        Ok(self.options.show(&report))
    }

    async fn open(&self, from: &str) -> Result<Source> {
        let password = self.password_file.as_deref().map(read_password).transpose()?;
        Ok(match from.split_once(':') {
            Some(("redis" | "rediss", _)) => {
                Source::Redis(OriginalRedis::connect(from, password.as_deref().map(String::as_str)).await?)
            }
            Some(("postgres" | "postgresql", _)) => Source::Postgres(
                OriginalPostgres::connect(from, password.as_deref().map(String::as_str)).await?,
            ),
            _ => {
                let Some(trust) = self.trust.clone() else {
                    bail!("published lists need --trust: without it no signature can be verified");
                };
                let limits =
                    CheckLimits { private_redirects: self.private_redirects, ..CheckLimits::default() };
                let rules = Check {
                    eku: self.eku.clone(),
                    any_eku: self.any_eku,
                    limits: limits.clone(),
                    ..Check::new("", 0)
                };
                let trust = check::load(&trust, &rules).await.context("--trust")?;
                let uris = match from.starts_with("http://") || from.starts_with("https://") {
                    true => check::aggregation(from, &limits).await?,
                    false => lines_of(Path::new(from))?,
                };
                Source::Published(PublishedLists::new(uris, rules, trust, Clock::System))
            }
        })
    }
}

impl Restore {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode> {
        let config = settings.load()?;
        let site = Site::existing(&config.publish.storage_directory);
        ensure!(site.layout().lists().is_dir(), "{} is not a folder", site.layout().lists().display());
        let now = Clock::System.now();
        let report = actix_web::rt::System::new().block_on(async {
            let (store, config) = open_store(&config, self.options.dry_run).await?;
            let store = store.context("there is no store to restore")?;
            let mut pools = Vec::new();
            for (id, pool) in &config.pools {
                let signers = PoolSigners::read_existing(pool, &config.publish.key_directory, now);
                let signers = signers.with_context(|| format!("pool {id}"))?;
                pools.push(SitePool {
                    config: pool.clone(),
                    keys: KeyRing::new(signers.current, signers.next),
                });
            }
            for pool in config.pools.keys() {
                let left = store.publisher(pool).await?.left;
                ensure!(
                    left.is_zero(),
                    "an instance is publishing pool {pool}; stop all instances, and try again in {} s",
                    left.as_secs() + 1
                );
            }
            let progress = Progress::unknown();
            let import = Import {
                pools: &config.pools,
                only: None,
                store: Some(&store),
                dry_run: self.options.dry_run,
                now,
            };
            Ok::<_, anyhow::Error>(
                merge_site(&import, &store, &site, &pools, &|done| progress.bar.set_position(done)).await?,
            )
        })?;
        Ok(self.options.show(&report))
    }
}

impl Options {
    fn show(&self, report: &Report) -> ExitCode {
        match self.json {
            true => println!("{:#}", to_json(report, self.dry_run)),
            false => print(report, self.dry_run),
        }
        match report.refused.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(REFUSED),
        }
    }
}

fn print(Report { new, same, corrected, statuses, refused }: &Report, dry_run: bool) {
    for (what, why) in refused {
        println!("{what}: {why}");
    }
    let would = if dry_run { "nothing was written; it would be: " } else { "" };
    println!("{would}{new} new lists, {corrected} corrected ({statuses} statuses), {same} as they were");
    if !refused.is_empty() {
        println!("{} left out, for the reasons above", refused.len());
    }
}

fn to_json(Report { new, same, corrected, statuses, refused }: &Report, dry_run: bool) -> serde_json::Value {
    let refused = refused.iter().map(|(what, why)| json!({ "what": what, "why": why }));
    json!({
        "dryRun": dry_run,
        "new": new,
        "same": same,
        "corrected": corrected,
        "statuses": statuses,
        "refused": refused.collect::<Vec<_>>(),
    })
}

/// Opens the store of the settings, and declares their pools and those that were made at run time, which the returned settings have. A
/// dry run opens it for reading, and only if it exists.
async fn open_store(config: &Config, dry_run: bool) -> Result<(Option<Store>, Config)> {
    if let StoreConfig::Sqlite { path, .. } = &config.store
        && dry_run
        && !path.exists()
    {
        return Ok((None, config.clone()));
    }
    let store = match dry_run {
        true => Store::open_to_read(&config.store).await,
        false => Store::open(&config.store).await,
    };
    let store = match store {
        Err(StoreError::Nothing { .. }) => return Ok((None, config.clone())),
        store => store.context("cannot open the store")?,
    };
    let config = with_pools_of(&store, config).await?;
    if dry_run && matches!(config.store, StoreConfig::Sqlite { .. }) {
        return Ok((Some(store), config));
    }
    let there = store.pools().await?;
    for (id, pool) in &config.pools {
        if !dry_run || there.iter().any(|(known, _)| known == id) {
            store.declare_pool(&pool.shape).await.context("the settings do not match the store")?;
        }
    }
    Ok((Some(store), config))
}

fn read_register(path: &Path) -> Result<Register> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = |text: &str| text.parse().map(|StatusValue(value)| value).map_err(str::to_owned);
    Ok(Register::read(std::io::BufReader::new(file), value))
}

fn read_password(path: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn lines_of(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// A progress bar; it goes with this value.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn of(lists: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} lists read, {per_sec}, {eta} left");
        Self { bar: ProgressBar::new(lists as u64).with_style(style.expect("the template is good")) }
    }

    fn unknown() -> Self {
        let style = ProgressStyle::with_template("{spinner} {pos} lists, {per_sec}");
        Self { bar: ProgressBar::new_spinner().with_style(style.expect("the template is good")) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
