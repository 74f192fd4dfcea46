//! What operators made at run time: pools of templates, and API keys. The store keeps it as one text; `config/` makes pools of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// All that was made at run time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Registry {
    /// The pools by name.
    #[serde(default)]
    pub pools: BTreeMap<String, RegisteredPool>,
    /// Pools that were deleted, and when, in milliseconds since 1970. Their names are never used again: their lists are in credentials.
    #[serde(default)]
    pub deleted: BTreeMap<String, u64>,
    /// The API keys by name.
    #[serde(default)]
    pub keys: BTreeMap<String, RegisteredKey>,
}

/// A pool that was made of a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RegisteredPool {
    /// The template, by its name in the settings.
    pub template: String,
    /// The settings that differ from the template, named as there, and `title`.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// When it was made, in milliseconds since 1970.
    pub created: u64,
    /// Grows with each change.
    pub version: u64,
    /// Since when it hands out no references, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<u64>,
}

/// An API key that was made at run time. Never the key itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RegisteredKey {
    /// The hash of the key, as in the settings.
    pub hash: String,
    /// The key before the latest rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousKey>,
    /// The names of its scopes.
    pub scopes: Vec<String>,
    /// The pools in which it has them.
    pub pools: Vec<String>,
    /// After this time it counts as unknown, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
    /// When it was made, likewise.
    pub created: u64,
}

/// A key that was replaced and is still valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PreviousKey {
    /// Its hash.
    pub hash: String,
    /// After this time it counts as unknown, in milliseconds since 1970.
    pub not_after: u64,
}

impl Registry {
    /// Reads the text of a store; an empty one is an empty registry.
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        if text.is_empty() { Ok(Self::default()) } else { serde_json::from_str(text) }
    }

    /// The text for a store.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("names, texts and numbers always serialize")
    }
}

impl RegisteredPool {
    /// Changes its settings by a JSON Merge Patch (RFC 7396): null removes a setting, so that the template's counts again.
    pub fn patch(&mut self, patch: &Map<String, Value>) {
        merge(&mut self.settings, patch);
    }
}

fn merge(settings: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => _ = settings.remove(name),
            Value::Object(below) => {
                let setting = settings.entry(name.clone()).or_insert(Value::Null);
                if !setting.is_object() {
                    *setting = Value::Object(Map::new());
                }
                if let Value::Object(setting) = setting {
                    merge(setting, below);
                }
            }
            other => _ = settings.insert(name.clone(), other.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_sets_removes_and_descends() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let mut pool = RegisteredPool {
            template: "t".to_owned(),
            settings: object(json!({ "issuer": "a", "quotas": { "lists": 1 } })),
            created: 0,
            version: 1,
            closed: None,
        };
        pool.patch(&object(json!({ "issuer": null, "title": "T", "quotas": { "references-per-day": 5 } })));
        let expected = json!({ "title": "T", "quotas": { "lists": 1, "references-per-day": 5 } });
        assert_eq!(Value::Object(pool.settings.clone()), expected);
        let registry =
            Registry { pools: [("p".to_owned(), pool)].into_iter().collect(), ..Registry::default() };
        assert_eq!(Registry::from_text(&registry.to_text()).unwrap(), registry);
        assert_eq!(Registry::from_text("").unwrap(), Registry::default());
        assert!(Registry::from_text("{\"lists\":1}").is_err(), "of a newer version");
    }
}
