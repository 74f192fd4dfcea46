//! The differences between two versions of the settings, and whether a running service can apply them.
//!
//! Every field of every section is listed here as `live` or with the name of its setting, and the compiler refuses a
//! section with a missing field. So no new setting can be forgotten, and none is applied that only counts at the start.

use std::collections::BTreeSet;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::{
    AuditConfig, Config, InstanceConfig, Limits, PoolConfig, PoolStart, PostgresConfig, PublishConfig,
    RedisConfig, ServerConfig, StoreConfig, Telemetry,
};
use crate::model::pool::PoolShape;

/// Names of settings that differ.
type Names = BTreeSet<String>;

/// Adds to `$names` the settings of a section that differ between `$old` and `$new` and are not `live`.
macro_rules! differences {
    ($names:ident, $old:expr, $new:expr, $prefix:expr, $type:ident { $($field:ident: $kind:tt),* $(,)? }) => {{
        let (old, new, prefix): (&$type, &$type, &str) = ($old, $new, $prefix);
        // Names every field; otherwise it does not compile.
        let $type { $($field: _),* } = old;
        $(differences!(@field $names, old.$field, new.$field, prefix, $kind);)*
    }};
    (@field $names:ident, $old:expr, $new:expr, $prefix:ident, live) => {};
    (@field $names:ident, $old:expr, $new:expr, $prefix:ident, $setting:literal) => {
        if $old != $new {
            $names.insert(format!("{}{}", $prefix, $setting));
        }
    };
}

impl Config {
    /// The settings that differ in `newer` and that a running service cannot apply.
    pub fn needs_restart(&self, newer: &Self) -> Vec<String> {
        let mut names = Names::new();
        // Sections with settings of their own follow below; warnings, files and places follow from the other settings.
        differences!(
            names,
            self,
            newer,
            "",
            Config {
                public_url: "public-url",
                server: live,
                limits: live,
                telemetry: live,
                audit: live,
                access: live,
                store: live,
                instance: live,
                publish: live,
                pools: live,
                explorer: live,
                retired_pools: "retired-pools",
                lenient: "compatibility",
                warnings: live,
                templates: live,
                of_templates: live,
                admin_keys: live,
                registered_keys: live,
                deleted_pools: live,
                base: live,
                secret_files: live,
                places: live,
            }
        );
        differences!(
            names,
            &self.server,
            &newer.server,
            "server.",
            ServerConfig {
                listen: "listen",
                api_listen: "api-listen",
                management_listen: "management-listen",
                workers: "workers",
                shutdown_grace: "shutdown-grace",
                max_connections: "max-connections",
                connections_per_address: "connections-per-address",
                serve_status_lists: live,
            }
        );
        if self.server.serve_status_lists != newer.server.serve_status_lists {
            names.insert("serve-status-lists".to_owned());
        }
        differences!(
            names,
            &self.limits,
            &newer.limits,
            "limits.",
            Limits {
                request_timeout: "request-timeout",
                amount_max: "amount",
                batch_max: "batch",
                body_bytes_max: "body-bytes",
                bodies_bytes_max: "bodies-bytes",
                body_bytes_per_second_min: "body-bytes-per-second",
                queue_max: "queue",
                idempotency_bytes_max: "idempotency-bytes",
            }
        );
        differences!(
            names,
            &self.telemetry,
            &newer.telemetry,
            "",
            Telemetry { format: "log.format", otlp_endpoint: "tracing.otlp-endpoint" }
        );
        differences!(
            names,
            &self.instance,
            &newer.instance,
            "",
            InstanceConfig { directory: "instance-directory", marks: "high-water-marks" }
        );
        differences!(
            names,
            &self.publish,
            &newer.publish,
            "",
            PublishConfig {
                storage_directory: "storage-directory",
                key_directory: "key-directory",
                role: "publish.role",
                keys_max_age: live,
                sinks: "publish.sinks",
            }
        );
        match (&self.audit, &newer.audit) {
            (Some(old), Some(new)) => differences!(
                names,
                old,
                new,
                "audit.",
                AuditConfig { path: "path", rotate_bytes: "rotate-bytes", rotate_daily: "rotate-daily" }
            ),
            (None, None) => {}
            _ => _ = names.insert("audit.path".to_owned()),
        }
        self.store.differences(&newer.store, &mut names);
        let ids: BTreeSet<_> = self.pools.keys().chain(newer.pools.keys()).collect();
        for id in ids {
            match (self.pools.get(id), newer.pools.get(id)) {
                (Some(old), Some(new)) => old.differences(new, &mut names),
                // Pools of the store come and go while the service runs.
                (Some(only), None) | (None, Some(only)) if only.registered => {}
                _ => _ = names.insert(format!("status-list-pools.{id}")),
            }
        }
        // The paths of the lists are mounted at the start.
        if newer.of_templates.values().any(|pool| !self.bases().contains(&pool.shape.public_url)) {
            names.insert("templates.*.public-url".to_owned());
        }
        names.into_iter().collect()
    }

    /// Every file that these settings depend on, except the settings file itself.
    pub fn files(&self) -> Vec<PathBuf> {
        let pools = self.pools.values().chain(self.of_templates.values());
        let keys = pools.flat_map(|pool| pool.signer.files()).map(|(_, path, _)| path.clone());
        self.secret_files.iter().cloned().chain(keys).collect()
    }
}

