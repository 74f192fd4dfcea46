//! The credentials of AWS, and of storages that speak its protocol.

use secrecy::{ExposeSecret, SecretString};

/// The credentials that sign requests.
#[derive(Clone, Debug)]
pub struct S3Credentials {
    /// The key's id; not secret.
    pub access_key_id: String,
    /// The secret; never shown.
    pub secret_access_key: SecretString,
}

/// Needed to detect changed settings.
impl PartialEq for S3Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.access_key_id == other.access_key_id
            && self.secret_access_key.expose_secret() == other.secret_access_key.expose_secret()
    }
}

impl Eq for S3Credentials {}

impl S3Credentials {
    /// Both or none. Otherwise fails with the missing setting, and why it is needed.
    pub(super) fn check(
        access_key_id: Option<String>,
        secret_access_key: Option<String>,
    ) -> Result<Option<Self>, (&'static str, &'static str)> {
        match (access_key_id, secret_access_key) {
            (Some(access_key_id), Some(secret)) => {
                Ok(Some(Self { access_key_id, secret_access_key: secret.into() }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(("secret-access-key", "is missing; access-key-id needs it")),
            (None, Some(_)) => Err(("access-key-id", "is missing; secret-access-key needs it")),
        }
    }
}
