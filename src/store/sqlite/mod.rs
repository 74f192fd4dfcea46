//! The default backend: one SQLite file, one process, one thread that writes.
//!
//! Statuses are an append-only journal that is folded into chunks after each publication. Writes are fsynced (WAL,
//! `synchronous=FULL`) before they are acknowledged. Reads use a connection of their own and see what is committed.

mod apply;
mod backup;
mod commit;
mod fill;
mod hot;
mod journal;
mod many;
mod place;
mod read;
mod registry;
mod remember;
mod schema;
mod spread_row;
mod transfer;
mod write;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{oneshot, watch};

use super::Applied;
use super::deadline::Deadline;
use super::remembered::{Answered, Digest, Keep, Remembered};
use super::spread::Spread;
use super::values::{
    Block, Changes, DueMark, Fence, Lease, Leased, ListRecord, ListTransfer, OpenList, Order, Pending,
    PoolUsage, Publication, PublisherState, Snapshot, StatusChange, StoreError, Version,
};
use crate::base::clock::Timestamp;
use crate::base::durable::{self, FileError, LockFile, Mode};
use crate::config::Synchronous;
use crate::model::instance::InstanceId;
use crate::model::pool::{PoolId, PoolShape};
use crate::status_list::{Index, ListId, Status};
use commit::Job;
use write::Writer;

/// A handle to the database; clones share it.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    writer: mpsc::Sender<Job>,
    reader: Arc<Mutex<Connection>>,
    /// Closed when the writing thread ends.
    alive: watch::Receiver<()>,
    /// Held as long as any handle exists, unless it only reads. The system releases it when the process ends, even in a crash.
    _lock: Option<Arc<LockFile>>,
}

impl SqliteStore {
    /// Opens or creates the database and migrates its schema. Fails while another process has it open.
    pub fn open(path: &Path, synchronous: Synchronous) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let open_error = |why: &dyn ToString| StoreError::Open { path: shown.clone(), why: why.to_string() };
        let folder = durable::folder_of(path);
        durable::create_folders(folder, Mode::Private).map_err(|why| open_error(&why))?;
        if durable::is_open_to_others(folder) {
            tracing::warn!(
                folder = %folder.display(),
                "other users of this machine can list the folder of the database; they cannot read its files, but give it a folder of its own with mode 700"
            );
        }
        // One lock for the database, by whatever path it is opened.
        let path = &place::real_path(path).map_err(|why| open_error(&why))?;
        let lock = lock(path)?;
        keep_private(path).map_err(|why| open_error(&why))?;
        let mut connection = Connection::open(path).map_err(|why| open_error(&why))?;
        configure(&connection, synchronous).map_err(|why| open_error(&why))?;
        schema::migrate(&mut connection, path)?;
        let reader = read::open(path)?;

