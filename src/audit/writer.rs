//! The thread that writes the trail: while some lines are being fsynced, the next ones gather and share the next fsync.
//!
//! The durable part ends at `good`. After a failure, bytes beyond it are invalid: they were never acknowledged, and are
//! overwritten. The file is never cut below `good`, and only this thread writes it (`<path>.lock`).

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::chain::{Follower, Hash, Place, hash_of, hex, lines, without_end};
use super::{Action, AuditError, Broken, Line, NotWritten};
use crate::base::clock::{Clock, Timestamp};
use crate::base::durable::{self, FileError, InPlace, LockFile, Mode, folder_of};
use crate::config::AuditConfig;
use crate::telemetry::metrics::AuditMetrics;

/// The most lines of one fsync.
const BATCH_MAX: usize = 1024;
const DAY_SECS: u64 = 24 * 60 * 60;

/// A line to write, and the caller that waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) line: Line,
    pub(super) answer: Option<oneshot::Sender<Result<u64, NotWritten>>>,
}

#[derive(Debug)]
pub(super) struct Writer {
    config: AuditConfig,
    clock: Clock,
    metrics: AuditMetrics,
    /// The system releases it when the process ends, in whatever way.
    _lock: LockFile,
    file: InPlace,
    /// The end of the durable part.
    good: u64,
    /// Whether there are invalid bytes beyond `good`.
    untidy: bool,
    end: End,
    /// The day of the file's first line, in days since 1970.
    day: u64,
    failing: bool,
}

/// The end of the chain, which the next line is linked to.
#[derive(Clone, Debug)]
struct End {
    seq: u64,
    hash: Hash,
}

#[derive(Serialize)]
struct Linked<'a> {
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    line: &'a Line,
}

impl End {
    /// The start of a chain: the first line is linked to a random number, so that no two chains can be confused.
    fn genesis() -> Self {
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random)
            .expect("the system's random numbers never run out once it has started");
        Self { seq: 0, hash: hex(&random) }
    }

    fn append(&mut self, line: &Line, now: Timestamp, text: &mut Vec<u8>) {
        let begin = text.len();
        let place = Place { seq: self.seq + 1, prev: self.hash.clone(), time: rfc3339(now) };
        serde_json::to_writer(&mut *text, &Linked { place, line }).expect("a line is texts and numbers");
        *self = Self { seq: self.seq + 1, hash: hash_of(&text[begin..]) };
        text.push(b'\n');
    }
}

impl Writer {
    /// Opens the trail in the settings, and continues or begins it.
    pub(super) fn open(config: AuditConfig, clock: Clock, metrics: AuditMetrics) -> Result<Self, AuditError> {
        let path = &config.path;
        durable::create_folders(folder_of(path), Mode::Private)?;
        let lock = LockFile::try_lock(&beside(path, ".lock"), Mode::Private)?;
        let lock = lock.ok_or_else(|| AuditError::InUse(path.clone()))?;
        // A crash in `turn_over` leaves the next file under its temporary name. It is whole if the old file was already
        // moved.
        let temporary = beside(path, ".tmp");
        let unfinished =
            if path.exists() { durable::remove(&temporary) } else { durable::rename(&temporary, path) };
        unfinished.or_else(fine_if_missing)?;

        let (follower, good) = follow(path)?;
        let file = InPlace::open(path)?;
        let end = follower.latest.map(|(place, hash)| End { seq: place.seq, hash });
        let begun = end.is_some();
        let mut writer = Self {
            day: follower.first.map_or_else(|| day_of(clock.now()), |first| day_of(parsed(&first.time))),
            end: end.unwrap_or_else(End::genesis),
            metrics,
            _lock: lock,
            untidy: false,
            good,
            file,
            failing: false,
            config: config.clone(),
            clock,
        };
        if !begun {
            let opened = Action::Opened { version: env!("CARGO_PKG_VERSION"), continues: None };
            writer.set_torn_aside(good)?;
            writer.append(&[&Line::of_the_trail(opened)])?;
        } else if let Some(recovered) = writer.set_torn_aside(good)? {
            writer.append(&[&Line::of_the_trail(recovered)])?;
        }
        Ok(writer)
    }

