//! The published files in memory. One `stat` for each request decides whether the cached file is still the one on disk.
//!
//! Invariants: a document, including its gzip form, is of one publication. A file that does not parse is never served, and the
//! failure is cached, so that strangers cannot make the server read and report it again and again.

use std::fs::{File as Handle, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::Utf8Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

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

use crate::base::clock::NumericDate;
use crate::bitstring;
use crate::site::layout::{File, Layout, ListFile};
use crate::site::status_page::{InvalidStatistics, Statistics};
use crate::status_list::raw::RawList;
use crate::status_list::{Aggregation, Format, InvalidAggregation, InvalidClaims, ListId, cwt, jwt};

/// The content of a file, checked and ready to be sent.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) plain: Content,
    /// The same content, compressed by the publisher; only a JWT has it.
    pub(super) gzip: Option<Content>,
    pub(super) modified: SystemTime,
    pub(super) last_modified: HeaderValue,
    pub(super) lifetime: Lifetime,
    expiry_reported: AtomicBool,
}

/// Bytes, and a strong validator that no other bytes share.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Bytes,
    pub(super) tag: EntityTag,
    pub(super) etag: HeaderValue,
}

/// What a token states about its own freshness. Other files state nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lifetime {
    pub(super) exp: Option<NumericDate>,
    pub(super) ttl: Option<Duration>,
}

/// The file exists but cannot be served. The log has the reason.
#[derive(Debug)]
pub(super) struct Unserviceable;

/// Reads files through a cache in memory.
pub(super) struct Cache {
    layout: Layout,
    bytes_max: u64,
    entries: quick_cache::sync::Cache<File, Entry, WeighBytes>,
}

/// A file as read when it had this stamp. Without a document, it did not parse.
#[derive(Clone, Debug)]
struct Entry {
    stamp: Stamp,
    document: Option<Arc<Document>>,
}

/// Distinguishes publications without reading them. The mtime alone suffices for the publisher's files: it is the token's `iat`,
/// which grows. The rest is for files that somebody else put there.
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
    #[error(transparent)]
    Statistics(#[from] InvalidStatistics),
}

#[derive(Clone)]
struct WeighBytes;

impl Cache {
    /// Holds at most `bytes_max` bytes of the files in memory.
    pub(super) fn new(layout: Layout, bytes_max: u64) -> Self {
        let options = OptionsBuilder::new()
            .weight_capacity(bytes_max)
            // The initial table size, for tokens of 64 KiB; it grows.
            .estimated_items_capacity(usize::try_from(bytes_max >> 16).unwrap_or(usize::MAX).max(1))
            // A file must fit into one shard, and by default each core has four shards.
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

    /// The same folder with another bound and an empty cache.
    pub(super) fn resized(self, bytes_max: u64) -> Self {
        Self::new(self.layout, bytes_max)
    }

    /// Whether the file exists, whatever its content.
    pub(super) fn contains(&self, file: &File) -> bool {
        std::fs::metadata(self.layout.path(file)).is_ok_and(|metadata| metadata.is_file())
    }

    /// Whether the publisher left the mark of a retired list, all of whose credentials have expired.
    pub(super) fn is_retired(&self, list: ListId) -> bool {
        self.layout.path(&File::List(list, ListFile::Gone)).is_file()
    }

    /// The folder of a list's earlier tokens.
    pub(super) fn history(&self, list: ListId) -> PathBuf {
        self.layout.history(&list)
    }

    /// Returns the file as it is on disk now, if it exists.
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
        // However many requests want a new publication at once, one reads it and the others wait.
        let entry = match self.entries.entry_async(file, hold).await {
            EntryResult::Retained(held) => Some(held),
            EntryResult::Vacant(guard) | EntryResult::Replaced(guard, _) => {
                let loaded = self.load(file, path).await?;
                if let Some(entry) = &loaded {
                    // Fails only if the entry was removed in the meantime, which nothing here does.
                    let _ = guard.insert(entry.clone());
                }
                loaded
            }
            // `hold` never asks for a removal, and the wait has no timeout.
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
    /// Returns true for the first caller only, which then logs the expiry.
    pub(super) fn report_expiry(&self) -> bool {
        !self.expiry_reported.swap(true, Ordering::Relaxed)
    }
}

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        // A hash of the bytes themselves: the JWT, its gzip form and the CWT of one list must never share a validator.
        let hash = digest::digest(&digest::SHA256, &bytes);
        let tag = EntityTag::new_strong(URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
        let etag = tag.clone().try_into_value().expect("quoted base64url is printable ASCII");
        Self { bytes: bytes.into(), tag, etag }
    }
}

impl Lifetime {
    /// Parses the whole file, because a file that does not parse must not be served.
    fn of(file: &File, bytes: &[u8]) -> Result<Self, Flaw> {
        let format = match file {
            File::List(_, ListFile::Form(format)) | File::Archived(_, format, _) => *format,
            File::Aggregation(_) => {
                Aggregation::from_json(bytes)?;
                return Ok(Self::default());
            }
            File::Jwks | File::StatusPage => {
                serde_json::from_slice::<IgnoredAny>(bytes)?;
                return Ok(Self::default());
            }
            File::Statistics(_) => {
                Statistics::from_csv(bytes)?;
                return Ok(Self::default());
            }
            // Read together with the JWT, and for its presence.
            File::List(_, ListFile::JwtGzip | ListFile::Gone) => return Ok(Self::default()),
        };
        let claims = match format {
            Format::Jwt => jwt::decode(std::str::from_utf8(bytes)?)?.claims,
            Format::Cwt => cwt::decode(bytes)?.claims,
            // They state no age of their own, and get that of the token beside them.
            Format::Json => return RawList::from_json(bytes).map(|_| Self::default()).map_err(Flaw::from),
            Format::Cbor => return RawList::from_cbor(bytes).map(|_| Self::default()).map_err(Flaw::from),
            Format::Bitstring(_) => {
                let credential = bitstring::decode(std::str::from_utf8(bytes)?)?.credential;
                return Ok(Self { exp: credential.exp, ttl: credential.ttl });
            }
        };
        Ok(Self { exp: claims.exp, ttl: claims.ttl })
    }

    pub(super) fn is_over(&self, now: NumericDate) -> bool {
        self.exp.is_some_and(|exp| exp <= now)
    }

    /// How many seconds a copy may be used without revalidation: never longer than the token allows.
    pub(super) fn max_age_secs(&self, now: NumericDate, most: u64) -> u64 {
        let until_exp = self.exp.map(|exp| exp.since(now));
        [until_exp, self.ttl].into_iter().flatten().map(|limit| limit.as_secs()).fold(most, u64::min)
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

/// Returns the compressed form of `plain` at `path`, if it is of the same publication.
///
/// The publisher renames it before the plain file. So when a new plain file is visible, its compressed form is there. If
/// the publisher was stopped in between, the compressed form is newer and its mtime differs. A compressed form that nevertheless
/// arrives later is used from the next publication on.
fn gzip_of(path: &Path, modified: SystemTime, plain: &[u8]) -> Option<Vec<u8>> {
    let (metadata, bytes) = read_whole(path).ok()?;
    if metadata.modified().ok()? != modified {
        return None;
    }
    let mut inflated = Vec::with_capacity(plain.len() + 1);
    let inflating = GzDecoder::new(bytes.as_slice()).take(plain.len() as u64 + 1).read_to_end(&mut inflated);
    if inflating.is_err() || inflated != plain {
        tracing::error!(file = %path.display(), "published file does not decompress to the JWT beside it");
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
