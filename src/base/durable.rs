//! Files that survive a power cut: the only place that opens files for writing, gives them names and sets their modes.
//!
//! | System call | What it is for |
//! |---|---|
//! | `open` with `O_CREAT`, `O_EXCL` | a new file under a name that no other file has |
//! | `write`, `pwrite` | the bytes; alone they are in memory only |
//! | `futimens` | the mtime of a published file, before the fsync that makes it durable |
//! | `chmod` | the mode, which the umask may narrow (never widen) when a file or folder is made |
//! | `fsync` of a file | makes its bytes, length and mtime durable, before it gets its final name, so that the name never leads to an incomplete file |
//! | `fdatasync` | the same without the times, for files written in place |
//! | `rename` | replaces a file at once: a reader sees the old one or the new one |
//! | `link` | a name that must be free, or a second name |
//! | `fsync` of a folder | makes the names in it durable: a rename or a new file is durable only after it |
//! | `ftruncate` | undoes what was written in place and not fsynced |
//! | `flock` | keeps other processes out; the system releases it when the process ends, in whatever way |
//! | `mkdir`, `unlink` | makes folders; removes what is no longer needed |
//!
//! **A failing fsync.** The system may have dropped the bytes that it could not write, and reports that once: a second
//! fsync of the same file succeeds although they are lost. So an fsync is never retried to make up for a failed one. A
//! whole file is removed and written anew under another name. A file that is written in place counts as unchanged since its
//! last successful fsync, and its owner writes everything after that again. If the folder's fsync fails, the caller does
//! not know which names are durable and repeats the whole step.
//!
//! **Modes.** Private files have 0600 and private folders 0700, published ones 0644 and 0755, whatever the umask. If others
//! may use a private file, opening it takes their rights, with a warning.
//!
//! Leaves to its callers when to call [`sync_folder`] if several files share one, and how to handle errors. Disks are slow:
//! call nothing here on an async thread.

use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use thiserror::Error;
use uuid::Uuid;

use super::clock::Timestamp;
use super::disk_call::Call;

/// Makes a system call; every one that changes a disk goes through here.
fn system<T>(call: Call<'_>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(feature = "sim")]
    return super::simulated::system(&call, make);
    #[cfg(not(feature = "sim"))]
    {
        let _ = call;
        make()
    }
}

/// Temporary files, and no others, have names that begin with this.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// The permission bits of everyone but the owner.
const OTHERS: u32 = 0o077;

/// Who may use a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The owner only.
    Private,
    /// The owner writes, everyone reads.
    Public,
}

impl Mode {
    const fn of_file(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }

    const fn of_folder(self) -> u32 {
        match self {
            Self::Private => 0o700,
            Self::Public => 0o755,
        }
    }
}

/// A file or folder that could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {action} {path}: {source}", path = path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// `action` completes "cannot … PATH".
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// What kind of error the system reported.
    pub fn kind(&self) -> ErrorKind {
        self.source.kind()
    }
}

/// Adds action and path to the error of a system call.
fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| FileError::new(action, path, source)
}

/// Writes a whole file and replaces any file of this name. Durable when it returns.
pub fn replace(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), FileError> {
    Temporary::write(path, bytes, mode, None)?.rename_to(path)?;
    sync_folder(folder_of(path))
}

/// Writes a whole file. Fails with [`ErrorKind::AlreadyExists`] if the name is taken. Durable when it returns.
pub fn create_new(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), FileError> {
    Temporary::write(path, bytes, mode, None)?.link_to(path)?;
    sync_folder(folder_of(path))
}

