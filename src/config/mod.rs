//! Settings: the operator's input, checked once and turned into values that every part can trust.
//!
//! `layers` merges defaults, file and environment; `raw` is the unchecked form; the other files hold the checked sections.
//! Every error names its key, what is wrong, and what to change.

mod access;
mod address;
mod api_keys;
mod audit;
mod aws;
mod aws_kms;
mod changes;
mod duration;
mod explorer;
mod formats;
mod hint;
mod key_service;
mod layers;
mod limits;
mod mistakes;
mod network;
mod original;
mod places;
mod pools;
mod postgres;
mod profile;
mod public_url;
mod publish;
mod rate;
mod raw;
mod raw_signer;
mod registered;
mod server;
mod signer;
mod store;
mod telemetry;
mod templates;
mod vault;

pub use access::{AccessConfig, ClientCertificate, JwksSource, OauthConfig, Rates};
pub use address::ServerAddress;
pub use audit::AuditConfig;
pub use aws::S3Credentials;
pub use aws_kms::AwsKmsSource;
pub(crate) use duration::{parse as parse_duration, show as show_duration};
pub use explorer::{ExplorerConfig, OperatorConfig, ShownPool, Title};
pub use key_service::{ExternalKey, KeyServiceAddress};
pub use limits::Limits;
pub use mistakes::{Mistake, Mistakes};
pub use network::Network;
pub use pools::{Lifetimes, OnUnderflow, PoolConfig, PoolLive, PoolStart, Prefetch, Quotas};
pub use postgres::{Durability, PostgresConfig};
pub use publish::{PublishConfig, PublishRole, S3Config};
pub use rate::Rate;
pub use server::ServerConfig;
pub use signer::{KeySource, NextSigner, PemFiles, Pkcs11Key, Pkcs12File, SignerConfig};
pub use store::{Persistence, RedisConfig, RedisTarget, StoreConfig, Synchronous};
pub use telemetry::{LogFormat, Telemetry};
pub use templates::Templates;
pub use vault::VaultSource;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use layers::Layers;
use places::Places;
use raw::RawConfig;
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::model::api_key::{ApiKey, Scopes};
use crate::model::pool::PoolId;
use crate::status_list::BaseUri;

/// The setting with the pools.
const POOLS: &str = "status-list-pools";
/// The pool of the defaults. Every other pool takes the settings that it leaves out from it.
const TEMPLATE_POOL: &str = "demo";
/// The most mistakes that are looked for.
const MISTAKES_MAX: usize = 100;

/// All settings. Only `app` sees the whole; every other part gets its own section.
#[derive(Clone, Debug)]
pub struct Config {
    /// The public address of the lists.
    pub public_url: BaseUri,
    /// The HTTP server.
    pub server: ServerConfig,
    /// The most that a caller can request.
    pub limits: Limits,
    /// Log lines and traces.
    pub telemetry: Telemetry,
    /// The audit trail, if it is on.
    pub audit: Option<AuditConfig>,
    /// Who may use the API, apart from the pools' API keys.
    pub access: AccessConfig,
    /// The store.
    pub store: StoreConfig,
    /// What this instance keeps outside the store.
    pub instance: InstanceConfig,
    /// The folders and sinks of the publisher.
    pub publish: PublishConfig,
    /// The status list pools by name; never empty.
    pub pools: BTreeMap<PoolId, PoolConfig>,
    /// What the status page shows.
    pub explorer: Box<ExplorerConfig>,
    /// Pools of the store to give up: their lists are not renewed any more.
    pub retired_pools: BTreeSet<PoolId>,
    /// Whether the API ignores members and parameters that it does not know, as the original service does.
    pub lenient: bool,
    /// Settings that are allowed but probably a mistake; logged at the start.
    pub warnings: Vec<String>,
    /// What pools can be made of while the service runs.
    pub templates: Templates,
    /// What a pool of each template would be.
    pub of_templates: BTreeMap<PoolId, PoolConfig>,
    /// The keys that may make pools and keys, on the address for management.
    pub admin_keys: Vec<ApiKey>,
    /// The keys that were made while a service ran, with their pools.
    pub registered_keys: Vec<(PoolId, ApiKey)>,
    /// Pools that were deleted while a service ran: their lists are not renewed any more.
    pub deleted_pools: BTreeSet<PoolId>,
    /// The same settings without what was made while a service ran, if this has it.
    base: Option<Arc<Config>>,
    /// The files that settings with a name in `-file` were read from.
    secret_files: Vec<PathBuf>,
    /// Where each setting was written.
    places: Arc<Places>,
}

