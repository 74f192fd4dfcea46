//! Settings in layers: the built-in defaults, the operator's file, the environment. Merged as trees, then read once, so
//! that a missing key takes its default and an error names an unknown one.

use std::path::PathBuf;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::raw::RawConfig;
use super::{ConfigError, profile};

const DEFAULTS: &str = include_str!("../../config/default.yaml");
const ENVIRONMENT_PREFIX: &str = "STATUSLIST__";
const POOLS: &str = "status-list-pools";
/// The pool of the defaults. Every other pool takes the settings that it leaves out from it.
pub(super) const TEMPLATE_POOL: &str = "demo";

/// Settings that are always texts, whatever they look like.
const TEXTS: [&str; 7] = ["api-key", "audience", "password", "pin", "eku", "kid", "issuer"];

/// The merged settings, and warnings for the operator.
pub(super) struct Layers {
    pub(super) raw: RawConfig,
    pub(super) warnings: Vec<String>,
    /// The files that settings with a name in `-file` were read from.
    pub(super) secret_files: Vec<PathBuf>,
}

pub(super) fn merge(
    file: Option<&str>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Layers, ConfigError> {
    let mut warnings = Vec::new();
    let mut tree = parse("the built-in defaults", DEFAULTS)?;
    let template = tree[POOLS][TEMPLATE_POOL].clone();
    if let Some(file) = file {
        let mut given = unwrap_app(parse("the settings file", file)?, &mut warnings);
        if let Some(pools) = given.as_object_mut().and_then(|given| given.remove(POOLS)) {
            tree[POOLS] = pools;
        }
        overlay(&mut tree, given);
    }
    let mut overridden = Vec::new();
    for (name, value) in environment {
        let value = Zeroizing::new(value);
        if let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) {
            let setting = set(&mut tree, &name, path, &value)?;
            overridden.push(Override { setting, variable: name });
        }
    }
    tree[POOLS] = with_defaults(tree[POOLS].take(), &template)?;
    let mut files = Vec::new();
    read_secret_files(&mut tree, "", &mut files)?;
    Ok(Layers { raw: read(tree, &overridden)?, warnings, secret_files: files })
}

fn parse(origin: &'static str, yaml: &str) -> Result<Value, ConfigError> {
    let value: Option<Value> = serde_saphyr::from_str_with_options(yaml, yaml_options())
        .map_err(|error| ConfigError::Yaml { origin, why: without_quotes(&error.to_string()) })?;
    match value {
        None | Some(Value::Null) => Ok(Value::Object(Map::new())),
        Some(object @ Value::Object(_)) => Ok(object),
        Some(_) => Err(ConfigError::Yaml { origin, why: "expected keys and values at the top".to_owned() }),
    }
}

/// As in YAML 1.2, only `true` and `false` are booleans: `y` and `on` are texts.
fn yaml_options() -> serde_saphyr::Options {
    // Without the faulty lines, which may hold a secret.
    serde_saphyr::options! { strict_booleans: true, with_snippet: false }
}

/// Leaves out what a message quotes: it may be a secret.
fn without_quotes(message: &str) -> String {
    let (mut kept, mut quote, mut before) = (String::new(), None, ' ');
    for character in message.chars() {
        match quote {
            // An apostrophe within a word quotes nothing.
            None if matches!(character, '`' | '"' | '\'') && !before.is_alphanumeric() => {
                quote = Some(character);
                kept.push('…');
            }
            None => kept.push(character),
            Some(end) if character == end => quote = None,
            Some(_) => {}
        }
        before = character;
    }
    kept
}

/// A setting that an environment variable overrides.
struct Override {
    /// Its path.
    setting: String,
    /// The variable's name.
    variable: String,
}

