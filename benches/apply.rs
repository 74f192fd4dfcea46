//! Durable status changes in a store on a real disk, compared with bare inserts of the same number of rows with the same
//! durability.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to report")]

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::{Connection, params};
use statuslist::status_list::Status;
use statuslist::store::{Deadline, StatusChange};

use pool::{BEGIN, Bench};

#[path = "support/pool.rs"]
mod pool;

const BATCHES: [u64; 3] = [1, 64, 512];
/// One request of many changes: what the updates of other pools wait for.
const LARGE: u64 = 100_000;
const LISTS: u64 = 4;
const SIZE: u64 = 100_000;
/// Coprime to the size, so it visits every index, and never two neighbours in succession.
const STRIDE: u64 = 61_803;

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.sample_size(20);
    let folder = pool::folder();
    let bench = Bench::new(folder.path(), &format!("size: {SIZE}"));
    let lists = bench.open_lists(LISTS as usize);
    let change = |n: u64| {
        let list = lists[(n % LISTS) as usize];
        let index = bench.pool.shape.capacity.index(n * STRIDE % SIZE).unwrap();
        StatusChange { list, index, status: Status::new((n / SIZE % 2) as u8), expected: None }
    };
    let apply = |requests| {
        let deadline = Deadline::after(Duration::from_secs(3600));
        let applied = bench.store.apply(&bench.pool.shape.id, requests, deadline, BEGIN);
        assert!(bench.runtime.block_on(applied).unwrap().iter().all(Result::is_ok));
    };
    let mut at = 0;
    group.throughput(Throughput::Elements(LARGE));
    group.bench_function(BenchmarkId::new("one request", LARGE), |criterion| {
        criterion.iter(|| {
            apply(vec![(at..at + LARGE).map(change).collect()]);
            at += LARGE;
        })
    });
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new("store", batch), |criterion| {
            criterion.iter(|| {
                apply((at..at + batch).map(|n| vec![change(n)]).collect());
                at += batch;
            })
        });
        let connection = bare_database(&folder.path().join("bare.db"));
        let mut row = 0;
        group.bench_function(BenchmarkId::new("bare inserts", batch), |criterion| {
            criterion.iter(|| {
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                let sql = "INSERT INTO journal (list, seq, idx, value, version, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let mut insert = connection.prepare_cached(sql).unwrap();
                for _ in 0..batch {
                    row += 1;
                    let values = params![row % LISTS, row, row * STRIDE % SIZE, 1, row / batch, BEGIN.millis()];
                    insert.execute(values).unwrap();
                }
                drop(insert);
                connection.execute_batch("COMMIT").unwrap();
            })
        });
        drop(connection);
        std::fs::remove_file(folder.path().join("bare.db")).unwrap();
    }
    group.finish();
}

/// Only the journal, with the store's schema.
fn bare_database(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    let schema = "CREATE TABLE journal (list INTEGER NOT NULL, seq INTEGER NOT NULL, idx INTEGER NOT NULL, value INTEGER NOT NULL,
                  version INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (list, seq)) STRICT, WITHOUT ROWID";
    connection.execute_batch(schema).unwrap();
    connection
}

criterion_group!(benches, apply);
criterion_main!(benches);
