//! The path of each published file in the storage directory, and its key in a bucket. Nothing else spells them.
//!
//! ```text
//! <storage>/lists/<list id>.jwt, .jwt.gz, .cwt, .json, .cbor   a list
//! <storage>/lists/<list id>.revocation, .suspension            its status list credentials (W3C)
//! <storage>/lists/<list id>.gone                               the mark of a retired list
//! <storage>/lists/aggregation/<pool>.json                      the lists of a pool
//! <storage>/lists/jwks.json                                    the public keys
//! <storage>/lists/status/pools.json                            the pools on the status page
//! <storage>/lists/status/<pool>.csv                            how the counts of a pool developed
//! <storage>/lists/.<name>.lock                                 held while files are put in place
//! <storage>/history/<list id>/<iat>.jwt, .cwt                  earlier tokens ("Historical Resolution")
//! ```

use std::path::{Path, PathBuf};

use crate::base::clock::NumericDate;
use crate::model::pool::PoolId;
use crate::status_list::{Format, ListId, Purpose};

/// A file of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListFile {
    /// The list in this format.
    Form(Format),
    /// The JWT compressed with gzip, for web servers that send precompressed files. A CWT is already compressed.
    JwtGzip,
    /// Empty; marks a retired list.
    Gone,
}

impl ListFile {
    /// The files that a publication can have, in the order in which they are renamed: the gzip form before the JWT, so
    /// that a server that finds it next to an older JWT sends the newer token.
    pub const OF_PUBLICATION: [Self; 7] = [
        Self::Form(Format::Bitstring(Purpose::Revocation)),
        Self::Form(Format::Bitstring(Purpose::Suspension)),
        Self::Form(Format::Json),
        Self::Form(Format::Cbor),
        Self::JwtGzip,
        Self::Form(Format::Jwt),
        Self::Form(Format::Cwt),
    ];

    /// The format that the file belongs to.
    pub const fn format(self) -> Option<Format> {
        match self {
            Self::Form(format) => Some(format),
            Self::JwtGzip => Some(Format::Jwt),
            Self::Gone => None,
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Form(format) => format.name(),
            Self::JwtGzip => "jwt.gz",
            Self::Gone => "gone",
        }
    }
}

/// A published file. Its name consists of checked values only, so no request can name a file outside the folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// A file of a list.
    List(ListId, ListFile),
    /// An earlier token of a list, with its `iat`.
    Archived(ListId, Format, NumericDate),
    /// The lists of a pool ("Status List Aggregation").
    Aggregation(PoolId),
    /// The public keys.
    Jwks,
    /// The pools on the status page.
    StatusPage,
    /// How the counts of a pool developed.
    Statistics(PoolId),
}

/// What is held while files are put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Of the lists and the aggregation of a pool.
    Pool(PoolId),
    /// Of the public keys.
    Jwks,
    /// Of the statistics of a pool, so that no publication waits for them.
    Statistics(PoolId),
}

impl File {
    /// The list in this format.
    pub const fn of_list(list: ListId, format: Format) -> Self {
        Self::List(list, ListFile::Form(format))
    }

    /// The path in the folder `lists`, which is also the key in a bucket. An earlier token's path is in `history`.
    pub fn name(&self) -> String {
        match self {
            Self::List(list, file) => format!("{list}.{}", file.extension()),
            Self::Archived(list, format, iat) => format!("{list}/{iat}.{format}"),
            Self::Aggregation(pool) => format!("{}.json", aggregation_path(pool)),
            Self::Jwks => "jwks.json".to_owned(),
            Self::StatusPage => "status/pools.json".to_owned(),
            Self::Statistics(pool) => format!("status/{pool}.csv"),
        }
    }
}

/// The path of a pool's aggregation below the public address.
pub fn aggregation_path(pool: &PoolId) -> String {
    format!("aggregation/{pool}")
}

/// The folders of one storage directory.
#[derive(Clone, Debug)]
pub struct Layout {
    lists: PathBuf,
}

impl Layout {
    /// The layout of this storage directory.
    pub fn of(storage_directory: &Path) -> Self {
        Self { lists: storage_directory.join("lists") }
    }

    /// The folder of published files.
    pub fn lists(&self) -> &Path {
        &self.lists
    }

    /// The folder of all aggregations.
    pub fn aggregations(&self) -> PathBuf {
        self.lists.join("aggregation")
    }

    /// The folder of a list's earlier tokens.
    pub fn history(&self, list: &ListId) -> PathBuf {
        self.archive().join(list.to_string())
    }

    /// The folder of all earlier tokens.
    pub fn archive(&self) -> PathBuf {
        self.lists.with_file_name("history")
    }

    /// The path of a published file.
    pub fn path(&self, file: &File) -> PathBuf {
        match file {
            File::Archived(..) => self.archive().join(file.name()),
            File::List(..) | File::Aggregation(_) | File::Jwks | File::StatusPage | File::Statistics(_) => {
                self.lists.join(file.name())
            }
        }
    }

    /// The path of a lock.
    pub fn lock(&self, lock: &Lock) -> PathBuf {
        let name = match lock {
            Lock::Pool(pool) => format!("pool-{pool}"),
            Lock::Jwks => "jwks".to_owned(),
            Lock::Statistics(pool) => format!("statistics-{pool}"),
        };
        self.lists.join(format!(".{name}.lock"))
    }
}

/// Parses the path of an earlier token into its `iat` and format.
pub fn archived(path: &Path) -> Option<(NumericDate, Format)> {
    let format = path.extension()?.to_str()?.parse().ok()?;
    Some((path.file_stem()?.to_str()?.parse().ok()?, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_its_place() {
        let layout = Layout::of(Path::new("/storage"));
        let list = ListId::random();
        let path = |file: &File| layout.path(file).to_str().unwrap().to_owned();
        assert_eq!(path(&File::of_list(list, Format::Jwt)), format!("/storage/lists/{list}.jwt"));
        assert_eq!(path(&File::List(list, ListFile::JwtGzip)), format!("/storage/lists/{list}.jwt.gz"));
        assert_eq!(path(&File::List(list, ListFile::Gone)), format!("/storage/lists/{list}.gone"));
        assert_eq!(path(&File::Aggregation("p".parse().unwrap())), "/storage/lists/aggregation/p.json");
        assert_eq!(path(&File::Jwks), "/storage/lists/jwks.json");
        assert_eq!(path(&File::StatusPage), "/storage/lists/status/pools.json");
        assert_eq!(path(&File::Statistics("pools".parse().unwrap())), "/storage/lists/status/pools.csv");
        let credential = File::of_list(list, Format::Bitstring(Purpose::Suspension));
        assert_eq!(path(&credential), format!("/storage/lists/{list}.suspension"));
        let lock = |lock: Lock| layout.lock(&lock).to_str().unwrap().to_owned();
        assert_eq!(lock(Lock::Pool("p".parse().unwrap())), "/storage/lists/.pool-p.lock");
        assert_eq!(lock(Lock::Jwks), "/storage/lists/.jwks.lock");
        assert_eq!(lock(Lock::Statistics("p".parse().unwrap())), "/storage/lists/.statistics-p.lock");
        let earlier = File::Archived(list, Format::Cwt, NumericDate::from_secs(17));
        assert_eq!(path(&earlier), format!("/storage/history/{list}/17.cwt"));
        assert_eq!(archived(&layout.path(&earlier)), Some((NumericDate::from_secs(17), Format::Cwt)));
        assert_eq!(archived(Path::new("/storage/history/17.gz")), None);
    }
}
