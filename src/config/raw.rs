//! The settings as written, with unknown keys refused. Checks types only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::RawCompatibility;
use super::api_keys::RawApiKey;
use super::duration::Setting;
use super::explorer::RawExplorer;
use super::formats::RawFormat;
use super::network::Network;
use super::profile::RawProfiles;
use super::rate::Rate;
use super::raw_signer::RawSigner;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) public_url: String,
    pub(super) storage_directory: PathBuf,
    pub(super) serve_status_lists: bool,
    pub(super) key_directory: PathBuf,
    pub(super) instance_directory: PathBuf,
    pub(super) high_water_marks: bool,
    pub(super) publish: RawPublish,
    pub(super) explorer: RawExplorer,
    pub(super) server: RawServer,
    pub(super) limits: RawLimits,
    pub(super) oauth: Option<RawOauth>,
    pub(super) log: RawLog,
    pub(super) tracing: RawTracing,
    pub(super) audit: RawAudit,
    pub(super) storage_type: RawStorageType,
    pub(super) sqlite: RawSqlite,
    pub(super) redis: RawRedis,
    pub(super) postgres: RawPostgres,
    pub(super) status_list_pools: BTreeMap<String, RawPool>,
    pub(super) templates: BTreeMap<String, RawPool>,
    pub(super) admin_api_keys: Vec<RawApiKey>,
    pub(super) retired_pools: Vec<String>,
    pub(super) compatibility: RawCompatibility,
    /// The original service's cache time of files. This service notices new files by itself.
    #[serde(default)]
    pub(super) cache_duration: Option<Setting>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPublish {
    pub(super) role: RawPublishRole,
    pub(super) keys_max_age: Setting,
    pub(super) sinks: Vec<RawSink>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawSink {
    S3(RawS3),
}

/// Entries of a list are not merged with defaults, so the defaults are here and, for readers, in config/default.yaml.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawS3 {
    pub(super) bucket: String,
    #[serde(default = "lists")]
    pub(super) prefix: String,
    #[serde(default)]
    pub(super) region: Option<String>,
    #[serde(default)]
    pub(super) endpoint: Option<String>,
    #[serde(default)]
    pub(super) access_key_id: Option<String>,
    #[serde(default)]
    pub(super) secret_access_key: Option<String>,
    #[serde(default)]
    pub(super) allow_http: bool,
    #[serde(default)]
    pub(super) cache_control: Option<String>,
    #[serde(default = "yes")]
    pub(super) conditional_put: bool,
}