impl Override {
    /// Whether the setting `key` is this one, or a part of it.
    fn holds(&self, key: &str) -> bool {
        let rest = key.strip_prefix(self.setting.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

/// The original service keeps its settings under `app`, beside those of its framework.
fn unwrap_app(mut given: Value, warnings: &mut Vec<String>) -> Value {
    let Some(app) = given.as_object_mut().and_then(|given| given.remove("app")) else { return given };
    let others: Vec<_> = given.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    if !others.is_empty() {
        warnings.push(format!(
            "only the settings under `app` are used; ignored beside it: {}",
            others.join(", ")
        ));
    }
    app
}

fn with_defaults(pools: Value, template: &Value) -> Result<Value, ConfigError> {
    let Value::Object(pools) = pools else {
        return Err(ConfigError::at(POOLS, "must hold one entry for each pool, by its name"));
    };
    let filled = pools.into_iter().map(|(id, given)| {
        let mut pool = template.clone();
        overlay(&mut pool, profile::defaults(&given));
        overlay(&mut pool, given);
        (id, pool)
    });
    Ok(Value::Object(filled.collect()))
}

fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// Sets the value at `path`: `__` goes one level down, `_` stands for `-` (or for itself, in the name of a pool). Returns the setting.
fn set(tree: &mut Value, name: &str, path: &str, value: &str) -> Result<String, ConfigError> {
    let mut node = tree;
    let mut last = String::new();
    let mut setting = Vec::new();
    for part in path.split("__") {
        if node.is_null() {
            *node = Value::Object(Map::new());
        }
        let Value::Object(map) = node else {
            return Err(ConfigError::at(
                name,
                "goes deeper than the settings do; two underscores go one level down",
            ));
        };
        let wanted = part.to_ascii_lowercase();
        let existing = map.keys().find(|key| key.replace('-', "_") == wanted.replace('-', "_")).cloned();
        last = existing.unwrap_or_else(|| wanted.replace('_', "-"));
        node = map.entry(last.clone()).or_insert(Value::Null);
        setting.push(last.clone());
    }
    let text = || Value::String(value.to_owned());
    let value = match TEXTS.contains(&last.as_str()) {
        // A key may look like a number, or contain what YAML treats as a comment.
        true => text(),
        false => serde_saphyr::from_str_with_options(value, yaml_options()).unwrap_or_else(|_| text()),
    };
    overlay(node, value);
    Ok(setting.join("."))
}

/// `api-key-file: /run/secrets/key` sets `api-key` to the content of that file.
fn read_secret_files(node: &mut Value, path: &str, files: &mut Vec<PathBuf>) -> Result<(), ConfigError> {
    if let Value::Array(entries) = node {
        let parent = path.trim_end_matches('.');
        let mut entries = entries.iter_mut().enumerate();
        return entries
            .try_for_each(|(n, entry)| read_secret_files(entry, &format!("{parent}[{n}]."), files));
    }
    let Value::Object(map) = node else { return Ok(()) };
    for (key, value) in map.iter_mut() {
        read_secret_files(value, &format!("{path}{key}."), files)?;
    }
    let from_files: Vec<_> = map.keys().filter(|key| key.ends_with("-file")).cloned().collect();
    for key in from_files {
        let file = map.remove(&key).unwrap_or_default();
        let Value::String(file) = file else {
            return Err(ConfigError::at(format!("{path}{key}"), "must be the path of a file"));
        };
        let content = std::fs::read_to_string(&file).map(Zeroizing::new).map_err(|error| {
            ConfigError::at(format!("{path}{key}"), format!("cannot read {file}: {error}"))
        })?;
        files.push(file.into());
        map.insert(key.trim_end_matches("-file").to_owned(), Value::String(content.trim().to_owned()));
    }
    Ok(())
}

fn read(tree: Value, overridden: &[Override]) -> Result<RawConfig, ConfigError> {
    serde_path_to_error::deserialize(tree).map_err(|error| {
        let (key, why) = (error.path().to_string(), error.into_inner().to_string());
        let variable = overridden.iter().find(|one| one.holds(&key)).map(|one| &one.variable);
        match unknown_field(&why) {
            Some((unknown, known)) => {
                let parent = key.strip_suffix(unknown).unwrap_or(&key);
                let nearest = known.iter().max_by(|a, b| {
                    strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown))
                });
                let advice = nearest.map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"));
                ConfigError::at(format!("{parent}{unknown}"), format!("there is no such setting{advice}"))
            }
            // The faulty value may be the secret itself, and messages end up in logs.
            None if holds_a_secret(&key) && !why.starts_with("missing field") => {
                ConfigError::at(key, "must be a text; put it in quotes")
            }
            None => match variable {
                None => ConfigError::at(key, why),
                // Nor is the value of a variable shown: with a wrong name it may be the secret of another.
                Some(variable) => {
                    let expected =
                        why.rsplit_once(", expected ").map_or("another value", |(_, expected)| expected);
                    ConfigError::at(
                        key,
                        format!("the value of {variable} cannot be used: it must be {expected}"),
                    )
                }
            },
        }
    })
}

fn holds_a_secret(key: &str) -> bool {
    // The other settings of an API key are not secret.
    let harmless = ["name", "scopes", "not-before", "not-after"];
    let last = key.rsplit('.').next().unwrap_or(key);
    let within_api_key = key.contains("api-keys[");
    ["api-key", "password", "access-key", ".pin"].iter().any(|secret| key.contains(secret))
        && !(within_api_key && harmless.contains(&last.split('[').next().unwrap_or(last)))
}

/// Splits serde's "unknown field `a`, expected one of `b`, `c`". The test below pins its form.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(file: &str, environment: &[(&str, &str)]) -> Result<Layers, ConfigError> {
        merge(Some(file), environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn unknown_key_is_named_with_the_nearest_known_one() {
        let check = |file: &str, expected: &str| {
            let error = merged(file, &[]).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("public-uri: http://x", "public-uri: there is no such setting; did you mean `public-url`?");
        check(
            "status-list-pools: { a: { update-intervall: 5s } }",
            "status-list-pools.a.update-intervall: there is no such setting; did you mean `update-interval`?",
        );
        check("status-list-pools: { a: { prefetch: { treshold: 5 } } }", "did you mean `threshold`?");
    }

    #[test]
    fn wrong_type_names_its_key() {
        let error = merged("status-list-pools: { a: { size: many } }", &[]).err().unwrap().to_string();
        assert!(error.starts_with("status-list-pools.a.size: invalid type"), "{error}");
        let error =
            merged("status-list-pools: { a: { update-interval: 5 } }", &[]).err().unwrap().to_string();
        assert!(error.contains("a duration with its unit, such as `10s`"), "{error}");
    }

    #[test]
    fn environment_overrides_the_file() {
        let layers = merged(
            "status-list-pools: { my_pool: { size: 800 } }\npublic-url: http://file",
            &[
                ("STATUSLIST__PUBLIC_URL", "http://environment"),
                ("STATUSLIST__STATUS_LIST_POOLS__MY_POOL__UPDATE_INTERVAL", "5s"),
                ("STATUSLIST__STATUS_LIST_POOLS__MY_POOL__FINAL_STATUS", "1"),
                ("STATUSLIST__STATUS_LIST_POOLS__MY_POOL__API_KEYS", "[a, b]"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        let pool = &layers.raw.status_list_pools["my_pool"];
        assert_eq!(layers.raw.public_url, "http://environment");
        assert_eq!((pool.size, pool.final_status, pool.api_keys.len()), (800, Some(1), 2));
        assert_eq!(pool.update_interval.0.as_secs(), 5);
        let error = merged("", &[("STATUSLIST__SERVER__LISTENN", "x")]).err().unwrap().to_string();
        assert!(error.contains("server.listenn") && error.contains("`listen`"), "{error}");
    }

    #[test]
    fn pools_of_the_file_replace_the_built_in_one() {
        assert_eq!(
            merged("", &[]).unwrap().raw.status_list_pools.keys().collect::<Vec<_>>(),
            [TEMPLATE_POOL]
        );
        let layers = merged("status-list-pools: { a: { bits: 2 } }", &[]).unwrap();
        assert_eq!(layers.raw.status_list_pools.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn keys_are_always_texts_and_never_in_messages() {
        let layers = merged("", &[("STATUSLIST__STATUS_LIST_POOLS__DEMO__API_KEY", "918273 #x")]).unwrap();
        assert_eq!(layers.raw.status_list_pools["demo"].api_key.as_deref(), Some("918273 #x"));
        for file in ["{ a: { api-key: 918273645 } }", "{ a: { api-keys: [918273645] } }"] {
            let error = merged(&format!("status-list-pools: {file}"), &[]).err().unwrap().to_string();
            assert!(error.contains("put it in quotes") && !error.contains("9182"), "{error}");
        }
    }

    #[test]
    fn pools_of_the_environment_take_the_defaults() {
        let layers = merged("", &[("STATUSLIST__STATUS_LIST_POOLS__KEY__API_KEY", "x")]).unwrap();
        assert_eq!(layers.raw.status_list_pools["key"].size, 100_000);
    }

    #[test]
    fn secrets_can_be_read_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), b"secret\n").unwrap();
        let layers =
            merged(&format!("status-list-pools: {{ a: {{ api-key-file: {} }} }}", file.display()), &[])
                .unwrap();
        assert_eq!(layers.raw.status_list_pools["a"].api_key.as_deref(), Some("secret"));
        let error =
            merged("status-list-pools: { a: { api-key-file: /none } }", &[]).err().unwrap().to_string();
        assert!(error.contains("status-list-pools.a.api-key-file: cannot read /none"), "{error}");
        let in_list = "publish: { sinks: [ { s3: { bucket: b, secret-access-key-file: /none } } ] }";
        let error = merged(in_list, &[]).err().unwrap().to_string();
        assert!(error.contains("publish.sinks[0].s3.secret-access-key-file: cannot read /none"), "{error}");
    }

    #[test]
    fn broken_yaml_is_an_error_with_its_place() {
        let error = merged("a: [", &[]).err().unwrap().to_string();
        assert!(error.contains("the settings file"), "{error}");
        let error = merged("a: 1\nb: 2\n c: [\nd: }", &[]).err().unwrap().to_string();
        assert!(error.contains("line 3") || error.contains("line 4"), "{error}");
    }

    #[test]
    fn no_message_about_yaml_quotes_a_secret() {
        for broken in [
            "redis: { password: hunter2 ",
            "redis:\n  password: \"hunter2\n  host: x",
            "redis:\n  password: 'hunter2\n  host: x",
            "redis:\n  password: *hunter2",
            "redis:\n  password: !hunter2 x",
            "redis:\n  password: @hunter2",
            "redis:\n  password: `hunter2`",
            "redis:\n  password: %hunter2",
            "redis:\n  password: hunter2: more",
            "redis:\n password: hunter2\n  host: x",
            "redis:\n\tpassword: hunter2",
            "redis:\n  password: \"\\hunter2\"",
            "password: hunter2\n---\npassword: hunter2",
            "status-list-pools: { a: { api-keys: [hunter2, hunter2 } }",
            "hunter2",
            "- hunter2",
            "? hunter2\n: [",
        ] {
            let Err(error) = merged(broken, &[]) else { continue };
            let error = error.to_string();
            // The name of an unknown setting is no secret.
            assert!(!error.contains("hunter2") || error.contains("no such setting"), "{broken:?}: {error}");
        }
        let error = merged("redis: { password: hunter2 ", &[]).err().unwrap().to_string();
        assert!(error.contains("cannot be read as YAML") && error.contains("line 1"), "the control: {error}");
    }

    #[test]
    fn no_message_quotes_the_value_of_a_variable() {
        for (name, value, expected) in [
            ("STATUSLIST__REDIS__PORT", "hunter2", "u16"),
            ("STATUSLIST__LIMITS__AMOUNT", "[hunter2]", "u32"),
            ("STATUSLIST__SERVER", "hunter2", "struct RawServer"),
            ("STATUSLIST__REDIS", "{ port: hunter2 }", "u16"),
            ("STATUSLIST__PUBLISH__ROLE", "hunter2", "leader"),
            ("STATUSLIST__SERVER__LISTEN", "hunter2", "another value"),
            ("STATUSLIST__SERVER__SHUTDOWN_GRACE", "hunter2", "duration"),
            ("STATUSLIST__SERVER__TRUSTED_PROXIES", "[hunter2]", "an IP address"),
            ("STATUSLIST__STATUS_LIST_POOLS__DEMO__SIZE", "hunter2", "u64"),
        ] {
            let error = merged("", &[(name, value)]).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{name}: {error}");
            assert!(error.contains(name) && error.contains(expected), "{name}: {error}");
        }
        // A file's own value is shown, unless its setting is secret.
        let error = merged("redis: { port: many }", &[]).err().unwrap().to_string();
        assert!(error.contains("many"), "{error}");
        let pin =
            "status-list-pools: { a: { signer: { pkcs11: { module: m, token: t, key: k, pin: 1234 } } } }";
        let error = merged(pin, &[]).err().unwrap().to_string();
        assert!(error.contains("put it in quotes") && !error.contains("1234"), "{error}");
    }
}
