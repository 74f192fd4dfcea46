//! Compressing and inflating the array of a list, compared with zlib's highest level.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement,
};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use statuslist::status_list::lst;

#[path = "support/random.rs"]
mod random;

const SIZES: [(&str, usize); 2] = [("100k", 100_000), ("1M", 1_000_000)];
const RATES_PERCENT: [f64; 6] = [0.0, 0.1, 1.0, 5.0, 10.0, 50.0];

fn encode(criterion: &mut Criterion) {
    each_list(criterion.benchmark_group("compress"), |group, id, array| {
        group.bench_with_input(BenchmarkId::new("libdeflate 12", &id), array, |bench, array| {
            bench.iter(|| lst::compress(black_box(array)))
        });
        group.bench_with_input(BenchmarkId::new("zlib 9", &id), array, |bench, array| {
            bench.iter(|| zlib(black_box(array)))
        });
    });
    each_list(criterion.benchmark_group("inflate"), |group, id, array| {
        let zlib = lst::compress(array);
        group.bench_with_input(BenchmarkId::from_parameter(&id), &zlib, |bench, zlib| {
            bench.iter(|| lst::inflate(black_box(zlib), array.len() as u64))
        });
    });
}

fn each_list<'a>(
    mut group: BenchmarkGroup<'a, measurement::WallTime>,
    bench: impl Fn(&mut BenchmarkGroup<'a, measurement::WallTime>, String, &[u8]),
) {
    // There are dozens of cases, whose times hardly vary.
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    for (name, entries) in SIZES {
        group.throughput(Throughput::Elements(entries as u64));
        for percent in RATES_PERCENT {
            let array = random::random_array(entries, percent / 100.0, 1);
            bench(&mut group, format!("{name} at {percent} %"), &array);
        }
    }
    group.finish();
}

fn zlib(array: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(array).expect("writing to memory does not fail");
    encoder.finish().expect("writing to memory does not fail")
}

criterion_group!(benches, encode);
criterion_main!(benches);