/// Whether the API ignores what it does not know, as written.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum RawCompatibility {
    Strict,
    Lenient,
}

/// What an instance keeps outside the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceConfig {
    /// Its folder.
    pub directory: PathBuf,
    /// Whether it compares the store with its high-water marks.
    pub marks: bool,
}

/// Why settings cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A setting, and what is wrong with it.
    #[error("{key}: {why}")]
    Setting {
        /// The setting's path, for example `status-list-pools.demo.size`.
        key: String,
        /// What is wrong and what to change.
        why: String,
    },
    /// A text that is not YAML.
    #[error("{origin} cannot be read as YAML: {why}")]
    Yaml {
        /// Name of the text.
        origin: String,
        /// The parser's message, with line and column.
        why: String,
    },
}

impl ConfigError {
    fn at(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Setting { key: key.into(), why: why.into() }
    }

    /// The setting's path.
    fn key(&self) -> Option<&str> {
        match self {
            Self::Setting { key, .. } => Some(key),
            Self::Yaml { .. } => None,
        }
    }
}

/// A settings file: its name in messages, and its content.
pub struct SettingsFile {
    /// The name.
    pub name: String,
    /// The content in YAML.
    pub text: Zeroizing<String>,
}

impl SettingsFile {
    fn unnamed(text: &str) -> Self {
        Self { name: "the settings file".to_owned(), text: Zeroizing::new(text.to_owned()) }
    }
}

impl Config {
    /// Loads the settings from a file's text (or only the defaults) and the environment variables. Fails with the first mistake.
    pub fn load(
        file: Option<&str>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let files: Vec<_> = file.map(SettingsFile::unnamed).into_iter().collect();
        let (config, mistakes) = Self::examine(&files, environment);
        match (config, mistakes.into_first()) {
            (Some(config), None) => Ok(config),
            (_, Some(mistake)) => Err(mistake),
            (None, None) => unreachable!("without settings there is a mistake"),
        }
    }

