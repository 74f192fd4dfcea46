//! One pool in a running service: how its parts are made and started, at the start of the service or later.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::access::Today;
use crate::allocate::{Allocator, HandedOut, Marks};
use crate::base::clock::Clock;
use crate::base::clock_watch::ClockWatch;
use crate::base::signals::Signals;
use crate::base::stopper::{StopSwitch, stopper};
use crate::config::{OnUnderflow, PoolConfig, PublishRole};
use crate::http::api::{PoolApi, PoolFacts};
use crate::keys::signers::PoolSigners;
use crate::model::instance::InstanceId;
use crate::publish::{Bucket, KeySet, Parts, PoolKeys, PoolPublisher};
use crate::sign::KeyRing;
use crate::sign::profile::Profile;
use crate::site::folder::Site;
use crate::status_list::{Format, Formats};
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::update::Updater;

/// A task of the service. Its output: whether it was to end.
pub(super) type Task = Pin<Box<dyn Future<Output = bool> + Send>>;

/// The parts of one pool.
#[derive(Clone)]
pub(super) struct PoolParts {
    pub(super) config: PoolConfig,
    pub(super) keys: Arc<KeyRing>,
    pub(super) signals: Arc<Signals>,
    pub(super) allocator: Arc<Allocator>,
    pub(super) publisher: Arc<PoolPublisher>,
}

impl PoolParts {
    /// What the key set needs of it.
    pub(super) fn keys_of(&self) -> PoolKeys {
        PoolKeys {
            id: self.config.shape.id.clone(),
            ring: Arc::clone(&self.keys),
            publisher: Arc::clone(&self.publisher),
        }
    }
}

/// Makes the parts of pools.
pub(super) struct Maker {
    pub(super) clock: Clock,
    pub(super) clock_watch: Arc<ClockWatch>,
    pub(super) store: Store,
    pub(super) site: Site,
    pub(super) metrics: Arc<Metrics>,
    pub(super) holder: InstanceId,
    /// The folder of the marks; `None` if there are none.
    pub(super) marks: Option<PathBuf>,
    pub(super) role: PublishRole,
    pub(super) buckets: Vec<Bucket>,
    pub(super) key_directory: PathBuf,
}

impl Maker {
    /// Declares the pool in the store, and reads its keys and marks.
    pub(super) async fn make(&self, pool: &PoolConfig) -> Result<PoolParts> {
        let id = &pool.shape.id;
        self.store.declare_pool(&pool.shape).await.context("the settings do not match the store")?;
        let now = self.clock.now();
        let signers =
            PoolSigners::read(pool, &self.key_directory, now).with_context(|| format!("pool {id}"))?;
        signers.warn_of_certificates(pool, now);
        let keys = Arc::new(KeyRing::new(signers.current, signers.next));
        let metrics = self.metrics.pool(id);
        let marks = match &self.marks {
            Some(folder) => {
                let path = folder.join(format!("{id}.marks"));
                let opened = Marks::open_at_start(&path, &self.store, id, &self.holder).await;
                Some(opened.context("cannot read this instance's high-water marks")?)
            }
            None => None,
        };
        let parts = Parts {
            store: self.store.clone(),
            site: self.site.clone(),
            base: pool.shape.public_url.clone(),
            clock: self.clock.clone(),
            clock_watch: Arc::clone(&self.clock_watch),
            holder: self.holder.clone(),
            role: self.role,
            buckets: self.buckets.clone(),
        };
        let allocator = Allocator::new(pool, self.holder.clone(), marks, Arc::clone(&metrics));
        Ok(PoolParts {
            signals: Arc::new(Signals::default()),
            allocator: Arc::new(allocator),
            publisher: Arc::new(PoolPublisher::new(pool, Arc::clone(&keys), metrics, parts)),
            config: pool.clone(),
            keys,
        })
    }
}

/// Starts the tasks of pools.
pub(super) struct Starter {
    pub(super) maker: Arc<Maker>,
    pub(super) key_set: Arc<KeySet>,
    /// The most changes that wait for the store.
    pub(super) queue_max: usize,
    /// Tasks that must run as long as the service.
    pub(super) background: mpsc::UnboundedSender<Task>,
    /// Tasks that end when nobody updates any more.
    pub(super) writers: mpsc::UnboundedSender<Task>,
}

