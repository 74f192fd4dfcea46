//! Varnish in front of nginx, with the shipped configuration: a revocation is at every node within two beats, the origin sees one request
//! for each node, list, format and beat, and lists stay up while the origin is down.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::json;
use statuslist::status_list::{Format, cwt, jwt};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::app::{Reference, TestApp};
use crate::support::nginx::{Nginx, Settings};
use crate::support::process::{free_port, pause};
use crate::support::relying_party::{List, jwks};
use crate::support::{eventually, gunzip};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/varnish/status_lists.vcl");
const BEAT: Duration = Duration::from_secs(2);
const NODES: u32 = 2;
/// What clients send, with one meaning for each format.
const ACCEPT: [(Format, &str); 5] = [
    (Format::Jwt, "*/*"),
    (Format::Jwt, "application/statuslist+jwt"),
    (Format::Jwt, "application/statuslist+jwt, */*;q=0.1"),
    (Format::Cwt, "application/statuslist+cwt"),
    (Format::Cwt, "text/html;q=0.2, application/statuslist+cwt"),
];

/// One node; stopped when dropped.
struct Varnish {
    child: Child,
    _folder: TempDir,
    address: SocketAddr,
}

impl Varnish {
    /// With the shipped configuration, or with none but Varnish's own.
    fn start(origin: SocketAddr, shipped: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut vcl = match shipped {
            true => fs::read_to_string(SHIPPED).unwrap(),
            false => "vcl 4.1;\nbackend origin {\n    .host = \"127.0.0.1\";\n    .port = \"8080\";\n}\n"
                .to_owned(),
        };
        let mut set = |from: &str, to: &str| {
            assert_eq!(vcl.matches(from).count(), 1, "`{from}` must occur exactly once");
            vcl = vcl.replace(from, to);
        };
        set(".port = \"8080\";", &format!(".port = \"{}\";", origin.port()));
        if shipped {
            set("set req.grace = 10s;", &format!("set req.grace = {}s;", BEAT.as_secs()));
            set(".interval = 5s;", ".interval = 500ms;");
        }
        let file = folder.path().join("test.vcl");
        fs::File::create(&file).unwrap().write_all(vcl.as_bytes()).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let program = Path::new("/usr/sbin/varnishd");
        let child = Command::new(if program.exists() { program } else { Path::new("varnishd") })
            .args(["-F", "-j", "none", "-s", "malloc,16m", "-a", &address.to_string(), "-n"])
            .arg(folder.path().join("work"))
            .arg("-f")
            .arg(&file)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("Varnish is missing: run scripts/install-test-tools");
        let mut node = Self { child, _folder: folder, address };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            let ended = node.child.try_wait().unwrap();
            let said = || fs::read_to_string(node._folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "Varnish does not listen:\n{}", said());
            pause(Duration::from_millis(20));
        }
        node
    }

    /// The list of this `uri` as this node has it, verified.
    async fn list(&self, http: &Client, uri: &str, format: Format, keys: &Path) -> Result<List, String> {
        let accept = if format == Format::Cwt { cwt::MEDIA_TYPE } else { jwt::MEDIA_TYPE };
        let (status, body) = fetch(http, &at(uri, self.address), accept, "gzip").await;
        if status != StatusCode::OK {
            return Err(status.to_string());
        }
        match format {
            Format::Cwt => List::verify_cwt(&body, uri, &jwks(keys)),
            _ => List::verify(&String::from_utf8(body).unwrap(), uri, &jwks(keys)),
        }
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        // Its child ends with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// The same path at another address.
fn at(uri: &str, address: SocketAddr) -> String {
    format!("http://{address}/lists/{}", uri.rsplit('/').next().unwrap())
}

/// Returns the status and the plain body. Sends what a cache must not depend on.
async fn fetch(http: &Client, url: &str, accept: &str, coding: &str) -> (StatusCode, Vec<u8>) {
    let request = http.get(url).header("Accept", accept).header("Accept-Encoding", coding);
    let answer = request.header("Cookie", "a=b").header("Authorization", "Bearer none").send().await.unwrap();
    let (status, zipped) = (answer.status(), answer.headers().contains_key("content-encoding"));
    let body = answer.bytes().await.unwrap();
    (status, if zipped { gunzip(&body).unwrap() } else { body.to_vec() })
}

/// Clients of all nodes, until they are dropped.
struct Crowd {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl Crowd {
    fn of(nodes: &[Varnish], uri: &str) -> Self {
        let (stop, answers, failed) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let mut clients = JoinSet::new();
        for client in 0..3 * nodes.len() {
            let url = at(uri, nodes[client % nodes.len()].address);
            let (stop, answers, failed) = (Arc::clone(&stop), Arc::clone(&answers), Arc::clone(&failed));
            clients.spawn(async move {
                let http = Client::new();
                let mut number = client;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let (_, accept) = ACCEPT[number % ACCEPT.len()];
                    let coding = ["gzip, br", "identity", "gzip;q=0.5"][number % 3];
                    let (status, _) = fetch(&http, &format!("{url}?client={number}"), accept, coding).await;
                    answers.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(u64::from(status != StatusCode::OK), Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self { clients, stop, answers, failed }
    }

    /// Returns the answers, and how many were not 200.
    async fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        (self.answers.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

fn requests(origin: &Nginx, reference: &Reference) -> usize {
    let id = reference.uri.rsplit('/').next().unwrap();
    origin.log("lists.log").lines().filter(|line| line.contains(id)).count()
}

async fn service() -> (TestApp, Reference, Nginx) {
    let pool = format!("size: 1000, update-interval: {}s, formats: [jwt, cwt]", BEAT.as_secs());
    let app = TestApp::start(&pool);
    let reference = app.references(1).await.remove(0);
    let storage = app.folder().join("public");
    let max_age = u32::try_from(BEAT.as_secs()).unwrap();
    let nginx = Nginx::start(&Settings { max_age, ..Settings::new(&storage) });
    (app, reference, nginx)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_is_at_every_node_within_two_beats_and_lists_outlive_their_origin() {
    let (app, reference, nginx) = service().await;
    let nodes: Vec<_> = (0..NODES).map(|_| Varnish::start(nginx.public, true)).collect();
    let http = Client::new();
    let status = async |node: &Varnish, format| {
        let list = node.list(&http, &reference.uri, format, app.folder()).await;
        list.unwrap_or_else(|why| panic!("{}: {format}: {why}", node.address)).status(reference.index)
    };
    let (begun, before) = (Instant::now(), requests(&nginx, &reference));
    let crowd = Crowd::of(&nodes, &reference.uri);
    for value in [1, 0, 1] {
        let (code, body) = app.update(&reference, json!(value)).await;
        assert_eq!(code, StatusCode::NO_CONTENT, "{body}");
        let acknowledged = Instant::now();
        for (node, format) in nodes.iter().flat_map(|node| [(node, Format::Jwt), (node, Format::Cwt)]) {
            eventually("the update at each node", async || {
                (status(node, format).await == value).then_some(())
            })
            .await;
        }
        let took = acknowledged.elapsed();
        assert!(took <= 2 * BEAT + Duration::from_secs(1), "{value} was at all nodes after {took:?}");
    }
    let beats = begun.elapsed().as_millis().div_ceil(BEAT.as_millis());
    let (answers, failed) = crowd.end().await;
    let at_origin = requests(&nginx, &reference) - before;
    // Each node asks for both formats when its copy is a beat old, and at first.
    let most = usize::try_from(u128::from(NODES) * 2 * (beats + 1)).unwrap();
    println!(
        "{answers} answers of {NODES} nodes in {beats} beats: {at_origin} requests at the origin, {most} allowed"
    );
    assert_eq!(failed, 0, "of {answers} answers");
    assert!((1..=most).contains(&at_origin), "{at_origin} requests at the origin in {beats} beats");
    assert!(answers > 10 * most as u64, "too few answers to show anything: {answers}");

    drop(nginx);
    tokio::time::sleep(3 * BEAT).await;
    for (node, format) in nodes.iter().flat_map(|node| [(node, Format::Jwt), (node, Format::Cwt)]) {
        assert_eq!(status(node, format).await, 1, "without its origin");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_without_the_shipped_configuration_most_requests_reach_the_origin() {
    let (_app, reference, nginx) = service().await;
    let nodes = [Varnish::start(nginx.public, false)];
    let crowd = Crowd::of(&nodes, &reference.uri);
    tokio::time::sleep(BEAT).await;
    let (answers, _) = crowd.end().await;
    let at_origin = requests(&nginx, &reference) as u64;
    assert!(answers > 30 && at_origin > answers / 2, "{at_origin} of {answers} requests at the origin");
}