    /// Loads the settings from files, of which later ones win, and the environment variables. Fails with every mistake.
    pub fn load_files(
        files: &[SettingsFile],
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Mistakes> {
        match Self::examine(files, environment) {
            (Some(config), mistakes) if mistakes.is_empty() => Ok(config),
            (_, mistakes) => Err(mistakes.sorted()),
        }
    }

    /// Returns every mistake in the settings, and the settings with defaults in place of what is wrong: to examine them further, not
    /// to be used.
    pub fn examine(
        files: &[SettingsFile],
        environment: impl Iterator<Item = (String, String)>,
    ) -> (Option<Self>, Mistakes) {
        let mut mistakes = Mistakes::default();
        let mut layers = match Layers::merge(files, environment, &mut mistakes) {
            Ok(layers) => layers,
            Err(error) => {
                mistakes.add(error, None);
                return (None, mistakes);
            }
        };
        for _ in 0..MISTAKES_MAX {
            let error = match layers.read().and_then(|raw| Self::check(raw, &layers)) {
                Ok(config) => return (Some(config), mistakes),
                Err(error) => error,
            };
            let mended = layers.mend(&error);
            layers.note(error, &mut mistakes);
            if !mended {
                break;
            }
        }
        (None, mistakes)
    }

    /// A mistake in these settings that only the outside shows: `why` this one cannot be used.
    pub fn mistake(&self, key: &str, why: impl Into<String>) -> Mistake {
        Mistake::new(ConfigError::at(key, why), self.places.of(key))
    }

    fn check(raw: RawConfig, layers: &Layers) -> Result<Self, ConfigError> {
        let (mut warnings, secret_files) = (layers.warnings.clone(), layers.secret_files.clone());
        let public_url = public_url::check("public-url", &raw.public_url, &mut warnings)?;
        if raw.cache_duration.is_some() {
            warnings
                .push("cache-duration is not needed and ignored: new files are noticed at once".to_owned());
        }
        if raw.status_list_pools.is_empty() && raw.templates.is_empty() {
            return Err(ConfigError::at("status-list-pools", "must have at least one pool"));
        }
        let mut pools = BTreeMap::new();
        for (name, raw_pool) in raw.status_list_pools {
            let pool =
                PoolConfig::check(POOLS, &name, &public_url, raw_pool, name == TEMPLATE_POOL, &mut warnings)?;
            pools.insert(pool.shape.id.clone(), pool);
        }
        let of_templates = registered::check_templates(raw.templates, &public_url, &mut warnings)?;
        let admin_keys =
            check_admins(raw.admin_api_keys, raw.server.management_listen.is_some(), &mut warnings)?;
        let aggregations = pools.iter().map(|(id, pool)| (id.clone(), pool.start.aggregation)).collect();
        let explorer = ExplorerConfig::check(raw.explorer, &aggregations)?;
        for (id, pool) in &mut pools {
            pool.live.statistics = explorer.pools.get(id).is_some_and(|shown| shown.statistics);
        }
        let publish = PublishConfig {
            storage_directory: raw.storage_directory,
            key_directory: raw.key_directory,
            role: raw.publish.role.into(),
            keys_max_age: raw.publish.keys_max_age.0,
            sinks: S3Config::check_all(raw.publish.sinks, &mut warnings)?,
        };
        let beats = pools.values().map(|pool| pool.live.update_interval);
        if let Some(beat) = beats.max().filter(|beat| *beat > publish.keys_max_age) {
            warnings.push(format!(
                "publish.keys-max-age ({}) is below an update-interval ({}), and caches may keep the keys that long: raise the first",
                show_duration(publish.keys_max_age),
                show_duration(beat)
            ));
        }
        let store = StoreConfig::check(raw.storage_type, raw.sqlite, raw.redis, raw.postgres, &mut warnings)?;
        let instance = InstanceConfig { directory: raw.instance_directory, marks: raw.high_water_marks };
        if !instance.marks {
            let lost = "a store that lost data hands out references twice, and nobody notices";
            warnings.push(format!("high-water-marks is false: {lost}; set it to true"));
        }
        let access = AccessConfig::check(raw.oauth, &raw.server, &raw.limits)?;
        let server = ServerConfig::check(raw.server, raw.serve_status_lists)?;
        server.check_paths("public-url", &public_url)?;
        for (id, pool) in &pools {
            server.check_paths(&format!("status-list-pools.{id}.public-url"), &pool.shape.public_url)?;
        }
        for (id, pool) in &of_templates {
            server.check_paths(&format!("templates.{id}.public-url"), &pool.shape.public_url)?;
        }
        if server.serve_status_lists {
            public_url::check_port(&public_url, server.listen, &mut warnings);
        }
        publish.keep_secret(&store, &instance, &pools)?;
        publish.keep_secret(&store, &instance, &of_templates)?;
        let retired = raw.retired_pools.iter().map(|name| name.parse());
        let retired_pools = retired
            .collect::<Result<_, _>>()
            .map_err(|why| ConfigError::at("retired-pools", format!("{why}")))?;
        Ok(Self {
            public_url,
            server,
            limits: Limits::check(raw.limits)?,
            telemetry: Telemetry::check(&raw.log, raw.tracing)?,
            audit: AuditConfig::check(raw.audit, &publish)?,
            access,
            store,
            instance,
            publish,
            pools,
            explorer: Box::new(explorer),
            retired_pools,
            lenient: raw.compatibility == RawCompatibility::Lenient,
            warnings,
            templates: layers.templates(),
            of_templates,
            admin_keys,
            registered_keys: Vec::new(),
            deleted_pools: BTreeSet::new(),
            base: None,
            secret_files,
            places: Arc::new(layers.places.clone()),
        })
    }
}

/// The keys of `admin-api-keys`, which work on the address for management alone.
fn check_admins(
    raw: Vec<api_keys::RawApiKey>,
    has_address: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<ApiKey>, ConfigError> {
    const SETTING: &str = "admin-api-keys";
    let keys = api_keys::check((None, raw), &|_| SETTING.to_owned(), true, warnings)?;
    if keys.iter().any(|key| key.scopes != Scopes::ALL) {
        let why = "a key here has the scope `admin` and no other; leave `scopes` out";
        return Err(ConfigError::at(SETTING, why));
    }
    if !keys.is_empty() && !has_address {
        let why = "these keys work only on an address of their own: set server.management-listen, which no issuer reaches";
        return Err(ConfigError::at(SETTING, why));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str) -> Result<Config, ConfigError> {
        Config::load(Some(file), std::iter::empty())
    }

    #[test]
    fn defaults_are_complete_and_valid() {
        let config = Config::load(None, std::iter::empty()).unwrap();
        let demo = &config.pools[&"demo".parse().unwrap()];
        assert_eq!(config.public_url.as_str(), "http://localhost:8090/lists");
        assert_eq!(demo.shape.capacity.entries(), 100_000);
        assert_eq!((demo.live.prefetch.capacity, demo.live.prefetch.threshold), (1000, 200));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }

    #[test]
    fn every_file_in_the_config_folder_loads() {
        for entry in std::fs::read_dir("config").unwrap() {
            let path = entry.unwrap().path();
            load(&std::fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }

    #[test]
    fn the_original_services_files_load_as_they_are() {
        let config = load(include_str!("../../tests/it/original.yaml")).unwrap();
        let pool = &config.pools[&"tests".parse().unwrap()];
        assert_eq!(pool.shape.capacity.entries(), 50_000);
        assert_eq!((pool.live.prefetch.threshold, pool.live.prefetch.capacity), (1000, 10_000));
        assert_eq!(pool.start.check_delay.as_secs(), 40);
        assert_eq!(pool.api_keys.len(), 1);
        assert!(
            config.warnings.iter().any(|warning| warning.contains("plain text")),
            "{:?}",
            config.warnings
        );
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let files = [
            (
                "a.yaml",
                "public-url: lists\nserver:\n  listen: x\n  workerz: 2\nstatus-list-pools:\n  p:\n    api-key: 17\n    size: 9\n    prefetch: { capacity: 0 }\n  q:\n    update-interval: 5\n",
            ),
            (
                "b.yaml",
                "spring: { profiles: x }\nstatus-list-pools:\n  q:\n    signer:\n      keystore: classpath:a.p12\n      password-file: /none\nredis: { key-prefix: '{' }\n",
            ),
        ];
        let files =
            files.map(|(name, text)| SettingsFile { name: name.to_owned(), ..SettingsFile::unnamed(text) });
        let environment =
            [("STATUSLIST__LIMITS__AMOUNT", "many"), ("STATUSLIST__SERVER__MAX_CONNECTIONS", "0")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mistakes = Config::load_files(&files, environment.into_iter()).unwrap_err();
        let found: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        let expected = [
            "a.yaml:1: public-url: must begin with http",
            "a.yaml:3: server.listen: invalid",
            "a.yaml:4: server.workerz: there is no such setting; did you mean `workers`?",
            "a.yaml:7: status-list-pools.p.api-key: must be a text",
            "a.yaml:8: status-list-pools.p.size: ",
            "a.yaml:9: status-list-pools.p.prefetch: ",
            "a.yaml:11: status-list-pools.q.update-interval: ",
            "b.yaml:1: spring: there is no such setting; it is for the framework",
            "b.yaml:3: status-list-pools.q.api-keys: ",
            "b.yaml:5: status-list-pools.q.signer.keystore: a `classpath:`",
            "b.yaml:6: status-list-pools.q.signer.password-file: cannot read /none",
            "b.yaml:7: redis.key-prefix: must",
            "limits.amount: the value of STATUSLIST__LIMITS__AMOUNT cannot be used",
            "server.max-connections: must be at least 1 (set by STATUSLIST__SERVER__MAX_CONNECTIONS)",
        ];
        assert_eq!(found.len(), expected.len(), "{mistakes}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\n{expected}\n{mistakes}");
        }
    }

    #[test]
    fn later_files_win() {
        let files = [
            "public-url: https://a.example\nlimits: { amount: 5, batch: 6 }\nstatus-list-pools: { p: { api-key: x, bits: 2 } }",
            "limits: { amount: 7 }\nstatus-list-pools: { p: { size: 800 }, q: { api-key: y } }",
        ];
        let config = Config::load_files(&files.map(SettingsFile::unnamed), std::iter::empty()).unwrap();
        assert_eq!((config.limits.amount_max, config.limits.batch_max), (7, 6));
        assert_eq!(config.pools.len(), 2);
        let p = &config.pools[&"p".parse().unwrap()].shape.capacity;
        assert_eq!((p.entries(), p.bits()), (800, crate::status_list::Bits::Two));
    }

    #[test]
    fn hints_are_given_only_where_they_help() {
        for (file, expected) in [
            ("spring: {}", "leave it out"),
            ("update-interval: 5s", "it belongs to `status-list-pools.<pool>`"),
            ("email-from-address: a", "there is no such setting; config/default.yaml has them all"),
            ("storage-typ: sqlite", "did you mean `storage-type`?"),
        ] {
            let error = load(file).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{file}: {error}");
        }
    }

    #[test]
    fn every_impossible_relation_is_refused_by_name() {
        let check = |pool: &str, expected: &[&str]| {
            let file = format!("status-list-pools: {{ a: {{ api-key: secret, {pool} }} }}");
            let error = load(&file).map(|_| ()).unwrap_err().to_string();
            for part in expected {
                assert!(error.contains(part), "{pool}: {error}");
            }
        };
        check("bits: 3", &["status-list-pools.a.bits", "1, 2, 4 or 8, got 3"]);
        check("size: 50001", &["status-list-pools.a.size", "divisible by 8", "50000 and 50008"]);
        check("size: 0", &["status-list-pools.a.size"]);
        check("size: 800, prefetch: { capacity: 801 }", &["prefetch.capacity (801)", "size (800)"]);
        check(
            "prefetch: { capacity: 100, threshold: 101 }",
            &["prefetch.threshold (101)", "prefetch.capacity (100)"],
        );
        check("prefetch: { capacity: 0 }", &["prefetch.capacity"]);
        check(
            "list-lifetime: 11s, update-interval: 10s",
            &["list-lifetime (11s)", "update-interval (10s)", "2s"],
        );
        check("ttl: 13h", &["ttl (13h)", "list-lifetime (24h)", "resign-after (12h", "outlives"]);
        check("ttl: 0s", &["ttl", "at least 1s"]);
        check("update-interval: 500ms", &["update-interval", "at least 1s"]);
        check("resign-after: 24h", &["resign-after (24h)", "list-lifetime (24h)"]);
        check("final-status: 2", &["final-status", "1 bit(s) per entry"]);
        check("bits: 4, default-status: 4", &["default-status", "reserved"]);
        check("application-statuses: [3]", &["application-statuses"]);
        check("final-status: 0", &["final-status", "default-status"]);
        check("resign-after: 1h, update-interval: 12h, ttl: 23h", &["ttl (23h)", "at least a beat"]);
        check("precreation: { lists: 18446744073709551615 }", &["precreation.lists", "1000"]);
        check("formats: []", &["formats", "jwt"]);
        check("open-lists: 0", &["open-lists", "at least 1"]);
        check("quotas: { lists: 0 }", &["quotas.lists", "at least 1"]);
        check("quotas: { references-per-day: 0 }", &["quotas.references-per-day", "at least 1"]);
        check("api-keys: [b]", &["api-key", "not both"]);
        check("signer: { pkcs12: { keystore: a } }", &["signer.pkcs12", "password"]);
    }

    #[test]
    fn a_pool_without_keys_is_refused_except_the_built_in_one() {
        let error = load("status-list-pools: { a: {} }").unwrap_err().to_string();
        assert!(error.contains("status-list-pools.a.api-keys") && error.contains("hash-key"), "{error}");
        assert!(load("").is_ok());
        assert!(load("status-list-pools: { A: { api-key: x } }").unwrap_err().to_string().contains("a-z"));
        assert!(load("status-list-pools: {}").is_err());
        assert!(
            load("public-url: lists")
                .unwrap_err()
                .to_string()
                .starts_with("public-url: must begin with http")
        );
    }

    #[test]
    fn lifetimes_have_sensible_defaults() {
        let lifetimes = |pool: &str| {
            let config = load(&format!("status-list-pools: {{ a: {{ api-key: x, {pool} }} }}")).unwrap();
            let found = &config.pools[&"a".parse().unwrap()];
            (found.live.lifetimes.ttl.as_secs(), found.live.lifetimes.resign_after.as_secs())
        };
        assert_eq!(lifetimes("update-interval: 10s"), (10, 43200));
        assert_eq!(
            lifetimes("update-interval: 10s, list-lifetime: 15s"),
            (5, 7),
            "as the original is often set"
        );
        assert_eq!(lifetimes("list-lifetime: 24h, ttl: 12h"), (43200, 43200));
    }

    #[test]
    fn lists_cannot_be_where_the_api_is() {
        for url in ["http://x/pools", "http://x/api/lists", "http://x/health", "http://x/status-lists"] {
            let error = load(&format!("public-url: {url}")).unwrap_err().to_string();
            assert!(error.starts_with("public-url: "), "{error}");
            assert!(load(&format!("public-url: {url}\nserve-status-lists: false")).is_ok());
        }
        assert!(load("public-url: http://x").is_ok());
    }

    #[test]
    fn secrets_cannot_be_where_the_lists_are() {
        for (file, key) in [
            ("key-directory: public/lists", "key-directory"),
            ("storage-directory: data", "key-directory"),
            ("storage-directory: .", "key-directory"),
            ("sqlite: { path: ./public/a.db }", "sqlite.path"),
            (
                "status-list-pools: { a: { api-key: x, signer: { pem: { key: public/key.pem } } } }",
                "status-list-pools.a.signer.pem.key",
            ),
            (
                "status-list-pools: { a: { api-key: x, signer: { keystore: public/key.p12, password: x } } }",
                "status-list-pools.a.signer.pkcs12.keystore",
            ),
        ] {
            let error = load(file).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{file}: {error}");
        }
    }

    #[test]
    fn small_lists_work_with_a_warning() {
        let config = load("status-list-pools: { a: { api-key: x, size: 128 } }").unwrap();
        assert!(
            config.warnings.iter().any(|warning| warning.contains("status-list-pools.a.size")),
            "{:?}",
            config.warnings
        );
        assert_eq!(config.pools[&"a".parse().unwrap()].live.prefetch.capacity, 128);
    }

    #[test]
    fn both_forms_of_persistence_strategy_are_read() {
        for (form, expected) in [
            ("append-fsync-always", Persistence::AppendFsyncAlways),
            ("disabled", Persistence::Disabled),
            ("{ append-fsync-always: true }", Persistence::AppendFsyncAlways),
            ("{ disabled: true }", Persistence::Disabled),
        ] {
            let config =
                load(&format!("storage-type: redis\nredis: {{ persistence-strategy: {form} }}")).unwrap();
            let StoreConfig::Redis(redis) = config.store else { panic!("not redis") };
            assert_eq!(redis.persistence, expected, "{form}");
        }
        let both = "redis: { persistence-strategy: { disabled: true, append-fsync-always: true } }";
        assert!(load(&format!("storage-type: sqlite\n{both}")).is_ok(), "not used");
        assert!(load("storage-type: redis\nredis: { persistence-strategy: {} }").is_err());
    }
}
