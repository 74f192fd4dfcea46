//! `statuslist verify`: compares the whole published folder with the store.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::exit::REFUSED;
use super::settings::{Settings, with_pools_of};
use crate::base::clock::Clock;
use crate::config::StoreConfig;
use crate::keys::signers::PoolSigners;
use crate::model::pool::PoolShape;
use crate::publish::{Verification, Verified};
use crate::site::folder::Site;
use crate::store::Store;

/// `statuslist verify`
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 if everything agrees, 1 if something does not, 2 if it could not be compared."
)]
pub(super) struct Verify {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode> {
        let (config, clock) = (settings.load()?, Clock::System);
        let site = Site::existing(&config.publish.storage_directory);
        let lists = site.layout().lists();
        ensure!(
            lists.is_dir(),
            "{} is not a folder: the service has published nothing there",
            lists.display()
        );
        if let StoreConfig::Sqlite { path, .. } = &config.store {
            ensure!(path.exists(), "{} does not exist: the service has never been started", path.display());
        }
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} lists, {per_sec}, {eta} left")
            .context("cannot draw the progress bar")?;
        let bar = ProgressBar::new(0).with_style(style);
        let verified = actix_web::rt::System::new().block_on(async {
            let store = Store::open_to_read(&config.store).await.context("cannot open the store")?;
            let config = with_pools_of(&store, &config).await?;
            let mut pools = Vec::new();
            for (id, pool) in config.pools {
                let signers = PoolSigners::read_existing(&pool, &config.publish.key_directory, clock.now());
                let PoolSigners { current, next } = signers.with_context(|| format!("pool {id}"))?;
                pools.push((pool, current, next));
            }
            if let StoreConfig::Redis(_) = &config.store {
                recognise(&store, pools.iter().map(|(pool, ..)| &pool.shape)).await?;
            }
            let verification = Verification::new(store, site, clock, pools);
            let progress = |done: usize, of: usize| {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            };
            verification.run(&progress).await.context("cannot compare the files with the store")
        })?;
        bar.finish_and_clear();
        match self.json {
            true => println!("{:#}", to_json(&verified)),
            false => print(&verified),
        }
        Ok(if verified.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
    }
}

/// Tells the store the shapes of the pools that it has. Redis reads lists only of pools whose shape it was told; a pool that it does not
/// have yet would be created, so that one is left out.
async fn recognise(store: &Store, shapes: impl Iterator<Item = &PoolShape>) -> Result<()> {
    let there = store.pools().await.context("cannot read the store")?;
    for shape in shapes.filter(|shape| there.iter().any(|(pool, _)| *pool == shape.id)) {
        store.declare_pool(shape).await.context("the settings do not match the store")?;
    }
    Ok(())
}

fn print(Verified { lists, files, pending, faults }: &Verified) {
    for fault in faults {
        println!("{fault}");
    }
    if *pending > 0 {
        println!("{pending} lists have changes that are not published yet");
    }
    match faults.len() {
        0 => println!("good: {files} files of {lists} lists agree with the store"),
        faults => println!("{faults} faults, in {files} files of {lists} lists"),
    }
}

fn to_json(Verified { lists, files, pending, faults }: &Verified) -> serde_json::Value {
    let faults = faults.iter().map(|fault| {
        json!({
            "file": fault.path.display().to_string(),
            "pool": fault.pool.as_ref().map(ToString::to_string),
            "list": fault.list.map(|list| list.to_string()),
            "fault": fault.kind.code(),
            "why": fault.kind.to_string(),
        })
    });
    json!({ "lists": lists, "files": files, "pending": pending, "faults": faults.collect::<Vec<_>>() })
}
