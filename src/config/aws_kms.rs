//! A signing key in the key management service (KMS) of AWS.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::aws::S3Credentials;
use super::key_service::{checked_timeout, checked_url};
use super::raw_signer::RawAwsKms;

/// The longest id of a key: an alias has 256 characters, and an ARN its region and account in front.
const KEY_MAX: usize = 2048;

/// A signing key that stays in KMS.
#[derive(Clone, Debug)]
pub struct AwsKmsSource {
    /// The key's id, its ARN, or `alias/…`.
    pub key: String,
    /// `None` takes that of the environment, or us-east-1.
    pub region: Option<String>,
    /// `None` takes that of the region.
    pub endpoint: Option<Url>,
    /// `None` takes those of the environment or of the machine's role.
    pub credentials: Option<S3Credentials>,
    /// How long each try of a call may take.
    pub timeout: Duration,
    /// The certificates in PEM, leaf first.
    pub chain: Option<PathBuf>,
}

impl AwsKmsSource {
    pub(super) fn check(raw: RawAwsKms) -> Result<Self, String> {
        let RawAwsKms { key, region, endpoint, access_key_id, secret_access_key, timeout, chain } = raw;
        let of_key = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
        if key.is_empty() || key.len() > KEY_MAX || !key.bytes().all(of_key) {
            return Err("aws-kms.key: must be the id of a key, its ARN, or alias/ and a name".to_owned());
        }
        // arn:aws:kms:region:account:key/id
        let of_arn = key.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)).map(str::to_owned);
        let region = match (region, of_arn) {
            (Some(region), Some(of_arn)) if region != of_arn => {
                return Err(format!("aws-kms.region: is {region}, but the key is in {of_arn}"));
            }
            (region, of_arn) => region.or(of_arn),
        };
        let of_region = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.as_ref().is_some_and(|name| name.is_empty() || !name.bytes().all(of_region)) {
            return Err("aws-kms.region: must be the name of a region, such as eu-central-1".to_owned());
        }
        let endpoint = endpoint.as_deref().map(checked_url).transpose();
        let endpoint = endpoint.map_err(|why| format!("aws-kms.endpoint: {why}"))?;
        let credentials = S3Credentials::check(access_key_id, secret_access_key);
        let credentials = credentials.map_err(|(name, why)| format!("aws-kms.{name}: {why}"))?;
        let timeout = checked_timeout(timeout).map_err(|why| format!("aws-kms.timeout: {why}"))?;
        Ok(Self { key, region, endpoint, credentials, timeout, chain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KeySource};

    fn kms(kms: &str) -> Result<AwsKmsSource, String> {
        let settings =
            format!("status-list-pools: {{ a: {{ api-key: x, signer: {{ aws-kms: {{ {kms} }} }} }} }}");
        let config = Config::load(Some(&settings), std::iter::empty()).map_err(|error| error.to_string())?;
        match config.pools.into_values().next().unwrap().signer.key {
            Some(KeySource::AwsKms(key)) => Ok(key),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_enough_and_an_arn_names_its_region() {
        let key = kms("key: alias/status").unwrap();
        assert_eq!((key.region, key.endpoint, key.credentials), (None, None, None));
        let key = kms("key: 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab', access-key-id: id, secret-access-key: hidden").unwrap();
        assert_eq!(key.region.as_deref(), Some("eu-central-1"));
        assert!(key.credentials.is_some() && !format!("{key:?}").contains("hidden"));
        let key = kms("key: k, region: eu-west-1, endpoint: 'http://127.0.0.1:5000'").unwrap();
        assert_eq!(key.endpoint.unwrap().as_str(), "http://127.0.0.1:5000/");
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_name() {
        for (written, why) in [
            ("key: ''", "aws-kms.key: must be the id of a key"),
            ("key: 'a b'", "aws-kms.key: must be the id of a key"),
            (
                "key: 'arn:aws:kms:eu-west-1:1:key/a', region: eu-west-2",
                "is eu-west-2, but the key is in eu-west-1",
            ),
            ("key: k, region: 'eu.example/'", "aws-kms.region: must be the name of a region"),
            ("key: k, endpoint: 'http://kms.example'", "aws-kms.endpoint: must begin with"),
            ("key: k, access-key-id: a", "aws-kms.secret-access-key: is missing"),
            ("key: k, secret-access-key: hidden", "aws-kms.access-key-id: is missing"),
            ("key: k, timeout: 10ms", "aws-kms.timeout: must be from 50ms to 30s"),
            ("key: k, access-key-id: a, secret-access-key: 918273", "must be a text; put it in quotes"),
        ] {
            let error = kms(written).unwrap_err();
            assert!(error.starts_with("status-list-pools.a.signer") && error.contains(why), "{error}");
            assert!(!error.contains("hidden") && !error.contains("918273"), "{error}");
        }
    }
}
