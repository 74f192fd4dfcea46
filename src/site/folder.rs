//! The folder of published files: whole files or none. `layout.rs` names their paths.
//!
//! A file is durable under a temporary name before it is renamed, so a reader sees either the old file or the new one. Its mtime
//! is the token's `iat`, so that every node has the same Last-Modified, and a web server's mtime-and-size ETag never repeats.
//! Several instances may share the folder: they put files in place under a lock.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use flate2::{Compression, GzBuilder};
use tokio::time::Instant;

use super::layout::{File, Layout, ListFile, Lock};
use crate::base::clock::NumericDate;
use crate::base::durable::{self, FileError, LockFile, Mode, Temporary};
use crate::model::pool::PoolId;
use crate::status_list::{Format, Formats, ListId};

/// How long to wait for another instance that is putting files in place.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How often to try for the lock.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// The folder of published files.
#[derive(Clone, Debug)]
pub struct Site {
    layout: Layout,
}

/// The files of one publication.
///
/// A web server's ETag is made of mtime and length, and all of them have the same mtime. So no two may have the same length: the
/// JSON is padded with line feeds, the gzip form with a comment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TokenFiles(BTreeMap<ListFile, Vec<u8>>);

/// The files of one publication, durable under temporary names until [`Self::put`] renames them.
#[derive(Debug)]
pub struct Prepared {
    files: Vec<(ListFile, Temporary, PathBuf)>,
    /// Files of formats that the list no longer has: nobody renews them.
    obsolete: Vec<PathBuf>,
    /// Where else the tokens are kept.
    archive: Option<Archive>,
}

#[derive(Debug)]
struct Archive {
    layout: Layout,
    list: ListId,
    iat: NumericDate,
}

/// Identifies the current files of a list: differs when any of them has been replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamp([Option<(u64, i64, i64, u64)>; ListFile::OF_PUBLICATION.len()]);

/// Keeps other instances that share the folder from putting files in place. Released when dropped, or when the process ends.
#[derive(Debug)]
pub struct SiteLock(#[expect(dead_code, reason = "held, not used")] LockFile);

/// A file or folder that could not be read or written.
pub type SiteError = FileError;

impl TokenFiles {
    /// The files of a publication in these formats, with the gzip form of the JWT.
    pub fn new(forms: impl IntoIterator<Item = (Format, Vec<u8>)>) -> Self {
        let forms = forms.into_iter().map(|(format, bytes)| (ListFile::Form(format), bytes));
        let mut files: BTreeMap<_, _> = forms.collect();
        let length =
            |files: &BTreeMap<ListFile, Vec<u8>>, format| files.get(&ListFile::Form(format)).map(Vec::len);
        let others = [Format::Cwt, Format::Cbor].map(|format| length(&files, format));
        if let Some(json) = files.get_mut(&ListFile::Form(Format::Json)) {
            while others.contains(&Some(json.len())) {
                json.push(b'\n');
            }
        }
        if let Some(jwt) = files.get(&ListFile::Form(Format::Jwt)) {
            let lengths: Vec<_> = files.values().map(Vec::len).collect();
            let gzip = gzip(jwt, &lengths);
            files.insert(ListFile::JwtGzip, gzip);
        }
        Self(files)
    }

    /// The list in this format.
    pub fn form(&self, format: Format) -> Option<&[u8]> {
        self.file(ListFile::Form(format))
    }

    /// The bytes of this file.
    pub fn file(&self, file: ListFile) -> Option<&[u8]> {
        self.0.get(&file).map(Vec::as_slice)
    }

    /// Whether every file of these formats is present.
    pub fn are_all_of(&self, formats: Formats) -> bool {
        let mut of_publication = ListFile::OF_PUBLICATION.into_iter();
        of_publication.all(|file| {
            self.0.contains_key(&file) || !file.format().is_some_and(|format| formats.contains(format))
        })
    }

    /// Replaces or adds this file.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with(mut self, file: ListFile, bytes: Vec<u8>) -> Self {
        self.0.insert(file, bytes);
        self
    }
}

impl Site {
    /// Opens the folder `lists` in the storage directory; creates it if missing.
    pub fn open(storage_directory: &Path) -> Result<Self, SiteError> {
        let layout = Layout::of(storage_directory);
        durable::create_folders(&layout.aggregations(), Mode::Public)?;
        Ok(Self { layout })
    }

    /// The folder as it is: creates nothing. For commands that only read.
    pub fn existing(storage_directory: &Path) -> Self {
        Self { layout: Layout::of(storage_directory) }
    }

