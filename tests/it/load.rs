//! The load suite in a short form: each scenario against service, Redis and nginx, with its checks and thresholds. Its time
//! limits are wide here, because other tests run at the same time: `k6/` by itself has the real ones.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use statuslist::base::clock::Clock;
use tempfile::TempDir;

use crate::support::k6;
use crate::support::nginx::{Nginx, Settings};
use crate::support::process::{Process, command, free_port};
use crate::support::redis::RedisServer;

/// A service with shipped settings, its Redis, and nginx in front.
struct Deployment {
    nginx: Nginx,
    service: Process,
    _redis: RedisServer,
    folder: TempDir,
}

impl Deployment {
    fn start(settings: &str) -> Self {
        let (folder, redis, port) = (tempfile::tempdir().unwrap(), RedisServer::start(), free_port());
        let text = std::fs::read_to_string(Path::new("config").join(settings)).unwrap();
        let mut command = command(folder.path(), port, &text);
        command
            .env("STATUSLIST__REDIS__HOST", "127.0.0.1")
            .env("STATUSLIST__REDIS__PORT", redis.port.to_string())
            .env("STATUSLIST__STATUS_LIST_POOLS__TESTS__UPDATE_INTERVAL", "1s");
        let service = Process::start(command, folder.path(), port);
        let storage = folder.path().join("public");
        let nginx = Nginx::start(&Settings::new(&storage));
        Self { nginx, service, _redis: redis, folder }
    }

    fn run(&self, script: &str, key: &str, more: &[(&str, &str)]) -> Output {
        self.run_in(self.folder.path(), script, key, more)
    }

    /// Runs a script with its summary in a separate folder, for runs that overlap.
    fn run_in(&self, folder: &Path, script: &str, key: &str, more: &[(&str, &str)]) -> Output {
        let site = format!("http://{}/lists", self.nginx.public);
        let api = self.service.url.as_str();
        let settings = [("API", api), ("SITE", &site), ("POOL", "tests"), ("API_KEY", key), ("BEAT", "1")];
        let wide = [("P99", "10000"), ("FRESH_WITHIN", "20"), ("DROPPED", "1")];
        let environment: Vec<_> = settings.iter().chain(&wide).chain(more).copied().collect();
        k6::run(&Path::new("k6").join(script), folder, &environment)
    }

    /// The number of requests of the last run.
    fn requests(&self) -> f64 {
        summary(self.folder.path())["metrics"]["http_reqs"]["values"]["count"].as_f64().unwrap()
    }

    fn passes(&self, script: &str, more: &[(&str, &str)]) -> String {
        passed(script, &self.run(script, "test", more))
    }
}

/// Returns the output of a run, which must have met all thresholds.
fn passed(script: &str, output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{script}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("met ") && !said.contains("MISSED"), "{script}: {said}");
    said.into_owned()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

const SHORT: [(&str, &str); 2] = [("VUS", "5"), ("DURATION", "3s")];
const RATES: [(&str, &str); 4] =
    [("FETCHES", "100"), ("UPDATES", "50"), ("MOST_FETCHES", "200"), ("MOST_UPDATES", "100")];

#[test]
fn every_scenario_passes() {
    let deployment = Deployment::start("append-fsync-always.delay.yaml");
    for script in ["fetch-status-list.js", "update-status.js", "fetch-reference-unlimited.js", "ramp.js"] {
        deployment.passes(script, &SHORT);
    }
    let said = deployment.passes("lifecycle.js", &SHORT);
    for step in ["allocate", "update", "wait for publication", "fetch", "verify"] {
        assert!(said.contains(&format!("met     checks{{step:{step}}}: rate==1")), "{step}: {said}");
    }
    for (script, clients, wait) in
        [("fetch-reference-basic.js", 12.0, 0.01), ("fetch-reference-bulk.js", 10.0, 0.25)]
    {
        deployment.passes(script, &[("DURATION", "3s")]);
        let (requests, most) = (deployment.requests(), clients * (3.0 / wait));
        assert!(clients < requests && requests <= most, "{script}: {requests} requests, at most {most}");
    }
    let said = deployment.passes("fetch-vs-update.js", &[&RATES[..], &[("DURATION", "4s")]].concat());
    assert!(
        said.contains("99th percentile of fetches") && said.contains("99th percentile of updates"),
        "{said}"
    );
}

