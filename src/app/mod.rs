//! The only part that knows every other: builds, runs and stops them in order.

pub mod instance;
pub mod reload;
mod room;
mod running;
mod status_page;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix_web::web;
use anyhow::{Context, Result, anyhow, bail};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::access::{Access, Today};
use crate::allocate::{Allocated, Allocator, HandedOut, Marks};
use crate::app::instance::Instance;
use crate::app::reload::{Reload, Source};
use crate::audit::{Action, Audit, Caller, Line, PoolName};
use crate::base::clock::Clock;
use crate::base::clock_watch::ClockWatch;
use crate::base::durable;
use crate::base::signals::Signals;
use crate::base::stopper::{StopSwitch, Stopper, stopper};
use crate::config::{Config, PoolConfig, PublishRole};
use crate::http::api::{Api, PoolApi};
use crate::http::places::Room;
use crate::http::{self, Listeners};
use crate::keys::made;
use crate::keys::signers::PoolSigners;
use crate::model::api_key::ApiKey;
use crate::model::pool::PoolId;
use crate::publish::{Bucket, KeySet, NEXT_SECOND, Parts, PoolKeys, PoolPublisher, sweep};
use crate::sign::KeyRing;
use crate::site::folder::Site;
use crate::site::server::SiteServer;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::update::Updater;
use running::{Running, RunningPool, access, set_times};

/// How long a single publication waits for all uploads.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(300);

/// A service that is ready to run.
pub struct App {
    config: Config,
    clock: Clock,
    clock_watch: Arc<ClockWatch>,
    /// Held as long as the service lives, so that no other process runs as this instance.
    _instance: Instance,
    store: Store,
    metrics: Arc<Metrics>,
    audit: Audit,
    site: Site,
    pools: Vec<PoolParts>,
    listeners: Listeners,
    room: Room,
    key_set: Arc<KeySet>,
    new_api_keys: BTreeMap<PoolId, Zeroizing<String>>,
    /// The source of changed settings. If `None`, changes need a restart.
    source: Option<Source>,
}

struct PoolParts {
    config: PoolConfig,
    keys: Arc<KeyRing>,
    signals: Arc<Signals>,
    allocator: Arc<Allocator>,
    publisher: Arc<PoolPublisher>,
}

/// Controls a running service.
#[derive(Clone)]
pub struct Handle {
    stop: Arc<StopSwitch>,
    allocators: Arc<BTreeMap<PoolId, Arc<Allocator>>>,
}

impl Handle {
    /// Stops the service: it completes the requests that it has begun, gives back unused references and ends.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Takes references as a request does. `None` if the pool does not exist or has none ready.
    pub async fn allocate(&self, pool: &PoolId, amount: usize) -> Option<Vec<Allocated>> {
        self.allocators.get(pool)?.allocate(amount).await.ok()
    }
}

impl App {
    /// Opens the store, reads the keys and binds the addresses of the settings.
    pub async fn build(config: Config, clock: Clock) -> Result<Self> {
        Self::build_on(Listeners::bind(&config.server)?, config, clock).await
    }

