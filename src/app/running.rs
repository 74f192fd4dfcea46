//! The settings and keys that can change while the service runs, and how each part gets them: checked as a whole, then
//! applied everywhere, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

use super::pools::{PoolParts, Starter, pool_facts};
use super::reload::{Change, LeftOut};
use super::status_page;
use crate::access::Access;
use crate::audit::{Action, Caller, Line};
use crate::base::clock::{Clock, Timestamp};
use crate::base::stopper::{StopSwitch, Stopper};
use crate::config::{Config, PoolConfig};
use crate::http::api::{Api, Rules};
use crate::keys::made;
use crate::keys::signers::{PoolSigners, development_key_path, warn_of_certificate};
use crate::model::api_key::ApiKey;
use crate::model::pool::PoolId;
use crate::publish::KeySet;
use crate::site::folder::Site;
use crate::site::server::SiteServer;
use crate::telemetry::metrics::Metrics;

/// How often to check whether certificates still outlive the tokens.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(24 * 3600);

/// The parts that accept new settings while they run.
pub(super) struct Running {
    pub(super) clock: Clock,
    pub(super) current: Arc<Mutex<Config>>,
    pub(super) pools: Mutex<BTreeMap<PoolId, RunningPool>>,
    pub(super) starter: Starter,
    pub(super) key_set: Arc<KeySet>,
    /// Not held: the tasks that apply updates end when the server drops its updaters.
    pub(super) api: Weak<Api>,
    pub(super) folder: Site,
    pub(super) site: Option<Arc<SiteServer>>,
}

/// The same for one pool.
pub(super) struct RunningPool {
    pub(super) parts: PoolParts,
    /// Stops its tasks.
    pub(super) stop: StopSwitch,
}

/// The new keys and settings of a pool.
struct Checked {
    pool: PoolConfig,
    api_keys: Vec<ApiKey>,
    /// `None` if they stay.
    signers: Option<PoolSigners>,
}

impl Running {
    /// Applies `config`. Changes nothing if any of it cannot be used, except that pools made at run time that cannot be served are left
    /// out: one of them must not keep the others, and the ends of keys, from being applied. Runs on a thread that may block.
    pub(super) fn take(&self, mut config: Config, change: Change) -> Result<LeftOut> {
        let needs_restart = self.current.lock().needs_restart(&config);
        if !needs_restart.is_empty() {
            bail!(
                "these settings cannot change while the service runs, so the change needs a restart: {}",
                needs_restart.join(", ")
            );
        }
        self.keep_lost_pools(&mut config);
        let (made, left_out) = self.make_new_pools(&mut config);
        let checked = self.check(&config, change)?;
        let mut announced: Vec<_> = made.iter().flat_map(|parts| parts.keys.announced()).collect();
        for Checked { pool, signers, .. } in &checked {
            if let (Some(signers), Some(running)) = (signers, self.pools.lock().get(&pool.shape.id)) {
                let next = signers.next.as_ref();
                announced.extend(running.parts.keys.announced_with(&signers.current, next));
            }
        }
        self.key_set.check(announced)?;
        // Only now: holding it keeps the service from stopping, and reading keys may take long.
        let Some(api) = self.api.upgrade() else { bail!("the service is stopping") };
        let keys = checked.iter().map(|checked| (&checked.pool, checked.api_keys.clone()));
        let access = access(&config, keys, &self.clock, Some(&api.access()))?;

        // Not before: a task may wait for it on an async thread.
        let (mut pools, mut current) = (self.pools.lock(), self.current.lock());
        for warning in config.warnings.iter().filter(|warning| !current.warnings.contains(warning)) {
            tracing::warn!("settings: {warning}");
        }
        for Checked { pool, signers, .. } in &checked {
            let id = &pool.shape.id;
            if let (Some(running), Some(api)) = (pools.get(id), api.pool(id)) {
                if let Some(signers) = signers {
                    signers.warn_of_certificates(pool, self.clock.now());
                    running.parts.keys.set_wanted(&signers.current, signers.next.as_ref());
                }
                running.parts.allocator.set(&pool.live);
                running.parts.publisher.set(pool.live.clone());
                api.facts.store(Arc::new(pool_facts(pool, &running.parts.keys, config.publish.role)));
            }
        }
        self.replace_pools(&mut pools, &config, made, &api);
        for pool in config.pools.values() {
            let id = &pool.shape.id;
            api.metrics.references_per_day_max(id, pool.live.quotas.references_per_day);
            tell_next_key_end(&api.metrics, id, &config, self.clock.now());
        }
        let reloaded = reloaded(&checked, &config, &pools);
        drop(pools);
        api.replace_access(access);
        set_times(&config, &self.key_set, self.site.as_deref());
        self.key_set.wake();
        api.audit.record_unwaited(Line::new(Caller::default(), reloaded));
        let page = status_page::document(&config);
        *current = config;
        // A disk that hangs holds up neither a stop nor those who wait for the settings.
        drop((current, api));
        status_page::write(&self.folder, page.as_deref());
        Ok(left_out)
    }

