//! nginx with the shipped configuration answers like the built-in server, and keeps what is not public to itself.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use reqwest::Method;
use serde_json::Value;
use statuslist::base::clock::Clock;
use statuslist::bitstring;
use statuslist::status_list::{ListId, cwt, jwt};
use tempfile::TempDir;

use self::expectations::{
    Body, CSV, RAW_CBOR, RAW_JSON, ROWS, Reply, Row, STATUS_PAGE, Subject, Words, check,
};
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::nginx::{Nginx, Settings};
use crate::support::relying_party::{List, jwks, published};
use crate::support::site::TestSite;

#[path = "../../src/site/server/expectations.rs"]
mod expectations;

const IAT: u64 = 1_700_000_000;
/// In 2100.
const EXP: u64 = 4_102_444_800;
const GZIP: (&str, &str) = ("Accept-Encoding", "gzip");
const CWT: (&str, &str) = ("Accept", cwt::MEDIA_TYPE);

/// nginx over a folder with the content that the placeholders of the expectations name.
struct Served {
    nginx: Nginx,
    base: &'static str,
    site: TestSite,
    words: Words,
    _folder: TempDir,
}

impl Served {
    fn start(base: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = TestSite::open(folder.path(), &format!("https://status.example{base}"));
        let [both, jwt, cwt, raw, credential, torn, expired, gone, unknown] =
            std::array::from_fn(|_| ListId::random());
        site.publish(both, IAT, EXP, true, true);
        site.publish(jwt, IAT, EXP, true, false);
        fs::remove_file(site.path(jwt, "jwt.gz")).unwrap();
        site.publish(cwt, IAT, EXP, false, true);
        site.publish(raw, IAT, EXP, true, false);
        write(&site.path(raw, "json"), RAW_JSON, IAT);
        write(&site.path(raw, "cbor"), RAW_CBOR, IAT);
        // As after a crash between the two renames.
        site.publish(torn, IAT, EXP, true, false);
        let before = fs::read(site.path(torn, "jwt")).unwrap();
        site.publish(torn, IAT + 1, EXP, true, false);
        write(&site.path(torn, "jwt"), &before, IAT);
        site.publish(credential, IAT, EXP, true, false);
        site.publish(expired, IAT, IAT + 1, true, true);
        write(&site.path(credential, "revocation"), site.credential(credential, IAT, EXP).as_bytes(), IAT);
        write(&site.path(gone, "gone"), b"", IAT);
        site.aggregate(&[both]);
        site.site.write_status_page(Some(STATUS_PAGE)).unwrap();
        site.site.write_statistics(&"demo".parse().unwrap(), CSV).unwrap();
        for name in ["jwks.json", "aggregation/demo.json", "status/pools.json", "status/demo.csv"] {
            set_modified(&site.site.layout().lists().join(name), IAT);
        }

        let nginx = Nginx::start(&Settings { public_path: base, ..Settings::new(site.storage()) });
        let ask = |list: ListId, headers: &[(&str, &str)]| {
            Reply::read(nginx.public, "GET", &format!("{base}/{list}"), headers)
        };
        let header = |list: ListId, headers: &[(&str, &str)], name: &str| {
            ask(list, headers).header(name).unwrap().to_owned()
        };
        let mut words = vec![
            ("{etag jwt}", header(both, &[], "etag")),
            ("{etag gzip}", header(both, &[GZIP], "etag")),
            ("{etag cwt}", header(both, &[CWT], "etag")),
            ("{etag expired}", header(expired, &[], "etag")),
            ("{etag credential}", {
                let path = format!("{base}/bitstring/revocation/{credential}");
                let reply = Reply::read(nginx.public, "GET", &path, &[]);
                reply.header("etag").unwrap().to_owned()
            }),
            ("{modified}", header(both, &[], "last-modified")),
            ("{next}", header(torn, &[GZIP], "last-modified")),
            ("{pool}", "demo".to_owned()),
            ("{BOTH}", both.to_string().to_uppercase()),
        ];
        assert_eq!(
            words[5].1, "Tue, 14 Nov 2023 22:13:20 GMT",
            "the time of a file is the `iat` of its token"
        );
        let lists =
            [both, jwt, cwt, raw, credential, torn, expired, gone, unknown].map(|list| list.to_string());
        let names = [
            "{both}",
            "{jwt}",
            "{cwt}",
            "{raw}",
            "{credential}",
            "{torn}",
            "{expired}",
            "{gone}",
            "{unknown}",
        ];
        words.extend(names.into_iter().zip(lists));
        Self { nginx, base, site, words: Words(words), _folder: folder }
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("GET", &self.words.fill_in(path), headers)
    }
}

