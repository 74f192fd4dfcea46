//! The settings and keys that can change while the service runs, and how each part gets them: checked as a whole, then
//! applied everywhere, or not at all.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

use super::status_page;
use crate::access::Access;
use crate::allocate::Allocator;
use crate::audit::{Action, Caller, Line};
use crate::base::clock::{Clock, Timestamp};
use crate::base::stopper::Stopper;
use crate::config::{Config, OnUnderflow, PoolConfig, PublishRole};
use crate::http::api::{Api, PoolFacts};
use crate::keys::made;
use crate::keys::signers::{PoolSigners, development_key_path, warn_of_certificate};
use crate::model::api_key::ApiKey;
use crate::model::pool::PoolId;
use crate::publish::{KeySet, PoolPublisher};
use crate::sign::KeyRing;
use crate::sign::profile::Profile;
use crate::site::folder::Site;
use crate::site::server::SiteServer;
use crate::status_list::{Format, Formats};
use crate::telemetry::metrics::Metrics;

/// How often to check whether certificates still outlive the tokens.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The parts that accept new settings while they run.
pub(super) struct Running {
    pub(super) clock: Clock,
    pub(super) current: Mutex<Config>,
    pub(super) pools: Vec<RunningPool>,
    pub(super) key_set: Arc<KeySet>,
    /// Not held: the tasks that apply updates end when the server drops its updaters.
    pub(super) api: Weak<Api>,
    pub(super) folder: Site,
    pub(super) site: Option<Arc<SiteServer>>,
}

/// The same for one pool.
pub(super) struct RunningPool {
    pub(super) allocator: Arc<Allocator>,
    pub(super) publisher: Arc<PoolPublisher>,
    pub(super) ring: Arc<KeyRing>,
}

/// The new keys and settings of a pool.
struct Checked {
    pool: PoolConfig,
    api_keys: Vec<ApiKey>,
    signers: PoolSigners,
}

impl Running {
    /// Applies `config`. Changes nothing if any of it cannot be used.
    pub(super) fn take(&self, config: Config) -> Result<()> {
        let needs_restart = self.current.lock().needs_restart(&config);
        if !needs_restart.is_empty() {
            bail!(
                "these settings cannot change while the service runs, so the change needs a restart: {}",
                needs_restart.join(", ")
            );
        }
        let key_directory = &config.publish.key_directory;
        let mut checked = Vec::with_capacity(self.pools.len());
        for pool in config.pools.values() {
            let id = &pool.shape.id;
            if pool.signer.key.is_none() && !development_key_path(pool, key_directory).exists() {
                bail!(
                    "status-list-pools.{id}.signer names no key, and a development key is made only at the start; name a key, or restart"
                );
            }
            let signers = PoolSigners::read(pool, key_directory, self.clock.now())
                .with_context(|| format!("pool {id}"))?;
            let api_keys = match pool.api_keys.is_empty() {
                false => pool.api_keys.clone(),
                true if !made::demo_api_key_path(pool, key_directory).exists() => {
                    bail!(
                        "status-list-pools.{id}.api-keys is empty, and a key is made only at the start; add a key, or restart"
                    )
                }
                true => vec![ApiKey::unlimited(made::demo_api_key(pool, key_directory)?.0)],
            };
            checked.push(Checked { pool: pool.clone(), api_keys, signers });
        }
        // Both are in the order of the pools' names, and no pool was added or removed.
        let pools = || self.pools.iter().zip(&checked);
        let announced = pools().flat_map(|(running, Checked { signers, .. })| {
            running.ring.announced_with(&signers.current, signers.next.as_ref())
        });
        self.key_set.check(announced.collect())?;
        // Only now: holding it keeps the service from stopping, and reading keys may take long.
        let Some(api) = self.api.upgrade() else { bail!("the service is stopping") };
        let keys = checked.iter().map(|checked| (&checked.pool, checked.api_keys.clone()));
        let access = access(&config, keys, &self.clock, Some(&api.access()))?;

        // Not before: a task may wait for it on an async thread.
        let mut current = self.current.lock();
        for warning in config.warnings.iter().filter(|warning| !current.warnings.contains(warning)) {
            tracing::warn!("settings: {warning}");
        }
        for (running, Checked { pool, api_keys, signers }) in pools() {
            signers.warn_of_certificates(pool, self.clock.now());
            running.ring.set_wanted(&signers.current, signers.next.as_ref());
            running.allocator.set(&pool.live);
            running.publisher.set(pool.live.clone());
            api.metrics.references_per_day_max(&pool.shape.id, pool.live.quotas.references_per_day);
            tell_next_key_end(&api.metrics, &pool.shape.id, api_keys, self.clock.now());
            let api = &api.pools[&pool.shape.id];
            api.facts.store(Arc::new(pool_facts(pool, &running.ring, config.publish.role)));
        }
        api.replace_access(access);
        set_times(&config, &self.key_set, self.site.as_deref());
        self.key_set.wake();
        api.audit.record_unwaited(Line::new(Caller::default(), reloaded(&checked)));
        let page = status_page::document(&config);
        *current = config;
        // A disk that hangs holds up neither a stop nor those who wait for the settings.
        drop((current, api));
        status_page::write(&self.folder, page.as_deref());
        Ok(())
    }

