//! The publisher's folders, its role, and the buckets it uploads to.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::aws::S3Credentials;
use super::raw::{RawPublishRole, RawS3, RawSink};
use super::{ConfigError, InstanceConfig, PoolConfig, StoreConfig};
use crate::model::pool::PoolId;

/// The publisher's folders.
#[derive(Clone, Debug)]
pub struct PublishConfig {
    /// The public folder: tokens go into `lists/` in it.
    pub storage_directory: PathBuf,
    /// The folder of generated development keys.
    pub key_directory: PathBuf,
    /// This instance's role in publishing.
    pub role: PublishRole,
    /// The longest that anyone caches the published keys: a new key is published this long before it signs.
    pub keys_max_age: Duration,
    /// Further places that get the published files.
    pub sinks: Vec<S3Config>,
}

/// A bucket of an S3-compatible storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Config {
    /// Its name.
    pub bucket: String,
    /// The prefix of every key: empty, or ends with `/`.
    pub prefix: String,
    /// `None` takes that of the environment, or us-east-1.
    pub region: Option<String>,
    /// `None` takes that of AWS.
    pub endpoint: Option<String>,
    /// `None` takes those of the environment or of the machine's role.
    pub credentials: Option<S3Credentials>,
    /// Whether connections without TLS are allowed.
    pub allow_http: bool,
    /// `None` stands for the beat.
    pub cache_control: Option<String>,
    /// Whether to replace an object only if it is still the one that was read.
    pub conditional_put: bool,
}

/// An instance's role in publishing, if several share a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRole {
    /// Publishes if no other instance does.
    Leader,
    /// Takes over only if no leader is left.
    Follower,
    /// Never publishes.
    Off,
}

impl PublishConfig {
    /// Whether this path is in the public folder.
    pub(super) fn world_can_read(&self, path: &Path) -> bool {
        // The file need not exist yet, but its folder may exist, and may be a link.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let public = plain(&self.storage_directory);
        plain(path).starts_with(&public) || plain(folder).starts_with(&public)
    }

    /// Refuses a secret file in the public folder.
    pub(super) fn keep_secret(
        &self,
        store: &StoreConfig,
        instance: &InstanceConfig,
        pools: &BTreeMap<PoolId, PoolConfig>,
    ) -> Result<(), ConfigError> {
        let mut secrets = vec![
            ("key-directory".to_owned(), &self.key_directory),
            ("instance-directory".to_owned(), &instance.directory),
        ];
        if let StoreConfig::Sqlite { path, .. } = store {
            secrets.push(("sqlite.path".to_owned(), path));
        }
        for (id, pool) in pools {
            let files = pool.signer.files().into_iter().filter(|(_, _, secret)| *secret);
            let named = |name: String| format!("status-list-pools.{id}.signer.{name}");
            secrets.extend(files.map(|(name, path, _)| (named(name), path)));
            let tokens = pool.signer.token_files().into_iter();
            secrets.extend(tokens.map(|(name, path)| (named(name), path)));
        }
        let public = plain(&self.storage_directory);
        match secrets.into_iter().find(|(_, path)| plain(path).starts_with(&public)) {
            Some((key, path)) => {
                let public = self.storage_directory.display();
                Err(ConfigError::at(
                    key,
                    format!(
                        "{} lies in storage-directory ({public}), which the world can read; move it out",
                        path.display()
                    ),
                ))
            }
            None => Ok(()),
        }
    }
}

impl From<RawPublishRole> for PublishRole {
    fn from(role: RawPublishRole) -> Self {
        match role {
            RawPublishRole::Leader => Self::Leader,
            RawPublishRole::Follower => Self::Follower,
            RawPublishRole::Off => Self::Off,
        }
    }
}

impl S3Config {
    pub(super) fn check_all(raw: Vec<RawSink>, warnings: &mut Vec<String>) -> Result<Vec<Self>, ConfigError> {
        let mut sinks: Vec<Self> = Vec::with_capacity(raw.len());
        for (n, RawSink::S3(raw)) in raw.into_iter().enumerate() {
            let key = format!("publish.sinks[{n}].s3");
            let sink = Self::check(&key, raw)?;
            let place = |sink: &Self| (sink.endpoint.clone(), sink.bucket.clone(), sink.prefix.clone());
            if sinks.iter().any(|other| place(other) == place(&sink)) {
                return Err(ConfigError::at(
                    key,
                    "is the same place as an earlier entry; remove one of them",
                ));
            }
            if !sink.conditional_put {
                let risk = "two publishers at the same time can replace a newer list by an older one";
                warnings.push(format!("{key}.conditional-put is false: {risk}"));
            }
            sinks.push(sink);
        }
        Ok(sinks)
    }

