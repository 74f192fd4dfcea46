//! Settings in layers: the built-in defaults, the operator's files, the environment. Merged as trees, then read, so that a
//! missing key takes its default and an error names an unknown one. A setting that cannot be used is replaced by its default,
//! and all is read again: so every mistake is found.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::hint::hint;
use super::mistakes::Mistakes;
use super::places::Places;
use super::raw::RawConfig;
use super::templates::{TEMPLATES, Templates, wipe};
use super::{ConfigError, POOLS, SettingsFile, TEMPLATE_POOL, original, profile};

const DEFAULTS: &str = include_str!("../../config/default.yaml");
const ENVIRONMENT_PREFIX: &str = "STATUSLIST__";

/// Settings that are always texts, whatever they look like.
const TEXTS: [&str; 8] = ["api-key", "audience", "password", "pin", "token", "eku", "kid", "issuer"];
/// How a message about an unknown setting begins.
const UNKNOWN: &str = "there is no such setting";
/// Stands for a secret that cannot be read, while the other settings are checked. The settings are refused afterwards.
const STAND_IN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The merged settings.
pub(super) struct Layers {
    tree: Value,
    defaults: Value,
    pub(super) places: Places,
    pub(super) warnings: Vec<String>,
    /// The files that settings with a name in `-file` were read from.
    pub(super) secret_files: Vec<PathBuf>,
}

