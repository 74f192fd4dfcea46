//! What one instance remembers outside the store: who it is. Its folder also holds the high-water marks that `allocate/`
//! compares the store with, so it must never be restored from a backup together with the store.
//!
//! Invariant: one process at a time is this instance; the folder is locked as long as the value lives.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::instance::InstanceId;

/// One running copy of the service.
#[derive(Debug)]
pub struct Instance {
    id: InstanceId,
    directory: PathBuf,
    /// The system lets go of it when the process ends, however it ends.
    _lock: File,
}

/// Why an instance cannot be the one of this folder.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// Another process is this instance.
    #[error(
        "{directory} is used by another process; stop it first, or give this one an `instance-directory` of its own",
        directory = .0.display()
    )]
    InUse(PathBuf),
    /// The id cannot be read as one.
    #[error("{path} holds no id of an instance; remove the whole folder, and this becomes a new instance", path = .0.display())]
    Damaged(PathBuf),
    /// A file or folder cannot be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Instance {
    /// The instance of this folder; a new one if the folder is empty or not there.
    pub fn open(directory: &Path) -> Result<Self, InstanceError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| InstanceError::Unusable { path, source }
        };
        fs::create_dir_all(directory).map_err(unusable(directory))?;
        let path = directory.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(unusable(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(InstanceError::InUse(directory.to_owned())),
            Err(TryLockError::Error(source)) => return Err(unusable(&path)(source)),
        }
        let path = directory.join("id");
        let id = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| InstanceError::Damaged(path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = InstanceId::random();
                write_durably(&path, &format!("{id}\n")).map_err(unusable(&path))?;
                id
            }
            Err(source) => return Err(unusable(&path)(source)),
        };
        Ok(Self { id, directory: directory.to_owned(), _lock: lock })
    }

    /// Who this is to the other instances.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Where the marks are kept.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A crash leaves the whole file or none.
fn write_durably(path: &Path, content: &str) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
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
        write_durably(&folder.path().join("id"), "not an id!\n").unwrap();
        let error = Instance::open(folder.path()).unwrap_err();
        assert!(
            matches!(error, InstanceError::Damaged(_)) && error.to_string().contains("remove"),
            "{error}"
        );
    }
}