/// As `bench/run` does it: one k6 for each side, started together.
#[test]
fn two_do_what_one_does_for_both_sides() {
    let deployment = Deployment::start("append-fsync-always.delay.yaml");
    // Until both have created their clients, beside other tests.
    let start = (Clock::System.now().date().secs() + 30).to_string();
    let run = |side: &str| {
        let folder = deployment.folder.path().join(side);
        std::fs::create_dir(&folder).unwrap();
        let more =
            [&RATES[..], &[("DURATION", "2s"), ("VUS", "20"), ("START", &start), ("SIDE", side)]].concat();
        let said = passed(side, &deployment.run_in(&folder, "fetch-vs-update.js", "test", &more));
        (said, summary(&folder))
    };
    let [(fetching, fetched), (updating, updated)] = std::thread::scope(|scope| {
        ["fetch", "update"].map(|side| scope.spawn(move || run(side))).map(|side| side.join().unwrap())
    });
    assert!(
        fetching.contains("99th percentile of fetches") && !fetching.contains("of updates"),
        "{fetching}"
    );
    assert!(
        updating.contains("99th percentile of updates") && !updating.contains("of fetches"),
        "{updating}"
    );
    let sides =
        |summary: &Value| summary["interference"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(sides(&fetched), ["allowed", "fetch"]);
    assert_eq!(sides(&updated), ["update"]);
    // Only the updating side looks for its changes, and only it starts with more than one request.
    let count = |summary: &Value, metric: &str| summary["metrics"][metric]["values"]["count"].as_f64();
    assert_eq!(count(&fetched, "iterations").map(|done| done + 1.0), count(&fetched, "http_reqs"));
    assert!(updated["metrics"]["freshness"].is_object() && fetched["metrics"]["freshness"].is_null());
}

/// Two sides out of step would compare nothing.
#[test]
fn a_side_that_is_unknown_or_too_late_ends_with_an_error() {
    let deployment = Deployment::start("append-fsync-always.delay.yaml");
    for (setting, value, complaint) in [
        ("SIDE", "updates", "SIDE is one of both, fetch, update, not updates"),
        ("START", "1", "not synchronous with the other side"),
    ] {
        let output = deployment.run(
            "fetch-vs-update.js",
            "test",
            &[("DURATION", "1s"), ("VUS", "1"), (setting, value)],
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(complaint), "{said}");
    }
}

/// A scenario that cannot fail would prove nothing.
#[test]
fn with_a_wrong_key_no_scenario_passes() {
    let deployment = Deployment::start("append-fsync-always.fail.yaml");
    for script in ["fetch-reference-unlimited.js", "update-status.js", "lifecycle.js"] {
        let output = deployment.run(script, "not the key", &SHORT);
        assert!(!output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stdout));
    }
    deployment.passes("fetch-reference-unlimited.js", &SHORT);
}

/// Nor would a scenario whose limits cannot be missed.
#[test]
fn late_and_missing_requests_miss_their_thresholds() {
    let deployment = Deployment::start("append-fsync-always.delay.yaml");
    let misses = |script: &str, more: &[(&str, &str)], limit: &str| {
        let output = deployment.run(script, "test", more);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(&format!("MISSED  {limit}")), "{script}: {said}");
    };
    // Each client looks at the earliest half a second after its update.
    misses("lifecycle.js", &[SHORT.as_slice(), &[("FRESH_WITHIN", "0")]].concat(), "freshness");
    // Nobody waits for the publication.
    let impatient = [SHORT.as_slice(), &[("FRESH_WITHIN", "-6")]].concat();
    misses("lifecycle.js", &impatient, "checks{step:wait for publication}");
    // More than k6 has clients for.
    let too_many = [("DURATION", "1s"), ("FETCHES", "100000"), ("DROPPED", "0.01")];
    misses("fetch-vs-update.js", &too_many, "dropped_iterations{scenario:alone_fetch}");
}
