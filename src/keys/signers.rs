//! Reads the signing keys that the settings name, and checks their certificates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::base::clock::{NumericDate, Timestamp};
use crate::base::durable;
use crate::config::{KeyServiceAddress, KeySource, NextSigner, Pkcs11Key, PoolConfig};
use crate::keys::made::write_new_key;
#[cfg(feature = "pkcs11")]
use crate::sign::HsmKey;
use crate::sign::chain::is_self_signed;
use crate::sign::profile::{Facts, Profile};
use crate::sign::{
    Address, Algorithm, AwsKmsKey, KeyHints, KeyServiceKind, ServiceKey, Signer, SigningKey, VaultKey,
};
use crate::status_list::Format;

/// The URL of a key service on a Unix socket: HTTP wants a host.
const ON_A_SOCKET: &str = "http://localhost";

/// The signers of a pool.
#[derive(Clone, Debug)]
pub struct PoolSigners {
    /// The current signer.
    pub current: Signer,
    /// The next signer, whose key is only published so far.
    pub next: Option<Signer>,
}

impl PoolSigners {
    /// Reads the keys of `pool`. Generates a development key if the settings name none and none exists yet. Fails if
    /// Relying Parties could not follow a key's certificate chain at `now`. The chain of the next key may start later.
    pub fn read(pool: &PoolConfig, key_directory: &Path, now: Timestamp) -> Result<Self> {
        let settings = &pool.signer;
        let current = match &settings.key {
            Some(source) => read(source, settings.kid.as_deref())?,
            None => read_pem(&development_key(pool, key_directory)?, None, settings.kid.as_deref())?,
        };
        Self::of(pool, current, now)
    }

    /// As [`Self::read`] for commands that only read: generates nothing, and accepts a chain that is not valid now.
    pub fn read_existing(pool: &PoolConfig, key_directory: &Path, now: Timestamp) -> Result<Self> {
        let settings = &pool.signer;
        let current = match &settings.key {
            Some(source) => read(source, settings.kid.as_deref())?,
            None => read_pem(&development_key_path(pool, key_directory), None, settings.kid.as_deref())?,
        };
        let valid_at = current
            .validity()
            .map_or(now.date(), |validity| now.date().max(validity.not_before).min(validity.not_after));
        Self::of(pool, current, Timestamp::from_secs(valid_at.secs()))
    }

    /// What [`Self::read`] would refuse: the current key, and the next one. Generates nothing.
    pub fn refusals(pool: &PoolConfig, key_directory: &Path, now: Timestamp) -> Vec<Error> {
        let settings = &pool.signer;
        let generated = development_key_path(pool, key_directory);
        let current = match &settings.key {
            Some(source) => Some(read(source, settings.kid.as_deref())),
            None => generated.exists().then(|| read_pem(&generated, None, settings.kid.as_deref())),
        };
        let current = current.map(|key| signer(pool, key?, now.date()));
        let next = settings.next.as_ref().map(|next| next_signer(pool, next, now));
        let signers: Vec<_> = current.into_iter().chain(next).collect();
        signers.iter().flatten().for_each(|signer| warn_of_certificate(signer, pool, now));
        signers.into_iter().filter_map(Result::err).collect()
    }

    fn of(pool: &PoolConfig, current: SigningKey, now: Timestamp) -> Result<Self> {
        let next = pool.signer.next.as_ref().map(|next| next_signer(pool, next, now)).transpose()?;
        Ok(Self { current: signer(pool, current, now.date())?, next })
    }

    /// Warns of each certificate that ends before the tokens signed now.
    pub fn warn_of_certificates(&self, pool: &PoolConfig, now: Timestamp) {
        warn_of_certificate(&self.current, pool, now);
        self.next.iter().for_each(|next| warn_of_certificate(next, pool, now));
    }
}

/// The next signer. Its chain may start later than `now`.
fn next_signer(pool: &PoolConfig, next: &NextSigner, now: Timestamp) -> Result<Signer> {
    let key = read(&next.key, next.kid.as_deref()).context("signer.next")?;
    let begin = key.validity().map_or(NumericDate::MIN, |validity| validity.not_before);
    signer(pool, key, now.date().max(begin)).context("signer.next")
}

/// Warns if the certificate of `signer` ends before the tokens that it signs now.
pub fn warn_of_certificate(signer: &Signer, pool: &PoolConfig, now: Timestamp) {
    if let Some(end) = signer.certificate_not_after()
        && end < now.plus(pool.live.lifetimes.list_lifetime).date()
    {
        let left_secs = end.since(now.date()).as_secs();
        tracing::warn!(
            pool = %pool.shape.id, kid = signer.kid(), certificate.not_after = end.secs(), left_secs,
            "the certificate ends before the tokens it signs; renew it"
        );
    }
}

