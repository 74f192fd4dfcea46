//! The simulator: one to four instances of the real service in one process, on one thread, in simulated time, while everything that
//! they stand on fails. A seed decides all of it, so a failure can be had again.
//!
//! - **Real**: the allocator, the marks, the updater, the publisher with its gate, leases and looks, the key set, the handlers of
//!   the write API (without sockets), and real files in memory.
//! - **Simulated**: the store is the model that passes the suite of `store/tests/` (`store::sim`), because it is one thread, can be
//!   taken back to an earlier moment, and costs microseconds; `link.rs` is the network to it. `disk.rs` decides what of the files
//!   survives. Each instance has a clock of its own. `guard.rs` stops the tasks of an instance between any two polls.
//! - **Not in it**: the Lua scripts and SQL (their own suite holds them to the model), sockets and `base/awake.rs`, reading settings,
//!   buckets, the audit trail, `migrate`.
//!
//! `world/` runs clients and the faults of `faults.rs`; `checker.rs` judges. `STATUSLIST_SIM_SEED=N` runs one seed and
//! `STATUSLIST_SIM_HISTORY=1` prints what happened in it; `STATUSLIST_SIM_SECONDS` says for how long new seeds are tried (20);
//! `STATUSLIST_SIM_CALLS=1` adds each call to the store. `mutations.patch` has faults that must be found: `scripts/proof sim-mutations`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod checker;
mod disk;
mod faults;
mod guard;
mod history;
mod instance;
mod link;
mod token;
mod world;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use world::Report;

/// Seeds that failed once. What a seed does changes with the simulator; they are kept as a cheap first try.
const FAILED_ONCE: &[u64] = &[29];

fn number(name: &str) -> Option<u64> {
    std::env::var_os(name).map(|text| text.to_str().unwrap().parse().unwrap())
}

/// How much CPU a seed may take. What takes more does not end: a loop between two steps of a task.
const SEED_PATIENCE: Duration = Duration::from_secs(180);

/// Ends the program with a history if it is not dropped in time.
struct Watchdog(#[expect(dead_code, reason = "dropped, not used")] mpsc::Sender<()>);

impl Watchdog {
    fn of(seed: u64) -> Self {
        let (ended, end) = mpsc::channel();
        let begun = cpu();
        std::thread::spawn(move || {
            while end.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
                if cpu().saturating_sub(begun) > SEED_PATIENCE {
                    give_up(seed);
                }
            }
        });
        Self(ended)
    }
}

/// What the process has used so far: on a busy machine real time says nothing.
fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the thread of the simulation never returns")]
fn give_up(seed: u64) {
    history::latest().iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: does not end within {SEED_PATIENCE:?} of CPU\nagain: STATUSLIST_SIM_SEED={seed}");
    std::process::exit(101);
}

/// Runs a seed without some faults.
fn run(seed: u64, without: &[usize]) -> Report {
    let _watchdog = Watchdog::of(seed);
    world::run(seed, without)
}

/// Runs a seed; answers the simulated minutes. Panics with a history if a promise was broken: that of the fewest faults, where
/// `shrinking`.
fn check(seed: u64, shrinking: bool) -> f64 {
    let mut without = without();
    let mut report = run(seed, &without);
    if report.violation.is_some() && shrinking {
        (without, report) = shrink(seed, without, report);
    }
    if report.violation.is_some() || std::env::var_os("STATUSLIST_SIM_HISTORY").is_some() {
        report.history.iter().for_each(|line| println!("{line}"));
    }
    if let Some(violation) = &report.violation {
        let left_out: Vec<_> = without.iter().map(usize::to_string).collect();
        let again = format!("STATUSLIST_SIM_SEED={seed} STATUSLIST_SIM_WITHOUT={}", left_out.join(","));
        panic!(
            "seed {seed}: {violation}\nagain: {again} cargo test --features sim --test sim -- --nocapture"
        );
    }
    println!(
        "seed {seed}: {:.1} minutes, {} references, {} tokens, {} requests acknowledged, {} refused",
        report.minutes, report.references, report.tokens, report.acknowledged, report.refused
    );
    report.minutes
}

/// The numbers of faults that are left out.
fn without() -> Vec<usize> {
    let named = std::env::var_os("STATUSLIST_SIM_WITHOUT").unwrap_or_default();
    named.to_str().unwrap().split(',').filter_map(|number| number.parse().ok()).collect()
}

/// Leaves out one fault after the other, as long as a promise is broken.
fn shrink(seed: u64, mut without: Vec<usize>, mut report: Report) -> (Vec<usize>, Report) {
    for fault in 0..faults::FAULTS_MAX {
        if without.contains(&fault) {
            continue;
        }
        let fewer = [&without[..], &[fault]].concat();
        let shorter = run(seed, &fewer);
        if shorter.violation.is_some() {
            (without, report) = (fewer, shorter);
        }
    }
    (without, report)
}

#[test]
fn promises_hold_whatever_fails() {
    if let Some(seed) = number("STATUSLIST_SIM_SEED") {
        check(seed, std::env::var_os("STATUSLIST_SIM_WITHOUT").is_none());
        return;
    }
    if let Some(first) = number("STATUSLIST_SIM_FROM") {
        for seed in first..first + number("STATUSLIST_SIM_COUNT").unwrap_or(100) {
            check(seed, false);
        }
        return;
    }
    for seed in FAILED_ONCE {
        check(*seed, true);
    }
    let length = Duration::from_secs(number("STATUSLIST_SIM_SECONDS").unwrap_or(20));
    let (begun, mut minutes, mut seeds) = (Instant::now(), 0.0, 0);
    while begun.elapsed() < length {
        minutes += check(rand::random_range(0..1 << 32), true);
        seeds += 1;
    }
    println!("{seeds} seeds, {minutes:.0} simulated minutes in {:.0} s", begun.elapsed().as_secs_f64());
}
