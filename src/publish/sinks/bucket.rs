//! One bucket, and the rule for replacing an object in it.
//!
//! An object is replaced only if it is still the one that was read (If-Match; If-None-Match for a new one), and a token only by
//! one with a later `iat`. Between reading and writing, the lease to publish is confirmed. So a publisher that slept fails at
//! the lease or at the ETag, and two publishers never roll a list back.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientOptions, Error as StorageError, GetOptions, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, PutPayload, RetryConfig, UpdateVersion,
};
use parking_lot::{Mutex, MutexGuard};
use secrecy::ExposeSecret;
use thiserror::Error;

use crate::base::clock::NumericDate;
use crate::config::S3Config;
use crate::publish::lease::PublisherLease;
use crate::store::StoreError;

/// The timeout of one request. Higher: a storage that hangs is noticed later. Lower: a slow storage seems to hang.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often another writer may win before an object is left for the next attempt.
const ATTEMPTS: usize = 4;

/// A bucket that published files go to.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<AmazonS3>,
    address: String,
    prefix: String,
    cache_control: Option<String>,
    conditional: bool,
    /// What is known to be there, by key. Only a cache: any other change shows as another ETag.
    known: Arc<Mutex<HashMap<Path, Known>>>,
}

/// The wanted content of an object.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: &'static str,
    pub(super) cache_control: String,
    /// `iat` of the token; `None` for other documents.
    pub(super) iat: Option<NumericDate>,
}

/// The object that the bucket has under a key, and whether that is in doubt since it was last read.
#[derive(Clone, Debug)]
struct Known {
    object: Option<Seen>,
    doubted: bool,
}

/// An object as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    etag: Option<String>,
    digest: [u8; 32],
    /// The object's content type and cache control.
    headers: [Option<String>; 2],
    /// `iat`, if it is a token that the pool's key signed.
    iat: Option<NumericDate>,
}

/// What to do about an object.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Put,
    Delete,
    /// The object has a later state than ours, or another state of the same second.
    Refuse(NumericDate),
}

/// The result for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Unchanged,
    Written,
}

/// Why an object is not current.
#[derive(Debug, Error)]
pub(super) enum SinkError {
    /// The bucket has a newer token, which stays. A retry would not help.
    #[error(
        "{key} in {bucket} has `iat` {theirs}, not before ours ({ours}): another publisher was there; it stays"
    )]
    Newer { bucket: String, key: String, ours: NumericDate, theirs: NumericDate },
    /// Another instance holds the lease to publish; it also uploads.
    #[error("another instance holds the lease to publish")]
    NotOurs,
    /// The lease to publish could not be queried.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others wrote between our read and our write each time.
    #[error(
        "{key} in {bucket} was replaced by others {ATTEMPTS} times in a row; is another service writing there?"
    )]
    Contended { bucket: String, key: String },
    /// The storage failed, or refused.
    #[error("cannot {action} {key} in {bucket}: {why}")]
    Storage { action: &'static str, bucket: String, key: String, why: String },
    /// The files could not be read.
    #[error("cannot read the published files: {0}")]
    Files(String),
}

impl Bucket {
    /// Creates a handle on the bucket. Sends no request yet.
    pub fn open(config: &S3Config) -> Result<Self, StorageError> {
        let builder = match &config.credentials {
            None => AmazonS3Builder::from_env(),
            Some(credentials) => AmazonS3Builder::new()
                .with_access_key_id(&credentials.access_key_id)
                .with_secret_access_key(credentials.secret_access_key.expose_secret()),
        };
        let builder = config.region.iter().fold(builder, |builder, region| builder.with_region(region));
        let builder =
            config.endpoint.iter().fold(builder, |builder, endpoint| builder.with_endpoint(endpoint));
        let client = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(config.allow_http);
        let store = builder
            .with_bucket_name(&config.bucket)
            .with_client_options(client)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            // The caller retries, at its own pace.
            .with_retry(RetryConfig {
                max_retries: 0,
                retry_timeout: REQUEST_TIMEOUT,
                ..RetryConfig::default()
            })
            .build()?;
        Ok(Self {
            store: Arc::new(store),
            address: format!("s3://{}/{}", config.bucket, config.prefix),
            prefix: config.prefix.clone(),
            cache_control: config.cache_control.clone(),
            conditional: config.conditional_put,
            known: Arc::default(),
        })
    }

    /// The same bucket with a cache of its own.
    pub(super) fn for_pool(&self) -> Self {
        Self { known: Arc::default(), ..self.clone() }
    }

    /// The setting, or as long as no new file can appear.
    pub(super) fn cache_control(&self, beat: Duration) -> String {
        self.cache_control.clone().unwrap_or_else(|| format!("public, max-age={}", beat.as_secs()))
    }

