//! Checks whether a server keeps what it acknowledges: it is a master, fsyncs before it answers, never evicts, and has the replicas
//! that the settings demand.

use std::collections::HashMap;

use deadpool_redis::redis::aio::ConnectionLike;
use deadpool_redis::redis::cluster_async::ClusterConnection;
use deadpool_redis::redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use deadpool_redis::redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Value, cmd};
use thiserror::Error;

use crate::config::{Persistence, RedisConfig};

/// Settings, their required values, and the reasons.
const DEMANDS: [(&str, &str, &str); 4] = [
    ("appendonly", "yes", "without its log a restart loses everything since the latest snapshot"),
    ("appendfsync", "always", "otherwise a crash loses writes that were acknowledged"),
    ("no-appendfsync-on-rewrite", "no", "otherwise it stops fsyncing while it rewrites its log"),
    ("maxmemory-policy", "noeviction", "otherwise it removes lists when memory runs short"),
];
const REPLICAS_TO_WRITE: &str = "min-replicas-to-write";

/// Deadlines are compared with the clock of each server: if the clocks differ more, writes would be refused as late.
const CLOCKS_APART_MAX_MILLIS: u64 = 1000;

/// The facts that one server reports.
#[derive(Debug, Default)]
pub(super) struct Server {
    address: String,
    settings: HashMap<String, String>,
    role: String,
    replicas: u32,
    /// The server's time, in milliseconds since 1970.
    pub(super) clock_millis: Option<u64>,
}

/// Queries one server.
pub(super) async fn ask(connection: &mut impl ConnectionLike) -> RedisResult<Server> {
    let mut commands = Pipeline::new();
    for command in questions() {
        commands.add_command(command);
    }
    let answers = connection.req_packed_commands(&commands, 0, commands.len()).await?;
    Server::default().with(answers)
}

/// Queries every master of a cluster. A replica is queried once it has become a master.
pub(super) async fn ask_cluster(connection: &mut ClusterConnection) -> RedisResult<Vec<Server>> {
    let mut answers: HashMap<String, Vec<Value>> = HashMap::new();
    for command in questions() {
        let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        if let Value::Map(of_servers) = connection.route_command(command, masters).await? {
            for (address, answer) in of_servers {
                answers.entry(String::from_redis_value(address)?).or_default().push(answer);
            }
        }
    }
    let servers =
        answers.into_iter().map(|(address, answers)| Server { address, ..Server::default() }.with(answers));
    servers.collect()
}

fn questions() -> Vec<Cmd> {
    let names = DEMANDS.iter().map(|(name, _, _)| *name).chain([REPLICAS_TO_WRITE]);
    let mut questions = vec![cmd("INFO").arg("replication").take(), cmd("TIME")];
    questions.extend(names.map(|name| cmd("CONFIG").arg("GET").arg(name).take()));
    questions
}

impl Server {
    /// Parses the answers to the questions, in their order. If `CONFIG` is not permitted, the settings stay unknown.
    fn with(mut self, answers: Vec<Value>) -> RedisResult<Self> {
        let mut answers = answers.into_iter();
        let info = String::from_redis_value(answers.next().unwrap_or(Value::Nil).extract_error()?)?;
        for line in info.lines() {
            match line.split_once(':') {
                Some(("role", role)) => self.role = role.to_owned(),
                // The second line replaces the first: only replicas that are also in step, if the server counts them.
                Some(("connected_slaves" | "min_slaves_good_slaves", replicas)) => {
                    self.replicas = replicas.parse().unwrap_or(0);
                }
                _ => {}
            }
        }
        let (secs, micros) =
            <(u64, u64)>::from_redis_value(answers.next().unwrap_or(Value::Nil).extract_error()?)?;
        self.clock_millis = Some(secs * 1000 + micros / 1000);
        for answer in answers.filter_map(|answer| answer.extract_error().ok()) {
            self.settings.extend(HashMap::<String, String>::from_redis_value(answer)?);
        }
        Ok(self)
    }

    fn is_master(&self) -> bool {
        self.role == "master"
    }
}

/// Why Redis cannot be used.
#[derive(Debug, Error)]
pub(super) enum Unusable {
    /// The server does not answer, or has too few replicas. That may pass.
    #[error("{0}")]
    NotNow(String),
    /// An operator must change a setting.
    #[error("{0}")]
    Settings(String),
}

/// Checks that all servers keep what they acknowledge. The error says what to do.
pub(super) fn judge(servers: &[Server], config: &RedisConfig) -> Result<(), Unusable> {
    if !servers.iter().any(Server::is_master) {
        let why = "the server is a replica, not the master; name the master, or its sentinels";
        return Err(Unusable::NotNow(why.to_owned()));
    }
    let clocks = || servers.iter().filter_map(|server| server.clock_millis);
    let apart = clocks().max().unwrap_or_default() - clocks().min().unwrap_or_default();
    if apart > CLOCKS_APART_MAX_MILLIS {
        let why = format!("the clocks of its servers are {apart} ms apart; synchronize them (ntp)");
        return Err(Unusable::NotNow(why));
    }
    for server in servers {
        let of_server =
            |why: String| if server.address.is_empty() { why } else { format!("{} {why}", server.address) };
        if let Some(why) = wrong_setting(server, config) {
            return Err(Unusable::Settings(of_server(why)));
        }
        if let Some(why) = missing_replica(server, config) {
            return Err(Unusable::NotNow(of_server(why)));
        }
    }
    Ok(())
}

fn wrong_setting(server: &Server, config: &RedisConfig) -> Option<String> {
    let to_write = server.settings.get(REPLICAS_TO_WRITE).and_then(|value| value.parse::<u32>().ok());
    if server.is_master() && to_write.is_some_and(|to_write| to_write < config.replicas) {
        let wanted = config.replicas;
        return Some(format!(
            "has {REPLICAS_TO_WRITE} below {wanted}: cut off from its replicas it would continue to accept writes that a \
             failover loses (redis-cli CONFIG SET {REPLICAS_TO_WRITE} {wanted}, and in redis.conf)"
        ));
    }
    if config.persistence == Persistence::Disabled {
        return None;
    }
    DEMANDS.iter().find_map(|(name, demanded, why)| match server.settings.get(*name) {
        Some(value) if value == demanded => None,
        Some(value) => Some(format!(
            "has {name} {value}, must have {demanded}: {why} (redis-cli CONFIG SET {name} {demanded}, and in redis.conf)"
        )),
        None => Some(format!(
            "does not report {name}; permit `CONFIG GET` to this user, or set persistence-strategy to disabled"
        )),
    })
}

fn missing_replica(server: &Server, config: &RedisConfig) -> Option<String> {
    let (there, wanted) = (server.replicas, config.replicas);
    let missing = server.is_master() && there < wanted;
    missing.then(|| format!("has {there} replicas in step, redis.replicas demands {wanted}"))
}
