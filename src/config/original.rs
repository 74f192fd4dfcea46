//! Settings files of the original service: what they say in its framework's words, in ours.

use serde_json::{Map, Value, json};

use super::ConfigError;

/// The key that holds the original service's settings.
const APP: &str = "app";
/// Settings that name a file or a folder.
const PATHS: [&str; 9] = [
    "chain",
    "instance-directory",
    "jwks-path",
    "key",
    "key-directory",
    "keystore",
    "module",
    "path",
    "storage-directory",
];

/// The original service keeps its settings under `app`, beside those of its framework. Returns them, and the key that held them.
pub(super) fn unwrap_app(mut given: Value, warnings: &mut Vec<String>) -> (Value, Option<&'static str>) {
    let Some(mut app) = given.as_object_mut().and_then(|given| given.remove(APP)) else {
        return (given, None);
    };
    if let (Some(address), Some(settings)) = (listen_address(&given), app.as_object_mut()) {
        let server = settings.entry("server").or_insert_with(|| json!({}));
        if let Some(server) = server.as_object_mut().filter(|server| !server.contains_key("listen")) {
            warnings.push(format!(
                "server.port beside `app` is taken as server.listen: {address}; set that under `app` for another address"
            ));
            server.insert("listen".to_owned(), address.into());
        }
        given.as_object_mut().and_then(|given| given.remove("server"));
    }
    offer_formats(&mut app);
    let others: Vec<_> = given.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    if !others.is_empty() {
        warnings.push(format!(
            "only the settings under `app` are used; ignored beside it: {}",
            others.join(", ")
        ));
    }
    (app, Some(APP))
}

/// The original service offers every format.
fn offer_formats(app: &mut Value) {
    let pools = app.get_mut("status-list-pools").and_then(Value::as_object_mut);
    for pool in pools.into_iter().flat_map(|pools| pools.values_mut()).filter_map(Value::as_object_mut) {
        pool.entry("formats").or_insert_with(|| json!(["jwt", "cwt", "json", "cbor"]));
    }
}

/// The address of `server.port` and `server.address`, which is every address if it is left out, as in the original service.
fn listen_address(given: &Value) -> Option<String> {
    let port = given.pointer("/server/port")?;
    let port =
        port.as_u64().map_or_else(|| port.as_str().unwrap_or_default().to_owned(), |port| port.to_string());
    let host = given.pointer("/server/address").and_then(Value::as_str).unwrap_or("0.0.0.0");
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Some(format!("{host}:{port}"))
}

/// Takes `file:` off the paths of files. `classpath:` names a file within the original program, which nobody else can read.
pub(super) fn resolve_paths(node: &mut Value, path: &str, refused: &mut Vec<ConfigError>) {
    match node {
        Value::Array(entries) => {
            for (n, entry) in entries.iter_mut().enumerate() {
                resolve_paths(entry, &format!("{path}[{n}]"), refused);
            }
        }
        Value::Object(members) => {
            for (key, value) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match value {
                    Value::String(file) if PATHS.contains(&key.as_str()) => {
                        if file.starts_with("classpath:") {
                            let why = "a `classpath:` lies within another program; copy the file out of it, and name its path here";
                            refused.push(ConfigError::at(path, why));
                        } else if let Some(rest) = file.strip_prefix("file:") {
                            *file = rest.strip_prefix("//").unwrap_or(rest).to_owned();
                        }
                    }
                    value => resolve_paths(value, &path, refused),
                }
            }
        }
        _ => {}
    }
}

