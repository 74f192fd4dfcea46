//! Signing with a key in another service: that of `examples/key_service.py`, in a process of its own.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;
use statuslist::sign::{Algorithm, Jwk, PublicKey, generate};
use tempfile::TempDir;

use super::interop::{about, run, updated};
use super::redis_tls::{authority, file};
use super::reload::{Live, replace_key, write};
use crate::support::app::{Reference, TestApp};
use crate::support::eventually;
use crate::support::process::{self, Process, free_port, log_path, pause, signal, test_tool};
use crate::support::relying_party::{jwks, published};

pub(crate) const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/key_service.py");
const PAGE: &str = include_str!("../../docs/KEY_SERVICE.md");
pub(super) const KEY: &str = "one";

/// A program with the packages that the example needs.
pub(crate) fn python() -> PathBuf {
    test_tool("venv/bin/python")
}

/// A running key service at [`socket`]; killed when dropped.
struct KeyService(Child);

impl KeyService {
    /// Starts with these keys: names, and files of the folder.
    fn start(folder: &Path, keys: &[(&str, &str)]) -> Self {
        let keys = keys.iter().map(|(name, file)| format!("{name}={}", folder.join(file).display()));
        let log = std::fs::File::create(folder.join("keys.log")).unwrap();
        let mut command = Command::new(python());
        let command = command.arg(EXAMPLE).arg(socket(folder)).args(keys).stdout(Stdio::null()).stderr(log);
        let mut service = Self(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(socket(folder)).is_err() {
            let ended = service.0.try_wait().unwrap();
            let log = || std::fs::read_to_string(folder.join("keys.log")).unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "it does not listen:\n{}", log());
            pause(Duration::from_millis(5));
        }
        service
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for KeyService {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("keys.sock")
}

fn at(socket: &Path, key: &str) -> String {
    format!("external: {{ url: 'unix://{}', key: {key} }}", socket.display())
}

pub(super) fn settings(pool: &str) -> String {
    format!(
        "publish: {{ keys-max-age: 1s }}\n\
         status-list-pools: {{ p: {{ api-keys: [{KEY}], size: 1000, update-interval: 1s, {pool} }} }}"
    )
}

pub(super) fn start(folder: TempDir, settings: &str) -> Live {
    let port = free_port();
    let process = Process::start(process::command(folder.path(), port, settings), folder.path(), port);
    Live::of(folder, process)
}

/// A service that signs with the key `signer` of the key service.
fn signing() -> (Live, KeyService) {
    let folder = tempfile::tempdir().unwrap();
    replace_key(folder.path(), "signer.pem");
    let keys = KeyService::start(folder.path(), &[("signer", "signer.pem")]);
    let signer = at(&socket(folder.path()), "signer");
    (start(folder, &settings(&format!("signer: {{ {signer} }}"))), keys)
}

/// The blocks of the document in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    let rests = PAGE.split(&begin).skip(1);
    rests.map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_example_answers_the_commands_of_the_document_as_printed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("signer.pem"), blocks("pem")[0]);
    let _keys = KeyService::start(folder, &[("signer", "signer.pem")]);
    let answer = |command: &str| -> Value {
        let command = command.replace("/run/keys.sock", &socket(folder).display().to_string());
        let Output { status, stdout, stderr } = Command::new("sh").args(["-c", &command]).output().unwrap();
        assert!(status.success(), "{command}: {}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).unwrap()
    };
    let [describe, sign] = blocks("sh")[..] else { panic!("the document has other commands") };
    let printed: Vec<Value> =
        blocks("json").into_iter().map(|block| serde_json::from_str(block).unwrap()).collect();
    let described = answer(describe);
    assert_eq!(described, printed[0]);
    let key: Jwk = serde_json::from_value(described["publicKey"].clone()).unwrap();
    let key = PublicKey::from_jwk(&key).unwrap();
    // Each signature is another one.
    for signed in [&answer(sign), &printed[1]] {
        let signature = URL_SAFE_NO_PAD.decode(signed["signature"].as_str().unwrap()).unwrap();
        assert!(key.verify(b"sample", &signature), "{signed}");
    }
    for (right, wrong, title) in [
        ("ES256", "ES384", "Wrong algorithm"),
        ("ryvb4aqb", "", "Wrong digest"),
        ("\"digest\"", "\"message\"", "Not understood"),
        ("keys/signer", "keys/other", "No such key"),
    ] {
        assert_eq!(answer(&sign.replace(right, wrong))["title"], title);
    }
}

pub(super) async fn status(live: &Live, path: &str) -> StatusCode {
    live.client.get(format!("{}{path}", live.url())).send().await.unwrap().status()
}

pub(super) fn status_of(live: &Live, reference: &Reference) -> u8 {
    published(live.folder(), &reference.uri).unwrap().status(reference.index)
}

pub(super) async fn until_published(live: &Live, reference: &Reference, value: u8) {
    eventually("the update is published", async || {
        // Files of a list and of the keys may just be replaced.
        let list = published(live.folder(), &reference.uri).ok()?;
        (list.status(reference.index) == value).then_some(())
    })
    .await;
}

/// Waits until this metric of the pool `p` is no longer 0.
pub(super) async fn until_counted(live: &Live, series: &str) {
    eventually(series, async || {
        let metrics = live.text("/metrics").await;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series));
        (value.unwrap_or_else(|| panic!("no {series} in {metrics}")) != " 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn independent_libraries_accept_what_it_signs() {
    for algorithm in Algorithm::ALL {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("signer.pem"), &generate(algorithm).unwrap());
        let _keys = KeyService::start(folder.path(), &[("signer", "signer.pem")]);
        let signer = at(&socket(folder.path()), "signer");
        let pool =
            format!("update-interval: 1s, list-lifetime: 1h, formats: [jwt, cwt], signer: {{ {signer} }}");
        let app = TestApp::start_in(folder, &pool, Clock::System);
        let about = about(&updated(&app, 1).await, 1);
        run(&app, "cose_verify.py", &about).await;
        // It has no P-521.
        if algorithm != Algorithm::Es512 {
            run(&app, "openvc_verify.py", &about).await;
        }
    }
}

/// Runs a program to its end. Returns whether it succeeded, and what it said.
pub(super) fn ran(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[test]
fn it_starts_only_if_the_key_service_answers_as_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let certified = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["status.example".into()]).unwrap();
        write(&folder.join(format!("{name}.pem")), &key.serialize_pem());
        write(&folder.join(format!("{name}.chain")), &certificate.self_signed(&key).unwrap().pem());
    };
    ["signer", "other"].into_iter().for_each(certified);
    let named = |key: &str, chain: &str| {
        let chain = folder.join(chain);
        let signer = at(&socket(folder), key).replace(" }", &format!(", chain: {} }}", chain.display()));
        settings(&format!("signer: {{ {signer} }}"))
    };
    let good = named("signer", "signer.chain");
    // Only a part of the pool's address.
    let port = free_port();
    let once =
        |settings: &str, arguments: &[&str]| ran(process::command(folder, port, settings).args(arguments));
    let refused = |settings: &str, why: &str| {
        for command in [&["publish", "--once"][..], &["check-config"]] {
            let (succeeded, said) = once(settings, command);
            assert!(!succeeded && said.contains(why), "{command:?}, {why}: {said}");
            assert!(said.contains("status-list-pools.p.signer") || command.len() == 2, "{said}");
        }
    };
    let cannot =
        format!("the key service unix://{} cannot be reached (No such file", socket(folder).display());
    refused(&good, &cannot);
    refused(&good, "start it, or correct its url");
    let _keys = KeyService::start(folder, &[("signer", "signer.pem")]);
    refused(&named("none", "signer.chain"), "answered 404 Not Found (No such key: /v1/keys/none)");
    refused(&named("signer", "other.chain"), "the first certificate of the chain is not for this key");
    refused(&named("signer", "none.chain"), "none.chain");
    for command in [&["publish", "--once"][..], &["check-config"]] {
        let (succeeded, said) = once(&good, command);
        assert!(succeeded, "the control: {said}");
    }
}