impl Layers {
    /// Merges these layers. Adds to `mistakes` what cannot be merged, and goes on without it.
    pub(super) fn merge(
        files: &[SettingsFile],
        environment: impl Iterator<Item = (String, String)>,
        mistakes: &mut Mistakes,
    ) -> Result<Self, ConfigError> {
        let defaults = parse("the built-in defaults", DEFAULTS)?;
        let mut layers = Self {
            tree: defaults.clone(),
            defaults,
            places: Places::default(),
            warnings: Vec::new(),
            secret_files: Vec::new(),
        };
        let (mut has_pools, mut sections) = (false, Vec::new());
        for file in files {
            match parse(&file.name, &file.text) {
                Ok(given) => layers.add(file, given, &mut has_pools, &mut sections, mistakes),
                Err(error) => mistakes.add(error, None),
            }
        }
        for (name, value) in environment {
            let value = Zeroizing::new(value);
            if let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) {
                match set(&mut layers.tree, &name, path, &value) {
                    Ok(setting) => layers.places.add_variable(setting, name),
                    Err(error) => mistakes.add(error, None),
                }
            }
        }
        if layers.places.variable("storage-type").is_some() {
            sections.push("storage-type".to_owned());
        }
        layers.derive_public_url();
        if let Err(error) = original::choose_store(&sections, &mut layers.tree, &mut layers.warnings) {
            layers.note(error, mistakes);
        }
        let template = layers.defaults[POOLS][TEMPLATE_POOL].clone();
        for section in [POOLS, TEMPLATES] {
            layers.tree[section] = match with_defaults(section, layers.tree[section].take(), &template) {
                Ok(pools) => pools,
                Err(error) => {
                    layers.note(error, mistakes);
                    layers.defaults[section].clone()
                }
            };
        }
        let mut unread = Vec::new();
        read_secret_files(&mut layers.tree, "", &mut layers.secret_files, &mut unread);
        unread.into_iter().for_each(|error| layers.note(error, mistakes));
        Ok(layers)
    }

    /// Adds a file. `sections` gets the names of its sections.
    fn add(
        &mut self,
        file: &SettingsFile,
        given: Value,
        has_pools: &mut bool,
        sections: &mut Vec<String>,
        mistakes: &mut Mistakes,
    ) {
        let (mut given, within) = original::unwrap_app(given, &mut self.warnings);
        self.places.add(&file.name, &file.text, within);
        let mut refused = Vec::new();
        original::resolve_paths(&mut given, "", &mut refused);
        refused.into_iter().for_each(|error| self.note(error, mistakes));
        sections.extend(given.as_object().into_iter().flat_map(Map::keys).cloned());
        if let Some(pools) = given.as_object_mut().and_then(|given| given.remove(POOLS)) {
            // The first file's pools replace the built-in one.
            match std::mem::replace(has_pools, true) {
                true => overlay(&mut self.tree[POOLS], pools),
                false => self.tree[POOLS] = pools,
            }
        }
        overlay(&mut self.tree, given);
    }

    /// Where no `public-url` is given, the lists are on this machine, at the port of `server.listen`.
    fn derive_public_url(&mut self) {
        let listen = self.tree.pointer("/server/listen").and_then(Value::as_str);
        let listen: Option<SocketAddr> = listen.and_then(|listen| listen.parse().ok());
        if let Some(listen) = listen.filter(|listen| listen.port() != 0)
            && self.places.of("public-url").is_none()
        {
            let host = match listen.ip() {
                ip if ip.is_unspecified() || ip.is_loopback() => "localhost".to_owned(),
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            self.tree["public-url"] = format!("http://{host}:{}/lists", listen.port()).into();
        }
    }

    /// Adds a mistake with its place.
    pub(super) fn note(&self, error: ConfigError, mistakes: &mut Mistakes) {
        let place = error.key().and_then(|key| self.places.of(key));
        mistakes.add(error, place);
    }

    /// The templates of pools, with every default.
    pub(super) fn templates(&self) -> Templates {
        Templates::new(self.tree[TEMPLATES].clone())
    }

    /// Reads the settings, types only.
    pub(super) fn read(&self) -> Result<RawConfig, ConfigError> {
        read(&self.tree, &self.places, &self.defaults)
    }

    /// Replaces the setting at fault by its default, or removes it, so that the others can be checked. Returns whether
    /// anything changed.
    pub(super) fn mend(&mut self, error: &ConfigError) -> bool {
        let ConfigError::Setting { key, why } = error else { return false };
        if why.starts_with(UNKNOWN) {
            return remove(&mut self.tree, key);
        }
        if let Some(secret) = self.tree.pointer_mut(&pointer(key)) {
            // Without these, a pool would have yet another fault.
            let stand_in = match (last_of(key), &*secret) {
                ("api-key", Value::String(_) | Value::Null) => None,
                ("api-key", _) => Some(STAND_IN.into()),
                ("api-keys", Value::Array(keys)) if keys.is_empty() => Some(serde_json::json!([STAND_IN])),
                _ => None,
            };
            if let Some(stand_in) = stand_in {
                *secret = stand_in;
                return true;
            }
        }
        let mut path = key.as_str();
        loop {
            let (setting, default) = (self.tree.pointer(&pointer(path)), self.default_of(path));
            match (setting, default) {
                (Some(setting), Some(default)) if setting != default => {
                    let default = default.clone();
                    return self.tree.pointer_mut(&pointer(path)).map(|setting| *setting = default).is_some();
                }
                // One that is only documented: not in a group that is null by default, nor in an entry of a list.
                (Some(_), None) if !path.contains('[') && !self.is_in_null(path) => {
                    return remove(&mut self.tree, path);
                }
                _ => {}
            }
            let Some(end) = path.rfind(['.', '[']) else { return false };
            path = &path[..end];
        }
    }

    fn default_of(&self, path: &str) -> Option<&Value> {
        let in_pool = path
            .strip_prefix(POOLS)
            .or_else(|| path.strip_prefix(TEMPLATES))
            .and_then(|rest| rest.strip_prefix('.'));
        match in_pool.map(|rest| rest.split_once('.').map_or("", |(_, rest)| rest)) {
            Some("") => self.defaults.pointer(&format!("/{POOLS}/{TEMPLATE_POOL}")),
            Some(rest) => self.defaults.pointer(&format!("/{POOLS}/{TEMPLATE_POOL}{}", pointer(rest))),
            None => self.defaults.pointer(&pointer(path)),
        }
    }

    fn is_in_null(&self, path: &str) -> bool {
        let parent = path.rfind('.').map(|end| &path[..end]);
        parent.is_some_and(|parent| self.default_of(parent).is_none_or(Value::is_null))
    }
}

impl Drop for Layers {
    /// Wipes the texts, some of which are secret.
    fn drop(&mut self) {
        wipe(&mut self.tree);
    }
}

/// The JSON pointer of a setting's path.
fn pointer(path: &str) -> String {
    format!("/{}", path.replace('~', "~0").replace('/', "~1").replace(['.', '['], "/").replace(']', ""))
}

