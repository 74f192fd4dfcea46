//! What operators rely on: which address serves what, the metrics, and the way from an answer to its log line.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::process::{Process, command, free_port, log_path};

const KEY: &str = "the key of p";
const ID: &str = "x-request-id";

fn settings(more: &str) -> String {
    format!(
        "{more}\nstatus-list-pools: {{ p: {{ api-key: {KEY}, size: 800, update-interval: 1s, final-status: 1 }} }}"
    )
}

async fn allocate(client: &Client, url: &str) -> reqwest::Result<reqwest::Response> {
    client.post(format!("{url}/pools/p/new-references")).header("X-Api-Key", KEY).send().await
}

#[tokio::test]
async fn routes_with_an_address_of_their_own_are_served_nowhere_else() {
    let (folder, client) = (tempfile::tempdir().unwrap(), Client::new());
    let [public, api, management] = [free_port(), free_port(), free_port()];
    let split = settings(&format!(
        "server: {{ api-listen: \"127.0.0.1:{api}\", management-listen: \"127.0.0.1:{management}\" }}"
    ));
    let service = Process::start(command(folder.path(), public, &split), folder.path(), public);
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let uri = eventually("references", async || {
        // This address is the last at which it listens.
        let answer = allocate(&client, &url(api)).await.ok()?;
        let body = (answer.status() == StatusCode::OK).then_some(answer)?.text().await.unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        Some(body["references"][0]["uri"].as_str().unwrap().to_owned())
    });
    let list = uri.await.rsplit_once('/').unwrap().1.to_owned();
    let code = async |port: u16, path: &str| {
        let answer =
            client.get(format!("{}{path}", url(port))).header("X-Api-Key", KEY).send().await.unwrap();
        answer.status().as_u16()
    };
    for (path, at_public, at_api, at_management) in [
        ("/health/live", 200, 200, 200),
        ("/health/ready", 200, 200, 200),
        ("/metrics", 404, 404, 200),
        ("/version", 404, 404, 200),
        ("/pools/p", 404, 200, 404),
        ("/pools/p/lists", 404, 200, 404),
        ("/status-lists/update", 404, 405, 404),
        ("/openapi.json", 404, 200, 404),
        ("/docs", 404, 200, 404),
        ("/docs/swagger-ui-bundle.js", 404, 200, 404),
        ("/lists/jwks.json", 200, 404, 404),
        (&format!("/lists/{list}"), 200, 404, 404),
    ] {
        let got = (code(public, path).await, code(api, path).await, code(management, path).await);
        assert_eq!(got, (at_public, at_api, at_management), "{path}");
    }
    for port in [public, management] {
        assert_eq!(
            allocate(&client, &url(port)).await.unwrap().status(),
            404,
            "the right key at the wrong address"
        );
    }
    drop(service);

    // Without separate addresses, one address serves everything.
    let client = Client::new();
    let code = async |path: &str| {
        let answer =
            client.get(format!("{}{path}", url(public))).header("X-Api-Key", KEY).send().await.unwrap();
        answer.status().as_u16()
    };
    let folder = tempfile::tempdir().unwrap();
    let service = Process::start(command(folder.path(), public, &settings("")), folder.path(), public);
    for path in ["/metrics", "/version", "/pools/p", "/openapi.json", "/docs", "/lists/jwks.json"] {
        assert_eq!(code(path).await, 200, "{path}");
    }
    drop(service);

    let twice = settings(&format!("server: {{ api-listen: \"127.0.0.1:{public}\" }}"));
    let output = command(folder.path(), public, &twice).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && log.contains("server.api-listen"), "{log}");
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let (folder, client, port) = (tempfile::tempdir().unwrap(), Client::new(), free_port());
    let service = Process::start(command(folder.path(), port, &settings("")), folder.path(), port);
    let reference = eventually("references", async || {
        let answer = allocate(&client, &service.url).await.ok()?;
        let body = (answer.status() == StatusCode::OK).then_some(answer)?.text().await.unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        Some(body["references"][0].clone())
    });
    let (uri, index) = {
        let reference = reference.await;
        (reference["uri"].clone(), reference["index"].clone())
    };
    let update = client.patch(format!("{}/status-lists/update", service.url)).header("X-Api-Key", KEY);
    let body = json!({ "uri": uri, "index": index, "value": 1 }).to_string();
    let update = update.header("Content-Type", "application/json").body(body).send().await.unwrap();
    assert_eq!(update.status(), 204);
    let read =
        async || client.get(format!("{}/metrics", service.url)).send().await.unwrap().text().await.unwrap();
    let metrics = eventually("the update to be published", async || {
        Some(read().await)
            .filter(|text| text.contains("statuslist_update_to_publish_seconds_count{pool=\"p\"} 1"))
    });
    let metrics = metrics.await;
    let value = |series: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{series} ")));
        line.unwrap_or_else(|| panic!("no {series} in {metrics}"))
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse()
            .unwrap()
    };
    let of_pool = |name: &str| value(&format!("statuslist_{name}{{pool=\"p\"}}"));
    assert_eq!(of_pool("updates_total"), 1.0);
    assert_eq!((of_pool("batch_size_sum"), of_pool("batch_size_count")), (1.0, 1.0));
    assert!(of_pool("store_commit_seconds_sum") > 0.0 && of_pool("signing_seconds_sum") > 0.0);
    assert!(of_pool("references_ready") > 0.0 && of_pool("references_issued_total") >= 1.0);
    // The built-in lifetime is a day, and all lists are fresh.
    let now = statuslist::base::clock::Clock::System.now().date().secs() as f64;
    let left = of_pool("tokens_valid_until_timestamp_seconds") - now;
    assert!((3600.0 * 12.0..=3600.0 * 24.0 + 1.0).contains(&left), "{left}");
    let updates = "statuslist_http_requests_total{route=\"/status-lists/update\",code=\"204\"}";
    assert_eq!(value(updates), 1.0);
    assert!(value("statuslist_http_request_seconds_count{route=\"/pools/{pool}/new-references\"}") >= 1.0);
}

