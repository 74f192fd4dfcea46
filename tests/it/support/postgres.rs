//! Real PostgreSQL servers on free ports of this machine: alone, with a synchronous standby, behind pgbouncer.

#![allow(dead_code, reason = "each of the including tests uses a part")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::child::{self, spawn};
use super::port::free_port;

/// The user that runs servers if this is root, which they refuse.
pub(super) const USER: &str = "postgres";

/// How many standbys have every write before it is acknowledged.
pub(super) const IN_STEP: &str =
    "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'";

/// Options of every server: durable, and small.
const OPTIONS: [(&str, &str); 9] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "300"),
    ("shared_buffers", "16MB"),
    ("wal_level", "replica"),
    ("max_wal_senders", "5"),
    ("wal_keep_size", "256MB"),
    ("hot_standby", "on"),
    // A standby that lost its primary tries again soon.
    ("wal_retrieve_retry_interval", "200ms"),
];

/// One server; killed when dropped.
#[derive(Debug)]
pub(crate) struct PostgresServer {
    pub(crate) port: u16,
    folder: PathBuf,
    options: Vec<(String, String)>,
    running: Option<Child>,
    /// Removed with the server, unless the test brought a folder of its own.
    _owned: Option<TempDir>,
}

impl PostgresServer {
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
        let mut server = Self::in_folder(folder, options);
        if !server.data().exists() {
            let mut initdb = server.tool("initdb");
            initdb.arg("--pgdata").arg(server.data()).args(["--username", USER, "--auth", "trust"]);
            initdb.args(["--no-sync", "--no-instructions", "--encoding", "UTF8", "--locale", "C"]);
            succeed(&mut initdb);
        }
        server.start_again();
        server
    }

    /// A standby of `primary`, which it reaches at `port`.
    pub(crate) fn standby_of(port: u16, options: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self::in_folder(folder.path(), options);
        server._owned = Some(folder);
        server.copy_from(port);
        server.start_again();
        server
    }

    /// Discards its data, and starts it as a standby of the server at `port`.
    pub(crate) fn start_again_as_standby_of(&mut self, port: u16) {
        self.kill();
        std::fs::remove_dir_all(self.data()).unwrap();
        self.copy_from(port);
        self.start_again();
    }

    /// Gives the server's user a file, which it demands of its keys.
    pub(crate) fn own(file: &Path) {
        succeed(Command::new("chmod").arg("600").arg(file));
        if as_other_user().is_some() {
            succeed(Command::new("chown").arg(USER).arg(file));
        }
    }

    fn in_folder(folder: &Path, options: &[(&str, &str)]) -> Self {
        let options = OPTIONS.iter().chain(options);
        let options = options.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if as_other_user().is_some() {
            succeed(Command::new("chown").arg(USER).arg(folder));
        }
        Self { port: free_port(), folder: folder.to_owned(), options, running: None, _owned: None }
    }

    /// A base backup of the server at `port`, with the settings that make it its standby.
    fn copy_from(&self, port: u16) {
        let mut copy = self.tool("pg_basebackup");
        copy.arg("--pgdata").arg(self.data()).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        copy.args(["--username", USER, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync"]);
        succeed(&mut copy);
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A program of PostgreSQL, as the user that owns the data.
    fn tool(&self, name: &str) -> Command {
        let Some(user) = as_other_user() else { return Command::new(program(name)) };
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program(name));
        command.current_dir("/");
        command
    }

    /// Starts the same server on the same data.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(program("postgres"));
        command.arg("-D").arg(self.data()).args(["-c", &format!("port={}", self.port)]);
        for (name, value) in &self.options {
            command.args(["-c", &format!("{name}={value}")]);
        }
        child::wait(&format!("PostgreSQL on port {}: {}", self.port, self.folder.display()), || {
            if self.running.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
                let mut again = Command::new(command.get_program());
                again.args(command.get_args());
                self.running = Some(spawn(again, as_other_user(), log.into()));
            }
            self.try_sql("SELECT 1").is_some()
        });
    }

    /// kill -9 of all of its processes, so that nothing is written any more, as in a crash of its machine.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            kill_server(child.id());
            child.wait().unwrap();
        }
    }

    /// Stops its processes for a while, like a machine that hangs.
    pub(crate) fn freeze(&self, frozen: bool) {
        let postmaster = self.running.as_ref().unwrap().id();
        let all: Vec<_> = std::iter::once(postmaster).chain(children(postmaster)).collect();
        signal(if frozen { "-STOP" } else { "-CONT" }, &all);
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        assert_eq!(self.sql("SELECT pg_promote(true, 30)"), "t");
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The rows of a statement, as text, by the administrator.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|| panic!("psql on port {}: {sql}", self.port))
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Option<String> {
        let mut psql = psql(self.port);
        let output = psql.args(["--command", sql]).output().expect("psql");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Runs a script.
    pub(crate) fn run_file(&self, file: &Path, variables: &[(&str, &str)]) {
        let mut psql = psql(self.port);
        for (name, value) in variables {
            psql.args(["--set", &format!("{name}={value}")]);
        }
        succeed(psql.args(["--set", "ON_ERROR_STOP=1", "--file"]).arg(file));
    }

    /// Sets a parameter, and waits until it counts.
    pub(crate) fn set(&self, name: &str, value: &str) {
        self.sql(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        self.sql("SELECT pg_reload_conf()");
        self.wait(&format!("{name} {value}"), |server| server.sql(&format!("SHOW {name}")) == value);
    }

    /// Settings that connect to it as the administrator.
    pub(crate) fn settings(&self) -> String {
        settings(self.port)
    }

    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        child::wait(&format!("{what} on port {}", self.port), || condition(self));
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Settings that connect to a port as the administrator.
pub(crate) fn settings(port: u16) -> String {
    format!("hosts: [\"127.0.0.1:{port}\"], username: {USER}, database: postgres")
}

/// A primary, and a standby that has every write before it is acknowledged.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) primary: PostgresServer,
    pub(crate) standby: PostgresServer,
}

impl Pair {
    pub(crate) fn start() -> Self {
        let primary = PostgresServer::start();
        let standby = PostgresServer::standby_of(primary.port, &[]);
        let pair = Self { primary, standby };
        pair.primary.set("synchronous_standby_names", "*");
        wait_in_step(&pair.primary);
        pair
    }
}

/// Waits until a server has a synchronous standby in step.
pub(crate) fn wait_in_step(primary: &PostgresServer) {
    primary.wait("a synchronous standby", |primary| primary.sql(IN_STEP) == "1");
}

/// pgbouncer in transaction mode, with few connections to the server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Pgbouncer {
    pub(crate) port: u16,
    running: Child,
    _folder: TempDir,
}

