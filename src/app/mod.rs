//! The only part that knows every other: builds, runs and stops them in order.

pub mod instance;
mod pools;
pub mod reload;
mod room;
mod running;
mod status_page;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix_web::web;
use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::access::Access;
use crate::allocate::{Allocated, Allocator};
use crate::app::instance::Instance;
use crate::app::reload::{RegistryWatch, Reload, Source};
use crate::audit::{Action, Audit, Caller, Line, PoolName};
use crate::base::clock::Clock;
use crate::base::clock_watch::ClockWatch;
use crate::base::durable;
use crate::base::stopper::{StopSwitch, Stopper, stopper};
use crate::config::{Config, PublishRole};
use crate::http::api::{Admin, Api};
use crate::http::places::Room;
use crate::http::{self, Listeners};
use crate::keys::made;
use crate::keys::signers::PoolSigners;
use crate::model::api_key::ApiKey;
use crate::model::pool::PoolId;
use crate::publish::{Bucket, KeySet, NEXT_SECOND, sweep};
use crate::site::folder::Site;
use crate::site::server::SiteServer;
use crate::status_list::BaseUri;
use crate::store::{Registered, Store};
use crate::telemetry::metrics::Metrics;
use pools::{Maker, PoolParts, Starter, Task};
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
    maker: Arc<Maker>,
    pools: Vec<PoolParts>,
    listeners: Listeners,
    room: Room,
    key_set: Arc<KeySet>,
    new_api_keys: BTreeMap<PoolId, Zeroizing<String>>,
    /// The version of what operators made at run time.
    registry: Registered,
    /// Whether pools that were made at run time cannot be served.
    left_out: bool,
    /// The source of changed settings. If `None`, changes need a restart.
    source: Option<Source>,
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
        let registered = store.registry().await.context("cannot read the pools of the store")?;
        config = reload::with_registry(&config, &registered.content)?;
        refuse_forgotten_pools(&store, &config).await?;
        let buckets = config.publish.sinks.iter().map(Bucket::open);
        let buckets: Vec<_> = buckets.collect::<Result<_, _>>().context("cannot use publish.sinks")?;
        let metrics = Arc::new(Metrics::default());
        let audit = Audit::open(config.audit.as_ref(), clock.clone(), metrics.audit.clone());
        let audit = audit.context("cannot continue the audit trail")?;
        let key_directory = config.publish.key_directory.clone();
        let mut new_api_keys = BTreeMap::new();
        let maker = Arc::new(Maker {
            clock: clock.clone(),
            clock_watch: Arc::clone(&clock_watch),
            store: store.clone(),
            site: site.clone(),
            metrics: Arc::clone(&metrics),
            holder: instance.id().clone(),
            marks: config.instance.marks.then(|| instance.directory().to_owned()),
            role: config.publish.role,
            buckets,
            key_directory: key_directory.clone(),
        });
        let mut pools = Vec::with_capacity(config.pools.len());
        for (id, template) in &config.of_templates {
            PoolSigners::read(template, &key_directory, clock.now())
                .with_context(|| format!("templates.{id}"))?;
        }
        let mut left_out = BTreeSet::new();
        for (id, pool) in &mut config.pools {
            if pool.api_keys.is_empty() && !pool.registered {
                let (hash, key) = made::demo_api_key(pool, &key_directory)?;
                pool.api_keys.push(ApiKey::unlimited(hash));
                new_api_keys.extend(key.map(|key| (id.clone(), key)));
            }
            // Boxed: it is large, and so would be the future of every caller.
            match Box::pin(maker.make(pool)).await {
                Ok(parts) => pools.push(parts),
                // One of many that others made must not keep all from being served.
                Err(error) if pool.registered => {
                    tracing::error!(pool = %id, error = format!("{error:#}"), "this pool, which was made at run time, cannot be served");
                    left_out.insert(id.clone());
                }
                Err(error) => return Err(error),
            }
        }
        config.pools.retain(|id, _| !left_out.contains(id));
        let all_keys = pools.iter().map(PoolParts::keys_of).collect();
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
            maker,
            pools,
            key_set,
            listeners,
            room,
            new_api_keys,
            registry: registered,
            left_out: !left_out.is_empty(),
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
        let (mut background, mut writers) = (JoinSet::<bool>::new(), JoinSet::<bool>::new());
        let (background_sender, mut background_tasks) = mpsc::unbounded_channel();
        let (writers_sender, mut writing_tasks) = mpsc::unbounded_channel();
        let starter = self.starter(background_sender, writers_sender);
        let (mut pool_apis, mut running_pools) = (BTreeMap::new(), BTreeMap::new());
        let (stop_background, background_stopper) = stopper();
        for parts in &self.pools {
            let id = parts.config.shape.id.clone();
            let (api, stop) = starter.start(parts);
            running::tell_next_key_end(&self.metrics, &id, &self.config, self.clock.now());
            pool_apis.insert(id.clone(), api);
            running_pools.insert(id, RunningPool { parts: parts.clone(), stop });
        }
        let current = Arc::new(Mutex::new(self.config.clone()));
        let (applied, in_use) = watch::channel(self.registry.stamp.clone());
        let changed = Arc::new(Notify::new());
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
        let api = api
            .audited(self.audit.clone())
            .watching(watch)
            .lenient(self.config.lenient)
            .below(self.config.bases());
        let api = web::Data::new(api.administered(Admin {
            rules: running::rules(&current),
            changed: Arc::clone(&changed),
            in_use,
        }));
        let site = self.config.server.serve_status_lists.then(|| Arc::new(self.site_server()));
        let (key_set, stopper) = (Arc::clone(&self.key_set), background_stopper.clone());
        background.spawn(async move {
            key_set.run(&stopper).await;
            stopper.has_stopped()
        });
        let running = Arc::new(self.running(
            Arc::downgrade(&api.clone().into_inner()),
            site.clone(),
            current,
            running_pools,
            starter,
        ));
        if let Some(source) = &self.source {
            let take = Arc::clone(&running);
            let take = Arc::new(move |config, change| take.take(config, change));
            let reload = Reload::new(source.clone(), &self.config, take, self.metrics.reloads.clone());
            let (store, tried) = (self.store.clone(), self.registry.clone());
            let reload =
                reload.of_registry(RegistryWatch { store, tried, changed, applied, left_out: self.left_out });
            let stopper = background_stopper.clone();
            background.spawn(async move {
                reload.run(&stopper).await;
                stopper.has_stopped()
            });
        }
        let (stopper, looking) = (background_stopper.clone(), Arc::clone(&running));
        background.spawn(async move {
            looking.watch_certificates(&stopper).await;
            stopper.has_stopped()
        });
        let (servers, server_handles) =
            http::servers(&self.listeners, &self.config.server, self.room, &api, site.as_ref())?;
        let access = Arc::clone(&api.access());
        tokio::spawn(async move { access.prepare().await });
        drop(api);
        let mut serving: JoinSet<_> = servers.into_iter().collect();
        tracing::info!(listen = %self.config.server.listen, public_url = %self.config.public_url, "ready");

        // A part that ends before the stop has failed. A restart is better than going on without it.
        let failed = stop.until(async {
            loop {
                tokio::select! {
                    Some(task) = background_tasks.recv() => drop(background.spawn(task)),
                    Some(task) = writing_tasks.recv() => drop(writers.spawn(task)),
                    // Those of a pool that was deleted end when they should.
                    Some(ended) = background.join_next() => if !matches!(ended, Ok(true)) { break "publishing or allocation" },
                    Some(ended) = writers.join_next() => if !matches!(ended, Ok(true)) { break "updating" },
                    () = self.store.ended() => break "the store",
                    () = self.audit.ended() => break "the audit trail",
                    _ = serving.join_next() => break "the HTTP server",
                }
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
        running.stop_pools();
        while background.join_next().await.is_some() {}
        tracing::info!("stopped");
        match failed {
            Some(part) => Err(anyhow!("{part} ended early; the log says why")),
            None => Ok(()),
        }
    }

    /// Starts the tasks of pools, now and later: those that run as long as the service, and those that end with the last update.
    fn starter(
        &self,
        background: mpsc::UnboundedSender<Task>,
        writers: mpsc::UnboundedSender<Task>,
    ) -> Starter {
        Starter {
            maker: Arc::clone(&self.maker),
            key_set: Arc::clone(&self.key_set),
            queue_max: self.config.limits.queue_max.max(self.config.limits.batch_max),
            background,
            writers,
        }
    }

    /// Access as the settings define it.
    fn access(&self) -> Result<Access> {
        let keys = self.pools.iter().map(|pool| (&pool.config, pool.config.api_keys.clone()));
        access(&self.config, keys, &self.clock, None)
    }

    /// The parts that can change while the service runs.
    fn running(
        &self,
        api: Weak<Api>,
        site: Option<Arc<SiteServer>>,
        current: Arc<Mutex<Config>>,
        pools: BTreeMap<PoolId, RunningPool>,
        starter: Starter,
    ) -> Running {
        set_times(&self.config, &self.key_set, site.as_deref());
        Running {
            clock: self.clock.clone(),
            current,
            pools: Mutex::new(pools),
            starter,
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
        site.also_below(self.config.bases().iter().map(BaseUri::path))
    }
}

/// Refuses settings without a pool that the store has: it would no longer be renewed, and all its credentials would fail.
async fn refuse_forgotten_pools(store: &Store, config: &Config) -> Result<()> {
    for (pool, lists) in store.pools().await.context("cannot read the store")? {
        if lists > 0 && !config.pools.contains_key(&pool) && !config.gives_up(&pool) {
            bail!(
                "the store has pool {pool} with {lists} lists, the settings do not; add it again, or name it in `retired-pools` \
                 when all credentials of it have expired"
            );
        }
    }
    Ok(())
}
