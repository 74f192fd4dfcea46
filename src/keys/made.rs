//! Keys that the service generates: signing keys, and the API key of a pool that has none.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zeroize::Zeroizing;

use crate::base::durable::{self, Mode};
use crate::config::PoolConfig;
use crate::model::api_key::{ApiKeyHash, generate_api_key};
use crate::sign::{Algorithm, generate};

/// Writes a new private key to `path`, readable by its owner only. Fails if the file exists.
pub fn write_new_key(path: &Path, algorithm: Algorithm) -> Result<()> {
    let pem = generate(algorithm).map_err(|_| anyhow::anyhow!("cannot generate a key"))?;
    Ok(durable::create_new(path, pem.as_bytes(), Mode::Private)?)
}

/// Returns the API key of a pool that has none. Keeps its hash beside the signing keys, and returns the key itself only
/// once, when it makes it.
pub fn demo_api_key(
    pool: &PoolConfig,
    key_directory: &Path,
) -> Result<(ApiKeyHash, Option<Zeroizing<String>>)> {
    let path = demo_api_key_path(pool, key_directory);
    if path.exists() {
        durable::keep_private(&path)?;
        let hash =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let hash = ApiKeyHash::from_setting(hash.trim()).with_context(|| format!("in {}", path.display()))?;
        return Ok((
            hash.with_context(|| format!("{} holds no `sha256:` hash; delete it", path.display()))?,
            None,
        ));
    }
    let key = generate_api_key();
    let hash = ApiKeyHash::of(&key);
    durable::create_new(&path, (hash.to_setting() + "\n").as_bytes(), Mode::Private)?;
    Ok((hash, Some(key)))
}

/// The file with the hash of a generated API key.
pub fn demo_api_key_path(pool: &PoolConfig, key_directory: &Path) -> PathBuf {
    key_directory.join(format!("{}.api-key", pool.shape.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn demo(extra: &str) -> PoolConfig {
        let file = format!("status-list-pools: {{ demo: {{ {extra} }} }}");
        Config::load(Some(&file), std::iter::empty()).unwrap().pools.into_values().next().unwrap()
    }

    #[test]
    fn demo_api_key_is_shown_once_and_stored_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let (hash, key) = demo_api_key(&demo(""), folder.path()).unwrap();
        let key = key.unwrap();
        assert!(bool::from(ApiKeyHash::of(&key).matches(&hash)));
        let stored = std::fs::read_to_string(folder.path().join("demo.api-key")).unwrap();
        assert!(stored.starts_with("sha256:") && !stored.contains(key.as_str()));
        let (again, none) = demo_api_key(&demo(""), folder.path()).unwrap();
        assert!(bool::from(again.matches(&hash)) && none.is_none());
    }
}