    /// Like [`Self::build`], on addresses that are already bound.
    pub async fn build_on(listeners: impl Into<Listeners>, mut config: Config, clock: Clock) -> Result<Self> {
        let listeners = listeners.into();
        let clock_watch = Arc::new(ClockWatch::new(clock.clone()));
        // Before anything is opened that a full table of open files could break.
        let room = room::make(&config)?;
        for warning in &config.warnings {
            tracing::warn!("settings: {warning}");
        }
        // First, because folders for private files are made inaccessible to the web server, and the public folder may be
        // inside one.
        let site =
            Site::open(&config.publish.storage_directory).context("cannot prepare storage-directory")?;
        let instance =
            Instance::open(&config.instance.directory).context("cannot open instance-directory")?;
        durable::keep_folder_private(&config.publish.key_directory).context("cannot use key-directory")?;
        let store = Store::open(&config.store).await.context("cannot open the store")?;
        let leftovers =
            sweep::remove_leftovers(&site, clock.now()).context("cannot clean storage-directory")?;
        if leftovers > 0 {
            tracing::info!(leftovers, "removed files that a crash left behind");
        }
        refuse_forgotten_pools(&store, &config).await?;
        let buckets = config.publish.sinks.iter().map(Bucket::open);
        let buckets: Vec<_> = buckets.collect::<Result<_, _>>().context("cannot use publish.sinks")?;
        let metrics = Arc::new(Metrics::default());
        let audit = Audit::open(config.audit.as_ref(), clock.clone(), metrics.audit.clone());
        let audit = audit.context("cannot continue the audit trail")?;
        let key_directory = config.publish.key_directory.clone();
        let mut new_api_keys = BTreeMap::new();
        let mut pools = Vec::with_capacity(config.pools.len());
        for (id, pool) in &mut config.pools {
            if pool.api_keys.is_empty() {
                let (hash, key) = made::demo_api_key(pool, &key_directory)?;
                pool.api_keys.push(ApiKey::unlimited(hash));
                new_api_keys.extend(key.map(|key| (id.clone(), key)));
            }
            store.declare_pool(&pool.shape).await.context("the settings do not match the store")?;
            let now = clock.now();
            let signers =
                PoolSigners::read(pool, &key_directory, now).with_context(|| format!("pool {id}"))?;
            signers.warn_of_certificates(pool, now);
            let keys = Arc::new(KeyRing::new(signers.current, signers.next));
            let pool_metrics = metrics.pool(id);
            let marks = match config.instance.marks {
                true => {
                    let path = instance.directory().join(format!("{id}.marks"));
                    let opened = Marks::open_at_start(&path, &store, id, instance.id()).await;
                    Some(opened.context("cannot read this instance's high-water marks")?)
                }
                false => None,
            };
            let parts = Parts {
                store: store.clone(),
                site: site.clone(),
                base: pool.shape.public_url.clone(),
                clock: clock.clone(),
                clock_watch: Arc::clone(&clock_watch),
                holder: instance.id().clone(),
                role: config.publish.role,
                buckets: buckets.clone(),
            };
            pools.push(PoolParts {
                signals: Arc::new(Signals::default()),
                allocator: Arc::new(Allocator::new(
                    pool,
                    instance.id().clone(),
                    marks,
                    Arc::clone(&pool_metrics),
                )),
                publisher: Arc::new(PoolPublisher::new(pool, Arc::clone(&keys), pool_metrics, parts)),
                config: pool.clone(),
                keys,
            });
        }
        let of_pool = |pool: &PoolParts| PoolKeys {
            id: pool.config.shape.id.clone(),
            ring: Arc::clone(&pool.keys),
            publisher: Arc::clone(&pool.publisher),
        };
        let all_keys = pools.iter().map(of_pool).collect();
        let key_set = Arc::new(KeySet::new(site.clone(), Arc::clone(&metrics), all_keys));
        set_times(&config, &key_set, None);
        key_set.publish_first().await.context("cannot publish the public keys")?;
        status_page::write(&site, status_page::document(&config).as_deref());
        Ok(Self {
            config,
            clock,
            clock_watch,
            _instance: instance,
            store,
            metrics,
            audit,
            site,
            pools,
            key_set,
            listeners,
            room,
            new_api_keys,
            source: None,
        })
    }

    /// Makes the running service take changed settings and keys from `source`.
    pub fn reloading(self, source: Source) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The API keys made at this start. They are shown nowhere else.
    pub fn new_api_keys(&self) -> &BTreeMap<PoolId, Zeroizing<String>> {
        &self.new_api_keys
    }

    /// The file with the hash of a pool's generated API key.
    pub fn api_key_path(&self, pool: &PoolId) -> Option<PathBuf> {
        let pool = self.config.pools.get(pool)?;
        Some(made::demo_api_key_path(pool, &self.config.publish.key_directory))
    }

    /// From now on tokens whose `iat` lies more than a minute in the future are replaced, although `iat` goes back by that.
    /// Fails if the audit trail cannot be written.
    pub async fn replace_future(&self) -> Result<()> {
        if self.audit.is_on() {
            let pools = self.pools.iter().map(|pool| PoolName::from(&pool.config.shape.id)).collect();
            let line = Line::new(Caller::default(), Action::ReplaceFuture { pools });
            self.audit.record(line).await.map_err(|error| anyhow!("{error}"))?;
        }
        self.pools.iter().for_each(|pool| pool.publisher.replace_future());
        Ok(())
    }