/// A whole, durable file under a temporary name. Dropping it removes the file unless it got its final name, so that an
/// abandoned write does not fill a full disk further.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// Writes a file beside `path`, the name that it is to get. Makes the folder again if it was deleted.
    pub fn write(
        path: &Path,
        bytes: &[u8],
        mode: Mode,
        modified: Option<Timestamp>,
    ) -> Result<Self, FileError> {
        let temporary = Self(path.with_file_name(format!("{TEMPORARY_PREFIX}{}", Uuid::new_v4())));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode.of_file());
        let path = temporary.0.as_path();
        let open = || open_in_folder(path, &options, mode);
        let mut file = system(Call::Create(path), open).map_err(failed("write", path))?;
        let mut write = || {
            set_mode_of_new(&file, mode)?;
            system(Call::Write { path, bytes, offset: 0 }, || file.write_all(bytes))?;
            if let Some(modified) = modified {
                let times = UNIX_EPOCH + Duration::from_millis(modified.millis());
                let times = FileTimes::new().set_modified(times);
                system(Call::SetModified(path, modified), || file.set_times(times))?;
            }
            system(Call::Fsync(path), || file.sync_all())
        };
        write().map_err(failed("write", path))?;
        Ok(temporary)
    }

    /// Lets a library write a private file beside `path`, the name that it is to get. It finds an empty file. Returns what `write`
    /// returns as well.
    pub fn written_by<T>(path: &Path, write: impl FnOnce(&Path) -> T) -> Result<(Self, T), FileError> {
        let temporary = Self(path.with_file_name(format!("{TEMPORARY_PREFIX}{}", Uuid::new_v4())));
        let path = temporary.0.as_path();
        create_private(path)?;
        let written = write(path);
        let file = File::open(path).map_err(failed("open", path))?;
        system(Call::Fsync(path), || file.sync_all()).map_err(failed("write", path))?;
        Ok((temporary, written))
    }

    /// Gives the file its final name and replaces any file of that name. Durable after [`sync_folder`].
    pub fn rename_to(self, path: &Path) -> Result<(), FileError> {
        let call = Call::Rename { from: &self.0, to: path };
        system(call, || fs::rename(&self.0, path)).map_err(failed("rename a file to", path))
    }

    /// Gives the file a second name, which must be free. Durable after [`sync_folder`].
    pub fn link_to(&self, path: &Path) -> Result<(), FileError> {
        let call = Call::Link { from: &self.0, to: path };
        system(call, || fs::hard_link(&self.0, path)).map_err(failed("link a file to", path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename, no file has this name.
        let _ = system(Call::Remove(&self.0), || fs::remove_file(&self.0));
    }
}

/// A private file that is changed in place: a log, or records of a fixed length.
#[derive(Debug)]
pub struct InPlace {
    path: PathBuf,
    file: File,
}

impl InPlace {
    /// Opens the file, or makes an empty one whose name is durable. The folder must exist.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(Mode::Private.of_file());
        let file = system(Call::Create(path), || options.open(path)).map_err(failed("open", path))?;
        keep_private(path)?;
        sync_folder(folder_of(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes at this offset. Durable after [`Self::sync`].
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), FileError> {
        let call = Call::Write { path: &self.path, bytes, offset };
        system(call, || self.file.write_all_at(bytes, offset)).map_err(failed("write", &self.path))
    }

    /// Makes everything written durable. If it fails, everything since the last success must be written again.
    pub fn sync(&self) -> Result<(), FileError> {
        system(Call::Fsync(&self.path), || self.file.sync_data()).map_err(failed("fsync", &self.path))
    }

    /// Cuts the file to this many bytes.
    pub fn truncate(&self, length: u64) -> Result<(), FileError> {
        let call = Call::Truncate(&self.path, length);
        system(call, || self.file.set_len(length)).map_err(failed("shorten", &self.path))
    }

    /// The bytes from `offset` to the end.
    pub fn read_from(&self, offset: u64) -> Result<Vec<u8>, FileError> {
        let read = || {
            let length = self.file.metadata()?.len().saturating_sub(offset);
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            self.file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        read().map_err(failed("read", &self.path))
    }

    /// Whether the path still leads to this file: `false` if it leads to no file, an error if it leads to another.
    pub fn is_in_place(&self) -> Result<bool, FileError> {
        let there = match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            there => there.map_err(failed("read", &self.path))?,
        };
        let ours = self.file.metadata().map_err(failed("read", &self.path))?;
        if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) {
            return Ok(true);
        }
        let why = io::Error::other("another file was put in its place; move it away");
        Err(FileError::new("write", &self.path, why))
    }

    /// Renames the file and replaces any file of that name. Durable after [`sync_folder`].
    pub fn rename_to(&mut self, path: &Path) -> Result<(), FileError> {
        rename(&self.path, path)?;
        path.clone_into(&mut self.path);
        Ok(())
    }
}

/// A file that at most one holder in all processes has locked. The lock ends when this is dropped or the process ends.
#[derive(Debug)]
pub struct LockFile(File);

impl LockFile {
    /// Locks the file, and makes it if it is missing. Returns `None` if it is already locked.
    pub fn try_lock(path: &Path, mode: Mode) -> Result<Option<Self>, FileError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(mode.of_file());
        let file = open_in_folder(path, &options, mode).map_err(failed("open", path))?;
        if mode == Mode::Private {
            keep_private(path)?;
        }
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed("lock", path)(source)),
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing the file would release the lock too, unless a child process has just inherited it.
        let _ = self.0.unlock();
    }
}

