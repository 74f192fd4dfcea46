//! Keys from files: the signer of each pool, and what is generated at a first start when nothing is configured.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::clock::Timestamp;
use crate::config::PoolConfig;
use crate::issuer::{ApiKeyHash, generate_api_key};
use crate::sign::{Algorithm, KeyHints, Signer, SigningKey, generate};

/// The signer of a pool: from its key files, or with a development key that is generated when there is none yet.
pub fn signer(pool: &PoolConfig, key_directory: &Path, now: Timestamp) -> Result<Signer> {
    let settings = &pool.signer;
    let (key_path, chain_path) = match &settings.pem {
        Some(pem) => (pem.key.clone(), pem.chain.as_deref()),
        None => (development_key(pool, key_directory)?, None),
    };
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let chain = chain_path.map(read).transpose()?;
    let key = read(&key_path).context("make a key with `statuslist generate-key FILE`")?;
    let key = SigningKey::from_pem(&key, chain.as_deref(), settings.kid.as_deref())
        .with_context(|| format!("cannot use the signing key {}", key_path.display()))?;
    let x5c = settings.x5c_in_header.unwrap_or(!key.chain().is_empty());
    if x5c && key.chain().is_empty() {
        let setting = format!("status-list-pools.{}.signer", pool.shape.id);
        bail!(
            "{setting}.header.x5c is true, but {setting}.pem.chain is not set; set the chain, or the switch to false"
        );
    }
    let signer = Signer::new(key, KeyHints { kid: settings.kid_in_header, x5c, jwk: settings.jwk_in_header });
    if let Some(end) = signer.certificate_not_after()
        && end < now.plus(pool.lifetimes.list_lifetime).secs()
    {
        tracing::warn!(pool = %pool.shape.id, certificate.not_after = end, "the certificate ends before the tokens it signs");
    }
    Ok(signer)
}

/// Writes a fresh private key to `path`, readable by its owner only; refused if there is a file already.
pub fn write_new_key(path: &Path, algorithm: Algorithm) -> Result<()> {
    let pem = generate(algorithm).map_err(|_| anyhow::anyhow!("cannot generate a key"))?;
    write_new(path, &pem)
}

/// The API key of a pool that has none: its hash is kept beside the signing keys. The key itself is answered once, when made.
pub fn demo_api_key(pool: &PoolConfig, key_directory: &Path) -> Result<(ApiKeyHash, Option<String>)> {
    let path = demo_api_key_path(pool, key_directory);
    if path.exists() {
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
    write_new(&path, &(hash.to_setting() + "\n"))?;
    Ok((hash, Some(key)))
}

/// Where the hash of a generated API key is kept.
pub fn demo_api_key_path(pool: &PoolConfig, key_directory: &Path) -> PathBuf {
    key_directory.join(format!("{}.api-key", pool.shape.id))
}

fn development_key(pool: &PoolConfig, key_directory: &Path) -> Result<PathBuf> {
    let path = key_directory.join(format!("{}.pem", pool.shape.id));
    if !path.exists() {
        write_new_key(&path, Algorithm::Es256)?;
    }
    tracing::warn!(
        pool = %pool.shape.id,
        key = %path.display(),
        "SIGNING WITH A GENERATED DEVELOPMENT KEY; set `signer.pem` of this pool before real credentials refer to its lists"
    );
    Ok(path)
}

/// Writes a new file that is there whole or not at all, readable by its owner only; refused if the name is taken.
fn write_new(path: &Path, content: &str) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut temporary = path.as_os_str().to_owned();
    // Of its own, because another instance may make the same file at the same moment.
    temporary.push(format!(".{}.tmp", uuid::Uuid::new_v4()));
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        // Unlike renaming, linking never takes the place of another file.
        std::fs::hard_link(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    let written = write();
    // A second name of a good file, or the rest of a failure.
    let _ = std::fs::remove_file(&temporary);
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn demo(extra: &str) -> PoolConfig {
        let file = format!("status-list-pools: {{ demo: {{ {extra} }} }}");
        Config::load(Some(&file), std::iter::empty()).unwrap().pools.into_values().next().unwrap()
    }

    #[test]
    fn development_key_is_made_once_and_kept_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = signer(&demo(""), folder.path(), NOW).unwrap();
        let again = signer(&demo(""), folder.path(), NOW).unwrap();
        assert_eq!(first.kid(), again.kid());
        let mode = std::fs::metadata(folder.path().join("demo.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            write_new_key(&folder.path().join("demo.pem"), Algorithm::Es256).is_err(),
            "never written over"
        );
    }

    #[test]
    fn demo_api_key_is_told_once_and_stored_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let (hash, key) = demo_api_key(&demo(""), folder.path()).unwrap();
        let key = key.unwrap();
        assert!(bool::from(ApiKeyHash::of(&key).matches(&hash)));
        let stored = std::fs::read_to_string(folder.path().join("demo.api-key")).unwrap();
        assert!(stored.starts_with("sha256:") && !stored.contains(&key));
        let (again, none) = demo_api_key(&demo(""), folder.path()).unwrap();
        assert!(bool::from(again.matches(&hash)) && none.is_none());
    }

    #[test]
    fn missing_key_and_missing_chain_are_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let error = signer(&demo("signer: { pem: { key: /none.pem } }"), folder.path(), NOW).unwrap_err();
        assert!(
            format!("{error:#}").contains("/none.pem") && format!("{error:#}").contains("generate-key"),
            "{error:#}"
        );
        let error =
            signer(&demo("signer: { header: { x5c: true } }"), folder.path(), NOW).unwrap_err().to_string();
        assert!(error.contains("signer.header.x5c") && error.contains("signer.pem.chain"), "{error}");
    }
}
