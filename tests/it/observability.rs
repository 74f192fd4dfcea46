//! What is shipped for watching the service (`deploy/observability`): the rules fire when docs/OPERATIONS.md says so, and the rules and
//! the dashboard find their data in a real Prometheus that scrapes a real service under load; so does the dashboard of `k6/`, to which
//! a real k6 writes. The dashboards of that run, drawn, are in `target/observability/`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::app::Reference;
use crate::support::k6;
use crate::support::process::{PROGRAM, Process, command, free_port, test_tool};
use crate::support::prometheus::{Prometheus, Scraped, shipped};
use crate::support::{eventually, tries};

const KEY: &str = "the key of this test";

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// An alert of `rules.yml`.
struct Alert {
    name: String,
    expression: String,
    annotations: Value,
    severity: String,
}

fn alerts() -> Vec<Alert> {
    let rules: Value = serde_saphyr::from_str(&read(shipped("rules.yml"))).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alert = |rule: &Value| Alert {
        name: text(&rule["alert"]),
        expression: text(&rule["expr"]),
        annotations: rule["annotations"].clone(),
        severity: text(&rule["labels"]["severity"]),
    };
    rules.map(alert).collect()
}

/// The metrics that a query names, each with its selector if it has one.
fn selectors(query: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    let mut rest = query;
    while let Some(begin) = rest.find(is_name) {
        rest = &rest[begin..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        let selector = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        if ["statuslist_", "process_"].iter().any(|ours| name.starts_with(ours)) || name == "up" {
            found.insert(selector.map_or(name.to_owned(), |(labels, _)| format!("{name}{{{labels}}}")));
        }
        // Names in a selector are of labels.
        rest = selector.map_or(&rest[end..], |(_, rest)| rest);
    }
    found
}

fn check(program: &str, arguments: &[&str]) {
    let mut command = Command::new(test_tool(&format!("bin/{program}")));
    let output = command.current_dir(shipped("")).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{program} {arguments:?}\n{}", String::from_utf8_lossy(&said));
}

#[test]
fn rules_fire_and_do_not_fire() {
    check("promtool", &["check", "rules", "rules.yml"]);
    check("promtool", &["test", "rules", "rules.test.yml"]);
    let tests = read(shipped("rules.test.yml"));
    for Alert { name, annotations, severity, .. } in alerts() {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "no test in which {name} fires");
        for annotation in ["summary", "description", "runbook_url"] {
            assert!(annotations[annotation].is_string(), "{name} has no {annotation}");
        }
        assert!(["page", "ticket"].contains(&severity.as_str()), "{name} is a {severity}");
    }
}

#[test]
fn samples_are_valid() {
    check("promtool", &["check", "config", "prometheus.yml"]);
    check("amtool", &["check-config", "alertmanager.yml"]);
    let named = |text: &str, before: &str| -> BTreeSet<String> {
        let found = text.split(before).skip(1);
        found.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned()).collect()
    };
    let known: BTreeSet<_> = alerts().into_iter().map(|alert| alert.name).collect();
    let silenced = named(&read(shipped("alertmanager.yml")), "Statuslist");
    let unknown: Vec<_> =
        silenced.iter().filter(|name| !known.contains(&format!("Statuslist{name}"))).collect();
    assert!(!silenced.is_empty() && unknown.is_empty(), "alertmanager.yml names {unknown:?}");
}

/// The names of alerts in a text.
pub(crate) fn alerts_in(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let names = quoted.filter(|quoted| {
        quoted.starts_with("Statuslist") && quoted.chars().all(|c| c.is_ascii_alphanumeric())
    });
    names.map(str::to_owned).collect()
}