        let (sender, jobs) = mpsc::channel::<Job>();
        let writer = Writer::new(connection);
        let (alive_until_end, alive) = watch::channel(());
        std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || {
                // Dropped when the thread ends, also after a panic.
                let _alive = alive_until_end;
                commit::run(writer, &jobs);
            })
            .map_err(|why| open_error(&why))?;
        Ok(Self { writer: sender, reader: Arc::new(Mutex::new(reader)), alive, _lock: Some(Arc::new(lock)) })
    }

    /// Opens a database that exists, for reading only, also while another process has it open: takes no lock, creates and migrates
    /// nothing. Every write fails.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        let reader = read::open(path)?;
        schema::check_is_current(&reader, path)?;
        let (writer, _) = mpsc::channel();
        let (_, alive) = watch::channel(());
        Ok(Self { writer, reader: Arc::new(Mutex::new(reader)), alive, _lock: None })
    }

    /// Copies the database at `from` into the new file `to`, also while a service uses it. Returns the number of its lists after the copy
    /// is durable and checked. Fails if `to` exists.
    pub fn back_up(from: &Path, to: &Path) -> Result<u64, StoreError> {
        backup::back_up(from, to)
    }

    pub(super) async fn ended(&self) {
        // Nothing is ever sent: this ends when the sender is dropped.
        while self.alive.clone().changed().await.is_ok() {}
    }

    pub(super) async fn declare_pool(&self, shape: &PoolShape) -> Result<(), StoreError> {
        let shape = shape.clone();
        self.write(move |writer| writer.declare_pool(shape)).await
    }

    pub(super) async fn open_list(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
        most: u64,
        _now: Timestamp,
    ) -> Result<ListId, StoreError> {
        let (for_pool, owner) = (pool.clone(), owner.clone());
        let opened = self.write(move |writer| writer.open_list(&for_pool, &owner, most)).await?;
        opened.ok_or_else(|| StoreError::TooManyLists { pool: pool.clone(), most })
    }

    pub(super) async fn lease_block(
        &self,
        list: ListId,
        n: u32,
        owner: &InstanceId,
        mark: Lease,
        now: Timestamp,
    ) -> Result<Leased, StoreError> {
        let owner = owner.clone();
        self.write(move |writer| writer.lease_block(list, n, &owner, mark, now)).await
    }

    pub(super) async fn return_tail(&self, block: &Block, from: u32) -> Result<bool, StoreError> {
        let block = block.clone();
        self.write(move |writer| writer.return_tail(&block, from)).await
    }

    pub(super) async fn seal_list(&self, list: ListId) -> Result<(), StoreError> {
        self.write(move |writer| writer.seal_list(list)).await
    }

    pub(super) async fn retire_list(&self, list: ListId, deadline: Deadline) -> Result<(), StoreError> {
        self.write_before(deadline, 1, move |writer| writer.retire_list(list)).await
    }

    pub(super) async fn apply(
        &self,
        _pool: &PoolId,
        requests: Vec<Vec<StatusChange>>,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Vec<Applied>, StoreError> {
        let entries = requests.iter().map(Vec::len).sum();
        self.write_before(deadline, entries, move |writer| writer.apply(&requests, now)).await
    }

    pub(super) async fn order_of(&self, list: ListId) -> Result<Option<Order>, StoreError> {
        self.read(move |connection| read::order_of(connection, list)).await
    }

    pub(super) async fn fill_list(
        &self,
        list: ListId,
        status: Status,
        beats: u32,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        self.write_before(deadline, 1, move |writer| writer.fill_list(list, status, beats, now)).await
    }

    pub(super) async fn spreading(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        let pool = pool.clone();
        self.read(move |connection| read::spreading(connection, &pool)).await
    }

    pub(super) async fn advance_spread(
        &self,
        list: ListId,
        spread: &Spread,
        entries: &[Index],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (spread, entries) = (*spread, entries.to_vec());
        self.step(entries.len(), move |writer| writer.advance_spread(list, &spread, &entries, now)).await
    }

    pub(super) async fn remember(
        &self,
        pool: &PoolId,
        key: Digest,
        answer: Answered,
        now: Timestamp,
        keep: Keep,
    ) -> Result<Remembered, StoreError> {
        let pool = pool.clone();
        self.write(move |writer| writer.remember(&pool, &key, &answer, now, keep)).await
    }

    pub(super) async fn remembered(
        &self,
        _pool: &PoolId,
        key: Digest,
        now: Timestamp,
    ) -> Result<Option<Answered>, StoreError> {
        self.read(move |connection| remember::remembered(connection, &key, now)).await
    }

    pub(super) async fn settle(
        &self,
        list: ListId,
        publication: Publication,
        _taken: Timestamp,
        seen: DueMark,
        fence: Fence,
    ) -> Result<(), StoreError> {
        self.write(move |writer| writer.settle(list, publication, seen, fence)).await
    }

    pub(super) async fn mark_due(&self, lists: Vec<ListId>) -> Result<(), StoreError> {
        self.write(move |writer| writer.mark_due(&lists)).await
    }

    pub(super) async fn lease_publisher(
        &self,
        pool: &PoolId,
        holder: &InstanceId,
        term: Duration,
        patience: Duration,
    ) -> Result<Option<Fence>, StoreError> {
        let (pool, holder) = (pool.clone(), holder.clone());
        self.write(move |writer| writer.lease_publisher(&pool, &holder, term, patience)).await
    }

    pub(super) async fn release_publisher(
        &self,
        pool: &PoolId,
        holder: &InstanceId,
    ) -> Result<(), StoreError> {
        let (pool, holder) = (pool.clone(), holder.clone());
        self.write(move |writer| {
            writer.release_publisher(&pool, &holder);
            Ok(())
        })
        .await
    }

    pub(super) async fn publisher(&self, pool: &PoolId) -> Result<PublisherState, StoreError> {
        let pool = pool.clone();
        self.read(move |connection| read::publisher(connection, &pool)).await
    }

    pub(super) async fn shape_of(&self, pool: &PoolId) -> Result<Option<PoolShape>, StoreError> {
        let pool = pool.clone();
        self.read(move |connection| transfer::shape_of(connection, &pool)).await
    }

    pub(super) async fn export_list(&self, list: ListId) -> Result<ListTransfer, StoreError> {
        self.read(move |connection| transfer::export_list(connection, list)).await
    }

    pub(super) async fn begin_import(&self) -> Result<(), StoreError> {
        self.write(|writer| writer.mark_unfinished(true)).await
    }

    pub(super) async fn finish_import(&self) -> Result<(), StoreError> {
        self.write(|writer| writer.mark_unfinished(false)).await
    }

    pub(super) async fn import_list(&self, list: &ListTransfer) -> Result<bool, StoreError> {
        let list = list.clone();
        self.write(move |writer| writer.import_list(&list)).await
    }

    pub(super) async fn open_lists(
        &self,
        pool: &PoolId,
        owner: &InstanceId,
    ) -> Result<Vec<OpenList>, StoreError> {
        let (pool, owner) = (pool.clone(), owner.clone());
        self.read(move |connection| read::open_lists(connection, &pool, &owner)).await
    }

    pub(super) async fn dirty(&self, pool: &PoolId) -> Result<Vec<Pending>, StoreError> {
        let pool = pool.clone();
        self.read(move |connection| read::dirty(connection, &pool)).await
    }

    pub(super) async fn due(&self, pool: &PoolId, t: Timestamp) -> Result<Vec<Pending>, StoreError> {
        let pool = pool.clone();
        self.read(move |connection| read::due(connection, &pool, t)).await
    }

    pub(super) async fn next_due(&self, pool: &PoolId) -> Result<Option<Timestamp>, StoreError> {
        let pool = pool.clone();
        self.read(move |connection| read::next_due(connection, &pool)).await
    }

    pub(super) async fn snapshot(&self, list: ListId) -> Result<Snapshot, StoreError> {
        self.read(move |connection| read::snapshot(connection, list)?.ok_or(StoreError::NoSuchList(list)))
            .await
    }

    pub(super) async fn status(&self, list: ListId, index: Index) -> Result<(Status, Version), StoreError> {
        let Snapshot { version, array } = self.snapshot(list).await?;
        Ok((array.get(index), version))
    }

    pub(super) async fn changes_since_publication(
        &self,
        list: ListId,
        version: Version,
    ) -> Result<Option<Changes>, StoreError> {
        self.read(move |connection| read::changes_since_publication(connection, list, version).map(Some))
            .await
    }

    pub(super) async fn list(&self, list: ListId) -> Result<Option<ListRecord>, StoreError> {
        self.read(move |connection| read::list(connection, list)).await
    }

    pub(super) async fn lists(&self, pool: &PoolId) -> Result<Vec<ListRecord>, StoreError> {
        let pool = pool.clone();
        self.read(move |connection| read::lists(connection, &pool)).await
    }

    pub(super) async fn pools(&self) -> Result<Vec<(PoolId, u64)>, StoreError> {
        self.read(|connection| read::pools(connection)).await
    }

    pub(super) async fn usage(&self, pool: &PoolId) -> Result<PoolUsage, StoreError> {
        let pool = pool.clone();
        self.read(move |connection| read::usage(connection, &pool)).await
    }

    /// As [`Self::step`], but fails if the deadline has passed when the step begins. Steps commit in the order in which they begin,
    /// so a step that began in time overwrites nothing that was acknowledged after the deadline.
    async fn write_before<T: Send + 'static>(
        &self,
        deadline: Deadline,
        entries: usize,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let step = move |writer: &mut Writer| match deadline.has_passed() {
            true => Err(StoreError::Late),
            false => work(writer),
        };
        self.step(entries, step).await
    }

    /// Runs `work`, which changes no entries, or a whole list at once, on the writing thread and returns after it is durable.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.step(0, work).await
    }

    /// As [`Self::write`], for a step that changes so many entries: others come before a large one.
    async fn step<T: Send + 'static>(
        &self,
        entries: usize,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writer.send(commit::job(entries, work, answer)).map_err(|_| writer_gone())?;
        answered.await.map_err(|_| writer_gone())?
    }

    /// Runs `work` with the reading connection, on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Arc::clone(&self.reader);
        let read = move || {
            let mut connection = reader.lock();
            work(&mut connection)
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        let corrupt = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
        let damaged = match &error {
            FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) => true,
            other => other.sqlite_error_code().is_some_and(|code| corrupt.contains(&code)),
        };
        if damaged { Self::Damaged(error.to_string()) } else { Self::Unavailable(error.to_string()) }
    }
}

