//! The signing key of a pool: its source, its successor, and how tokens and certificates describe it.

use std::path::PathBuf;

use secrecy::SecretString;

use super::aws_kms::AwsKmsSource;
use super::key_service::ExternalKey;
use super::raw_signer::{
    RawAwsKms, RawExternal, RawNextSigner, RawPem, RawPkcs11, RawPkcs12, RawSigner, RawVault,
};
use super::vault::VaultSource;

/// The settings that name a key.
const SOURCES: &str = "pem, pkcs12, pkcs11, external, vault and aws-kms";

/// The signing key, and how tokens name it.
#[derive(Clone, Debug)]
pub struct SignerConfig {
    /// The source of the key. If there is none, a development key is generated.
    pub key: Option<KeySource>,
    /// The key's id; by default its thumbprint.
    pub kid: Option<String>,
    /// The key that signs later: its public key is published already.
    pub next: Option<NextSigner>,
    /// Whether headers have `kid`.
    pub kid_in_header: bool,
    /// Whether headers have `x5c`; `None` means only if there is a chain.
    pub x5c_in_header: Option<bool>,
    /// Whether headers have `jwk`.
    pub jwk_in_header: bool,
    /// The extended key usage that the certificate must have, in dotted numbers.
    pub eku: Option<String>,
    /// Whether to refuse, not only warn of, a certificate without it.
    pub eku_required: bool,
}

/// A key that is published before it signs.
#[derive(Clone, Debug)]
pub struct NextSigner {
    /// The source of the key.
    pub key: KeySource,
    /// The key's id; by default its thumbprint.
    pub kid: Option<String>,
}

/// The source of a signing key.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In files.
    Pem(PemFiles),
    /// In a PKCS#12 key store.
    Pkcs12(Pkcs12File),
    /// In a hardware security module.
    Pkcs11(Pkcs11Key),
    /// In another service.
    External(ExternalKey),
    /// In HashiCorp Vault or OpenBao.
    Vault(VaultSource),
    /// In the key management service of AWS.
    AwsKms(AwsKmsSource),
}

/// What the settings may give as a source.
struct RawSources {
    pem: Option<RawPem>,
    pkcs12: Option<RawPkcs12>,
    pkcs11: Option<RawPkcs11>,
    external: Option<RawExternal>,
    vault: Option<RawVault>,
    aws_kms: Option<RawAwsKms>,
}

/// A signing key in files.
#[derive(Clone, Debug)]
pub struct PemFiles {
    /// The private key in PKCS#8.
    pub key: PathBuf,
    /// The certificates, leaf first.
    pub chain: Option<PathBuf>,
}

/// A signing key and its certificates in one PKCS#12 file.
#[derive(Clone, Debug)]
pub struct Pkcs12File {
    /// The file.
    pub keystore: PathBuf,
    /// The password of the file.
    pub password: SecretString,
    /// The name of the key; needed only if the file has several.
    pub alias: Option<String>,
}

/// A signing key that never leaves its hardware.
#[derive(Clone, Debug)]
pub struct Pkcs11Key {
    /// The vendor's PKCS#11 library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key pair's label.
    pub key: String,
    /// The PIN of the token.
    pub pin: SecretString,
    /// The certificates in PEM, leaf first.
    pub chain: Option<PathBuf>,
}

impl KeySource {
    /// The file with the token of a service, if it is read for each signature, and its setting.
    fn token_file(&self) -> Option<(&'static str, &PathBuf)> {
        match self {
            Self::Vault(key) => key.token_file.as_ref().map(|file| ("vault.token-file", file)),
            _ => None,
        }
    }

