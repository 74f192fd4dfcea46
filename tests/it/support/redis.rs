//! Real Redis servers on free ports of this machine: alone, replicated, behind sentinels, as a cluster.

#![allow(dead_code, reason = "each of the including tests uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::child::{self, spawn};
use super::port::free_port;

/// One server; killed when dropped.
#[derive(Debug)]
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    folder: PathBuf,
    options: Vec<(String, String)>,
    running: Option<Child>,
    /// Removed with the server, unless the test brought a folder of its own.
    _owned: Option<TempDir>,
}

/// Options that keep every acknowledged write.
const DURABLE: [(&str, &str); 5] = [
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("no-appendfsync-on-rewrite", "no"),
    ("save", ""),
    // Replicas need not wait for others.
    ("repl-diskless-sync-delay", "0"),
];

impl RedisServer {
    /// A durable server.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A durable server, with these options in addition.
    pub(crate) fn start_with(options: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self::start_in(folder.path(), options);
        server._owned = Some(folder);
        server
    }

    /// As [`Self::start_with`], with its data in a folder that stays.
    pub(crate) fn start_in(folder: &Path, options: &[(&str, &str)]) -> Self {
        let options = DURABLE.iter().chain(options);
        let options = options.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut server =
            Self { port: free_port(), folder: folder.to_owned(), options, running: None, _owned: None };
        server.start_again();
        server
    }

    /// A replica of `master`, which it reaches at `port`.
    pub(crate) fn replica_of(port: u16, options: &[(&str, &str)]) -> Self {
        let master = format!("127.0.0.1 {port}");
        let options: Vec<_> = options.iter().copied().chain([("replicaof", master.as_str())]).collect();
        let replica = Self::start_with(&options);
        replica.wait_in_step(port);
        replica
    }

    /// Starts the same server on the same data.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.arg("--dir").arg(&self.folder);
        for (name, value) in &self.options {
            command.arg(format!("--{name}")).args(value.split(' '));
        }
        self.running = Some(spawn(command, None, Stdio::null()));
        self.wait("a server that answers", |server| server.try_cli(&["PING"]).as_deref() == Some("PONG"));
    }

    /// Starts the same server on the same data as a replica; it discards what the master does not have.
    pub(crate) fn start_again_as_replica_of(&mut self, port: u16) {
        self.options.retain(|(name, _)| name != "replicaof");
        self.options.push(("replicaof".to_owned(), format!("127.0.0.1 {port}")));
        self.start_again();
        self.wait_in_step(port);
    }

    /// Waits until the replica is in step and the master knows: until then the master delays writes.
    fn wait_in_step(&self, master: u16) {
        let online = format!("port={},state=online", self.port);
        self.wait("a replica in step", |replica| {
            let of_master = cli(master, &["INFO", "replication"]).unwrap_or_default();
            replica.says(&["INFO", "replication"], "master_link_status:up")
                && of_master.contains(&online)
                && !of_master.contains("min_slaves_good_slaves:0")
        });
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops its process for a while, like a machine that hangs.
    pub(crate) fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let pid = self.running.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the reply to a command.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        self.try_cli(command).unwrap_or_else(|| panic!("redis-cli {command:?} on port {}", self.port))
    }

    pub(crate) fn try_cli(&self, command: &[&str]) -> Option<String> {
        cli(self.port, command)
    }

    /// Whether the reply to the command contains this. No reply is not a failure: sentinels that make a server a replica have it
    /// close the connections of all clients.
    pub(crate) fn says(&self, command: &[&str], text: &str) -> bool {
        self.try_cli(command).is_some_and(|answer| answer.contains(text))
    }

    /// Settings that connect to it.
    pub(crate) fn settings(&self) -> String {
        format!("host: 127.0.0.1, port: {}", self.port)
    }

    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        child::wait(&format!("{what} on port {}", self.port), || condition(self));
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A master, a replica, and three sentinels that watch over them.
#[derive(Debug)]
pub(crate) struct Sentinels {
    pub(crate) servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// `replica` gets further options.
    pub(crate) fn start(options: &[(&str, &str)]) -> Self {
        let master = RedisServer::start_with(options);
        let replica = RedisServer::replica_of(master.port, options);
        Self::over(master, replica)
    }

    /// Sentinels over a master and its replica.
    pub(crate) fn over(master: RedisServer, replica: RedisServer) -> Self {
        let sentinels = (0..3).map(|_| start_sentinel(master.port)).collect();
        let started = Self { servers: [master, replica], sentinels };
        for sentinel in &started.sentinels {
            sentinel.wait("sentinels that know each other", |sentinel| {
                let master = sentinel.cli(&["SENTINEL", "MASTER", "mymaster"]);
                let field = |name: &str| {
                    master.lines().skip_while(|line| *line != name).nth(1).unwrap_or("").to_owned()
                };
                field("num-other-sentinels") == "2" && field("num-slaves") == "1"
            });
        }
        started
    }

    pub(crate) fn settings(&self) -> String {
        let nodes: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("\"127.0.0.1:{}\"", sentinel.port)).collect();
        format!("sentinel: {{ master: mymaster, nodes: [{}] }}", nodes.join(", "))
    }

    /// Index of the server that the sentinels name as the master.
    pub(crate) fn master(&self) -> usize {
        let named = self.sentinels[0].cli(&["SENTINEL", "get-master-addr-by-name", "mymaster"]);
        let port: u16 = named.lines().nth(1).unwrap().parse().unwrap();
        self.servers.iter().position(|server| server.port == port).unwrap()
    }
}

fn start_sentinel(master: u16) -> RedisServer {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let file = folder.path().join("sentinel.conf");
    let settings = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 3000\n"
    );
    std::fs::File::create(&file).unwrap().write_all(settings.as_bytes()).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(&file).arg("--sentinel");
    let running = Some(spawn(command, None, Stdio::null()));
    let sentinel = RedisServer {
        port,
        folder: folder.path().to_owned(),
        options: Vec::new(),
        running,
        _owned: Some(folder),
    };
    sentinel
        .wait("a sentinel that answers", |sentinel| sentinel.try_cli(&["PING"]).as_deref() == Some("PONG"));
    sentinel
}

/// Three masters with a replica each.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) servers: Vec<RedisServer>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let server = |_| {
            let bus = free_port().to_string();
            RedisServer::start_with(&[
                ("cluster-enabled", "yes"),
                ("cluster-port", &bus),
                ("cluster-node-timeout", "2000"),
                ("min-replicas-to-write", "1"),
            ])
        };
        let servers: Vec<_> = (0..6).map(server).collect();
        let addresses = servers.iter().map(|server| format!("127.0.0.1:{}", server.port));
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        for server in &servers {
            server.wait("a complete cluster", |server| {
                server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
                    && server.cli(&["CLUSTER", "NODES"]).matches("slave").count() == 3
            });
            server.wait("its replica", |server| {
                let replication = server.cli(&["INFO", "replication"]);
                !replication.contains("role:master") || replication.contains("min_slaves_good_slaves:1")
            });
        }
        Self { servers }
    }

    pub(crate) fn settings(&self) -> String {
        let nodes: Vec<_> =
            self.servers.iter().map(|server| format!("\"127.0.0.1:{}\"", server.port)).collect();
        format!("cluster: {{ nodes: [{}] }}", nodes.join(", "))
    }
}

fn cli(port: u16, command: &[&str]) -> Option<String> {
    let output =
        Command::new("redis-cli").args(["-p", &port.to_string()]).args(command).output().expect("redis-cli");
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
