//! Signing with a key that never leaves its hardware; here Debian's SoftHSM, through the same interface.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reqwest::StatusCode;

use super::reload::{Live, write};
use crate::support::eventually;
use crate::support::process::{self, Process, free_port};
use crate::support::relying_party::published;

const KEY: &str = "one";
const PIN: &str = "5678";

/// A token with a key of each curve, `p256` and `p384`, in `folder`.
struct SoftHsm {
    configuration: PathBuf,
}

impl SoftHsm {
    fn new(folder: &Path) -> Self {
        let hsm = Self { configuration: folder.join("softhsm2.conf") };
        let tokens = folder.join("tokens");
        std::fs::create_dir(&tokens).unwrap();
        write(&hsm.configuration, &format!("directories.tokendir = {}\n", tokens.display()));
        let token = ["--init-token", "--free", "--label", "status", "--so-pin", "1234", "--pin", PIN];
        hsm.run(Command::new("softhsm2-util").args(token));
        for (curve, label) in [("EC:prime256v1", "p256"), ("EC:secp384r1", "p384"), ("EC:secp521r1", "p521")]
        {
            let mut tool = Command::new("pkcs11-tool");
            tool.arg("--module").arg(module()).args(["--token-label", "status", "--login", "--pin", PIN]);
            hsm.run(tool.args(["--keypairgen", "--key-type", curve, "--label", label]));
        }
        hsm
    }

    fn run(&self, command: &mut Command) {
        let done = self.known_to(command).output();
        let done = done.expect("softhsm2-util and pkcs11-tool are installed: run scripts/install-test-tools");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn known_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("SOFTHSM2_CONF", &self.configuration)
    }
}

fn module() -> PathBuf {
    let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so"];
    let module = places.iter().map(PathBuf::from).find(|place| place.exists());
    module.expect("SoftHSM is installed: run scripts/install-test-tools")
}

fn settings(signer: &str) -> String {
    format!(
        "publish: {{ keys-max-age: 1s }}\n\
         status-list-pools: {{ p: {{ api-keys: [{KEY}], size: 1000, update-interval: 1s, formats: [jwt, cwt], signer: {{ {signer} }} }} }}"
    )
}

fn in_token(key: &str, pin: &str) -> String {
    format!("pkcs11: {{ module: {}, token: status, key: {key}, pin: \"{pin}\" }}", module().display())
}

fn start(folder: tempfile::TempDir, hsm: &SoftHsm, settings: &str) -> Live {
    let port = free_port();
    let mut command = process::command(folder.path(), port, settings);
    hsm.known_to(&mut command);
    let process = Process::start(command, folder.path(), port);
    Live::of(folder, process)
}

#[tokio::test]
async fn a_token_signs_both_formats_and_survives_being_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let hsm = SoftHsm::new(folder.path());
    let live = start(folder, &hsm, &settings(&in_token("p256", PIN)));
    let reference = live.reference(KEY).await;
    assert_eq!(published(live.folder(), &reference.uri).unwrap().status(reference.index), 0);
    let cwt = live.folder().join(format!("public/lists/{}.cwt", reference.uri.rsplit('/').next().unwrap()));
    assert!(cwt.exists(), "the gate verified it");

    let (tokens, away) = (live.folder().join("tokens"), live.folder().join("away"));
    std::fs::rename(&tokens, &away).unwrap();
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    eventually("signing fails", async || {
        let metrics = live.text("/metrics").await;
        (!metrics.contains("statuslist_publish_failed_total{pool=\"p\"} 0")).then_some(())
    })
    .await;
    assert_eq!(
        published(live.folder(), &reference.uri).unwrap().status(reference.index),
        0,
        "the old token stays"
    );
    std::fs::rename(&away, &tokens).unwrap();
    eventually("the token signs again", async || {
        (published(live.folder(), &reference.uri).unwrap().status(reference.index) == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_moves_from_a_file_into_a_token_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let hsm = SoftHsm::new(folder.path());
    super::reload::replace_key(folder.path(), "signer.pem");
    let live = start(folder, &hsm, &settings("pem: { key: signer.pem }"));
    let reference = live.reference(KEY).await;
    let before = live.pool(KEY).await.1["keyId"].clone();
    live.set(&settings(&in_token("p384", PIN)));
    eventually("the token's key signs", async || (live.pool(KEY).await.1["keyId"] != before).then_some(()))
        .await;
    assert_eq!(live.update(KEY, &reference, 1).await, StatusCode::NO_CONTENT);
    // The Relying Party takes CWT and JWT with any algorithm of the key set; this one is ES384.
    eventually("a list of it", async || {
        let list = published(live.folder(), &reference.uri).ok()?;
        (list.status(reference.index) == 1).then_some(())
    })
    .await;
    assert!(std::fs::read_to_string(live.folder().join("public/lists/jwks.json")).unwrap().contains("ES384"));
}

#[tokio::test]
async fn a_key_on_p521_in_a_token_signs() {
    let folder = tempfile::tempdir().unwrap();
    let hsm = SoftHsm::new(folder.path());
    let live = start(folder, &hsm, &settings(&in_token("p521", PIN)));
    let reference = live.reference(KEY).await;
    let (idx, trust) = (reference.index.to_string(), format!("{}/lists/jwks.json", live.url()));
    let check = ["check", "--uri", &reference.uri, "--idx", &idx, "--trust", &trust];
    let checked = Command::new(process::PROGRAM).args(check).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.contains("ES512"), "{said}");
}

#[tokio::test]
async fn refusals_of_the_token_are_reported_at_the_start_without_the_pin() {
    let folder = tempfile::tempdir().unwrap();
    let (hsm, port) = (SoftHsm::new(folder.path()), free_port());
    for (signer, why) in [
        (in_token("p256", "wrong-pin"), "cannot log in to token `status`"),
        (in_token("none", PIN), "0 objects"),
        (in_token("p256", PIN).replace("token: status", "token: other"), "no token `other`"),
    ] {
        let mut command = process::command(folder.path(), port, &settings(&signer));
        let done = hsm.known_to(command.args(["publish", "--once"])).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(why), "{said}");
        assert!(!said.contains("wrong-pin") && !said.contains(PIN), "{said}");
    }
}