    /// The files of the key, each with its setting and whether it is secret.
    pub fn files(&self) -> Vec<(&'static str, &PathBuf, bool)> {
        match self {
            Self::Pem(PemFiles { key, chain }) => {
                let chain = chain.iter().map(|chain| ("pem.chain", chain, false));
                std::iter::once(("pem.key", key, true)).chain(chain).collect()
            }
            Self::Pkcs12(store) => vec![("pkcs12.keystore", &store.keystore, true)],
            Self::Pkcs11(key) => key.chain.iter().map(|chain| ("pkcs11.chain", chain, false)).collect(),
            Self::External(key) => key.chain.iter().map(|chain| ("external.chain", chain, false)).collect(),
            Self::Vault(key) => key.chain.iter().map(|chain| ("vault.chain", chain, false)).collect(),
            Self::AwsKms(key) => key.chain.iter().map(|chain| ("aws-kms.chain", chain, false)).collect(),
        }
    }

    /// Accepts at most one of them.
    fn check(raw: RawSources) -> Result<Option<Self>, String> {
        let RawSources { pem, pkcs12, pkcs11, external, vault, aws_kms } = raw;
        let pem = pem.map(|RawPem { key, chain }| Ok(Self::Pem(PemFiles { key, chain })));
        let pkcs12 = pkcs12.map(|RawPkcs12 { keystore, password, alias }| {
            Ok(Self::Pkcs12(Pkcs12File { keystore, password: password.into(), alias }))
        });
        let pkcs11 = pkcs11.map(|RawPkcs11 { module, token, key, pin, chain }| {
            if !cfg!(feature = "pkcs11") {
                return Err(
                    "pkcs11 cannot be used: this program was built without the feature pkcs11; build it with `cargo build --release --features pkcs11`"
                        .to_owned(),
                );
            }
            Ok(Self::Pkcs11(Pkcs11Key { module, token, key, pin: pin.into(), chain }))
        });
        let external = external.map(|raw| ExternalKey::check(raw).map(Self::External));
        let vault = vault.map(|raw| VaultSource::check(raw).map(Self::Vault));
        let aws_kms = aws_kms.map(|raw| AwsKmsSource::check(raw).map(Self::AwsKms));
        let mut given = [pem, pkcs12, pkcs11, external, vault, aws_kms].into_iter().flatten();
        let source = given.next();
        match given.next() {
            None => source.transpose(),
            Some(_) => Err(format!("set only one of {SOURCES}")),
        }
    }
}

