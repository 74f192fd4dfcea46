//! The certificate chain of a signing key: a chain that no verifier accepts is refused with the reason. A chain that ends while
//! the service runs is reported by the log, the metrics and `/health/ready`, until it is renewed.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use reqwest::StatusCode;
use statuslist::app::App;
use statuslist::base::clock::{Clock, Timestamp};
use statuslist::status_list::jwt;
use tempfile::TempDir;

use crate::reload::{Live, write};
use crate::support::app::settings_in;
use crate::support::authority::now;
use crate::support::eventually;
use crate::support::process::{self, Process, free_port, log_path};

/// 2026-07-01.
const NOW: u64 = 1_782_864_000;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
    params
}

fn authority_with(mut params: CertificateParams, above: Option<&Authority>) -> Authority {
    if params.is_ca == IsCa::NoCa {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = match above {
        Some(above) => params.signed_by(&key, &above.issuer),
        None => params.self_signed(&key),
    };
    Authority { pem: certificate.unwrap().pem(), issuer: Issuer::new(params, key) }
}

fn authority(name: &str, above: Option<&Authority>) -> Authority {
    let mut params = params(name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority_with(params, above)
}

/// Writes `key.pem` and `chain.pem`. Returns settings of a pool that signs with them.
fn written(folder: &Path, key: &KeyPair, chain: &str) -> String {
    write(&folder.join("key.pem"), &key.serialize_pem());
    write(&folder.join("chain.pem"), chain);
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        "status-list-pools: {{ p: {{ api-key: one, size: 1000, update-interval: 1s, signer: {{ pem: {{ key: {}, chain: {} }} }} }} }}",
        path("key.pem"),
        path("chain.pem")
    )
}

async fn started(key: &KeyPair, chain: &str) -> Result<App, String> {
    let folder = tempfile::tempdir().unwrap();
    let settings = written(folder.path(), key, chain);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = settings_in(folder.path(), "https://status.example", &settings);
    let clock = Clock::set_to(Timestamp::from_secs(NOW));
    App::build_on(listener, config, clock).await.map_err(|error| format!("{error:#}"))
}

#[tokio::test]
async fn chains_that_no_verifier_accepts_are_refused_at_the_start() {
    let root = authority("root", None);
    let between = authority("between", Some(&root));
    let key = KeyPair::generate().unwrap();
    let issued = |issuer: &Authority, adjust: fn(&mut CertificateParams)| {
        let mut params = params("signer");
        adjust(&mut params);
        params.signed_by(&key, &issuer.issuer).unwrap().pem()
    };
    let own = |adjust: fn(&mut CertificateParams)| {
        let mut params = params("signer");
        adjust(&mut params);
        params.self_signed(&key).unwrap().pem()
    };
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2026, 6, 30);
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(2026, 7, 2);
    let wrong_usage =
        |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    let right_usage = |params: &mut CertificateParams| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    };
    let plain = |_: &mut CertificateParams| ();
    let (of_root, of_between) = (issued(&root, plain), issued(&between, plain));
    let whole = format!("{of_between}{}{}", between.pem, root.pem);

    let mut ended = params("ended");
    ended.not_after = date_time_ymd(2026, 6, 30);
    let ended = authority_with(ended, Some(&root));
    let mut no_sign = params("no-cert-sign");
    no_sign.key_usages = vec![KeyUsagePurpose::CrlSign];
    let no_sign = authority_with(no_sign, Some(&root));
    let mut no_authority = params("no-authority");
    no_authority.is_ca = IsCa::ExplicitNoCa;
    let no_authority = authority_with(no_authority, Some(&root));
    let mut shallow = params("shallow");
    shallow.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let shallow = authority_with(shallow, Some(&root));
    let below_shallow = authority("below-shallow", Some(&shallow));

    for (what, chain) in [
        ("an issuer above that is not in it", of_between.clone()),
        ("without the root", format!("{of_between}{}", between.pem)),
        ("with the root", whole.clone()),
        ("with a usage that signs", format!("{}{}", issued(&root, right_usage), root.pem)),
        ("an authority that says no usage", {
            let silent = authority_with(params("silent"), None);
            format!("{}{}", issued(&silent, plain), silent.pem)
        }),
        ("a self-signed one", own(plain)),
    ] {
        let started = started(&key, &chain).await;
        assert!(started.is_ok(), "the control: {what}: {:?}", started.err());
    }
    for (what, chain, expected) in [
        ("expired", issued(&root, expired), &["certificate 1", "expired", "2026-06-30T00:00:00Z"][..]),
        ("not yet valid", issued(&root, future), &["certificate 1", "2026-07-02T00:00:00Z"]),
        ("an authority's", format!("{}{}", issued(&root, ca), root.pem), &["certificate 1", "CA:TRUE"]),
        ("self-signed, expired", own(expired), &["certificate 1", "expired"]),
        ("self-signed, an authority's", own(ca), &["certificate 1", "CA:TRUE"]),
        ("a usage that does not sign", issued(&root, wrong_usage), &["certificate 1", "digitalSignature"]),
        (
            "an expired authority",
            format!("{}{}", issued(&ended, plain), ended.pem),
            &["certificate 2", "expired"],
        ),
        (
            "an authority without keyCertSign",
            format!("{}{}", issued(&no_sign, plain), no_sign.pem),
            &["certificate 2", "keyCertSign"],
        ),
        (
            "no authority",
            format!("{}{}", issued(&no_authority, plain), no_authority.pem),
            &["certificate 2", "CA:TRUE"],
        ),
        (
            "an unrelated authority",
            format!("{of_root}{}", authority("other", None).pem),
            &["certificate 1", "CN=root", "CN=other"],
        ),
        (
            "another authority of that name",
            format!("{of_root}{}", authority("root", None).pem),
            &["signature"],
        ),
        (
            "another root of that name",
            format!("{of_between}{}{}", between.pem, authority("root", None).pem),
            &["signature"],
        ),
        ("a gap", format!("{of_between}{}", root.pem), &["certificate 1", "CN=between", "CN=root"]),
        (
            "another order",
            format!("{of_between}{}{}", root.pem, between.pem),
            &["certificate 1", "CN=between", "CN=root"],
        ),
        ("the root twice", format!("{of_root}{0}{0}", root.pem), &["certificate 2"]),
        (
            "a self-signed one and more",
            format!("{}{}", own(plain), root.pem),
            &["certificate 1", "CN=signer", "CN=root"],
        ),
        (
            "deeper than allowed",
            format!("{}{}{}", issued(&below_shallow, plain), below_shallow.pem, shallow.pem),
            &["certificate 3", "path length"],
        ),
        (
            "no certificate",
            format!("{of_root}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            &["certificate 2"],
        ),
    ] {
        match started(&key, &chain).await {
            Ok(_) => panic!("{what}: started"),
            Err(error) => expected.iter().for_each(|part| assert!(error.contains(part), "{what}: {error}")),
        }
    }
}

