//! Clients that only connect: however many there are, revocations are published, settings are reloaded, others are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use actix_web::rt::net::{TcpSocket, TcpStream};
use reqwest::{Client, StatusCode};

use crate::reload::Live;
use crate::support::eventually;
use crate::support::process::{PROGRAM, Process, command, free_port};
use crate::support::relying_party::published;

/// Idle connections stay open for longer than a test waits for anything.
const PATIENT: &str = "limits: { request-timeout: 60s }";

/// The service with these limits of open files, `soft:hard`.
fn start(limits: &str, settings: &str) -> Live {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let plain = command(folder.path(), port, &pool(settings, "30s"));
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={limits}")).arg("--").arg(PROGRAM).args(plain.get_args());
    limited.current_dir(plain.get_current_dir().unwrap());
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let process = Process::start(limited, folder.path(), port);
    Live::of(folder, process)
}

fn pool(settings: &str, ttl: &str) -> String {
    format!(
        "{settings}\nstatus-list-pools: {{ p: {{ size: 1000, update-interval: 1s, ttl: {ttl}, api-keys: [one] }} }}"
    )
}

/// Connects `each` times from each of these addresses, and sends nothing. What is not accepted at once is held as well.
async fn connect(live: &Live, from: &[Ipv4Addr], each: usize) -> Vec<TcpStream> {
    let to: SocketAddr = live.url().trim_start_matches("http://").parse().unwrap();
    let mut held = Vec::new();
    let addresses: Vec<_> = from.iter().flat_map(|from| std::iter::repeat_n(*from, each)).collect();
    // A few at a time: the system forgets connections that a server does not accept as fast as they come.
    for few in addresses.chunks(50) {
        let attempts = few.iter().map(|from| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((*from, 0).into()).unwrap();
            tokio::spawn(tokio::time::timeout(Duration::from_secs(3), socket.connect(to)))
        });
        for attempt in attempts.collect::<Vec<_>>() {
            held.extend(attempt.await.unwrap().ok().and_then(Result::ok));
        }
    }
    held
}

async fn metric(live: &Live, name: &str) -> i64 {
    let text = live.text("/metrics").await;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is missing in {text}")).parse().unwrap()
}

/// Revokes a reference, waits until that is published, and changes the settings.
async fn revoke_and_reload(live: &Live, settings: &str) {
    let reference = live.reference("one").await;
    assert_eq!(live.update("one", &reference, 1).await, StatusCode::NO_CONTENT);
    eventually("the revocation is published", async || {
        let list = published(live.folder(), &reference.uri).ok()?;
        (list.status(reference.index) == 1).then_some(())
    })
    .await;
    live.set(&pool(settings, "77s"));
    eventually("the settings are taken", async || (live.pool("one").await.1["ttl"] == 77).then_some(()))
        .await;
}

/// The attacker's addresses.
fn addresses(count: u8) -> Vec<Ipv4Addr> {
    (0..count).map(|n| Ipv4Addr::new(127, 0, 1, n + 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_address_take_half_of_the_places() {
    let live = start("1024:1024", PATIENT);
    // Connected before the attack, so that the code without places could serve it.
    live.reference("one").await;
    let held = connect(&live, &addresses(1), 1500).await;
    assert!(held.len() > 600, "only {} connections", held.len());
    revoke_and_reload(&live, PATIENT).await;
    let (open, most) =
        (metric(&live, "statuslist_connections").await, metric(&live, "statuslist_connections_max").await);
    assert!((300..=500).contains(&most) && open <= most / 2 + 10, "{open} open of {most}");
    assert!(metric(&live, "statuslist_connections_refused_total").await > 1000);
    let other = Client::new().get(format!("{}/health/ready", live.url())).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::OK, "another address finds a place");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_many_addresses_leave_the_files_for_publishing() {
    let live = start("1024:1024", PATIENT);
    live.reference("one").await;
    let _held = connect(&live, &addresses(10), 150).await;
    eventually("all places are taken", async || {
        let (open, most) = (
            metric(&live, "statuslist_connections").await,
            metric(&live, "statuslist_connections_max").await,
        );
        (open == most).then_some(())
    })
    .await;
    revoke_and_reload(&live, PATIENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_raised_as_far_as_the_system_allows() {
    let settings = &format!("server: {{ max-connections: 4000 }}\n{PATIENT}");
    let live = start("1024:9000", settings);
    live.reference("one").await;
    let held = connect(&live, &addresses(1), 1500).await;
    assert!(held.len() > 1400, "only {} connections", held.len());
    eventually("many more are open than the limit was", async || {
        (metric(&live, "statuslist_connections").await > 1400).then_some(())
    })
    .await;
    revoke_and_reload(&live, settings).await;
    assert_eq!(metric(&live, "statuslist_connections_max").await, 4000);
    assert_eq!(metric(&live, "statuslist_connections_refused_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_may_have_all_places() {
    let settings = "server: { trusted-proxies: [127.0.1.1], connections-per-address: 3 }";
    let live = start("1024:1024", settings);
    live.reference("one").await;
    let _proxy = connect(&live, &addresses(1), 100).await;
    let _other = connect(&live, &addresses(2)[1..], 100).await;
    eventually("the proxy's are open, and three of the other's", async || {
        (metric(&live, "statuslist_connections").await == 104).then_some(())
    })
    .await;
    eventually("the others are closed", async || {
        (metric(&live, "statuslist_connections_refused_total").await == 97).then_some(())
    })
    .await;
}

#[test]
fn too_few_open_files_are_an_error_that_says_how_many_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    let plain = command(folder.path(), free_port(), &pool("server: { workers: 1 }", "30s"));
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=100:100").arg("--").arg(PROGRAM).args(plain.get_args());
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = limited.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("the limit of open files is 100"), "{said}");
}
