//! A black box beside the service: fetches lists as wallets do, from each node by itself, and says what is wrong.
//!
//! Leaves fetching and verifying to `check/`, and the interval, the canary and the command line to `cli/`. It shares nothing with
//! the publisher: what it finds holds for everyone who fetches these lists. Memory of earlier rounds makes it notice an `iat` that
//! goes back.

mod metrics;
mod problem;

pub use metrics::Metrics;
pub use problem::{Problem, Reason};

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::base::clock::{Clock, NumericDate};
use crate::check::{self, Check, CheckLimits, Outcome, Report, TokenFacts, Trust, TrustSource};
use crate::status_list::Format;

/// The longest wait for a list: wallets do not wait for longer either.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// By the public name, as everyone does: a CDN, a load balancer.
    Public,
    /// At this address, with the public name in the request.
    At(SocketAddr),
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct Targets {
    /// `uri`s of lists.
    pub lists: Vec<String>,
    /// Addresses of aggregations, whose lists are looked at as well.
    pub aggregations: Vec<String>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The formats.
    pub formats: Vec<Format>,
    /// The trusted keys.
    pub trust: TrustSource,
    /// The most lists in a round; the next round continues behind them.
    pub lists_max: usize,
    /// How far a node may be behind the newest token of a list.
    pub lag_max: Duration,
}

/// What a round found.
#[derive(Debug, Default)]
pub struct Round {
    /// The lists that were looked at.
    pub lists: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Looks at the targets, round after round.
pub struct Probe {
    targets: Targets,
    clock: Clock,
    /// Where the next round begins.
    next: usize,
    /// The latest `iat` that each node has shown of each list.
    latest: HashMap<(Node, String), NumericDate>,
}

/// The answer of one node for one list in one format.
struct Seen {
    node: Node,
    list: String,
    format: Format,
    token: TokenFacts,
}

impl Probe {
    /// Of these targets.
    pub fn new(targets: Targets, clock: Clock) -> Self {
        Self { targets, clock, next: 0, latest: HashMap::new() }
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.targets.nodes
    }

    /// Looks at lists on every node in every format, and records it in `metrics`. Returns what is wrong.
    pub async fn round(&mut self, metrics: &Metrics) -> Round {
        let mut round = Round::default();
        // Anew in each round: a key set changes.
        let trust = match self.trust().await {
            Ok(trust) => trust,
            Err(why) => {
                let of_all = |node: &Node| Problem::new(*node, "", Reason::Trust, why.to_string());
                round.problems = self.targets.nodes.iter().map(of_all).collect();
                metrics.completed(self.nodes(), &round, self.clock.now());
                return round;
            }
        };
        let lists = self.lists(&mut round.problems).await;
        let mut seen = Vec::new();
        for node in self.targets.nodes.clone() {
            self.look_at_node(node, &lists, &trust, metrics, &mut seen, &mut round.problems).await;
        }
        round.lists = lists.len();
        self.compare(&mut seen, &trust, metrics, &mut round.problems).await;
        round.problems.extend(self.gone_back(&seen));
        let now = self.clock.now();
        metrics.saw(self.nodes(), seen.iter().map(|seen| (seen.node, &seen.token)), now.date());
        metrics.completed(self.nodes(), &round, now);
        round
    }

    /// The lists of this round.
    async fn lists(&mut self, problems: &mut Vec<Problem>) -> Vec<String> {
        let mut lists = self.targets.lists.clone();
        for url in &self.targets.aggregations {
            match check::aggregation(url, &CheckLimits::default()).await {
                Ok(of_pool) => lists.extend(of_pool),
                Err(why) => problems.extend(
                    self.targets
                        .nodes
                        .iter()
                        .map(|node| Problem::new(*node, url, Reason::Fetch, why.to_string())),
                ),
            }
        }
        lists.sort_unstable();
        lists.dedup();
        if lists.len() > self.targets.lists_max {
            let begin = self.next % lists.len();
            lists.rotate_left(begin);
            lists.truncate(self.targets.lists_max);
            self.next = begin + self.targets.lists_max;
        }
        lists
    }

    /// Looks at all lists on one node, unless it does not answer: then the rest would only take time.
    async fn look_at_node(
        &self,
        node: Node,
        lists: &[String],
        trust: &Trust,
        metrics: &Metrics,
        seen: &mut Vec<Seen>,
        problems: &mut Vec<Problem>,
    ) {
        for list in lists {
            for format in &self.targets.formats {
                match self.look(node, list, *format, trust, metrics).await {
                    Ok(token) => seen.push(token),
                    Err(problem) => {
                        let is_unreachable = problem.reason == Reason::Unreachable;
                        problems.push(problem);
                        if is_unreachable {
                            return;
                        }
                    }
                }
            }
        }
    }