#[tokio::test]
async fn while_it_is_away_updates_go_on_and_are_published_when_it_is_back() {
    let (live, keys) = signing();
    let reference = live.reference(KEY).await;
    drop(keys);
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    until_counted(&live, "statuslist_publish_failed_total{pool=\"p\"}").await;
    let fresh =
        async || (status(&live, "/health/fresh").await == StatusCode::SERVICE_UNAVAILABLE).then_some(());
    eventually("the freshness says so", fresh).await;
    assert_eq!(status(&live, "/health/ready").await, StatusCode::OK, "it takes requests");
    assert_eq!(status_of(&live, &reference), 0, "the old token stays");
    let log = std::fs::read_to_string(log_path(live.folder())).unwrap();
    assert!(log.contains("list not published") && log.contains("cannot be reached"), "{log}");
    assert_eq!(live.update(KEY, &live.reference(KEY).await, 1).await, StatusCode::NO_CONTENT);

    let _keys = KeyService::start(live.folder(), &[("signer", "signer.pem")]);
    let back = Instant::now();
    until_published(&live, &reference, 1).await;
    let took = back.elapsed();
    println!("published {took:?} after the key service was back");
    // Two beats, and as much for a busy machine.
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_key_that_was_exchanged_under_its_name_publishes_nothing() {
    let (live, keys) = signing();
    let reference = live.reference(KEY).await;
    drop(keys);
    replace_key(live.folder(), "other.pem");
    let keys = KeyService::start(live.folder(), &[("signer", "other.pem")]);
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    until_counted(&live, "statuslist_publish_refused_total{pool=\"p\",check=\"signature\"}").await;
    assert_eq!(status_of(&live, &reference), 0, "the old token stays");
    drop(keys);
    let _keys = KeyService::start(live.folder(), &[("signer", "signer.pem")]);
    until_published(&live, &reference, 1).await;
}

#[tokio::test]
async fn one_that_hangs_delays_only_publications_of_its_own_pool() {
    let folder = tempfile::tempdir().unwrap();
    replace_key(folder.path(), "signer.pem");
    let keys = KeyService::start(folder.path(), &[("signer", "signer.pem")]);
    let signer = at(&socket(folder.path()), "signer");
    let pool = |name: &str, key: &str, more: &str| {
        format!("{name}: {{ api-keys: [{key}], size: 1000, update-interval: 1s, {more} }}")
    };
    let pools = [pool("p", KEY, &format!("signer: {{ {signer} }}")), pool("q", "two", "")];
    let live = start(folder, &format!("status-list-pools: {{ {} }}", pools.join(", ")));
    let of_p = live.reference(KEY).await;
    let url = format!("{}/pools/q/new-references?amount=1", live.url());
    let answer = live.client.post(url).header("X-Api-Key", "two").send().await.unwrap();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let of_q: Reference = serde_json::from_value(body["references"][0].clone()).unwrap();

    signal("-STOP", keys.id());
    // Longer than all tries of a call together, so that both beginning and end of its waiting are among them.
    let end = Instant::now() + Duration::from_secs(8);
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        for (key, reference) in [(KEY, &of_p), ("two", &of_q)] {
            let begun = Instant::now();
            assert_eq!(live.update(key, reference, 1).await, StatusCode::NO_CONTENT);
            slowest = slowest.max(begun.elapsed());
        }
        let begun = Instant::now();
        live.reference(KEY).await;
        slowest = slowest.max(begun.elapsed());
        pause(Duration::from_millis(50));
    }
    println!("the slowest request took {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "a request waited for the key service: {slowest:?}");
    assert_eq!((status_of(&live, &of_p), status_of(&live, &of_q)), (0, 1));
    until_counted(&live, "statuslist_publish_failed_total{pool=\"p\"}").await;
    let log = std::fs::read_to_string(log_path(live.folder())).unwrap();
    assert!(log.contains("gave no answer within 2s"), "{log}");
    signal("-CONT", keys.id());
    until_published(&live, &of_p, 1).await;
}

#[tokio::test]
async fn the_next_key_is_announced_and_signs_when_it_moves_up() {
    let folder = tempfile::tempdir().unwrap();
    let kids = ["one", "two"].map(|name| replace_key(folder.path(), &format!("{name}.pem")));
    let _keys = KeyService::start(folder.path(), &[("one", "one.pem"), ("two", "two.pem")]);
    let [one, two] = ["one", "two"].map(|key| at(&socket(folder.path()), key));
    let live = start(folder, &settings(&format!("signer: {{ {one} }}")));
    let reference = live.reference(KEY).await;
    assert_eq!(live.pool(KEY).await.1["keyId"], *kids[0]);
    live.set(&settings(&format!("signer: {{ {one}, next: {{ {two} }} }}")));
    eventually("the next key is announced", async || jwks(live.folder()).find(&kids[1]).map(|_| ())).await;
    assert_eq!(live.pool(KEY).await.1["keyId"], *kids[0]);
    live.set(&settings(&format!("signer: {{ {two} }}")));
    eventually("it signs", async || (live.pool(KEY).await.1["keyId"] == *kids[1]).then_some(())).await;
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    until_published(&live, &reference, 1).await;
    let id = reference.uri.rsplit('/').next().unwrap();
    let token = std::fs::read_to_string(live.folder().join(format!("public/lists/{id}.jwt"))).unwrap();
    assert_eq!(jsonwebtoken::decode_header(token).unwrap().kid.as_ref(), Some(&kids[1]));

    // A key that is not there is refused as a whole, and the present one goes on.
    live.set(&settings(&format!("signer: {{ {} }}", two.replace("key: two", "key: three"))));
    live.until_metric("statuslist_settings_stale 1").await;
    assert_eq!(live.update(KEY, &reference, 0).await, StatusCode::NO_CONTENT);
    until_published(&live, &reference, 0).await;
}

/// Passes requests to the key service on after a delay. Counts how many of them wait at a time, at most.
fn slow(near: &Path, far: PathBuf, delay: Duration) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(near).unwrap();
    let (waiting, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&most);
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let (waiting, most) = (Arc::clone(&waiting), Arc::clone(&counted));
            let Ok(far) = UnixStream::connect(&far) else { continue };
            std::thread::spawn(move || {
                let (mut near, mut far, mut bytes) = (near, far, [0; 64 * 1024]);
                // Requests and answers are small: each comes as a whole.
                while let Ok(length @ 1..) = near.read(&mut bytes) {
                    most.fetch_max(waiting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    pause(delay);
                    waiting.fetch_sub(1, Ordering::SeqCst);
                    far.write_all(&bytes[..length]).unwrap();
                    let length = far.read(&mut bytes).unwrap();
                    near.write_all(&bytes[..length]).unwrap();
                }
            });
        }
    });
    most
}