    /// Writes lines until no handle is left.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::new();
        while jobs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let lines: Vec<_> = batch.iter().map(|job| &job.line).collect();
            let first = self.write(&lines);
            self.tell(first.as_ref().err(), lines.len());
            for (number, job) in (0..).zip(batch.drain(..)) {
                let answer = first.as_ref().map(|first| first + number).map_err(|_| NotWritten);
                // A caller that no longer waits got the answer that the outcome is unknown.
                let _ = job.answer.map(|waiting| waiting.send(answer));
            }
        }
    }

    /// Counts lines, and logs a failure once, not for each of the many that follow.
    fn tell(&mut self, failure: Option<&FileError>, lines: usize) {
        let path = self.config.path.display();
        match failure {
            None => {
                self.metrics.lines.inc_by(lines as u64);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(%path, "the audit trail is written again");
                }
            }
            Some(error) => {
                self.metrics.failed.inc();
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%path, %error, "the audit trail cannot be written; changes and references answer 503 until it can");
                }
            }
        }
    }

    /// Writes these lines durably and returns the number of the first.
    fn write(&mut self, lines: &[&Line]) -> Result<u64, FileError> {
        if !self.file.is_in_place()? {
            tracing::warn!(path = %self.config.path.display(), "the audit trail was moved away; a new file continues it");
            self.turn_over(None)?;
        } else if self.is_due() {
            let name = rfc3339(self.clock.now()).replace(':', "-");
            self.turn_over(Some(beside(&self.config.path, &format!(".{name}"))))?;
        }
        self.append(lines)
    }

    fn append(&mut self, lines: &[&Line]) -> Result<u64, FileError> {
        let (mut end, mut text) = (self.end.clone(), Vec::new());
        let now = self.clock.now();
        lines.iter().for_each(|line| end.append(line, now, &mut text));
        if self.untidy {
            self.file.truncate(self.good)?;
        }
        self.untidy = true;
        self.file.write_at(&text, self.good).and_then(|()| self.file.sync()).inspect_err(|_| {
            // Now, so that a crash leaves no line of a refused request; at the latest before the next line.
            let _ = self.file.truncate(self.good);
        })?;
        self.untidy = false;
        self.good += text.len() as u64;
        let first = self.end.seq + 1;
        self.end = end;
        Ok(first)
    }

    fn is_due(&self) -> bool {
        let another_day = self.config.rotate_daily && day_of(self.clock.now()) != self.day;
        self.good >= self.config.rotate_bytes || another_day
    }

    /// Continues in a new file, whose first line is linked to the last line of the old one. Renames the old file to `old`;
    /// `None` if another program has moved it already.
    fn turn_over(&mut self, old: Option<PathBuf>) -> Result<(), FileError> {
        let (path, temporary) = (&self.config.path, beside(&self.config.path, ".tmp"));
        if let Some(old) = old.as_ref().filter(|old| old.exists()) {
            return Err(FileError::new("rename a file to", old, ErrorKind::AlreadyExists.into()));
        }
        let continues = old.as_ref().and_then(|old| old.file_name());
        let continues = continues.map(|name| name.to_string_lossy().into_owned());
        let opened = Action::Opened { version: env!("CARGO_PKG_VERSION"), continues };
        let (mut end, mut text) = (self.end.clone(), Vec::new());
        let now = self.clock.now();
        end.append(&Line::of_the_trail(opened), now, &mut text);
        // After a failure the file is made anew, not continued.
        durable::remove(&temporary)?;
        let mut file = InPlace::open(&temporary)?;
        file.write_at(&text, 0)?;
        file.sync()?;
        if let Some(old) = old {
            if self.untidy {
                self.file.truncate(self.good)?;
                self.file.sync()?;
            }
            durable::rename(path, &old)?;
        }
        file.rename_to(path)?;
        (self.file, self.good, self.untidy, self.end, self.day) =
            (file, text.len() as u64, false, end, day_of(now));
        durable::sync_folder(folder_of(&self.config.path))
    }

    /// Moves the bytes beyond `good` into a file of their own, and returns the action to record.
    fn set_torn_aside(&self, good: u64) -> Result<Option<Action>, FileError> {
        let torn = self.file.read_from(good)?;
        if torn.is_empty() {
            return Ok(None);
        }
        let aside = beside(&self.config.path, &format!(".torn-{}", self.clock.now().millis()));
        durable::create_new(&aside, &torn, Mode::Private)?;
        self.file.truncate(good)?;
        let torn_file = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tracing::warn!(bytes = torn.len(), file = %aside.display(), "a crash cut the audit trail's last line short; moved it aside");
        Ok(Some(Action::Recovered { torn_bytes: torn.len(), torn_sha256: hash_of(&torn), torn_file }))
    }
}

/// Follows the chain in this file as far as it is intact, and returns its end. Beyond that, accepts only what a crash can
/// leave: a last line without its end, or zeros.
fn follow(path: &Path) -> Result<(Follower, u64), AuditError> {
    let unusable = |source: io::Error| FileError::new("read", path, source);
    let (mut follower, mut good) = (Follower::default(), 0);
    let lines = match lines(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((follower, good)),
        lines => lines.map_err(unusable)?,
    };
    for (number, line) in (1..).zip(lines) {
        let line = line.map_err(unusable)?;
        if line.last() != Some(&b'\n') || line.contains(&0) {
            break;
        }
        follower
            .take(without_end(&line))
            .map_err(|why| AuditError::Tampered(Broken { path: path.to_owned(), line: number, why }))?;
        good += line.len() as u64;
    }
    Ok((follower, good))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn fine_if_missing(error: FileError) -> Result<(), FileError> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn rfc3339(time: Timestamp) -> String {
    let millis = i64::try_from(time.millis()).unwrap_or(i64::MAX);
    format!("{:.3}", jiff::Timestamp::from_millisecond(millis).unwrap_or_default())
}

fn parsed(time: &str) -> Timestamp {
    let time: jiff::Timestamp = time.parse().unwrap_or_default();
    Timestamp::from_millis(u64::try_from(time.as_millisecond()).unwrap_or_default())
}

fn day_of(time: Timestamp) -> u64 {
    time.date().secs() / DAY_SECS
}
