//! One pass of the publisher on a real folder, compared with the compression and signatures alone; and the same changes
//! among few and among many lists.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to report")]

use std::hint::black_box;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use statuslist::base::clock::Clock;
use statuslist::base::clock_watch::ClockWatch;
use statuslist::base::signals::Signals;
use statuslist::config::PublishRole;
use statuslist::publish::{Parts, PoolPublisher};
use statuslist::sign::{Algorithm, KeyHints, KeyRing, Signer, SigningKey, generate};
use statuslist::site::folder::Site;
use statuslist::status_list::{Format, ListId, Status, lst};
use statuslist::store::{Deadline, StatusChange};
use statuslist::telemetry::metrics::Metrics;
use tempfile::TempDir;

use pool::{BEGIN, Bench, holder};

#[path = "support/pool.rs"]
mod pool;
#[path = "support/random.rs"]
mod random;

const CHANGED: usize = 10;
const MANY: usize = 10_000;

/// Published lists, some of which change before each pass.
struct Lists {
    bench: Bench,
    publisher: PoolPublisher,
    site: Site,
    clock: Clock,
    key: EcdsaKeyPair,
    changing: Vec<ListId>,
    size: usize,
    passes: u64,
    _folder: TempDir,
}

impl Lists {
    /// `total` lists of `size` entries, of which 1 % is set in the `changing` first.
    fn new(size: usize, formats: &str, changing: usize, total: usize) -> Self {
        let folder = pool::folder();
        let bench = Bench::new(folder.path(), &format!("size: {size}, formats: [{formats}]"));
        let pem = generate(Algorithm::Es256).unwrap();
        let der = pem::parse(&pem).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.contents()).unwrap();
        let hints = KeyHints { kid: true, x5c: false, jwk: false };
        let signer = Signer::new(SigningKey::from_pem(&pem, None, None).unwrap(), hints);
        let (site, clock) = (Site::open(folder.path()).unwrap(), Clock::set_to(BEGIN));
        let parts = Parts {
            store: bench.store.clone(),
            site: site.clone(),
            base: "https://status.example.com/lists".parse().unwrap(),
            clock: clock.clone(),
            clock_watch: std::sync::Arc::new(ClockWatch::new(clock.clone())),
            holder: holder(),
            role: PublishRole::Leader,
            buckets: Vec::new(),
        };
        let metrics = Metrics::default().pool(&bench.pool.shape.id);
        let publisher =
            PoolPublisher::new(&bench.pool, std::sync::Arc::new(KeyRing::new(signer, None)), metrics, parts);
        let mut lists = bench.open_lists(total);
        // The first pass publishes the others too.
        lists.truncate(changing);
        for (seed, &list) in lists.iter().enumerate() {
            let array = random::random_array(size, 0.01, seed as u64);
            let set = (0..size).filter(|entry| array[entry / 8] >> (entry % 8) & 1 == 1);
            let change = |entry: usize| {
                let index = bench.pool.shape.capacity.index(entry as u64).unwrap();
                StatusChange { list, index, status: Status::INVALID, expected: None }
            };
            let changes = set.map(change).collect();
            bench
                .runtime
                .block_on(bench.store.apply(
                    &bench.pool.shape.id,
                    vec![changes],
                    Deadline::after(Duration::from_secs(3600)),
                    BEGIN,
                ))
                .unwrap()[0]
                .as_ref()
                .unwrap();
        }
        let mut new =
            Self { bench, publisher, site, clock, key, changing: lists, size, passes: 0, _folder: folder };
        // None has files yet: that makes all of them due.
        new.bench.runtime.block_on(new.publisher.look());
        new.pass(total);
        new
    }

    /// Changes one entry of each changing list. Returns the time of the pass that published `expected` lists.
    fn pass(&mut self, expected: usize) -> Duration {
        self.passes += 1;
        let idx = self.passes * 7919 % self.size as u64;
        let index = self.bench.pool.shape.capacity.index(idx).unwrap();
        let status = Status::new((self.passes % 2) as u8);
        let changes =
            self.changing.iter().map(|&list| vec![StatusChange { list, index, status, expected: None }]);
        let (store, pool) = (&self.bench.store, &self.bench.pool.shape.id);
        self.bench
            .runtime
            .block_on(store.apply(
                pool,
                changes.collect(),
                Deadline::after(Duration::from_secs(3600)),
                self.clock.now(),
            ))
            .unwrap();
        self.clock.advance(Duration::from_secs(1));
        let (signals, begun) = (Signals::default(), Instant::now());
        let pass = self.bench.runtime.block_on(self.publisher.publish_pending(&signals, &|_, _| ()));
        let took = begun.elapsed();
        assert_eq!(pass.published.len(), expected, "{:?} {:?}", pass.failed, pass.ended_by);
        took
    }

    /// The arrays, and the bytes that each of their tokens signs.
    fn raw_work(&self) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
        let work = |list: &ListId| {
            let snapshot = self.bench.runtime.block_on(self.bench.store.snapshot(*list)).unwrap();
            let tokens = self.site.read(list, self.bench.pool.start.formats).unwrap();
            let tokens = Format::SIGNED.into_iter().filter_map(|format| tokens.form(format));
            (snapshot.array.as_bytes().to_vec(), tokens.map(<[u8]>::to_vec).collect())
        };
        self.changing.iter().map(work).collect()
    }

    /// Only compresses and signs.
    fn raw(&self, work: &[(Vec<u8>, Vec<Vec<u8>>)]) {
        let random = SystemRandom::new();
        for (array, tokens) in work {
            black_box(lst::compress(array));
            for token in tokens {
                black_box(self.key.sign(&random, token).unwrap());
            }
        }
    }
}

/// A pass compared with its raw work, on one thread and on all cores.
fn against_raw(criterion: &mut Criterion) {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let mut group = criterion.benchmark_group("publish");
    group.sample_size(10).throughput(Throughput::Elements(CHANGED as u64));
    for (name, size, formats) in [
        ("10 of 100k, jwt", 100_000, "jwt"),
        ("10 of 100k, jwt and cwt", 100_000, "jwt, cwt"),
        ("10 of 1M, jwt", 1_000_000, "jwt"),
    ] {
        let mut lists = Lists::new(size, formats, CHANGED, CHANGED);
        let work = lists.raw_work();
        group.bench_function(BenchmarkId::new("raw, one thread", name), |bench| {
            bench.iter(|| lists.raw(&work))
        });
        group.bench_function(BenchmarkId::new("raw, all cores", name), |bench| {
            bench.iter(|| {
                std::thread::scope(|scope| {
                    for part in work.chunks(work.len().div_ceil(cores)) {
                        let lists = &lists;
                        scope.spawn(move || lists.raw(part));
                    }
                })
            })
        });
        group.bench_function(BenchmarkId::new("pass", name), |bench| {
            bench.iter_custom(|times| (0..times).map(|_| lists.pass(CHANGED)).sum())
        });
    }
    group.finish();
}

/// The cost must follow the number of changed lists, not the number of lists.
fn among_many(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish among many");
    group.sample_size(20).throughput(Throughput::Elements(CHANGED as u64));
    for total in [CHANGED, MANY] {
        let mut lists = Lists::new(100_000, "jwt", CHANGED, total);
        group.bench_function(BenchmarkId::new("10 changed of", total), |bench| {
            bench.iter_custom(|times| (0..times).map(|_| lists.pass(CHANGED)).sum())
        });
    }
    group.finish();
}

criterion_group!(benches, against_raw, among_many);
criterion_main!(benches);
