//! The chain: each line holds the hash of the line before, so that no line can be changed, removed or moved unnoticed.
//!
//! A line is one JSON object that begins with `seq`, `prev` and `time`; `prev` is the SHA-256 of the line before, without
//! its line feed. The first line has a random `prev`. The chain does not show whether lines were cut off at its end, or
//! whether all of it was rewritten. To detect that, keep a hash where nobody can change it, and compare (`anchor`).

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// SHA-256 of a line, in hexadecimal.
pub(super) type Hash = String;

/// A line's place in the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    /// The line's number, from 1.
    pub(super) seq: u64,
    /// The hash of the line before.
    pub(super) prev: Hash,
    /// RFC 3339, in milliseconds.
    pub(super) time: String,
}

/// The part of a chain that is intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number and time of the first line.
    pub first: (u64, String),
    /// Number and time of the last line.
    pub last: (u64, String),
    /// The hash of the last line.
    pub last_hash: String,
    /// Whether the chain has a line with the hash `anchor`.
    pub has_anchor: bool,
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The file.
    pub path: PathBuf,
    /// The line's number in the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of {} {}", self.line, self.path.display(), self.why)
    }
}

/// Follows the lines of one chain.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// The latest line's place and hash.
    pub(super) latest: Option<(Place, Hash)>,
    pub(super) first: Option<Place>,
}

impl Follower {
    /// Takes the next line, without its line feed, or says why it does not follow.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let place: Place = serde_json::from_slice(line)
            .map_err(|error| format!("is not a line of an audit trail, or was cut short: {error}"))?;
        if let Some((before, hash)) = &self.latest {
            if place.seq != before.seq + 1 {
                return Err(format!(
                    "has seq {} after {}: lines are missing or were moved",
                    place.seq, before.seq
                ));
            }
            if place.prev != *hash {
                return Err(format!(
                    "does not follow from the one before: seq {} or {} was changed",
                    before.seq, place.seq
                ));
            }
        }
        self.first.get_or_insert_with(|| place.clone());
        self.latest = Some((place, hash_of(line)));
        Ok(())
    }
}

/// Follows one chain through these files, in the order of their first lines, and looks for a line with the hash `anchor`.
/// The inner error says where the chain breaks.
pub fn verify(paths: &[PathBuf], anchor: Option<&str>) -> io::Result<Result<Span, Broken>> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let mut lines = lines(path)?;
        let first = lines.next().transpose()?.unwrap_or_default();
        let place = serde_json::from_slice::<Place>(without_end(&first));
        files.push((place.map_or(0, |place| place.seq), path));
    }
    files.sort();
    let mut follower = Follower::default();
    let mut has_anchor = false;
    let mut latest = (PathBuf::new(), 0);
    for (_, path) in files {
        for (number, line) in (1..).zip(lines(path)?) {
            let line = line?;
            latest = (path.clone(), number);
            let taken = match line.last() {
                Some(b'\n') => follower.take(without_end(&line)),
                _ => Err("was cut short: it is being written (try again), or a crash cut it (the next start moves it aside)".to_owned()),
            };
            if let Err(why) = taken {
                return Ok(Err(Broken { path: path.clone(), line: number, why }));
            }
            has_anchor |= follower.latest.as_ref().is_some_and(|(_, hash)| Some(hash.as_str()) == anchor);
        }
    }
    let (Some(first), Some((last, last_hash))) = (follower.first, follower.latest) else {
        let why = "is missing: there is nothing to verify".to_owned();
        let path = paths.first().cloned().unwrap_or_default();
        return Ok(Err(Broken { path, line: 1, why }));
    };
    if anchor.is_some() && !has_anchor {
        let (path, line) = latest;
        let why =
            "is the last one, and none has the hash of --anchor: lines were cut off, or all were rewritten";
        return Ok(Err(Broken { path, line, why: why.to_owned() }));
    }
    Ok(Ok(Span { first: (first.seq, first.time), last: (last.seq, last.time), last_hash, has_anchor }))
}

/// The lines of a file, each with its line feed.
pub(super) fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let mut file = BufReader::new(File::open(path)?);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match file.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    }))
}

pub(super) fn without_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

pub(super) fn hash_of(line: &[u8]) -> Hash {
    hex(digest(&SHA256, line).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| text + &format!("{byte:02x}"))
}
