//! The only file that knows every part: builds them, runs them, stops them in order.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Service;
use actix_web::http::StatusCode;
use actix_web::{App as ActixApp, HttpServer, web};
use anyhow::{Context, Result, anyhow, bail};
use tokio::task::JoinSet;

use crate::access::Access;
use crate::allocate::{Allocated, Allocator, Marks};
use crate::api::{self, About, Api, PoolApi};
use crate::clock::Clock;
use crate::config::{Config, Formats, OnUnderflow, PoolConfig};
use crate::connection::Connection;
use crate::instance::Instance;
use crate::issuer::ApiKey;
use crate::keys;
use crate::metrics::Metrics;
use crate::pool::PoolId;
use crate::publish::{Bucket, NEXT_SECOND, Parts, PoolPublisher, Site, sweep};
use crate::sign::{JwkSet, Signer};
use crate::signals::Signals;
use crate::site_server::SiteServer;
use crate::stopper::{StopSwitch, Stopper, stopper};
use crate::store::Store;
use crate::update::Updater;

/// How long a client may take to read an answer: a large list over a poor line.
const SLOWEST_READER: Duration = Duration::from_secs(60);
/// How long publishing once waits for all uploads.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(300);

/// A service that is ready to run.
pub struct App {
    config: Config,
    clock: Clock,
    /// Held as long as the service lives: nobody else may be this instance.
    _instance: Instance,
    store: Store,
    metrics: Arc<Metrics>,
    site: Site,
    pools: Vec<PoolParts>,
    listener: TcpListener,
    new_api_keys: BTreeMap<PoolId, String>,
}

struct PoolParts {
    config: PoolConfig,
    signer: Signer,
    signals: Arc<Signals>,
    allocator: Arc<Allocator>,
    publisher: Arc<PoolPublisher>,
}

/// What a running service can be asked.
#[derive(Clone)]
pub struct Handle {
    stop: Arc<StopSwitch>,
    allocators: Arc<BTreeMap<PoolId, Arc<Allocator>>>,
}

impl Handle {
    /// Asks the service to stop: it answers what it has begun, gives back unused references and ends.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// Takes references as a request does; `None` if there is no such pool or none are ready.
    pub async fn allocate(&self, pool: &PoolId, amount: usize) -> Option<Vec<Allocated>> {
        self.allocators.get(pool)?.allocate(amount).await.ok()
    }
}

impl App {
    /// Opens the store, reads the keys and binds the address of the settings.
    pub async fn build(config: Config, clock: Clock) -> Result<Self> {
        let listener = TcpListener::bind(config.server.listen)
            .with_context(|| format!("cannot listen on {} (server.listen)", config.server.listen))?;
        Self::build_on(listener, config, clock).await
    }

    /// As [`Self::build`], on an address that is bound already.
    pub async fn build_on(listener: TcpListener, mut config: Config, clock: Clock) -> Result<Self> {
        for warning in &config.warnings {
            tracing::warn!("settings: {warning}");
        }
        let instance =
            Instance::open(&config.instance.directory).context("cannot open instance-directory")?;
        let store = Store::open(&config.store).await.context("cannot open the store")?;
        let site =
            Site::open(&config.publish.storage_directory).context("cannot prepare storage-directory")?;
        let leftovers =
            sweep::remove_leftovers(&site, clock.now()).context("cannot clean storage-directory")?;
        if leftovers > 0 {
            tracing::info!(leftovers, "removed files that a crash left behind");
        }
        refuse_forgotten_pools(&store, &config).await?;
        let buckets = config.publish.sinks.iter().map(Bucket::open);
        let buckets: Vec<_> = buckets.collect::<Result<_, _>>().context("cannot use publish.sinks")?;
        let metrics = Arc::new(Metrics::default());
        let key_directory = config.publish.key_directory.clone();
        let mut new_api_keys = BTreeMap::new();
        let mut pools = Vec::with_capacity(config.pools.len());
        for (id, pool) in &mut config.pools {
            if pool.api_keys.is_empty() {
                let (hash, key) = keys::demo_api_key(pool, &key_directory)?;
                pool.api_keys.push(ApiKey::unlimited(hash));
                new_api_keys.extend(key.map(|key| (id.clone(), key)));
            }
            store.declare_pool(&pool.shape).await.context("the settings do not fit the store")?;
            let signer =
                keys::signer(pool, &key_directory, clock.now()).with_context(|| format!("pool {id}"))?;
            let pool_metrics = metrics.pool(id);
            let parts = Parts {
                store: store.clone(),
                site: site.clone(),
                base: config.public_url.clone(),
                clock: clock.clone(),
                holder: instance.id().clone(),
                role: config.publish.role,
                buckets: buckets.clone(),
            };
            let marks = instance.directory().join(format!("{id}.marks"));
            let marks = config.instance.marks.then(|| Marks::open(&marks)).transpose();
            let marks = marks.context("cannot read this instance's high-water marks")?;
            pools.push(PoolParts {
                signals: Arc::new(Signals::default()),
                allocator: Arc::new(Allocator::new(
                    pool,
                    instance.id().clone(),
                    marks,
                    Arc::clone(&pool_metrics),
                )),
                publisher: Arc::new(PoolPublisher::new(pool.clone(), signer.clone(), pool_metrics, parts)),
                config: pool.clone(),
                signer,
            });
        }
        let app =
            Self { config, clock, _instance: instance, store, metrics, site, pools, listener, new_api_keys };
        app.write_jwks().await?;
        Ok(app)
    }

