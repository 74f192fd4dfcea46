//! Fills a folder with the data of a service that has many published lists; `bench/startup` starts the service on it.
//! Usage: `many_lists SETTINGS LISTS`, where the settings name the pool `p` and every path.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use statuslist::app::App;
use statuslist::app::instance::Instance;
use statuslist::base::clock::Clock;
use statuslist::config::Config;
use statuslist::store::Store;

#[actix_web::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: many_lists SETTINGS LISTS");
    let (settings, lists) = (next()?, next()?.parse()?);
    let text =
        std::fs::read_to_string(Path::new(&settings)).with_context(|| format!("cannot read {settings}"))?;
    let load = || Config::load(Some(&text), std::iter::empty());
    open_lists(&load()?, lists).await?;

    let (_, failed) = Box::pin(App::build(load()?, Clock::System)).await?.publish_once(&|_, _| ()).await?;
    ensure!(failed == 0, "{failed} lists could not be published");
    Ok(())
}

async fn open_lists(config: &Config, lists: usize) -> Result<()> {
    let store = Store::open(&config.store).await?;
    let pool = config.pools.values().find(|pool| pool.shape.id.as_str() == "p").context("no pool p")?;
    store.declare_pool(&pool.shape).await?;
    let owner = Instance::open(&config.instance.directory)?.id().clone();
    // Opened concurrently, so that they share commits.
    let opening: Vec<_> = (0..lists)
        .map(|_| {
            let (store, pool, owner) = (store.clone(), pool.shape.id.clone(), owner.clone());
            actix_web::rt::spawn(async move {
                store.open_list(&pool, &owner, u64::MAX, Clock::System.now()).await
            })
        })
        .collect();
    for opened in opening {
        opened.await??;
    }
    Ok(())
}
