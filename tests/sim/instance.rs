//! One instance: the parts that `app/` builds, over a simulated store, disk and clock, without sockets.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::{App, test, web};
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use serde_json::Value;
use statuslist::access::{Access, Today};
use statuslist::allocate::{Allocator, Marks};
use statuslist::app::instance::Instance;
use statuslist::base::clock::Clock;
use statuslist::base::clock_watch::ClockWatch;
use statuslist::base::signals::Signals;
use statuslist::base::stopper::{StopSwitch, stopper};
use statuslist::config::{Config, PublishRole};
use statuslist::http::api::{self, Api, Offer, PoolApi, PoolFacts};
use statuslist::publish::{KeySet, Parts, PoolKeys, PoolPublisher, sweep};
use statuslist::sign::{KeyRing, Signer};
use statuslist::site::folder::Site;
use statuslist::store::Store;
use statuslist::telemetry::metrics::Metrics;
use statuslist::update::Updater;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

use crate::guard::Life;

pub(crate) const KEYS: [&str; 2] = ["the key of one caller", "the key of another"];
/// How long verifiers keep the key set.
const KEYS_MAX_AGE: Duration = Duration::from_secs(10);
/// The longest that a client waits for an answer: longer than any pause.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

type Answering = Pin<Box<dyn Future<Output = (u16, Value)>>>;
type Service = Rc<dyn Fn(test::TestRequest) -> Answering>;

/// What a client heard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    Answer(u16, Value),
    /// The connection was cut, or nobody listens.
    Nothing,
}

/// One pool of an instance.
pub(crate) struct Pool {
    pub(crate) allocator: Arc<Allocator>,
    pub(crate) publisher: Arc<PoolPublisher>,
    pub(crate) ring: Arc<KeyRing>,
}

/// An instance that runs.
pub(crate) struct Running {
    pub(crate) life: Life,
    pub(crate) pools: Vec<Pool>,
    pub(crate) key_set: Arc<KeySet>,
    service: RefCell<Option<Service>>,
    requests: Rc<Cell<usize>>,
    writers: RefCell<Vec<JoinHandle<()>>>,
    background: RefCell<Vec<JoinHandle<()>>>,
    /// All of both, for a kill in the middle of a stop.
    tasks: Vec<AbortHandle>,
    stop: RefCell<Option<StopSwitch>>,
    /// Locked until it is buried.
    instance: RefCell<Option<Instance>>,
}

/// What an instance is started with.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Config,
    pub(crate) folder: &'a Path,
    pub(crate) who: usize,
    pub(crate) life: Life,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) signers: &'a [Signer],
}