impl Subject for Served {
    const CACHE_CONTROL: &'static str = "public, max-age=300, stale-while-revalidate=300";

    fn address(&self) -> SocketAddr {
        self.nginx.public
    }

    fn base(&self) -> &str {
        self.base
    }

    fn words(&self) -> &Words {
        &self.words
    }

    fn sub_of_jwt(&self, token: &[u8]) -> String {
        let token = jwt::decode(std::str::from_utf8(token).unwrap()).unwrap();
        assert!(self.site.signer.public_key().verify(token.signing_input.as_bytes(), &token.signature));
        token.claims.sub
    }

    fn sub_of_cwt(&self, token: &[u8]) -> String {
        let token = cwt::decode(token).unwrap();
        assert!(self.site.signer.public_key().verify(&token.signing_input, &token.signature));
        token.claims.sub
    }

    fn id_of_credential(&self, credential: &[u8]) -> String {
        let read = bitstring::decode(std::str::from_utf8(credential).unwrap()).unwrap();
        assert!(self.site.signer.public_key().verify(read.signing_input.as_bytes(), &read.signature));
        read.credential.id
    }
}

fn write(path: &Path, content: &[u8], modified: u64) {
    fs::File::create(path).unwrap().write_all(content).unwrap();
    set_modified(path, modified);
}

fn set_modified(path: &Path, secs: u64) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
}

#[test]
fn every_expectation_is_met() {
    for base in ["/lists", ""] {
        let served = Served::start(base);
        let mut unmet = Vec::new();
        for row in ROWS {
            let expected = held_to(row, base);
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&served, &expected)));
            if outcome.is_err() {
                let because = row.nginx.as_ref().map_or("as the built-in server", |nginx| nginx.because);
                unmet.push(format!("{} ({because}): {expected:?}", row.name));
            }
        }
        assert!(unmet.is_empty(), "unmet under `{base}`: {unmet:#?}");
    }
}

/// The row with nginx' own answer, if that differs.
fn held_to(row: &Row, base: &str) -> Row {
    let (status, body) = match &row.nginx {
        // Nothing is above the root: nginx does not take this for an address.
        _ if base.is_empty() && row.path.starts_with("/..") => (400, Body::Problem("BAD_REQUEST")),
        // The only difference that depends on the version.
        Some(_) if row.name == "two lines" && crate::support::nginx::version() >= (1, 23) => {
            (row.status, row.body)
        }
        Some(nginx) => (nginx.status, nginx.body),
        None => (row.status, row.body),
    };
    Row { status, body, nginx: None, ..*row }
}

fn code(reply: &Reply) -> String {
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "{reply:?}");
    reply.problem()["code"].as_str().unwrap().to_owned()
}

#[test]
fn messages_name_what_is_missing_and_hold_nothing_that_is_not_json() {
    let served = Served::start("/lists");
    let message = |path: &str| served.get(path, &[]).problem()["message"].as_str().unwrap().to_owned();
    assert_eq!(message("/{unknown}"), served.words.fill_in("No list with id {unknown}"));
    assert_eq!(message("/{unknown}?a=b"), served.words.fill_in("No list with id {unknown}"));
    assert_eq!(message("/aggregation/abc"), "No pool with id abc");
    assert_eq!(message("/%22%3C"), "Nothing has this id");
    assert_eq!(message("/\"\\"), "Nothing has this id");
    assert_eq!(message(&format!("/{}", "x".repeat(500))), "Nothing has this id");
    assert_eq!(message("/a/b"), "Nothing is served under this path");
}

