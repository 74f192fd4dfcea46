//! Which faults a seed brings, and when.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::disk::Trouble;
use crate::link::{CALLS, Hit, Weather};

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
    /// The same to whichever instance makes a call to the disk after so many others: in the middle of a publication.
    PauseAfterCalls(u32, Duration),
    /// The clock of an instance is wrong by so many milliseconds for a while. By more than a minute, it must not be believed.
    Clock(usize, i64),
    Weather(usize, Weather, Duration),
    /// The store stands still: calls of all instances wait in its sockets.
    Standstill(Duration),
    /// So many of a hundred calls to the disk fail.
    Disk(u32, Trouble, Duration),
    /// Whoever makes the next call of this name to the store is hit in it; a pause takes so long.
    Ambush(&'static str, Hit, Duration),
    /// A new list's first publisher is paused for so long, and the newest lists are retired once another one has published them.
    Stillborn(Duration),
    /// Calls of an instance to the store are slow, and many more clients than usual send it updates.
    Crowd(usize, Duration),
    /// A stop in order, and a start. What is returned to the store then may be returned once more so long after.
    Stop(usize, Option<Duration>),
    /// The store is as it was so long ago.
    Restore(Duration),
    /// The same, while the power is cut: the machine of the store was this one.
    Disaster(Duration),
    /// The same, and the marks of an instance are gone.
    LostMarks(usize, Duration),
    /// FLUSHALL.
    Flush,
    /// Somebody removes the files of a list. All instances are started again, because a start looks over all files.
    Vandal,
    /// `statuslist seal`, for one of the pools.
    Seal(usize),
    /// One of the pools gets a new key, which all instances hear of one after the other. The clock of one of them may be wrong by so
    /// many milliseconds meanwhile.
    NewKey(usize, Option<(usize, i64)>),
    Retire,
    /// One status for a whole list, over so many beats.
    Fill(u64),
    /// Settings with another beat and another buffer.
    Reload(usize, u64, u32),
}

impl Fault {
    /// Whether it is an act of operators after which all must be as well as before.
    pub(crate) fn is_harmless(self) -> bool {
        matches!(self, Self::Retire | Self::Fill(_))
    }
}

/// How long a beat is.
const BEAT: Duration = Duration::from_secs(2);
/// After so long another instance has taken over the publishing of one that was paused.
pub(crate) const TAKEN_OVER_AFTER: Duration = Duration::from_secs(17);
/// The most faults of one simulation, besides the [`ACTS`].
const DISTURBING_MAX: usize = 24;
/// How many harmless acts come at the end, when nothing else goes wrong.
const ACTS: usize = 3;
/// The most faults of one simulation.
pub(crate) const FAULTS_MAX: usize = DISTURBING_MAX + ACTS + 1;

/// The course of one simulation.
pub(crate) struct Plan {
    pub(crate) instances: usize,
    /// How far each clock is from the right time, in milliseconds.
    pub(crate) skews: Vec<i64>,
    pub(crate) length: Duration,
    /// How long a call to the store takes each way when nothing is wrong, at most.
    pub(crate) latency: Duration,
    pub(crate) faults: Vec<(Duration, Fault)>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let instances = chance.random_range(1..=4);
        let skew = |_| if chance.random_range(0..3) == 0 { 0 } else { chance.random_range(-1500..1500) };
        let skews = (0..instances).map(skew).collect();
        let length = Duration::from_secs(chance.random_range(60..240));
        let lossy = chance.random_range(0..4) == 0;
        let weights = weights(&mut chance, lossy);
        let latency = Duration::from_millis([3, 3, 60][chance.random_range(0..3)]);
        let count = chance.random_range(0..DISTURBING_MAX);
        let last = (length - Duration::from_secs(20)).as_millis() as u64;
        let faults = (0..count).map(|_| {
            let at = Duration::from_millis(chance.random_range(3000..last));
            (at, fault(&mut chance, instances, &weights))
        });
        let mut faults: Vec<_> = faults.collect();
        faults.sort_by_key(|(at, _)| *at);
        for _ in 0..ACTS {
            let at = length + Duration::from_millis(chance.random_range(30_000..66_000));
            let act = if chance.random_range(0..3) == 0 { Fault::Fill(1) } else { Fault::Retire };
            faults.push((at, act));
        }
        // Nothing is wrong, so all that was acknowledged must be public when the only instance ends.
        if instances == 1 {
            faults.push((
                length + Duration::from_millis(chance.random_range(67_000..69_000)),
                Fault::Stop(0, None),
            ));
        }
        Self { instances, skews, length, latency, faults }
    }
}