    /// Marks everything as doubtful, so that it is read again before it is trusted.
    pub(super) fn doubt_everything(&self) {
        self.known().values_mut().for_each(|known| known.doubted = true);
    }

    /// Makes the object `name` equal to `wanted`, or removes it. `issued_at` reads the `iat` of a token that the pool's key signed;
    /// `lease` tells whether we hold the lease to publish.
    pub(super) async fn make_current(
        &self,
        name: &str,
        wanted: Option<&Content>,
        issued_at: &(impl Fn(&[u8]) -> Option<NumericDate> + Sync),
        lease: &PublisherLease,
    ) -> Result<Outcome, SinkError> {
        let key = Path::from(format!("{}{name}", self.prefix));
        for _ in 0..ATTEMPTS {
            let seen = self.look(&key, issued_at).await?;
            let step = step(seen.as_ref(), wanted);
            match step {
                Step::Nothing => return Ok(Outcome::Unchanged),
                Step::Refuse(theirs) => {
                    let ours = wanted.and_then(|wanted| wanted.iat).unwrap_or_default();
                    return Err(SinkError::Newer {
                        bucket: self.to_string(),
                        key: key.to_string(),
                        ours,
                        theirs,
                    });
                }
                Step::Put | Step::Delete => {}
            }
            if !lease.is_held().await? {
                return Err(SinkError::NotOurs);
            }
            let written = match wanted {
                Some(wanted) => self.put(&key, wanted, seen.as_ref()).await,
                None => self.store.delete(&key).await.map(|()| None),
            };
            match written {
                Ok(object) => {
                    self.known().insert(key, Known { object, doubted: false });
                    return Ok(Outcome::Written);
                }
                Err(StorageError::AlreadyExists { .. } | StorageError::Precondition { .. }) => {
                    self.known().remove(&key);
                }
                Err(error) => {
                    // It may have been written anyway.
                    self.known().remove(&key);
                    return Err(self.failed(if wanted.is_some() { "write" } else { "remove" }, &key, &error));
                }
            }
        }
        Err(SinkError::Contended { bucket: self.to_string(), key: key.to_string() })
    }

    /// Returns the object under `key`; from the cache if that suffices.
    async fn look(
        &self,
        key: &Path,
        issued_at: &(impl Fn(&[u8]) -> Option<NumericDate> + Sync),
    ) -> Result<Option<Seen>, SinkError> {
        let known = self.known().get(key).cloned();
        let remembered = match known {
            // Without conditional writes, the cache could roll back what another instance wrote in the meantime.
            Some(Known { object, doubted: false }) if self.conditional => return Ok(object),
            Some(Known { object, .. }) => object,
            None => None,
        };
        let etag = remembered.as_ref().and_then(|seen| seen.etag.clone());
        let object = match self.fetch(key, etag, issued_at).await {
            Ok(seen) => Some(seen),
            Err(StorageError::NotModified { .. }) => remembered,
            Err(StorageError::NotFound { source, .. }) if !source.to_string().contains("NoSuchBucket") => {
                None
            }
            Err(error) => return Err(self.failed("read", key, &error)),
        };
        self.known().insert(key.clone(), Known { object: object.clone(), doubted: false });
        Ok(object)
    }

    async fn fetch(
        &self,
        key: &Path,
        unless: Option<String>,
        issued_at: &(impl Fn(&[u8]) -> Option<NumericDate> + Sync),
    ) -> Result<Seen, StorageError> {
        let options = GetOptions::new().with_if_none_match(unless);
        let object = self.store.get_opts(key, options).await?;
        let headers = [Attribute::ContentType, Attribute::CacheControl]
            .map(|name| object.attributes.get(&name).map(|value| value.to_string()));
        let etag = object.meta.e_tag.clone();
        let bytes = object.bytes().await?;
        Ok(Seen { etag, digest: sha256(&bytes), headers, iat: issued_at(&bytes) })
    }

    async fn put(
        &self,
        key: &Path,
        wanted: &Content,
        seen: Option<&Seen>,
    ) -> Result<Option<Seen>, StorageError> {
        let mode = match seen {
            _ if !self.conditional => PutMode::Overwrite,
            None => PutMode::Create,
            Some(seen) => PutMode::Update(UpdateVersion { e_tag: seen.etag.clone(), version: None }),
        };
        let attributes = Attributes::from_iter([
            (Attribute::ContentType, wanted.content_type.to_owned()),
            (Attribute::CacheControl, wanted.cache_control.clone()),
        ]);
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        let put = self.store.put_opts(key, PutPayload::from(wanted.bytes.clone()), options).await?;
        let headers = [Some(wanted.content_type.to_owned()), Some(wanted.cache_control.clone())];
        Ok(Some(Seen { etag: put.e_tag, digest: sha256(&wanted.bytes), headers, iat: wanted.iat }))
    }

