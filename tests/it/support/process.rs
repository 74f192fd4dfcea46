//! The real program in a separate process, which can be killed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use super::servers::port::free_port;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_statuslist");

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

/// The program with its data in `folder` and the given settings, ready to be started.
pub(crate) fn command(folder: &Path, port: u16, settings: &str) -> Command {
    let file = folder.join("settings.yaml");
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), settings.as_bytes()).unwrap();
    command_with(&file, folder, port)
}

/// The same with settings in another place.
pub(crate) fn command_with(file: &Path, folder: &Path, port: u16) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(folder)
        .env("STATUSLIST__SERVER__LISTEN", format!("127.0.0.1:{port}"))
        .env("STATUSLIST__PUBLIC_URL", format!("http://127.0.0.1:{port}/lists"))
        .arg("--config")
        .arg(file);
    command
}

/// The log file of a process.
pub(crate) fn log_path(folder: &Path) -> PathBuf {
    folder.join("log.txt")
}

impl Process {
    /// Starts `command` and waits until it listens on `port`: it does so before it has opened its store.
    pub(crate) fn start(mut command: Command, folder: &Path, port: u16) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log_path(folder)).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut process = Self { child, url: format!("http://127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || std::fs::read_to_string(log_path(folder)).unwrap_or_default();
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "the service does not listen:\n{}", log());
            pause(Duration::from_millis(5));
        }
        process
    }

    /// Waits until it has opened its store, which it must find.
    pub(crate) fn opened(self) -> Self {
        let mut stream = std::net::TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        self
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends it SIGHUP.
    pub(crate) fn hang_up(&self) {
        signal("-HUP", self.id());
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that `scripts/install-test-tools` put beside this build.
pub(crate) fn test_tool(path: &str) -> PathBuf {
    let builds = Path::new(PROGRAM).ancestors().skip(1);
    let found = builds.map(|folder| folder.join("test-tools").join(path)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{path} is not installed: run scripts/install-test-tools"))
}

/// Sends a signal, for example `-STOP`.
pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Waits on a thread without a runtime.
pub(crate) fn pause(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}
