//! The settings of a pool's signer as written, with unknown keys refused. Checks types only.

use std::path::PathBuf;

use serde::Deserialize;

use super::duration::Setting;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawSigner {
    pub(super) pem: Option<RawPem>,
    pub(super) pkcs12: Option<RawPkcs12>,
    pub(super) pkcs11: Option<RawPkcs11>,
    pub(super) external: Option<RawExternal>,
    pub(super) vault: Option<RawVault>,
    pub(super) aws_kms: Option<RawAwsKms>,
    pub(super) next: Option<RawNextSigner>,
    pub(super) kid: Option<String>,
    pub(super) header: RawHeader,
    pub(super) eku: Option<String>,
    pub(super) eku_required: bool,
    /// The older form of `pkcs12`, as in the original service.
    #[serde(default)]
    pub(super) keystore: Option<PathBuf>,
    #[serde(default)]
    pub(super) password: Option<String>,
}

/// Not merged with defaults, because most pools have no next signer.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawNextSigner {
    #[serde(default)]
    pub(super) pem: Option<RawPem>,
    #[serde(default)]
    pub(super) pkcs12: Option<RawPkcs12>,
    #[serde(default)]
    pub(super) pkcs11: Option<RawPkcs11>,
    #[serde(default)]
    pub(super) external: Option<RawExternal>,
    #[serde(default)]
    pub(super) vault: Option<RawVault>,
    #[serde(default)]
    pub(super) aws_kms: Option<RawAwsKms>,
    #[serde(default)]
    pub(super) kid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPkcs12 {
    pub(super) keystore: PathBuf,
    pub(super) password: String,
    #[serde(default)]
    pub(super) alias: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPkcs11 {
    pub(super) module: PathBuf,
    pub(super) token: String,
    pub(super) key: String,
    pub(super) pin: String,
    #[serde(default)]
    pub(super) chain: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawExternal {
    pub(super) url: String,
    pub(super) key: String,
    #[serde(default)]
    pub(super) token: Option<String>,
    #[serde(default)]
    pub(super) timeout: Option<Setting>,
    #[serde(default)]
    pub(super) chain: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawVault {
    pub(super) url: String,
    pub(super) key: String,
    #[serde(default)]
    pub(super) mount: Option<String>,
    #[serde(default)]
    pub(super) version: Option<u64>,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) token_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) timeout: Option<Setting>,
    #[serde(default)]
    pub(super) chain: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawAwsKms {
    pub(super) key: String,
    #[serde(default)]
    pub(super) region: Option<String>,
    #[serde(default)]
    pub(super) endpoint: Option<String>,
    #[serde(default)]
    pub(super) access_key_id: Option<String>,
    #[serde(default)]
    pub(super) secret_access_key: Option<String>,
    #[serde(default)]
    pub(super) timeout: Option<Setting>,
    #[serde(default)]
    pub(super) chain: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawPem {
    pub(super) key: PathBuf,
    #[serde(default)]
    pub(super) chain: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawHeader {
    pub(super) kid: bool,
    pub(super) x5c: Option<bool>,
    pub(super) jwk: bool,
}
