//! "Keys of the lists" and "A compromised API key": a signing key is replaced and nobody notices; a stolen one is worth nothing
//! afterwards; a stolen API key opens nothing, and what it changed is found and put right.

use std::path::Path;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use reqwest::Method;
use serde_json::Value;
use statuslist::model::api_key::ApiKeyHash;

use super::callers::{Callers, Issuer, until_published};
use super::machine::Machine;
use super::runbook::blocks;
use crate::support::app::Reference;
use crate::support::eventually;
use crate::support::relying_party::{List, jwks, published};

/// How long verifiers keep the keys; below `keys-max-age` by the time that noticing and publishing a key may take.
const KEPT: Duration = Duration::from_millis(1500);

/// The rollover, and what follows a theft.
fn steps() -> [String; 2] {
    blocks("Keys of the lists").try_into().expect("the page has changed")
}

/// The id of the key that signed the published token of `uri`.
fn signed_by(folder: &Path, uri: &str) -> String {
    jsonwebtoken::decode_header(token(folder, uri)).unwrap().kid.unwrap()
}

fn token(folder: &Path, uri: &str) -> String {
    let id = uri.rsplit('/').next().unwrap();
    std::fs::read_to_string(folder.join(format!("public/lists/{id}.jwt"))).unwrap()
}

fn ids(keys: &JwkSet) -> Vec<String> {
    keys.keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signing_key_is_replaced_and_no_verifier_notices() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path(), "one", "demo");
    machine.configure("publish: { keys-max-age: 3s }", "api-key: x, list-lifetime: 6s, resign-after: 2s");
    machine.follow("systemctl start statuslist").await;
    let issuer = Issuer::new(&machine.url(), "demo");
    let reference = issuer.references(1).await.remove(0);
    let old = signed_by(&machine.data(), &reference.uri);
    let callers = Callers::start(issuer, &machine.url(), KEPT);
    let [roll_over, _] = steps();
    machine.follow(&roll_over).await;
    eventually("the new key to sign", async || {
        (signed_by(&machine.data(), &reference.uri) != old).then_some(())
    })
    .await;
    eventually("the old key to be forgotten", async || {
        (!ids(&jwks(&machine.data())).contains(&old)).then_some(())
    })
    .await;
    let tally = callers.end().await;
    tally.nothing_failed();
    assert_eq!(
        tally.unreadable_with_kept,
        Vec::<String>::new(),
        "with keys that verifiers kept for {KEPT:?}"
    );
    tally.check(&machine.data()).await;
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml verify").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_stolen_key_signs_is_accepted_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine::new(folder.path(), "one", "demo");
    machine.configure("", "api-key: x");
    machine.follow("systemctl start statuslist").await;
    let issuer = Issuer::new(&machine.url(), "demo");
    let references = issuer.references(10).await;
    for reference in &references {
        issuer.revoke(reference).await;
    }
    for reference in &references {
        until_published(&machine.data(), reference, 1).await;
    }
    let uri = &references[0].uri;
    let (stolen, forged) = (signed_by(&machine.data(), uri), token(&machine.data(), uri));
    assert!(List::verify(&forged, uri, &jwks(&machine.data())).is_ok(), "the control: the key is trusted");
    let [_, after_a_theft] = steps();
    machine.follow(&after_a_theft).await;
    let keys = jwks(&machine.data());
    assert_eq!(ids(&keys).len(), 1);
    assert!(!ids(&keys).contains(&stolen));
    assert!(List::verify(&forged, uri, &keys).is_err(), "whatever the stolen key signs");
    for reference in &references {
        until_published(&machine.data(), reference, 1).await;
        assert_ne!(signed_by(&machine.data(), &reference.uri), stolen);
    }
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml verify").await;
    let later = issuer.references(100).await;
    assert!(later.iter().all(|later| !references.contains(later)), "a reference was handed out twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_api_key_opens_nothing_and_its_changes_are_found_and_put_right() {
    let [replace, find] =
        <[String; 2]>::try_from(blocks("A compromised API key")).expect("the page has changed");
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::new(folder.path(), "one", "demo");
    let new_key = machine.root().join("new-key");
    machine.call("/root/new-key", new_key.display());
    let stolen = ApiKeyHash::of("stolen").to_setting();
    machine.call("sha256:0123", &stolen);
    machine.configure(
        "audit: { path: /var/lib/statuslist/data/audit.jsonl }",
        "api-keys: [ { key: \"sha256:0123\", name: issuer }, { key: y, name: other } ]",
    );
    machine.follow("systemctl start statuslist").await;
    let [thief, other] = ["stolen", "y"].map(|key| Issuer::with_key(&machine.url(), "demo", key));
    let victims = other.references(20).await;
    let (changed, kept) = victims.split_at(5);
    for reference in changed {
        thief.revoke(reference).await;
    }
    for reference in kept {
        other.revoke(reference).await;
    }

    machine.follow(&replace).await;
    let replaced = Instant::now();
    eventually("the stolen key to open nothing", async || {
        let answer = thief.send(Method::GET, "/pools/demo", None).await;
        answer.err().filter(|why| why.starts_with("401 "))
    })
    .await;
    assert!(replaced.elapsed() < Duration::from_secs(5), "{:?}", replaced.elapsed());
    assert!(thief.set(&kept[0], 0).await.unwrap_err().starts_with("401 "));
    let said = std::fs::read_to_string(&new_key).unwrap();
    let key = said.lines().next().unwrap().split_whitespace().last().unwrap();

    let lines = machine.follow(&find).await;
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<_> = lines.filter(|line| line["action"] == "update").collect();
    let found: Vec<Reference> = lines
        .iter()
        .map(|line| Reference {
            uri: format!("{}/{}", crate::support::fleet::PUBLIC_URL, line["list"].as_str().unwrap()),
            index: line["index"].as_u64().unwrap(),
        })
        .collect();
    assert_eq!(found, changed, "{lines:?}");
    for Reference { uri, index } in &found {
        machine.follow(&format!("STATUSLIST_API_KEY={key} statuslist set {uri} {index} valid")).await;
    }
    for (references, value) in [(changed, 0), (kept, 1)] {
        for reference in references {
            until_published(&machine.data(), reference, value).await;
        }
    }
    let list = published(&machine.data(), &changed[0].uri).unwrap();
    assert_eq!(list.status(changed[0].index), 0);
    machine.follow("statuslist audit verify /var/lib/statuslist/data/audit.jsonl").await;
    machine.follow("statuslist --config /etc/statuslist/statuslist.yaml verify").await;
}