impl SignerConfig {
    pub(super) fn check(raw: RawSigner) -> Result<Self, String> {
        let RawSigner {
            pem,
            mut pkcs12,
            pkcs11,
            external,
            vault,
            aws_kms,
            keystore,
            password,
            next,
            kid,
            header,
            eku,
            eku_required,
        } = raw;
        match (keystore, password) {
            (None, None) => {}
            (Some(_), Some(_)) if pkcs12.is_some() => {
                return Err("set `pkcs12` or, in the older form, keystore and password, not both".to_owned());
            }
            (Some(keystore), Some(password)) => {
                pkcs12 = Some(RawPkcs12 { keystore, password, alias: None });
            }
            _ => return Err("keystore and password belong together; one is missing".to_owned()),
        }
        let next = next.map(|next| {
            let RawNextSigner { pem, pkcs12, pkcs11, external, vault, aws_kms, kid } = next;
            let key = KeySource::check(RawSources { pem, pkcs12, pkcs11, external, vault, aws_kms })?;
            let key =
                key.ok_or_else(|| format!("next names no key; give it one of {SOURCES}, or make it null"))?;
            Ok::<_, String>(NextSigner { key, kid })
        });
        let dotted = |oid: &String| {
            oid.contains('.')
                && oid.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()))
        };
        if eku.as_ref().is_some_and(|oid| !dotted(oid)) {
            return Err("eku must be a dotted number such as 1.3.6.1.5.5.7.3.30, or null".to_owned());
        }
        if eku.is_none() && eku_required {
            return Err("eku-required is true, but eku names no extended key usage; set it".to_owned());
        }
        Ok(Self {
            key: KeySource::check(RawSources { pem, pkcs12, pkcs11, external, vault, aws_kms })?,
            kid,
            next: next.transpose().map_err(|why| format!("next: {why}"))?,
            kid_in_header: header.kid,
            x5c_in_header: header.x5c,
            jwk_in_header: header.jwk,
            eku,
            eku_required,
        })
    }

    /// The files with tokens that are read for each signature, each with its setting.
    pub(super) fn token_files(&self) -> Vec<(String, &PathBuf)> {
        let current = self.key.iter().filter_map(KeySource::token_file);
        let current = current.map(|(name, path)| (name.to_owned(), path));
        let next = self.next.iter().filter_map(|next| next.key.token_file());
        current.chain(next.map(|(name, path)| (format!("next.{name}"), path))).collect()
    }

    /// The files of all keys, each with its setting and whether it is secret. Those of `token_files` are none: that one
    /// changes is no reason to read the keys again.
    pub fn files(&self) -> Vec<(String, &PathBuf, bool)> {
        let named = |prefix: &'static str, source: &KeySource| -> Vec<_> {
            source.files().into_iter().map(|(name, _, _)| format!("{prefix}{name}")).collect()
        };
        let sources =
            self.key.iter().map(|key| ("", key)).chain(self.next.iter().map(|next| ("next.", &next.key)));
        let files = sources.flat_map(|(prefix, source)| {
            let names = named(prefix, source);
            names.into_iter().zip(source.files()).map(|(name, (_, path, secret))| (name, path, secret))
        });
        files.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn signer(signer: &str) -> Result<SignerConfig, String> {
        let file = format!("status-list-pools: {{ a: {{ api-key: x, signer: {{ {signer} }} }} }}");
        let config = Config::load(Some(&file), std::iter::empty()).map_err(|error| error.to_string())?;
        Ok(config.pools.into_values().next().unwrap().signer)
    }

    #[test]
    fn both_forms_of_a_key_store_are_read_and_the_password_is_never_shown() {
        for form in ["pkcs12: { keystore: a.p12, password: hidden }", "keystore: a.p12, password: hidden"] {
            let config = signer(form).unwrap();
            let Some(KeySource::Pkcs12(store)) = &config.key else { panic!("{config:?}") };
            assert_eq!(store.keystore, PathBuf::from("a.p12"));
            assert!(!format!("{config:?}").contains("hidden"));
        }
    }

    #[test]
    fn contradictory_settings_are_refused_by_name() {
        for (written, why) in [
            ("pem: { key: a }, pkcs12: { keystore: a, password: b }", "only one of"),
            ("pem: { key: a }, external: { url: 'unix:///a', key: b }", "only one of"),
            ("next: { external: { url: a, key: b } }", "next: external.url: is not a URL"),
            ("vault: { url: 'unix:///a', key: b }, aws-kms: { key: b }", "only one of pem, pkcs12"),
            ("keystore: a", "belong together"),
            ("keystore: a, password: b, pkcs12: { keystore: a, password: b }", "not both"),
            ("next: {}", "next names no key"),
            ("eku: server-auth", "dotted number"),
            ("eku-required: true", "eku names no"),
        ] {
            let error = signer(written).unwrap_err();
            assert!(error.starts_with("status-list-pools.a.signer: ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_pkcs11_key_is_refused_by_a_program_built_without_it() {
        let read = signer("pkcs11: { module: m.so, token: t, key: k, pin: hidden }");
        match cfg!(feature = "pkcs11") {
            true => assert!(!format!("{:?}", read.unwrap()).contains("hidden")),
            false => assert!(read.unwrap_err().contains("built without the feature pkcs11")),
        }
    }

    #[test]
    fn files_are_named_by_their_setting() {
        let next = "external: { url: 'unix:///a', key: b, chain: c }";
        let config = signer(&format!("pem: {{ key: a, chain: b }}, next: {{ {next} }}")).unwrap();
        let names: Vec<_> = config.files().into_iter().map(|(name, _, secret)| (name, secret)).collect();
        let expected = [("pem.key", true), ("pem.chain", false), ("next.external.chain", false)];
        assert_eq!(names, expected.map(|(name, secret)| (name.to_owned(), secret)));
    }
}
