//! Who may read the files of the service: private ones only its user, published ones everybody, whatever the umask.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::eventually;
use crate::support::process::{self, PROGRAM, Process, free_port, log_path};

const SETTINGS: &str = "
audit: { path: data/audit.jsonl }
status-list-pools: { demo: { size: 1000, update-interval: 1s, formats: [jwt, cwt], history: { retention: 1h } } }";

/// Runs `inner` with this umask.
fn under(umask: &str, inner: &Command) -> Command {
    let mut outer = Command::new("sh");
    outer.args(["-c", r#"umask "$0" && exec "$@""#, umask]).arg(inner.get_program()).args(inner.get_args());
    outer.current_dir(inner.get_current_dir().unwrap());
    outer.envs(inner.get_envs().map(|(name, value)| (name, value.unwrap())));
    outer
}

async fn start(folder: &Path, port: u16, umask: &str) -> Process {
    let command = under(umask, &process::command(folder, port, SETTINGS));
    let process = Process::start(command, folder, port);
    let ready = format!("{}/health/ready", process.url);
    eventually("it is ready", async || {
        let answer = reqwest::get(&ready).await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    eventually("a first token", async || {
        modes(folder).keys().any(|name| name.starts_with("public") && name.ends_with(".cwt")).then_some(())
    })
    .await;
    process
}

/// The modes of everything that the service created in `folder`.
fn modes(folder: &Path) -> BTreeMap<String, u32> {
    let entries = walkdir::WalkDir::new(folder).min_depth(1).into_iter().filter_map(Result::ok);
    let modes = entries.filter_map(|entry| {
        let name = entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned();
        Some((name, entry.metadata().ok()?.permissions().mode() & 0o7777))
    });
    let ours = |name: &str| ["data", "public", "made"].iter().any(|top| name.starts_with(top));
    // Nobody else reads a lock of the public folder.
    let public_lock = |name: &str| name.starts_with("public") && name.ends_with(".lock");
    modes.filter(|(name, _)| ours(name) && !name.contains(".tmp-") && !public_lock(name)).collect()
}

fn wanted(folder: &Path, name: &str) -> u32 {
    match (name.starts_with("public"), folder.join(name).is_dir()) {
        (true, true) => 0o755,
        (true, false) => 0o644,
        (false, true) => 0o700,
        (false, false) => 0o600,
    }
}

#[tokio::test]
async fn private_files_are_private_and_published_ones_readable_under_every_umask() {
    for umask in ["000", "022", "077", "0277"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let process = start(folder, free_port(), umask).await;
        let mut generate = Command::new(PROGRAM);
        generate.current_dir(folder).args(["generate-key", "made/here/signer.pem"]);
        assert!(under(umask, &generate).status().unwrap().success());
        let modes = modes(folder);
        for name in [
            "data/audit.jsonl",
            "data/audit.jsonl.lock",
            "data/instance/id",
            "data/instance/lock",
            "data/instance/demo.marks",
            "data/keys/demo.api-key",
            "data/keys/demo.pem",
            "data/statuslist.db",
            "data/statuslist.db-shm",
            "data/statuslist.db-wal",
            "data/statuslist.db.lock",
            "made/here/signer.pem",
            "public/lists/jwks.json",
        ] {
            assert!(modes.contains_key(name), "{name} is not in {modes:?}");
        }
        for (name, mode) in &modes {
            assert_eq!(*mode, wanted(folder, name), "{name} has {mode:o} under umask {umask}");
        }
        drop(process);
        assert!(!log(folder).contains("other users"), "a mode had to be corrected: {}", log(folder));
    }
}

#[tokio::test]
async fn files_of_an_earlier_version_are_put_right_at_the_start_and_the_log_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, port) = (folder.path(), free_port());
    start(folder, port, "022").await.kill();
    let before = modes(folder);
    for name in before.keys().filter(|name| name.starts_with("data")) {
        let open = if folder.join(name).is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(folder.join(name), Permissions::from_mode(open)).unwrap();
    }
    // The modes that Kubernetes and careless operators leave.
    fs::set_permissions(folder.join("data/instance"), Permissions::from_mode(0o2777)).unwrap();
    let process = start(folder, port, "022").await;
    let (after, log) = (modes(folder), log(folder));
    for name in before.keys().filter(|name| name.starts_with("data/")) {
        assert_eq!(after[name], wanted(folder, name), "{name} has {:o}", after[name]);
        assert!(log.contains(&format!("{name} was=")), "{name} is not in {log}");
    }
    assert!(log.contains("data/instance was=\"2777\""), "{log}");
    // The folder may hold other things: the settings do not say that it belongs to the service.
    assert_eq!(after["data"], 0o755);
    assert!(log.contains("can list the folder of the database"), "{log}");
    drop(process);
}

fn log(folder: &Path) -> String {
    fs::read_to_string(log_path(folder)).unwrap()
}
