//! The trail as a whole: detecting tampering, starting, continuing and recovering.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::base::clock::Timestamp;

struct Trail {
    folder: TempDir,
    config: AuditConfig,
    clock: Clock,
}

impl Trail {
    fn new(rotate_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config =
            AuditConfig { path: folder.path().join("audit.jsonl"), rotate_bytes, rotate_daily: true };
        // 22 November 2026, ten seconds to midnight.
        Self { folder, config, clock: Clock::set_to(Timestamp::from_secs(1_795_391_990)) }
    }

    fn open(&self) -> Result<Audit, AuditError> {
        // The previous writer's thread releases the lock when it notices that all its handles are gone.
        for _ in 0..5000 {
            match Audit::open(Some(&self.config), self.clock.clone(), AuditMetrics::default()) {
                Err(AuditError::InUse(_)) => {
                    let (_keep, never) = std::sync::mpsc::channel::<()>();
                    let _ = never.recv_timeout(Duration::from_millis(2));
                }
                opened => return opened,
            }
        }
        panic!("the writer never ended");
    }

    /// Writes `lines` allocations.
    async fn write(&self, lines: u32) {
        let audit = self.open().unwrap();
        for amount in 0..lines {
            audit.record(allocation(amount)).await.unwrap();
        }
    }

    /// All files, oldest first; the current one is the last.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .filter(|path| !["lock", "tmp"].contains(&path.extension().unwrap().to_str().unwrap()))
            .filter(|path| !path.to_str().unwrap().contains(".torn-"))
            .collect();
        files.sort_by_key(|path| (*path == self.config.path, path.clone()));
        files
    }

    fn verify(&self) -> Result<Span, Broken> {
        verify(&self.files(), None).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.config.path).unwrap().split_inclusive('\n').map(str::to_owned).collect()
    }

    fn replace(&self, lines: &[String]) {
        let file = fs::File::create(&self.config.path).unwrap();
        file.write_all_at(lines.concat().as_bytes(), 0).unwrap();
    }
}

fn allocation(amount: u32) -> Line {
    let caller = Caller { request: Some("r-1".to_owned()), name: Some("key:0123abcd".to_owned()) };
    let pool: crate::model::pool::PoolId = "p".parse().unwrap();
    Line::new(caller, Action::Allocate { pool: (&pool).into(), amount, repeated: false })
}