/// Makes a signer of `key` as the settings say. Fails if its certificates do not match them, or if Relying Parties cannot
/// follow the chain at `at`.
fn signer(pool: &PoolConfig, key: SigningKey, at: NumericDate) -> Result<Signer> {
    let settings = &pool.signer;
    let setting = format!("status-list-pools.{}.signer", pool.shape.id);
    key.check_chain(at).with_context(|| format!("{setting}: verifiers would refuse what this key signs"))?;
    let x5c = settings.x5c_in_header.unwrap_or(!key.chain().is_empty());
    if x5c && key.chain().is_empty() {
        bail!(
            "{setting}.header.x5c is true, but {setting}.pem.chain is not set, and there is no other chain; set the chain, or x5c to false"
        );
    }
    if x5c && key.chain_below_anchor().len() < key.chain().len() {
        tracing::info!(
            pool = %pool.shape.id, kid = key.kid(),
            "the last certificate of the chain is self-signed: tokens leave it out, because verifiers that trust it have it"
        );
    }
    let signer = Signer::new(key, KeyHints { kid: settings.kid_in_header, x5c, jwk: settings.jwk_in_header });
    check_profiles(pool, &signer).with_context(|| setting.clone())?;
    if let Some(wanted) = &settings.eku
        && let Some(leaf) = signer.certificate()
        && !leaf.extended_key_usages.contains(wanted)
    {
        let found = leaf.extended_key_usages.join(", ");
        if settings.eku_required {
            bail!(
                "the certificate has no extended key usage {wanted} ({setting}.eku), only [{found}]; get one that has it, or set eku-required to false"
            );
        }
        tracing::warn!(
            pool = %pool.shape.id, kid = signer.kid(), wanted, found,
            "the certificate lacks the extended key usage that the settings require; verifiers may refuse its tokens"
        );
    }
    Ok(signer)
}

/// Fails if the tokens of `signer` would break a profile of the pool.
fn check_profiles(pool: &PoolConfig, signer: &Signer) -> Result<()> {
    let (profiles, chain) = (pool.start.profiles, signer.chain_in_header());
    for format in Format::SIGNED.into_iter().filter(|format| pool.start.formats.contains(*format)) {
        let facts = Facts {
            format,
            alg: signer.public_key().algorithm().jose_name(),
            chain,
            chain_is_protected: true,
            bits: pool.shape.capacity.bits(),
            entries: pool.shape.capacity.entries(),
            expires: true,
        };
        let breaches: Vec<_> = profiles.breaches(&facts).iter().map(ToString::to_string).collect();
        if !breaches.is_empty() {
            bail!("{format} tokens of this key would break the pool's profile: {}", breaches.join("; "));
        }
    }
    let self_signed = chain.first().is_some_and(|leaf| is_self_signed(leaf));
    if self_signed && pool.start.formats.contains(Format::Jwt) && !profiles.contains(Profile::Haip) {
        tracing::warn!(
            pool = %pool.shape.id, kid = signer.kid(),
            "the signer's certificate is self-signed: verifiers that follow HAIP 1.0 refuse its tokens"
        );
    }
    Ok(())
}

fn read(source: &KeySource, kid: Option<&str>) -> Result<SigningKey> {
    match source {
        KeySource::Pem(pem) => read_pem(&pem.key, pem.chain.as_deref(), kid),
        KeySource::Pkcs12(store) => {
            let (file, alias) = (store.keystore.display(), store.alias.as_deref());
            let bytes = std::fs::read(&store.keystore).with_context(|| format!("cannot read {file}"))?;
            SigningKey::from_pkcs12(&bytes, store.password.expose_secret(), alias, kid)
                .with_context(|| format!("cannot use the key store {file}"))
        }
        KeySource::Pkcs11(key) => read_pkcs11(key, kid),
        KeySource::External(key) => {
            let (address, token) = (address(&key.address)?, key.token.clone());
            let service = KeyServiceKind::External { address, token };
            read_elsewhere("external", &key.key, key.timeout, service, key.chain.as_deref(), kid)
        }
        KeySource::Vault(source) => {
            let (mount, version) = (source.mount.clone(), source.version);
            let (namespace, token_file) = (source.namespace.clone(), source.token_file.clone());
            let key = VaultKey { mount, version, namespace, token_file };
            let service = KeyServiceKind::Vault { address: address(&source.address)?, key };
            read_elsewhere("vault", &source.key, source.timeout, service, source.chain.as_deref(), kid)
        }
        KeySource::AwsKms(source) => {
            let credentials = source.credentials.clone().map(|of| (of.access_key_id, of.secret_access_key));
            let (region, endpoint) = (source.region.clone(), source.endpoint.clone());
            let service = KeyServiceKind::AwsKms(AwsKmsKey { region, endpoint, credentials });
            read_elsewhere("aws-kms", &source.key, source.timeout, service, source.chain.as_deref(), kid)
        }
    }
}

