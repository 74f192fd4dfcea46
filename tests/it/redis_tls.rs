//! Redis over TLS: the service uses a server whose certificate it trusts, and no other.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use reqwest::StatusCode;

use crate::support::app::KEY;
use crate::support::process::{Process, command, free_port};
use crate::support::redis::RedisServer;

pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "Authority of the store");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn file(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
    path
}

/// A server that takes no connection without TLS from anybody but the test's own tools, and its TLS port.
fn redis(folder: &Path, authority: &CertifiedIssuer<'static, KeyPair>) -> (RedisServer, u16) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let certificate = file(folder, "redis.pem", &certificate.pem());
    let key = file(folder, "redis.key", &key.serialize_pem());
    let authority = file(folder, "authority.pem", &authority.pem());
    let port = free_port();
    let server = RedisServer::start_with(&[
        ("tls-port", &port.to_string()),
        ("tls-cert-file", certificate.to_str().unwrap()),
        ("tls-key-file", key.to_str().unwrap()),
        ("tls-ca-cert-file", authority.to_str().unwrap()),
        ("tls-auth-clients", "no"),
    ]);
    (server, port)
}

/// The service, with these settings of Redis and this file of trusted authorities.
fn service(folder: &Path, port: u16, redis: &str, trusted: &Path) -> Command {
    let settings = format!(
        "storage-type: redis\nredis: {{ {redis} }}\nstatus-list-pools: {{ p: {{ api-key: {KEY}, size: 800, update-interval: 1s }} }}"
    );
    let mut command = command(folder, port, &settings);
    command.env("SSL_CERT_FILE", trusted);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_with_tls_is_used_if_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let (_server, tls) = redis(folder.path(), &authority);
    let trusted = folder.path().join("authority.pem");
    for redis in [
        format!("host: localhost, port: {tls}, tls: true"),
        format!("url: 'rediss://localhost:{tls}/0', key-prefix: by-url"),
    ] {
        let port = free_port();
        let process = Process::start(service(folder.path(), port, &redis, &trusted), folder.path(), port);
        let client = reqwest::Client::builder().timeout(Duration::from_secs(15)).build().unwrap();
        let request = client.post(format!("{}/pools/p/new-references", process.url)).header("X-Api-Key", KEY);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "{redis}");
    }
}

#[test]
fn a_redis_with_a_certificate_that_is_not_trusted_or_of_another_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (authority(), authority());
    let (server, tls) = redis(folder.path(), &ours);
    let trusted = folder.path().join("authority.pem");
    let foreign = file(folder.path(), "foreign.pem", &other.pem());
    // Each waits a while for a Redis that may still be starting.
    std::thread::scope(|scope| {
        for (what, redis, trusted) in [
            ("of another authority", format!("host: localhost, port: {tls}, tls: true"), &foreign),
            ("of another name", format!("host: 127.0.0.1, port: {tls}, tls: true"), &trusted),
            ("none", format!("host: localhost, port: {}, tls: true", server.port), &trusted),
        ] {
            scope.spawn(move || {
                let own = tempfile::tempdir().unwrap();
                let mut refused = service(own.path(), free_port(), &redis, trusted);
                let ended = refused.stdin(Stdio::null()).output().unwrap();
                let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                assert!(!ended.status.success() && said.contains("Redis"), "{what}: {said}");
            });
        }
    });
}