#[tokio::test]
async fn a_pass_signs_several_lists_at_a_time_but_not_too_many() {
    const LISTS: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    replace_key(folder.path(), "signer.pem");
    let _keys = KeyService::start(folder.path(), &[("signer", "signer.pem")]);
    let near = folder.path().join("slow.sock");
    let most = slow(&near, socket(folder.path()), Duration::from_millis(50));
    let pool = format!(
        "update-interval: 1s, size: 1000, open-lists: {LISTS}, signer: {{ {} }}",
        at(&near, "signer")
    );
    let app = TestApp::start_in(folder, &pool, Clock::System);
    let of_each = eventually("references of each list", async || {
        let references = app.references(500).await;
        let mut uris = BTreeSet::new();
        let of_each: Vec<_> =
            references.into_iter().filter(|reference| uris.insert(reference.uri.clone())).collect();
        (of_each.len() >= LISTS).then_some(of_each)
    })
    .await;
    most.store(0, Ordering::SeqCst);
    let updates: Vec<_> = of_each
        .iter()
        .map(|reference| json!({ "uri": reference.uri, "index": reference.index, "value": 1 }))
        .collect();
    let (answer, body) =
        app.send(Method::PATCH, "/status-lists/batch-update", Some(json!({ "updates": updates }))).await;
    assert_eq!(answer, StatusCode::NO_CONTENT, "{body}");
    let begun = Instant::now();
    for reference in &of_each {
        eventually("each update is published", async || {
            app.stored(reference).await["published"].as_bool().filter(|published| *published)
        })
        .await;
    }
    let (most, took) = (most.load(Ordering::SeqCst), begun.elapsed());
    println!("{} lists: {most} signatures at a time, published after {took:?}", of_each.len());
    assert!((5..=8).contains(&most), "{most} at a time");
}