    /// The layout of the storage directory.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes the files of one publication under temporary names.
    pub fn prepare(
        &self,
        list: &ListId,
        files: &TokenFiles,
        iat: NumericDate,
    ) -> Result<Prepared, SiteError> {
        let mut prepared = Prepared { files: Vec::new(), obsolete: Vec::new(), archive: None };
        for file in ListFile::OF_PUBLICATION {
            let path = self.path(list, file);
            match files.file(file) {
                Some(bytes) => {
                    let modified = Some(iat.into());
                    let temporary = Temporary::write(&path, bytes, Mode::Public, modified)?;
                    prepared.files.push((file, temporary, path));
                }
                None => prepared.obsolete.push(path),
            }
        }
        // Left by a retirement that a restored store does not know.
        prepared.obsolete.push(self.path(list, ListFile::Gone));
        Ok(prepared)
    }

    /// Writes the mark of a retired list under a temporary name. [`Prepared::put`] removes the list's tokens.
    pub fn prepare_retirement(&self, list: &ListId) -> Result<Prepared, SiteError> {
        let path = self.path(list, ListFile::Gone);
        let files = vec![(ListFile::Gone, Temporary::write(&path, &[], Mode::Public, None)?, path)];
        let obsolete = ListFile::OF_PUBLICATION.map(|file| self.path(list, file)).to_vec();
        Ok(Prepared { files, obsolete, archive: None })
    }

    /// Whether a list's tokens were removed and only the mark is left.
    pub fn is_retired(&self, list: &ListId) -> bool {
        let there = |file| self.path(list, file).exists();
        self.has_mark_of_retirement(list) && !ListFile::OF_PUBLICATION.into_iter().any(there)
    }

    /// Whether a list has the mark of a retired one.
    pub fn has_mark_of_retirement(&self, list: &ListId) -> bool {
        self.path(list, ListFile::Gone).exists()
    }

    /// Prepares the files of one publication and puts them in place. The new names are durable after [`Self::sync`].
    pub fn write_list(&self, list: &ListId, files: &TokenFiles, iat: NumericDate) -> Result<(), SiteError> {
        self.prepare(list, files, iat)?.put()
    }

    /// Identifies the current files of this list.
    pub fn stamp(&self, list: &ListId) -> Stamp {
        Stamp(ListFile::OF_PUBLICATION.map(|file| {
            let of = fs::metadata(self.path(list, file)).ok()?;
            Some((of.ino(), of.mtime(), of.mtime_nsec(), of.len()))
        }))
    }

