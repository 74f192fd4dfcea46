//! High-water marks: the latest lease that this instance had of each list, made durable before a reference is handed out
//! and kept apart from the store. A store that knows fewer leases has lost some (a restored backup, a failover to a stale
//! replica, a disk that lied), and would hand out their references again.
//!
//! One line of 64 bytes for each list, overwritten in place. A line never crosses a sector, so it is the old one or the new
//! one, and writing it does not change the file's size.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::base::durable::{self, FileError, InPlace, Mode};
use crate::model::instance::InstanceId;
use crate::model::pool::PoolId;
use crate::status_list::ListId;
use crate::store::{Lease, Store, StoreError};

const LINE_BYTES: usize = 64;

/// The marks of one pool.
#[derive(Debug)]
pub struct Marks {
    file: InPlace,
    /// Each list's line number and mark.
    lines: BTreeMap<ListId, (u64, Lease)>,
}

/// Why the marks cannot be read or written. Nothing may be handed out without them.
#[derive(Debug, Error)]
pub enum MarksError {
    /// The system reports an error.
    #[error(transparent)]
    Unusable(#[from] FileError),
    /// The file is gone, and the store does not say which lists it guarded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A line that this program never writes.
    #[error(
        "{path} is damaged in line {line}, so what was handed out is unknown; remove the file, and the start seals this instance's open lists of the pool",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
    },
}

impl Marks {
    /// Opens the marks of an instance at its start, in a pool that is declared. If their file is gone although the store has open
    /// lists of the instance, nobody knows what was handed out of these: they get the highest mark, which every store is behind, so
    /// they are sealed like lists whose leases the store lost, also if it goes back once more. An instance has the file before its
    /// first list, so a new instance and a new pool lose nothing.
    pub async fn open_at_start(
        path: &Path,
        store: &Store,
        pool: &PoolId,
        owner: &InstanceId,
    ) -> Result<Self, MarksError> {
        if path.try_exists().map_err(|source| FileError::new("find", path, source))? {
            return Self::open(path);
        }
        let lists = store.open_lists(pool, owner).await?;
        if !lists.is_empty() {
            tracing::error!(
                %pool, lists = lists.len(), missing = %path.display(),
                "THE MARKS ARE LOST: nobody knows which references of the open lists were handed out; sealing these lists. They stay \
                 published and can be updated: see docs/OPERATIONS.md, \"When the store lost data\""
            );
        }
        // Whole: an empty file is that of an instance which has handed out nothing.
        let lines: String = lists.iter().map(|list| line(&list.id, Lease(u64::MAX))).collect();
        durable::replace(path, lines.as_bytes(), Mode::Private)?;
        Self::open(path)
    }

    /// Opens the marks in this file. Makes the file if it is missing.
    pub fn open(path: &Path) -> Result<Self, MarksError> {
        let file = InPlace::open(path)?;
        let mut bytes = file.read_from(0)?;
        // A power cut can leave room for a new line without its content.
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        let mut lines = BTreeMap::new();
        // An incomplete last line was never relied on: the next new list overwrites it.
        for (number, line) in (0..).zip(bytes.chunks_exact(LINE_BYTES)) {
            // Nor was a line relied on that is missing before others: it was new, and so were they.
            if line.iter().all(|byte| *byte == 0) {
                continue;
            }
            let (list, mark) =
                parse(line).ok_or_else(|| MarksError::Damaged { path: path.to_owned(), line: number + 1 })?;
            // After a failed fsync, the same list may have got another line.
            if lines.get(&list).is_none_or(|(_, known)| *known < mark) {
                lines.insert(list, (number, mark));
            }
        }
        Ok(Self { file, lines })
    }

    /// The latest lease that this instance had of the list; the default if it never had any.
    pub fn of(&self, list: &ListId) -> Lease {
        self.lines.get(list).map(|(_, mark)| *mark).unwrap_or_default()
    }

    /// Every list that this instance ever leased from, with its mark.
    pub fn iter(&self) -> impl Iterator<Item = (ListId, Lease)> {
        self.lines.iter().map(|(list, (_, mark))| (*list, *mark))
    }

