//! Readers hammer a list through nginx while a process that is killed again and again publishes it. Every body verifies, every
//! compressed form equals its plain form, and no ETag is ever seen with two bodies.
//!
//! The service publishes a list at most once a second. So the publisher here is a process that calls the same code for writing
//! files, with tokens whose `iat` it increments itself. The control is the same process writing in place: the readers must
//! detect that.

use std::collections::HashMap;
use std::fs::{File, FileTimes};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use jsonwebtoken::jwk::JwkSet;
use reqwest::Client;
use statuslist::base::clock::Clock;
use statuslist::site::folder::TokenFiles;
use statuslist::site::layout::ListFile;
use statuslist::status_list::{Format, ListId, cwt, jwt};

use crate::support::nginx::{Nginx, Settings};
use crate::support::process::pause;
use crate::support::relying_party::{List, jwks};
use crate::support::site::TestSite;
use crate::support::{gunzip, proof, tries};

/// How often the list is published; the environment can ask for more.
const PUBLICATIONS: u64 = 1000;
/// Makes the test `republisher` below a publisher: the folder, the list, and how to write.
const REPUBLISH_VARIABLE: &str = "STATUSLIST_HAMMER_REPUBLISH";
const PUBLIC_URL: &str = "https://status.example/lists";
/// Large enough that nginx sends a token in several pieces.
const ARRAY_BYTES: u64 = 30_000;
/// The variants that each reader requests in turn.
const VARIANTS: [(&str, &str); 3] = [("*/*", "identity"), ("*/*", "gzip"), (cwt::MEDIA_TYPE, "gzip")];

/// What all readers together have seen.
#[derive(Default)]
struct Seen {
    /// The digest of the content of each ETag, which was verified, and its `iat`.
    contents: Mutex<HashMap<String, (Vec<u8>, u64)>>,
    /// The digest of the plain JWT of each `iat`, whether it arrived compressed or not.
    jwts: Mutex<HashMap<u64, Vec<u8>>>,
    answers: AtomicU64,
    compressed: AtomicU64,
    /// Observations that must never occur.
    violations: Mutex<Vec<String>>,
    over: AtomicBool,
}

struct Report {
    published: u64,
    kills: u32,
    answers: u64,
    compressed: u64,
    distinct: usize,
    violations: Vec<String>,
}

impl Report {
    fn proof(&self, what: &str) {
        let Self { published, kills, answers, .. } = self;
        let tried = format!("{published} publications, {kills} kills, {answers} answers");
        proof(what, &tried, &format!("{} torn or older", self.violations.len()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_a_torn_token_while_the_publisher_is_killed() {
    let publications = tries("STATUSLIST_TEST_PUBLICATIONS", PUBLICATIONS);
    let report = hammer("renaming", publications).await;
    report.proof("nothing torn through nginx while the publisher is killed");
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    assert!(report.published >= publications && report.kills >= 5, "too little happened");
    assert!(
        report.compressed > 50 && report.answers - report.compressed > 100,
        "the readers received too few answers"
    );
    assert!(report.distinct > 100, "the readers saw only {} contents", report.distinct);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_readers_do_see_torn_tokens_when_they_are_written_in_place() {
    let report = hammer("in place", 300).await;
    assert!(!report.violations.is_empty(), "this test does not detect torn tokens");
    report.proof("control: files written in place");
}

async fn hammer(writing: &str, publications: u64) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let site = TestSite::open(folder.path(), PUBLIC_URL);
    let list = ListId::random();
    // All in the past, so that nobody has to wait for a second to pass.
    let first_iat = Clock::System.now().date().secs() - publications - 1000;
    let (jwt, cwt) = site.sign(list, first_iat, exp(), ARRAY_BYTES);
    site.write(list, &TokenFiles::new([(Format::Jwt, jwt.into_bytes()), (Format::Cwt, cwt)]), first_iat);
    let nginx = Nginx::start(&Settings::new(site.storage()));
    let url = format!("http://{}/lists/{list}", nginx.public);
    let keys = jwks(folder.path());

    let seen = Seen::default();
    let kills = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for reader in 0..3 {
                let (seen, url, uri, keys) = (&seen, &url, site.uri(list), &keys);
                scope.spawn(move || read(seen, url, &uri, keys, reader));
            }
            let kills = publish_and_kill(&site, folder.path(), list, writing, first_iat + publications);
            seen.over.store(true, Ordering::SeqCst);
            kills
        })
    });
    let latest = site.latest_iat(list).unwrap_or(first_iat);
    Report {
        published: latest - first_iat,
        kills,
        answers: seen.answers.into_inner(),
        compressed: seen.compressed.into_inner(),
        distinct: seen.contents.into_inner().unwrap().len(),
        violations: seen.violations.into_inner().unwrap(),
    }
}

fn exp() -> u64 {
    Clock::System.now().date().secs() + 86_400
}

/// Kills the publisher at moments that fall differently relative to its writes, and restarts it, until `last_iat` is published.
fn publish_and_kill(site: &TestSite, folder: &Path, list: ListId, writing: &str, last_iat: u64) -> u32 {
    let mut kills = 0;
    let deadline = Instant::now() + Duration::from_secs(900);
    while site.latest_iat(list).is_none_or(|mtime| mtime < last_iat) {
        assert!(Instant::now() < deadline, "the publisher is too slow");
        let mut publisher = republisher_process(folder, list, writing);
        pause(Duration::from_micros(300_000 + u64::from(kills) * 137_131 % 700_000));
        publisher.kill().unwrap();
        publisher.wait().unwrap();
        kills += 1;
    }
    kills
}