    /// Publishes everything pending once, without serving. Returns how many lists were published and how many failed.
    pub async fn publish_once(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<(usize, usize)> {
        let (mut published, mut failed) = (0, 0);
        for pool in &self.pools {
            pool.publisher.look().await;
            pool.publisher.advance_spreads().await;
            loop {
                let pass = pool.publisher.publish_pending(&pool.signals, progress).await;
                published += pass.published.len();
                failed += pass.failed.len();
                if pass.not_ours {
                    bail!("another instance publishes pool {}", pool.config.shape.id);
                }
                if let Some(error) = pass.ended_by {
                    return Err(error).context("publishing ended early");
                }
                if pass.waiting == 0 || !pass.failed.is_empty() {
                    break;
                }
                // Lists signed within this second by a service that has just stopped.
                tokio::time::sleep(NEXT_SECOND).await;
            }
            let (settled, owed) = pool.publisher.upload(&pool.signals, UPLOAD_PATIENCE).await;
            published += settled;
            failed += owed;
            pool.publisher.write_statistics().await;
            pool.publisher.release().await;
        }
        Ok((published, failed))
    }

    /// Runs the service. Returns a handle, and a future that must be awaited until the service has stopped.
    pub fn run(mut self) -> (Handle, impl Future<Output = Result<()>>) {
        // They were shown; nobody needs them in memory any longer.
        self.new_api_keys.clear();
        let (switch, stop) = stopper();
        let allocators =
            self.pools.iter().map(|pool| (pool.config.shape.id.clone(), Arc::clone(&pool.allocator)));
        let handle = Handle { stop: Arc::new(switch), allocators: Arc::new(allocators.collect()) };
        (handle, self.serve(stop))
    }

    async fn serve(self, stop: Stopper) -> Result<()> {
        let mut background = JoinSet::new();
        let mut writers = JoinSet::new();
        let mut pool_apis = BTreeMap::new();
        let (stop_background, background_stopper) = stopper();
        for pool in &self.pools {
            let id = pool.config.shape.id.clone();
            let (updater, batches) = Updater::new(
                id.clone(),
                self.store.clone(),
                self.clock.clone(),
                self.config.limits.queue_max.max(self.config.limits.batch_max),
                self.metrics.pool(&id),
            );
            writers.spawn(batches);
            let (allocator, store, signals, clock, stopper) = (
                Arc::clone(&pool.allocator),
                self.store.clone(),
                Arc::clone(&pool.signals),
                self.clock.clone(),
                background_stopper.clone(),
            );
            background.spawn(async move { allocator.run(&store, &signals, &clock, &stopper).await });
            let (publisher, signals, stopper) =
                (Arc::clone(&pool.publisher), Arc::clone(&pool.signals), background_stopper.clone());
            let key_set = Arc::clone(&self.key_set);
            background.spawn(async move {
                if stopper.until(key_set.first_published()).await.is_some() {
                    publisher.run(&signals, &stopper).await;
                }
            });
            let allocator = Arc::clone(&pool.allocator);
            let facts = ArcSwap::from_pointee(running::pool_facts(
                &pool.config,
                &pool.keys,
                self.config.publish.role,
            ));
            let api_keys = &self.config.pools[&id].api_keys;
            self.metrics.references_per_day_max(&id, pool.config.live.quotas.references_per_day);
            running::tell_next_key_end(&self.metrics, &id, api_keys, self.clock.now());
            let (capacity, statuses) = (pool.config.shape.capacity, pool.config.shape.statuses);
            let base = pool.config.shape.public_url.clone();
            let (today, metrics) = (Today::default(), self.metrics.pool(&id));
            let handed_out = pool.config.start.reject_unallocated.then(HandedOut::default);
            pool_apis.insert(
                id.clone(),
                PoolApi {
                    id,
                    base,
                    capacity,
                    statuses,
                    allocator,
                    handed_out,
                    updater,
                    today,
                    metrics,
                    facts,
                },
            );
        }
        let api = Api::new(
            pool_apis,
            self.access()?,
            self.store.clone(),
            self.config.limits,
            Arc::clone(&self.metrics),
            self.clock.clone(),
        );
        // An instance that never publishes signs nothing, so its clock does not matter.
        let watch = (self.config.publish.role != PublishRole::Off).then(|| Arc::clone(&self.clock_watch));
        let api =
            web::Data::new(api.audited(self.audit.clone()).watching(watch).lenient(self.config.lenient));
        let site = self.config.server.serve_status_lists.then(|| Arc::new(self.site_server()));
        let (key_set, stopper) = (Arc::clone(&self.key_set), background_stopper.clone());
        background.spawn(async move { key_set.run(&stopper).await });
        let running = Arc::new(self.running(Arc::downgrade(&api.clone().into_inner()), site.clone()));
        if let Some(source) = &self.source {
            let take = Arc::clone(&running);
            let take = Arc::new(move |config| take.take(config));
            let reload = Reload::new(source.clone(), &self.config, take, self.metrics.reloads.clone());
            let stopper = background_stopper.clone();
            background.spawn(async move { reload.run(&stopper).await });
        }
        let stopper = background_stopper.clone();
        background.spawn(async move { running.watch_certificates(&stopper).await });
        let (servers, server_handles) =
            http::servers(&self.listeners, &self.config.server, self.room, &api, site.as_ref())?;
        let access = Arc::clone(&api.access());
        tokio::spawn(async move { access.prepare().await });
        drop(api);
        let mut serving: JoinSet<_> = servers.into_iter().collect();
        tracing::info!(listen = %self.config.server.listen, public_url = %self.config.public_url, "ready");

        // A part that ends before the stop has failed. A restart is better than going on without it.
        let failed = stop.until(async {
            tokio::select! {
                _ = background.join_next() => "publishing or allocation",
                _ = writers.join_next() => "updating",
                () = self.store.ended() => "the store",
                () = self.audit.ended() => "the audit trail",
                _ = serving.join_next() => "the HTTP server",
            }
        });
        let failed = failed.await;
        match failed {
            Some(part) => tracing::error!(part, "a part of the service failed; stopping"),
            None => tracing::info!("stopping"),
        }
        let stops: JoinSet<_> = server_handles.into_iter().map(|server| server.stop(true)).collect();
        stops.join_all().await;
        while let Some(served) = serving.join_next().await {
            served.context("the HTTP server ended early")?.context("the HTTP server failed")?;
        }
        // The server held the last updaters: their pending changes are answered, then their tasks end.
        while writers.join_next().await.is_some() {}
        stop_background.stop();
        while background.join_next().await.is_some() {}
        tracing::info!("stopped");
        match failed {
            Some(part) => Err(anyhow!("{part} ended early; the log says why")),
            None => Ok(()),
        }
    }

    /// Access as the settings define it.
    fn access(&self) -> Result<Access> {
        let keys = self.pools.iter().map(|pool| (&pool.config, pool.config.api_keys.clone()));
        access(&self.config, keys, &self.clock, None)
    }

    /// The parts that can change while the service runs.
    fn running(&self, api: Weak<Api>, site: Option<Arc<SiteServer>>) -> Running {
        set_times(&self.config, &self.key_set, site.as_deref());
        let of_pool = |pool: &PoolParts| RunningPool {
            allocator: Arc::clone(&pool.allocator),
            publisher: Arc::clone(&pool.publisher),
            ring: Arc::clone(&pool.keys),
        };
        Running {
            clock: self.clock.clone(),
            current: Mutex::new(self.config.clone()),
            pools: self.pools.iter().map(of_pool).collect(),
            key_set: Arc::clone(&self.key_set),
            api,
            folder: self.site.clone(),
            site,
        }
    }

    fn site_server(&self) -> SiteServer {
        // Until its next beat a pool has nothing newer.
        let beats = self.pools.iter().map(|pool| pool.config.live.update_interval);
        let max_age = beats.min().unwrap_or_default();
        let clock = self.clock.clone();
        let now = Arc::new(move || clock.now().date());
        let site = SiteServer::new(self.site.layout().clone(), self.config.public_url.path(), max_age, now);
        site.also_below(self.pools.iter().map(|pool| pool.config.shape.public_url.path()))
    }
}

/// Refuses settings without a pool that the store has: it would no longer be renewed, and all its credentials would fail.
async fn refuse_forgotten_pools(store: &Store, config: &Config) -> Result<()> {
    for (pool, lists) in store.pools().await.context("cannot read the store")? {
        if lists > 0 && !config.pools.contains_key(&pool) && !config.retired_pools.contains(&pool) {
            bail!(
                "the store has pool {pool} with {lists} lists, the settings do not; add it again, or name it in `retired-pools` \
                 when all credentials of it have expired"
            );
        }
    }
    Ok(())
}
