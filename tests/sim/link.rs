//! The network between an instance and the store: delays, losses, repetitions, and a server that stands still.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use statuslist::store::sim::{Fate, Link, Wait};
use tokio::time::Instant;

use crate::guard::Life;

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

#[derive(Debug)]
pub(crate) struct SimLink {
    life: Life,
    weather: Arc<Mutex<Weather>>,
    chance: Mutex<StdRng>,
    begun: Instant,
    /// How long a call takes each way in fair weather, at most.
    latency: Duration,
}

impl SimLink {
    pub(crate) fn new(
        life: Life,
        weather: Arc<Mutex<Weather>>,
        begun: Instant,
        latency: Duration,
        seed: u64,
    ) -> Self {
        Self { life, weather, begun, latency, chance: Mutex::new(StdRng::seed_from_u64(seed)) }
    }
}

impl Link for SimLink {
    fn fate(&self, call: &'static str, writes: bool) -> Fate {
        let mut chance = self.chance.lock().unwrap();
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
        match *self.weather.lock().unwrap() {
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
                // TCP repeats no command; whoever repeats one after an unknown outcome waits for the first one's end. So changes
                // come twice in a row only.
                37..=44 if writes && !["apply", "fill_list"].contains(&call) => {
                    Fate { again: within(4000), ..fair }
                }
                37..=44 if writes => Fate { again: Some(Duration::ZERO), ..fair },
                _ => fair,
            },
        }
    }

    fn awake(&self) -> Wait {
        Box::pin(self.life.awake())
    }
}
