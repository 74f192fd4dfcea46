//! The API keys of a pool: plain texts or hashes, alone or with name, scopes and times.

use std::collections::HashMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use super::ConfigError;
use crate::base::clock::Timestamp;
use crate::model::api_key::{ApiKey, ApiKeyHash, Scope, Scopes};

/// The longest name of a key. Every line of the audit trail holds it.
const NAME_CHARS_MAX: usize = 64;

/// A key as written in the settings: the key alone, or an object with its name, scopes and times.
pub(super) struct RawApiKey(RawApiKeyFields);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawApiKeyFields {
    key: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    scopes: Option<Vec<RawScope>>,
    #[serde(default)]
    not_before: Option<Moment>,
    #[serde(default)]
    not_after: Option<Moment>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawScope {
    Allocate,
    Update,
    Read,
}

/// A time in RFC 3339 notation.
#[derive(Clone, Copy)]
struct Moment(Timestamp);

impl<'de> Deserialize<'de> for RawApiKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        // Not an untagged enum: its errors would not name the wrong key of an object.
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawApiKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an API key, or an object with `key`")
            }

            fn visit_str<E: de::Error>(self, key: &str) -> Result<RawApiKey, E> {
                Ok(RawApiKey::plain(key.to_owned()))
            }

            // Without this the text would be copied, and the copy that is left behind not wiped.
            fn visit_string<E: de::Error>(self, key: String) -> Result<RawApiKey, E> {
                Ok(RawApiKey::plain(key))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawApiKey, A::Error> {
                RawApiKeyFields::deserialize(MapAccessDeserializer::new(map)).map(RawApiKey)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = text.parse::<jiff::Timestamp>().ok();
        let millis = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        let expected = "a time with its zone, such as `2027-01-01T00:00:00Z`";
        let millis = millis.ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &expected))?;
        Ok(Self(Timestamp::from_millis(millis)))
    }
}

impl RawApiKey {
    fn plain(key: String) -> Self {
        Self(RawApiKeyFields { key, name: None, scopes: None, not_before: None, not_after: None })
    }
}

