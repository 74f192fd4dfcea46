//! PostgreSQL over TLS, and without power.
//!
//! Kills, failovers, late statements, restored copies and moves are tests in the files of their names, beside those of the others.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use reqwest::{Client, StatusCode};

use crate::crash::load;
use crate::redis_tls::{authority, file};
use crate::support::app::{KEY, Reference};
use crate::support::disk::{Disk, can_mount};
use crate::support::postgres::PostgresServer;
use crate::support::process::{Process, command, free_port};
use crate::support::told::Told;
use crate::support::{eventually, proof, tries};

/// A server that takes connections with TLS, and the file of its authority.
fn with_tls(folder: &Path, authority: &CertifiedIssuer<'static, KeyPair>) -> (PostgresServer, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    // The server's user reads them.
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let certificate = file(folder, "server.pem", &certificate.pem());
    let key = file(folder, "server.key", &key.serialize_pem());
    PostgresServer::own(&certificate);
    PostgresServer::own(&key);
    let options = [
        ("ssl", "on"),
        ("ssl_cert_file", certificate.to_str().unwrap()),
        ("ssl_key_file", key.to_str().unwrap()),
    ];
    (PostgresServer::start_with(&options), file(folder, "authority.pem", &authority.pem()))
}

/// The service, with these settings of PostgreSQL and this file of trusted authorities.
fn service(folder: &Path, port: u16, postgres: &str, trusted: &Path) -> std::process::Command {
    let settings = format!(
        "storage-type: postgres\npostgres: {{ username: postgres, database: postgres, {postgres} }}\n\
         status-list-pools: {{ p: {{ api-key: {KEY}, size: 800, update-interval: 1s }} }}"
    );
    let mut command = command(folder, port, &settings);
    command.env("SSL_CERT_FILE", trusted);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_with_tls_is_used_if_its_certificate_is_trusted_and_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(), authority());
    let (server, trusted) = with_tls(folder.path(), &ours);
    let (plain, foreign) = (PostgresServer::start(), file(folder.path(), "foreign.pem", &other.pem()));
    for postgres in [
        format!("hosts: ['localhost:{}'], tls: true", server.port),
        format!(
            "url: 'postgres://postgres@localhost:{}/postgres?sslmode=require', schema: by_url",
            server.port
        ),
    ] {
        let port = free_port();
        let start = service(folder.path(), port, &postgres, &trusted);
        let process = Process::start(start, folder.path(), port);
        let client = Client::builder().timeout(Duration::from_secs(15)).build().unwrap();
        let request = client.post(format!("{}/pools/p/new-references", process.url)).header("X-Api-Key", KEY);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "{postgres}");
        let encrypted =
            "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                         WHERE application_name = 'statuslist'";
        assert_eq!(server.sql(encrypted), "t", "{postgres}");
    }
    // Each waits a while for a server that may still be starting.
    std::thread::scope(|scope| {
        for (what, postgres, trusted) in [
            ("of another authority", format!("hosts: ['localhost:{}'], tls: true", server.port), &foreign),
            ("of another name", format!("hosts: ['127.0.0.1:{}'], tls: true", server.port), &trusted),
            ("none", format!("hosts: ['localhost:{}'], tls: true", plain.port), &trusted),
        ] {
            scope.spawn(move || {
                let own = tempfile::tempdir().unwrap();
                let mut refused = service(own.path(), free_port(), &postgres, trusted);
                let ended = refused.stdin(Stdio::null()).output().unwrap();
                let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                assert!(!ended.status.success() && said.contains("PostgreSQL"), "{what}: {said}");
            });
        }
    });
}

/// A server that answers before it writes to the disk, unless a transaction demands that, and waits long before it does.
const HASTY: [(&str, &str); 3] =
    [("synchronous_commit", "off"), ("wal_writer_delay", "10s"), ("wal_writer_flush_after", "1GB")];