/// Makes an empty private file if there is none, for a library that writes it by itself. Takes other users' rights from an
/// existing one.
pub fn create_private(path: &Path) -> Result<(), FileError> {
    let mut options = OpenOptions::new();
    // Never opens an existing file: closing it would release the locks that the library has on it.
    match options.write(true).create_new(true).mode(Mode::Private.of_file()).open(path) {
        Ok(file) => {
            set_mode_of_new(&file, Mode::Private).map_err(failed("make private", path))?;
            sync_folder(folder_of(path))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => keep_private(path),
        Err(source) => Err(failed("create", path)(source)),
    }
}

/// Takes other users' rights from a private file, with a warning, if it exists and they have any.
pub fn keep_private(path: &Path) -> Result<(), FileError> {
    take_rights(path, Mode::Private.of_file())
}

/// Takes other users' rights from a folder for private files, with a warning, if it exists. Only warns of a folder that
/// holds more than our files: closing it could stop other programs.
pub fn keep_folder_private(path: &Path) -> Result<(), FileError> {
    if !is_open_to_others(path) {
        return Ok(());
    }
    if holds_more(path).map_err(failed("read", path))? {
        tracing::warn!(
            path = %path.display(),
            "other users of this machine can read a folder of private files; it also holds other files, so its mode was not changed; name a folder of its own in the settings"
        );
        return Ok(());
    }
    take_rights(path, Mode::Private.of_folder())
}

/// Whether closing this folder would close more than private files: the working directory, a folder for everyone's files
/// such as /tmp, or folders that are open to others.
fn holds_more(folder: &Path) -> io::Result<bool> {
    if is_sticky(folder)? || std::env::current_dir()?.starts_with(folder.canonicalize()?) {
        return Ok(true);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && is_open_to_others(&entry.path()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_sticky(folder: &Path) -> io::Result<bool> {
    Ok(fs::metadata(folder)?.mode() & 0o1000 != 0)
}

/// Whether there is a folder of this name that other users may read.
pub fn is_open_to_others(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.mode() & OTHERS != 0)
}

fn take_rights(path: &Path, mode: u32) -> Result<(), FileError> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed("read", path))?.mode() & 0o7777,
    };
    // An odd umask may have taken some of the owner's own rights.
    if found & OTHERS == 0 && found & mode == mode {
        return Ok(());
    }
    let (shown, was) = (path.display(), format!("{found:04o}"));
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        Ok(()) if found & OTHERS == 0 => {}
        Ok(()) => {
            tracing::warn!(
                path = %shown, was,
                "other users of this machine could use a private file or folder; took their rights, but they may have read it before"
            );
        }
        // It belongs to another user, who gave us access through a group.
        Err(error) => {
            tracing::warn!(
                path = %shown, was, %error,
                "other users of this machine can use a private file or folder; remove their rights with chmod {mode:o}, or give it to the service's user"
            );
        }
    }
    Ok(())
}