/// Checks the keys of one pool, given as `api-key` or as `api-keys`. `key` returns the full name of a setting.
pub(super) fn check(
    (single, several): (Option<String>, Vec<RawApiKey>),
    key: &dyn Fn(&str) -> String,
    keyless_allowed: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<ApiKey>, ConfigError> {
    if single.is_some() && !several.is_empty() {
        return Err(ConfigError::at(key("api-key"), "set `api-key` or `api-keys`, not both"));
    }
    if single.is_none() && several.is_empty() && !keyless_allowed {
        let why = "no one could write to this pool; make a key with `statuslist hash-key --generate` and put its hash here";
        return Err(ConfigError::at(key("api-keys"), why));
    }
    let given = single.map(RawApiKey::plain).into_iter().chain(several);
    let keys =
        given.map(|raw| check_one(raw.0, &key("api-keys"), warnings)).collect::<Result<Vec<_>, _>>()?;
    refuse_twins(&keys, &key("api-keys"))?;
    Ok(keys)
}

/// Refuses one key in two entries, because it is unclear which entry counts, and one name for two keys, because the audit
/// trail could not tell their callers apart.
fn refuse_twins(keys: &[ApiKey], setting: &str) -> Result<(), ConfigError> {
    let (mut hashes, mut names) = (HashMap::new(), HashMap::new());
    for (number, key) in (1..).zip(keys) {
        let name = key.name.as_str();
        if let Some((first, first_name)) = hashes.insert(key.hash.to_setting(), (number, name)) {
            let why = format!(
                "number {first} (`{first_name}`) and number {number} (`{name}`) are the same key; remove one of the entries"
            );
            return Err(ConfigError::at(setting, why));
        }
        if let Some(first) = names.insert(name, number) {
            let why = format!(
                "number {first} and number {number} have the same name `{name}`; give each key its own"
            );
            return Err(ConfigError::at(setting, why));
        }
    }
    Ok(())
}

fn check_one(raw: RawApiKeyFields, setting: &str, warnings: &mut Vec<String>) -> Result<ApiKey, ConfigError> {
    let refuse = |why: &str| Err(ConfigError::at(setting, why));
    let key = Zeroizing::new(raw.key);
    let hash = match ApiKeyHash::from_setting(&key) {
        Ok(Some(hash)) => hash,
        Ok(None) if key.is_empty() => return refuse("an API key is empty"),
        Ok(None) => {
            let advice = "replace it with its hash (`statuslist hash-key`)";
            warnings.push(format!("{setting}: an API key is in plain text; {advice}"));
            ApiKeyHash::of(&key)
        }
        Err(why) => return refuse(&why.to_string()),
    };
    let mut api_key = ApiKey::unlimited(hash);
    if let Some(name) = raw.name {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@/".contains(c);
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(allowed) {
            let allowed = "letters, digits and -_.@/";
            return refuse(&format!("the name of an API key is 1 to {NAME_CHARS_MAX} of {allowed}"));
        }
        api_key.name = name;
    }
    if let Some(scopes) = raw.scopes {
        if scopes.is_empty() {
            return refuse("`scopes` of an API key is empty; leave it out for all, or remove the key");
        }
        api_key.scopes = scopes.into_iter().map(Scope::from).collect::<Scopes>();
    }
    api_key.not_before = raw.not_before.map(|moment| moment.0);
    api_key.not_after = raw.not_after.map(|moment| moment.0);
    if api_key.not_before.zip(api_key.not_after).is_some_and(|(begin, end)| begin > end) {
        return refuse(&format!(
            "the key {} ends before it begins; change not-before or not-after",
            api_key.name
        ));
    }
    Ok(api_key)
}

impl From<RawScope> for Scope {
    fn from(raw: RawScope) -> Self {
        match raw {
            RawScope::Allocate => Self::Allocate,
            RawScope::Update => Self::Update,
            RawScope::Read => Self::Read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn keys(api_keys: &str) -> Result<Vec<ApiKey>, String> {
        let file = format!("status-list-pools: {{ a: {{ api-keys: {api_keys} }} }}");
        let config = Config::load(Some(&file), std::iter::empty()).map_err(|error| error.to_string())?;
        Ok(config.pools.into_values().next().unwrap().api_keys)
    }

    #[test]
    fn texts_and_objects_can_be_mixed() {
        let hash = ApiKeyHash::of("x").to_setting();
        let object = format!(
            "{{ key: '{hash}', name: ops-2026, scopes: [allocate, read], not-before: 2026-01-01T00:00:00Z, not-after: 2027-01-01T01:00:00+01:00 }}"
        );
        let keys = keys(&format!("[ plain, {object} ]")).unwrap();
        assert_eq!(keys[0], ApiKey::unlimited(ApiKeyHash::of("plain")));
        assert_eq!((keys[1].name.as_str(), &keys[1].hash), ("ops-2026", &ApiKeyHash::of("x")));
        assert!(keys[1].scopes.contains(Scope::Read) && !keys[1].scopes.contains(Scope::Update));
        assert_eq!(keys[1].not_before, Some(Timestamp::from_secs(1_767_225_600)));
        assert_eq!(keys[1].not_after, Some(Timestamp::from_secs(1_798_761_600)));
    }

    #[test]
    fn the_key_of_an_object_can_be_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), b"secret\n").unwrap();
        let keys = keys(&format!("[ {{ key-file: {} }} ]", file.display())).unwrap();
        assert_eq!(keys[0].hash, ApiKeyHash::of("secret"));
    }

    #[test]
    fn duplicate_keys_and_names_are_refused_and_both_are_named() {
        let check = |text: &str, expected: &[&str]| {
            let error = keys(text).unwrap_err();
            for part in expected {
                assert!(error.contains(part), "{text}: {error}");
            }
            assert!(!error.contains("hidden"), "{error}");
        };
        check(
            "[ other, { key: hidden1, name: ops }, { key: hidden2, name: ops } ]",
            &["status-list-pools.a.api-keys:", "number 2 and number 3", "`ops`"],
        );
        let hash = ApiKeyHash::of("hidden").to_setting();
        check(
            &format!("[ {{ key: hidden, name: first, scopes: [read] }}, other, '{hash}' ]"),
            &["number 1 (`first`) and number 3 (`key:", "are the same key"],
        );
        check("[ hidden, hidden ]", &["number 1", "number 2", "are the same key"]);
        assert!(keys("[ a, b, { key: c, name: ops }, { key: d, name: Ops } ]").is_ok(), "the control");
    }

    #[test]
    fn errors_name_the_fault_and_show_no_secret() {
        let check = |text: &str, expected: &[&str]| {
            let error = keys(text).unwrap_err();
            for part in expected {
                assert!(error.contains(part), "{text}: {error}");
            }
            assert!(!error.contains("hidden"), "{error}");
        };
        check("[ { key: hidden, scope: [read] } ]", &["api-keys[0].scope:", "did you mean `scopes`?"]);
        check("[ { key: hidden, scopes: [write] } ]", &["api-keys[0].scopes[0]", "`write`", "`allocate`"]);
        check("[ { key: hidden, scopes: [] } ]", &["`scopes`", "leave it out"]);
        check("[ { key: hidden, not-after: tomorrow } ]", &["api-keys[0].not-after", "2027-01-01T00:00:00Z"]);
        check("[ { key: hidden, not-after: 2027-01-01 } ]", &["api-keys[0].not-after"]);
        check(
            "[ { key: hidden, not-before: 2027-01-01T00:00:00Z, not-after: 2026-01-01T00:00:00Z } ]",
            &["ends before it begins"],
        );
        check("[ { key: hidden, name: 'a b' } ]", &["the name of an API key"]);
        check("[ { key: [hidden] } ]", &["put it in quotes"]);
        check("[ { name: a } ]", &["missing field `key`"]);
        check("[ [hidden] ]", &["put it in quotes"]);
        check("[ { key: 'sha256:hidden' } ]", &["hash-key"]);
        check("[ '' ]", &["empty"]);
    }
}