fn address(address: &KeyServiceAddress) -> Result<Address> {
    Ok(match address {
        KeyServiceAddress::Web(url) => Address { base: url.clone(), socket: None },
        KeyServiceAddress::Socket(path) => Address { base: ON_A_SOCKET.parse()?, socket: Some(path.clone()) },
    })
}

/// Reads a key of another service. `setting` names it.
fn read_elsewhere(
    setting: &str,
    name: &str,
    timeout: Duration,
    service: KeyServiceKind,
    chain: Option<&Path>,
    kid: Option<&str>,
) -> Result<SigningKey> {
    let chain = chain.map(read_text).transpose()?;
    let key = ServiceKey { name: name.to_owned(), timeout, service };
    SigningKey::from_service(&key, chain.as_deref().map(String::as_str), kid)
        .with_context(|| format!("cannot use the key `{name}` ({setting})"))
}

#[cfg(feature = "pkcs11")]
fn read_pkcs11(key: &Pkcs11Key, kid: Option<&str>) -> Result<SigningKey> {
    let chain = key.chain.as_deref().map(read_text).transpose()?;
    let Pkcs11Key { module, token, key, pin, .. } = key.clone();
    let named = format!("cannot use the key `{key}` of the token `{token}`");
    SigningKey::from_hsm(HsmKey { module, token, key, pin }, chain.as_deref().map(String::as_str), kid)
        .context(named)
}

#[cfg(not(feature = "pkcs11"))]
fn read_pkcs11(_: &Pkcs11Key, _: Option<&str>) -> Result<SigningKey> {
    bail!("this program was built without the feature pkcs11")
}

fn read_pem(key: &Path, chain: Option<&Path>, kid: Option<&str>) -> Result<SigningKey> {
    let chain = chain.map(read_text).transpose()?;
    let pem = read_text(key).context("make a key with `statuslist generate-key FILE`")?;
    SigningKey::from_pem(&pem, chain.as_deref().map(String::as_str), kid)
        .with_context(|| format!("cannot use the signing key {}", key.display()))
}

fn read_text(path: &Path) -> Result<Zeroizing<String>> {
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read {}", path.display()))
}

/// The file of the development key of a pool whose settings name no key.
pub fn development_key_path(pool: &PoolConfig, key_directory: &Path) -> PathBuf {
    key_directory.join(format!("{}.pem", pool.shape.id))
}