    /// Raises marks durably. If it fails, they keep their values, and the next call writes their lines again.
    pub fn raise(&mut self, marks: &[(ListId, Lease)]) -> Result<(), MarksError> {
        let mut raised = HashMap::with_capacity(marks.len());
        let mut next = self.lines.values().map(|(number, _)| number + 1).max().unwrap_or_default();
        for (list, mark) in marks {
            let known = raised.get(list).or_else(|| self.lines.get(list));
            let number = known.map_or(next, |(number, _)| *number);
            self.file.write_at(line(list, *mark).as_bytes(), number * LINE_BYTES as u64)?;
            if number == next {
                next += 1;
            }
            raised.insert(*list, (number, *mark));
        }
        self.file.sync()?;
        self.lines.extend(raised);
        Ok(())
    }
}

fn line(list: &ListId, mark: Lease) -> String {
    let text = format!("{list} {:020}", mark.0);
    format!("{text:<width$}\n", width = LINE_BYTES - 1)
}

fn parse(line: &[u8]) -> Option<(ListId, Lease)> {
    let (list, mark) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.trim_end().split_once(' ')?;
    // Marks are of lists that this instance opened: any other name is a damaged line.
    let list = list.parse().ok().filter(ListId::is_uuid)?;
    Some((list, Lease(mark.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn marks_survive_and_are_overwritten_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.marks");
        let (a, b) = (ListId::random(), ListId::random());
        let mut marks = Marks::open(&path).unwrap();
        assert_eq!(marks.of(&a), Lease(0));
        marks.raise(&[(a, Lease(1)), (b, Lease(1))]).unwrap();
        marks.raise(&[(a, Lease(2))]).unwrap();
        marks.raise(&[(b, Lease(u64::MAX))]).unwrap();
        let again = Marks::open(&path).unwrap();
        assert_eq!((again.of(&a), again.of(&b)), (Lease(2), Lease(u64::MAX)));
        assert_eq!(again.iter().count(), 2);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * LINE_BYTES as u64);
    }

    #[test]
    fn a_line_cut_short_is_replaced_and_a_damaged_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.marks");
        let (a, b) = (ListId::random(), ListId::random());
        Marks::open(&path).unwrap().raise(&[(a, Lease(7))]).unwrap();
        let cut = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        io::Write::write_all(&mut &cut, b"0123456").unwrap();
        let mut marks = Marks::open(&path).unwrap();
        assert_eq!(marks.of(&a), Lease(7));
        marks.raise(&[(b, Lease(9))]).unwrap();
        let again = Marks::open(&path).unwrap();
        assert_eq!((again.of(&a), again.of(&b)), (Lease(7), Lease(9)));
        io::Write::write_all(&mut &cut, &[0; 100]).unwrap();
        assert_eq!(Marks::open(&path).unwrap().of(&b), Lease(9), "zeros at the end were never relied on");
        // Lines beside each other may be in different sectors.
        let put = |lines: &[u8]| {
            std::fs::File::create(&path).and_then(|mut file| io::Write::write_all(&mut file, lines))
        };
        put(&[&[0; LINE_BYTES], line(&b, Lease(1)).as_bytes()].concat()).unwrap();
        let mut marks = Marks::open(&path).unwrap();
        assert_eq!((marks.of(&a), marks.of(&b)), (Lease(0), Lease(1)), "nor was a line between others");
        marks.raise(&[(a, Lease(2))]).unwrap();
        let again = Marks::open(&path).unwrap();
        assert_eq!((again.of(&a), again.of(&b)), (Lease(2), Lease(1)));
        put([line(&b, Lease(2)), line(&b, Lease(1))].concat().as_bytes()).unwrap();
        assert_eq!(Marks::open(&path).unwrap().of(&b), Lease(2), "an earlier mark on a later line");
        let damage = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        damage.write_all_at(b"x", 64).unwrap();
        let error = Marks::open(&path).unwrap_err();
        assert!(matches!(error, MarksError::Damaged { line: 2, .. }), "{error}");
    }
}