fn lists() -> String {
    "lists/".to_owned()
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawPublishRole {
    Leader,
    Follower,
    Off,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawServer {
    pub(super) listen: SocketAddr,
    pub(super) api_listen: Option<SocketAddr>,
    pub(super) management_listen: Option<SocketAddr>,
    pub(super) workers: Option<usize>,
    pub(super) shutdown_grace: Setting,
    pub(super) max_connections: usize,
    pub(super) connections_per_address: Option<usize>,
    pub(super) trusted_proxies: Vec<Network>,
    pub(super) client_certificate: Option<RawClientCertificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) request_timeout: Setting,
    pub(super) amount: u32,
    pub(super) batch: usize,
    pub(super) body_bytes: usize,
    pub(super) bodies_bytes: Option<usize>,
    pub(super) body_bytes_per_second: u64,
    pub(super) queue: usize,
    pub(super) idempotency_bytes: u64,
    pub(super) requests_per_key: Option<Rate>,
    pub(super) requests_per_address: Option<Rate>,
    pub(super) failures_per_address: Option<Rate>,
}

/// The whole group is null by default, so the defaults of its members are here and, for readers, in config/default.yaml.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawOauth {
    pub(super) issuer: String,
    pub(super) audience: String,
    #[serde(default)]
    pub(super) jwks_path: Option<PathBuf>,
    #[serde(default)]
    pub(super) jwks_url: Option<String>,
    #[serde(default)]
    pub(super) algorithms: Option<Vec<String>>,
    #[serde(default)]
    pub(super) leeway: Option<Setting>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawClientCertificate {
    pub(super) header: String,
    pub(super) value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) format: RawLogFormat,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawTracing {
    pub(super) otlp_endpoint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawAudit {
    pub(super) path: Option<PathBuf>,
    pub(super) rotate_bytes: u64,
    pub(super) rotate_daily: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawLogFormat {
    Human,
    Json,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawStorageType {
    Sqlite,
    Redis,
    Postgres,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawSqlite {
    pub(super) path: PathBuf,
    pub(super) synchronous: RawSynchronous,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawSynchronous {
    Full,
    Normal,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawRedis {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) url: Option<String>,
    pub(super) sentinel: Option<RawSentinel>,
    pub(super) cluster: Option<RawCluster>,
    pub(super) tls: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) key_prefix: String,
    pub(super) persistence_strategy: RawPersistence,
    pub(super) replicas: u32,
    pub(super) connections: usize,
    pub(super) timeouts: RawRedisTimeouts,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawSentinel {
    pub(super) master: String,
    pub(super) nodes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawCluster {
    pub(super) nodes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawRedisTimeouts {
    pub(super) connect: Setting,
    pub(super) command: Setting,
    pub(super) replicas: Setting,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPostgres {
    pub(super) hosts: Vec<String>,
    pub(super) url: Option<String>,
    pub(super) tls: bool,
    pub(super) username: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
    pub(super) schema: String,
    pub(super) durability: RawDurability,
    pub(super) replicas: u32,
    pub(super) connections: usize,
    pub(super) timeouts: RawPostgresTimeouts,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawDurability {
    Checked,
    Unchecked,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPostgresTimeouts {
    pub(super) connect: Setting,
    pub(super) command: Setting,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "`append-fsync-always` or `disabled`, as a text or as the key of `true`")]
pub(super) enum RawPersistence {
    Name(RawPersistenceName),
    /// The older form: `persistence-strategy: { append-fsync-always: true }`.
    Map(RawPersistenceMap),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawPersistenceName {
    AppendFsyncAlways,
    Disabled,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPersistenceMap {
    #[serde(default)]
    pub(super) append_fsync_always: bool,
    #[serde(default)]
    pub(super) disabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPool {
    #[serde(default)]
    pub(super) api_key: Option<String>,
    pub(super) api_keys: Vec<RawApiKey>,
    pub(super) profile: Option<RawProfiles>,
    pub(super) public_url: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) size: u64,
    pub(super) bits: u64,
    pub(super) default_status: u64,
    pub(super) final_status: Option<u64>,
    pub(super) application_statuses: Vec<u8>,
    pub(super) formats: Vec<RawFormat>,
    pub(super) aggregation: bool,
    pub(super) open_lists: usize,
    pub(super) precreation: RawPrecreation,
    pub(super) prefetch: RawPrefetch,
    pub(super) quotas: RawQuotas,
    pub(super) reject_unallocated: bool,
    pub(super) update_interval: Setting,
    pub(super) list_lifetime: Setting,
    pub(super) reference_lifetime: Option<Setting>,
    pub(super) history: Option<RawHistory>,
    pub(super) ttl: Option<Setting>,
    pub(super) resign_after: Option<Setting>,
    pub(super) signer: RawSigner,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawQuotas {
    pub(super) lists: u64,
    pub(super) references_per_day: Option<u32>,
    pub(super) references_per_key_per_day: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawHistory {
    pub(super) retention: Setting,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPrecreation {
    pub(super) lists: usize,
    pub(super) check_delay: Setting,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPrefetch {
    pub(super) threshold: Option<u32>,
    pub(super) capacity: Option<u32>,
    pub(super) on_underflow: RawOnUnderflow,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawOnUnderflow {
    Delay,
    Fail,
}
