//! Metrics of connections.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of connections.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    /// Those that are open.
    pub open: Gauge,
    /// The most that may be open.
    pub max: Gauge,
    /// Those closed at once, because their address had its share.
    pub refused: Counter,
}

impl ConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let connections = Self::default();
        registry.register("connections", "Open connections", connections.open.clone());
        let help = "The most connections that may be open: by the settings, or as many as the limit of open files leaves";
        registry.register("connections_max", help, connections.max.clone());
        let help = "Connections closed at once, because their address had its share already";
        registry.register("connections_refused", help, connections.refused.clone());
        connections
    }
}