fn republisher_process(folder: &Path, list: ListId, writing: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nginx_hammer::republisher", "--ignored"])
        .env(REPUBLISH_VARIABLE, format!("{}\n{list}\n{writing}", folder.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The publisher, when the test above starts this test binary. By itself it does nothing.
#[test]
#[ignore = "runs as a separate process, started by the other tests of this file"]
fn republisher() {
    let Some(task) = std::env::var_os(REPUBLISH_VARIABLE) else { return };
    let task = task.into_string().unwrap();
    let [folder, list, writing] = task.split('\n').collect::<Vec<_>>().try_into().unwrap();
    let site = TestSite::open(Path::new(folder), PUBLIC_URL);
    let list: ListId = list.parse().unwrap();
    // As the publisher does after a crash: no `iat` that any file has, even one that only the crash left, is used again.
    let mut iat = site.latest_iat(list).unwrap();
    loop {
        iat += 1;
        let (jwt, cwt) = site.sign(list, iat, exp(), ARRAY_BYTES);
        let files = TokenFiles::new([(Format::Jwt, jwt.into_bytes()), (Format::Cwt, cwt)]);
        if writing == "in place" {
            write_in_place(&site, list, &files, iat);
        } else {
            site.write(list, &files, iat);
            site.site.sync().unwrap();
        }
    }
}

fn write_in_place(site: &TestSite, list: ListId, files: &TokenFiles, iat: u64) {
    let (jwt, cwt) = (ListFile::Form(Format::Jwt), ListFile::Form(Format::Cwt));
    for (extension, of_list) in [("jwt.gz", ListFile::JwtGzip), ("jwt", jwt), ("cwt", cwt)] {
        let mut file = File::create(site.path(list, extension)).unwrap();
        file.write_all(files.file(of_list).unwrap()).unwrap();
        file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(iat))).unwrap();
        file.sync_all().unwrap();
    }
}

/// Sends requests over one connection, one after the other, until the end of the test.
fn read(seen: &Seen, url: &str, uri: &str, keys: &JwkSet, reader: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new();
    let mut newest = [0; VARIANTS.len()];
    runtime.block_on(async {
        for turn in reader.. {
            if seen.over.load(Ordering::SeqCst) {
                break;
            }
            let variant = turn % VARIANTS.len();
            match ask(seen, &client, url, uri, keys, VARIANTS[variant]).await {
                Ok(iat) if iat < newest[variant] => {
                    seen.violation(format!("{:?}: an older token followed a newer one", VARIANTS[variant]));
                }
                Ok(iat) => newest[variant] = iat,
                Err(error) => seen.violation(format!("{:?}: {error}", VARIANTS[variant])),
            }
        }
    });
}

impl Seen {
    fn violation(&self, what: String) {
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < 20 {
            violations.push(what);
        }
    }
}

/// Sends one request. Returns the `iat` of the answer, or what is wrong with it.
async fn ask(
    seen: &Seen,
    client: &Client,
    url: &str,
    uri: &str,
    keys: &JwkSet,
    (accept, accept_encoding): (&str, &str),
) -> Result<u64, String> {
    let request = client.get(url).header("accept", accept).header("accept-encoding", accept_encoding);
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (status, etag, media_type) = (answer.status().as_u16(), header("etag"), header("content-type"));
    let compressed = header("content-encoding").is_some();
    if status != 200 {
        return Err(format!("status {status}"));
    }
    let etag = etag.ok_or("no ETag")?;
    let body = answer.bytes().await.map_err(|error| format!("{error:?}"))?.to_vec();
    seen.answers.fetch_add(1, Ordering::Relaxed);
    seen.compressed.fetch_add(u64::from(compressed), Ordering::Relaxed);

    let digest = digest(&body);
    let known = seen.contents.lock().unwrap().get(&etag).cloned();
    if let Some((known, iat)) = known {
        return if known == digest {
            Ok(iat)
        } else {
            Err(format!("ETag {etag} was seen with another body"))
        };
    }
    let iat = verify(seen, &body, compressed, media_type.as_deref(), uri, keys)?;
    let (known, _) = seen.contents.lock().unwrap().entry(etag).or_insert((digest.clone(), iat)).clone();
    if known == digest { Ok(iat) } else { Err(format!("an ETag of {iat} was seen with another body")) }
}

/// Verifies a body that was not seen before. Returns its `iat`.
fn verify(
    seen: &Seen,
    body: &[u8],
    compressed: bool,
    media_type: Option<&str>,
    uri: &str,
    keys: &JwkSet,
) -> Result<u64, String> {
    match media_type {
        Some(cwt::MEDIA_TYPE) if !compressed => {
            return List::verify_cwt(body, uri, keys).map(|list| list.iat);
        }
        Some(jwt::MEDIA_TYPE) => {}
        other => return Err(format!("type {other:?}, compressed: {compressed}")),
    }
    let plain = if compressed { &gunzip(body).map_err(|error| error.to_string())? } else { body };
    let iat = List::verify(std::str::from_utf8(plain).map_err(|error| error.to_string())?, uri, keys)?.iat;
    let digest = digest(plain);
    let known = seen.jwts.lock().unwrap().entry(iat).or_insert_with(|| digest.clone()).clone();
    if known == digest { Ok(iat) } else { Err(format!("the compressed and the plain form of {iat} differ")) }
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}