/// The log lines about one request, as JSON.
fn lines_of(folder: &Path, id: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(log_path(folder)).unwrap();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    lines.filter(|line| line["request.id"] == id).collect()
}

#[tokio::test]
async fn an_answer_leads_to_its_log_line() {
    let (folder, client, port) = (tempfile::tempdir().unwrap(), Client::new(), free_port());
    let mut command = command(folder.path(), port, &settings("log: { format: json }"));
    command.env("STATUSLIST_LOG", "statuslist=debug");
    let service = Process::start(command, folder.path(), port);
    let ask = async |theirs: Option<&str>| {
        let mut request = client.get(format!("{}/pools/p", service.url)).header("X-Api-Key", "not the key");
        if let Some(id) = theirs {
            request = request.header(ID, id);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        answer.headers()[ID].to_str().unwrap().to_owned()
    };
    assert_eq!(ask(Some("order-4711")).await, "order-4711");
    let ours = ask(None).await;
    assert_ne!(ask(Some("two words")).await, "two words");
    for id in ["order-4711", &ours] {
        let lines = eventually("the log line", async || {
            Some(lines_of(folder.path(), id)).filter(|lines| !lines.is_empty())
        });
        let lines = lines.await;
        assert_eq!(
            (lines.len(), lines[0]["route"].as_str(), lines[0]["status"].as_u64()),
            (1, Some("/pools/{pool}"), Some(401))
        );
    }
    let log = std::fs::read_to_string(log_path(folder.path())).unwrap();
    assert!(!log.contains("not the key"), "{log}");
}

/// A program that adds up durations must not have to parse text.
#[tokio::test]
async fn numbers_in_json_lines_are_numbers() {
    let (folder, client, port) = (tempfile::tempdir().unwrap(), Client::new(), free_port());
    let mut command = command(folder.path(), port, &settings("log: { format: json }"));
    command.env("STATUSLIST_LOG", "statuslist=debug");
    let service = Process::start(command, folder.path(), port);
    assert_eq!(client.get(format!("{}/pools/p", service.url)).send().await.unwrap().status(), 401);
    let lines = eventually("a publication and an answer in the log", async || {
        let log = std::fs::read_to_string(log_path(folder.path())).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines: Vec<_> = lines.collect();
        let said = |message: &str| lines.iter().any(|line| line["message"] == message);
        (said("published") && said("answered")).then_some(lines)
    });
    let lines = lines.await;
    let of = |message: &str| lines.iter().find(|line| line["message"] == message).unwrap();
    assert!(of("published")["duration_ms"].is_u64() && of("published")["published"].is_u64());
    assert!(of("answered")["status"] == 401 && of("answered")["seconds"].is_f64());
    for (name, value) in lines.iter().flat_map(|line| line.as_object().unwrap()) {
        let is_number = value.as_str().is_some_and(|text| text.parse::<f64>().is_ok());
        assert!(!is_number, "{name} is text: {value}");
    }
}

#[tokio::test]
async fn a_certificate_that_ends_before_the_tokens_it_signs_is_warned_of() {
    let (folder, key) = (tempfile::tempdir().unwrap(), rcgen::KeyPair::generate().unwrap());
    // As a renewal does it: the service must not see half a file.
    let write = |name: &str, content: &str| {
        let aside = folder.path().join("aside");
        std::io::Write::write_all(&mut std::fs::File::create(&aside).unwrap(), content.as_bytes()).unwrap();
        std::fs::rename(aside, folder.path().join(name)).unwrap();
    };
    let issue = |lasts: Duration| {
        let mut certificate = rcgen::CertificateParams::new(vec!["status.example".to_owned()]).unwrap();
        let now = Duration::from_secs(statuslist::base::clock::Clock::System.now().date().secs());
        certificate.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + lasts;
        write("chain.pem", &certificate.self_signed(&key).unwrap().pem());
    };
    let logged = |message: &str| -> Vec<Value> {
        let log = std::fs::read_to_string(log_path(folder.path())).unwrap();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect()
    };
    const WARNING: &str = "the certificate ends before the tokens it signs; renew it";
    let settings = format!(
        "log: {{ format: json }}\nstatus-list-pools: {{ p: {{ api-key: {KEY}, list-lifetime: 24h, \
         signer: {{ pem: {{ key: signer.pem, chain: chain.pem }} }} }} }}"
    );
    let port = free_port();
    let start = || Process::start(command(folder.path(), port, &settings), folder.path(), port);
    write("signer.pem", &key.serialize_pem());

    issue(Duration::from_secs(48 * 3600));
    let service = start();
    eventually("the start", async || (!logged("ready").is_empty()).then_some(())).await;
    assert!(logged(WARNING).is_empty(), "the control: the certificate ends a day after the tokens");

    issue(Duration::from_secs(3600));
    let warning = eventually("the warning of a reload", async || logged(WARNING).pop()).await;
    assert_eq!((&warning["level"], &warning["pool"]), (&json!("WARN"), &json!("p")), "{warning}");
    let left_secs = warning["left_secs"].as_u64().unwrap();
    assert!((3000..=3600).contains(&left_secs), "{warning}");

    drop(service);
    let before = logged(WARNING).len();
    let _service = start();
    eventually("the warning of a start", async || (logged(WARNING).len() > before).then_some(())).await;
}

/// A collector that stores what it receives.
#[cfg(feature = "otlp")]
#[tokio::test]
async fn spans_go_to_the_collector_as_a_part_of_the_callers_trace() {
    use std::io::{Read, Write};

    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let (sender, received) = std::sync::mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        for connection in collector.incoming() {
            let mut connection = connection.unwrap();
            connection.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let (mut all, mut part) = (Vec::new(), [0_u8; 4096]);
            while let Ok(read @ 1..) = connection.read(&mut part) {
                all.extend_from_slice(&part[..read]);
            }
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            if sender.send(all).is_err() {
                break;
            }
        }
    });
    let (folder, client, port) = (tempfile::tempdir().unwrap(), Client::new(), free_port());
    let settings = settings(&format!("tracing: {{ otlp-endpoint: \"{endpoint}\" }}"));
    let mut command = command(folder.path(), port, &settings);
    command.env("STATUSLIST_LOG", "statuslist=debug");
    let service = Process::start(command, folder.path(), port);
    let trace =
        [0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36];
    let id: String = trace.iter().map(|byte| format!("{byte:02x}")).collect();
    let request = client.get(format!("{}/pools/p", service.url)).header("X-Api-Key", KEY);
    request.header("traceparent", format!("00-{id}-00f067aa0ba902b7-01")).send().await.unwrap();
    let has = |sent: &[u8], part: &[u8]| sent.windows(part.len()).any(|window| window == part);
    eventually("the span", async || {
        let sent = received.try_recv().ok()?;
        (has(&sent, b"POST /v1/traces") && has(&sent, b"/pools/{pool}") && has(&sent, &trace)).then_some(())
    })
    .await;
}
