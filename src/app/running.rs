//! What of the settings and keys can change while the service runs, and how every part gets it: checked whole, then given
//! to all, or not at all.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::about;
use crate::access::Access;
use crate::allocate::Allocator;
use crate::api::Api;
use crate::audit::{Action, Caller, Line};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, PoolConfig};
use crate::issuer::ApiKey;
use crate::keys;
use crate::metrics::Metrics;
use crate::pool::PoolId;
use crate::publish::{KeySet, PoolPublisher};
use crate::sign::KeyRing;
use crate::signing_keys::{PoolSigners, development_key_path, warn_of_certificate};
use crate::site_server::SiteServer;
use crate::stopper::Stopper;

/// How often it is looked whether certificates still outlive the tokens.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The parts that take other settings while they run.
pub(super) struct Running {
    pub(super) clock: Clock,
    pub(super) current: Mutex<Config>,
    pub(super) pools: Vec<RunningPool>,
    pub(super) key_set: Arc<KeySet>,
    /// Not held: the tasks that apply updates end when the server lets go of it.
    pub(super) api: Weak<Api>,
    pub(super) site: Option<Arc<SiteServer>>,
}

/// The same of one pool.
pub(super) struct RunningPool {
    pub(super) allocator: Arc<Allocator>,
    pub(super) publisher: Arc<PoolPublisher>,
    pub(super) ring: Arc<KeyRing>,
}

/// What a pool is to go on with.
struct Checked {
    pool: PoolConfig,
    api_keys: Vec<ApiKey>,
    signers: PoolSigners,
}

impl Running {
    /// Goes on with `config`; refused whole if any of it cannot be used.
    pub(super) fn take(&self, config: Config) -> Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let needs_restart = current.needs_restart(&config);
        if !needs_restart.is_empty() {
            bail!(
                "these settings cannot change while the service runs; it needs a restart: {}",
                needs_restart.join(", ")
            );
        }
        let key_directory = &config.publish.key_directory;
        let mut checked = Vec::with_capacity(self.pools.len());
        for pool in config.pools.values() {
            let id = &pool.shape.id;
            if pool.signer.key.is_none() && !development_key_path(pool, key_directory).exists() {
                bail!(
                    "status-list-pools.{id}.signer names no key; a development key is made only at a start"
                );
            }
            let signers = PoolSigners::read(pool, key_directory).with_context(|| format!("pool {id}"))?;
            let api_keys = match pool.api_keys.is_empty() {
                false => pool.api_keys.clone(),
                true if !keys::demo_api_key_path(pool, key_directory).exists() => {
                    bail!("status-list-pools.{id}.api-keys is empty; a key for it is made only at a start")
                }
                true => vec![ApiKey::unlimited(keys::demo_api_key(pool, key_directory)?.0)],
            };
            checked.push(Checked { pool: pool.clone(), api_keys, signers });
        }
        // Both are in the order of the pools' names, and no pool was added or removed.
        let pools = || self.pools.iter().zip(&checked);
        let announced = pools().flat_map(|(running, Checked { signers, .. })| {
            running.ring.announced_with(&signers.current, signers.next.as_ref())
        });
        self.key_set.check(announced.collect())?;
        // Only now: who holds it keeps the service from stopping, and reading keys may take long.
        let Some(api) = self.api.upgrade() else { bail!("the service is stopping") };
        let keys = checked.iter().map(|checked| (&checked.pool, checked.api_keys.clone()));
        let access = access(&config, keys, &self.clock, Some(&api.access()))?;

        for warning in config.warnings.iter().filter(|warning| !current.warnings.contains(warning)) {
            tracing::warn!("settings: {warning}");
        }
        for (running, Checked { pool, api_keys, signers }) in pools() {
            signers.warn_of_certificates(pool, self.clock.now());
            running.ring.replace(&signers.current, signers.next.as_ref());
            running.allocator.set(pool);
            running.publisher.set(pool.clone());
            tell_next_key_end(&api.metrics, &pool.shape.id, api_keys, self.clock.now());
            let api = &api.pools[&pool.shape.id];
            api.about.store(Arc::new(about(pool, &running.ring)));
        }
        api.replace_access(access);
        set_times(&config, &self.key_set, self.site.as_deref());
        self.key_set.wake();
        api.audit.note(Line::new(Caller::default(), reloaded(&checked)));
        *current = config;
        Ok(())
    }

    /// Once a day, warns of certificates that end before the tokens they sign.
    pub(super) async fn watch_certificates(&self, stopper: &Stopper) {
        while stopper.until(tokio::time::sleep(CERTIFICATES_EVERY)).await.is_some() {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            for (pool, running) in current.pools.values().zip(&self.pools) {
                warn_of_certificate(&running.ring.signer(), pool, self.clock.now());
            }
        }
    }
}

/// For the audit trail: who can do something from now on.
fn reloaded(pools: &[Checked]) -> Action {
    let of_each = |pool: &Checked| {
        let (id, names) = (pool.pool.shape.id.to_string(), pool.api_keys.iter().map(|key| key.name.clone()));
        ((id.clone(), names.collect()), (id, pool.signers.current.kid().to_owned()))
    };
    let (api_keys, signing_keys) = pools.iter().map(of_each).unzip();
    Action::Reloaded { api_keys, signing_keys }
}

/// Who may do what, as the settings say it. What was counted of callers `before` stays where its settings are the same.
pub(super) fn access<'a>(
    config: &Config,
    keys: impl Iterator<Item = (&'a PoolConfig, Vec<ApiKey>)>,
    clock: &Clock,
    before: Option<&Access>,
) -> Result<Access> {
    let of_pool = |(pool, keys): (&PoolConfig, Vec<ApiKey>)| {
        let id = pool.shape.id.clone();
        keys.into_iter().map(move |key| (id.clone(), key))
    };
    // Half of what a request may take, so that it can still be answered.
    let patience = config.limits.request_timeout / 2;
    Access::new(keys.flat_map(of_pool).collect(), config.access.clone(), patience, clock.clone(), before)
        .context("cannot use the settings of access")
}

/// Tells when the next of these keys ends. What has ended already is not waited for.
pub(super) fn tell_next_key_end(metrics: &Metrics, pool: &PoolId, keys: &[ApiKey], now: Timestamp) {
    let ends = keys.iter().filter_map(|key| key.not_after).filter(|end| *end >= now);
    metrics.api_key_not_after(pool, ends.min().map(|end| end.secs()));
}

/// Tells those who need it how long keys and lists may be kept.
pub(super) fn set_times(config: &Config, key_set: &KeySet, site: Option<&SiteServer>) {
    let keys_max_age = config.publish.keys_max_age;
    let lifetimes = config.pools.values().map(|pool| pool.lifetimes.list_lifetime);
    key_set.set(keys_max_age, lifetimes.max().unwrap_or_default());
    if let Some(site) = site {
        // Until its next beat a pool cannot have anything newer.
        let beats = config.pools.values().map(|pool| pool.update_interval);
        site.set_max_age(beats.min().unwrap_or_default(), keys_max_age);
    }
}
