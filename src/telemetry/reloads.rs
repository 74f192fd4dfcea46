//! The metrics of reloading.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The results of a reload.
const RESULTS: [&str; 2] = ["ok", "refused"];

/// The metrics of reloading.
#[derive(Clone, Debug, Default)]
pub struct ReloadMetrics {
    total: Family<[(&'static str, &'static str); 1], Counter>,
    stale: Gauge,
}

impl ReloadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let reloads = Self::default();
        registry.register("reloads", "Changed settings or keys, by result", reloads.total.clone());
        let help = "Whether the files differ from the settings and keys in use, because they were refused";
        registry.register("settings_stale", help, reloads.stale.clone());
        // From 0, so that an alarm on any increase sees the first one.
        RESULTS.iter().for_each(|result| drop(reloads.total.get_or_create(&[("result", *result)])));
        reloads
    }

    /// Records that changed settings or keys were applied (`taken`) or refused.
    pub fn note(&self, taken: bool) {
        self.total.get_or_create_owned(&[("result", RESULTS[usize::from(!taken)])]).inc();
        self.stale.set(i64::from(!taken));
    }
}