    /// API keys that were made at this start; they are told nowhere else.
    pub fn new_api_keys(&self) -> &BTreeMap<PoolId, String> {
        &self.new_api_keys
    }

    /// Where the hash of a pool's generated API key is kept.
    pub fn api_key_path(&self, pool: &PoolId) -> Option<PathBuf> {
        let pool = self.config.pools.get(pool)?;
        Some(keys::demo_api_key_path(pool, &self.config.publish.key_directory))
    }

    /// Publishes everything that is pending, once, without serving. Answers how many lists were published and how many failed.
    pub async fn publish_once(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<(usize, usize)> {
        let (mut published, mut failed) = (0, 0);
        for pool in &self.pools {
            pool.publisher.look().await;
            loop {
                let pass = pool.publisher.publish_pending(&pool.signals, progress).await;
                published += pass.published.len();
                failed += pass.failed.len();
                if pass.not_ours {
                    bail!("pool {} is published by another instance", pool.config.shape.id);
                }
                if let Some(error) = pass.ended_by {
                    return Err(error).context("publishing ended early");
                }
                if pass.waiting == 0 || !pass.failed.is_empty() {
                    break;
                }
                // Lists that were signed within this second, by a service that has just stopped.
                tokio::time::sleep(NEXT_SECOND).await;
            }
            let (settled, owed) = pool.publisher.upload(&pool.signals, UPLOAD_PATIENCE).await;
            published += settled;
            failed += owed;
            pool.publisher.release().await;
        }
        Ok((published, failed))
    }

    /// The parts of the running service: a handle, and what must be awaited until it has stopped.
    pub fn run(self) -> (Handle, impl Future<Output = Result<()>>) {
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
            background.spawn(async move { publisher.run(&signals, &stopper).await });
            let allocator = Arc::clone(&pool.allocator);
            let about = about(&pool.config, &pool.signer);
            pool_apis.insert(
                id.clone(),
                PoolApi { id, capacity: pool.config.shape.capacity, allocator, updater, about },
            );
        }
        let api = Api::new(
            self.config.public_url.clone(),
            pool_apis,
            self.access()?,
            self.store.clone(),
            self.config.limits,
            Arc::clone(&self.metrics),
            self.clock.clone(),
        );
        let api = web::Data::new(api);
        let server = self.server(api.clone())?;
        let access = Arc::clone(&api.access());
        tokio::spawn(async move { access.prepare().await });
        drop(api);
        let server_handle = server.handle();
        let mut serving = JoinSet::new();
        serving.spawn(server);
        tracing::info!(listen = %self.config.server.listen, public_url = %self.config.public_url, "ready");

        // A part that ends before it is asked to has failed: better to be restarted than to go on without it.
        let failed = stop.until(async {
            tokio::select! {
                _ = background.join_next() => "publishing or allocation",
                _ = writers.join_next() => "updating",
                () = self.store.ended() => "the store",
                _ = serving.join_next() => "the HTTP server",
            }
        });
        let failed = failed.await;
        match failed {
            Some(part) => tracing::error!(part, "a part of the service failed; stopping"),
            None => tracing::info!("stopping"),
        }
        server_handle.stop(true).await;
        while let Some(served) = serving.join_next().await {
            served.context("the HTTP server ended early")?.context("the HTTP server failed")?;
        }
        // The server held the last updaters: what they took is answered, then their tasks end.
        while writers.join_next().await.is_some() {}
        stop_background.stop();
        while background.join_next().await.is_some() {}
        tracing::info!("stopped");
        match failed {
            Some(part) => Err(anyhow!("{part} ended early; the log says why")),
            None => Ok(()),
        }
    }

    /// Who may do what, as the settings say it.
    fn access(&self) -> Result<Access> {
        let keys_of = |pool: &PoolParts| {
            let id = pool.config.shape.id.clone();
            pool.config.api_keys.clone().into_iter().map(move |key| (id.clone(), key))
        };
        let keys = self.pools.iter().flat_map(keys_of).collect();
        // Half of what a request may take, so that it can still be answered.
        let patience = self.config.limits.request_timeout / 2;
        Access::new(keys, self.config.access.clone(), patience, self.clock.clone(), None)
            .context("cannot use the settings of access")
    }