/// Makes a folder and any missing folders above it. Their names are durable when it returns.
pub fn create_folders(path: &Path, mode: Mode) -> Result<(), FileError> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        create_folders(above, mode)?;
    }
    match system(Call::MakeFolder(path), || DirBuilder::new().mode(mode.of_folder()).create(path)) {
        Ok(()) => {
            let permissions = Permissions::from_mode(mode.of_folder());
            fs::set_permissions(path, permissions).map_err(failed("set the mode of", path))?;
            sync_folder(folder_of(path))
        }
        // Another process made it first.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(source) => Err(failed("create", path)(source)),
    }
}

/// Makes all names in a folder durable: of files made, renamed or linked there so far.
pub fn sync_folder(folder: &Path) -> Result<(), FileError> {
    let sync = || File::open(folder).and_then(|folder| folder.sync_all());
    system(Call::SyncFolder(folder), sync).map_err(failed("fsync", folder))
}

/// Renames a file and replaces any file of that name. Durable after [`sync_folder`].
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    system(Call::Rename { from, to }, || fs::rename(from, to)).map_err(failed("rename", from))
}

/// Removes a file, if it exists.
pub fn remove(path: &Path) -> Result<(), FileError> {
    fine_if_missing(system(Call::Remove(path), || fs::remove_file(path))).map_err(failed("remove", path))
}

/// Removes a folder and everything in it, if it exists.
pub fn remove_folder(path: &Path) -> Result<(), FileError> {
    let removed = system(Call::RemoveFolder(path), || fs::remove_dir_all(path));
    fine_if_missing(removed).map_err(failed("remove", path))
}

