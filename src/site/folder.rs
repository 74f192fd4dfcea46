//! The output folder: whole files or none. `<folder>/<list id>.{jwt,jwt.gz,cwt,json,cbor}`, `aggregation/<pool>.json`, `jwks.json`.
//!
//! A file is durable under another name before it is renamed, so a reader sees the old one or the new one. Its mtime is the
//! token's `iat`, so that every node has the same Last-Modified, and a web server's mtime-and-size ETag never repeats. Several
//! instances may share the folder: they put files in place under a lock.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use flate2::{Compression, GzBuilder};
use tokio::time::Instant;

use crate::base::clock::Timestamp;
use crate::base::durable::{self, FileError, LockFile, Mode, Temporary};
use crate::config::Formats;
use crate::model::pool::PoolId;
use crate::status_list::ListId;

/// What the names of a list's files end with.
const EXTENSIONS: [&str; 5] = ["json", "cbor", "jwt.gz", "jwt", "cwt"];

/// How long to wait for another instance that is putting files in place.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it is done.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// The output folder.
#[derive(Clone, Debug)]
pub struct Site {
    folder: PathBuf,
}

/// The bytes of one publication.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TokenFiles {
    /// The JWT.
    pub jwt: Option<Vec<u8>>,
    /// The JWT compressed with gzip, for web servers that send prepared files.
    pub jwt_gz: Option<Vec<u8>>,
    /// The CWT. It is compressed already; gzip would make it larger.
    pub cwt: Option<Vec<u8>>,
    /// The list without a signature, in JSON.
    pub json: Option<Vec<u8>>,
    /// The same in CBOR.
    pub cbor: Option<Vec<u8>>,
}

/// The files of one publication, durable under other names, until [`Self::put`] gives them theirs.
#[derive(Debug)]
pub struct Prepared {
    files: Vec<(Temporary, PathBuf)>,
    /// Of formats that the list does not have any more: nobody renews them.
    obsolete: Vec<PathBuf>,
    /// Where the tokens are kept as well, without their extension.
    archive: Option<PathBuf>,
}

/// Which files of a list there are: changes when any of them is replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamp([Option<(u64, i64, i64, u64)>; EXTENSIONS.len()]);