impl Starter {
    /// Starts the tasks of a pool. Returns what its requests need, and the switch that stops all but updating: that ends with the last
    /// request.
    pub(super) fn start(&self, parts: &PoolParts) -> (PoolApi, StopSwitch) {
        let (pool, maker) = (&parts.config, &self.maker);
        let id = pool.shape.id.clone();
        let metrics = maker.metrics.pool(&id);
        let (updater, batches) = Updater::new(
            id.clone(),
            maker.store.clone(),
            maker.clock.clone(),
            self.queue_max,
            Arc::clone(&metrics),
        );
        let (switch, stopper) = stopper();
        let (allocator, signals, stop) =
            (Arc::clone(&parts.allocator), Arc::clone(&parts.signals), stopper.clone());
        let (store, clock) = (maker.store.clone(), maker.clock.clone());
        let allocate: Task = Box::pin(async move {
            allocator.run(&store, &signals, &clock, &stop).await;
            stop.has_stopped()
        });
        let (publisher, signals, key_set) =
            (Arc::clone(&parts.publisher), Arc::clone(&parts.signals), Arc::clone(&self.key_set));
        let publish: Task = Box::pin(async move {
            if stopper.until(key_set.first_published()).await.is_some() {
                publisher.run(&signals, &stopper).await;
            }
            stopper.has_stopped()
        });
        let write: Task = Box::pin(async move {
            batches.await;
            true
        });
        // Fails only when the service has stopped: then nothing is to run.
        let _ = self.writers.send(write);
        let _ = self.background.send(allocate);
        let _ = self.background.send(publish);
        maker.metrics.references_per_day_max(&id, pool.live.quotas.references_per_day);
        let api = PoolApi {
            base: pool.shape.public_url.clone(),
            capacity: pool.shape.capacity,
            statuses: pool.shape.statuses,
            allocator: Arc::clone(&parts.allocator),
            handed_out: pool.start.reject_unallocated.then(HandedOut::default),
            updater,
            today: Today::default(),
            metrics,
            facts: ArcSwap::from_pointee(pool_facts(pool, &parts.keys, maker.role)),
            id,
        };
        (api, switch)
    }
}

/// What the API tells of a pool with these settings.
pub(super) fn pool_facts(pool: &PoolConfig, keys: &Arc<KeyRing>, role: PublishRole) -> PoolFacts {
    let (keys, certificates, authorities) = (Arc::clone(keys), Arc::clone(keys), Arc::clone(keys));
    let of_mdocs = pool.start.profiles.contains(Profile::Mdoc);
    PoolFacts {
        bits: pool.shape.capacity.bits().get(),
        size: pool.shape.capacity.entries(),
        ttl_secs: pool.live.lifetimes.ttl.as_secs(),
        reference_lifetime: pool.live.reference_lifetime,
        list_lifetime_secs: pool.live.lifetimes.list_lifetime.as_secs(),
        valid_after_renewal: pool.live.lifetimes.list_lifetime - pool.live.lifetimes.resign_after,
        update_interval_secs: pool.live.update_interval.as_secs(),
        formats: format_names(pool.start.formats),
        purposes: pool.start.formats.iter().filter_map(Format::purpose).collect(),
        key_id: Arc::new(move || keys.signer().kid().to_owned()),
        // An instance that never publishes signs nothing, so its certificates do not matter.
        certificates_hold_at: Arc::new(move |now| {
            role == PublishRole::Off || certificates.signer().certificates_hold_at(now.date())
        }),
        authority: Arc::new(move || {
            if of_mdocs { authorities.signer().authority().map(<[u8]>::to_vec) } else { None }
        }),
        amount_max: match pool.live.prefetch.on_underflow {
            OnUnderflow::Delay => u32::MAX,
            OnUnderflow::Fail => pool.live.prefetch.capacity,
        },
        quotas: pool.live.quotas,
        closed: pool.live.closed,
    }
}

/// The formats as settings name them.
fn format_names(formats: Formats) -> Vec<&'static str> {
    let name = |format: Format| if format.purpose().is_some() { "bitstring" } else { format.name() };
    let mut names: Vec<_> = formats.iter().map(name).collect();
    names.dedup();
    names
}