/// Returns how many references were repeated and how many acknowledged updates were lost after a power cut.
async fn repeated_and_lost(durability: &str, marks: bool) -> (usize, usize) {
    const CLIENTS: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let disk = Disk::of_size(folder.path(), "disk", 400 << 20);
    let port = free_port();
    let start = |server: &PostgresServer| {
        // A small buffer, so that references are leased continuously.
        let pool = "api-key: x, size: 40000, update-interval: 1s, open-lists: 1, prefetch: { capacity: 40, threshold: 40 }";
        let settings = format!(
            "storage-type: postgres\npostgres: {{ durability: {durability}, {} }}\nhigh-water-marks: {marks}\n\
             status-list-pools: {{ p: {{ {pool} }} }}",
            server.settings()
        );
        Process::start(command(folder.path(), port, &settings), folder.path(), port)
    };
    let under_load = async |time: Duration, told: &Arc<Mutex<Told>>| {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|client| tokio::spawn(load(client, port, told.clone(), stop.clone())));
        let clients: Vec<_> = clients.collect();
        let before = told.lock().unwrap().references.len();
        tokio::time::sleep(time).await;
        eventually("as much to be written as the promises are measured by", async || {
            let told = told.lock().unwrap();
            (told.references.len() > before + 500 && told.acknowledged.len() > 50).then_some(())
        })
        .await;
        (stop, clients)
    };

    let mut server = PostgresServer::start_in(&disk.mounted, &HASTY);
    let process = start(&server);
    let told = Arc::new(Mutex::new(Told::default()));
    // The lists must be there before what is lost, or nothing of them is repeated.
    let (stop, clients) = under_load(Duration::ZERO, &told).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    server.sql("CHECKPOINT");
    disk.sync();
    let (stop, clients) = under_load(Duration::from_secs(2), &told).await;
    server.kill();
    let left = disk.after_power_cut(folder.path(), "left");
    process.kill();
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }

    let server = PostgresServer::start_in(&left.mounted, &HASTY);
    let process = start(&server);
    let (known, updates): (Vec<(Reference, u8)>, usize) = {
        let told = told.lock().unwrap();
        (told.known().map(|(reference, value)| (reference.clone(), value)).collect(), told.acknowledged.len())
    };
    let (client, mut lost) = (Client::new(), 0);
    for (reference, value) in &known {
        let list = reference.uri.rsplit('/').next().unwrap();
        let url = format!("{}/pools/p/lists/{list}/statuses/{}", process.url, reference.index);
        let body = client.get(url).header("X-Api-Key", "x").send().await.unwrap().text().await.unwrap();
        let stored: serde_json::Value = serde_json::from_str(&body).unwrap();
        lost += usize::from(stored["value"] != *value);
    }
    let (stop, clients) = under_load(Duration::from_secs(2), &told).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let told = told.lock().unwrap();
    let (all, repeated) = (told.references.len(), told.duplicates());
    assert!(told.references.iter().collect::<HashSet<_>>().len() > 500);
    let control = if durability == "checked" { "" } else { "control: " };
    proof(
        &format!("{control}power cut of PostgreSQL, durability {durability}, marks {marks}"),
        &format!("{all} references, {updates} updates"),
        &format!("{repeated} repeated, {lost} lost"),
    );
    (repeated, lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_postgresql_loses_nothing_that_was_acknowledged_but_would_if_it_answered_earlier() {
    if !can_mount() {
        return;
    }
    // The commit of each step alone suffices, whatever the server's default is.
    for _ in 0..tries("STATUSLIST_TEST_POWER_CUTS", 1) {
        assert_eq!(repeated_and_lost("checked", false).await, (0, 0));
    }
    // The marks keep references from being repeated even when PostgreSQL loses its last writes.
    let (repeated, lost) = repeated_and_lost("unchecked", true).await;
    assert!(repeated == 0 && lost > 0, "{repeated} references were repeated, {lost} updates were lost");
    let (repeated, lost) = repeated_and_lost("unchecked", false).await;
    assert!(repeated > 0 && lost > 0, "the control: {repeated} were repeated, {lost} were lost");
}
