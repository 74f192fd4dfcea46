//! "Moving to another machine" and "Moving to another store", behind nginx: readers notice nothing, callers wait, no reference comes twice
//! and nothing acknowledged is lost.

use std::time::Duration;

use super::callers::{Callers, Issuer};
use super::machine::Machine;
use super::runbook::blocks;
use super::upgrade::{front_of, only_unavailable};
use crate::support::nginx::Nginx;
use crate::support::process::free_port;

/// Starts the service of a machine, nginx before it, and callers.
async fn start(machine: &Machine) -> (Nginx, Callers) {
    machine.follow("systemctl start statuslist").await;
    Issuer::new(&machine.url(), "demo").references(1).await;
    let nginx = front_of(&machine.data().join("public"), machine);
    let issuer = Issuer::new(&format!("http://{}", nginx.api), "demo");
    issuer.references(1).await;
    let callers = Callers::start(issuer, &format!("http://{}", nginx.public), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(1)).await;
    (nginx, callers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_moves_to_another_machine() {
    let [leave, arrive] =
        <[String; 2]>::try_from(blocks("Moving to another machine")).expect("the page has changed");
    let folder = tempfile::tempdir().unwrap();
    let [mut old, new] = ["old", "new"].map(|name| Machine::new(folder.path(), name, "demo"));
    old.configure("", "api-key: x");
    let (_nginx, callers) = start(&old).await;

    old.call("new.example:/etc/statuslist", new.root().join("etc/statuslist").display());
    old.call("new.example:/var/lib/statuslist", new.data().display());
    old.follow(&leave).await;
    // In truth both machines have the same paths; here they are in two folders and have two ports.
    let [from, to] = [&old, &new].map(|machine| machine.root().display().to_string());
    new.edit(&from, &to);
    new.edit(&old.address(), &new.address());
    new.follow(&arrive).await;
    let mut tally = callers.end().await;
    only_unavailable(&tally);
    tally.everything_readable();
    let issuer = Issuer::new(&new.url(), "demo");
    tally.add(issuer.references(2000).await);
    tally.check(&new.data()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_moves_from_sqlite_to_redis() {
    let [migrate] = <[String; 1]>::try_from(blocks("Moving to another store")).expect("the page has changed");
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path(), "one", "demo");
    let port = free_port();
    machine.install_redis(port, "");
    machine.follow("systemctl start redis-server").await;
    machine.configure(
        &format!("storage-type: sqlite\nredis: {{ host: 127.0.0.1, port: {port} }}"),
        "api-key: x",
    );
    let (nginx, callers) = start(&machine).await;

    machine.follow(&migrate).await;
    let issuer = Issuer::new(&format!("http://{}", nginx.api), "demo");
    let reference = issuer.references(1).await.remove(0);
    issuer.revoke(&reference).await;
    let mut tally = callers.end().await;
    only_unavailable(&tally);
    tally.everything_readable();
    tally.add([reference]);
    tally.add(issuer.references(2000).await);
    tally.check(&machine.data()).await;
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml verify").await;
    let lists = machine.follow("redis-cli ZCARD statuslist:{demo}:lists").await;
    assert!(lists.trim().parse::<usize>().unwrap() > 0, "the control: the lists are in Redis");
}
