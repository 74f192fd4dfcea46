//! Templates of pools, and the pools and API keys that operators made of them at run time.
//!
//! A pool of the store goes through the same checks as one of the settings: its settings are laid over those of its template, and
//! read and checked by the same code. A pool is defined in one place: one that the settings and the store have is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::layers::overlay;
use super::raw::RawPool;
use super::templates::{TEMPLATES, Tree};
use super::{Config, ConfigError, POOLS, PoolConfig};
use crate::base::clock::Timestamp;
use crate::model::api_key::{ApiKey, ApiKeyHash, Scope};
use crate::model::pool::PoolId;
use crate::model::registry::{RegisteredKey, RegisteredPool, Registry};
use crate::status_list::BaseUri;

/// How messages name the pools of the store.
const OF_STORE: &str = "pools";
/// What a single pool may have other than its template: all of it can change while the service runs.
const OF_EACH: [&str; 4] = ["issuer", "quotas", "reference-lifetime", "title"];

/// Checks each template as a pool of its name would be. What pools of it would have.
pub(super) fn check_templates(
    raw: BTreeMap<String, RawPool>,
    public_url: &BaseUri,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<PoolId, PoolConfig>, ConfigError> {
    let mut checked = BTreeMap::new();
    for (name, raw) in raw {
        let at = |setting: &str, why: &str| ConfigError::at(format!("{TEMPLATES}.{name}.{setting}"), why);
        if raw.api_key.is_some() || !raw.api_keys.is_empty() {
            let why = "a template has no keys: one key would write to every pool of it; make keys with `statuslist key create`";
            return Err(at("api-keys", why));
        }
        let pool = PoolConfig::check(TEMPLATES, &name, public_url, raw, true, warnings)?;
        if pool.signer.key.is_none() {
            let why = "must name a key: a development key would differ on every instance; make one with `statuslist generate-key`";
            return Err(at("signer", why));
        }
        checked.insert(pool.shape.id.clone(), pool);
    }
    Ok(checked)
}

impl Config {
    /// These settings with the pools and keys of `registry`, in place of those of an earlier one.
    pub fn with_registry(&self, registry: &Registry) -> Result<Self, ConfigError> {
        let base = self.base.clone().unwrap_or_else(|| Arc::new(self.clone()));
        let mut config = Self::clone(&base);
        self.refuse_missing_templates(registry)?;
        for (name, made) in &registry.pools {
            let (pool, title) = base.registered_pool(name, made)?;
            let id = pool.shape.id.clone();
            if let Some(title) = title {
                let key = format!("{OF_STORE}.{name}.title");
                config.explorer.show(&id, title, pool.start.aggregation, &key)?;
            }
            config.pools.insert(id, pool);
        }
        for (name, made) in &registry.keys {
            config.add_key(&base, name, made)?;
        }
        config.deleted_pools = registry.deleted.keys().filter_map(|name| name.parse().ok()).collect();
        config.base = Some(base);
        Ok(config)
    }

    /// Names every pool that has lost its template, by template.
    fn refuse_missing_templates(&self, registry: &Registry) -> Result<(), ConfigError> {
        let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, made) in &registry.pools {
            if self.templates.get(&made.template).is_none() {
                missing.entry(&made.template).or_default().push(name);
            }
        }
        let Some((template, pools)) = missing.into_iter().next() else { return Ok(()) };
        let known: Vec<_> = self.templates.names().collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let why = format!(
            "there is no template `{template}` (there are: {known}), and these pools of the store are made of it: {}; add it again",
            pools.join(", ")
        );
        Err(ConfigError::at(TEMPLATES, why))
    }

    /// The pool that was made so, and its title.
    fn registered_pool(
        &self,
        name: &str,
        made: &RegisteredPool,
    ) -> Result<(PoolConfig, Option<Value>), ConfigError> {
        let at = |setting: &str| format!("{OF_STORE}.{name}.{setting}");
        let id: PoolId = name.parse().map_err(|why| ConfigError::at(OF_STORE, format!("{why}")))?;
        if self.pools.contains_key(&id) {
            let why = format!(
                "the store has a pool of this name, made at run time of the template `{}`, and a pool is defined in one place: remove \
                 it here, or stop the service, and delete that one first",
                made.template
            );
            return Err(ConfigError::at(format!("{POOLS}.{name}"), why));
        }
        if self.retired_pools.contains(&id) {
            let why = format!(
                "names the pool {name}, which the store has; delete it with `statuslist pool delete`"
            );
            return Err(ConfigError::at("retired-pools", why));
        }
        let mut settings = made.settings.clone();
        if let Some(unknown) = settings.keys().find(|setting| !OF_EACH.contains(&setting.as_str())) {
            let why = format!("cannot differ from the template; only {} can", OF_EACH.join(", "));
            return Err(ConfigError::at(at(unknown), why));
        }
        let title = settings.remove("title");
        let template = self.templates.get(&made.template).cloned();
        let mut tree = template.unwrap_or_else(|| Tree(Value::Null));
        overlay(&mut tree.0, Value::Object(settings));
        let raw: RawPool = serde_path_to_error::deserialize(&tree.0).map_err(|error| {
            let path = error.path().to_string();
            ConfigError::at(at(&path), error.into_inner().to_string())
        })?;
        // The template was warned of already.
        let warnings = &mut Vec::new();
        let mut pool = PoolConfig::check(OF_STORE, name, &self.public_url, raw, true, warnings)?;
        pool.registered = true;
        pool.live.closed = made.closed.is_some();
        Ok((pool, title))
    }

    /// Adds a key to those of its pools that still exist.
    fn add_key(&mut self, base: &Self, name: &str, made: &RegisteredKey) -> Result<(), ConfigError> {
        let at = |why: String| ConfigError::at(format!("keys.{name}"), why);
        let hash = |text: &str| match ApiKeyHash::from_setting(text) {
            Ok(Some(hash)) => Ok(hash),
            _ => Err(at("the store has no hash of this key".to_owned())),
        };
        let mut scopes = Vec::new();
        for scope in &made.scopes {
            let known = Scope::from_name(scope);
            scopes.push(known.ok_or_else(|| at(format!("there is no scope `{scope}`")))?);
        }
        let end = made.not_after.map(Timestamp::from_millis);
        let current = (hash(&made.hash)?, end);
        let previous = made.previous.as_ref().map(|previous| {
            let until = Timestamp::from_millis(previous.not_after);
            hash(&previous.hash).map(|hash| (hash, Some(end.map_or(until, |end| end.min(until)))))
        });
        let previous = previous.transpose()?;
        for pool in made.pools.iter().filter_map(|pool| pool.parse::<PoolId>().ok()) {
            let mut of_settings = base.pools.get(&pool).into_iter().flat_map(|pool| &pool.api_keys);
            if of_settings.any(|key| key.name == name) {
                let why = format!(
                    "the name `{name}` is that of a key made at run time; give this one another, or end that one"
                );
                return Err(ConfigError::at(format!("{POOLS}.{pool}.api-keys"), why));
            }
            if !self.pools.contains_key(&pool) {
                continue;
            }
            for (hash, not_after) in previous.iter().chain([&current]) {
                let key = ApiKey {
                    hash: hash.clone(),
                    name: name.to_owned(),
                    scopes: scopes.iter().copied().collect(),
                    not_before: None,
                    not_after: *not_after,
                };
                self.registered_keys.push((pool.clone(), key));
            }
        }
        Ok(())
    }

    /// Whether a pool of the store, which has no settings any more, is given up knowingly.
    pub fn gives_up(&self, pool: &PoolId) -> bool {
        self.retired_pools.contains(pool) || self.deleted_pools.contains(pool)
    }

    /// What the `uri`s of all pools begin with, also of those that may yet be made of a template.
    pub fn bases(&self) -> Vec<BaseUri> {
        let pools = self.pools.values().map(|pool| pool.shape.public_url.clone());
        let mut bases: Vec<_> =
            pools.chain(self.of_templates.values().map(|pool| pool.shape.public_url.clone())).collect();
        bases.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        bases.dedup();
        bases
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SETTINGS: &str =
        "templates: { t: { bits: 2, size: 8000, quotas: { lists: 5 }, signer: { pem: { key: k.pem } } } }
status-list-pools: { fixed: { api-keys: [ { key: x, name: one } ] } }";

    fn load(settings: &str) -> Result<Config, String> {
        Config::load(Some(settings), std::iter::empty()).map_err(|error| error.to_string())
    }

    /// A registry with the pool `p` of the template `t`, and the key `k` of `p` and `fixed`.
    fn registry(settings: Value) -> Registry {
        let hash = |key: &str| ApiKeyHash::of(key).to_setting();
        let value = json!({
            "pools": { "p": { "template": "t", "settings": settings, "created": 1, "version": 1 } },
            "deleted": { "old": 1 },
            "keys": { "k": {
                "hash": hash("new"), "previous": { "hash": hash("old"), "not-after": 9 },
                "scopes": ["read"], "pools": ["p", "fixed", "gone"], "created": 1,
            } },
        });
        serde_json::from_value(value).unwrap()
    }

    fn with(settings: &str, registry: &Registry) -> Result<Config, String> {
        load(settings)?.with_registry(registry).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pool_has_the_settings_of_its_template_and_its_own() {
        let own = json!({ "issuer": "https://p", "title": "P", "quotas": { "references-per-day": 7 } });
        let config = with(SETTINGS, &registry(own)).unwrap();
        let id: PoolId = "p".parse().unwrap();
        let pool = &config.pools[&id];
        assert!(pool.registered && pool.api_keys.is_empty() && pool.shape.capacity.entries() == 8000);
        assert_eq!((pool.live.quotas.lists, pool.live.quotas.references_per_day), (5, Some(7)));
        assert_eq!(pool.live.issuer.as_deref(), Some("https://p"));
        assert_eq!(config.explorer.pools[&id].title.de, "P");
        let keys: Vec<_> = config.registered_keys.iter().map(|(pool, key)| (pool.as_str(), key)).collect();
        assert_eq!(keys.iter().map(|(pool, _)| *pool).collect::<Vec<_>>(), ["p", "p", "fixed", "fixed"]);
        assert_eq!(keys[0].1.not_after, Some(Timestamp::from_millis(9)), "the key before its rotation");
        assert!(keys[1].1.not_after.is_none() && !keys[1].1.scopes.contains(Scope::Update));
        assert!(config.gives_up(&"old".parse().unwrap()));
        let without = config.with_registry(&Registry::default()).unwrap();
        assert!(
            without.pools.len() == 1
                && without.registered_keys.is_empty()
                && without.explorer.pools.is_empty()
        );
        assert_eq!(without.needs_restart(&config), Vec::<String>::new(), "it comes while the service runs");
        assert_eq!(config.needs_restart(&without), Vec::<String>::new(), "and goes");
    }

    #[test]
    fn the_checks_are_those_of_the_settings() {
        for (own, expected) in [
            (json!({ "bits": 1 }), "pools.p.bits: cannot differ from the template"),
            (json!({ "quotas": { "lists": 0 } }), "pools.p.quotas.lists: must be at least 1"),
            (json!({ "quotas": { "list": 1 } }), "pools.p.quotas.list"),
            (json!({ "reference-lifetime": 5 }), "pools.p.reference-lifetime"),
            (json!({ "title": "" }), "pools.p.title"),
        ] {
            let error = with(SETTINGS, &registry(own)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_the_store_has_and_the_settings_contradict_is_refused_with_what_to_do() {
        for (from, to, expected) in [
            ("fixed:", "p:", &["status-list-pools.p:", "template `t`", "delete"][..]),
            ("templates: { t:", "templates: { other:", &["no template `t`", "other", ": p;"]),
            ("name: one", "name: k", &["status-list-pools.fixed.api-keys:", "`k`"]),
            ("templates:", "retired-pools: [p]\ntemplates:", &["retired-pools:", "statuslist pool delete"]),
        ] {
            let error = with(&SETTINGS.replace(from, to), &registry(json!({}))).unwrap_err();
            for part in expected {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn a_template_names_a_key_and_no_callers_and_operators_have_an_address() {
        for (from, to, expected) in [
            (", signer: { pem: { key: k.pem } }", "", "templates.t.signer: must name a key"),
            ("bits: 2", "api-key: y", "templates.t.api-keys: a template has no keys"),
            ("bits: 2", "bits: 3", "templates.t.bits"),
            ("bits: 2", "bit: 2", "templates.t.bit: there is no such setting"),
            (
                "templates:",
                "admin-api-keys: [y]\ntemplates:",
                "admin-api-keys: these keys work only on an address",
            ),
            (
                "templates:",
                "server: { management-listen: \"127.0.0.1:1\" }\nadmin-api-keys: [ { key: y, scopes: [read] } ]\ntemplates:",
                "admin-api-keys: a key here has the scope `admin` and no other",
            ),
        ] {
            let error = load(&SETTINGS.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let only =
            load("templates: { t: { signer: { pem: { key: k.pem } } } }\nstatus-list-pools: {}").unwrap();
        assert!(only.pools.is_empty() && !format!("{:?}", only.templates).contains("k.pem"));
    }
}