    /// Keeps the pools that the store no longer has although nobody deleted them: it lost data, and verifiers still ask for their lists.
    fn keep_lost_pools(&self, config: &mut Config) {
        let current = self.current.lock();
        let lost = current.pools.iter().filter(|(id, pool)| {
            pool.registered && !config.pools.contains_key(*id) && !config.deleted_pools.contains(*id)
        });
        let lost: Vec<_> = lost.map(|(id, pool)| (id.clone(), pool.clone())).collect();
        drop(current);
        for (pool, settings) in lost {
            tracing::error!(
                %pool,
                "THE STORE LOST DATA: it no longer has this pool, which nobody deleted; serving it until the next start. Restore the store"
            );
            config.pools.insert(pool, settings);
        }
    }

    /// Makes the pools that do not run yet. Removes those from `config` that cannot be made, and says why.
    fn make_new_pools(&self, config: &mut Config) -> (Vec<PoolParts>, LeftOut) {
        let known: BTreeSet<_> = self.pools.lock().keys().cloned().collect();
        let added = config.pools.iter().filter(|(id, _)| !known.contains(*id));
        let added: Vec<_> = added.map(|(_, pool)| pool.clone()).collect();
        let runtime = tokio::runtime::Handle::current();
        let (mut made, mut left_out) = (Vec::new(), LeftOut::new());
        for pool in added {
            // Without the lock, which a stop waits for on the thread that serves the store's answers. Only one reload runs at a time.
            let parts = runtime.block_on(self.starter.maker.make(&pool)).and_then(|parts| {
                self.key_set.check(parts.keys.announced())?;
                Ok(parts)
            });
            match parts {
                Ok(parts) => made.push(parts),
                Err(why) => {
                    config.pools.remove(&pool.shape.id);
                    left_out.push((pool.shape.id, format!("{why:#}")));
                }
            }
        }
        (made, left_out)
    }

