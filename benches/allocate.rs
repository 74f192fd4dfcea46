//! Handing out references: the cost must not grow as lists fill up.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to report")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use statuslist::allocate::{Allocator, Marks};
use statuslist::base::clock::Clock;
use statuslist::base::signals::Signals;
use statuslist::base::stopper::stopper;
use statuslist::model::order::{OrderKey, Permutation};
use statuslist::store::Lease;
use statuslist::telemetry::metrics::Metrics;

use pool::{BEGIN, Bench, folder, holder};

#[path = "support/pool.rs"]
mod pool;

const SIZES: [(&str, u32); 2] = [("100k", 100_000), ("1M", 1_000_000)];
const FILLINGS: [(&str, u32); 2] = [("empty", 0), ("99 % full", 99)];
/// References of one measurement; half of what a list of 100,000 has left at 99 %.
const REFERENCES: u32 = 500;

fn permutation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("permutation");
    group.throughput(Throughput::Elements(REFERENCES.into()));
    for (name, size) in SIZES {
        let order = Permutation::new(OrderKey::from_bytes(*b"a key of 16 byte"), size);
        for (filling, percent) in FILLINGS {
            let first = size / 100 * percent;
            group.bench_with_input(BenchmarkId::new(name, filling), &first, |bench, &first| {
                bench.iter(|| {
                    (first..first + REFERENCES).fold(0, |sum: u32, at| sum ^ order.index(black_box(at)))
                })
            });
        }
    }
    group.finish();
}

/// A new allocator leases a block, durably, and hands it all out one by one.
fn allocator(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("allocator");
    group.throughput(Throughput::Elements(REFERENCES.into())).sample_size(20);
    for (name, size) in SIZES {
        let folder = pool::folder();
        let bench = Bench::new(
            folder.path(),
            &format!(
                "size: {size}, open-lists: 1, precreation: {{ lists: 0 }}, prefetch: {{ capacity: {REFERENCES}, threshold: 1 }}"
            ),
        );
        for (filling, percent) in FILLINGS {
            group.bench_function(BenchmarkId::new(name, filling), |criterion| {
                criterion
                    .iter_custom(|times| (0..times).map(|_| allocate_all(&bench, size / 100 * percent)).sum())
            });
        }
    }
    group.finish();
}

/// The time until all references of a block are handed out, in a list of which `leased` are already gone.
fn allocate_all(bench: &Bench, leased: u32) -> Duration {
    let list = bench.open_lists(1)[0];
    let marks_folder = folder();
    let marks = Marks::open(&marks_folder.path().join("p.marks")).unwrap();
    let metrics = Metrics::default().pool(&bench.pool.shape.id);
    let allocator = Allocator::new(&bench.pool, holder(), Some(marks), metrics);
    let (signals, clock) = (Signals::default(), Clock::set_to(BEGIN));
    let (_switch, stopper) = stopper();
    bench.runtime.block_on(async {
        if leased > 0 {
            bench.store.lease_block(list, leased, &holder(), Lease::default(), BEGIN).await.unwrap();
        }
        let give_all = async {
            for _ in 0..REFERENCES {
                black_box(allocator.allocate(1).await.unwrap());
            }
        };
        let begun = Instant::now();
        tokio::select! {
            () = give_all => {}
            () = allocator.run(&bench.store, &signals, &clock, &stopper) => unreachable!("nobody stops it"),
        }
        let took = begun.elapsed();
        // Seals this list, so that the next measurement uses only its own.
        bench.store.seal_list(list).await.unwrap();
        took
    })
}

criterion_group!(benches, permutation, allocator);
criterion_main!(benches);