impl Pgbouncer {
    pub(crate) fn to(server: &PostgresServer) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={USER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 5\nmax_client_conn = 1000\n",
            server.port
        );
        File::create(&file).unwrap().write_all(settings.as_bytes()).unwrap();
        if as_other_user().is_some() {
            succeed(Command::new("chown").args(["-R", USER]).arg(folder.path()));
        }
        let mut command = Command::new("pgbouncer");
        command.arg(&file);
        let running = spawn(command, as_other_user(), Stdio::null());
        child::wait("pgbouncer", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { port, running, _folder: folder }
    }

    pub(crate) fn settings(&self) -> String {
        settings(self.port)
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

/// psql as the administrator.
pub(super) fn psql(port: u16) -> Command {
    let mut psql = Command::new(program("psql"));
    psql.args(["--no-psqlrc", "--no-align", "--tuples-only", "--host", "127.0.0.1"]);
    psql.args(["--port", &port.to_string(), "--username", USER, "--dbname", "postgres"]);
    psql.env("PGCONNECT_TIMEOUT", "5").env("PGOPTIONS", "-c statement_timeout=20s");
    psql
}

/// kill -9 of all processes of a server.
pub(super) fn kill_server(postmaster: u32) {
    // It starts no more of them.
    signal("-STOP", &[postmaster]);
    let children = children(postmaster);
    signal("-KILL", &children);
    signal("-KILL", &[postmaster]);
    // Until then they hold their files, and the disk of them.
    let all = children.iter().chain([&postmaster]);
    child::wait("the server's processes to end", || all.clone().all(|pid| has_ended(*pid)));
}

/// A program of PostgreSQL: Debian has the servers of each version in a folder of their own.
pub(super) fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let programs = versions.map(|version| version.path().join("bin").join(name));
    programs.filter(|program| program.is_file()).max().unwrap_or_else(|| name.into())
}

/// The user to run servers as, if this is root.
pub(super) fn as_other_user() -> Option<&'static str> {
    let id = Command::new("id").arg("-u").output().unwrap();
    (id.stdout == b"0\n").then_some(USER)
}

/// The processes that a process started.
fn children(pid: u32) -> Vec<u32> {
    let listed = Command::new("ps").args(["--no-headers", "-o", "pid", "--ppid", &pid.to_string()]).output();
    let listed = String::from_utf8(listed.expect("ps").stdout).unwrap();
    listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Whether a process is gone, or only waits to be noticed.
fn has_ended(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// Sends a signal to processes, of which some may have ended.
fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(name).args(pids).stderr(Stdio::null()).status();
}

pub(super) fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