impl StoreConfig {
    fn differences(&self, newer: &Self, names: &mut Names) {
        match (self, newer) {
            (
                Self::Sqlite { path, synchronous },
                Self::Sqlite { path: new_path, synchronous: new_synchronous },
            ) => {
                if path != new_path {
                    names.insert("sqlite.path".to_owned());
                }
                if synchronous != new_synchronous {
                    names.insert("sqlite.synchronous".to_owned());
                }
            }
            (Self::Redis(old), Self::Redis(new)) => {
                differences!(
                    names,
                    old,
                    new,
                    "redis.",
                    RedisConfig {
                        target: "host (or port, url, sentinel, cluster)",
                        tls: "tls",
                        username: "username",
                        password: live,
                        database: "database",
                        key_prefix: "key-prefix",
                        persistence: "persistence-strategy",
                        replicas: "replicas",
                        connections: "connections",
                        connect_timeout: "timeouts.connect",
                        command_timeout: "timeouts.command",
                        replica_timeout: "timeouts.replicas",
                    }
                );
                if !same(old.password.as_ref(), new.password.as_ref()) {
                    names.insert("redis.password".to_owned());
                }
            }
            (Self::Postgres(old), Self::Postgres(new)) => {
                differences!(
                    names,
                    old,
                    new,
                    "postgres.",
                    PostgresConfig {
                        hosts: "hosts (or url)",
                        tls: "tls",
                        username: "username",
                        password: live,
                        database: "database",
                        schema: "schema",
                        durability: "durability",
                        replicas: "replicas",
                        connections: "connections",
                        connect_timeout: "timeouts.connect",
                        command_timeout: "timeouts.command",
                    }
                );
                if !same(old.password.as_ref(), new.password.as_ref()) {
                    names.insert("postgres.password".to_owned());
                }
            }
            _ => _ = names.insert("storage-type".to_owned()),
        }
    }
}

fn same(one: Option<&SecretString>, other: Option<&SecretString>) -> bool {
    one.map(ExposeSecret::expose_secret) == other.map(ExposeSecret::expose_secret)
}

impl PoolConfig {
    fn differences(&self, newer: &Self, names: &mut Names) {
        let prefix = format!("status-list-pools.{}.", self.shape.id);
        // Names every field: shape and start are compared below, the others are live.
        let PoolConfig { shape: _, start: _, live: _, api_keys: _, signer: _, registered: _ } = self;
        // The URL is compared once, for all pools.
        differences!(
            names,
            &self.shape,
            &newer.shape,
            &prefix,
            PoolShape {
                id: live,
                public_url: "public-url",
                capacity: live,
                default_status: "default-status",
                final_status: "final-status",
                statuses: live,
            }
        );
        let (old, new) = (&self.shape.capacity, &newer.shape.capacity);
        let bits_differ = old.bits() != new.bits();
        // The set of statuses follows from the bits as well.
        let statuses_differ = self.shape.statuses != newer.shape.statuses && !bits_differ;
        let others = [
            ("bits", bits_differ),
            ("size", old.entries() != new.entries()),
            ("application-statuses", statuses_differ),
        ];
        let differing = others.into_iter().filter(|(_, differs)| *differs);
        names.extend(differing.map(|(setting, _)| format!("{prefix}{setting}")));
        differences!(
            names,
            &self.start,
            &newer.start,
            &prefix,
            PoolStart {
                profiles: "profile",
                formats: "formats",
                aggregation: "aggregation",
                check_delay: "precreation.check-delay",
                reject_unallocated: "reject-unallocated",
                history: "history",
            }
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pool: &str, rest: &str) -> Config {
        let file = format!("{rest}\nstatus-list-pools: {{ a: {{ api-key: secret, {pool} }} }}");
        Config::load(Some(&file), std::iter::empty()).unwrap()
    }

    #[test]
    fn exactly_the_settings_that_need_a_restart_are_named() {
        let old = load("", "");
        for (pool, rest, expected) in [
            ("", "", &[][..]),
            ("list-lifetime: 12h, ttl: 5m, update-interval: 5s, issuer: x", "", &[]),
            ("prefetch: { capacity: 7, threshold: 3 }, open-lists: 3", "", &[]),
            ("quotas: { lists: 7, references-per-day: 8, references-per-key-per-day: 9 }", "", &[]),
            ("signer: { pem: { key: other.pem } }", "publish: { keys-max-age: 5m }", &[]),
            ("bits: 2", "", &["status-list-pools.a.bits"]),
            (
                "history: { retention: 1d }",
                "server: { listen: 127.0.0.1:1 }\npublic-url: http://localhost:8090/lists",
                &["server.listen", "status-list-pools.a.history"],
            ),
        ] {
            assert_eq!(old.needs_restart(&load(pool, rest)), expected, "{pool} {rest}");
        }
    }

    #[test]
    fn adding_or_removing_a_pool_needs_a_restart() {
        let two = "status-list-pools: { a: { api-key: secret }, b: { api-key: secret } }";
        let two = Config::load(Some(two), std::iter::empty()).unwrap();
        for (old, new) in [(&load("", ""), &two), (&two, &load("", ""))] {
            assert_eq!(old.needs_restart(new), ["status-list-pools.b"]);
        }
    }

    #[test]
    fn a_changed_secrets_file_counts_and_its_content_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let with = |password: &str| {
            std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), password.as_bytes())
                .unwrap();
            load("", &format!("storage-type: redis\nredis: {{ password-file: {} }}", file.display()))
        };
        let (old, new) = (with("hidden"), with("other"));
        assert_eq!(old.needs_restart(&new), ["redis.password"]);
        assert_eq!(old.files(), [file]);
        assert!(!format!("{old:?}").contains("hidden"));
    }
}
