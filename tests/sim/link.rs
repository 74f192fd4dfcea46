//! The network between an instance and the store: delays, losses, repetitions, and a server that stands still. An [`Ambush`] waits for
//! one kind of call, so that rare ones meet faults as often as frequent ones.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use statuslist::store::sim::{Fate, Link, Wait};
use tokio::time::Instant;

use crate::guard::Life;
use crate::history::History;

/// What the way is like at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Some milliseconds each way.
    #[default]
    Fair,
    /// Some calls are late, lost, answered in vain, or made twice.
    Foul,
    /// Every call takes up to some seconds to the store, longer than callers wait.
    Slow,
    /// Nothing gets through.
    Cut,
    /// The server stands still until then: calls wait in its sockets, and are made in any order when it goes on.
    Still(Instant),
}

/// What happens to the instance that makes the call of an [`Ambush`], or to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    /// The instance stops while its call is under way.
    Pause,
    /// Nothing. Whoever makes the next call of this other name is paused.
    ThenPause(&'static str),
    /// It is dead.
    Kill,
    /// Its answer is lost.
    Lose,
    /// The call is made once more, so long after the first time.
    Repeat(Duration),
}

/// Calls that changes and publications are made of.
pub(crate) const CALLS: [&str; 11] = [
    "lease_publisher",
    "snapshot",
    "settle",
    "apply",
    "lease_block",
    "return_tail",
    "remember",
    "open_list",
    "retire_list",
    "fill_list",
    "advance_spread",
];

/// Waits for the next call of a name, whoever makes it. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ambush(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    armed: Option<(&'static str, Hit)>,
    paused: Option<usize>,
}

impl Ambush {
    /// Another one that still waits is given up.
    pub(crate) fn arm(&self, call: &'static str, hit: Hit) {
        self.0.lock().armed = Some((call, hit));
    }

    /// Whom it paused, once.
    pub(crate) fn take_paused(&self) -> Option<usize> {
        self.0.lock().paused.take()
    }

    /// Gives up waiting.
    pub(crate) fn disarm(&self) {
        self.0.lock().armed = None;
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.0.lock().armed.is_some()
    }

    fn strikes(&self, call: &str, life: &Life) -> Option<Hit> {
        let mut waiting = self.0.lock();
        let (_, hit) = waiting.armed.take_if(|(armed, _)| *armed == call)?;
        match hit {
            Hit::Pause => waiting.paused = Some(life.who),
            Hit::ThenPause(next) => waiting.armed = Some((next, Hit::Pause)),
            _ => {}
        }
        Some(hit)
    }
}

#[derive(Debug)]
pub(crate) struct SimLink {
    life: Life,
    weather: Arc<Mutex<Weather>>,
    ambush: Ambush,
    history: History,
    chance: Mutex<StdRng>,
    begun: Instant,
    /// How long a call takes each way in fair weather, at most.
    latency: Duration,
}

impl SimLink {
    pub(crate) fn new(
        life: Life,
        weather: Arc<Mutex<Weather>>,
        (ambush, history): (Ambush, History),
        begun: Instant,
        latency: Duration,
        seed: u64,
    ) -> Self {
        let chance = Mutex::new(StdRng::seed_from_u64(seed));
        Self { life, weather, ambush, history, begun, latency, chance }
    }
}

impl Link for SimLink {
    fn fate(&self, call: &'static str, writes: bool) -> Fate {
        let mut chance = self.chance.lock();
        let mut within = |millis: u64| Some(Duration::from_millis(chance.random_range(0..=millis)));
        if std::env::var_os("STATUSLIST_SIM_CALLS").is_some() {
            println!(
                "{:>9.3}  {} calls {call}",
                Instant::now().duration_since(self.begun).as_secs_f64(),
                self.life.who
            );
        }
        let latency = u64::try_from(self.latency.as_millis()).unwrap();
        let fair = Fate { there: within(latency), back: within(latency), again: None };
        if let Some(hit) = self.ambush.strikes(call, &self.life) {
            self.history.note(format!("instance {} calls {call}: {hit:?}", self.life.who));
            match hit {
                Hit::Pause => self.life.pause(),
                Hit::Kill => self.life.kill(),
                Hit::Lose => return Fate { back: None, ..fair },
                Hit::Repeat(after) if writes => return Fate { again: Some(again(call, after)), ..fair },
                Hit::Repeat(_) | Hit::ThenPause(_) => {}
            }
            return fair;
        }
        match *self.weather.lock() {
            Weather::Fair => fair,
            Weather::Slow => Fate { there: within(4000), ..fair },
            Weather::Cut => Fate::default(),
            Weather::Still(until) => {
                let left = until.saturating_duration_since(Instant::now());
                Fate { there: within(30).map(|more| left + more), ..fair }
            }
            Weather::Foul => match within(100).map_or(0, |roll| roll.as_millis()) {
                0..=7 => Fate { there: None, ..fair },
                8..=17 => Fate { back: None, ..fair },
                18..=30 => Fate { there: within(8000), ..fair },
                31..=36 => Fate { back: within(3000), ..fair },
                37..=44 if writes => Fate { again: within(4000).map(|after| again(call, after)), ..fair },
                _ => fair,
            },
        }
    }

    fn awake(&self) -> Wait {
        Box::pin(self.life.awake())
    }
}

/// How long after its first time a call is made once more. TCP repeats no command, and whoever repeats one after an unknown outcome waits
/// for the first one's end. So changes of statuses come twice in a row only.
fn again(call: &str, after: Duration) -> Duration {
    if ["apply", "fill_list"].contains(&call) { Duration::ZERO } else { after }
}
