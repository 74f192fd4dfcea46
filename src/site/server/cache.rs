//! The published files in memory. One `stat` a request decides whether what is held is still what lies on the disk.
//!
//! Invariants: a document is of one publication, its gzip form included. What does not parse is never handed out, and
//! is remembered as such, so that strangers cannot have it read and reported again and again.

use std::fs::{File as Handle, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::Utf8Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use actix_web::http::header::{EntityTag, HeaderValue, HttpDate, TryIntoHeaderValue};
use actix_web::web::{self, Bytes};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::GzDecoder;
use quick_cache::sync::{DefaultLifecycle, EntryAction, EntryResult};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use serde::de::IgnoredAny;
use thiserror::Error;

use crate::site::layout::{File, Layout, ListFile};
use crate::status_list::raw::RawList;
use crate::status_list::{Aggregation, Format, InvalidAggregation, InvalidClaims, ListId, cwt, jwt};

/// The content of a file, checked and ready to be sent.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) plain: Content,
    /// The same, compressed by the publisher; only a JWT has it.
    pub(super) gzip: Option<Content>,
    pub(super) modified: SystemTime,
    pub(super) last_modified: HeaderValue,
    pub(super) lifetime: Lifetime,
    expiry_reported: AtomicBool,
}

/// Bytes, and the strong validator that belongs to them and to no others.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Bytes,
    pub(super) tag: EntityTag,
    pub(super) etag: HeaderValue,
}

/// What a token says of its own freshness; the other files say nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lifetime {
    pub(super) exp: Option<u64>,
    pub(super) ttl: Option<u64>,
}

/// The file is there, but cannot be served. The reason is in the log.
#[derive(Debug)]
pub(super) struct Unserviceable;

/// Reads files through memory.
pub(super) struct Cache {
    layout: Layout,
    bytes_max: u64,
    entries: quick_cache::sync::Cache<File, Entry, WeighBytes>,
}

/// A file as it was when it had this stamp; without a document it did not parse.
#[derive(Clone, Debug)]
struct Entry {
    stamp: Stamp,
    document: Option<Arc<Document>>,
}

/// What tells one publication from the next without reading it. The time alone does, since a file has its token's `iat`
/// as time and `iat` grows; the rest is for files that somebody else put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    secs: i64,
    nanos: i64,
    bytes: u64,
}

