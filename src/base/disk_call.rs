//! The system calls of `durable.rs`, by which the simulator's disk decides what fails and what survives.

use std::path::Path;

use super::clock::Timestamp;

/// One system call that changes a disk; the simulator decides what becomes of it.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// `open` of a file that need not exist.
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
        /// An existing name.
        from: &'a Path,
        /// The second name.
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
