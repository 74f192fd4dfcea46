//! Independent clients, from npm and PyPI, accept what we publish and refuse what was revoked, and clients that are generated from
//! our description do what issuers do. `scripts/install-test-tools` installs them; the top of each script says what it proves.

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;
use statuslist::bitstring;
use statuslist::status_list::Purpose;

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::eventually;
use crate::support::relying_party::published;

async fn app() -> TestApp {
    TestApp::start(
        "update-interval: 1s, list-lifetime: 1h, formats: [jwt, cwt], bits: 2, issuer: https://issuer.example",
    )
}

/// Runs one script beside the running service. Returns what it printed.
pub(crate) async fn run(app: &TestApp, script: &str, more: &[(&str, String)]) -> String {
    let mut environment: HashMap<String, String> = [
        ("BASE_URL", app.url.clone()),
        ("POOL", "p".to_owned()),
        ("API_KEY", KEY.to_owned()),
        ("JWKS_URL", format!("{}/lists/jwks.json", app.url)),
        ("BEAT_MS", "1000".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let script = script.to_owned();
    let run = move || {
        Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/run"))
            .arg(&script)
            .envs(environment)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n(exit code 3: run scripts/install-test-tools first)");
    String::from_utf8(output.stdout).unwrap()
}

/// A reference whose update to `value` is published.
pub(crate) async fn updated(app: &TestApp, value: u8) -> Reference {
    let reference = app.references(1).await.remove(0);
    app.update(&reference, value.into()).await;
    eventually("the update to be published", async || {
        // The tests' own Relying Party has no ES512.
        app.stored(&reference).await["published"].as_bool().filter(|published| *published)
    })
    .await;
    reference
}

pub(crate) fn about(reference: &Reference, value: u8) -> [(&'static str, String); 3] {
    [
        ("LIST_URI", reference.uri.clone()),
        ("IDX", reference.index.to_string()),
        ("EXPECTED", value.to_string()),
    ]
}

#[tokio::test]
async fn sd_jwt_vc_accepts_a_credential_and_rejects_it_after_its_revocation() {
    let app = app().await;
    run(&app, "sd_jwt_vc.mjs", &[]).await;
}

#[tokio::test]
async fn owf_token_status_list_reads_both_formats() {
    let app = app().await;
    run(&app, "owf_token_status_list.mjs", &about(&updated(&app, 2).await, 2)).await;
}

#[tokio::test]
async fn bitstring_libraries_read_our_credentials_and_we_read_theirs() {
    let issuer = "https://issuer.example";
    let app = TestApp::start(&format!(
        "update-interval: 1s, list-lifetime: 1h, formats: [jwt, bitstring], bits: 2, issuer: '{issuer}'"
    ));
    let said = run(&app, "bitstring.mjs", &[("ISSUER", issuer.to_owned())]).await;
    let made: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("made ")).collect();
    assert_eq!(made.len(), 2, "one of each library: {said}");
    for line in made {
        let (jwt, set) = line.split_once(' ').unwrap();
        let read = bitstring::decode(jwt).unwrap().credential;
        assert_eq!((read.issuer.as_str(), read.purpose), (issuer, Purpose::Revocation));
        let bit = |idx: &usize| read.bits[idx / 8] & (0x80 >> (idx % 8)) != 0;
        let found: Vec<_> = (0..read.bits.len() * 8).filter(bit).map(|idx| idx.to_string()).collect();
        assert_eq!(found.join(","), set);
    }
}

#[tokio::test]
async fn openvc_verifies_the_jwt() {
    let app = app().await;
    run(&app, "openvc_verify.py", &about(&updated(&app, 1).await, 1)).await;
}

#[tokio::test]
async fn another_cose_library_verifies_the_cwt_with_every_algorithm() {
    for algorithm in ["es256", "es384", "es512", "eddsa"] {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        let made = Command::new(crate::support::process::PROGRAM)
            .args(["generate-key", "--algorithm", algorithm])
            .arg(&key)
            .output()
            .unwrap();
        assert!(made.status.success());
        let pool = format!(
            "update-interval: 1s, formats: [jwt, cwt], signer: {{ pem: {{ key: {} }} }}",
            key.display()
        );
        let app = TestApp::start_in(folder, &pool, statuslist::base::clock::Clock::System);
        run(&app, "cose_verify.py", &about(&updated(&app, 1).await, 1)).await;
    }
}

/// Runs the example of an issuer, and compares what it says with what is published.
async fn issuer(script: &str) {
    let app = app().await;
    let said = run(&app, script, &[]).await;
    let revoked: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("revoked ")).collect();
    assert_eq!(revoked.len(), 2, "{said}");
    for reference in revoked {
        let (uri, index) = reference.split_once(' ').unwrap();
        assert_eq!(published(app.folder(), uri).unwrap().status(index.parse().unwrap()), 1, "{reference}");
    }
}

#[tokio::test]
async fn a_generated_client_in_typescript_does_what_an_issuer_does() {
    issuer("typescript_client.sh").await;
}

#[tokio::test]
async fn a_generated_client_in_python_does_what_an_issuer_does() {
    issuer("python_client.sh").await;
}

#[test]
fn the_examples_name_the_versions_that_are_tested() {
    let read = |path: &str| {
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    };
    let json = |path: &str| serde_json::from_str::<Value>(&read(path)).unwrap();
    let (example, tested) = (json("examples/typescript/package.json"), json("tests/interop/package.json"));
    for kind in ["dependencies", "devDependencies"] {
        for (name, version) in example[kind].as_object().unwrap() {
            assert_eq!(*version, tested["dependencies"][name], "{name}");
        }
    }
    let (example, tested) =
        (read("examples/python/requirements.txt"), read("tests/interop/requirements.txt"));
    for line in example.lines().filter(|line| !line.starts_with('#')) {
        assert!(tested.lines().any(|tested| tested == line), "{line}");
    }
}