/// The folder that contains this file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens a file; makes its folder again if it was deleted.
fn open_in_folder(path: &Path, options: &OpenOptions, mode: Mode) -> io::Result<File> {
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_folders(folder_of(path), mode).map_err(|error| error.source)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// Gives a new file the rights that the umask took. File systems without modes refuse, which is harmless where everyone may
/// read anyway.
fn set_mode_of_new(file: &File, mode: Mode) -> io::Result<()> {
    let (found, wanted) = (file.metadata()?.mode() & 0o777, mode.of_file());
    if found == wanted || mode == Mode::Public && found & wanted == wanted {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(wanted))
}

fn fine_if_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_its_folder_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/file");
        for (bytes, mode) in [(b"one", Mode::Private), (b"two", Mode::Public)] {
            replace(&path, bytes, mode).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(mode_of(&path), mode.of_file());
        }
        assert_eq!((mode_of(&folder.path().join("a")), mode_of(&folder.path().join("a/b"))), (0o700, 0o700));
        assert_eq!(names(&folder.path().join("a/b")), ["file"], "nothing else is left");
    }

    #[test]
    fn a_name_that_is_taken_is_refused_and_keeps_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_new(&path, b"one", Mode::Private).unwrap();
        let error = create_new(&path, b"two", Mode::Private).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(
            (fs::read(&path).unwrap(), names(folder.path())),
            (b"one".to_vec(), vec!["key".to_owned()])
        );
    }

    #[test]
    fn a_file_has_the_mtime_that_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let temporary =
            Temporary::write(&path, b"x", Mode::Public, Some(Timestamp::from_secs(1_700_000_000)));
        temporary.unwrap().rename_to(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mtime(), 1_700_000_000);
    }

    #[test]
    fn a_temporary_file_without_a_final_name_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = Temporary::write(&folder.path().join("file"), b"x", Mode::Private, None).unwrap();
        assert!(names(folder.path())[0].starts_with(TEMPORARY_PREFIX));
        drop(temporary);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_lock_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = LockFile::try_lock(&path, Mode::Private).unwrap();
        assert!(held.is_some() && LockFile::try_lock(&path, Mode::Private).unwrap().is_none());
        drop(held);
        assert!(LockFile::try_lock(&path, Mode::Private).unwrap().is_some());
        assert_eq!(mode_of(&path), 0o600);
    }

    #[test]
    fn a_file_in_place_knows_when_its_path_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = InPlace::open(&path).unwrap();
        log.write_at(b"0123", 0).unwrap();
        log.sync().unwrap();
        log.truncate(3).unwrap();
        assert_eq!(log.read_from(1).unwrap(), b"12");
        assert!(log.is_in_place().unwrap());
        rename(&path, &other).unwrap();
        assert!(!log.is_in_place().unwrap());
        InPlace::open(&path).unwrap();
        let error = log.is_in_place().unwrap_err().to_string();
        assert!(error.contains("log: another file was put in its place"), "{error}");
    }

    #[test]
    fn private_files_that_others_may_use_are_made_private() {
        let folder = tempfile::tempdir().unwrap();
        let chmod = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for (number, open) in [
            (|path| InPlace::open(path).map(drop)) as fn(&Path) -> Result<(), FileError>,
            |path| LockFile::try_lock(path, Mode::Private).map(drop),
            create_private,
        ]
        .into_iter()
        .enumerate()
        {
            let path = folder.path().join(number.to_string());
            open(&path).unwrap();
            assert_eq!(mode_of(&path), 0o600, "new, {number}");
            chmod(&path, 0o664);
            open(&path).unwrap();
            assert_eq!(mode_of(&path), 0o600, "corrected, {number}");
        }
        let private = folder.path().join("folder");
        create_folders(&private, Mode::Private).unwrap();
        assert!(!is_open_to_others(&private));
        chmod(&private, 0o755);
        create_folders(&private, Mode::Private).unwrap();
        assert!(is_open_to_others(&private), "an existing folder keeps its mode");
        keep_folder_private(&private).unwrap();
        assert_eq!(mode_of(&private), 0o700);
        keep_private(&folder.path().join("missing")).unwrap();
    }

    #[test]
    fn a_folder_that_holds_more_than_private_files_is_left_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared");
        for (mode, inside, left) in [
            (0o1777, None, 0o1777),
            (0o755, Some(Mode::Public), 0o755),
            (0o755, Some(Mode::Private), 0o700),
            (0o770, None, 0o700),
        ] {
            create_folders(&path, Mode::Private).unwrap();
            inside.iter().for_each(|inside| create_folders(&path.join("inside"), *inside).unwrap());
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            keep_folder_private(&path).unwrap();
            assert_eq!(mode_of(&path), left, "{mode:o}, {inside:?}");
            remove_folder(&path).unwrap();
        }
        let working = std::env::current_dir().unwrap();
        assert!(holds_more(&working).unwrap() && holds_more(working.parent().unwrap()).unwrap());
        keep_folder_private(&path).unwrap();
    }

    #[test]
    fn errors_name_action_and_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        replace(&file, b"", Mode::Private).unwrap();
        let below = file.join("x");
        for (error, action) in [
            (replace(&below, b"", Mode::Private).unwrap_err(), "cannot write"),
            (InPlace::open(&below).unwrap_err(), "cannot open"),
            (create_folders(&below, Mode::Public).unwrap_err(), "cannot create"),
            (rename(&below, &file).unwrap_err(), "cannot rename"),
            (remove(&below).unwrap_err(), "cannot remove"),
            (sync_folder(&below).unwrap_err(), "cannot fsync"),
        ] {
            let text = error.to_string();
            assert!(text.starts_with(action) && text.contains(&*file.to_string_lossy()), "{text}");
        }
    }
}