/// Would break with `open_file_cache`; and nginx' ETag would repeat without the publisher's mtimes and sizes.
#[test]
fn a_replaced_file_is_seen_at_once_and_has_validators_of_its_own() {
    let served = Served::start("/lists");
    let list = ListId::random();
    let mut seen = std::collections::HashSet::new();
    for iat in IAT..IAT + 20 {
        served.site.publish(list, iat, EXP, true, true);
        for headers in [[("Accept", "*/*"); 2], [("Accept", "*/*"), GZIP], [CWT, GZIP]] {
            let reply = served.get(&format!("/{list}"), &headers);
            assert!(seen.insert(reply.header("etag").unwrap().to_owned()), "{iat}: {reply:?}");
            let size = reply.header("etag").unwrap().trim_matches('"').split_once('-').unwrap().1.to_owned();
            assert_eq!(usize::from_str_radix(&size, 16).unwrap(), reply.body.len());
            let date = format!("{}", httpdate(iat));
            assert_eq!(reply.header("last-modified"), Some(date.as_str()));
        }
    }
    fs::remove_file(served.site.path(list, "jwt")).unwrap();
    assert_eq!(served.get(&format!("/{list}"), &[]).header("content-type"), Some(cwt::MEDIA_TYPE));
    fs::remove_file(served.site.path(list, "cwt")).unwrap();
    fs::remove_file(served.site.path(list, "jwt.gz")).unwrap();
    assert_eq!(served.get(&format!("/{list}"), &[]).status, 404);
}

#[test]
fn control_with_an_open_file_cache_the_replaced_file_would_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let site = TestSite::open(folder.path(), "https://status.example/lists");
    let list = ListId::random();
    let more = "open_file_cache max=10; open_file_cache_valid 60s; open_file_cache_min_uses 1;";
    let nginx = Nginx::start(&Settings { more, ..Settings::new(site.storage()) });
    let etag = |_| {
        let reply = Reply::read(nginx.public, "GET", &format!("/lists/{list}"), &[]);
        reply.header("etag").unwrap().to_owned()
    };
    site.publish(list, IAT, EXP, true, true);
    // Each worker has a cache of its own.
    let before: std::collections::HashSet<_> = (0..20).map(etag).collect();
    site.publish(list, IAT + 1, EXP, true, true);
    let after: std::collections::HashSet<_> = (0..20).map(etag).collect();
    assert!(!before.is_disjoint(&after), "the test above would not detect an old file");
}

fn httpdate(secs: u64) -> actix_web::http::header::HttpDate {
    (UNIX_EPOCH + Duration::from_secs(secs)).into()
}

#[test]
fn nothing_else_of_the_folder_is_served() {
    let served = Served::start("/lists");
    let list = served.words.fill_in("{both}");
    let storage = served.site.storage();
    write(&storage.join("secret.txt"), b"secret", IAT);
    write(&storage.join("lists/.tmp-1"), b"secret", IAT);
    write(&storage.parent().unwrap().join("statuslist.db"), b"secret", IAT);
    for path in [
        format!("/lists/{list}.jwt.gz"),
        format!("/lists/{list}.cwt"),
        format!("/jwt/{list}.jwt"),
        format!("/gzip/{list}.jwt"),
        format!("/cwt/{list}.cwt"),
        "/json/jwks.json".to_owned(),
        "/json/../jwks.json".to_owned(),
        "/lists/jwks.json/".to_owned(),
        "/lists/aggregation/demo.json".to_owned(),
        "/lists/aggregation/".to_owned(),
        "/lists/aggregation".to_owned(),
        "/lists/.tmp-1".to_owned(),
        "/lists/".to_owned(),
        "/lists".to_owned(),
        "/secret.txt".to_owned(),
        "/assets/../secret.txt".to_owned(),
        "/assets/".to_owned(),
        "/assets".to_owned(),
        "/lists/aggregation/..%2f..%2fsecret.txt".to_owned(),
        "/neither".to_owned(),
        "/time/on".to_owned(),
        "/time/off".to_owned(),
        "/preflight".to_owned(),
        "/wrong-method".to_owned(),
        "/problem".to_owned(),
        // The service's own.
        "/pools/demo".to_owned(),
        "/metrics".to_owned(),
        "/health/live".to_owned(),
    ] {
        let reply = Reply::read(served.nginx.public, "GET", &path, &[]);
        assert_eq!((reply.status, reply.body.windows(6).any(|six| six == b"secret")), (404, false), "{path}");
        code(&reply);
    }
    for path in ["/../statuslist.db", "/..%2f..%2fstatuslist.db", "/%2e%2e/statuslist.db", "/lists/%00", "/%"]
    {
        let reply = Reply::read(served.nginx.public, "GET", path, &[]);
        assert_eq!((reply.status, code(&reply).as_str()), (400, "BAD_REQUEST"), "{path}");
    }
}

