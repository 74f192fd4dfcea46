//! The system calls that change a disk, as values: `durable` makes each through [`system`], so that the simulator can decide what
//! becomes of it.

use std::io;
use std::path::Path;

use super::clock::Timestamp;

/// One system call that changes a disk.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// `open` of a file that need not be there.
    Create(&'a Path),
    /// `write` or `pwrite`.
    Write {
        /// The file.
        path: &'a Path,
        /// What is written.
        bytes: &'a [u8],
        /// Where it begins.
        offset: u64,
    },
    /// `futimens`.
    SetModified(&'a Path, Timestamp),
    /// `fsync` or `fdatasync` of a file.
    Fsync(&'a Path),
    /// `rename`.
    Rename {
        /// The old name.
        from: &'a Path,
        /// The new one.
        to: &'a Path,
    },
    /// `link`.
    Link {
        /// A name that it has.
        from: &'a Path,
        /// One more.
        to: &'a Path,
    },
    /// `unlink`.
    Remove(&'a Path),
    /// `unlink` and `rmdir` of all that is in a folder.
    RemoveFolder(&'a Path),
    /// `mkdir`.
    MakeFolder(&'a Path),
    /// `fsync` of a folder.
    SyncFolder(&'a Path),
    /// `ftruncate`.
    Truncate(&'a Path, u64),
}

/// Makes a system call; every one that changes a disk goes through here.
pub(super) fn system<T>(call: Call<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(feature = "sim")]
    return super::simulated::system(&call, make);
    #[cfg(not(feature = "sim"))]
    {
        let _ = call;
        make()
    }
}