    fn server(&self, api: web::Data<Api>) -> Result<actix_web::dev::Server> {
        let listener = self.listener.try_clone().context("cannot use the bound address")?;
        let server_config = &self.config.server;
        let site = server_config.serve_status_lists.then(|| Arc::new(self.site_server()));
        // A request takes its timeout for the body, again for the answer to be made, and some time to be read.
        let patience = SLOWEST_READER + self.config.limits.request_timeout * 2;
        let server = HttpServer::new(move || {
            ActixApp::new()
                .wrap_fn(|request, service| {
                    request.conn_data::<Connection>().inspect(|connection| connection.begin());
                    let answer = service.call(request);
                    async move {
                        let answer = answer.await?;
                        if answer.status() == StatusCode::REQUEST_TIMEOUT {
                            answer.request().conn_data::<Connection>().inspect(|connection| connection.end());
                        }
                        Ok(answer)
                    }
                })
                .configure(|config| api::configure(api.clone(), config))
                .default_service(web::to(api::not_found))
                // Last: without a path in `public-url` it takes every path that is left.
                .configure(|config| site.iter().for_each(|site| site.configure(config)))
        });
        let server = server
            .workers(server_config.workers)
            // Each worker counts its own.
            .max_connections(server_config.max_connections.div_ceil(server_config.workers))
            .on_connect(move |stream, of_connection| Connection::watch(stream, of_connection, patience))
            .client_request_timeout(self.config.limits.request_timeout)
            .shutdown_timeout(server_config.shutdown_grace.as_secs())
            .disable_signals()
            .listen(listener)
            .context("cannot listen")?;
        Ok(server.run())
    }

    fn site_server(&self) -> SiteServer {
        // Until its next beat a pool cannot have anything newer.
        let beats = self.pools.iter().map(|pool| pool.config.update_interval);
        let max_age = beats.min().unwrap_or_default();
        let clock = self.clock.clone();
        let now = Arc::new(move || clock.now().secs());
        SiteServer::new(self.site.folder().to_owned(), self.config.public_url.path(), max_age, now)
    }

    /// Publishes the keys of all pools, and those of earlier starts until every token that they signed has expired.
    async fn write_jwks(&self) -> Result<()> {
        // Instances that share the folder must not lose each other's keys.
        let _lock = self.site.lock("jwks").await.context("cannot lock the published keys")?;
        let lifetimes = self.pools.iter().map(|pool| pool.config.lifetimes.list_lifetime);
        let now = self.clock.now();
        let keep_until = now.plus(lifetimes.max().unwrap_or_default()).secs();
        let published = self.site.read_jwks().context("cannot read the published keys")?;
        let published: JwkSet =
            published.and_then(|set| serde_json::from_slice(&set).ok()).unwrap_or_default();
        let current = self.pools.iter().map(|pool| pool.signer.jwk()).collect();
        let keys = JwkSet::successor(current, published, now.secs(), keep_until).map_err(|kid| {
            anyhow!("two pools sign with different keys of the same id `{kid}`; give one of them another `signer.kid`")
        })?;
        let document = serde_json::to_vec(&keys).context("public keys are always JSON")?;
        self.site.write_jwks(&document).context("cannot publish the public keys")
    }
}

/// A pool that is in the store but not in the settings would stop being renewed, and every credential of it would fail.
async fn refuse_forgotten_pools(store: &Store, config: &Config) -> Result<()> {
    for (pool, lists) in store.pools().await.context("cannot read the store")? {
        if lists > 0 && !config.pools.contains_key(&pool) && !config.retired_pools.contains(&pool) {
            bail!(
                "the store has pool {pool} with {lists} lists, the settings do not; put it back, or name it in `retired-pools` \
                 when all credentials of it have expired"
            );
        }
    }
    Ok(())
}

fn about(pool: &PoolConfig, signer: &Signer) -> About {
    let Formats { jwt, cwt, json, cbor } = pool.formats;
    let formats = [("jwt", jwt), ("cwt", cwt), ("json", json), ("cbor", cbor)];
    About {
        bits: pool.shape.capacity.bits().get(),
        size: pool.shape.capacity.entries(),
        ttl_secs: pool.lifetimes.ttl.as_secs(),
        reference_lifetime: pool.reference_lifetime,
        list_lifetime_secs: pool.lifetimes.list_lifetime.as_secs(),
        update_interval_secs: pool.update_interval.as_secs(),
        formats: formats.into_iter().filter_map(|(name, on)| on.then_some(name)).collect(),
        key_id: signer.kid().to_owned(),
        amount_max: match pool.prefetch.on_underflow {
            OnUnderflow::Delay => u32::MAX,
            OnUnderflow::Fail => pool.prefetch.capacity,
        },
    }
}