/// The control: a reader that checks each line but not the chain.
fn looks_good(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap();
    text.ends_with('\n') && text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn tampering_is_found_only_through_the_chain() {
    let trail = Trail::new(u64::MAX);
    trail.write(20).await;
    let whole = trail.verify().unwrap();
    assert_eq!((whole.first.0, whole.last.0), (1, 21));
    let lines = trail.lines();
    let changed = |n: usize| {
        let mut lines = lines.clone();
        let digit = lines[n].rfind("amount\":").unwrap() + 8;
        lines[n].replace_range(digit..=digit, "9");
        lines
    };
    let deleted = [&lines[..7], &lines[8..]].concat();
    let mut swapped = lines.clone();
    swapped.swap(7, 8);
    let doubled = [&lines[..8], &lines[7..]].concat();
    let headless = |n: usize| lines[n..].to_vec();
    for (what, tampered, line) in [
        ("changed", changed(7), 9),
        ("changed, the first after the opening", changed(1), 3),
        ("deleted", deleted, 8),
        ("swapped", swapped, 8),
        ("doubled", doubled, 9),
    ] {
        trail.replace(&tampered);
        let broken = trail.verify().expect_err(what);
        assert_eq!((broken.line, &broken.path), (line, &trail.config.path), "{what}: {broken}");
        assert!(looks_good(&trail.config.path), "without the chain nobody sees that a line was {what}");
        let error = trail.open().expect_err("the trail does not continue");
        assert!(
            matches!(&error, AuditError::Tampered(_)) && error.to_string().contains("evidence"),
            "{error}"
        );
    }
    let mut cut = lines.clone();
    cut[7].truncate(40);
    cut[7].push('\n');
    trail.replace(&cut);
    assert_eq!(trail.verify().unwrap_err().line, 8);
    // Lines cut off at the end, or a change of the last line, show only against a hash kept elsewhere.
    for tampered in [lines[..15].to_vec(), changed(20)] {
        trail.replace(&tampered);
        assert!(trail.verify().is_ok());
        let anchored = verify(&trail.files(), Some(&whole.last_hash)).unwrap().unwrap_err();
        assert!(anchored.why.contains("cut off"), "{anchored}");
    }
    trail.replace(&lines);
    assert!(verify(&trail.files(), Some(&whole.last_hash)).unwrap().unwrap().has_anchor);
    // Older files may be missing; the result shows that.
    trail.replace(&headless(5));
    assert_eq!(trail.verify().unwrap().first.0, 6);
    trail.replace(&[]);
    assert!(trail.verify().unwrap_err().why.contains("nothing to verify"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_goes_on_after_a_restart_and_two_chains_differ() {
    let trail = Trail::new(u64::MAX);
    trail.write(3).await;
    let first = trail.verify().unwrap();
    trail.write(2).await;
    let second = trail.verify().unwrap();
    assert_eq!((second.last.0, second.first), (first.last.0 + 2, first.first));
    let mode = fs::metadata(&trail.config.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let line: Value = serde_json::from_str(trail.lines()[1].trim()).unwrap();
    assert_eq!((&line["seq"], &line["time"]), (&2.into(), &"2026-11-22T23:59:50.000Z".into()));
    assert_eq!((&line["request"], &line["caller"]), (&"r-1".into(), &"key:0123abcd".into()));
    let other = Trail::new(u64::MAX);
    other.write(3).await;
    assert_ne!(other.verify().unwrap().last_hash, first.last_hash, "same content, different genesis");

    let audit = trail.open().unwrap();
    let error = Audit::open(Some(&trail.config), trail.clock.clone(), AuditMetrics::default()).unwrap_err();
    assert!(error.to_string().contains("of its own"), "{error}");
    drop(audit);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_rotate_by_size_and_day_and_stay_one_chain() {
    let trail = Trail::new(1000);
    let audit = trail.open().unwrap();
    for amount in 0..20 {
        audit.record(allocation(amount)).await.unwrap();
        trail.clock.advance(Duration::from_millis(1));
    }
    let by_size = trail.files().len();
    assert!(by_size > 4, "{:?}", trail.files());
    trail.clock.advance(Duration::from_secs(20));
    audit.record(allocation(20)).await.unwrap();
    assert_eq!(trail.files().len(), by_size + 1, "a new day");
    // Another program rotates the file, as logrotate does.
    fs::rename(&trail.config.path, trail.folder.path().join("audit.jsonl.1")).unwrap();
    audit.record(allocation(21)).await.unwrap();
    let files = trail.files();
    let whole = verify(&files, None).unwrap().unwrap();
    assert_eq!(whole.last.0, 22 + files.len() as u64);
    let mut shuffled = files.clone();
    shuffled.reverse();
    assert_eq!(verify(&shuffled, None).unwrap().unwrap(), whole);
    let without_one: Vec<_> = [&files[..2], &files[3..]].concat();
    assert!(verify(&without_one, None).unwrap().unwrap_err().why.contains("missing"));
    for file in files {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    // Another file in its place is not overwritten, and nothing is acknowledged meanwhile.
    fs::rename(&trail.config.path, trail.folder.path().join("audit.jsonl.2")).unwrap();
    fs::File::create(&trail.config.path).unwrap();
    audit.record(allocation(22)).await.unwrap_err();
    fs::remove_file(&trail.config.path).unwrap();
    audit.record(allocation(22)).await.unwrap();
    trail.verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_cut_short_by_a_crash_is_moved_aside_and_recorded() {
    let trail = Trail::new(u64::MAX);
    trail.write(3).await;
    let lines = trail.lines();
    for torn in ["{\"seq\":5,\"pre", "\0\0\0\0", "{\"seq\":5,\0\0\0\n{\"seq\":6}\n"] {
        let mut after = lines.clone();
        after.push(torn.to_owned());
        trail.replace(&after);
        assert!(trail.verify().is_err(), "{torn:?}");
        trail.clock.advance(Duration::from_millis(1));
        trail.write(1).await;
        let whole = trail.verify().unwrap();
        assert_eq!(whole.last.0, 6);
        let told: Value = serde_json::from_str(trail.lines()[4].trim()).unwrap();
        assert_eq!((&told["action"], &told["torn-bytes"]), (&"recovered".into(), &torn.len().into()));
        let aside = trail.folder.path().join(told["torn-file"].as_str().unwrap());
        assert_eq!(fs::read(aside).unwrap(), torn.as_bytes());
    }
    // A file that was begun and not finished, and one that was about to take its place.
    fs::rename(&trail.config.path, trail.folder.path().join("audit.jsonl.tmp")).unwrap();
    trail.write(1).await;
    assert_eq!(trail.verify().unwrap().last.0, 7);
    fs::File::create(trail.folder.path().join("audit.jsonl.tmp")).unwrap();
    trail.write(1).await;
    assert_eq!(trail.verify().unwrap().last.0, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_change_has_an_unknown_outcome() {
    let trail = Trail::new(u64::MAX);
    let audit = trail.open().unwrap();
    drop(audit.begin(allocation(1)).await.unwrap());
    audit.begin(allocation(2)).await.unwrap().end(Outcome::Done).await.unwrap();
    let outcomes: Vec<Value> = trail.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&outcomes[2]["of"], &outcomes[2]["outcome"]), (&2.into(), &"unknown".into()));
    assert_eq!((&outcomes[4]["of"], &outcomes[4]["outcome"]), (&4.into(), &"done".into()));
    let off = Audit::open(None, Clock::System, AuditMetrics::default()).unwrap();
    assert!(!off.is_on() && off.begin(allocation(1)).await.unwrap().end(Outcome::Done).await.is_ok());
}
