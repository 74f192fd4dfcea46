//! One client cannot keep others from the lists by holding connections to nginx open.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use statuslist::status_list::ListId;

use crate::support::app::TestApp;
use crate::support::nginx::{Nginx, Settings};
use crate::support::process::pause;
use crate::support::site::TestSite;

/// An address of the attacker; wallets have 127.0.0.1.
const ATTACKER: &str = "127.0.0.2";
/// More than a busy machine needs, and far less than the 10 s and more, or no answer at all, without the protection.
const SERVED_WITHIN: Duration = Duration::from_secs(2);

/// Connections that one client holds open without using them; closed when dropped.
struct Idle {
    child: Child,
    holding: usize,
    _input: ChildStdin,
}

impl Idle {
    /// Opens up to `count` connections, fewer if this machine's hard limit of open files is lower.
    fn hold(address: SocketAddr, count: usize, what: &str) -> Self {
        let mut child = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/idle.py"))
            .args([
                &address.ip().to_string(),
                &address.port().to_string(),
                &count.to_string(),
                what,
                ATTACKER,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is missing: run scripts/install-test-tools");
        let input = child.stdin.take().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let holding = said.trim().strip_prefix("holding ").unwrap_or_else(|| panic!("{said}"));
        Self { child, holding: holding.parse().unwrap(), _input: input }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends one request over a connection of its own. Returns the status, or `None` if no answer comes in time.
fn ask(address: SocketAddr, path: &str, within: Duration) -> Option<u16> {
    let end = Instant::now() + within;
    let mut stream = TcpStream::connect_timeout(&address, within).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// Waits between two requests of a wallet.
fn a_moment() {
    pause(Duration::from_millis(50));
}

/// nginx over one list, and the path of that list.
struct Served {
    nginx: Nginx,
    path: String,
    _folder: tempfile::TempDir,
}

fn serve(usual_open_files: bool) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let site = TestSite::open(folder.path(), "https://status.example/lists");
    let list = ListId::random();
    site.publish(list, 1_700_000_000, 4_102_444_800, true, true);
    let settings = Settings { rate: Some(200), usual_open_files, ..Settings::new(site.storage()) };
    Served { nginx: Nginx::start(&settings), path: format!("/lists/{list}"), _folder: folder }
}

#[test]
fn idle_connections_of_one_address_keep_no_wallet_waiting() {
    for what in ["nothing", "half", "kept"] {
        for count in [1_000, 10_000] {
            let served = serve(false);
            let idle = Idle::hold(served.nginx.public, count, what);
            assert!(idle.holding >= 900, "{what}: only {} to show anything", idle.holding);
            for _ in 0..20 {
                let status = ask(served.nginx.public, &served.path, SERVED_WITHIN);
                assert_eq!(status, Some(200), "{what}, {} connections", idle.holding);
                a_moment();
            }
        }
    }
}

/// With the usual 1,024 open files for each worker, nginx accepts nobody while two workers have them all.
#[test]
fn control_with_the_usual_open_files_wallets_get_nothing_in_time() {
    let served = serve(true);
    let _idle = Idle::hold(served.nginx.public, 10_000, "kept");
    let answered = (0..5).filter_map(|_| ask(served.nginx.public, &served.path, SERVED_WITHIN)).count();
    assert!(answered < 5, "the test above would not detect an nginx that accepts nobody");
}

/// Both listeners share the workers.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_keep_no_issuer_waiting() {
    let app = TestApp::start("update-interval: 1s");
    let service = app.url.trim_start_matches("http://").parse().unwrap();
    let storage = app.folder().join("public");
    let nginx = Nginx::start(&Settings { service, rate: Some(200), ..Settings::new(&storage) });
    let (public, api) = (nginx.public, nginx.api);
    let attack = move || {
        for attacked in [public, api] {
            let idle = Idle::hold(attacked, 10_000, "kept");
            for _ in 0..10 {
                let status = ask(api, "/health/live", SERVED_WITHIN);
                assert_eq!(status, Some(200), "{attacked}, {} connections", idle.holding);
                let status = ask(public, "/lists/jwks.json", SERVED_WITHIN);
                assert_eq!(status, Some(200), "{attacked}, {} connections", idle.holding);
                a_moment();
            }
        }
    };
    tokio::task::spawn_blocking(attack).await.unwrap();
}

/// Clients that ask for a list and then do not read it take connections and open files, so one address has only so many.
#[test]
fn requests_in_progress_of_one_address_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let site = TestSite::open(folder.path(), "https://status.example/lists");
    // Larger than what the kernel keeps for a client that does not read.
    std::fs::create_dir_all(site.storage().join("assets")).unwrap();
    let large = site.storage().join("assets/large.js");
    std::fs::File::create(&large).unwrap().set_len(64 << 20).unwrap();
    let nginx = Nginx::start(&Settings { rate: Some(10_000), ..Settings::new(site.storage()) });
    let slow = |_| {
        let mut stream = TcpStream::connect(nginx.public).unwrap();
        stream.write_all(b"GET /assets/large.js HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (stream, String::from_utf8(status.to_vec()).unwrap())
    };
    let clients: Vec<_> = (0..300).map(slow).collect();
    let of = |status: &str| clients.iter().filter(|(_, line)| line.ends_with(status)).count();
    assert_eq!((of("200"), of("429")), (256, 44));
    let error_log = nginx.log("error.log");
    assert!(!error_log.contains("limiting"), "it would name the client: {error_log}");
}
