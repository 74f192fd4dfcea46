//! Servers as processes that end with this one.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Starts a server that ends with this process in any case: the system kills it when the thread that started it is gone, and that
/// thread waits for ever. As another user, if one is named.
pub(crate) fn spawn(command: Command, user: Option<&str>, log: Stdio) -> Child {
    let (started, starting) = mpsc::channel();
    let user = user.map(str::to_owned);
    std::thread::spawn(move || {
        let program = command.get_program().to_owned();
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "KILL"]);
        if let Some(user) = user {
            wrapped.args(["--reuid", &user, "--regid", &user, "--init-groups"]);
        }
        wrapped.arg("--").arg(program).args(command.get_args());
        let child = wrapped.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        // It keeps the log open, and with it the disk.
        drop(wrapped);
        started.send(child.expect("setpriv and the server are installed")).unwrap();
        loop {
            std::thread::park();
        }
    });
    starting.recv().unwrap()
}

/// Waits until the condition holds; fails after half a minute.
pub(crate) fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        pause();
    }
}

#[allow(clippy::disallowed_methods, reason = "polling another process from a test thread")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
