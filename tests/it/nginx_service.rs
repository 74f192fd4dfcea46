//! What nginx passes on to the service: from the world only the addresses of lists, from issuers only the write API.
//!
//! nginx resolves a path before it compares it, the service takes it as it was sent. So each spelling that the two read differently is
//! a way to reach what nginx does not offer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use statuslist::base::clock::Clock;
use statuslist::status_list::ListId;

use crate::support::app::{KEY, TestApp};
use crate::support::nginx::{Nginx, Settings};
use crate::support::site::TestSite;

/// A service that records the head and the body of each request, and answers 200 to all.
struct Recorder {
    address: SocketAddr,
    requests: Receiver<String>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (record, requests) = channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                let (mut request, mut buffer) = (Vec::new(), [0; 65536]);
                // Until nothing more comes, so that a body that was passed on is recorded as well.
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    request.extend_from_slice(&buffer[..length]);
                }
                let _ = record.send(String::from_utf8_lossy(&request).into_owned());
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            }
        });
        Self { address, requests }
    }

    /// What came since the latest call.
    fn recorded(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

/// Sends these bytes and returns the status of the answer, 0 if there is none.
fn send(address: SocketAddr, request: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok());
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Everything that a client could add to a request to be taken for somebody else, or for another request.
const HEADERS: &str = "X-Api-Key: stolen\r\nAuthorization: Bearer stolen\r\nCookie: stolen=1\r\nX-Client-Verify: SUCCESS\r\n\
    X_Api_Key: stolen\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nX-Original-URL: /metrics\r\n\
    X-Rewrite-URL: /metrics\r\nX-HTTP-Method-Override: DELETE\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\
    Expect: 100-continue\r\nIdempotency-Key: stolen\r\nTraceparent: 00-1-1-00\r\nUser-Agent: stolen\r\n";
/// What an answer of history may depend on.
const PASSED_ON: [&str; 9] = [
    "host",
    "accept",
    "accept-encoding",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "connection",
    "content-length",
];

#[test]
fn from_the_world_only_the_address_of_a_list_reaches_the_service() {
    let recorder = Recorder::start();
    let folder = tempfile::tempdir().unwrap();
    let site = TestSite::open(folder.path(), "https://status.example/lists");
    let settings = Settings { service: recorder.address, history: true, ..Settings::new(site.storage()) };
    let nginx = Nginx::start(&settings);
    let list = ListId::random();
    let targets = [
        format!("/lists/{list}"),
        format!("/pools/..%2flists%2f{list}"),
        format!("/pools/p/../../lists/{list}"),
        format!("/pools/p/%2e%2e/%2e%2e/lists/{list}"),
        format!("/pools/p/.%2e/..%2flists/{list}"),
        format!("//lists//{list}"),
        format!("/pools//..//lists/{list}"),
        format!("/./lists/./{list}"),
        format!("/metrics/..%2Flists%2F{list}"),
        format!("/pools/%252e%252e/lists/{list}"),
        format!("/pools/..%252flists%252f{list}"),
        format!("/pools;/../lists/{list}"),
        format!("/pools/..;/lists/{list}"),
        format!("/lists/{list};/../../pools/p"),
        format!("/lists/%{:02x}{}", list.to_string().as_bytes()[0], &list.to_string()[1..]),
        format!("/lists/{list}#/../../metrics"),
        format!("/lists/{list}%3f/../../../metrics"),
        format!("http://other.example/pools/..%2flists/{list}"),
        format!("/lists\\{list}"),
        format!("/lists/{list}%0a"),
        format!("/lists/{list}%00"),
        "/pools/p".to_owned(),
        "/metrics".to_owned(),
    ];
    let path = format!("/lists/{list}");
    let (mut answered, mut passed_on) = (0, 0);
    for target in &targets {
        for query in ["?time=1", "?time=1&x=/../../pools/p", "?a=b&%74ime=1 HTTP/1.0"] {
            for method in ["GET", "HEAD", "OPTIONS", "POST", "DELETE", "PATCH", "get", "CONNECT", "TRACE"] {
                for body in [
                    "\r\n",
                    "Content-Length: 7\r\n\r\nsmuggle",
                    "Transfer-Encoding: chunked\r\n\r\n7\r\nsmuggle\r\n0\r\n\r\n",
                ] {
                    // The rest of these would only take time.
                    if body != "\r\n" && !(target.starts_with("/pools/..%2f") || *target == path) {
                        continue;
                    }
                    let line = format!(
                        "{method} {target}{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                    );
                    let status = send(nginx.public, &format!("{line}{HEADERS}{body}"));
                    answered += usize::from(status != 0);
                    for request in recorder.recorded() {
                        passed_on += 1;
                        let what = format!("{line:?} came to the service as {request:?}");
                        let (head, rest) = request.split_once("\r\n\r\n").expect("a whole head");
                        let mut lines = head.lines();
                        let words: Vec<_> = lines.next().unwrap().split(' ').collect();
                        assert!(matches!(words[0], "GET" | "HEAD") && words.len() == 3, "{what}");
                        assert_eq!(words[1].split('?').next(), Some(path.as_str()), "{what}");
                        let names = lines.map(|line| line.split(':').next().unwrap().to_ascii_lowercase());
                        let more: Vec<_> = names.filter(|name| !PASSED_ON.contains(&name.as_str())).collect();
                        assert!(more.is_empty(), "{more:?}: {what}");
                        assert!(
                            rest.is_empty() && !request.contains("stolen") && !request.contains("smuggle"),
                            "{what}"
                        );
                    }
                }
            }
        }
    }
    assert!(answered > 300 && passed_on > 20, "the control: {answered} answers, {passed_on} passed on");
}

/// What anybody could find out before: whether a key is right.
#[tokio::test(flavor = "multi_thread")]
async fn from_the_world_nobody_can_try_keys() {
    let settings = format!("status-list-pools: {{ p: {{ api-key: {KEY} }} }}");
    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::start_at(folder, "https://status.example", &settings, Clock::System);
    let list = app.references(1).await.remove(0).uri.rsplit('/').next().unwrap().to_owned();
    let service: SocketAddr = app.url.trim_start_matches("http://").parse().unwrap();
    let storage = app.folder().join("public");
    let nginx = Nginx::start(&Settings { service, history: true, ..Settings::new(&storage) });
    let try_keys = move || {
        let ask = |address: SocketAddr, target: &str, key: &str| {
            let head = format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Api-Key: {key}\r\n\r\n"
            );
            send(address, &head)
        };
        for target in [
            format!("/pools/..%2flists%2f{list}?time=1"),
            format!("/pools/p/../../lists/{list}?time=1"),
            format!("/lists/{list}?time=1"),
        ] {
            let (right, wrong) = (ask(nginx.public, &target, KEY), ask(nginx.public, &target, "wrong"));
            assert_eq!(right, wrong, "{target} tells a right key from a wrong one");
            assert_ne!(right, 401, "{target} reaches the write API");
        }
        // The control: at the service itself this path is one of the write API.
        let target = format!("/pools/..%2flists%2f{list}?time=1");
        assert_ne!(ask(service, &target, KEY), ask(service, &target, "wrong"));
    };
    tokio::task::spawn_blocking(try_keys).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn from_issuers_nothing_but_the_write_api_reaches_the_service() {
    let app = TestApp::start("update-interval: 1s");
    let service: SocketAddr = app.url.trim_start_matches("http://").parse().unwrap();
    let storage = app.folder().join("public");
    let real = Nginx::start(&Settings { service, ..Settings::new(&storage) });
    let recorder = Recorder::start();
    let recorded = Nginx::start(&Settings { service: recorder.address, ..Settings::new(&storage) });
    let ask = move || {
        let head = |target: &str| {
            format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Api-Key: {KEY}\r\n\r\n"
            )
        };
        for operators in ["metrics", "version"] {
            assert_eq!(send(service, &head(&format!("/{operators}"))), 200, "the control");
            let letter = &operators[..1];
            let encoded = format!("%{:02x}{}", letter.as_bytes()[0], &operators[1..]);
            for target in [
                format!("/{operators}"),
                format!("/{operators}/"),
                format!("/{operators}?x=/pools/p"),
                format!("/{operators}#/pools/p"),
                format!("//{operators}"),
                format!("/./{operators}"),
                format!("/{encoded}"),
                format!("/%25{}", &encoded[1..]),
                format!("/{operators};/pools/p"),
                format!("/{operators}%3b/pools/p"),
                format!("/{operators}%2f"),
                format!("/{operators}%2f..%2fpools"),
                format!("/{operators}/../pools/p"),
                format!("/{operators}/..%2fpools/p"),
                format!("/pools/../{operators}"),
                format!("/pools/..%2f{operators}"),
                format!("/pools/..%252f{operators}"),
                format!("/pools/%2e%2e/{operators}"),
                format!("/pools/p/../../{encoded}"),
                format!("/pools/..;/{operators}"),
                format!("/pools\\..\\{operators}"),
                format!("/health/..//{operators}"),
                format!("/docs/../{operators}?"),
                format!("http://localhost/{operators}"),
                format!("http://localhost/pools/../{operators}"),
                format!("/{}", operators.to_uppercase()),
            ] {
                assert_ne!(send(real.api, &head(&target)), 200, "{target}");
                send(recorded.api, &head(&target));
                for request in recorder.recorded() {
                    let sent = request.split(' ').nth(1).unwrap().to_owned();
                    let path = sent.split(['?', '#']).next().unwrap().to_ascii_lowercase();
                    assert!(
                        path != format!("/{operators}") && path != format!("/{encoded}"),
                        "{target} as {sent}"
                    );
                }
            }
        }
        // What the world and browsers ask for is not here either.
        for target in ["/", "/lists/jwks.json", "/favicon.ico", "/healthy", "/poolsp", "/api"] {
            let status = send(real.api, &head(target));
            assert_eq!(status, 404, "{target}");
        }
        for target in [
            "/pools/p",
            "/pools/p/lists",
            "/health/live",
            "/health/ready",
            "/docs",
            "/docs/swagger-ui-bundle.js",
            "/openapi.json",
        ] {
            assert_eq!(send(real.api, &head(target)), 200, "{target}");
        }
    };
    tokio::task::spawn_blocking(ask).await.unwrap();
}