/// A leaf that expires in this many seconds, and its authority.
fn chain_for(key: &KeyPair, root: &Authority, secs: u64) -> String {
    let mut params = params("signer");
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now() + secs);
    format!("{}{}", params.signed_by(key, &root.issuer).unwrap().pem(), root.pem)
}

/// A service in a separate process, whose certificate expires in this many seconds.
fn live(key: &KeyPair, root: &Authority, secs: u64) -> Live {
    let (folder, port): (TempDir, _) = (tempfile::tempdir().unwrap(), free_port());
    let settings = written(folder.path(), key, &chain_for(key, root, secs));
    let process = Process::start(process::command(folder.path(), port, &settings), folder.path(), port);
    Live::of(folder, process)
}

async fn ready(live: &Live) -> StatusCode {
    live.client.get(format!("{}/health/ready", live.url())).send().await.unwrap().status()
}

/// The leaf in the published token of this list.
async fn leaf(live: &Live, uri: &str) -> String {
    let request = live.client.get(uri).header("Accept", "application/statuslist+jwt");
    let token = request.send().await.unwrap().text().await.unwrap();
    jwt::decode(&token).unwrap().header.x5c.unwrap().remove(0)
}

#[tokio::test]
async fn a_chain_that_no_verifier_accepts_is_refused_at_a_reload() {
    let (key, root) = (KeyPair::generate().unwrap(), authority("root", None));
    let live = live(&key, &root, 3600);
    let reference = live.reference("one").await;
    let before = leaf(&live, &reference.uri).await;
    let mut params = params("signer");
    params.not_after = date_time_ymd(2025, 1, 1);
    write(&live.folder().join("chain.pem"), &params.signed_by(&key, &root.issuer).unwrap().pem());
    live.until_metric("statuslist_settings_stale 1").await;
    let log = std::fs::read_to_string(log_path(live.folder())).unwrap();
    assert!(log.contains("certificate 1 of the chain expired at 2025-01-01T00:00:00Z"), "{log}");
    assert_eq!(ready(&live).await, StatusCode::OK, "it continues with the previous chain");
    assert_eq!(live.update("one", &reference, 1).await, StatusCode::NO_CONTENT);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(leaf(&live, &reference.uri).await, before);
    write(&live.folder().join("chain.pem"), &chain_for(&key, &root, 7200));
    live.until_metric("statuslist_settings_stale 0").await;
}

#[tokio::test]
async fn an_expired_certificate_is_reported_until_it_is_renewed_and_revocations_continue() {
    let (key, root) = (KeyPair::generate().unwrap(), authority("root", None));
    let live = live(&key, &root, 6);
    let reference = live.reference("one").await;
    assert_eq!(ready(&live).await, StatusCode::OK);
    live.until_metric("statuslist_certificate_out_of_date{pool=\"p\"} 0").await;
    let before = leaf(&live, &reference.uri).await;
    live.until_metric("statuslist_certificate_out_of_date{pool=\"p\"} 1").await;
    assert_eq!(ready(&live).await, StatusCode::SERVICE_UNAVAILABLE);
    let lines = || {
        let log = std::fs::read_to_string(log_path(live.folder())).unwrap();
        log.lines().filter(|line| line.contains("ERROR") && line.contains("out of date")).count()
    };
    let told = lines();
    assert!(told > 0);
    eventually("the error to be logged at every beat", async || (lines() >= told + 2).then_some(())).await;

    assert_eq!(live.update("one", &reference, 1).await, StatusCode::NO_CONTENT);
    let iat = async || {
        let request = live.client.get(&reference.uri).header("Accept", "application/statuslist+jwt");
        jwt::decode(&request.send().await.unwrap().text().await.unwrap()).unwrap().claims.iat
    };
    let of_before = iat().await;
    eventually("the revocation to be published", async || (iat().await > of_before).then_some(())).await;
    assert_eq!(leaf(&live, &reference.uri).await, before);

    write(&live.folder().join("chain.pem"), &chain_for(&key, &root, 3600));
    eventually("the service to be ready", async || (ready(&live).await == StatusCode::OK).then_some(()))
        .await;
    eventually("every token to have the new certificate, though nothing else changed", async || {
        (leaf(&live, &reference.uri).await != before).then_some(())
    })
    .await;
    live.until_metric("statuslist_certificate_out_of_date{pool=\"p\"} 0").await;
}