fn writer_gone() -> StoreError {
    StoreError::Unavailable("the writing thread has ended; restart the service".to_owned())
}

/// Locks a file beside the database, which keeps a second process out.
fn lock(path: &Path) -> Result<LockFile, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let shown = path.display().to_string();
    let lock = LockFile::try_lock(Path::new(&name), Mode::Private);
    let lock = lock.map_err(|why| StoreError::Open { path: shown.clone(), why: why.to_string() })?;
    lock.ok_or(StoreError::InUse { path: shown })
}

/// Hides the order of references from other users of the machine: it follows from the lists' keys. SQLite gives its log and the
/// log's index the mode of the database.
fn keep_private(path: &Path) -> Result<(), FileError> {
    durable::create_private(path)?;
    ["-wal", "-shm", "-journal"].into_iter().try_for_each(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        durable::keep_private(Path::new(&name))
    })
}

fn configure(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL fsyncs the log at every commit. NORMAL loses the last commits in a power cut: the negative control of the tests.
    let synchronous = match synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_process_on_the_same_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let first = SqliteStore::open(&path, Synchronous::Full).unwrap();
        let error = SqliteStore::open(&path, Synchronous::Full).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("used by another process"));
        drop(first);
        // The writing thread ends when its channel closes; the lock is released with the last handle.
        SqliteStore::open(&path, Synchronous::Full).unwrap();
    }

    #[test]
    fn a_link_to_a_database_that_is_not_there_yet_has_the_lock_of_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.db"), folder.path().join("link.db"));
        std::os::unix::fs::symlink("other.db", &link).unwrap();
        std::os::unix::fs::symlink("a.db", folder.path().join("other.db")).unwrap();
        let first = SqliteStore::open(&link, Synchronous::Full).unwrap();
        for again in [&path, &link] {
            let error = SqliteStore::open(again, Synchronous::Full).unwrap_err();
            assert!(matches!(error, StoreError::InUse { .. }), "{}: {error}", again.display());
        }
        drop(first);
        SqliteStore::open(&path, Synchronous::Full).unwrap();
    }

    #[tokio::test]
    async fn a_database_with_an_unfinished_copy_is_refused_until_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = SqliteStore::open(&path, Synchronous::Full).unwrap();
        store.begin_import().await.unwrap();
        drop(store);
        let refused = SqliteStore::open(&path, Synchronous::Full).unwrap_err();
        assert!(matches!(refused, StoreError::Unfinished { .. }), "{refused}");
        assert!(refused.to_string().contains("a.db-wal"), "{refused}");
        for file in ["a.db", "a.db-wal", "a.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(file));
        }
        let store = SqliteStore::open(&path, Synchronous::Full).unwrap();
        store.begin_import().await.unwrap();
        store.finish_import().await.unwrap();
        drop(store);
        SqliteStore::open(&path, Synchronous::Full).unwrap();
    }

    /// Of the large batches of one pool that wait, only one comes before a small batch of another pool, and it has a transaction of
    /// its own.
    #[tokio::test]
    async fn a_small_batch_does_not_wait_for_large_ones_of_another_pool() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("a.db"), Synchronous::Full).unwrap();
        let settings = "status-list-pools: { p: { api-key: secret }, q: { api-key: another } }";
        let config = crate::config::Config::load(Some(settings), std::iter::empty()).unwrap();
        let owner = crate::model::instance::InstanceId::random();
        let mut lists = Vec::new();
        for (pool, settings) in &config.pools {
            store.declare_pool(&settings.shape).await.unwrap();
            lists.push((
                pool.clone(),
                store.open_list(pool, &owner, u64::MAX, Timestamp::from_secs(1)).await.unwrap(),
            ));
        }
        let capacity = config.pools.values().next().unwrap().shape.capacity;
        let batch = |list: ListId, entries: u64| {
            let change = |idx| StatusChange {
                list,
                index: capacity.index(idx).unwrap(),
                status: Status::INVALID,
                expected: None,
            };
            vec![(0..entries).map(change).collect::<Vec<_>>()]
        };
        let (finished, mut order) = tokio::sync::mpsc::unbounded_channel();
        let (release, released) = mpsc::channel::<()>();
        let (blocked, until_blocked) = mpsc::channel();
        let blocking = tokio::spawn({
            let store = store.clone();
            async move {
                let wait = move |_: &mut Writer| {
                    blocked.send(()).unwrap();
                    let _ = released.recv();
                    Ok(())
                };
                store.write(wait).await.unwrap();
            }
        });
        tokio::task::spawn_blocking(move || until_blocked.recv().unwrap()).await.unwrap();
        let mut steps = Vec::new();
        for (name, (pool, list), entries) in
            [("large", &lists[0], 50_000), ("larger", &lists[0], 60_000), ("small", &lists[1], 3)]
        {
            let (store, pool, requests, finished) =
                (store.clone(), pool.clone(), batch(*list, entries), finished.clone());
            steps.push(tokio::spawn(async move {
                let deadline = Deadline::after(Duration::from_secs(600));
                let now = Timestamp::from_secs(2);
                assert_eq!(store.apply(&pool, requests, deadline, now).await.unwrap(), [Ok(())]);
                finished.send(name).unwrap();
            }));
            // So that the steps are sent in this order.
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        blocking.await.unwrap();
        for step in steps {
            step.await.unwrap();
        }
        let order: Vec<_> = std::iter::from_fn(|| order.try_recv().ok()).collect();
        // The step before was a small one, so now it is the turn of a large one, but of one only.
        assert_eq!(order, ["large", "small", "larger"]);
    }

    #[tokio::test]
    async fn a_writing_thread_that_ends_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("a.db"), Synchronous::Full).unwrap();
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, store.ended()).await.is_err(), "it is alive");
        let fault = store.write::<()>(|_| panic!("a fault in a step")).await;
        assert!(matches!(fault, Err(StoreError::Unavailable(_))), "{fault:?}");
        tokio::time::timeout(Duration::from_secs(10), store.ended()).await.expect("it ended");
    }

    #[test]
    fn the_database_and_what_belongs_to_it_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/a.db");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let files = ["a.db", "a.db-wal", "a.db-shm", "a.db.lock"].map(|name| path.with_file_name(name));
        for open_to_all in [false, true] {
            // A second handle keeps the log from being removed when the first one is closed.
            let keep = open_to_all.then(|| Connection::open(&path).unwrap());
            if let Some(keep) = &keep {
                keep.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).unwrap();
                for file in files.iter().filter(|file| file.exists()) {
                    std::fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
                }
            }
            let store = SqliteStore::open(&path, Synchronous::Full).unwrap();
            for file in &files {
                assert_eq!(mode(file), 0o600, "{}", file.display());
            }
            assert_eq!(mode(path.parent().unwrap()), 0o700);
            drop(store);
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &[7; 5000]).unwrap();
        assert!(matches!(SqliteStore::open(&path, Synchronous::Full), Err(StoreError::Open { .. })));
    }

    /// Two kinds of damage: a value that is never written, and overwritten pages.
    #[tokio::test]
    async fn a_damaged_database_is_distinguished_from_one_that_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let pool = "p".parse().unwrap();
        let open = || SqliteStore::open(&path, Synchronous::Full).unwrap();
        let settings = "status-list-pools: { p: { api-key: secret, size: 800 } }";
        let config = crate::config::Config::load(Some(settings), std::iter::empty()).unwrap();
        let store = open();
        store.declare_pool(&config.pools[&pool].shape).await.unwrap();
        let owner = crate::model::instance::InstanceId::random();
        let list = store.open_list(&pool, &owner, u64::MAX, Timestamp::from_secs(1)).await.unwrap();
        drop(store);
        Connection::open(&path).unwrap().execute("UPDATE list SET owner = 'not an id!'", []).unwrap();
        let error = open().list(list).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)) && error.to_string().contains("restore"), "{error}");

        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 8192], 4096).unwrap();
        let error = match SqliteStore::open(&path, Synchronous::Full) {
            Ok(store) => store.lists(&pool).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, StoreError::Damaged(_) | StoreError::Open { .. }), "{error:?}");
    }

    #[test]
    fn commits_are_fsynced() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("a.db")).unwrap();
        configure(&connection, Synchronous::Full).unwrap();
        let pragma = |name: &str| {
            connection
                .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0))
                .unwrap()
        };
        assert_eq!(pragma("synchronous"), 2.into(), "FULL");
        assert_eq!(pragma("journal_mode"), "wal".to_owned().into());
    }
}