    async fn look(
        &self,
        node: Node,
        list: &str,
        format: Format,
        trust: &Trust,
        metrics: &Metrics,
    ) -> Result<Seen, Problem> {
        let begun = Instant::now();
        let report = self.ask(node, list, 0, format, trust).await;
        metrics.fetched(node, begun.elapsed());
        match (report.outcome, report.token) {
            (Outcome::Unknown(why), _) => {
                let reason = Reason::of(&why);
                Err(Problem::new(node, list, reason, format!("{format}: {why}")))
            }
            (_, Some(token)) => Ok(Seen { node, list: list.to_owned(), format, token }),
            (_, None) => unreachable!("an outcome comes from a token"),
        }
    }

    /// Asks a node as a verifier does.
    pub async fn ask(&self, node: Node, uri: &str, idx: u64, format: Format, trust: &Trust) -> Report {
        let node = match node {
            Node::Public => None,
            Node::At(address) => Some(address),
        };
        let limits = CheckLimits { total_timeout: PATIENCE, ..CheckLimits::default() };
        let request = Check { node, format: Some(format), limits, ..Check::new(uri, idx) };
        check::check_with(&request, trust, self.clock.now().date()).await
    }

    /// Finds tokens that are older than others of the same list, or differ from others of the same second. A token may have been
    /// replaced between two requests, so an older one is fetched again before it counts.
    async fn compare(
        &self,
        seen: &mut [Seen],
        trust: &Trust,
        metrics: &Metrics,
        problems: &mut Vec<Problem>,
    ) {
        let mut newest: HashMap<String, (NumericDate, [u8; 32], Node)> = HashMap::new();
        for Seen { list, token, node, .. } in seen.iter() {
            let one = newest.entry(list.clone()).or_insert((token.iat, token.content, *node));
            if token.iat > one.0 {
                *one = (token.iat, token.content, *node);
            }
        }
        let mut behind: HashMap<Node, Duration> = HashMap::new();
        for one in seen.iter_mut() {
            let (iat, content, by) = newest[&one.list];
            if one.token.iat < iat
                && let Ok(again) = self.look(one.node, &one.list, one.format, trust, metrics).await
            {
                *one = again;
            }
            let lag = iat.since(one.token.iat);
            let most = behind.entry(one.node).or_default();
            *most = lag.max(*most);
            if lag > self.targets.lag_max {
                let why = format!(
                    "{}: `iat` is {}, {by} has {iat}, {} s later",
                    one.format,
                    one.token.iat,
                    lag.as_secs()
                );
                problems.push(Problem::new(one.node, &one.list, Reason::Behind, why));
            }
            if one.token.iat == iat && one.token.content != content {
                let why =
                    format!("{}: other statuses than {by} has in the token of the same second", one.format);
                problems.push(Problem::new(one.node, &one.list, Reason::Differs, why));
            }
        }
        metrics.behind(self.nodes(), &behind);
    }

    /// Finds nodes whose token of a list is older than one that they had before.
    fn gone_back(&mut self, seen: &[Seen]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut newest: HashMap<(Node, String), NumericDate> = HashMap::new();
        for Seen { node, list, token, .. } in seen {
            let of_node = newest.entry((*node, list.clone())).or_default();
            *of_node = token.iat.max(*of_node);
        }
        for ((node, list), iat) in newest {
            let latest = self.latest.entry((node, list.clone())).or_insert(iat);
            if iat < *latest {
                let why = format!("`iat` is {iat}, and was {latest} before");
                problems.push(Problem::new(node, &list, Reason::Back, why));
            }
            *latest = iat.max(*latest);
        }
        problems
    }

    /// Loads the trusted keys.
    pub async fn trust(&self) -> Result<Trust, check::InvalidTrust> {
        check::load(&self.targets.trust, &Check::new("", 0)).await
    }

    /// The formats that are looked at.
    pub fn formats(&self) -> &[Format] {
        &self.targets.formats
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl FromStr for Node {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "public" => Ok(Self::Public),
            address => address.parse().map(Self::At).map_err(|_| {
                "a node is an address with a port, such as 192.0.2.1:443, or the word public".to_owned()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_and_shown() {
        for text in ["public", "192.0.2.1:443", "[2001:db8::1]:443"] {
            assert_eq!(text.parse::<Node>().unwrap().to_string(), text);
        }
        assert!("status.example:443".parse::<Node>().is_err() && "192.0.2.1".parse::<Node>().is_err());
    }

    #[tokio::test]
    async fn every_list_has_its_turn() {
        let targets = Targets {
            lists: ["c", "a", "b", "a", "e", "d"].map(str::to_owned).to_vec(),
            aggregations: Vec::new(),
            nodes: vec![Node::Public],
            formats: vec![Format::Jwt],
            trust: "keys.json".parse().unwrap(),
            lists_max: 2,
            lag_max: Duration::ZERO,
        };
        let mut probe = Probe::new(targets, Clock::System);
        let mut rounds = Vec::new();
        for _ in 0..3 {
            rounds.push(probe.lists(&mut Vec::new()).await.concat());
        }
        assert_eq!(rounds, ["ab", "cd", "ea"]);
    }
}
