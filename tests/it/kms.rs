//! Signing with keys in the key management service of AWS, as moto models it: `tests/interop/kms.py`, in a process of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, KeyPair};
use reqwest::StatusCode;
use serde::Deserialize;
use statuslist::base::clock::Clock;

use super::interop::{about, run, updated};
use super::key_service::{
    KEY, python, ran, settings, start, status, status_of, until_counted, until_published,
};
use super::reload::write;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::process::{self, free_port, log_path, signal};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/kms.py");

/// A running service; killed when dropped.
struct Kms {
    server: Child,
    port: u16,
    access: Access,
}

/// Who may sign there, and the ARN of each key.
#[derive(Deserialize)]
struct Access {
    id: String,
    secret: String,
    keys: Vec<String>,
}

impl Kms {
    /// Starts with a key of each of these kinds. `alias/status` is the first one.
    fn start(kinds: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new(python());
        let command = command.arg(SERVER).arg(port.to_string()).args(kinds);
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { server, port, access: serde_json::from_str(&line).unwrap() }
    }

    /// The setting for a key. The credentials come from elsewhere.
    fn key(&self, key: &str, more: &str) -> String {
        let port = self.port;
        format!(
            "aws-kms: {{ key: '{key}', region: eu-central-1, endpoint: 'http://127.0.0.1:{port}', {more} }}"
        )
    }

    /// The same with the right credentials.
    fn signer(&self, key: &str, more: &str) -> String {
        let Access { id, secret, .. } = &self.access;
        self.key(key, &format!("access-key-id: {id}, secret-access-key: '{secret}', {more}"))
    }
}

impl Drop for Kms {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test]
async fn independent_libraries_accept_what_kms_signs() {
    let kinds = ["ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"];
    let kms = Kms::start(&kinds);
    for (key, kind) in kms.access.keys.iter().zip(kinds) {
        let signer = kms.signer(key, "");
        let pool =
            format!("update-interval: 1s, list-lifetime: 1h, formats: [jwt, cwt], signer: {{ {signer} }}");
        let app = TestApp::start_in(tempfile::tempdir().unwrap(), &pool, Clock::System);
        let about = about(&updated(&app, 1).await, 1);
        run(&app, "cose_verify.py", &about).await;
        // It has no P-521.
        if kind != "ECC_NIST_P521" {
            run(&app, "openvc_verify.py", &about).await;
        }
    }
}

#[test]
fn kms_signs_only_for_the_right_credentials_and_only_with_the_key_of_the_chain() {
    let kms = Kms::start(&["ECC_NIST_P256", "RSA_2048"]);
    let folder = tempfile::tempdir().unwrap();
    let (folder, port) = (folder.path(), free_port());
    let certificate = CertificateParams::new(vec!["status.example".into()]).unwrap();
    let stranger = certificate.self_signed(&KeyPair::generate().unwrap()).unwrap();
    write(&folder.join("chain.pem"), &stranger.pem());
    let publish = |signer: &str, id: &str, secret: &str| {
        let mut command = process::command(folder, port, &settings(&format!("signer: {{ {signer} }}")));
        let command = command.args(["publish", "--once"]).env("AWS_ACCESS_KEY_ID", id);
        let (succeeded, said) = ran(command.env("AWS_SECRET_ACCESS_KEY", secret));
        assert!(!said.contains(secret), "{said}");
        (succeeded, said)
    };
    let Access { id, secret, keys } = &kms.access;
    let of_environment = kms.key("alias/status", "");
    let (succeeded, said) = publish(&of_environment, id, secret);
    assert!(succeeded && said.contains("published"), "{said}");
    for (signer, secret, why) in [
        (of_environment, "another-secret", "answered 403 Forbidden"),
        (kms.key("alias/none", ""), secret.as_str(), "(NotFoundException: Alias"),
        (kms.key(&keys[1], ""), secret, "a key that signs with [RSASSA_PKCS1_V1_5_SHA_256"),
        (
            kms.key("alias/status", &format!("chain: {}", folder.join("chain.pem").display())),
            secret,
            "the first certificate of the chain is not for this key",
        ),
    ] {
        let (succeeded, said) = publish(&signer, id, secret);
        assert!(!succeeded && said.contains(why) && said.contains("(aws-kms)"), "{why}: {said}");
    }
}

#[tokio::test]
async fn while_kms_hangs_updates_go_on_and_are_published_when_it_is_back() {
    let kms = Kms::start(&["ECC_NIST_P256"]);
    let signer = kms.signer("alias/status", "timeout: 200ms");
    let live = start(tempfile::tempdir().unwrap(), &settings(&format!("signer: {{ {signer} }}")));
    let reference = live.reference(KEY).await;
    signal("-STOP", kms.server.id());
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    until_counted(&live, "statuslist_publish_failed_total{pool=\"p\"}").await;
    let stale =
        async || (status(&live, "/health/fresh").await == StatusCode::SERVICE_UNAVAILABLE).then_some(());
    eventually("the freshness says so", stale).await;
    assert_eq!(status(&live, "/health/ready").await, StatusCode::OK, "it takes requests");
    assert_eq!(live.update(KEY, &live.reference(KEY).await, 1).await, StatusCode::NO_CONTENT);
    assert_eq!(status_of(&live, &reference), 0, "the old token stays");
    let log = std::fs::read_to_string(log_path(live.folder())).unwrap();
    assert!(log.contains("gave no answer within 200ms") && !log.contains(&kms.access.secret), "{log}");
    signal("-CONT", kms.server.id());
    until_published(&live, &reference, 1).await;
}
