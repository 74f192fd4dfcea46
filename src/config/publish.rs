//! Where the publisher reads keys and writes files.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::raw::RawPublishRole;
use super::{ConfigError, InstanceConfig, PoolConfig, StoreConfig};
use crate::pool::PoolId;

/// The publisher's folders.
#[derive(Clone, Debug)]
pub struct PublishConfig {
    /// The tokens go into `lists/` below it.
    pub storage_directory: PathBuf,
    /// Where generated development keys are kept.
    pub key_directory: PathBuf,
    /// This instance's part in the publishing.
    pub role: PublishRole,
}

/// What an instance has to do with publishing, where several share a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRole {
    /// Publishes whenever no other instance does.
    Leader,
    /// Takes over only when no leader is left.
    Follower,
    /// Never publishes.
    Off,
}

impl PublishConfig {
    /// Nothing secret may lie where the world reads.
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
            secrets.extend(
                pool.signer
                    .pem
                    .iter()
                    .map(|pem| (format!("status-list-pools.{id}.signer.pem.key"), &pem.key)),
            );
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

/// `path` from the current folder, without `.`; what does not exist yet cannot be resolved further.
fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let absolute = absolute.canonicalize().unwrap_or(absolute);
    absolute.components().filter(|component| *component != Component::CurDir).collect()
}