/// Why a file must not be served.
#[derive(Debug, Error)]
enum Flaw {
    #[error(transparent)]
    Text(#[from] Utf8Error),
    #[error(transparent)]
    Token(#[from] InvalidClaims),
    #[error(transparent)]
    Aggregation(#[from] InvalidAggregation),
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Clone)]
struct WeighBytes;

impl Cache {
    /// Holds at most `bytes_max` bytes of the files in memory.
    pub(super) fn new(layout: Layout, bytes_max: u64) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(bytes_max)
            // The first size of a table, for tokens of 64 KiB; it grows.
            .estimated_items_capacity(usize::try_from(bytes_max >> 16).unwrap_or(usize::MAX).max(1))
            // A file must fit into one shard, and by default each core has four of them.
            .shards(1)
            .build()
            .expect("capacity and number of items are set");
        let entries = quick_cache::sync::Cache::with_options(
            options,
            WeighBytes,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        Self { layout, bytes_max, entries }
    }

    /// The same folder with another bound, and nothing held yet.
    pub(super) fn resized(self, bytes_max: u64) -> Self {
        Self::new(self.layout, bytes_max)
    }

    /// Whether the file is there, whatever is in it.
    pub(super) fn contains(&self, file: &File) -> bool {
        std::fs::metadata(self.layout.path(file)).is_ok_and(|metadata| metadata.is_file())
    }

    /// Whether the publisher left the mark of a list that is published no more, because all its credentials have expired.
    pub(super) fn is_retired(&self, list: ListId) -> bool {
        self.layout.path(&File::List(list, ListFile::Gone)).is_file()
    }

    /// Where the tokens of a list are kept that are not current any more.
    pub(super) fn history(&self, list: ListId) -> PathBuf {
        self.layout.history(&list)
    }

    /// The file as it lies on the disk now, if there is one.
    pub(super) async fn read(&self, file: &File) -> Result<Option<Arc<Document>>, Unserviceable> {
        let path = self.layout.path(file);
        // On the async thread: a local `stat` takes about a microsecond, less than handing it to another thread.
        let stamp = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Stamp::of(&metadata),
            Ok(_) => return Ok(None),
            Err(error) => return missing(&path, error),
        };
        if let Some(held) = self.entries.get(file).filter(|held| held.stamp == stamp) {
            return held.served().map(Some);
        }
        // The gzip form, which is smaller, must fit as well.
        if stamp.bytes > self.bytes_max / 2 {
            return self.load(file, path).await?.map(|entry| entry.served()).transpose();
        }
        let hold = |_: &File, held: &mut Entry| match held.stamp == stamp {
            true => EntryAction::Retain(held.clone()),
            false => EntryAction::ReplaceWithGuard,
        };
        // However many ask for a new publication at once, one reads it and the others wait.
        let entry = match self.entries.entry_async(file, hold).await {
            EntryResult::Retained(held) => Some(held),
            EntryResult::Vacant(guard) | EntryResult::Replaced(guard, _) => {
                let loaded = self.load(file, path).await?;
                if let Some(entry) = &loaded {
                    // Fails only when the entry was removed in the meantime, which nothing here does.
                    let _ = guard.insert(entry.clone());
                }
                loaded
            }
            // `hold` asks for no removal, and waiting has no limit.
            EntryResult::Removed(..) | EntryResult::Timeout => self.load(file, path).await?,
        };
        entry.map(|entry| entry.served()).transpose()
    }

    fn gzip_path(&self, file: &File) -> Option<PathBuf> {
        match file {
            File::List(list, ListFile::Form(Format::Jwt)) => {
                Some(self.layout.path(&File::List(*list, ListFile::JwtGzip)))
            }
            _ => None,
        }
    }

    async fn load(&self, file: &File, path: PathBuf) -> Result<Option<Entry>, Unserviceable> {
        let (file, gzip_path) = (file.clone(), self.gzip_path(file));
        web::block(move || match Entry::load(&file, &path, gzip_path.as_deref()) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) => missing(&path, error),
        })
        .await
        .unwrap_or(Err(Unserviceable))
    }
}

impl Entry {
    fn load(file: &File, path: &Path, gzip_path: Option<&Path>) -> io::Result<Self> {
        let (metadata, bytes) = read_whole(path)?;
        let stamp = Stamp::of(&metadata);
        let lifetime = match Lifetime::of(file, &bytes) {
            Ok(lifetime) => lifetime,
            Err(flaw) => {
                tracing::error!(file = %path.display(), error = %flaw, "published file does not parse, so it is not served");
                return Ok(Self { stamp, document: None });
            }
        };
        let modified = metadata.modified()?;
        let gzip = gzip_path.and_then(|path| gzip_of(path, modified, &bytes));
        let document = Document {
            plain: Content::new(bytes),
            gzip: gzip.map(Content::new),
            modified,
            last_modified: HttpDate::from(modified).try_into_value().expect("a date is printable ASCII"),
            lifetime,
            expiry_reported: AtomicBool::new(false),
        };
        Ok(Self { stamp, document: Some(Arc::new(document)) })
    }

    fn served(self) -> Result<Arc<Document>, Unserviceable> {
        self.document.ok_or(Unserviceable)
    }
}

impl Document {
    /// True for the first caller only, who is to write it into the log.
    pub(super) fn report_expiry(&self) -> bool {
        !self.expiry_reported.swap(true, Ordering::Relaxed)
    }
}

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        // Of the bytes themselves: the JWT, its gzip form and the CWT of one list must never share a validator.
        let hash = digest::digest(&digest::SHA256, &bytes);
        let tag = EntityTag::new_strong(URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
        let etag = tag.clone().try_into_value().expect("quoted base64url is printable ASCII");
        Self { bytes: bytes.into(), tag, etag }
    }
}

