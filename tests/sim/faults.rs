//! Which faults a seed brings, and when.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::link::Weather;

/// Something that goes wrong, or that operators do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// kill -9: what was written stays.
    Kill(usize),
    /// The same to whichever instance makes a call to the disk after so many others.
    KillAfterCalls(u32),
    /// The machine of all instances has no power for a while.
    Power,
    /// The same after so many calls to the disk.
    PowerAfterCalls(u32),
    /// SIGSTOP and SIGCONT.
    Pause(usize, Duration),
    /// The clock of an instance is wrong by so many milliseconds for a while.
    Clock(usize, i64),
    Weather(usize, Weather, Duration),
    /// The store stands still: calls of all instances wait in its sockets.
    Standstill(Duration),
    /// So many of a hundred calls to the disk fail, because it is full or bad.
    Disk(u32, bool, Duration),
    /// A stop in order, and a start.
    Stop(usize),
    /// The store is as it was so long ago.
    Restore(Duration),
    Retire,
    /// One status for a whole list, over so many beats.
    Fill(u64),
    /// Settings with another beat and another buffer.
    Reload(usize, u64, u32),
}

/// The most faults of one simulation.
pub(crate) const FAULTS_MAX: usize = 24;

/// The course of one simulation.
pub(crate) struct Plan {
    pub(crate) instances: usize,
    /// How far each clock is from the right time, in milliseconds.
    pub(crate) skews: Vec<i64>,
    pub(crate) length: Duration,
    pub(crate) faults: Vec<(Duration, Fault)>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let instances = chance.random_range(1..=4);
        let skew = |_| if chance.random_range(0..3) == 0 { 0 } else { chance.random_range(-1500..1500) };
        let skews = (0..instances).map(skew).collect();
        let length = Duration::from_secs(chance.random_range(60..240));
        let lossy = chance.random_range(0..6) == 0;
        let count = chance.random_range(0..FAULTS_MAX);
        let last = (length - Duration::from_secs(20)).as_millis() as u64;
        let faults = (0..count).map(|_| {
            let at = Duration::from_millis(chance.random_range(3000..last));
            (at, fault(&mut chance, instances, lossy))
        });
        let mut faults: Vec<_> = faults.collect();
        faults.sort_by_key(|(at, _)| *at);
        Self { instances, skews, length, faults }
    }
}

fn fault(chance: &mut StdRng, instances: usize, lossy: bool) -> Fault {
    let who = chance.random_range(0..instances);
    let mut millis = |range: std::ops::Range<u64>| Duration::from_millis(chance.random_range(range));
    let (short, long) = (millis(50..3000), millis(1000..45_000));
    match chance.random_range(0..100) {
        0..=9 => Fault::Kill(who),
        10..=17 => Fault::KillAfterCalls(chance.random_range(0..60)),
        18..=21 => Fault::Power,
        22..=33 => Fault::PowerAfterCalls(chance.random_range(0..80)),
        34..=45 => Fault::Pause(who, long),
        46..=49 => Fault::Clock(who, chance.random_range(-30_000..30_000)),
        50..=57 => Fault::Weather(who, Weather::Foul, long),
        58..=62 => Fault::Weather(who, Weather::Cut, long),
        63..=67 => Fault::Standstill(Duration::from_millis(chance.random_range(1000..9000))),
        68..=72 => Fault::Disk(chance.random_range(2..30), false, short),
        73..=75 => Fault::Disk(100, true, short),
        76..=81 => Fault::Stop(who),
        82..=86 => Fault::Retire,
        87..=88 => Fault::Fill(1),
        89..=92 => Fault::Fill(chance.random_range(2..12)),
        93..=95 => Fault::Reload(who, chance.random_range(1000..2001), chance.random_range(6..20)),
        _ if lossy => Fault::Restore(long / 3),
        _ => Fault::Kill(who),
    }
}