/// As `App::build` and `App::serve` do it.
pub(crate) async fn start(start: Start<'_>) -> Result<Running> {
    let Start { config, folder, who, life, store, clock, signers } = start;
    let site = Site::open(&folder.join("public"))?;
    let directory = folder.join(format!("instance-{who}"));
    let instance = Instance::open(&directory)?;
    sweep::remove_leftovers(&site, clock.now())?;
    let (metrics, clock_watch) = (Arc::new(Metrics::default()), Arc::new(ClockWatch::new(clock.clone())));
    let (mut pools, mut keys, mut signals) = (Vec::new(), Vec::new(), Vec::new());
    for ((id, pool), signer) in config.pools.iter().zip(signers) {
        store.declare_pool(&pool.shape).await.context("declare the pool")?;
        let ring = Arc::new(KeyRing::new(signer.clone(), None));
        let parts = Parts {
            store: store.clone(),
            site: site.clone(),
            base: pool.shape.public_url.clone(),
            clock: clock.clone(),
            clock_watch: Arc::clone(&clock_watch),
            holder: instance.id().clone(),
            role: PublishRole::Leader,
            buckets: Vec::new(),
        };
        let path = directory.join(format!("{id}.marks"));
        let marks = Marks::open_at_start(&path, &store, id, instance.id()).await?;
        let allocator = Arc::new(Allocator::new(pool, instance.id().clone(), Some(marks), metrics.pool(id)));
        let publisher = Arc::new(PoolPublisher::new(pool, Arc::clone(&ring), metrics.pool(id), parts));
        keys.push(PoolKeys { id: id.clone(), ring: Arc::clone(&ring), publisher: Arc::clone(&publisher) });
        signals.push(Arc::new(Signals::default()));
        pools.push(Pool { allocator, publisher, ring });
    }
    let key_set = Arc::new(KeySet::new(site, Arc::clone(&metrics), keys));
    let lifetimes = config.pools.values().map(|pool| pool.live.lifetimes.list_lifetime);
    key_set.set(KEYS_MAX_AGE, lifetimes.max().unwrap_or_default());
    key_set.publish_first().await?;

    let (mut writers, mut background, mut pool_apis) = (Vec::new(), Vec::new(), BTreeMap::new());
    let (stop, stopping) = stopper();
    for (((id, pool), parts), signals) in config.pools.iter().zip(&pools).zip(signals) {
        let (updater, batches) =
            Updater::new(id.clone(), store.clone(), clock.clone(), 1000, metrics.pool(id));
        writers.push(tokio::task::spawn_local(life.guard(batches)));
        let (allocator, store, clock) = (Arc::clone(&parts.allocator), store.clone(), clock.clone());
        let (stopper, heard) = (stopping.clone(), Arc::clone(&signals));
        let allocate = async move { allocator.run(&store, &heard, &clock, &stopper).await };
        background.push(tokio::task::spawn_local(life.guard(allocate)));
        let (publisher, stopper) = (Arc::clone(&parts.publisher), stopping.clone());
        let publish = async move { publisher.run(&signals, &stopper).await };
        background.push(tokio::task::spawn_local(life.guard(publish)));
        let signer = parts.ring.signer();
        let about = PoolFacts {
            bits: pool.shape.capacity.bits().get(),
            size: pool.shape.capacity.entries(),
            ttl_secs: pool.live.lifetimes.ttl.as_secs(),
            list_lifetime_secs: pool.live.lifetimes.list_lifetime.as_secs(),
            valid_after_renewal: pool.live.lifetimes.list_lifetime - pool.live.lifetimes.resign_after,
            reference_lifetime: None,
            update_interval_secs: pool.live.update_interval.as_secs(),
            formats: vec!["jwt", "cwt"],
            purposes: Vec::new(),
            key_id: Arc::new(move || signer.kid().to_owned()),
            certificates_hold_at: Arc::new(|_| true),
            authority: Arc::new(|| None),
            amount_max: u32::MAX,
            quotas: pool.live.quotas,
            closed: false,
        };
        let api = PoolApi {
            id: id.clone(),
            base: pool.shape.public_url.clone(),
            capacity: pool.shape.capacity,
            statuses: pool.shape.statuses,
            allocator: Arc::clone(&parts.allocator),
            handed_out: None,
            updater,
            today: Today::default(),
            metrics: metrics.pool(id),
            facts: ArcSwap::from_pointee(about),
        };
        pool_apis.insert(id.clone(), api);
    }
    let (keys, stopper) = (Arc::clone(&key_set), stopping);
    background.push(tokio::task::spawn_local(life.guard(async move { keys.run(&stopper).await })));
    let keys = config.pools.iter().flat_map(|(id, pool)| {
        let id = id.clone();
        pool.api_keys.iter().cloned().map(move |key| (id.clone(), key))
    });
    let access =
        Access::new(keys.collect(), config.access.clone(), Duration::from_secs(1), clock.clone(), None)?;
    let api = Api::new(pool_apis, access, store, config.limits, metrics, clock);
    let api = web::Data::new(api);
    let offer = Offer { api: true, management: false };
    let app = App::new().configure(move |config| api::configure(api, offer, config));
    let service = Rc::new(test::init_service(app).await);
    let service: Service = Rc::new(move |request| {
        let service = Rc::clone(&service);
        Box::pin(async move {
            let response = test::call_service(&*service, request.to_request()).await;
            let status = response.status().as_u16();
            let body = test::read_body(response).await;
            (status, serde_json::from_slice(&body).unwrap_or_default())
        })
    });
    let tasks = writers.iter().chain(&background).map(JoinHandle::abort_handle).collect();
    Ok(Running {
        life,
        pools,
        key_set,
        service: RefCell::new(Some(service)),
        requests: Rc::default(),
        writers: RefCell::new(writers),
        background: RefCell::new(background),
        tasks,
        stop: RefCell::new(Some(stop)),
        instance: RefCell::new(Some(instance)),
    })
}

impl Running {
    /// One request of a client. What is sent while the instance is paused is refused when it goes on, as `base/awake.rs` has it.
    pub(crate) async fn request(
        &self,
        sleeps: impl Fn() -> u64 + 'static,
        (client, method, path): (u64, Method, &str),
        key: Option<&str>,
        body: Option<Value>,
    ) -> Heard {
        let Some(service) = self.service.borrow().clone() else { return Heard::Nothing };
        let mut request = test::TestRequest::with_uri(path).method(method);
        request = request.insert_header(("x-api-key", KEYS[(client % 2) as usize]));
        if let Some(key) = key {
            request = request.insert_header(("idempotency-key", key));
        }
        if let Some(body) = body {
            request = request.set_json(body);
        }
        let (answer, answered) = oneshot::channel();
        let (before, requests) = (sleeps(), Rc::clone(&self.requests));
        requests.set(requests.get() + 1);
        let serve = async move {
            let heard = match sleeps() == before {
                true => service(request).await,
                false => (503, Value::Null),
            };
            drop(service);
            let _ = answer.send(heard);
            requests.set(requests.get() - 1);
        };
        let task = tokio::task::spawn_local(self.life.guard(serve));
        let life = self.life.clone();
        let cut = async {
            while !life.is_over() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let heard = tokio::select! {
            biased;
            () = cut => Heard::Nothing,
            heard = answered => heard.map_or(Heard::Nothing, |(status, body)| Heard::Answer(status, body)),
            () = tokio::time::sleep(CLIENT_PATIENCE) => Heard::Nothing,
        };
        if heard == Heard::Nothing {
            task.abort();
        }
        heard
    }

    /// A stop in order, as `App::serve` does it.
    pub(crate) async fn stop(&self) {
        let service = self.service.borrow_mut().take();
        for _ in 0..1000 {
            if self.requests.get() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(service);
        let writers = std::mem::take(&mut *self.writers.borrow_mut());
        for writer in writers {
            let _ = writer.await;
        }
        drop(self.stop.borrow_mut().take());
        let background = std::mem::take(&mut *self.background.borrow_mut());
        for task in background {
            let _ = task.await;
        }
    }

    /// Takes its tasks away: it is dead.
    pub(crate) fn bury(&self) {
        self.service.borrow_mut().take();
        self.tasks.iter().for_each(AbortHandle::abort);
        self.instance.borrow_mut().take();
    }
}