/// Keeps other instances that share the folder from putting files in place. Ends with the process, however it ends.
#[derive(Debug)]
pub struct SiteLock(#[expect(dead_code, reason = "held, not used")] LockFile);

/// A file or folder that could not be read or written.
pub type SiteError = FileError;

impl TokenFiles {
    /// The files of a publication.
    pub fn new(jwt: Option<String>, cwt: Option<Vec<u8>>) -> Self {
        Self { jwt: jwt.map(String::into_bytes), cwt, ..Self::default() }.compressed()
    }

    /// Adds the list without a signature.
    #[must_use]
    pub fn with_raw(self, json: Option<Vec<u8>>, cbor: Option<Vec<u8>>) -> Self {
        let lengths = [self.cwt.as_ref().map(Vec::len), cbor.as_ref().map(Vec::len)];
        let json = json.map(|mut json| {
            while lengths.contains(&Some(json.len())) {
                // White space that changes nothing but the length.
                json.push(b'\n');
            }
            json
        });
        Self { json, cbor, ..self }.compressed()
    }

    /// Compresses the JWT, to a length that no other file of the publication has.
    fn compressed(mut self) -> Self {
        let others = [&self.cwt, &self.json, &self.cbor];
        let lengths: Vec<_> = others.into_iter().flatten().map(Vec::len).collect();
        self.jwt_gz = self.jwt.as_deref().map(|jwt| gzip(jwt, &lengths));
        self
    }

    /// All files that a publication can have, by extension, in the order in which they get their names: the prepared gzip
    /// before the plain form, so that a server that finds it next to an older plain file sends the newer token.
    fn by_extension(&self) -> [(&'static str, &Option<Vec<u8>>); 5] {
        let [json, cbor, jwt_gz, jwt, cwt] = EXTENSIONS;
        [(json, &self.json), (cbor, &self.cbor), (jwt_gz, &self.jwt_gz), (jwt, &self.jwt), (cwt, &self.cwt)]
    }
}

impl Site {
    /// The folder `lists` in the storage directory, made if it is not there.
    pub fn open(storage_directory: &Path) -> Result<Self, SiteError> {
        let site = Self { folder: storage_directory.join("lists") };
        let aggregations = site.folder.join("aggregation");
        durable::create_folders(&aggregations, Mode::Public)?;
        Ok(site)
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the files of one publication under temporary names.
    pub fn prepare(&self, list: &ListId, files: &TokenFiles, iat: u64) -> Result<Prepared, SiteError> {
        let parts = files.by_extension();
        let mut prepared =
            Prepared { files: Vec::with_capacity(parts.len()), obsolete: Vec::new(), archive: None };
        for (extension, bytes) in parts {
            let path = self.path(list, extension);
            match bytes {
                Some(bytes) => {
                    prepared.files.push((
                        Temporary::write(&path, bytes, Mode::Public, Some(Timestamp::from_secs(iat)))?,
                        path,
                    ));
                }
                None => prepared.obsolete.push(path),
            }
        }
        Ok(prepared)
    }

    /// Writes the mark of a list that is gone, in whose place its tokens are removed.
    pub fn prepare_retirement(&self, list: &ListId) -> Result<Prepared, SiteError> {
        let path = self.path(list, "gone");
        let files = vec![(Temporary::write(&path, &[], Mode::Public, None)?, path)];
        let obsolete = EXTENSIONS.map(|extension| self.path(list, extension)).to_vec();
        Ok(Prepared { files, obsolete, archive: None })
    }

    /// Whether a list's tokens were removed, and nothing but the mark is there.
    pub fn is_retired(&self, list: &ListId) -> bool {
        let there = |extension| self.path(list, extension).exists();
        there("gone") && !EXTENSIONS.into_iter().any(there)
    }

    /// Where the tokens of a list are kept that are not current any more.
    pub fn history(&self, list: &ListId) -> PathBuf {
        self.folder.with_file_name("history").join(list.to_string())
    }

    /// Prepares the files of one publication and puts them in place. The new names are durable after [`Self::sync`].
    pub fn write_list(&self, list: &ListId, files: &TokenFiles, iat: u64) -> Result<(), SiteError> {
        self.prepare(list, files, iat)?.put()
    }

    /// Which files of this list there are now.
    pub fn stamp(&self, list: &ListId) -> Stamp {
        Stamp(EXTENSIONS.map(|extension| {
            let of = fs::metadata(self.path(list, extension)).ok()?;
            Some((of.ino(), of.mtime(), of.mtime_nsec(), of.len()))
        }))
    }

    /// The lock of this name; waits for another instance that has it, but not for one that hangs.
    pub async fn lock(&self, name: &str) -> Result<SiteLock, SiteError> {
        let begun = Instant::now();
        loop {
            if let Some(lock) = self.try_lock(name)? {
                return Ok(lock);
            }
            if begun.elapsed() > LOCK_PATIENCE {
                let why =
                    format!("another instance has had it for {LOCK_PATIENCE:?}; if that hangs, stop it");
                let source = io::Error::new(io::ErrorKind::WouldBlock, why);
                return Err(FileError::new("lock", &self.lock_path(name), source));
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.lock"))
    }

    /// The lock of this name, if no other instance has it now.
    fn try_lock(&self, name: &str) -> Result<Option<SiteLock>, SiteError> {
        Ok(LockFile::try_lock(&self.lock_path(name), Mode::Public)?.map(SiteLock))
    }

    /// Whether a list has files of a format that is not published any more.
    pub fn has_others(&self, list: &ListId, formats: Formats) -> bool {
        let wanted = [formats.json, formats.cbor, formats.jwt, formats.jwt, formats.cwt];
        let there = |extension| self.path(list, extension).exists();
        EXTENSIONS.into_iter().zip(wanted).any(|(extension, wanted)| !wanted && there(extension))
    }

    /// The largest mtime of a list's files up to `now`, in seconds since 1970: no `iat` up to it may be used again, even if
    /// the file that has it is one of a set that a crash cut short.
    pub fn latest_mtime(&self, list: &ListId, now: u64) -> Option<u64> {
        let mtimes = EXTENSIONS.into_iter().filter_map(|extension| {
            let modified = fs::metadata(self.path(list, extension)).ok()?.modified().ok()?;
            Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs())
        });
        mtimes.filter(|mtime| *mtime <= now).max()
    }

    /// Writes the aggregation of a pool.
    pub fn write_aggregation(&self, pool: &PoolId, document: &[u8]) -> Result<(), SiteError> {
        let path = self.folder.join("aggregation").join(format!("{pool}.json"));
        durable::replace(&path, document, Mode::Public)
    }

    /// Removes the aggregation of a pool that has none any more.
    pub fn remove_aggregation(&self, pool: &PoolId) -> Result<(), SiteError> {
        durable::remove(&self.folder.join("aggregation").join(format!("{pool}.json")))
    }

    /// The published public keys, if there are any.
    pub fn read_jwks(&self) -> Result<Option<Vec<u8>>, SiteError> {
        read(&self.folder.join("jwks.json"))
    }

    /// Writes the public keys.
    pub fn write_jwks(&self, document: &[u8]) -> Result<(), SiteError> {
        durable::replace(&self.folder.join("jwks.json"), document, Mode::Public)
    }

    /// Makes the names of all files written so far durable.
    pub fn sync(&self) -> Result<(), SiteError> {
        durable::sync_folder(&self.folder)
    }

    /// The published JWT or CWT of a list, if there is one.
    pub fn read(&self, list: &ListId, formats: Formats) -> Result<TokenFiles, SiteError> {
        let read =
            |wanted: bool, extension| if wanted { read(&self.path(list, extension)) } else { Ok(None) };
        Ok(TokenFiles {
            jwt: read(formats.jwt, "jwt")?,
            jwt_gz: read(formats.jwt, "jwt.gz")?,
            cwt: read(formats.cwt, "cwt")?,
            json: read(formats.json, "json")?,
            cbor: read(formats.cbor, "cbor")?,
        })
    }

    fn path(&self, list: &ListId, extension: &str) -> PathBuf {
        self.folder.join(format!("{list}.{extension}"))
    }
}

impl Prepared {
    /// Keeps the tokens for "Historical Resolution" as well.
    #[must_use]
    pub fn archived(self, site: &Site, list: &ListId, iat: u64) -> Self {
        Self { archive: Some(site.history(list).join(iat.to_string())), ..self }
    }

    /// Gives the files their names, and removes those of formats that the list does not have any more.
    pub fn put(self) -> Result<(), SiteError> {
        // Archived first: a token that was current is never missing there.
        if let Some(archive) = &self.archive {
            let folder = archive.parent().unwrap_or(archive);
            durable::create_folders(folder, Mode::Public)?;
            for (temporary, path) in &self.files {
                let extension = path.extension().unwrap_or_default();
                if extension != "jwt" && extension != "cwt" {
                    continue;
                }
                let kept = archive.with_extension(extension);
                // The same bytes under a second name; one that a crash left is of a token that was never current.
                durable::remove(&kept)?;
                temporary.link_to(&kept)?;
            }
            durable::sync_folder(folder)?;
        }
        for (temporary, path) in self.files {
            temporary.rename_to(&path)?;
        }
        self.obsolete.iter().try_for_each(|path| durable::remove(path))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, SiteError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::new("read", path, source)),
    }
}

/// `bytes` compressed, but never to one of these lengths: a web server's ETag is made of mtime and length, and the other
/// files of the same publication have the same mtime.
fn gzip(bytes: &[u8], not_lengths: &[usize]) -> Vec<u8> {
    let mut comment = String::new();
    loop {
        let builder =
            if comment.is_empty() { GzBuilder::new() } else { GzBuilder::new().comment(comment.clone()) };
        let mut encoder = builder.write(Vec::new(), Compression::best());
        let compressed = encoder.write_all(bytes).and_then(|()| encoder.finish());
        let compressed = compressed.expect("writing to memory does not fail");
        if !not_lengths.contains(&compressed.len()) {
            return compressed;
        }
        comment.push('j');
    }
}

/// What `gzip` made `bytes` from, if that is at most `bytes_max` long.
pub(crate) fn gunzip(bytes: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).take(bytes_max as u64 + 1).read_to_end(&mut plain)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::base::durable::TEMPORARY_PREFIX;

    fn site() -> (tempfile::TempDir, Site) {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::open(folder.path()).unwrap();
        (folder, site)
    }

    const BOTH: Formats = Formats { jwt: true, cwt: true, json: false, cbor: false };

    #[test]
    fn files_are_written_whole_with_iat_as_mtime() {
        let (_folder, site) = site();
        let list = ListId::random();
        assert_eq!(site.read(&list, BOTH).unwrap(), TokenFiles::default());
        let files = TokenFiles::new(Some("a.b.c".into()), Some(vec![1, 2, 3]));
        site.write_list(&list, &files, 1_700_000_000).unwrap();
        site.sync().unwrap();
        assert_eq!(site.read(&list, BOTH).unwrap(), files);
        for extension in ["jwt", "jwt.gz", "cwt"] {
            let modified = fs::metadata(site.path(&list, extension)).unwrap().modified().unwrap();
            assert_eq!(modified, UNIX_EPOCH + Duration::from_secs(1_700_000_000), "{extension}");
        }
        let names: Vec<_> =
            fs::read_dir(site.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(TEMPORARY_PREFIX)), "{names:?}");
    }

    fn names(site: &Site) -> Vec<String> {
        fs::read_dir(site.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_deleted_folder_comes_back() {
        let (folder, site) = site();
        fs::remove_dir_all(folder.path().join("lists")).unwrap();
        site.write_list(&ListId::random(), &TokenFiles::new(Some("a".into()), None), 1).unwrap();
        assert_eq!(names(&site).len(), 2);
    }

    #[test]
    fn a_format_that_is_dropped_leaves_no_file() {
        let (_folder, site) = site();
        let list = ListId::random();
        site.write_list(&list, &TokenFiles::new(Some("a".into()), Some(vec![1])), 1).unwrap();
        let only_cwt = Formats { jwt: false, cwt: true, json: false, cbor: false };
        assert!(site.has_others(&list, only_cwt));
        site.write_list(&list, &TokenFiles::new(None, Some(vec![2])), 2).unwrap();
        assert!(!site.has_others(&list, only_cwt));
        assert!(names(&site).contains(&format!("{list}.cwt")), "{:?}", names(&site));
        assert!(!names(&site).contains(&format!("{list}.jwt")), "{:?}", names(&site));
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let (_folder, site) = site();
        let list = ListId::random();
        // A folder where the file should be: the renaming fails after all parts were written.
        fs::create_dir(site.path(&list, "jwt")).unwrap();
        fs::create_dir(site.path(&list, "jwt").join("x")).unwrap();
        site.write_list(&list, &TokenFiles::new(Some("a".into()), Some(vec![1])), 1).unwrap_err();
        assert!(names(&site).iter().all(|name| !name.starts_with(TEMPORARY_PREFIX)), "{:?}", names(&site));
    }

    /// How many reads saw neither the old nor the new token, while `write` replaced it again and again.
    fn torn_reads(write: impl Fn(&Site, &ListId, &TokenFiles, u64) + Sync) -> usize {
        let (_folder, site) = site();
        let list = ListId::random();
        // Large enough that writing takes a while; every byte of a token is the same, so a mixture shows.
        let token = |byte: u8| TokenFiles { jwt: Some(vec![byte; 300_000]), ..TokenFiles::default() };
        write(&site, &list, &token(0), 1);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut torn = 0;
                while !stop.load(Ordering::SeqCst) {
                    let seen = site.read(&list, BOTH).unwrap().jwt.unwrap_or_default();
                    torn += usize::from(seen.len() != 300_000 || seen.iter().any(|byte| *byte != seen[0]));
                }
                torn
            });
            for round in 2..200_u8 {
                write(&site, &list, &token(round), round.into());
            }
            stop.store(true, Ordering::SeqCst);
            reader.join().unwrap()
        })
    }

    #[test]
    fn readers_never_see_a_torn_file_but_would_if_it_were_written_in_place() {
        assert_eq!(torn_reads(|site, list, files, iat| site.write_list(list, files, iat).unwrap()), 0);
        let in_place = |site: &Site, list: &ListId, files: &TokenFiles, _: u64| {
            File::create(site.path(list, "jwt")).unwrap().write_all(files.jwt.as_deref().unwrap()).unwrap();
        };
        assert!(torn_reads(in_place) > 0, "the control: this test sees torn files where there are any");
    }

    #[test]
    fn gzip_never_has_the_length_of_the_cwt() {
        let jwt = b"eyJ".repeat(50);
        let length = gzip(&jwt, &[]).len();
        let other = gzip(&jwt, &[length, length + 2]);
        assert!(other.len() != length && other.len() != length + 2);
        assert_eq!(gunzip(&other, 1000).unwrap(), jwt);
    }

    #[test]
    fn errors_name_the_path() {
        let (folder, site) = site();
        let list = ListId::random();
        fs::remove_dir_all(folder.path().join("lists")).unwrap();
        File::create(folder.path().join("lists")).unwrap();
        let error =
            site.write_list(&list, &TokenFiles::new(Some("a".into()), None), 1).unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("lists"), "{error}");
    }
}
