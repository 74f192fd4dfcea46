//! Keys in memory: no core dump holds them, and what was read of them does not stay.

use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;

use crate::reload::{Live, write};
use crate::support::eventually;
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

/// How often these bytes occur in the memory of a process; `None` if nobody may look.
fn occurrences(process: u32, bytes: &[u8]) -> Option<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let memory = std::fs::File::open(format!("/proc/{process}/mem")).ok()?;
    let mut found = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        if !rest.starts_with("rw") || rest.contains("[v") {
            continue;
        }
        let mut part = vec![0; usize::try_from(to - from).unwrap()];
        // Unused parts of a stack cannot be read.
        if memory.read_exact_at(&mut part, from).is_ok() {
            found += memchr::memmem::find_iter(&part, bytes).count();
        }
    }
    Some(found)
}

#[tokio::test]
async fn what_was_read_of_a_key_does_not_stay_in_memory() {
    // A key that nobody sends: it could stay in a buffer of the connection.
    let other = "this key is in a file of its own";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.key");
    write(&file, other);
    let settings = |ttl: &str| {
        format!(
            "status-list-pools: {{ p: {{ size: 1000, update-interval: 1s, ttl: {ttl}, api-keys: [one, {{ key-file: {} }}], \
             signer: {{ pem: {{ key: signer.pem }} }} }} }}",
            file.display()
        )
    };
    let key = "one";
    let live = Live::start(&settings("30s"));
    let pem = std::fs::read_to_string(live.folder().join("signer.pem")).unwrap();
    let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let der = STANDARD.decode(lines.concat()).unwrap();
    assert_eq!(live.pool(key).await.0, StatusCode::OK);
    // Everything is read once more.
    live.set(&settings("77s"));
    eventually("the settings are taken", async || (live.pool(key).await.1["ttl"] == 77).then_some(())).await;
    let process = live.process().id();
    let Some(control) = occurrences(process, b"signer.pem") else {
        println!("skipped: only root may read the memory of the service");
        return;
    };
    assert!(control > 0, "the control: the path of the file stays");
    let secrets = [
        ("a line of the PEM", lines[0].as_bytes()),
        ("the PKCS#8", &der[20..68]),
        ("an API key", other.as_bytes()),
    ];
    for (what, bytes) in secrets {
        assert_eq!(occurrences(process, bytes), Some(0), "{what}");
    }
}