    /// Takes this lock. Waits for an instance that holds it, but not for one that hangs.
    pub async fn lock(&self, lock: &Lock) -> Result<SiteLock, SiteError> {
        let begun = Instant::now();
        loop {
            if let Some(held) = self.try_lock(lock)? {
                return Ok(held);
            }
            if begun.elapsed() > LOCK_PATIENCE {
                let why = format!(
                    "another instance has held it for {LOCK_PATIENCE:?}; `lslocks` shows its process. If that hangs, kill it: see \
                     docs/OPERATIONS.md, \"A publisher that hangs\""
                );
                let source = io::Error::new(io::ErrorKind::WouldBlock, why);
                return Err(FileError::new("lock", &self.layout.lock(lock), source));
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    /// Takes this lock, unless another instance holds it.
    fn try_lock(&self, lock: &Lock) -> Result<Option<SiteLock>, SiteError> {
        Ok(LockFile::try_lock(&self.layout.lock(lock), Mode::Public)?.map(SiteLock))
    }

    /// Whether a list has files of a format that is no longer published.
    pub fn has_others(&self, list: &ListId, formats: Formats) -> bool {
        ListFile::OF_PUBLICATION.into_iter().any(|file| {
            !file.format().is_some_and(|format| formats.contains(format)) && self.path(list, file).exists()
        })
    }

    /// The largest mtime of a list's files up to `now`. No `iat` up to it may be used again, even if a crash
    /// interrupted the publication of that file.
    pub fn latest_mtime(&self, list: &ListId, now: NumericDate) -> Option<NumericDate> {
        let mtimes = ListFile::OF_PUBLICATION.into_iter().filter_map(|file| {
            let modified = fs::metadata(self.path(list, file)).ok()?.modified().ok()?;
            Some(NumericDate::from_secs(modified.duration_since(UNIX_EPOCH).ok()?.as_secs()))
        });
        mtimes.filter(|mtime| *mtime <= now).max()
    }

    /// Writes the aggregation of a pool.
    pub fn write_aggregation(&self, pool: &PoolId, document: &[u8]) -> Result<(), SiteError> {
        durable::replace(&self.aggregation(pool), document, Mode::Public)
    }

    /// Returns the published aggregation of a pool, if there is one.
    pub fn read_aggregation(&self, pool: &PoolId) -> Result<Option<Vec<u8>>, SiteError> {
        read(&self.aggregation(pool))
    }

    /// Removes the aggregation of a pool that no longer has one.
    pub fn remove_aggregation(&self, pool: &PoolId) -> Result<(), SiteError> {
        durable::remove(&self.aggregation(pool))
    }

    /// Returns the published public keys, if there are any.
    pub fn read_jwks(&self) -> Result<Option<Vec<u8>>, SiteError> {
        read(&self.layout.path(&File::Jwks))
    }

    /// Writes the public keys.
    pub fn write_jwks(&self, document: &[u8]) -> Result<(), SiteError> {
        durable::replace(&self.layout.path(&File::Jwks), document, Mode::Public)
    }

    /// Writes which pools the status page shows, unless the file says so already; `None` removes it.
    pub fn write_status_page(&self, document: Option<&[u8]>) -> Result<(), SiteError> {
        let path = self.layout.path(&File::StatusPage);
        match document {
            Some(document) if read(&path)?.is_some_and(|published| published == document) => Ok(()),
            Some(document) => durable::replace(&path, document, Mode::Public),
            None => durable::remove(&path),
        }
    }

    /// Returns the published statistics of a pool, if there are any.
    pub fn read_statistics(&self, pool: &PoolId) -> Result<Option<Vec<u8>>, SiteError> {
        read(&self.layout.path(&File::Statistics(pool.clone())))
    }

    /// Writes the statistics of a pool.
    pub fn write_statistics(&self, pool: &PoolId, document: &[u8]) -> Result<(), SiteError> {
        durable::replace(&self.layout.path(&File::Statistics(pool.clone())), document, Mode::Public)
    }

    /// Makes the names of all files written so far durable.
    pub fn sync(&self) -> Result<(), SiteError> {
        durable::sync_folder(self.layout.lists())
    }

    /// Returns those published files of a list in these formats that exist.
    pub fn read(&self, list: &ListId, formats: Formats) -> Result<TokenFiles, SiteError> {
        let mut files = BTreeMap::new();
        for file in ListFile::OF_PUBLICATION {
            if file.format().is_some_and(|format| formats.contains(format))
                && let Some(bytes) = read(&self.path(list, file))?
            {
                files.insert(file, bytes);
            }
        }
        Ok(TokenFiles(files))
    }

    fn path(&self, list: &ListId, file: ListFile) -> PathBuf {
        self.layout.path(&File::List(*list, file))
    }

    fn aggregation(&self, pool: &PoolId) -> PathBuf {
        self.layout.path(&File::Aggregation(pool.clone()))
    }
}

impl Prepared {
    /// Also keeps the tokens for "Historical Resolution".
    #[must_use]
    pub fn archived(self, site: &Site, list: &ListId, iat: NumericDate) -> Self {
        Self { archive: Some(Archive { layout: site.layout.clone(), list: *list, iat }), ..self }
    }

    /// Renames the files into place, and removes those of formats that the list no longer has.
    pub fn put(self) -> Result<(), SiteError> {
        // Archived first: no token that was current is ever missing from the archive.
        if let Some(Archive { layout, list, iat }) = &self.archive {
            let folder = layout.history(list);
            durable::create_folders(&folder, Mode::Public)?;
            for (file, temporary, _) in &self.files {
                if let ListFile::Form(format) = file
                    && format.is_signed()
                {
                    let kept = layout.path(&File::Archived(*list, *format, *iat));
                    // The same bytes under a second name. A file that a crash left here holds a token that was never current.
                    durable::remove(&kept)?;
                    temporary.link_to(&kept)?;
                }
            }
            durable::sync_folder(&folder)?;
        }
        for (_, temporary, path) in self.files {
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

/// Compresses `bytes`, but never to one of these lengths: a web server's ETag is made of mtime and length, and the other
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

/// Decompresses `bytes`. Fails if the result is longer than `bytes_max`.
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

    const fn at(secs: u64) -> NumericDate {
        NumericDate::from_secs(secs)
    }
    use crate::base::durable::TEMPORARY_PREFIX;

    fn site() -> (tempfile::TempDir, Site) {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::open(folder.path()).unwrap();
        (folder, site)
    }

    const JWT: ListFile = ListFile::Form(Format::Jwt);

    fn formats(of: &[Format]) -> Formats {
        of.iter().copied().collect()
    }

    fn both() -> Formats {
        formats(&Format::SIGNED)
    }

    fn files(jwt: &[u8], cwt: &[u8]) -> TokenFiles {
        TokenFiles::new([(Format::Jwt, jwt.to_vec()), (Format::Cwt, cwt.to_vec())])
    }

    #[test]
    fn files_are_written_whole_with_iat_as_mtime() {
        let (_folder, site) = site();
        let list = ListId::random();
        assert_eq!(site.read(&list, both()).unwrap(), TokenFiles::default());
        let files = files(b"a.b.c", &[1, 2, 3]);
        site.write_list(&list, &files, at(1_700_000_000)).unwrap();
        site.sync().unwrap();
        assert_eq!(site.read(&list, both()).unwrap(), files);
        for file in [JWT, ListFile::JwtGzip, ListFile::Form(Format::Cwt)] {
            let modified = fs::metadata(site.path(&list, file)).unwrap().modified().unwrap();
            assert_eq!(modified, UNIX_EPOCH + Duration::from_secs(1_700_000_000), "{file:?}");
        }
        let names: Vec<_> =
            fs::read_dir(site.layout().lists()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(TEMPORARY_PREFIX)), "{names:?}");
    }

    fn names(site: &Site) -> Vec<String> {
        fs::read_dir(site.layout().lists())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_deleted_folder_comes_back() {
        let (folder, site) = site();
        fs::remove_dir_all(folder.path().join("lists")).unwrap();
        site.write_list(&ListId::random(), &TokenFiles::new([(Format::Jwt, b"a".to_vec())]), at(1)).unwrap();
        assert_eq!(names(&site).len(), 2);
    }

    #[test]
    fn a_format_that_is_dropped_leaves_no_file() {
        let (_folder, site) = site();
        let list = ListId::random();
        site.write_list(&list, &files(b"a", &[1]), at(1)).unwrap();
        let only_cwt = formats(&[Format::Cwt]);
        assert!(site.has_others(&list, only_cwt));
        site.write_list(&list, &TokenFiles::new([(Format::Cwt, vec![2])]), at(2)).unwrap();
        assert!(!site.has_others(&list, only_cwt));
        assert!(names(&site).contains(&format!("{list}.cwt")), "{:?}", names(&site));
        assert!(!names(&site).contains(&format!("{list}.jwt")), "{:?}", names(&site));
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let (_folder, site) = site();
        let list = ListId::random();
        // A folder in place of the file: the rename fails after all parts were written.
        fs::create_dir(site.path(&list, JWT)).unwrap();
        fs::create_dir(site.path(&list, JWT).join("x")).unwrap();
        site.write_list(&list, &files(b"a", &[1]), at(1)).unwrap_err();
        assert!(names(&site).iter().all(|name| !name.starts_with(TEMPORARY_PREFIX)), "{:?}", names(&site));
    }

    /// Counts the reads that saw neither the old nor the new token while `write` replaced it again and again.
    fn torn_reads(write: impl Fn(&Site, &ListId, &TokenFiles, u64) + Sync) -> usize {
        let (_folder, site) = site();
        let list = ListId::random();
        // Large enough that writing takes a while; every byte of a token is the same, so a mixture shows.
        let token = |byte: u8| TokenFiles::default().with(JWT, vec![byte; 300_000]);
        write(&site, &list, &token(0), 1);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut torn = 0;
                while !stop.load(Ordering::SeqCst) {
                    let files = site.read(&list, both()).unwrap();
                    let seen = files.form(Format::Jwt).unwrap_or_default();
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
        assert_eq!(torn_reads(|site, list, files, iat| site.write_list(list, files, at(iat)).unwrap()), 0);
        let in_place = |site: &Site, list: &ListId, files: &TokenFiles, _: u64| {
            File::create(site.path(list, JWT)).unwrap().write_all(files.form(Format::Jwt).unwrap()).unwrap();
        };
        assert!(torn_reads(in_place) > 0, "the control: this test detects torn files");
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
        let error = site
            .write_list(&list, &TokenFiles::new([(Format::Jwt, b"a".to_vec())]), at(1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("cannot write") && error.contains("lists"), "{error}");
    }
}
