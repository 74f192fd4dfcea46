//! Two PostgreSQL servers that Patroni leads, with etcd: when the primary is gone, it makes the standby the primary.

#![allow(dead_code, reason = "each of the including tests uses a part")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

use super::child::{self, spawn};
use super::port::free_port;
use super::postgres::{IN_STEP, USER, as_other_user, kill_server, program, psql, succeed};

/// Both servers; killed when dropped.
#[derive(Debug)]
pub(crate) struct Patroni {
    nodes: [Node; 2],
    etcd: Child,
    _folder: TempDir,
}

#[derive(Debug)]
struct Node {
    port: u16,
    folder: PathBuf,
    running: Option<Child>,
}

impl Patroni {
    /// Starts both, and waits until each write is on both before it is acknowledged.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if as_other_user().is_some() {
            succeed(Command::new("chown").arg(USER).arg(folder.path()));
        }
        let (client, peer) = (free_port(), free_port());
        let (client_url, peer_url) =
            (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(folder.path().join("etcd"));
        etcd.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        etcd.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        etcd.args(["--initial-cluster", &format!("default={peer_url}")]);
        let etcd = spawn(etcd, None, log(folder.path(), "etcd.log"));
        let mut patroni = Self {
            nodes: [Node::new(folder.path(), "one", client), Node::new(folder.path(), "two", client)],
            etcd,
            _folder: folder,
        };
        // One after the other, so that the second copies the first.
        patroni.start_again(0);
        child::wait("the first server of Patroni", || patroni.primary().is_some());
        patroni.start_again(1);
        child::wait("a standby of Patroni in step", || patroni.is_whole());
        patroni
    }

    /// The server that takes writes.
    pub(crate) fn primary(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.says("SELECT pg_is_in_recovery()", "f"))
    }

    /// Whether each write is on both servers before it is acknowledged.
    pub(crate) fn is_whole(&self) -> bool {
        self.primary().is_some_and(|primary| self.nodes[primary].says(IN_STEP, "1"))
    }

    /// kill -9 of a server and of the Patroni that leads it, as in a crash of its machine.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts the machine again.
    pub(crate) fn start_again(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let mut command = Command::new("patroni");
        command.arg(node.folder.join("patroni.yaml"));
        node.running = Some(spawn(command, as_other_user(), log(&node.folder, "log")));
    }

    /// Settings that connect to whichever is the primary.
    pub(crate) fn settings(&self) -> String {
        let [one, two] = [self.nodes[0].port, self.nodes[1].port];
        format!("hosts: [\"127.0.0.1:{one}\", \"127.0.0.1:{two}\"], username: {USER}, database: postgres")
    }
}

impl Drop for Patroni {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }
}

impl Node {
    fn new(parent: &Path, name: &str, etcd: u16) -> Self {
        let node = Self { port: free_port(), folder: parent.join(name), running: None };
        std::fs::create_dir(&node.folder).unwrap();
        // The shortest times that Patroni allows. `initdb` and pg_hba.conf are as in the other tests.
        let settings = format!(
            "scope: lists
name: {name}
restapi: {{ listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}' }}
etcd3: {{ host: '127.0.0.1:{etcd}' }}
bootstrap:
  dcs: {{ ttl: 20, loop_wait: 1, retry_timeout: 3, synchronous_mode: true }}
  initdb: [{{ encoding: UTF8 }}, {{ locale: C }}, no-sync]
  pg_hba: ['host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust']
postgresql:
  listen: '127.0.0.1:{port}'
  connect_address: '127.0.0.1:{port}'
  data_dir: {folder}/data
  bin_dir: {programs}
  pgpass: {folder}/pgpass
  remove_data_directory_on_diverged_timelines: true
  authentication: {{ superuser: {{ username: {USER} }}, replication: {{ username: replicator }} }}
  parameters: {{ unix_socket_directories: '', shared_buffers: 16MB }}
",
            rest = free_port(),
            port = node.port,
            folder = node.folder.display(),
            programs = program("postgres").parent().unwrap().display(),
        );
        File::create(node.folder.join("patroni.yaml")).unwrap().write_all(settings.as_bytes()).unwrap();
        if as_other_user().is_some() {
            succeed(Command::new("chown").args(["-R", USER]).arg(&node.folder));
        }
        node
    }

    fn says(&self, sql: &str, expected: &str) -> bool {
        let output = psql(self.port).args(["--command", sql]).output().expect("psql");
        String::from_utf8_lossy(&output.stdout).trim_end() == expected
    }

    fn kill(&mut self) {
        let Some(mut patroni) = self.running.take() else { return };
        patroni.kill().unwrap();
        patroni.wait().unwrap();
        // Patroni's server is not its child.
        let postmaster = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        if let Some(postmaster) = postmaster.lines().next().and_then(|pid| pid.parse().ok()) {
            kill_server(postmaster);
        }
    }
}

fn log(folder: &Path, name: &str) -> std::process::Stdio {
    File::options().create(true).append(true).open(folder.join(name)).unwrap().into()
}