#[test]
fn requests_that_do_not_read_are_refused_with_a_problem() {
    let served = Served::start("/lists");
    let path = served.words.fill_in("/{both}");
    for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "X-ANY"] {
        let reply = served.ask(method, &path, &[("Content-Length", "0")]);
        assert_eq!((reply.status, code(&reply).as_str()), (405, "METHOD_NOT_ALLOWED"), "{method}");
        assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"), "{method}");
    }
    let large = "x".repeat(9000);
    let reply = served.get(&path, &[("X-Large", &large)]);
    assert_eq!((reply.status, code(&reply).as_str()), (431, "HEADER_TOO_LARGE"));
    let reply = served.get(&format!("{path}?{large}"), &[]);
    assert_eq!((reply.status, code(&reply).as_str()), (414, "URI_TOO_LONG"));
    let reply = served.ask("POST", &path, &[("Content-Length", "2000")]);
    assert_eq!((reply.status, code(&reply).as_str()), (413, "PAYLOAD_TOO_LARGE"));
    let reply = served.ask("get", &path, &[]);
    assert_eq!((reply.status, code(&reply).as_str()), (400, "BAD_REQUEST"));
    let reply = served.get(&path, &[("If-Match", "\"a\"")]);
    assert_eq!((reply.status, code(&reply).as_str()), (412, "PRECONDITION_FAILED"));
}

