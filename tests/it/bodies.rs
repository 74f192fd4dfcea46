//! Bodies that are sent to do harm: without end behind a refusal, unfinished in great number, slower than any line.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;
use statuslist::base::clock::Clock;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::process::{Process, command, free_port};

const CHUNK: usize = 64 << 10;
/// What a server takes that reads little, the buffers of the system on both sides included.
const TAKEN_MAX: usize = 24 << 20;
/// When a connection must be closed after the answer: the time for the rest of a body, and more for a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(6);

/// Sends `head` and a body without end, until the server closes the connection. Returns the answer and the bytes that it took.
fn send_without_end(address: &str, head: &str, chunked: bool) -> (String, usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut reader = stream.try_clone().unwrap();
    reader.set_read_timeout(Some(2 * CLOSED_WITHIN)).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            said.extend_from_slice(&buffer[..length]);
        }
        let _ = tell.send(String::from_utf8(said).unwrap());
    });
    let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 15000000" };
    let head = format!("{head}Host: x\r\nContent-Type: application/json\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = match chunked {
        true => format!("{CHUNK:x}\r\n{}\r\n", " ".repeat(CHUNK)).into_bytes(),
        false => vec![b' '; CHUNK],
    };
    let (begun, mut taken) = (Instant::now(), 0);
    let mut left: &[u8] = &[];
    loop {
        if left.is_empty() {
            left = &chunk;
        }
        match stream.write(left) {
            Ok(length) => (left, taken) = (&left[length..], taken + length),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        if begun.elapsed() > CLOSED_WITHIN || !chunked && taken > 14_000_000 {
            break;
        }
    }
    assert!(begun.elapsed() < CLOSED_WITHIN, "still open after {taken} bytes: {head:?}");
    let _ = stream.shutdown(Shutdown::Both);
    (told.recv().unwrap(), taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_refusal_nobody_reads_a_body_without_end() {
    let settings = format!(
        "limits: {{ requests-per-key: 50/h }}
status-list-pools: {{ p: {{ api-keys: [{KEY}, {{ key: reader, scopes: [read] }}, busy] }} }}"
    );
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let list = app.references(1).await[0].uri.rsplit('/').next().unwrap().to_owned();
    for _ in 0..50 {
        let asked = app.client.get(format!("{}/pools/p", app.url)).header("X-Api-Key", "busy");
        assert_eq!(asked.send().await.unwrap().status(), StatusCode::OK);
    }
    let fill = format!("PATCH /pools/p/lists/{list} HTTP/1.1\r\n");
    let address = app.url.trim_start_matches("http://").to_owned();
    for (what, head, expected) in [
        ("no key", "PATCH /status-lists/update HTTP/1.1\r\n".to_owned(), 401),
        ("a wrong key", "PATCH /status-lists/batch-update HTTP/1.1\r\nX-Api-Key: wrong\r\n".to_owned(), 401),
        ("a key without the scope", format!("{fill}X-Api-Key: reader\r\n"), 403),
        ("no such pool", format!("PATCH /pools/none/lists/x HTTP/1.1\r\nX-Api-Key: {KEY}\r\n"), 404),
        ("no such path", "POST /none HTTP/1.1\r\n".to_owned(), 404),
        ("another method", "PUT /status-lists/update HTTP/1.1\r\n".to_owned(), 405),
        ("another media type", format!("{fill}X-Api-Key: {KEY}\r\nContent-Type: text/plain\r\n"), 415),
        ("too many requests", "PATCH /status-lists/update HTTP/1.1\r\nX-Api-Key: busy\r\n".to_owned(), 429),
        ("a body too many", format!("POST /pools/p/new-references HTTP/1.1\r\nX-Api-Key: {KEY}\r\n"), 200),
    ] {
        for chunked in [true, false] {
            let (address, head) = (address.clone(), head.clone());
            let sending = tokio::task::spawn_blocking(move || send_without_end(&address, &head, chunked));
            let (said, taken) = sending.await.unwrap();
            assert!(said.starts_with(&format!("HTTP/1.1 {expected}")), "{what}, chunked {chunked}: {said:?}");
            assert!(said.to_ascii_lowercase().contains("connection: close"), "{what}: {said:?}");
            assert!(taken < TAKEN_MAX, "{what}, chunked {chunked}: {taken} bytes were read");
        }
    }
    // It is read up to the limit.
    let head = format!("{fill}X-Api-Key: {KEY}\r\n");
    let sending = tokio::task::spawn_blocking(move || send_without_end(&address, &head, true));
    let (said, taken) = sending.await.unwrap();
    assert!(said.starts_with("HTTP/1.1 413") && taken < TAKEN_MAX + (16 << 20), "{taken}: {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_whole_small_body_keeps_the_connection() {
    let app = TestApp::start("");
    let mut stream = TcpStream::connect(app.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for framed in ["Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"] {
        for _ in 0..2 {
            let head = "PATCH /status-lists/update HTTP/1.1\r\nHost: x\r\nX-Api-Key: wrong\r\n";
            stream.write_all(format!("{head}{framed}").as_bytes()).unwrap();
            let mut answer = [0; 4096];
            let length = stream.read(&mut answer).expect("an answer on the same connection");
            let said = String::from_utf8_lossy(&answer[..length]).to_ascii_lowercase();
            assert!(said.starts_with("http/1.1 401") && !said.contains("connection: close"), "{said}");
        }
    }
}

/// A value in kB of a process.
fn memory_kb(process: &Process, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_take_little_memory_and_stop_no_revocation() {
    const BODIES: usize = 60;
    const BYTES: usize = 15_000_000;
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let settings = "limits: { request-timeout: 30s }
status-list-pools: { p: { size: 1000, update-interval: 1s, api-keys: [one] } }";
    let process = Process::start(command(folder.path(), port, settings), folder.path(), port);
    let live = crate::reload::Live::of(folder, process);
    let reference = live.reference("one").await;
    let before = memory_kb(live.process(), "VmRSS");
    let bodies = (0..BODIES).map(|_| {
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
            let head = format!(
                "PATCH /status-lists/batch-update HTTP/1.1\r\nHost: x\r\nX-Api-Key: one\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                BYTES + 1
            );
            stream.write_all(head.as_bytes()).unwrap();
            let sent = (0..BYTES).step_by(CHUNK).take_while(|_| stream.write_all(&[b' '; CHUNK]).is_ok());
            (sent.count() * CHUNK, stream)
        })
    });
    let bodies: Vec<_> = bodies.collect();
    let mut held = Vec::new();
    for body in bodies {
        held.push(body.await.unwrap());
    }
    let whole = held.iter().filter(|(sent, _)| *sent >= BYTES).count();
    assert_eq!(live.update("one", &reference, 1).await, StatusCode::NO_CONTENT);
    let (now, most) = (memory_kb(live.process(), "VmRSS"), memory_kb(live.process(), "VmHWM"));
    println!(
        "VmRSS {before} kB before, {now} kB with {whole} bodies of {BODIES} almost sent; VmHWM {most} kB"
    );
    assert!(most - before < 300_000, "{before} kB before, {most} kB at most");
    let refused = held.iter_mut().filter_map(|(_, stream)| {
        let mut answer = [0; 512];
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let length = stream.read(&mut answer).ok()?;
        let said = String::from_utf8_lossy(&answer[..length]).to_ascii_lowercase();
        (said.starts_with("http/1.1 503") && said.contains("retry-after: ")).then_some(())
    });
    assert!(refused.count() > 0, "the others hear that they should try again");
    drop(held);
    // The budget is whole again.
    eventually("a large batch is taken", async || {
        let update = |n| json!({ "uri": reference.uri, "index": reference.index, "value": n });
        let mut body = json!({ "updates": [update(1)] }).to_string();
        body.push_str(&" ".repeat(BYTES));
        let request = live.client.patch(format!("{}/status-lists/batch-update", live.url()));
        let request = request.header("X-Api-Key", "one").header("Content-Type", "application/json");
        (request.body(body).send().await.ok()?.status() == StatusCode::NO_CONTENT).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_slower_than_allowed_is_cut_long_before_the_request_timeout() {
    let settings =
        format!("limits: {{ request-timeout: 60s }}\nstatus-list-pools: {{ p: {{ api-key: {KEY} }} }}");
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    let address = app.url.trim_start_matches("http://").to_owned();
    let (slow, steady) = (drip(address.clone(), &reference, 100), drip(address, &reference, 5000));
    let (slow, steady) = (slow.await.unwrap(), steady.await.unwrap());
    assert!(slow.0.starts_with("HTTP/1.1 408") && slow.1 < Duration::from_secs(20), "{slow:?}");
    assert!(steady.0.starts_with("HTTP/1.1 204") && steady.1 > Duration::from_secs(4), "{steady:?}");
    let (status, _) = app.send(Method::GET, "/pools/p", None).await;
    assert_eq!(status, StatusCode::OK);
}

/// Sends an update behind so many spaces twice a second, for five seconds. Returns the answer, and when it came.
fn drip(address: String, reference: &Reference, bytes: usize) -> tokio::task::JoinHandle<(String, Duration)> {
    let update = json!({ "uri": reference.uri, "index": reference.index, "value": 1 }).to_string();
    tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let length = 10 * bytes + update.len();
        let head = format!(
            "PATCH /status-lists/update HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut parts: Vec<_> = std::iter::repeat_n(" ".repeat(bytes), 10).collect();
        parts.push(update);
        let mut answer = [0; 1024];
        let mut parts = parts.into_iter();
        loop {
            if let Some(part) = parts.next() {
                let _ = stream.write_all(part.as_bytes());
            }
            match stream.read(&mut answer) {
                Ok(length) => {
                    return (String::from_utf8_lossy(&answer[..length]).into_owned(), begun.elapsed());
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return (error.to_string(), begun.elapsed()),
            }
        }
    })
}