impl Lifetime {
    /// Reads the file to the end, since what cannot be read must not be served.
    fn of(file: &File, bytes: &[u8]) -> Result<Self, Flaw> {
        let format = match file {
            File::List(_, ListFile::Form(format)) | File::Archived(_, format, _) => *format,
            File::Aggregation(_) => {
                Aggregation::from_json(bytes)?;
                return Ok(Self::default());
            }
            File::Jwks => {
                serde_json::from_slice::<IgnoredAny>(bytes)?;
                return Ok(Self::default());
            }
            // Read beside the JWT, and for its presence.
            File::List(_, ListFile::JwtGzip | ListFile::Gone) => return Ok(Self::default()),
        };
        let claims = match format {
            Format::Jwt => jwt::decode(std::str::from_utf8(bytes)?)?.claims,
            Format::Cwt => cwt::decode(bytes)?.claims,
            // They state no age of their own, and have that of the token beside them.
            Format::Json => return RawList::from_json(bytes).map(|_| Self::default()).map_err(Flaw::from),
            Format::Cbor => return RawList::from_cbor(bytes).map(|_| Self::default()).map_err(Flaw::from),
        };
        Ok(Self { exp: claims.exp, ttl: claims.ttl })
    }

    pub(super) fn is_over(&self, now: u64) -> bool {
        self.exp.is_some_and(|exp| exp <= now)
    }

    /// For how many seconds a copy may be used without asking again: never longer than the token allows.
    pub(super) fn max_age_secs(&self, now: u64, most: u64) -> u64 {
        let until_exp = self.exp.map(|exp| exp.saturating_sub(now));
        [until_exp, self.ttl].into_iter().flatten().fold(most, u64::min)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            secs: metadata.mtime(),
            nanos: metadata.mtime_nsec(),
            bytes: metadata.size(),
        }
    }
}

impl Weighter<File, Entry> for WeighBytes {
    fn weight(&self, _: &File, entry: &Entry) -> u64 {
        /// Key, validators and the cache's own tables, roughly.
        const OVERHEAD: u64 = 512;
        let contents =
            entry.document.iter().flat_map(|document| [Some(&document.plain), document.gzip.as_ref()]);
        OVERHEAD + contents.flatten().map(|content| content.bytes.len() as u64).sum::<u64>()
    }
}

/// The compressed form of `plain` at `path`, if it is of the same publication.
///
/// The publisher renames it before the plain file. So at the time a new plain file is seen, its compressed form is
/// there; and when the publisher was stopped in between, the compressed form is newer and its time differs. One that
/// arrives later all the same is used from the next publication on.
fn gzip_of(path: &Path, modified: SystemTime, plain: &[u8]) -> Option<Vec<u8>> {
    let (metadata, bytes) = read_whole(path).ok()?;
    if metadata.modified().ok()? != modified {
        return None;
    }
    let mut inflated = Vec::with_capacity(plain.len() + 1);
    let inflating = GzDecoder::new(bytes.as_slice()).take(plain.len() as u64 + 1).read_to_end(&mut inflated);
    if inflating.is_err() || inflated != plain {
        tracing::error!(file = %path.display(), "published file does not inflate to the one beside it");
        return None;
    }
    Some(bytes)
}

fn read_whole(path: &Path) -> io::Result<(Metadata, Vec<u8>)> {
    let mut handle = Handle::open(path)?;
    let metadata = handle.metadata()?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    handle.read_to_end(&mut bytes)?;
    Ok((metadata, bytes))
}

fn missing<T>(path: &Path, error: io::Error) -> Result<Option<T>, Unserviceable> {
    if error.kind() == ErrorKind::NotFound {
        return Ok(None);
    }
    tracing::error!(file = %path.display(), %error, "published file cannot be read");
    Err(Unserviceable)
}
