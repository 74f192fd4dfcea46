//! Clients that keep the server waiting: each is cut off in time, and others do not notice.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use statuslist::base::clock::Clock;

use crate::support::app::{KEY, TestApp};

/// The time that the settings below allow, and half as much again for a busy machine.
const CUT_WITHIN: Duration = Duration::from_secs(10);

fn start() -> TestApp {
    let settings =
        format!("limits: {{ request-timeout: 2s }}\nstatus-list-pools: {{ p: {{ api-key: {KEY} }} }}");
    TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System)
}

fn connect(app: &TestApp) -> TcpStream {
    let stream = TcpStream::connect(app.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream
}

/// Sends `begin`, then `more` repeatedly, until the server closes the connection. Returns the server's answer.
fn drip(mut stream: TcpStream, begin: &str, more: &str) -> String {
    let begun = Instant::now();
    stream.write_all(begin.as_bytes()).unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => said.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // A server that closes while more data arrives answers with a reset.
            Err(_) => break,
        }
        if stream.write_all(more.as_bytes()).is_err() {
            break;
        }
        assert!(begun.elapsed() < CUT_WITHIN, "still open: {begin:?} {:?}", String::from_utf8_lossy(&said));
    }
    String::from_utf8(said).unwrap()
}

fn patch(key: &str, rest: &str) -> String {
    format!(
        "PATCH /status-lists/update HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Api-Key: {key}\r\n{rest}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_kept_but_holds_up_no_stop() {
    let app = start();
    let mut stream = connect(&app);
    stream.set_read_timeout(Some(CUT_WITHIN)).unwrap();
    let mut ask = || {
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).expect("an answer on the connection that was idle");
        assert!(
            answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"),
            "the connection was closed, or the answer is wrong"
        );
    };
    ask();
    // By default the HTTP server would close it after 5 s, and cut off a request at that moment.
    tokio::time::sleep(Duration::from_secs(7)).await;
    ask();
    let begun = Instant::now();
    app.stop();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "it waited for an idle connection: {:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_bodies_are_cut_and_their_connections_closed() {
    let app = start();
    let endless = "Content-Length: 1000000\r\n\r\n{";
    for (what, begin, more, expected) in [
        ("nothing at all", String::new(), "", "HTTP/1.1 408"),
        ("a slow head", "GET /health/live HTTP/1.1\r\n".to_owned(), "X: y\r\n", "HTTP/1.1 408"),
        ("a slow body", patch(KEY, endless), " ", "HTTP/1.1 408"),
        (
            "a slow chunked body",
            patch(KEY, "Transfer-Encoding: chunked\r\n\r\n"),
            "1\r\n \r\n",
            "HTTP/1.1 408",
        ),
        ("a slow body without a right key", patch("wrong", endless), " ", "HTTP/1.1 401"),
        (
            "a body that nobody reads",
            format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{endless}"),
            " ",
            "HTTP/1.1 200",
        ),
        (
            "a body behind a request that has none",
            format!("POST /pools/p/new-references HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\n{endless}"),
            " ",
            "HTTP/1.1 200",
        ),
    ] {
        let stream = connect(&app);
        let said = tokio::task::spawn_blocking(move || drip(stream, &begin, more)).await.unwrap();
        assert!(said.starts_with(expected), "{what}: {said:?}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{what}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_refused() {
    let app = start();
    let stream = connect(&app);
    let line = format!("X-More: {}\r\n", "x".repeat(8000));
    let begin = "GET /health/live HTTP/1.1\r\nHost: x\r\n".to_owned();
    let said = tokio::task::spawn_blocking(move || drip(stream, &begin, &line)).await.unwrap();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said:?}");
}

/// Requests references for as long as the attack lasts, and is served in time.
async fn is_served(app: &TestApp, mut attacked: impl FnMut() -> bool) {
    let (mut answered, mut slowest) = (0, Duration::ZERO);
    while attacked() {
        let begun = Instant::now();
        let (status, body) = app.send(Method::POST, "/pools/p/new-references", None).await;
        assert!(status.is_success(), "{status} {body}");
        slowest = slowest.max(begun.elapsed());
        answered += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(answered >= 20, "only {answered} answers, the slowest after {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "an answer took {slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_heads_leave_others_unharmed() {
    let app = start();
    let folder = tempfile::tempdir().unwrap();
    // Each client sends a little every second, far longer than allowed.
    let url = format!("{}/status-lists/update", app.url);
    let mut slow = Command::new("slowhttptest")
        .current_dir(folder.path())
        .args(["-H", "-c", "1000", "-r", "500", "-i", "1", "-l", "8", "-p", "5", "-t", "PATCH", "-u", &url])
        .args(["-g", "-o", "slow"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("slowhttptest is missing: run scripts/install-test-tools");
    is_served(&app, || slow.try_wait().unwrap().is_none()).await;
    let report = std::fs::read_to_string(folder.path().join("slow.csv")).unwrap();
    let seconds: Vec<Vec<u32>> = report.lines().skip(1).map(numbers).collect();
    for second in &seconds {
        let [_, closed, _, connected, available] = second[..] else { panic!("{report}") };
        assert!(closed + connected <= 1000 && available > 0, "its own probes were not answered: {report}");
    }
    let opened = seconds.iter().map(|second| second[1] + second[3]).max().unwrap();
    assert!(opened >= 500, "too few clients to show anything: {report}");
}

/// slowhttptest sends no key, so its bodies would be refused before they are read.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_bodies_with_a_right_key_leave_others_unharmed() {
    let app = start();
    let mut slow = SlowBodies::open(&app);
    let end = Instant::now() + Duration::from_secs(8);
    let holding = tokio::spawn(async move {
        while Instant::now() < end {
            slow.drip();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        slow.cut
    });
    is_served(&app, || !holding.is_finished()).await;
    let cut = holding.await.unwrap();
    assert!(cut >= SlowBodies::CLIENTS, "only {cut} bodies were cut, so the others were not read");
}

/// Begins an update that never ends.
fn begin(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(patch(KEY, "Content-Length: 100000\r\n\r\n{").as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Clients that reconnect when they are cut off.
struct SlowBodies {
    address: String,
    streams: Vec<TcpStream>,
    /// How many clients were told that they took too long.
    cut: usize,
}

impl SlowBodies {
    const CLIENTS: usize = 1000;

    fn open(app: &TestApp) -> Self {
        let address = app.url.trim_start_matches("http://").to_owned();
        let streams = (0..Self::CLIENTS).map(|_| begin(&address)).collect();
        Self { address, streams, cut: 0 }
    }

    /// Sends one more byte of each body.
    fn drip(&mut self) {
        for stream in &mut self.streams {
            let mut said = [0; 4096];
            match stream.read(&mut said) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let _ = stream.write(b" ");
                    continue;
                }
                Ok(length) if length > 0 => {
                    let said = String::from_utf8_lossy(&said[..length]);
                    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
                    self.cut += 1;
                }
                // A write to a connection that was cut off is answered with a reset.
                Ok(_) | Err(_) => {}
            }
            *stream = begin(&self.address);
        }
    }
}

/// A line of slowhttptest's table: second, closed, pending, connected, and whether the service is available.
fn numbers(line: &str) -> Vec<u32> {
    line.split(',').map(|number| number.trim().parse().unwrap()).collect()
}