/// The anchor of a heading, as on GitHub.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn the_operators_page_and_the_rules_name_the_same_alarms() {
    let (page, alerts) = (read("docs/OPERATIONS.md"), alerts());
    let known: BTreeSet<_> = alerts.iter().map(|alert| alert.name.clone()).collect();
    assert_eq!(alerts_in(&page), known);

    let sections: Vec<_> =
        page.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
    let section = |wanted: &str| {
        let found = sections.iter().find(|(heading, _)| anchor(heading) == wanted);
        found.unwrap_or_else(|| panic!("docs/OPERATIONS.md has no section #{wanted}")).1
    };
    for Alert { name, annotations, .. } in &alerts {
        let runbook = annotations["runbook_url"].as_str().unwrap();
        let anchor = runbook.strip_prefix("https://runbook.example/OPERATIONS.md#");
        let section = section(anchor.unwrap_or_else(|| panic!("{name} has the runbook {runbook}")));
        assert!(alerts_in(section).contains(name), "the section of {runbook} does not name {name}");
    }
    for row in section("at-night").lines().filter(|line| line.starts_with("| ")).skip(1) {
        assert!(!alerts_in(row).is_empty(), "no alert for this row: {row}");
    }
    // A metric whose row says when to alarm is in the expression of the alert that the row names, and no other metric's row names one.
    for row in section("metrics").lines().filter(|line| line.starts_with("| `")) {
        let metric = row.split('`').nth(1).unwrap();
        let named = alerts_in(row);
        assert_eq!(row.contains("larm"), !named.is_empty(), "{row}");
        for name in named {
            let alert = alerts.iter().find(|alert| alert.name == name).unwrap();
            assert!(alert.expression.contains(metric), "{name} does not look at {metric}");
        }
    }
}

/// A service of which every metric has a value: with a bucket, a quota, a certificate, and an API key that ends.
async fn service(folder: &Path) -> Process {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut certificate = rcgen::CertificateParams::new(vec!["status.example".to_owned()]).unwrap();
    certificate.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let chain = certificate.self_signed(&key).unwrap().pem();
    for (name, content) in [("signer.pem", key.serialize_pem()), ("chain.pem", chain)] {
        fs::File::create(folder.join(name)).unwrap().write_all(content.as_bytes()).unwrap();
    }
    let pool = format!(
        "status-list-pools: {{ p: {{ api-keys: [{{ key: {KEY}, name: a, not-after: 2100-01-01T00:00:00Z }}], \
         update-interval: 1s, open-lists: 1, quotas: {{ references-per-day: 1000000 }}, \
         signer: {{ pem: {{ key: signer.pem, chain: chain.pem }} }} }} }}\n"
    );
    let port = free_port();
    // New lists wait for the bucket, which never answers, so the lists come first.
    let first = Process::start(command(folder, port, &pool), folder, port);
    let client = Client::new();
    eventually("references", async || {
        let request = client.post(format!("{}/pools/p/new-references", first.url)).header("X-Api-Key", KEY);
        (request.send().await.unwrap().status() == StatusCode::OK).then_some(())
    })
    .await;
    drop(first);
    let bucket = format!(
        "publish: {{ sinks: [ {{ s3: {{ bucket: b, endpoint: \"http://127.0.0.1:{}\", allow-http: true, \
         access-key-id: a, secret-access-key: s }} }} ] }}\n",
        free_port()
    );
    Process::start(command(folder, port, &(bucket + &pool)), folder, port)
}

/// `statuslist probe` of the service, with a canary; killed when dropped.
struct Probe {
    process: Child,
    address: String,
}