    fn check(key: &str, raw: RawS3) -> Result<Self, ConfigError> {
        let at = |name: &str, why: &str| ConfigError::at(format!("{key}.{name}"), why);
        if raw.bucket.is_empty() || raw.bucket.contains('/') {
            return Err(at(
                "bucket",
                "must be the name of a bucket, without a path; put the path into `prefix`",
            ));
        }
        let segments = raw.prefix.strip_suffix('/').map(|prefix| prefix.split('/'));
        let of_good_segments = segments.is_some_and(|mut segments| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
            segments.all(|segment| !["", ".", ".."].contains(&segment) && segment.bytes().all(allowed))
        });
        if !raw.prefix.is_empty() && !of_good_segments {
            let why =
                "must be empty or end with `/`, such as `lists/`, of letters, digits, `-`, `_`, `.` and `~`";
            return Err(at("prefix", why));
        }
        match raw.endpoint.as_deref() {
            Some(endpoint) if endpoint.starts_with("http://") && !raw.allow_http => {
                return Err(at(
                    "endpoint",
                    "has no TLS; use https, or set allow-http to true in a private network",
                ));
            }
            Some(endpoint) if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") => {
                return Err(at("endpoint", "must begin with https:// (or http://, with allow-http)"));
            }
            _ => {}
        }
        let printable = |text: &String| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !raw.cache_control.as_ref().is_none_or(printable) {
            return Err(at("cache-control", "must be a header's value, such as `public, max-age=60`"));
        }
        let credentials = S3Credentials::check(raw.access_key_id, raw.secret_access_key);
        let credentials = credentials.map_err(|(name, why)| at(name, why))?;
        Ok(Self {
            bucket: raw.bucket,
            prefix: raw.prefix,
            region: raw.region,
            endpoint: raw.endpoint,
            credentials,
            allow_http: raw.allow_http,
            cache_control: raw.cache_control,
            conditional_put: raw.conditional_put,
        })
    }
}

/// `path` relative to the current folder, without `.`. A part that does not exist yet is not resolved.
fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let absolute = absolute.canonicalize().unwrap_or(absolute);
    absolute.components().filter(|component| *component != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn load(s3: &str) -> Result<Config, String> {
        let file = format!("publish: {{ sinks: [ {{ s3: {{ {s3} }} }} ] }}");
        Config::load(Some(&file), std::iter::empty()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bucket_name_is_enough_and_wrong_settings_are_refused_by_name() {
        let config = load("bucket: bbb").unwrap();
        let sink = &config.publish.sinks[0];
        assert_eq!((sink.bucket.as_str(), sink.prefix.as_str()), ("bbb", "lists/"));
        assert!(sink.conditional_put && !sink.allow_http && sink.credentials.is_none());
        for (s3, key, why) in [
            ("prefix: lists/", "publish.sinks[0].s3", "missing field `bucket`"),
            ("bucket: bbb/c", "publish.sinks[0].s3.bucket", "prefix"),
            ("bucket: bbb, prefix: lists", "publish.sinks[0].s3.prefix", "end with `/`"),
            ("bucket: bbb, prefix: a//", "publish.sinks[0].s3.prefix", "end with `/`"),
            ("bucket: bbb, prefix: ../", "publish.sinks[0].s3.prefix", "end with `/`"),
            ("bucket: bbb, endpoint: http://x", "publish.sinks[0].s3.endpoint", "allow-http"),
            ("bucket: bbb, endpoint: x", "publish.sinks[0].s3.endpoint", "https://"),
            ("bucket: bbb, access-key-id: a", "publish.sinks[0].s3.secret-access-key", "missing"),
            ("bucket: bbb, secret-access-key: a", "publish.sinks[0].s3.access-key-id", "missing"),
            ("bucket: bbb, cache-control: \"a\\nb\"", "publish.sinks[0].s3.cache-control", "header"),
            ("bucket: bbb, buckets: c", "publish.sinks[0].s3.buckets", "did you mean `bucket`?"),
        ] {
            let error = load(s3).unwrap_err();
            assert!(error.starts_with(key) && error.contains(why), "{s3}: {error}");
        }
        let twice = "publish: { sinks: [ { s3: { bucket: bbb } }, { s3: { bucket: bbb, region: x } } ] }";
        let error = Config::load(Some(twice), std::iter::empty()).unwrap_err().to_string();
        assert!(error.starts_with("publish.sinks[1].s3: is the same place"), "{error}");
    }

    #[test]
    fn the_secret_is_never_shown() {
        let config = load("bucket: bbb, access-key-id: id, secret-access-key: hidden").unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
        let error = load("bucket: bbb, access-key-id: id, secret-access-key: 918273").unwrap_err();
        assert!(error.contains("put it in quotes") && !error.contains("9182"), "{error}");
        let warned = load("bucket: bbb, conditional-put: false").unwrap();
        assert!(warned.warnings.iter().any(|warning| warning.contains("conditional-put")));
    }
}