    fn failed(&self, action: &'static str, key: &Path, error: &StorageError) -> SinkError {
        SinkError::Storage { action, bucket: self.to_string(), key: key.to_string(), why: explain(error) }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Path, Known>> {
        self.known.lock()
    }
}

/// Omits the client, which holds the credentials.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.address).finish()
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

fn step(seen: Option<&Seen>, wanted: Option<&Content>) -> Step {
    match (seen, wanted) {
        (None, None) => Step::Nothing,
        (Some(_), None) => Step::Delete,
        (None, Some(_)) => Step::Put,
        (Some(seen), Some(wanted)) if seen.digest == sha256(&wanted.bytes) => {
            let headers = [Some(wanted.content_type), Some(wanted.cache_control.as_str())];
            if seen.headers.each_ref().map(Option::as_deref) == headers { Step::Nothing } else { Step::Put }
        }
        (Some(seen), Some(wanted)) => match (seen.iat, wanted.iat) {
            (Some(theirs), Some(ours)) if theirs >= ours => Step::Refuse(theirs),
            _ => Step::Put,
        },
    }
}

/// The innermost causes of `error`, shortened, with what to do. A storage may answer with long pages of XML.
fn explain(error: &StorageError) -> String {
    const CHARACTERS_MAX: usize = 400;
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    let advice = match error {
        StorageError::NotFound { .. } => "; create the bucket, or correct publish.sinks",
        StorageError::PermissionDenied { .. } | StorageError::Unauthenticated { .. } => {
            "; check the credentials, and that they may get, put, delete and list objects"
        }
        _ if text.contains("NotImplemented") => {
            "; if this storage has no conditional writes, set conditional-put to false for it"
        }
        _ => "",
    };
    let short: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARACTERS_MAX).collect();
    format!("{short}{advice}")
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: &[u8], iat: Option<u64>) -> Content {
        let iat = iat.map(NumericDate::from_secs);
        Content { bytes: bytes.to_vec(), content_type: "a/b", cache_control: "c".into(), iat }
    }

    fn seen(bytes: &[u8], iat: Option<u64>) -> Seen {
        let iat = iat.map(NumericDate::from_secs);
        let headers = [Some("a/b".to_owned()), Some("c".to_owned())];
        Seen { etag: Some("e".into()), digest: sha256(bytes), headers, iat }
    }

    #[test]
    fn a_token_is_replaced_only_by_a_later_one() {
        let ours = content(b"ours", Some(10));
        assert_eq!(step(None, Some(&ours)), Step::Put);
        assert_eq!(step(Some(&seen(b"ours", Some(10))), Some(&ours)), Step::Nothing);
        assert_eq!(step(Some(&seen(b"theirs", Some(9))), Some(&ours)), Step::Put);
        assert_eq!(
            step(Some(&seen(b"theirs", Some(10))), Some(&ours)),
            Step::Refuse(NumericDate::from_secs(10))
        );
        assert_eq!(
            step(Some(&seen(b"theirs", Some(11))), Some(&ours)),
            Step::Refuse(NumericDate::from_secs(11))
        );
        assert_eq!(step(Some(&seen(b"not signed by us", None)), Some(&ours)), Step::Put);
    }

    #[test]
    fn other_headers_are_mended_and_unwanted_objects_removed() {
        let ours = content(b"ours", Some(10));
        let without_type = Seen { headers: [None, Some("c".into())], ..seen(b"ours", Some(10)) };
        assert_eq!(step(Some(&without_type), Some(&ours)), Step::Put);
        assert_eq!(step(Some(&seen(b"{}", None)), Some(&content(b"[]", None))), Step::Put);
        assert_eq!(step(Some(&seen(b"{}", None)), None), Step::Delete);
        assert_eq!(step(None, None), Step::Nothing);
    }

    #[test]
    fn the_secret_is_in_no_debug_output() {
        let config = S3Config {
            bucket: "b".into(),
            prefix: "lists/".into(),
            region: None,
            endpoint: None,
            credentials: Some(crate::config::S3Credentials {
                access_key_id: "id".into(),
                secret_access_key: "hidden".into(),
            }),
            allow_http: false,
            cache_control: None,
            conditional_put: true,
        };
        let bucket = Bucket::open(&config).unwrap();
        assert_eq!(format!("{bucket:?} {bucket}"), "Bucket(\"s3://b/lists/\") s3://b/lists/");
        assert_eq!(bucket.cache_control(Duration::from_secs(10)), "public, max-age=10");
    }
}
