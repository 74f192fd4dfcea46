//! Where a database lies, by whatever path it is named.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::durable;

/// The path of a database without links. It need not exist yet: then the path where it will be made, also if links lead there.
pub(super) fn real_path(path: &Path) -> io::Result<PathBuf> {
    /// As many as Linux follows.
    const LINKS_MAX: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let folder = durable::folder_of(&path).canonicalize()?;
        match path.read_link() {
            Ok(target) => path = folder.join(target),
            Err(_) => return Ok(folder.join(path.file_name().unwrap_or_default())),
        }
    }
    Err(io::Error::other("too many links lead to it"))
}