/// Without `storage-type`, takes the store that the files have a section of, as the original service does.
pub(super) fn choose_store(
    sections: &[String],
    tree: &mut Value,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let has = |section: &str| sections.iter().any(|given| given == section);
    let store = match (has("storage-type"), has("redis"), has("postgres")) {
        (true, ..) | (_, false, false) => return Ok(()),
        (false, true, false) => "redis",
        (false, false, true) => "postgres",
        (false, true, true) => {
            let why =
                "is not set, and there are sections of redis and of postgres; set it to the one that counts";
            return Err(ConfigError::at("storage-type", why));
        }
    };
    tree["storage-type"] = store.into();
    warnings.push(format!(
        "storage-type is not set; it is {store}, because the settings have a section {store}: set it, to say so"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, StoreConfig};

    fn load(file: &str) -> Result<Config, String> {
        Config::load(Some(file), std::iter::empty()).map_err(|error| error.to_string())
    }

    #[test]
    fn pools_of_the_original_offer_its_formats() {
        let formats = |settings: &str| {
            let pool = load(settings).unwrap().pools.into_values().next().unwrap();
            pool.start.formats.iter().map(|format| format.name()).collect::<Vec<_>>()
        };
        assert_eq!(formats(&format!("app: {{ {POOL} }}")), ["jwt", "cwt", "json", "cbor"]);
        assert_eq!(formats(POOL), ["jwt"], "ours have what their settings say");
        assert_eq!(formats("app: { status-list-pools: { a: { api-key: x, formats: [cwt] } } }"), ["cwt"]);
    }

    const POOL: &str = "status-list-pools: { a: { api-key: x } }";

    #[test]
    fn a_port_beside_app_is_listened_on() {
        for (beside, expected) in [
            ("server: { port: 8085 }", "0.0.0.0:8085"),
            ("server: { port: '8085', address: 127.0.0.2 }", "127.0.0.2:8085"),
            ("server: { port: 8085, address: '::1' }", "[::1]:8085"),
        ] {
            let config = load(&format!("{beside}\napp: {{ {POOL} }}")).unwrap();
            assert_eq!(config.server.listen.to_string(), expected, "{beside}");
            assert!(
                config.warnings.iter().any(|warning| warning.contains(expected)),
                "{:?}",
                config.warnings
            );
        }
        let ours =
            load(&format!("server: {{ port: 1 }}\napp: {{ server: {{ listen: '127.0.0.1:2' }}, {POOL} }}"));
        assert_eq!(ours.unwrap().server.listen.port(), 2);
        assert!(
            load(&format!("server: {{ port: many }}\napp: {{ {POOL} }}"))
                .unwrap_err()
                .contains("server.listen")
        );
    }

    #[test]
    fn a_section_of_a_store_chooses_it() {
        for (file, kind) in [
            ("redis: { host: x }", "redis"),
            ("postgres: { database: x }", "postgres"),
            ("storage-type: sqlite\nredis: { host: x }", "sqlite"),
            ("", "sqlite"),
        ] {
            let config = load(file).unwrap();
            let found = match config.store {
                StoreConfig::Sqlite { .. } => "sqlite",
                StoreConfig::Redis(_) => "redis",
                StoreConfig::Postgres(_) => "postgres",
            };
            assert_eq!(found, kind, "{file}");
            let warned = config.warnings.iter().any(|warning| warning.contains("storage-type is not set"));
            assert_eq!(warned, !file.is_empty() && kind != "sqlite", "{file}");
        }
        assert!(load("redis: {}\npostgres: {}").unwrap_err().starts_with("storage-type: is not set"));
    }

    #[test]
    fn paths_of_the_framework_are_read_or_refused() {
        let signer = |path: &str| {
            let pool = format!("{{ api-key: x, signer: {{ keystore: '{path}', password: 'file:x' }} }}");
            load(&format!("status-list-pools: {{ a: {pool} }}"))
        };
        let error = signer("classpath:keys.p12").unwrap_err();
        assert!(error.starts_with("status-list-pools.a.signer.keystore: a `classpath:`"), "{error}");
        for path in ["file:/k.p12", "file:///k.p12", "/k.p12"] {
            let signer = signer(path).unwrap().pools.into_values().next().unwrap().signer;
            assert_eq!(signer.files()[0].1.to_str(), Some("/k.p12"));
        }
    }
}