fn development_key(pool: &PoolConfig, key_directory: &Path) -> Result<PathBuf> {
    let path = development_key_path(pool, key_directory);
    if path.exists() {
        durable::keep_private(&path)?;
    } else {
        write_new_key(&path, Algorithm::Es256)?;
    }
    tracing::warn!(
        pool = %pool.shape.id,
        key = %path.display(),
        "SIGNING WITH A GENERATED DEVELOPMENT KEY; set `signer.pem` of this pool before real credentials refer to its lists"
    );
    Ok(path)
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
        let first = PoolSigners::read(&demo(""), folder.path(), NOW).unwrap();
        let again = PoolSigners::read(&demo(""), folder.path(), NOW).unwrap();
        assert_eq!(first.current.kid(), again.current.kid());
        let mode = std::fs::metadata(folder.path().join("demo.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            write_new_key(&folder.path().join("demo.pem"), Algorithm::Es256).is_err(),
            "never overwritten"
        );
    }

    #[test]
    fn missing_key_and_missing_chain_are_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |pool: &str| {
            let error = PoolSigners::read(&demo(pool), folder.path(), NOW).unwrap_err();
            format!("{error:#}")
        };
        let error = refused("signer: { pem: { key: /none.pem } }");
        assert!(error.contains("/none.pem") && error.contains("generate-key"), "{error}");
        let error = refused("signer: { header: { x5c: true } }");
        assert!(error.contains("signer.header.x5c") && error.contains("signer.pem.chain"), "{error}");
        let error = refused("signer: { next: { pem: { key: /next.pem } } }");
        assert!(error.contains("signer.next") && error.contains("/next.pem"), "{error}");
        let error = refused("signer: { keystore: /none.p12, password: hidden }");
        assert!(error.contains("/none.p12") && !error.contains("hidden"), "{error}");
    }

    /// A self-signed certificate with this extended key usage.
    fn with_certificate(folder: &Path, usage: rcgen::ExtendedKeyUsagePurpose) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["status.example".into()]).unwrap();
        params.extended_key_usages = vec![usage];
        write_key(folder, &key, &params.self_signed(&key).unwrap().pem())
    }

    /// Writes a key and its chain. Returns the setting that names both.
    fn write_key(folder: &Path, key: &rcgen::KeyPair, chain: &str) -> String {
        for (name, content) in [("key.pem", key.serialize_pem()), ("chain.pem", chain.to_owned())] {
            let mut file = std::fs::File::create(folder.join(name)).unwrap();
            std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
        }
        let (key, chain) = (folder.join("key.pem"), folder.join("chain.pem"));
        format!("pem: {{ key: {}, chain: {} }}", key.display(), chain.display())
    }

    #[test]
    fn the_next_certificate_may_start_later_but_must_not_have_expired() {
        let folder = tempfile::tempdir().unwrap();
        let pem = |years: std::ops::Range<i32>| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["status.example".into()]).unwrap();
            params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
            write_key(folder.path(), &key, &params.self_signed(&key).unwrap().pem())
        };
        let read = |signer: &str| {
            let read = PoolSigners::read(&demo(&format!("signer: {{ {signer} }}")), folder.path(), NOW);
            read.map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        let future = pem(2030..2031);
        assert!(read(&future).unwrap_err().contains("is valid only from 2030-01-01T00:00:00Z on"));
        assert_eq!(read(&format!("next: {{ {future} }}")), Ok(()));
        let error = read(&format!("next: {{ {} }}", pem(2020..2025))).unwrap_err();
        assert!(
            error.contains("signer.next") && error.contains("expired at 2025-01-01T00:00:00Z"),
            "{error}"
        );
        assert_eq!(read(&pem(2020..2031)), Ok(()), "the control");
    }

    #[test]
    fn a_signer_that_breaks_the_pools_profile_is_refused_with_every_reason() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["status.example".into()]).unwrap();
        let pem = write_key(folder.path(), &key, &params.self_signed(&key).unwrap().pem());
        let read = |pool: &str| {
            let read = PoolSigners::read(&demo(pool), folder.path(), NOW);
            read.map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        let error = read(&format!("profile: [haip, mdoc], signer: {{ {pem} }}")).unwrap_err();
        assert!(error.starts_with("status-list-pools.demo.signer: jwt tokens"), "{error}");
        assert!(error.contains("H-02") && !error.contains("M-0"), "{error}");
        let error = read(&format!("profile: mdoc, signer: {{ {pem} }}")).unwrap_err();
        for rule in ["M-06", "M-07", "M-08", "M-09"] {
            assert!(error.contains(rule), "{rule}: {error}");
        }
        let no_x5c = format!("profile: haip, signer: {{ {pem}, header: {{ x5c: false }} }}");
        assert!(read(&no_x5c).unwrap_err().contains("H-01"));
        assert!(read("profile: eudi, signer: { header: { jwk: true } }").is_ok(), "ES256 without a chain");
        assert_eq!(read(&format!("signer: {{ {pem} }}")), Ok(()), "without a profile: a warning");
    }

    #[test]
    fn only_a_certificate_with_the_required_usage_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let of_settings = vec![1, 3, 6, 1, 5, 5, 7, 3, 999];
        for (usage, fits) in [
            (rcgen::ExtendedKeyUsagePurpose::Other(of_settings), true),
            (rcgen::ExtendedKeyUsagePurpose::ServerAuth, false),
        ] {
            let pem = with_certificate(folder.path(), usage);
            let read = |required: bool| {
                let eku = format!("eku: 1.3.6.1.5.5.7.3.999, eku-required: {required}");
                PoolSigners::read(&demo(&format!("signer: {{ {pem}, {eku} }}")), folder.path(), NOW)
            };
            assert!(read(false).is_ok(), "only a warning");
            match read(true) {
                Ok(_) => assert!(fits),
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        !fits && error.contains("demo.signer.eku") && error.contains("5.5.7.3.1"),
                        "{error}"
                    );
                }
            }
        }
    }
}
