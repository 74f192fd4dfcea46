//! Metrics of HTTP responses, by route and status code.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug)]
pub(super) struct HttpMetrics {
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
}

/// The metrics of one route.
#[derive(Clone, Debug)]
pub struct RouteMetrics {
    route: Route,
    requests: Family<Answered, Counter>,
    seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    /// As in the table of routes, so that no request can add a new label.
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    code: u16,
}

/// The codes whose counters begin at 0, so that an alarm on any increase sees the first one.
const ALARMING: [u16; 2] = [500, 503];

/// From reading a body that came at once to the longest wait for references.
fn buckets() -> Histogram {
    Histogram::new([
        0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    ])
}

impl HttpMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::<Answered, Counter>::default();
        registry.register("http_requests", "Requests answered, by route and status code", requests.clone());
        let seconds = Family::new_with_constructor(buckets as fn() -> Histogram);
        let help = "From a request's head to its answer, by route";
        registry.register_with_unit("http_request", help, Unit::Seconds, seconds.clone());
        Self { requests, seconds }
    }

    pub(super) fn route(&self, route: &'static str) -> RouteMetrics {
        let route = Route { route };
        let seconds = self.seconds.get_or_create_owned(&route);
        for code in ALARMING {
            drop(self.requests.get_or_create(&Answered { route: route.route, code }));
        }
        RouteMetrics { route, requests: self.requests.clone(), seconds }
    }
}

impl RouteMetrics {
    /// The route's name in metrics and log lines.
    pub fn route(&self) -> &'static str {
        self.route.route
    }

    /// Records a response with this status code after `seconds`.
    pub fn answered(&self, code: u16, seconds: f64) {
        self.requests.get_or_create(&Answered { route: self.route.route, code }).inc();
        self.seconds.observe(seconds);
    }
}