fn last_of(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn remove(tree: &mut Value, path: &str) -> bool {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let parent = if parent.is_empty() { Some(tree) } else { tree.pointer_mut(&pointer(parent)) };
    parent.and_then(Value::as_object_mut).and_then(|parent| parent.remove(name)).is_some()
}

fn parse(origin: &str, yaml: &str) -> Result<Value, ConfigError> {
    let fault = |why| ConfigError::Yaml { origin: origin.to_owned(), why };
    let value: Option<Value> = serde_saphyr::from_str_with_options(yaml, yaml_options())
        .map_err(|error| fault(without_quotes(&error.to_string())))?;
    match value {
        None | Some(Value::Null) => Ok(Value::Object(Map::new())),
        Some(object @ Value::Object(_)) => Ok(object),
        Some(_) => Err(fault("expected keys and values at the top".to_owned())),
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

fn with_defaults(section: &str, pools: Value, template: &Value) -> Result<Value, ConfigError> {
    let Value::Object(pools) = pools else {
        return Err(ConfigError::at(section, "must hold one entry for each, by its name"));
    };
    let filled = pools.into_iter().map(|(id, given)| {
        let mut pool = template.clone();
        overlay(&mut pool, profile::defaults(&given));
        overlay(&mut pool, given);
        (id, pool)
    });
    Ok(Value::Object(filled.collect()))
}

pub(super) fn overlay(under: &mut Value, over: Value) {
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

/// `api-key-file: /run/secrets/key` sets `api-key` to the content of that file, except below `vault`.
fn read_secret_files(node: &mut Value, path: &str, files: &mut Vec<PathBuf>, unread: &mut Vec<ConfigError>) {
    if let Value::Array(entries) = node {
        let parent = path.trim_end_matches('.');
        for (n, entry) in entries.iter_mut().enumerate() {
            read_secret_files(entry, &format!("{parent}[{n}]."), files, unread);
        }
    }
    let Value::Object(map) = node else { return };
    for (key, value) in map.iter_mut() {
        read_secret_files(value, &format!("{path}{key}."), files, unread);
    }
    // That token is read for each call: an agent replaces it.
    let is_read_later = path.ends_with(".vault.");
    let is_read_now = |key: &&String| key.ends_with("-file") && !is_read_later;
    let from_files: Vec<_> = map.keys().filter(is_read_now).cloned().collect();
    for key in from_files {
        let read = match map.remove(&key) {
            Some(Value::String(file)) => {
                let content = std::fs::read_to_string(&file).map(Zeroizing::new);
                let content = content.map_err(|error| format!("cannot read {file}: {error}"));
                content.inspect(|_| files.push(file.into()))
            }
            _ => Err("must be the path of a file".to_owned()),
        };
        let content = read.unwrap_or_else(|why| {
            unread.push(ConfigError::at(format!("{path}{key}"), why));
            Zeroizing::new(STAND_IN.to_owned())
        });
        map.insert(key.trim_end_matches("-file").to_owned(), Value::String(content.trim().to_owned()));
    }
}

fn read(tree: &Value, places: &Places, defaults: &Value) -> Result<RawConfig, ConfigError> {
    serde_path_to_error::deserialize(tree).map_err(|error| {
        let (key, why) = (error.path().to_string(), error.into_inner().to_string());
        let variable = places.variable(&key);
        match unknown_field(&why) {
            Some((unknown, known)) => {
                let parent = key.strip_suffix(unknown).unwrap_or(&key);
                let path = format!("{parent}{unknown}");
                let advice = hint(&path, unknown, &known, defaults);
                ConfigError::at(path, format!("{UNKNOWN}{advice}"))
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
    ["api-key", "password", "access-key", ".pin", ".external.token"].iter().any(|secret| key.contains(secret))
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

    struct Merged {
        raw: RawConfig,
    }

    fn merged(file: &str, environment: &[(&str, &str)]) -> Result<Merged, ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut mistakes = Mistakes::default();
        let layers = Layers::merge(&[SettingsFile::unnamed(file)], environment, &mut mistakes)?;
        mistakes.into_first().map_or_else(|| Ok(Merged { raw: layers.read()? }), Err)
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
    fn without_a_public_url_it_follows_the_address_that_is_listened_on() {
        for (settings, expected) in [
            ("server: { listen: 0.0.0.0:9000 }", "http://localhost:9000/lists"),
            ("server: { listen: 192.0.2.1:80 }", "http://192.0.2.1:80/lists"),
            ("server: { listen: '[2001:db8::1]:9000' }", "http://[2001:db8::1]:9000/lists"),
            ("server: { listen: 127.0.0.1:0 }", "http://localhost:8090/lists"),
            (
                "public-url: http://localhost:8090/lists\nserver: { listen: 0.0.0.0:9000 }",
                "http://localhost:8090/lists",
            ),
            ("", "http://localhost:8090/lists"),
        ] {
            assert_eq!(merged(settings, &[]).unwrap().raw.public_url, expected, "{settings}");
        }
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
