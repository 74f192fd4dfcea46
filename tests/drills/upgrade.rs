//! "Upgrade and rollback": with two instances nobody notices; with one, callers wait for some seconds and readers notice nothing. Both
//! versions are this build: what another one finds in the store is the subject of `it::golden`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::callers::{Callers, Issuer, Tally};
use super::machine::Machine;
use super::runbook::blocks;
use crate::support::nginx::{Nginx, Settings};
use crate::support::process::{PROGRAM, free_port};

/// Verifiers of these drills keep no keys.
const KEPT: Duration = Duration::ZERO;

/// The blocks of the section: one instance; out of nginx, and in again.
fn steps() -> [String; 3] {
    blocks("Upgrade and rollback").try_into().expect("the page has changed")
}

/// What a package does, for the program of this version.
fn install(folder: &Path, machine: &mut Machine, version: &str) {
    let program = folder.join(version);
    let _ = std::os::unix::fs::symlink(PROGRAM, &program);
    let place = machine.root().join("bin/statuslist");
    machine.call(
        "apt install ./statuslist_new.deb",
        format!("ln -sfn {} {}", program.display(), place.display()),
    );
}

/// The program that a machine runs.
fn installed(machine: &Machine) -> PathBuf {
    std::fs::read_link(machine.root().join("bin/statuslist")).unwrap()
}

/// nginx in front of the service of a machine, with the lists of this folder.
pub(super) fn front_of(storage: &Path, machine: &Machine) -> Nginx {
    Nginx::start(&Settings { service: machine.address().parse().unwrap(), ..Settings::new(storage) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_are_upgraded_and_rolled_back_and_nobody_notices() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let redis = Machine::new(folder, "redis", "demo");
    let redis_port = free_port();
    redis.install_redis(redis_port, "");
    redis.follow("systemctl start redis-server").await;
    let shared = folder.join("shared/public");
    std::fs::create_dir_all(&shared).unwrap();
    let mut machines = ["one", "two"].map(|name| Machine::new(folder, name, "demo"));
    let key = machines[0].root().join("etc/statuslist/key.pem");
    for machine in &mut machines {
        machine.call("/var/lib/statuslist/public", shared.display());
        machine.call("/etc/statuslist/key.pem", key.display());
        let top = format!("storage-type: redis\nredis: {{ host: 127.0.0.1, port: {redis_port} }}");
        machine.configure(&top, "api-key: x");
        machine.follow("systemctl start statuslist").await;
        Issuer::new(&machine.url(), "demo").references(1).await;
    }
    let nginx = front_of(&shared, &machines[0]);
    let [first, second] = [machines[0].address(), machines[1].address()];
    let mut front = Machine::new(folder, "nginx", "demo");
    front.has_nginx(&nginx);
    front.follow(&format!(
        "sed -i 's/server {first};/server {first}; server {second};/' /etc/nginx/conf.d/status_lists.conf\n\
         nginx -s reload"
    )).await;

    let site = format!("http://{}", nginx.public);
    let issuer = Issuer::new(&format!("http://{}", nginx.api), "demo");
    let callers = Callers::start(issuer, &site, KEPT);
    let [upgrade, out, back] = steps();
    for version in ["new", "old"] {
        for machine in &mut machines {
            install(folder, machine, version);
            front.call("192.0.2.11:8090", machine.address());
            let before = machine.pid("statuslist");
            front.follow(&out).await;
            machine.follow(&upgrade).await;
            front.follow(&back).await;
            assert_ne!(machine.pid("statuslist"), before);
            assert!(installed(machine).ends_with(version));
        }
    }
    let tally = callers.end().await;
    tally.nothing_failed();
    tally.check(&folder.join("shared")).await;
    machines[1].follow("statuslist --config /etc/statuslist/statuslist.yaml verify").await;
}

/// The control of the drill above: the same without a word to nginx.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_instance_callers_wait_and_readers_notice_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(folder.path(), "one", "demo");
    machine.configure("", "api-key: x");
    machine.follow("systemctl start statuslist").await;
    Issuer::new(&machine.url(), "demo").references(1).await;
    let nginx = front_of(&machine.data().join("public"), &machine);
    let site = format!("http://{}", nginx.public);
    let issuer = Issuer::new(&format!("http://{}", nginx.api), "demo");
    let callers = Callers::start(issuer.clone(), &site, KEPT);
    let [upgrade, ..] = steps();
    for version in ["new", "old"] {
        install(folder.path(), &mut machine, version);
        machine.follow(&upgrade).await;
        assert!(installed(&machine).ends_with(version));
        issuer.references(1).await;
    }
    let tally = callers.end().await;
    only_unavailable(&tally);
    tally.everything_readable();
    tally.check(&machine.data()).await;
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml verify").await;
}

/// Checks that some requests were refused, and all of those by nginx with a 503.
pub(super) fn only_unavailable(tally: &Tally) {
    assert!(!tally.refused.is_empty(), "the control: the service was away");
    let others: Vec<_> = tally.refused.iter().filter(|why| !why.starts_with("503 ")).collect();
    assert!(others.is_empty(), "{others:?}");
}
