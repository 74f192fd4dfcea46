//! Keys in memory: no core dump holds them.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use crate::support::process::{PROGRAM, command, free_port, pause};

/// Runs a program with core dumps allowed, in `folder`, and lets it crash once it is ready.
fn crash(folder: &Path, program: &mut Command, ready: impl Fn() -> bool) -> ExitStatus {
    let mut allowed = Command::new("prlimit");
    allowed.arg("--core=unlimited").arg("--").arg(program.get_program()).args(program.get_args());
    allowed.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    allowed.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = allowed.spawn().unwrap();
    while !ready() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was ready");
        pause(std::time::Duration::from_millis(20));
    }
    let sent = Command::new("kill").args(["-ABRT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait().unwrap()
}

#[test]
fn a_crash_dumps_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let service = command(folder.path(), port, "status-list-pools: { p: { api-keys: [one] } }");
    let mut program = Command::new(PROGRAM);
    program.args(service.get_args());
    program.envs(service.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended =
        crash(folder.path(), &mut program, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(ended.signal() == Some(6) && !ended.core_dumped(), "{ended:?}");

    // The control: a program that allows it. Where the system allows none, nothing can be shown.
    let mut sleep = Command::new("sleep");
    let control = crash(folder.path(), sleep.arg("60"), || {
        pause(std::time::Duration::from_millis(300));
        true
    });
    if !control.core_dumped() {
        println!("skipped: this system writes no core dumps at all");
    }
}
