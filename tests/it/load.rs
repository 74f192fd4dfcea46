//! The load suite in a short form: each scenario against service, Redis and nginx, with its checks and thresholds. Its limits
//! for times are wide here, because other tests run at the same time: `k6/` by itself has the real ones.

use std::path::Path;
use std::process::Output;

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
            .env("STATUSLIST__STATUS_LIST_POOLS__DEMO__UPDATE_INTERVAL", "1s");
        let service = Process::start(command, folder.path(), port);
        let storage = folder.path().join("public");
        let nginx = Nginx::start(&Settings::new(&storage));
        Self { nginx, service, _redis: redis, folder }
    }

    fn run(&self, script: &str, key: &str, more: &[(&str, &str)]) -> Output {
        let site = format!("http://{}/lists", self.nginx.public);
        let settings = [("API", self.service.url.as_str()), ("SITE", &site), ("API_KEY", key), ("BEAT", "1")];
        let wide = [("P99", "10000"), ("FRESH_WITHIN", "20"), ("DROPPED", "1")];
        let environment: Vec<_> = settings.iter().chain(&wide).chain(more).copied().collect();
        k6::run(&Path::new("k6").join(script), self.folder.path(), &environment)
    }

    fn passes(&self, script: &str, more: &[(&str, &str)]) {
        let output = self.run(script, "test", more);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{script}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("met ") && !said.contains("MISSED"), "{script}: {said}");
    }
}

const SHORT: [(&str, &str); 2] = [("VUS", "5"), ("DURATION", "3s")];

#[test]
fn every_scenario_passes() {
    let deployment = Deployment::start("append-fsync-always.delay.yaml");
    for script in [
        "fetch-status-list.js",
        "update-status.js",
        "fetch-reference-unlimited.js",
        "ramp.js",
        "lifecycle.js",
    ] {
        deployment.passes(script, &SHORT);
    }
    for script in ["fetch-reference-basic.js", "fetch-reference-bulk.js"] {
        deployment.passes(script, &[SHORT.as_slice(), &[("RATE", "50")]].concat());
    }
    let rates = [
        ("DURATION", "4s"),
        ("FETCHES", "100"),
        ("UPDATES", "50"),
        ("MOST_FETCHES", "200"),
        ("MOST_UPDATES", "100"),
    ];
    let output = deployment.run("fetch-vs-update.js", "test", &rates);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("99th percentile of fetches"), "{said}");
}

/// A scenario that cannot fail would show nothing.
#[test]
fn with_a_wrong_key_no_scenario_passes() {
    let deployment = Deployment::start("append-fsync-always.fail.yaml");
    for script in ["fetch-reference-unlimited.js", "update-status.js", "lifecycle.js"] {
        let output = deployment.run(script, "not the key", &SHORT);
        assert!(!output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stdout));
    }
    deployment.passes("fetch-reference-unlimited.js", &SHORT);
}
