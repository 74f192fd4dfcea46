//! The probe's metrics: one series for each node, never one for each list.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{Node, Reason, Round};
use crate::base::clock::{NumericDate, Timestamp};
use crate::check::TokenFacts;
use crate::telemetry::text;

type OfNode = [(&'static str, String); 1];
type OfReason = [(&'static str, String); 2];
type Number = Gauge<f64, AtomicU64>;

/// All metrics of the probe.
pub struct Metrics {
    registry: Registry,
    good: Family<OfNode, Gauge>,
    problems: Family<OfReason, Counter>,
    lists: Gauge,
    age: Family<OfNode, Gauge>,
    valid: Family<OfNode, Gauge>,
    valid_ratio: Family<OfNode, Number>,
    behind: Family<OfNode, Gauge>,
    certificate_not_after: Family<OfNode, Gauge>,
    fetch: Family<OfNode, Histogram, fn() -> Histogram>,
    last_round: Gauge,
    interval: Number,
    canary: Family<OfNode, Number>,
    canary_last_success: Gauge,
    canary_interval: Number,
}

/// From a file of the same machine to the longest wait.
fn fetch_buckets() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0])
}

fn of(node: Node) -> OfNode {
    [("node", node.to_string())]
}

impl Metrics {
    /// Of a probe that looks at these nodes, in this interval.
    pub fn new(
        nodes: &[Node],
        interval: Duration,
        canary_interval: Option<Duration>,
        now: Timestamp,
    ) -> Self {
        let mut root = Registry::default();
        let registry = root.sub_registry_with_prefix("statuslist_probe");
        let metrics = Self {
            good: Family::default(),
            problems: Family::default(),
            lists: Gauge::default(),
            age: Family::default(),
            valid: Family::default(),
            valid_ratio: Family::default(),
            behind: Family::default(),
            certificate_not_after: Family::default(),
            fetch: Family::new_with_constructor(fetch_buckets as fn() -> Histogram),
            last_round: Gauge::default(),
            interval: Number::default(),
            canary: Family::default(),
            canary_last_success: Gauge::default(),
            canary_interval: Number::default(),
            registry: Registry::default(),
        };
        let help = "Whether the latest round found nothing wrong at this node";
        registry.register("good", help, metrics.good.clone());
        registry.register("problems", "What was found wrong, by reason", metrics.problems.clone());
        registry.register("lists", "Lists in the latest round", metrics.lists.clone());
        let mut seconds = |name: &str, help: &str, family: &Family<OfNode, Gauge>| {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        };
        seconds("age", "Time since the oldest token was signed", &metrics.age);
        seconds("valid", "Time until the first token expires; negative once it has", &metrics.valid);
        let help = "How far this node is behind the newest token that any node has";
        seconds("behind", help, &metrics.behind);
        let help = "When the first certificate in a token expires, in seconds since 1970";
        seconds("certificate_not_after", help, &metrics.certificate_not_after);
        let help = "Least share of its lifetime that a token has left";
        registry.register("valid_ratio", help, metrics.valid_ratio.clone());
        registry.register_with_unit("fetch", "Time of one fetch", Unit::Seconds, metrics.fetch.clone());
        let help = "When the latest round ended, in seconds since 1970";
        registry.register_with_unit("last_round_timestamp", help, Unit::Seconds, metrics.last_round.clone());
        let help = "How often there is a round";
        registry.register_with_unit("interval", help, Unit::Seconds, metrics.interval.clone());
        if let Some(interval) = canary_interval {
            let help =
                "From the acknowledgement of the latest canary's revocation until it was found at this node";
            registry.register_with_unit("canary", help, Unit::Seconds, metrics.canary.clone());
            let help = "When a canary was last found at every node, or else when the probe started, in seconds since 1970";
            let last = metrics.canary_last_success.clone();
            registry.register_with_unit("canary_last_success_timestamp", help, Unit::Seconds, last);
            let help = "How often a canary is revoked";
            registry.register_with_unit(
                "canary_interval",
                help,
                Unit::Seconds,
                metrics.canary_interval.clone(),
            );
            metrics.canary_interval.set(interval.as_secs_f64());
            metrics.canary_completed(now);
        }
        metrics.interval.set(interval.as_secs_f64());
        // From 0, so that an alarm on any increase sees the first one.
        for node in nodes {
            for reason in Reason::ALL {
                drop(metrics.problems.get_or_create(&of_reason(*node, reason)));
            }
        }
        Self { registry: root, ..metrics }
    }

    pub(super) fn fetched(&self, node: Node, took: Duration) {
        self.fetch.get_or_create(&of(node)).observe(took.as_secs_f64());
    }

    pub(super) fn behind(&self, nodes: &[Node], behind: &HashMap<Node, Duration>) {
        for node in nodes {
            let lag = behind.get(node).copied().unwrap_or_default();
            self.behind.get_or_create(&of(*node)).set(i64::try_from(lag.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// Records the good tokens of a round. A node without any keeps no numbers of earlier ones.
    pub(super) fn saw<'a>(
        &self,
        nodes: &[Node],
        tokens: impl Iterator<Item = (Node, &'a TokenFacts)>,
        now: NumericDate,
    ) {
        let mut by_node: HashMap<Node, Vec<&TokenFacts>> = HashMap::new();
        tokens.for_each(|(node, token)| by_node.entry(node).or_default().push(token));
        for node in nodes {
            let tokens = by_node.remove(node).unwrap_or_default();
            let signed = |secs: u64| i64::try_from(secs).unwrap_or(i64::MAX);
            let now = signed(now.secs());
            let iats = tokens.iter().map(|token| signed(token.iat.secs()));
            set(&self.age, *node, iats.min().map(|iat| now - iat));
            let exps = tokens.iter().filter_map(|token| token.exp);
            set(&self.valid, *node, exps.min().map(|exp| signed(exp.secs()) - now));
            let ends = tokens.iter().filter_map(|token| token.certificates_end);
            set(&self.certificate_not_after, *node, ends.min().map(|end| signed(end.secs())));
            let share = |token: &&TokenFacts| {
                let (iat, exp) = (signed(token.iat.secs()), signed(token.exp?.secs()));
                Some((exp - now) as f64 / (exp - iat).max(1) as f64)
            };
            match tokens.iter().filter_map(share).min_by(f64::total_cmp) {
                Some(share) => _ = self.valid_ratio.get_or_create(&of(*node)).set(share),
                None => _ = self.valid_ratio.remove(&of(*node)),
            }
        }
    }

    pub(super) fn completed(&self, nodes: &[Node], round: &Round, now: Timestamp) {
        for node in nodes {
            let good = !round.problems.iter().any(|problem| problem.node == *node);
            self.good.get_or_create(&of(*node)).set(good.into());
        }
        for problem in &round.problems {
            self.problems.get_or_create(&of_reason(problem.node, problem.reason)).inc();
        }
        self.lists.set(i64::try_from(round.lists).unwrap_or(i64::MAX));
        self.last_round.set(i64::try_from(now.date().secs()).unwrap_or(i64::MAX));
    }

    /// Records how long a canary took until this node had it.
    pub fn canary_found(&self, node: Node, took: Duration) {
        self.canary.get_or_create(&of(node)).set(took.as_secs_f64());
    }

    /// Records that every node had it.
    pub fn canary_completed(&self, now: Timestamp) {
        self.canary_last_success.set(i64::try_from(now.date().secs()).unwrap_or(i64::MAX));
    }

    /// Records that this node did not have it in time.
    pub fn canary_missed(&self, node: Node) {
        self.problems.get_or_create(&of_reason(node, Reason::Canary)).inc();
    }

    /// All metrics in the text format that every collector reads.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to memory does not fail");
        text::to_prometheus(&text)
    }
}

fn of_reason(node: Node, reason: Reason) -> OfReason {
    [("node", node.to_string()), ("reason", reason.name().to_owned())]
}

fn set(gauges: &Family<OfNode, Gauge>, node: Node, value: Option<i64>) {
    match value {
        Some(value) => _ = gauges.get_or_create(&of(node)).set(value),
        None => _ = gauges.remove(&of(node)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::status_list::{Bits, Format};

    /// The operators' page lists exactly the existing metrics.
    #[test]
    fn the_operators_page_lists_exactly_the_metrics() {
        let (nodes, now) = ([Node::Public], Timestamp::from_secs(1_800_000_000));
        let metrics = Metrics::new(&nodes, Duration::from_secs(30), Some(Duration::from_secs(600)), now);
        let token = TokenFacts {
            certificates_end: Some(now.date()),
            exp: Some(now.plus(Duration::from_secs(60)).date()),
            ..facts(now.date())
        };
        metrics.saw(&nodes, [(Node::Public, &token)].into_iter(), now.plus(Duration::from_secs(15)).date());
        metrics.behind(&nodes, &HashMap::new());
        metrics.fetched(Node::Public, Duration::from_millis(3));
        metrics.canary_found(Node::Public, Duration::from_secs(3));
        metrics.completed(&nodes, &Round::default(), now);
        let text = metrics.to_text();
        assert!(text.contains("statuslist_probe_valid_ratio{node=\"public\"} 0.75"), "{text}");
        assert!(text.contains("statuslist_probe_age_seconds{node=\"public\"} 15"), "{text}");
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let families: BTreeSet<_> = families.map(|line| line.split_once(' ').unwrap().0.to_owned()).collect();
        let page = std::fs::read_to_string("docs/OPERATIONS.md").unwrap();
        let section =
            page.split("\n## ").find(|section| section.starts_with("Watching from outside")).unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `statuslist_"));
        let documented: BTreeSet<_> =
            rows.map(|row| format!("statuslist_{}", row.split('`').next().unwrap())).collect();
        assert_eq!(families, documented);

        // A node that has no good token any more keeps no numbers of earlier ones.
        metrics.saw(&nodes, std::iter::empty(), now.date());
        assert!(!metrics.to_text().contains("statuslist_probe_age_seconds{"));
    }

    fn facts(iat: NumericDate) -> TokenFacts {
        TokenFacts {
            format: Format::Jwt,
            bytes: 1,
            alg: "ES256".to_owned(),
            kid: None,
            trusted_by: None,
            iat,
            exp: None,
            ttl: None,
            certificates_end: None,
            content: [0; 32],
            bits: Bits::One,
            entries: None,
        }
    }
}