    /// Reads the keys of all pools, and of the templates, unless only what was made at run time has changed: then no key service that is
    /// away, and no file that is half replaced, delays the end of an API key.
    fn check(&self, config: &Config, change: Change) -> Result<Vec<Checked>> {
        let key_directory = &config.publish.key_directory;
        let now = self.clock.now();
        if change == Change::Settings {
            for (id, template) in &config.of_templates {
                PoolSigners::read(template, key_directory, now).with_context(|| format!("templates.{id}"))?;
            }
        }
        let mut checked = Vec::with_capacity(config.pools.len());
        for pool in config.pools.values() {
            let id = &pool.shape.id;
            if pool.signer.key.is_none() && !development_key_path(pool, key_directory).exists() {
                bail!(
                    "status-list-pools.{id}.signer names no key, and a development key is made only at the start; name a key, or restart"
                );
            }
            let signers = match change {
                Change::Registry => None,
                Change::Settings => {
                    Some(PoolSigners::read(pool, key_directory, now).with_context(|| format!("pool {id}"))?)
                }
            };
            let api_keys = match pool.api_keys.is_empty() && !pool.registered {
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
        Ok(checked)
    }

    /// Starts the pools that are new, and stops those that `config` no longer has: they publish what was acknowledged, and end.
    fn replace_pools(
        &self,
        pools: &mut BTreeMap<PoolId, RunningPool>,
        config: &Config,
        made: Vec<PoolParts>,
        api: &Api,
    ) {
        let gone: Vec<_> = pools.keys().filter(|id| !config.pools.contains_key(*id)).cloned().collect();
        if gone.is_empty() && made.is_empty() {
            return;
        }
        let mut apis = Vec::with_capacity(made.len());
        for parts in made {
            let id = parts.config.shape.id.clone();
            // Before its tasks: they sign only what the key set has published.
            let others = pools.values().map(|running| running.parts.keys_of());
            self.key_set.set_pools(others.chain([parts.keys_of()]).collect());
            let (api, stop) = self.starter.start(&parts);
            tracing::info!(pool = %id, "serving a pool that was made at run time");
            apis.push(api);
            pools.insert(id, RunningPool { parts, stop });
        }
        api.replace_pools(apis, &gone);
        for id in &gone {
            if let Some(running) = pools.remove(id) {
                running.stop.stop();
            }
            api.metrics.forget_pool(id);
            tracing::info!(pool = %id, "the pool was deleted at run time");
        }
        self.key_set.set_pools(pools.values().map(|running| running.parts.keys_of()).collect());
    }

    /// Stops the tasks of all pools.
    pub(super) fn stop_pools(&self) {
        self.pools.lock().values().for_each(|running| running.stop.stop());
    }

    /// Warns once a day of certificates that end before the tokens they sign.
    pub(super) async fn watch_certificates(&self, stopper: &Stopper) {
        while stopper.until(tokio::time::sleep(CERTIFICATES_EVERY)).await.is_some() {
            self.look_at_certificates();
        }
    }

    fn look_at_certificates(&self) {
        // In the order of a reload.
        let (pools, current) = (self.pools.lock(), self.current.lock());
        for (id, pool) in &current.pools {
            if let Some(running) = pools.get(id) {
                warn_of_certificate(&running.parts.keys.signer(), pool, self.clock.now());
            }
        }
    }
}

/// The entry for the audit trail: who has access from now on.
fn reloaded(checked: &[Checked], config: &Config, pools: &BTreeMap<PoolId, RunningPool>) -> Action {
    let of_each = |pool: &Checked| {
        let id = &pool.pool.shape.id;
        let registered = config.registered_keys.iter().filter(|(of, _)| of == id).map(|(_, key)| key);
        let mut names: Vec<_> = pool.api_keys.iter().chain(registered).map(|key| key.name.clone()).collect();
        // A key and the one before its rotation have one name.
        names.dedup();
        let signer = match &pool.signers {
            Some(signers) => signers.current.kid().to_owned(),
            None => pools.get(id).map(|pool| pool.parts.keys.signer().kid().to_owned()).unwrap_or_default(),
        };
        ((id.to_string(), names), (id.to_string(), signer))
    };
    let (api_keys, signing_keys) = checked.iter().map(of_each).unzip();
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
    let keys = keys.flat_map(of_pool).chain(config.registered_keys.iter().cloned()).collect();
    let access = Access::new(keys, config.access.clone(), patience, clock.clone(), before)
        .context("cannot use the access settings")?;
    Ok(access.administered_by(config.admin_keys.iter().cloned()))
}

/// What requests for administration need to know of the settings.
pub(super) fn rules(current: &Arc<Mutex<Config>>) -> Rules {
    let (checking, naming) = (Arc::clone(current), Arc::clone(current));
    Rules {
        check: Arc::new(move |registry| {
            let config = checking.lock().clone();
            config.with_registry(registry).map(|_| ()).map_err(|why| why.to_string())
        }),
        has_key: Arc::new(move |name| {
            let config = naming.lock();
            let of_pools = config.pools.values().flat_map(|pool| &pool.api_keys);
            of_pools.chain(&config.admin_keys).any(|key| key.name == name)
        }),
    }
}

/// Sets the metric of the next end of a pool's keys. Ignores keys that have already ended.
pub(super) fn tell_next_key_end(metrics: &Metrics, pool: &PoolId, config: &Config, now: Timestamp) {
    let of_settings = config.pools.get(pool).into_iter().flat_map(|pool| &pool.api_keys);
    let registered = config.registered_keys.iter().filter(|(of, _)| of == pool).map(|(_, key)| key);
    let ends = of_settings.chain(registered).filter_map(|key| key.not_after).filter(|end| *end >= now);
    metrics.api_key_not_after(pool, ends.min().map(Timestamp::date));
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

    use tokio::sync::mpsc;

    use super::*;
    use crate::app::App;
    use crate::base::clock::Timestamp;
    use crate::base::stopper::stopper;

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
        let app = App::build_on(listener, config, clock.clone()).await.unwrap();
        let starter = app.starter(mpsc::unbounded_channel().0, mpsc::unbounded_channel().0);
        let pool = |parts: &PoolParts| {
            let running = RunningPool { parts: parts.clone(), stop: stopper().0 };
            (parts.config.shape.id.clone(), running)
        };
        let (current, pools) =
            (Arc::new(Mutex::new(app.config.clone())), app.pools.iter().map(pool).collect());
        app.running(Weak::new(), None, current, pools, starter)
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
