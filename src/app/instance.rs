//! What identifies an instance outside the store: its id. Its folder also holds the high-water marks that `allocate/`
//! compares the store with, so it must never be restored from a backup together with the store.
//!
//! Invariant: only one process at a time runs as this instance. The folder is locked as long as the value lives.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::base::durable::{self, FileError, LockFile, Mode};
use crate::model::instance::InstanceId;

/// One running instance of the service.
#[derive(Debug)]
pub struct Instance {
    id: InstanceId,
    directory: PathBuf,
    /// The system releases it when the process ends, in whatever way.
    _lock: LockFile,
}

/// Why this process cannot run as the instance of this folder.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// Another process runs as this instance.
    #[error(
        "{directory} is used by another process; stop it first, or give this one an `instance-directory` of its own",
        directory = .0.display()
    )]
    InUse(PathBuf),
    /// The file of the id is damaged.
    #[error("{path} does not hold an instance's id; remove the whole folder, and this process becomes a new instance", path = .0.display())]
    Damaged(PathBuf),
    /// A file or folder cannot be used.
    #[error(transparent)]
    Unusable(#[from] FileError),
}

impl Instance {
    /// Opens the instance of this folder. Makes a new one if the folder is empty or missing.
    pub fn open(directory: &Path) -> Result<Self, InstanceError> {
        durable::create_folders(directory, Mode::Private)?;
        durable::keep_folder_private(directory)?;
        let lock = LockFile::try_lock(&directory.join("lock"), Mode::Private)?;
        let lock = lock.ok_or_else(|| InstanceError::InUse(directory.to_owned()))?;
        let path = directory.join("id");
        durable::keep_private(&path)?;
        let id = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| InstanceError::Damaged(path))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let id = InstanceId::random();
                durable::replace(&path, format!("{id}\n").as_bytes(), Mode::Private)?;
                id
            }
            Err(source) => return Err(FileError::new("read", &path, source).into()),
        };
        Ok(Self { id, directory: directory.to_owned(), _lock: lock })
    }

    /// The id by which other instances know this one.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// The folder of the marks.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_keeps_its_id_and_runs_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instance");
        let first = Instance::open(&path).unwrap();
        let id = first.id().clone();
        let error = Instance::open(&path).unwrap_err();
        assert!(matches!(error, InstanceError::InUse(_)) && error.to_string().contains("instance-directory"));
        drop(first);
        assert_eq!(*Instance::open(&path).unwrap().id(), id);
        let other = Instance::open(&folder.path().join("other")).unwrap();
        assert_ne!(*other.id(), id);
    }

    #[test]
    fn a_damaged_id_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        durable::replace(&folder.path().join("id"), b"not an id!\n", Mode::Private).unwrap();
        let error = Instance::open(folder.path()).unwrap_err();
        assert!(
            matches!(error, InstanceError::Damaged(_)) && error.to_string().contains("remove"),
            "{error}"
        );
    }
}