    /// Warns once a day of certificates that end before the tokens they sign.
    pub(super) async fn watch_certificates(&self, stopper: &Stopper) {
        while stopper.until(tokio::time::sleep(CERTIFICATES_EVERY)).await.is_some() {
            self.look_at_certificates();
        }
    }

    fn look_at_certificates(&self) {
        let current = self.current.lock();
        for (pool, running) in current.pools.values().zip(&self.pools) {
            warn_of_certificate(&running.ring.signer(), pool, self.clock.now());
        }
    }
}

/// The entry for the audit trail: who has access from now on.
fn reloaded(pools: &[Checked]) -> Action {
    let of_each = |pool: &Checked| {
        let (id, names) = (pool.pool.shape.id.to_string(), pool.api_keys.iter().map(|key| key.name.clone()));
        ((id.clone(), names.collect()), (id, pool.signers.current.kid().to_owned()))
    };
    let (api_keys, signing_keys) = pools.iter().map(of_each).unzip();
    Action::Reloaded { api_keys, signing_keys }
}

/// Access as the settings define it. Keeps the counters of `before` where its settings are the same.
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
    // Half of the request timeout, so that the request can still be answered.
    let patience = config.limits.request_timeout / 2;
    Access::new(keys.flat_map(of_pool).collect(), config.access.clone(), patience, clock.clone(), before)
        .context("cannot use the access settings")
}

/// Sets the metric of the next end of these keys. Ignores keys that have already ended.
pub(super) fn tell_next_key_end(metrics: &Metrics, pool: &PoolId, keys: &[ApiKey], now: Timestamp) {
    let ends = keys.iter().filter_map(|key| key.not_after).filter(|end| *end >= now);
    metrics.api_key_not_after(pool, ends.min().map(Timestamp::date));
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
    }
}

/// The formats as settings name them.
fn format_names(formats: Formats) -> Vec<&'static str> {
    let name = |format: Format| if format.purpose().is_some() { "bitstring" } else { format.name() };
    let mut names: Vec<_> = formats.iter().map(name).collect();
    names.dedup();
    names
}

/// Tells the parts that need it how long keys and lists may be cached.
pub(super) fn set_times(config: &Config, key_set: &KeySet, site: Option<&SiteServer>) {
    let keys_max_age = config.publish.keys_max_age;
    let lifetimes = config.pools.values().map(|pool| pool.live.lifetimes.list_lifetime);
    key_set.set(keys_max_age, lifetimes.max().unwrap_or_default());
    if let Some(site) = site {
        // Until its next beat a pool has nothing newer.
        let beats = config.pools.values().map(|pool| pool.live.update_interval);
        site.set_max_age(beats.min().unwrap_or_default(), keys_max_age);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::net::TcpListener;
    use std::path::Path;

    use super::*;
    use crate::app::App;
    use crate::base::clock::Timestamp;

    /// The first second of 2030.
    const END: u64 = 1_893_456_000;
    const LIFETIME: Duration = Duration::from_secs(24 * 3600);

    /// Parts of a service whose certificate ends at [`END`].
    async fn running(folder: &Path, clock: &Clock) -> Running {
        let write = |name: &str, content: &str| {
            File::create(folder.join(name)).unwrap().write_all(content.as_bytes()).unwrap();
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let mut certificate = rcgen::CertificateParams::new(vec!["status.example".into()]).unwrap();
        certificate.not_after = rcgen::date_time_ymd(2030, 1, 1);
        write("key.pem", &key.serialize_pem());
        write("chain.pem", &certificate.self_signed(&key).unwrap().pem());
        let below = |name: &str| folder.join(name).display().to_string();
        let settings = format!(
            "storage-directory: {}\nkey-directory: {}\ninstance-directory: {}\nsqlite: {{ path: {} }}\n\
             status-list-pools: {{ p: {{ api-key: one, list-lifetime: {}s, signer: {{ pem: {{ key: {}, chain: {} }} }} }} }}",
            below("public"),
            below("keys"),
            below("instance"),
            below("statuslist.db"),
            LIFETIME.as_secs(),
            below("key.pem"),
            below("chain.pem"),
        );
        let config = Config::load(Some(&settings), std::iter::empty()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        App::build_on(listener, config, clock.clone()).await.unwrap().running(Weak::new(), None)
    }

    #[tokio::test]
    async fn the_daily_check_warns_as_soon_as_the_certificate_ends_before_the_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::set_to(Timestamp::from_secs(END - LIFETIME.as_secs() - 1));
        let running = running(folder.path(), &clock).await;
        let logged = || {
            let log = folder.path().join("log.txt");
            let lines =
                tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(File::create(&log).unwrap()));
            tracing::subscriber::with_default(lines.finish(), || running.look_at_certificates());
            fs::read_to_string(&log).unwrap()
        };
        assert_eq!(logged(), "", "tokens signed now end a second before it");
        clock.advance(Duration::from_secs(1));
        assert_eq!(logged(), "", "they end with it");
        clock.advance(Duration::from_secs(1));
        let log = logged();
        for part in
            ["WARN", "ends before the tokens it signs", "pool=p", "not_after=1893456000", "left_secs=86399"]
        {
            assert!(log.contains(part), "{part}: {log}");
        }
    }
}
