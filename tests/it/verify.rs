//! `statuslist verify` finds every kind of damage to the published folder, names the file, and changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::Clock;
use statuslist::sign::{Algorithm, KeyHints, Signer, SigningKey, generate};
use statuslist::status_list::{Claims, ListId, jwt, lst};

use crate::support::app::Reference;
use crate::support::eventually;
use crate::support::process::{PROGRAM, Process, command, free_port};
use crate::support::relying_party::published;

const SETTINGS: &str = "explorer: { pools: { p: { statistics: true } } }\n\
    status-list-pools: { p: { api-key: x, size: 1000, bits: 1, update-interval: 1s, list-lifetime: 1h, ttl: 1m, \
    open-lists: 1, formats: [jwt, cwt, json, cbor, bitstring], issuer: 'https://issuer.example', final-status: 1, \
    history: { retention: 1h } } }";

/// A service and its folder.
struct Site {
    folder: PathBuf,
    port: u16,
    client: Client,
}

/// A result of `statuslist verify --json`.
struct Verified {
    /// Which the paths are relative to.
    folder: PathBuf,
    code: i32,
    result: Value,
}

impl Verified {
    /// The faults of a file.
    fn of(&self, path: &Path) -> Vec<&str> {
        let faults = self.result["faults"].as_array().unwrap().iter();
        let of_file = faults.filter(|fault| self.folder.join(fault["file"].as_str().unwrap()) == path);
        of_file.map(|fault| fault["fault"].as_str().unwrap()).collect()
    }

    fn faults(&self) -> usize {
        self.result["faults"].as_array().unwrap().len()
    }
}

impl Site {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn start(&self) -> Process {
        Process::start(command(&self.folder, self.port, SETTINGS), &self.folder, self.port)
    }

    fn verify_with(&self, settings: &str, arguments: &[&str]) -> std::process::Output {
        let mut command = command(&self.folder, self.port, settings);
        command.arg("verify").args(arguments).output().unwrap()
    }

    fn verify(&self) -> Verified {
        let output = self.verify_with(SETTINGS, &["--json"]);
        let (code, said) = (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr));
        let result = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{code}: {said}"));
        Verified { folder: self.folder.clone(), code, result }
    }

    async fn reference(&self) -> Reference {
        eventually("a reference", async || {
            let request = self.client.post(format!("{}/pools/p/new-references", self.url()));
            let answer = request.header("X-Api-Key", "x").send().await.ok()?;
            let body: Value = serde_json::from_str(&answer.text().await.ok()?).ok()?;
            serde_json::from_value(body["references"][0].clone()).ok()
        })
        .await
    }

    async fn revoke(&self, reference: &Reference) {
        let body = json!({ "uri": reference.uri, "index": reference.index, "value": 1 }).to_string();
        let request = self.client.patch(format!("{}/status-lists/update", self.url()));
        let request = request.header("X-Api-Key", "x").header("Content-Type", "application/json").body(body);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }

    async fn until_published(&self, reference: &Reference) {
        eventually("the revocation", async || {
            let list = published(&self.folder, &reference.uri).ok()?;
            (list.status(reference.index) == 1).then_some(())
        })
        .await;
    }

    fn lists(&self) -> PathBuf {
        self.folder.join("public/lists")
    }

    fn file(&self, list: &str, extension: &str) -> PathBuf {
        self.lists().join(format!("{list}.{extension}"))
    }

    /// Everything in the folder, except what SQLite makes for a reader.
    fn content(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let files = walkdir::WalkDir::new(&self.folder).into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        let kept = files.filter(|entry| {
            let name = entry.file_name().to_string_lossy();
            !name.ends_with("-shm") && !name.ends_with("-wal") && name != "settings.yaml"
        });
        let content = kept.map(|entry| {
            let modified = entry.metadata().unwrap().modified().unwrap();
            (entry.path().to_owned(), (fs::read(entry.path()).unwrap(), modified))
        });
        content.collect()
    }
}

/// Replaces a file. Its other name in the history keeps the old content.
fn write(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    File::create(path).unwrap().write_all(bytes).unwrap();
}