impl Probe {
    fn start(service: &str) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(PROGRAM);
        command.args(["probe", "--aggregation", &format!("{service}/lists/aggregation/p")]);
        command.args([
            "--trust",
            &format!("{service}/lists/jwks.json"),
            "--listen",
            &address,
            "--every",
            "1s",
        ]);
        command.args(["--canary", "p", "--canary-every", "5s", "--url", service, "--api-key", KEY]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, address }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Allocates and revokes for so long.
async fn load(url: &str, time: Duration) {
    let (client, begun) = (Client::new(), Instant::now());
    while begun.elapsed() < time {
        let answer = client.post(format!("{url}/pools/p/new-references?amount=5")).header("X-Api-Key", KEY);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let references: Vec<Reference> = serde_json::from_value(body["references"].clone()).unwrap();
        for Reference { uri, index } in references {
            let body = json!({ "uri": uri, "index": index, "value": 1 }).to_string();
            let update = client.patch(format!("{url}/status-lists/update")).header("X-Api-Key", KEY);
            let update = update.header("Content-Type", "application/json").body(body).send().await.unwrap();
            assert_eq!(update.status(), StatusCode::NO_CONTENT);
        }
        // The load of one issuer, not as much as possible.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Some users of k6, which writes its series to Prometheus as `bench/run --prometheus` makes it.
fn load_by_k6(service: &str, prometheus: &str, folder: &Path) {
    let settings = [("API", service), ("POOL", "p"), ("API_KEY", KEY), ("BEAT", "1")];
    let short = [("VUS", "3"), ("DURATION", "4s"), ("P99", "10000")];
    let mut command = k6::command(Path::new("k6/ramp.js"), folder, &[&settings[..], &short].concat());
    command.args(["--out", "experimental-prometheus-rw"]);
    for (name, value) in [
        ("SERVER_URL", format!("{prometheus}/api/v1/write")),
        ("TREND_STATS", "p(50),p(90),p(99),max".to_owned()),
        ("PUSH_INTERVAL", "1s".to_owned()),
    ] {
        command.env(format!("K6_PROMETHEUS_RW_{name}"), value);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const DASHBOARDS: [&str; 2] = ["deploy/observability/dashboard.json", "k6/dashboard.json"];

/// The title and the expression of each query of a dashboard, for all values of its variables.
fn queries(dashboard: &str) -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read(dashboard)).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let variables: Vec<_> = variables.map(|variable| variable["name"].as_str().unwrap()).collect();
    let any = |expression: &str| {
        let expression = expression.replace("$__rate_interval", "4s");
        variables.iter().fold(expression, |query, variable| query.replace(&format!("${variable}"), ".*"))
    };
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let queries = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| {
            (panel["title"].as_str().unwrap().to_owned(), any(target["expr"].as_str().unwrap()))
        })
    });
    queries.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_dashboards_find_their_data() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path()).await;
    let probe = Probe::start(&service.url);
    let address = service.url.strip_prefix("http://").unwrap();
    let scraped = Scraped { services: &[address.to_owned()], probe: &probe.address, every: "1s" };
    let prometheus = Prometheus::start(folder.path(), &scraped, &read(shipped("rules.yml"))).await;
    let (url, written, home) = (service.url.clone(), prometheus.url.clone(), folder.path().to_owned());
    let by_k6 = tokio::task::spawn_blocking(move || load_by_k6(&url, &written, &home));
    // Longer makes a better picture.
    let seconds = tries("OBSERVED_SECONDS", 12);
    load(&service.url, Duration::from_secs(seconds)).await;
    // On a busy machine k6 takes longer, and queries look back only so far.
    while !by_k6.is_finished() {
        load(&service.url, Duration::from_secs(1)).await;
    }
    by_k6.await.unwrap();

    let mut missing = BTreeSet::new();
    for Alert { name, expression, .. } in alerts() {
        prometheus.ask("query", &[("query", &expression)]).await;
        for selector in selectors(&expression) {
            if !prometheus.has(&selector, seconds).await {
                missing.insert(format!("{name}: {selector}"));
            }
        }
    }
    for (dashboard, least) in DASHBOARDS.iter().zip([30, 10]) {
        let queries = queries(dashboard);
        assert!(queries.len() > least, "{dashboard}: {queries:?}");
        for (title, query) in queries {
            if !prometheus.has(&query, seconds).await {
                missing.insert(format!("{title}: {query}"));
            }
        }
    }
    assert!(missing.is_empty(), "no data: {missing:#?}");
    let firing = prometheus.ask("query", &[("query", "ALERTS{alertstate=\"firing\"}")]).await;
    let firing = firing["result"].as_array().unwrap().iter();
    let firing = firing.map(|alert| &alert["metric"]["alertname"]);
    // Its bucket never answers, which is an alarm after a minute.
    let firing: Vec<_> = firing.filter(|name| *name != "StatuslistBucketLate").collect();
    assert_eq!(firing, Vec::<&Value>::new(), "the service is well");
    // The control: a query for what does not exist has no data.
    assert!(!prometheus.has("statuslist_no_such_metric", seconds).await);

    draw(&prometheus.url, seconds);
}

/// Draws the dashboards.
fn draw(prometheus: &str, seconds: u64) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let builds = Path::new(PROGRAM).ancestors().nth(2).unwrap();
    for (dashboard, name) in DASHBOARDS.iter().zip(["dashboard.svg", "load.svg"]) {
        let output = builds.join("observability").join(name);
        let drawn = Command::new("python3")
            .arg(root.join("bench/dashboard"))
            .args(["--prometheus", prometheus, "--seconds", &seconds.to_string()])
            .arg("--dashboard")
            .arg(root.join(dashboard))
            .arg(&output)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
        let picture = fs::read_to_string(output).unwrap();
        assert!(picture.contains("<polyline") && !picture.contains("no data"), "{} bytes", picture.len());
    }
}

#[test]
fn selectors_of_a_query_are_found() {
    let found = selectors(
        "sum by (pool) (rate(statuslist_a_total{pool=~\"x\", code!=\"5\"}[5m])) / up > process_b * 3",
    );
    let expected = ["process_b", "statuslist_a_total{pool=~\"x\", code!=\"5\"}", "up"];
    assert_eq!(found, expected.map(str::to_owned).into());
}