/// A running nginx with the server of the document; killed when dropped.
struct Tls(Child);

impl Tls {
    fn start(folder: &Path, port: u16) -> Self {
        let mut server = blocks("nginx").remove(0).to_owned();
        let here = |name: &str| folder.join(name).display().to_string();
        for (from, to) in [
            ("listen 8443 ssl;", format!("listen 127.0.0.1:{port} ssl;")),
            ("/etc/keys/chain.pem", here("tls.pem")),
            ("/etc/keys/key.pem", here("tls.key")),
            ("/run/keys.sock", here("keys.sock")),
        ] {
            assert_eq!(server.matches(from).count(), 1, "`{from}` in docs/KEY_SERVICE.md");
            server = server.replace(from, &to);
        }
        let below = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let below = below.map(|name| format!("{name}_temp_path {};", here(name)));
        let main = format!(
            "daemon off; master_process off; pid {}; events {{}}\nhttp {{ access_log off; {}\n{server} }}\n",
            here("nginx.pid"),
            below.join(" ")
        );
        write(&folder.join("nginx.conf"), &main);
        let mut command = Command::new(crate::support::nginx::program());
        let command =
            command.arg("-c").arg(folder.join("nginx.conf")).arg("-e").arg(folder.join("error.log"));
        let mut nginx = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || std::fs::read_to_string(folder.join("error.log")).unwrap_or_default();
            assert!(nginx.0.try_wait().unwrap().is_none(), "nginx does not listen:\n{}", log());
            pause(Duration::from_millis(5));
        }
        nginx
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn over_tls_it_signs_only_for_the_token_and_only_with_a_certificate_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, port, of_pool) = (folder.path(), free_port(), free_port());
    let (authority, key) = (authority(), KeyPair::generate().unwrap());
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority);
    file(folder, "tls.pem", &certificate.unwrap().pem());
    file(folder, "tls.key", &key.serialize_pem());
    let trusted = file(folder, "authority.pem", &authority.pem());
    let stranger = file(folder, "stranger.pem", &super::redis_tls::authority().pem());
    replace_key(folder, "signer.pem");
    let _keys = KeyService::start(folder, &[("signer", "signer.pem")]);
    let _tls = Tls::start(folder, port);
    let publish = |token: &str, trusted: &Path| {
        write(&folder.join("token"), &format!("{token}\n"));
        let token = folder.join("token");
        let signer = format!(
            "external: {{ url: 'https://localhost:{port}', key: signer, token-file: {} }}",
            token.display()
        );
        let mut command = process::command(folder, of_pool, &settings(&format!("signer: {{ {signer} }}")));
        ran(command.args(["publish", "--once"]).env("SSL_CERT_FILE", trusted))
    };
    let (succeeded, said) = publish("wrong-token", &trusted);
    assert!(
        !succeeded && said.contains("answered 401 Unauthorized") && !said.contains("wrong-token"),
        "{said}"
    );
    let (succeeded, said) = publish("secret-token", &stranger);
    assert!(!succeeded && said.contains("certificate") && !said.contains("secret-token"), "{said}");
    let (succeeded, said) = publish("secret-token", &trusted);
    assert!(succeeded && said.contains("published"), "{said}");
}