/// The files of a list, by extension.
const FILES: [&str; 6] = ["jwt", "jwt.gz", "cwt", "json", "cbor", "revocation"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site { folder: folder.path().to_owned(), port: free_port(), client: Client::new() };
    let process = site.start();
    let first = site.reference().await;
    site.revoke(&first).await;
    site.until_published(&first).await;
    let list = first.uri.rsplit('/').next().unwrap().to_owned();
    let earlier: Vec<_> = FILES.map(|extension| fs::read(site.file(&list, extension)).unwrap()).into();
    // While the service publishes at every beat.
    for _ in 0..4 {
        let next = site.reference().await;
        site.revoke(&next).await;
        let verified = site.verify();
        assert_eq!((verified.code, verified.faults()), (0, 0), "{:#}", verified.result);
        site.until_published(&next).await;
    }
    let waiting = site.reference().await;
    process.kill();

    assert!(site.lists().join("status/p.csv").exists() && site.lists().join("status/pools.json").exists());
    let before = site.content();
    let verified = site.verify();
    assert_eq!((verified.code, verified.faults()), (0, 0), "{:#}", verified.result);
    assert!(verified.result["lists"].as_u64() >= Some(1) && verified.result["files"].as_u64() >= Some(10));
    assert!(site.content() == before, "verifying changes nothing");
    let said = site.verify_with(SETTINGS, &[]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("good: "), "{said:?}");

    // A damaged and a missing file of each kind.
    let archived = fs::read_dir(site.folder.join("public/history").join(&list)).unwrap();
    let archived: Vec<_> = archived.map(|entry| entry.unwrap().path()).collect();
    assert!(archived.len() > 4, "{archived:?}");
    let files = FILES.map(|extension| site.file(&list, extension));
    let documents = [site.lists().join("jwks.json"), site.lists().join("aggregation/p.json")];
    for path in files.iter().chain(&documents).chain(&archived[..2]) {
        let good = fs::read(path).unwrap();
        // One place of the credential: each look takes seconds, and its unit tests damage the rest.
        let places = if path == &files[5] { 1 } else { 3 };
        for at in [good.len() / 3, good.len() / 2, good.len() - 12].into_iter().take(places) {
            let mut bytes = good.clone();
            bytes[at] ^= 4;
            write(path, &bytes);
            let verified = site.verify();
            assert_eq!(verified.code, 1, "{} at {at}: {:#}", path.display(), verified.result);
            assert!(!verified.of(path).is_empty(), "{} at {at}: {:#}", path.display(), verified.result);
        }
        fs::remove_file(path).unwrap();
        let verified = site.verify();
        if !archived.contains(path) {
            let expected = if path == &documents[0] { "document" } else { "missing" };
            assert_eq!((verified.code, verified.of(path)), (1, vec![expected]), "{}", path.display());
        }
        write(path, &good);
    }
    assert_eq!(site.verify().code, 0, "everything is restored: {:#}", site.verify().result);

    // The files of an earlier publication.
    let current: Vec<_> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    files.iter().zip(&earlier).for_each(|(path, bytes)| write(path, bytes));
    let verified = site.verify();
    assert_eq!(
        (verified.code, verified.of(&files[0])),
        (1, vec!["iat", "statuses"]),
        "{:#}",
        verified.result
    );
    assert_eq!(verified.of(&files[2]), ["iat", "statuses"]);
    write(&files[0], &current[0]);
    write(&files[1], &current[1]);
    write(&files[2], &current[2]);
    assert_eq!(site.verify().of(&files[5]), ["files-differ"], "the credential alone is an earlier one");
    files.iter().zip(&current).for_each(|(path, bytes)| write(path, bytes));

    // The right statuses with a strange key, and other statuses with the right key.
    let token = String::from_utf8(current[0].clone()).unwrap();
    let claims = jwt::decode(&token).unwrap().claims;
    let hints = KeyHints { kid: true, x5c: false, jwk: false };
    let signed = |pem: &str, claims: &Claims| {
        Signer::new(SigningKey::from_pem(pem, None, None).unwrap(), hints).sign_jwt(claims).unwrap()
    };
    write(&files[0], signed(&generate(Algorithm::Es256).unwrap(), &claims).as_bytes());
    let verified = site.verify();
    assert_eq!((verified.code, verified.of(&files[0])), (1, vec!["signature"]), "{:#}", verified.result);
    let mut array = lst::inflate(&claims.lst, 1000).unwrap();
    let waiting_at = usize::try_from(waiting.index).unwrap();
    array[waiting_at / 8] ^= 1 << (waiting_at % 8);
    let other = Claims { lst: lst::compress(&array).into(), ..claims };
    let key = fs::read_to_string(site.folder.join("data/keys/p.pem")).unwrap();
    write(&files[0], signed(&key, &other).as_bytes());
    let verified = site.verify();
    assert_eq!((verified.code, verified.of(&files[0])), (1, vec!["statuses"]), "{:#}", verified.result);
    write(&files[0], &current[0]);

    // What nothing explains.
    let gone = site.file(&list, "gone");
    let strange = [
        (site.file(&ListId::random().to_string(), "jwt"), "foreign"),
        (site.lists().join("index.html"), "foreign"),
        (site.lists().join("aggregation/other.json"), "foreign"),
        (site.folder.join("public/history").join(ListId::random().to_string()).join("1.jwt"), "foreign"),
        (gone, "retired"),
        (site.lists().join(".tmp-of-a-crash"), "leftover"),
    ];
    for (path, expected) in strange {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, b"x");
        if expected == "leftover" {
            assert_eq!(site.verify().code, 0, "somebody may be writing it");
        }
        let hour_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(Clock::System.now().date().secs() - 3600);
        File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
        let verified = site.verify();
        assert_eq!((verified.code, verified.of(&path)), (1, vec![expected]), "{}", path.display());
        fs::remove_file(&path).unwrap();
    }

    // A format that is not published any more, and a key of the settings that nobody can know.
    let without_cwt = SETTINGS.replace("jwt, cwt, json, cbor, bitstring", "jwt");
    let said = site.verify_with(&without_cwt, &[]);
    let shown = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(1), "{shown}");
    for dropped in ["cwt", "revocation"] {
        let fault = format!("public/lists/{list}.{dropped}: it is of a format");
        assert!(shown.contains(&fault), "{fault}: {shown}");
    }
    let made = Command::new(PROGRAM).arg("generate-key").arg(site.folder.join("other.pem")).output().unwrap();
    assert!(made.status.success());
    let other_key = SETTINGS.replace("api-key: x", "api-key: x, signer: { pem: { key: other.pem } }");
    let shown = String::from_utf8_lossy(&site.verify_with(&other_key, &[]).stdout).into_owned();
    assert!(shown.contains("jwks.json: it lacks the key ") && shown.contains("1 faults"), "{shown}");

    // What cannot be compared is no fault.
    fs::rename(site.folder.join("data/statuslist.db"), site.folder.join("data/aside.db")).unwrap();
    let said = site.verify_with(SETTINGS, &[]);
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(!site.folder.join("data/statuslist.db").exists(), "verifying makes no database");
}

/// The store was restored from an earlier copy: what is published is not what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_went_back_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site { folder: folder.path().to_owned(), port: free_port(), client: Client::new() };
    let process = site.start();
    let [first, second] = [site.reference().await, site.reference().await];
    site.revoke(&first).await;
    site.until_published(&first).await;
    process.kill();
    let stored = |name: &str| site.folder.join("data").join(name);
    let names = ["statuslist.db", "statuslist.db-wal"];
    let copy: Vec<_> = names.map(|name| fs::read(stored(name)).ok()).into();
    let process = site.start();
    site.revoke(&second).await;
    site.until_published(&second).await;
    process.kill();
    assert_eq!(site.verify().code, 0);
    for (name, bytes) in names.iter().zip(copy) {
        let _ = fs::remove_file(stored(name));
        bytes.iter().for_each(|bytes| write(&stored(name), bytes));
    }
    let _ = fs::remove_file(stored("statuslist.db-shm"));
    let verified = site.verify();
    let path = site.file(second.uri.rsplit('/').next().unwrap(), "jwt");
    assert!(verified.code == 1 && verified.of(&path).contains(&"statuses"), "{:#}", verified.result);
}
