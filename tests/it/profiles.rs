//! Profiles of a pool, and what Relying Parties do with many lists: check a batch, check an aggregation, watch.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use reqwest::{Method, StatusCode};
use statuslist::base::clock::Clock;
use statuslist::status_list::{cwt, jwt};

use crate::drills::runbook::blocks;
use crate::reload::write;
use crate::support::app::{KEY, Reference, TestApp};
use crate::support::authority::now;
use crate::support::eventually;
use crate::support::process::{PROGRAM, free_port};
use crate::support::relying_party::published;

/// Makes an authority and, by the command of `docs/OPERATIONS.md`, a signer's certificate, with these extensions in place of the page's.
/// Writes both.
fn certified(folder: &Path, extensions: &str) -> String {
    let openssl = |arguments: &str| {
        let done = Command::new("sh").args(["-c", arguments]).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.distinguished_name.push(DnType::CommonName, "authority");
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    root.not_before = date_time_ymd(2020, 1, 1);
    root.not_after = date_time_ymd(2040, 1, 1);
    write(&folder.join("authority.key"), &key.serialize_pem());
    write(&folder.join("authority.pem"), &root.self_signed(&key).unwrap().pem());
    openssl(
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-521 -nodes -keyout key.pem -out signer.csr -subj /CN=signer",
    );
    let command = blocks("Certificates").remove(0);
    assert!(command.contains(EXTENSIONS), "{command}");
    openssl(&command.replace(EXTENSIONS, extensions));
    openssl("cat signer.pem authority.pem > chain.pem");
    let path = |name: &str| folder.join(name).display().to_string();
    format!("signer: {{ pem: {{ key: {}, chain: {} }} }}", path("key.pem"), path("chain.pem"))
}

const EXTENSIONS: &str =
    "keyUsage = critical, digitalSignature\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n";
const PROFILES: &str =
    "profile: [haip, mdoc, eudi], size: 10000, update-interval: 1s, reference-lifetime: 31d";

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs the program beside a service of this test, which must not be blocked by that.
async fn beside(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let (folder, arguments) = (folder.to_owned(), arguments.iter().map(|one| (*one).to_owned()));
    let arguments: Vec<String> = arguments.collect();
    let run = move || {
        let output = run(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        (output.status.code(), said(&output))
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn until_published(app: &TestApp, reference: &Reference) {
    eventually("the update to be published", async || {
        app.stored(reference).await["published"].as_bool().filter(|published| *published)
    })
    .await;
}

#[tokio::test]
async fn a_pool_with_every_profile_is_served_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let signer = certified(folder.path(), EXTENSIONS);
    let app = TestApp::start_in(folder, &format!("{PROFILES}, {signer}"), Clock::System);
    let (status, pool) = app.send(Method::GET, "/pools/p", None).await;
    assert_eq!((status, &pool["formats"]), (StatusCode::OK, &serde_json::json!(["jwt", "cwt"])));
    let (_, body) = app.send(Method::POST, "/pools/p/new-references?claims=cbor", None).await;
    let of_mso = URL_SAFE_NO_PAD.decode(body["references"][0]["status"].as_str().unwrap()).unwrap();
    let of_mso: ciborium::Value = ciborium::from_reader(of_mso.as_slice()).unwrap();
    let member = |value: &ciborium::Value, name: &str| {
        let (_, found) = value.as_map().unwrap().iter().find(|(key, _)| key.as_text() == Some(name)).unwrap();
        found.clone()
    };
    let certificate = member(&member(&of_mso, "status_list"), "certificate").into_bytes().unwrap();
    let authority = pem::parse(std::fs::read(app.folder().join("authority.pem")).unwrap()).unwrap();
    assert_eq!(certificate, authority.contents(), "readers verify the list by it");
    let reference = app.references(1).await.remove(0);

    let get = async |format: &str| {
        let accept = format!("application/statuslist+{format}");
        app.client.get(&reference.uri).header("Accept", accept).send().await.unwrap().bytes().await.unwrap()
    };
    let token = get("jwt").await;
    let header = jwt::decode(std::str::from_utf8(&token).unwrap()).unwrap().header;
    assert_eq!((header.alg.as_str(), header.x5c.unwrap().len()), ("ES512", 1), "without the authority");
    let token = cwt::decode(&get("cwt").await).unwrap();
    assert_eq!((token.alg, token.key.x5chain.len(), token.x5chain_is_protected), (-36, 1, true));

    let check = async |profile: &str| {
        let idx = reference.index.to_string();
        let trust = ["--trust", "authority.pem", "--profile", profile];
        let arguments = ["check", "--uri", reference.uri.as_str(), "--idx", idx.as_str()];
        beside(app.folder(), &[&arguments[..], &trust].concat()).await
    };
    for (profile, format) in [("haip", "jwt"), ("mdoc", "cwt"), ("eudi", "jwt")] {
        let (code, said) = check(profile).await;
        assert!(code == Some(0) && said.contains(format), "{profile}: {said}");
    }
    assert_eq!(app.update(&reference, 1.into()).await.0, StatusCode::NO_CONTENT);
    assert_eq!(app.update(&reference, 0.into()).await.0, StatusCode::FORBIDDEN, "a revocation is final");
    until_published(&app, &reference).await;
    assert_eq!(check("mdoc").await.0, Some(1));
}

#[test]
fn a_certificate_that_breaks_the_profile_is_refused_by_check_config_and_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let signer = certified(folder.path(), "subjectKeyIdentifier = hash\n");
    let settings = |profile: &str| {
        format!("status-list-pools: {{ p: {{ api-key: x, size: 10000, profile: {profile}, {signer} }} }}")
    };
    write(&folder.path().join("statuslist.yaml"), &settings("[haip, mdoc]"));
    for command in ["check-config", "serve"] {
        let mut program = Command::new(PROGRAM);
        program.arg(command).env("STATUSLIST__SERVER__LISTEN", format!("127.0.0.1:{}", free_port()));
        let refused = program.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("rule M-09 of the profile mdoc") && !said.contains("H-0"), "{said}");
    }
    write(&folder.path().join("statuslist.yaml"), &settings("haip"));
    let good = run(folder.path(), &["check-config"]);
    assert!(good.status.success(), "the control: {}", said(&good));
}

#[tokio::test]
async fn answers_say_until_when_statuses_are_maintained() {
    const LIFETIME: u64 = 31 * 86_400;
    let app = TestApp::start("size: 1000, reference-lifetime: 31d");
    let ask = async |key: Option<&str>| {
        let url = format!("{}/pools/p/new-references?amount=3&claims=cbor", app.url);
        let mut request = app.client.post(url).header("X-Api-Key", KEY);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let body = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    let until = |body: &serde_json::Value| body["maintained_until"].as_u64().unwrap();
    let (before, one) = (now(), ask(None).await);
    assert!((before + LIFETIME - 60..=now() + LIFETIME).contains(&until(&one)), "{one}");
    let (first, again) = (ask(Some("k")).await, ask(Some("k")).await);
    assert_eq!(first["references"], again["references"]);
    assert!((before + LIFETIME - 60..=now() + LIFETIME).contains(&until(&again)), "{again}");

    for reference in one["references"].as_array().unwrap() {
        let cbor = URL_SAFE_NO_PAD.decode(reference["status"].as_str().unwrap()).unwrap();
        let status: ciborium::Value = ciborium::from_reader(cbor.as_slice()).unwrap();
        let expected: ciborium::Value = ciborium::Value::serialized(&serde_json::json!({
            "status_list": { "idx": reference["index"], "uri": reference["uri"] }
        }))
        .unwrap();
        assert_eq!(status, expected);
    }
    let without = TestApp::start("size: 1000");
    let (_, body) = without.send(Method::POST, "/pools/p/new-references", None).await;
    assert!(body["references"].is_array() && body.get("maintained_until").is_none(), "{body}");
}

#[tokio::test]
async fn one_bad_list_of_an_aggregation_does_not_stop_the_others() {
    let app = TestApp::start("size: 800, open-lists: 3, update-interval: 1s");
    let trust = format!("{}/lists/jwks.json", app.url);
    let aggregation = format!("{}/lists/aggregation/p", app.url);
    // Of each open list one.
    let references = eventually("references of three lists", async || {
        let mut references = app.references(10).await;
        references.sort_by(|a, b| a.uri.cmp(&b.uri));
        references.dedup_by(|a, b| a.uri == b.uri);
        (references.len() == 3).then_some(references)
    })
    .await;
    let check = async |more: &[&str]| {
        beside(app.folder(), &[&["check", "--trust", trust.as_str()][..], more].concat()).await
    };
    let of_pool = check(&["--aggregation", &aggregation]).await;
    assert!(of_pool.0 == Some(0) && of_pool.1.contains("GOOD, 800 entries"), "{of_pool:?}");

    assert_eq!(app.update(&references[1], 1.into()).await.0, StatusCode::NO_CONTENT);
    until_published(&app, &references[1]).await;
    let bad = references[0].uri.rsplit('/').next().unwrap();
    for ending in ["jwt", "jwt.gz"] {
        write(&app.folder().join(format!("public/lists/{bad}.{ending}")), "no token");
    }
    let (code, said) = check(&["--aggregation", &aggregation]).await;
    assert_eq!(code, Some(2), "{said}");
    let told = said.lines().filter(|line| line.contains("COULD NOT TELL")).collect::<Vec<_>>();
    assert!(told.len() == 1 && told[0].starts_with(&references[0].uri), "{said}");
    assert!(said.matches("GOOD").count() >= 2, "{said}");

    let lines: Vec<_> = references.iter().map(|one| format!("{} {}\n", one.uri, one.index)).collect();
    write(&app.folder().join("references.txt"), &lines.concat());
    let (code, said) = check(&["--batch", "references.txt"]).await;
    assert_eq!(code, Some(2), "{said}");
    let words: Vec<_> = said.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
    assert!(words[0].starts_with("COULD NOT TELL: ") && words[1..] == ["INVALID", "VALID"], "{said}");
    write(&app.folder().join("references.txt"), &lines[1..].concat());
    assert_eq!(check(&["--batch", "references.txt"]).await.0, Some(1));
    write(&app.folder().join("references.txt"), &lines[2]);
    assert_eq!(check(&["--batch", "references.txt"]).await.0, Some(0));
}

/// A `watch` that runs; killed when dropped.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn each_change_of_a_watched_status_is_told_once_and_again_if_the_program_fails() {
    let app = TestApp::start("size: 800, bits: 2, open-lists: 1, update-interval: 1s");
    let references = app.references(3).await;
    let lines: Vec<_> = references.iter().map(|one| format!("{} {}\n", one.uri, one.index)).collect();
    let folder = app.folder();
    write(&folder.join("watched.txt"), &lines[..2].concat());
    // Fails the first time, and writes what it was told.
    write(
        &folder.join("told.sh"),
        "#!/bin/sh\necho \"$2 $3\" >> told.txt\n[ -e tried ] || { touch tried; exit 1; }\n",
    );
    let made = Command::new("chmod").args(["+x", "told.sh"]).current_dir(folder).status().unwrap();
    assert!(made.success());
    let trust = format!("{}/lists/jwks.json", app.url);
    let watch = ["watch", "watched.txt", "--trust", &trust, "--every", "1s", "--command", "./told.sh"];
    let watching =
        Command::new(PROGRAM).args(watch).current_dir(folder).stderr(Stdio::null()).spawn().unwrap();
    let _watching = Watching(watching);
    let told = || std::fs::read_to_string(folder.join("told.txt")).unwrap_or_default();
    let until = async |expected: &[String]| {
        eventually("a change to be told", async || (told() == expected.concat()).then_some(())).await;
    };
    let line = |reference: &Reference, status: &str| format!("{} {status}\n", reference.index);

    assert_eq!(app.update(&references[0], 2.into()).await.0, StatusCode::NO_CONTENT);
    let suspended = line(&references[0], "SUSPENDED");
    let mut expected = vec![suspended.clone(), suspended];
    until(&expected).await;
    assert_eq!(app.update(&references[0], 0.into()).await.0, StatusCode::NO_CONTENT);
    expected.push(line(&references[0], "VALID"));
    until(&expected).await;
    // A reference that comes in later, and is revoked already.
    assert_eq!(app.update(&references[2], 1.into()).await.0, StatusCode::NO_CONTENT);
    eventually("the revocation to be published", async || {
        (published(folder, &references[2].uri).ok()?.status(references[2].index) == 1).then_some(())
    })
    .await;
    write(&folder.join("watched.txt"), &lines.concat());
    expected.push(line(&references[2], "INVALID"));
    until(&expected).await;

    let (code, said) = beside(folder, &["watch", "watched.txt", "--trust", &trust, "--once"]).await;
    assert_eq!((code, said.trim_end()), (Some(1), format!("{} INVALID", lines[2].trim_end()).as_str()));
    assert_eq!(told(), expected.concat(), "nothing is told twice");
}
