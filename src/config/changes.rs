//! What differs between two versions of the settings, and whether a running service can take it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::Config;

/// What a running service takes, with everything below it; `*` is any name. Everything else needs a restart.
const LIVE: &[&str] = &[
    "limits.failures-per-address",
    "limits.requests-per-address",
    "limits.requests-per-key",
    "oauth",
    "publish.keys-max-age",
    "server.client-certificate",
    "server.trusted-proxies",
    "status-list-pools.*.api-key",
    "status-list-pools.*.api-keys",
    "status-list-pools.*.issuer",
    "status-list-pools.*.list-lifetime",
    "status-list-pools.*.open-lists",
    "status-list-pools.*.precreation.lists",
    "status-list-pools.*.prefetch",
    "status-list-pools.*.reference-lifetime",
    "status-list-pools.*.resign-after",
    "status-list-pools.*.signer",
    "status-list-pools.*.ttl",
    "status-list-pools.*.update-interval",
];

/// The settings as they were written, defaults filled in. They hold secrets, so they are never shown.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) tree: Value,
    /// The files that settings were read from by their name with `-file`.
    pub(super) files: Vec<PathBuf>,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(..)")
    }
}

impl Config {
    /// The settings that differ in `newer` and that a running service cannot take.
    pub fn needs_restart(&self, newer: &Self) -> Vec<String> {
        let mut changed = BTreeSet::new();
        differences(&self.written.tree, &newer.written.tree, String::new(), &mut changed);
        changed.into_iter().filter(|path| !is_live(path)).collect()
    }

    /// Every file that these settings depend on, but for the settings file itself.
    pub fn files(&self) -> Vec<PathBuf> {
        let keys = self.pools.values().flat_map(|pool| pool.signer.files()).map(|(_, path, _)| path.clone());
        self.written.files.iter().cloned().chain(keys).collect()
    }
}

/// Puts the path of each value into `changed` that is not in both, or not the same.
fn differences(old: &Value, new: &Value, path: String, changed: &mut BTreeSet<String>) {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        if old != new {
            changed.insert(path);
        }
        return;
    };
    let names = |one: &Map<String, Value>| one.keys().cloned().collect::<BTreeSet<_>>();
    for name in names(old).union(&names(new)) {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let of = |side: &Map<String, Value>| side.get(name).cloned().unwrap_or_default();
        differences(&of(old), &of(new), below, changed);
    }
}

fn is_live(path: &str) -> bool {
    LIVE.iter().any(|live| {
        let mut segments = path.split('.');
        live.split('.')
            .all(|expected| segments.next().is_some_and(|found| expected == "*" || expected == found))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pool: &str, rest: &str) -> Config {
        let file = format!("{rest}\nstatus-list-pools: {{ a: {{ api-key: secret, {pool} }} }}");
        Config::load(Some(&file), std::iter::empty()).unwrap()
    }

    #[test]
    fn what_cannot_be_taken_is_named_and_nothing_else() {
        let old = load("", "");
        for (pool, rest, expected) in [
            ("", "", &[][..]),
            ("list-lifetime: 12h, ttl: 5m, update-interval: 5s, issuer: x", "", &[]),
            ("prefetch: { capacity: 7, threshold: 3 }, open-lists: 3", "", &[]),
            ("signer: { pem: { key: other.pem } }", "publish: { keys-max-age: 5m }", &[]),
            ("bits: 2", "", &["status-list-pools.a.bits"]),
            (
                "history: { retention: 1d }",
                "server: { listen: 127.0.0.1:1 }",
                &["server.listen", "status-list-pools.a.history"],
            ),
        ] {
            assert_eq!(old.needs_restart(&load(pool, rest)), expected, "{pool} {rest}");
        }
    }

    #[test]
    fn a_pool_more_or_less_needs_a_restart() {
        let two = "status-list-pools: { a: { api-key: secret }, b: { api-key: secret } }";
        let two = Config::load(Some(two), std::iter::empty()).unwrap();
        for (old, new) in [(&load("", ""), &two), (&two, &load("", ""))] {
            assert_eq!(old.needs_restart(new), ["status-list-pools.b"]);
        }
    }

    #[test]
    fn another_content_of_a_secrets_file_counts_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let with = |password: &str| {
            std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), password.as_bytes())
                .unwrap();
            load("", &format!("redis: {{ password-file: {} }}", file.display()))
        };
        let (old, new) = (with("hidden"), with("other"));
        assert_eq!(old.needs_restart(&new), ["redis.password"]);
        assert_eq!(old.files(), [file]);
        assert!(!format!("{old:?}").contains("hidden"));
    }
}