/// How often each kind of fault comes, in the order of [`fault`]; the last ones only where the store may lose data.
const WEIGHTS: [u32; 29] =
    [8, 7, 3, 10, 6, 3, 4, 7, 8, 4, 4, 7, 3, 7, 4, 2, 3, 2, 4, 9, 14, 2, 4, 4, 4, 8, 8, 6, 4];
const LOSSY: usize = 4;

/// The weights of one simulation: some kinds never come, some often, so that those that only do harm together meet.
fn weights(chance: &mut StdRng, lossy: bool) -> Vec<u32> {
    let kinds = if lossy { WEIGHTS.len() } else { WEIGHTS.len() - LOSSY };
    WEIGHTS[..kinds].iter().map(|weight| weight * [0, 1, 1, 4][chance.random_range(0..4)]).collect()
}

fn fault(chance: &mut StdRng, instances: usize, weights: &[u32]) -> Fault {
    let who = chance.random_range(0..instances);
    let mut millis = |range: std::ops::Range<u64>| Duration::from_millis(chance.random_range(range));
    let (short, long) = (millis(50..3000), millis(1000..45_000));
    let mut left = chance.random_range(0..weights.iter().sum::<u32>().max(1));
    let kind = weights.iter().position(|weight| {
        let found = left < *weight;
        left = left.saturating_sub(*weight);
        found
    });
    match kind.unwrap_or_default() {
        0 => Fault::Kill(who),
        1 => Fault::KillAfterCalls(chance.random_range(0..60)),
        2 => Fault::Power,
        3 => Fault::PowerAfterCalls(chance.random_range(0..80)),
        4 => Fault::Pause(who, long),
        5 => Fault::Clock(who, chance.random_range(-30_000..30_000)),
        6 => {
            let away = chance.random_range(70_000..7_000_000);
            Fault::Clock(who, if chance.random() { away } else { -away })
        }
        7 => Fault::Weather(who, Weather::Foul, long),
        8 => Fault::Weather(who, Weather::Slow, long),
        9 => Fault::Weather(who, Weather::Cut, long),
        10 => Fault::Standstill(Duration::from_millis(chance.random_range(1000..9000))),
        11 if chance.random_range(0..3) == 0 => {
            Fault::Disk(chance.random_range(20..101), Trouble::Renames, BEAT + short)
        }
        11 => Fault::Disk(chance.random_range(2..30), Trouble::Bad, short),
        12 => Fault::Disk(100, Trouble::Full, short),
        13 => {
            // Some so late that the instance has started again, and has taken what it returned.
            let again = (chance.random_range(0..2) == 0).then(|| short * 3);
            Fault::Stop(who, again)
        }
        14 => Fault::Retire,
        15 => Fault::Fill(1),
        16 => Fault::Fill(chance.random_range(2..12)),
        17 => Fault::Reload(who, chance.random_range(1000..2001), chance.random_range(6..20)),
        18 => Fault::Vandal,
        19 => Fault::PauseAfterCalls(chance.random_range(0..60), long),
        20 => {
            let call = CALLS[chance.random_range(0..CALLS.len())];
            let repeat = Hit::Repeat(short * 2 / 3);
            let hit = [Hit::Pause, Hit::Pause, Hit::Kill, Hit::Lose, repeat][chance.random_range(0..5)];
            Fault::Ambush(call, hit, long)
        }
        21 => Fault::Seal(chance.random_range(0..2)),
        22 => {
            let wrong = chance.random_range(0..2) == 0;
            let away = chance.random_range(70_000..7_000_000);
            Fault::NewKey(chance.random_range(0..2), wrong.then_some((who, away)))
        }
        23 => Fault::Stillborn(TAKEN_OVER_AFTER + short * 3),
        24 => Fault::Crowd(who, BEAT + short * 2),
        25 => Fault::Disaster(long / 3),
        26 => Fault::LostMarks(who, long / 3),
        27 => Fault::Restore(long / 3),
        _ => Fault::Flush,
    }
}