/// The negotiation matches untrusted headers with regular expressions; these headers would keep careless ones busy until nginx
/// gives up with 500.
#[test]
fn headers_made_to_keep_nginx_busy_are_answered() {
    let served = Served::start("/lists");
    for piece in [
        ";",
        ",",
        " ",
        "\"",
        ";q",
        ";a=\"",
        "application/statuslist+jwt;",
        "*/*;a=\"b\"",
        "0;",
        "application/",
    ] {
        let header = piece.repeat(7000 / piece.len());
        for name in ["Accept", "Accept-Encoding"] {
            for (before, after) in [("", ""), ("*/*;", "!"), ("application/statuslist+cwt;a=", ";q=1")] {
                let value = format!("{before}{header}{after}");
                let reply = served.get("/{both}", &[(name, &value)]);
                assert!(
                    [200, 406].contains(&reply.status),
                    "{name}: {before}{piece}…{after}: {}",
                    reply.status
                );
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_503_and_no_page_of_nginx() {
    let served = Served::start("/lists");
    // Nobody can read a symbolic link to itself, not even root.
    let list = ListId::random();
    std::os::unix::fs::symlink(served.site.path(list, "jwt"), served.site.path(list, "jwt")).unwrap();
    let reply = served.get(&format!("/{list}"), &[]);
    assert_eq!((reply.status, code(&reply).as_str()), (503, "UNAVAILABLE"), "{reply:?}");
}

#[test]
fn the_rate_of_one_address_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let site = TestSite::open(folder.path(), "https://status.example/lists");
    let nginx = Nginx::start(&Settings { rate: Some(1), ..Settings::new(site.storage()) });
    let ask = || Reply::read(nginx.public, "GET", "/lists/jwks.json", &[]);
    let replies: Vec<_> = (0..1000).map(|_| ask()).take_while(|reply| reply.status == 200).collect();
    assert!((400..600).contains(&replies.len()), "the burst: {}", replies.len());
    let reply = ask();
    assert_eq!((reply.status, code(&reply).as_str()), (429, "RATE_LIMIT_REACHED"));
    assert_eq!((reply.header("retry-after"), reply.header("cache-control")), (Some("1"), Some("no-store")));
    assert!(!nginx.log("error.log").contains("limiting"), "it would name the client");
}

#[tokio::test]
async fn the_write_api_is_reached_at_its_own_address_only() {
    let app = TestApp::start("update-interval: 1s");
    let service = app.url.trim_start_matches("http://").parse().unwrap();
    let storage = app.folder().join("public");
    let nginx = Nginx::start(&Settings { service, ..Settings::new(&storage) });
    let send = async |address: SocketAddr, method: Method, path: &str, body: String| {
        let request = app.client.request(method, format!("http://{address}{path}"));
        let request = request.header("X-Api-Key", crate::support::app::KEY);
        let response = request.header("Content-Type", "application/json").body(body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str::<Value>(&response.text().await.unwrap()).unwrap_or_default())
    };
    let allocate = "/pools/p/new-references?amount=1";
    let (status, body) = send(nginx.api, Method::POST, allocate, String::new()).await;
    assert_eq!(status, 200, "{body}");
    let reference = &body["references"][0];
    let update = serde_json::json!({ "uri": reference["uri"], "index": reference["index"], "value": 1 });
    let paths = [
        (Method::POST, allocate),
        (Method::PATCH, "/status-lists/update"),
        (Method::PATCH, "/status-lists/batch-update"),
        (Method::POST, "/api/p/new-reference"),
        (Method::POST, "/api/update-status"),
        (Method::GET, "/pools/p"),
        (Method::GET, "/metrics"),
    ];
    for (method, path) in paths {
        let (status, body) = send(nginx.public, method, path, update.to_string()).await;
        assert_eq!((status, &body["code"]), (404, &"NOT_FOUND".into()), "{path}");
    }
    assert_eq!(send(nginx.api, Method::PATCH, "/status-lists/update", update.to_string()).await.0, 204);
    let (status, body) = send(nginx.api, Method::PATCH, "/status-lists/update", "x".repeat(17 << 20)).await;
    assert_eq!((status, &body["code"]), (413, &"PAYLOAD_TOO_LARGE".into()));

    drop(app.stop());
    let client = reqwest::Client::new();
    let response = client.post(format!("http://{}{allocate}", nginx.api)).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "2"));
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["code"], "UNAVAILABLE");
    let log = nginx.log("api.log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines.iter().any(|line| line["status"] == 204 && line["path"] == "/status-lists/update"),
        "{log}"
    );
    assert!(!log.contains(crate::support::app::KEY), "{log}");
}

#[tokio::test]
async fn with_the_service_stopped_and_its_store_deleted_everything_is_answered() {
    let app = TestApp::start("update-interval: 1s, formats: [jwt, cwt]");
    let storage = app.folder().join("public");
    let service = app.url.trim_start_matches("http://").parse().unwrap();
    let nginx = Nginx::start(&Settings { service, ..Settings::new(&storage) });
    let reference = app.references(1).await.remove(0);
    app.update(&reference, 1.into()).await;
    eventually("the update to be published", async || {
        let list = published(app.folder(), &reference.uri).ok()?;
        (list.status(reference.index) == 1).then_some(())
    })
    .await;
    let folder = app.stop();
    for name in ["statuslist.db", "statuslist.db-wal", "statuslist.db-shm", "keys"] {
        let path = folder.path().join(name);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
    assert!(!folder.path().join("statuslist.db").exists());

    let path = format!("/lists/{}", reference.uri.rsplit('/').next().unwrap());
    let ask = |path: &str, headers: &[(&str, &str)]| Reply::read(nginx.public, "GET", path, headers);
    let jwks = jwks(folder.path());
    let plain = ask(&path, &[]);
    let token = String::from_utf8(plain.body.clone()).unwrap();
    assert_eq!(List::verify(&token, &reference.uri, &jwks).unwrap().status(reference.index), 1);
    let gzip = ask(&path, &[GZIP]);
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert_eq!(crate::support::gunzip(&gzip.body).unwrap(), plain.body);
    let cwt = ask(&path, &[CWT]).body;
    assert_eq!(List::verify_cwt(&cwt, &reference.uri, &jwks).unwrap().status(reference.index), 1);
    let unchanged = ask(&path, &[("If-None-Match", plain.header("etag").unwrap())]);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let aggregation = ask("/lists/aggregation/p", &[]).problem();
    assert!(aggregation["status_lists"].as_array().unwrap().contains(&reference.uri.clone().into()));
    assert_eq!(ask("/lists/jwks.json", &[]).body, fs::read(storage.join("lists/jwks.json")).unwrap());
    assert_eq!(ask(&format!("{path}?time=1"), &[]).status, 501);
    assert_eq!(ask("/lists/x", &[]).status, 404);
    // The control: requests that need the service fail.
    assert_eq!(Reply::read(nginx.api, "GET", "/health/live", &[]).status, 503);
}

#[tokio::test]
async fn the_service_answers_history_if_it_is_on() {
    let folder = tempfile::tempdir().unwrap();
    let public = "https://status.example";
    let settings = format!("status-list-pools: {{ p: {{ api-key: {} }} }}", crate::support::app::KEY);
    let app = TestApp::start_at(folder, public, &settings, Clock::System);
    let reference = app.references(1).await.remove(0);
    let path = reference.uri.trim_start_matches(public).to_owned();
    let service = app.url.trim_start_matches("http://").parse().unwrap();
    let storage = app.folder().join("public");
    let nginx = Nginx::start(&Settings { service, history: true, ..Settings::new(&storage) });
    let ask = |query: &str| Reply::read(nginx.public, "GET", &format!("{path}{query}"), &[]);
    assert_eq!(ask("").status, 200);
    for query in ["?time=1686925000", "?time=0", "?time=", "?a=b&%74ime=1"] {
        // The service's own answer, whatever it is.
        let reply = ask(query);
        let direct = Reply::read(service, "GET", &format!("{path}{query}"), &[]);
        assert_eq!((reply.status, &reply.body), (direct.status, &direct.body), "{query}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    }
    drop(app.stop());
    let reply = ask("?time=1686925000");
    assert_eq!((reply.status, code(&reply).as_str()), (503, "UNAVAILABLE"), "{reply:?}");
}

#[test]
fn no_log_of_the_lists_identifies_clients() {
    let served = Served::start("/lists");
    let path = served.words.fill_in("/{both}");
    let loud = [
        ("User-Agent", "Relying-Party/1"),
        ("Referer", "https://rp.example"),
        ("Cookie", "rp=1"),
        ("Authorization", "Bearer rp"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Origin", "https://rp.example"),
    ];
    for path in [&path, "/abc", "/aggregation/demo", "/jwks.json", "/%00", &format!("{path}?time=1&rp=1")] {
        for method in ["GET", "HEAD", "OPTIONS", "POST", "TRACE"] {
            served.ask(method, path, &loud);
        }
    }
    Reply::read(served.nginx.api, "GET", "/health/live", &loud);
    let log = served.nginx.log("lists.log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let file = served.words.fill_in("/jwt/{both}.jwt");
    assert!(lines.iter().any(|line| line["status"] == 200 && line["file"] == file.as_str()), "{log}");
    let error_log = served.nginx.log("error.log");
    let error_log: String = error_log.lines().filter(|line| !line.contains("[notice]")).collect();
    for tell_tale in ["127.0.0.1", "Relying-Party", "rp.example", "rp=1", "Bearer", "192.0.2.1"] {
        assert!(!log.contains(tell_tale), "{tell_tale}: {log}");
        assert!(
            !error_log.lines().any(|line| line.contains(tell_tale) && line.contains("status_lists/")),
            "{error_log}"
        );
    }
    // The control: the other log, of the write API, does identify clients.
    assert!(served.nginx.log("api.log").contains(r#""client":"127.0.0.1""#));
}

#[test]
fn the_explorer_page_may_run_nothing_but_itself() {
    let served = Served::start("/lists");
    let storage = served.site.storage();
    fs::create_dir(storage.join("assets")).unwrap();
    for (name, content) in [
        ("index.html", "<!doctype html>"),
        ("status.html", "<!doctype html>"),
        ("explorer.json", "{}"),
        ("assets/main.js", "1"),
        ("assets/style.css", "a{}"),
        ("assets/icon.svg", "<svg/>"),
    ] {
        write(&storage.join(name), content.as_bytes(), IAT);
    }
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/status.html", "text/html; charset=utf-8"),
        ("/explorer.json", "application/json; charset=utf-8"),
        ("/assets/main.js", "text/javascript; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml; charset=utf-8"),
    ] {
        let reply = Reply::read(served.nginx.public, "GET", path, &[]);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(media_type)), "{path}");
        let policy = reply.header("content-security-policy").unwrap();
        for directive in
            ["default-src 'none'", "script-src 'self';", "base-uri 'none'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(directive), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("cache-control"), Some("no-cache"));
        let etag = reply.header("etag").unwrap();
        assert_eq!(Reply::read(served.nginx.public, "GET", path, &[("If-None-Match", etag)]).status, 304);
        let reply = Reply::read(served.nginx.public, "POST", path, &[("Content-Length", "0")]);
        assert_eq!((reply.status, code(&reply).as_str()), (405, "METHOD_NOT_ALLOWED"), "{path}");
    }
    assert_eq!(Reply::read(served.nginx.public, "GET", "/assets/none.js", &[]).status, 404);
}

#[test]
fn tls_has_http_2_and_nothing_older_than_tls_1_2() {
    let folder = tempfile::tempdir().unwrap();
    let site = TestSite::open(folder.path(), "https://localhost/lists");
    let list = ListId::random();
    site.publish(list, IAT, EXP, true, true);
    write(&site.storage().join("index.html"), b"<!doctype html>", IAT);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("chain.pem"), folder.path().join("tls.pem"));
    write(&certificate, made.cert.pem().as_bytes(), IAT);
    write(&key, made.signing_key.serialize_pem().as_bytes(), IAT);
    let nginx = Nginx::start(&Settings { tls: Some((&certificate, &key)), ..Settings::new(site.storage()) });
    let curl = |path: &str, more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-D", "-", "-o", "/dev/null", "-w", "version %{http_version}\n", "--cacert"]);
        curl.arg(&certificate).args(more).arg(format!("https://localhost:{}{path}", nginx.public.port()));
        let resolve = format!("localhost:{}:127.0.0.1", nginx.public.port());
        let output = curl.args(["--resolve", &resolve]).output().expect("curl is missing: run scripts/test");
        (output.status.success(), String::from_utf8(output.stdout).unwrap().to_lowercase())
    };
    for (versions, http) in [(["--http2", "--tlsv1.3"], "2"), (["--http1.1", "--tlsv1.2"], "1.1")] {
        let (success, head) = curl(&format!("/lists/{list}"), &versions);
        assert!(success && head.contains(&format!("version {http}\n")), "{head}");
        assert!(head.contains("content-type: application/statuslist+jwt"), "{head}");
        let (success, head) = curl("/", &versions);
        assert!(success && head.contains("strict-transport-security: max-age=63072000"), "{head}");
    }
    assert!(!curl("/", &["--tlsv1.0", "--tls-max", "1.1"]).0, "TLS 1.1 is refused");
}
