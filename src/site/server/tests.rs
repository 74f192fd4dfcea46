//! The site over a real socket, with real files.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, UNIX_EPOCH};

use actix_web::dev::ServerHandle;
use actix_web::rt::System;
use actix_web::web::Bytes;
use actix_web::{App, HttpServer};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::expectations::{CSV, RAW_CBOR, RAW_JSON, ROWS, Reply, STATUS_PAGE, Subject, Words, check};
use serde_json::{Value, json};

use super::*;
use crate::base::clock::NumericDate;
use crate::bitstring::{self, Credential};
use crate::sign::{Algorithm, JwkSet, KeyHints, Signer, SigningKey, generate};
use crate::status_list::{Bits, Capacity, Claims, StatusArray, cwt, jwt, lst};

const NOW: u64 = 1_800_000_000;
const MAX_AGE: u64 = 300;
const LIFETIME: u64 = 3600;

/// A folder as the publisher writes it, a server over it, and a clock.
struct Site {
    folder: tempfile::TempDir,
    signer: Signer,
    now: Arc<AtomicU64>,
    address: SocketAddr,
    base: &'static str,
    server: ServerHandle,
}

impl Site {
    fn start(base: &'static str) -> Self {
        Self::with_cache(base, CACHE_BYTES_MAX)
    }

    fn with_cache(base: &'static str, cache_bytes_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_pem(&generate(Algorithm::Es256).unwrap(), None, None).unwrap();
        let signer = Signer::new(key, KeyHints { kid: true, x5c: false, jwk: false });
        let now = Arc::new(AtomicU64::new(NOW));
        let clock = Arc::clone(&now);
        fs::create_dir(folder.path().join("lists")).unwrap();
        let site = SiteServer::new(
            Layout::of(folder.path()),
            base,
            Duration::from_secs(MAX_AGE),
            Arc::new(move || NumericDate::from_secs(clock.load(Ordering::SeqCst))),
        );
        let site = Arc::new(site.with_cache_bytes_max(cache_bytes_max));
        let (tell, told) = mpsc::channel();
        // On a separate thread, because the tests block theirs.
        std::thread::spawn(move || {
            System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    let live = web::resource("/health/live").to(async || "alive");
                    App::new().configure(|config| site.configure(config, |config| _ = config.service(live)))
                });
                let server = server.workers(2).disable_signals().bind(("127.0.0.1", 0)).unwrap();
                let address = server.addrs()[0];
                let server = server.run();
                tell.send((address, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (address, server) = told.recv().unwrap();
        Self { folder, signer, now, address, base, server }
    }

    fn claims(&self, list: ListId, iat: u64, ttl: Option<u64>) -> Claims {
        // 800 entries that compress badly, so that a torn body would be a large part of it.
        let array: Vec<u8> = (0..100_u64).map(|byte| (byte * byte * iat % 251) as u8).collect();
        Claims {
            nbf: None,
            sub: format!("http://{}{}/{list}", self.address, self.base),
            iss: None,
            iat: NumericDate::from_secs(iat),
            exp: Some(NumericDate::from_secs(iat + LIFETIME)),
            ttl: ttl.map(Duration::from_secs),
            bits: Bits::One,
            lst: lst::compress(&array).into(),
            aggregation_uri: None,
        }
    }

    fn credential(&self, list: ListId, iat: u64, purpose: Purpose) -> Credential {
        let claims = Claims {
            iss: Some("https://issuer.example".to_owned()),
            ..self.claims(list, iat, Some(LIFETIME / 2))
        };
        let bytes = lst::inflate(&claims.lst, 100).unwrap();
        let capacity = Capacity::of_bytes(bytes.len(), claims.bits).unwrap();
        Credential::of(&claims, &StatusArray::from_bytes(capacity, bytes).unwrap(), purpose)
    }

    fn lists(&self) -> PathBuf {
        self.folder.path().join("lists")
    }

    fn write(&self, name: impl AsRef<Path>, content: &[u8], modified: u64) {
        write(&self.lists().join(name), content, modified);
    }

    /// Writes the forms of one publication in the publisher's order: compressed before plain.
    fn publish(&self, list: ListId, iat: u64, formats: &[Format]) {
        let claims = self.claims(list, iat, Some(LIFETIME / 2));
        for format in formats {
            match format {
                Format::Jwt => {
                    let token = self.signer.sign_jwt(&claims).unwrap();
                    self.write(format!("{list}.jwt.gz"), &gzip(token.as_bytes()), iat);
                    self.write(format!("{list}.jwt"), token.as_bytes(), iat);
                }
                Format::Cwt => {
                    self.write(format!("{list}.cwt"), &self.signer.sign_cwt(&claims).unwrap(), iat)
                }
                Format::Json => self.write(format!("{list}.json"), RAW_JSON, iat),
                Format::Cbor => self.write(format!("{list}.cbor"), RAW_CBOR, iat),
                Format::Bitstring(purpose) => {
                    let credential = self.credential(list, iat, *purpose);
                    let token = self.signer.sign_credential(&credential).unwrap();
                    self.write(format!("{list}.{format}"), token.as_bytes(), iat);
                }
            }
        }
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        Reply::read(self.address, method, &format!("{}{path}", self.base), headers)
    }

    fn get(&self, list: ListId, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", &format!("/{list}"), headers)
    }

    fn verify_jwt(&self, body: &[u8]) -> Claims {
        let token = jwt::decode(std::str::from_utf8(body).unwrap()).unwrap();
        assert!(self.signer.public_key().verify(token.signing_input.as_bytes(), &token.signature));
        token.claims
    }

    fn verify_cwt(&self, body: &[u8]) -> Claims {
        let token = cwt::decode(body).unwrap();
        assert!(self.signer.public_key().verify(&token.signing_input, &token.signature));
        token.claims
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The call sends the command; nothing waits for its completion.
        drop(self.server.stop(false));
    }
}

fn write(path: &Path, content: &[u8], modified: u64) {
    static TEMPORARY: AtomicU64 = AtomicU64::new(0);
    let temporary = path.with_extension(format!("tmp{}", TEMPORARY.fetch_add(1, Ordering::SeqCst)));
    let mut file = fs::File::create(&temporary).unwrap();
    file.write_all(content).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(modified)).unwrap();
    fs::rename(temporary, path).unwrap();
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(compressed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut plain).unwrap();
    plain
}

/// A site with the content that the placeholders of the expectations name.
struct Expected {
    site: Site,
    words: Words,
}

impl Expected {
    fn publish(site: Site) -> Self {
        let [both, jwt, cwt, raw, credential, torn, expired, gone, unknown] =
            std::array::from_fn(|_| ListId::random());
        let revocation = Format::Bitstring(Purpose::Revocation);
        let iat = NOW - 10;
        site.publish(both, iat, &Format::SIGNED);
        site.publish(jwt, iat, &[Format::Jwt]);
        fs::remove_file(site.lists().join(format!("{jwt}.jwt.gz"))).unwrap();
        site.publish(cwt, iat, &[Format::Cwt]);
        site.publish(raw, iat, &[Format::Jwt, Format::Json, Format::Cbor]);
        site.publish(torn, iat, &[Format::Jwt]);
        let next = site.signer.sign_jwt(&site.claims(torn, iat + 1, None)).unwrap();
        site.write(format!("{torn}.jwt.gz"), &gzip(next.as_bytes()), iat + 1);
        site.publish(credential, iat, &[Format::Jwt, revocation]);
        site.publish(expired, NOW - LIFETIME, &Format::SIGNED);
        site.write(format!("{gone}.gone"), b"", iat);
        fs::create_dir(site.lists().join("aggregation")).unwrap();
        let aggregation = Aggregation { status_lists: vec![site.claims(both, iat, None).sub] };
        site.write("aggregation/demo.json", &aggregation.to_json(), iat);
        fs::create_dir(site.lists().join("status")).unwrap();
        site.write("status/pools.json", STATUS_PAGE, iat);
        site.write("status/demo.csv", CSV, iat);
        site.write("jwks.json", &serde_json::to_vec(&JwkSet { keys: vec![site.signer.jwk()] }).unwrap(), iat);

        let reply = |headers: &[(&str, &str)]| site.get(both, headers);
        let etag = |headers: &[(&str, &str)]| reply(headers).header("etag").unwrap().to_owned();
        let mut words: Vec<(&str, String)> = vec![
            ("{etag jwt}", etag(&[])),
            ("{etag gzip}", etag(&[("Accept-Encoding", "gzip")])),
            ("{etag cwt}", etag(&[("Accept", cwt::MEDIA_TYPE)])),
            ("{etag credential}", {
                let reply = site.send("GET", &format!("/bitstring/revocation/{credential}"), &[]);
                reply.header("etag").unwrap().to_owned()
            }),
            ("{modified}", reply(&[]).header("last-modified").unwrap().to_owned()),
            ("{pool}", "demo".to_owned()),
            ("{BOTH}", both.to_string().to_uppercase()),
        ];
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
        Self { site, words: Words(words) }
    }
}

impl Subject for Expected {
    const CACHE_CONTROL: &'static str = "public, max-age=300";

    fn address(&self) -> SocketAddr {
        self.site.address
    }

    fn base(&self) -> &str {
        self.site.base
    }

    fn words(&self) -> &Words {
        &self.words
    }

    fn sub_of_jwt(&self, token: &[u8]) -> String {
        self.site.verify_jwt(token).sub
    }

    fn sub_of_cwt(&self, token: &[u8]) -> String {
        self.site.verify_cwt(token).sub
    }

    fn id_of_credential(&self, credential: &[u8]) -> String {
        let read = bitstring::decode(std::str::from_utf8(credential).unwrap()).unwrap();
        assert!(self.site.signer.public_key().verify(read.signing_input.as_bytes(), &read.signature));
        read.credential.id
    }
}

#[test]
fn every_expectation_is_met() {
    let names: HashSet<_> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), ROWS.len(), "row names are unique");
    for base in ["/lists", ""] {
        let expected = Expected::publish(Site::start(base));
        // Twice: the second answer comes from memory.
        for row in ROWS.iter().chain(ROWS) {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&expected, row)));
            assert!(outcome.is_ok(), "`{}` is not met under `{base}`: {row:?}", row.name);
        }
    }
}

#[test]
fn nginx_is_held_to_something_else_in_few_rows_and_for_a_reason() {
    let differences: Vec<_> = ROWS.iter().filter_map(|row| Some((row, row.nginx.as_ref()?))).collect();
    assert!(differences.len() <= 9, "make nginx comply instead of adding a difference: {differences:#?}");
    for (row, nginx) in differences {
        assert!(!nginx.because.is_empty(), "{}", row.name);
        assert_ne!((row.status, row.body), (nginx.status, nginx.body), "{}", row.name);
    }
}

#[test]
fn a_credential_that_has_expired_or_does_not_parse_is_not_served() {
    let site = Site::start("/lists");
    let list = ListId::random();
    let path = format!("/bitstring/suspension/{list}");
    site.publish(list, NOW - 10, &[Format::Bitstring(Purpose::Suspension)]);
    assert_eq!(site.send("GET", &path, &[]).status, 200);
    site.publish(list, NOW - LIFETIME, &[Format::Bitstring(Purpose::Suspension)]);
    let expired = site.send("GET", &path, &[]);
    assert_eq!((expired.status, expired.problem()["code"].as_str()), (503, Some("STALE_TOKEN")));
    site.write(format!("{list}.suspension"), b"a.b.c", NOW);
    assert_eq!(site.send("GET", &path, &[]).status, 503);
}

#[test]
fn messages_say_what_to_change_and_do_not_grow_with_the_question() {
    let site = Site::start("/lists");
    let list = ListId::random();
    let message = |reply: Reply| reply.problem()["message"].as_str().unwrap().to_owned();
    assert_eq!(message(site.get(list, &[])), format!("No list with id {list}"));
    assert_eq!(message(site.send("GET", "/aggregation/abc", &[])), "No pool with id abc");
    assert_eq!(
        message(site.send("GET", &format!("/{}", "x".repeat(5000)), &[])),
        format!("No list with id {}", "x".repeat(64))
    );
    assert_eq!(message(site.send("GET", "/%22%3C%C3%BC", &[])), "No list with id \"<ü");
    site.publish(list, NOW, &Format::SIGNED);
    let refused = message(site.get(list, &[("Accept", "text/html")]));
    assert_eq!(
        refused,
        "This list is available as application/statuslist+jwt and as application/statuslist+cwt"
    );
}

#[test]
fn nothing_outside_the_folder_is_served() {
    let site = Site::start("/lists");
    let list = ListId::random();
    site.publish(list, NOW, &Format::SIGNED);
    fs::create_dir(site.lists().join("aggregation")).unwrap();
    site.write("jwks.json", b"{}", NOW);
    for path in [
        "/..",
        "/../lists",
        "/%2e%2e",
        "/..%2Fjwks.json",
        "/%2e%2e%2fjwks.json",
        "/..%5cjwks.json",
        "/aggregation/..",
        "/aggregation/../jwks",
        "/aggregation/%2e%2e%2fjwks",
        "/aggregation/..%252fjwks",
        "/aggregation//etc/passwd",
        "/aggregation/demo%00",
        &format!("/aggregation/../{list}"),
        &format!("/./{list}"),
        &format!("//{list}"),
        &format!("/{list}%00"),
        &format!("/{list}%2f"),
        &format!("/{list}.cwt"),
        &format!("/{}", list.to_string().to_uppercase()),
    ] {
        let reply = site.send("GET", path, &[]);
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "{path}");
    }
}

#[test]
fn another_route_goes_on_working_beside_an_empty_base() {
    let site = Site::start("");
    let list = ListId::random();
    site.publish(list, NOW, &Format::SIGNED);
    assert_eq!(site.send("GET", "/health/live", &[]).body, b"alive");
    assert_eq!(site.get(list, &[]).status, 200);
    for path in ["/", "/health", "/health/dead", "/pools/demo/lists", "/lists/x"] {
        let reply = site.send("GET", path, &[]);
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{path}");
    }
}

#[test]
fn nobody_may_keep_a_token_longer_than_it_lives() {
    let site = Site::start("/lists");
    let (list, short) = (ListId::random(), ListId::random());
    site.publish(list, NOW, &Format::SIGNED);
    let token = site.signer.sign_jwt(&site.claims(short, NOW, Some(7))).unwrap();
    site.write(format!("{short}.jwt"), token.as_bytes(), NOW);
    let cache_control = |list: ListId| site.get(list, &[]).header("cache-control").unwrap().to_owned();
    for (age, max_age) in [(0, 300), (LIFETIME - 301, 300), (LIFETIME - 299, 299), (LIFETIME - 1, 1)] {
        site.now.store(NOW + age, Ordering::SeqCst);
        assert_eq!(cache_control(list), format!("public, max-age={max_age}"), "{age}");
    }
    assert_eq!(cache_control(short), "public, max-age=1", "`exp` counts as well as `ttl`");
    site.now.store(NOW, Ordering::SeqCst);
    assert_eq!(cache_control(short), "public, max-age=7");

    let etag = site.get(list, &[]).header("etag").unwrap().to_owned();
    let conditional = || site.get(list, &[("If-None-Match", etag.as_str())]);
    assert_eq!(conditional().status, 304);
    site.now.store(NOW + LIFETIME, Ordering::SeqCst);
    assert_eq!((conditional().status, site.get(list, &[]).status), (503, 503));
    site.publish(list, NOW + LIFETIME, &Format::SIGNED);
    assert_eq!((conditional().status, site.get(list, &[]).status), (200, 200));
}

#[test]
fn a_replaced_file_is_seen_at_once() {
    let site = Site::start("/lists");
    let list = ListId::random();
    let variants: [&[(&str, &str)]; 3] =
        [&[], &[("Accept-Encoding", "gzip")], &[("Accept", cwt::MEDIA_TYPE)]];
    let mut seen = HashSet::new();
    for iat in NOW..NOW + 20 {
        site.publish(list, iat, &Format::SIGNED);
        for headers in variants {
            let reply = site.get(list, headers);
            assert_eq!(reply.header("content-encoding").is_some(), headers == variants[1]);
            assert!(
                seen.insert(reply.header("etag").unwrap().to_owned()),
                "each content has a validator of its own"
            );
            let body = if headers == variants[1] { gunzip(&reply.body) } else { reply.body };
            let claims = if headers == variants[2] { site.verify_cwt(&body) } else { site.verify_jwt(&body) };
            assert_eq!(claims.iat.secs(), iat);
        }
    }
    // The same second and the same size, but another file.
    let token = |fill: u8| {
        site.signer.sign_jwt(&Claims { lst: [fill; 9].into(), ..site.claims(list, NOW, None) }).unwrap()
    };
    site.write(format!("{list}.jwt"), token(1).as_bytes(), NOW);
    let first = site.get(list, &[]);
    site.write(format!("{list}.jwt"), token(2).as_bytes(), NOW);
    let second = site.get(list, &[]);
    assert_eq!(first.header("last-modified"), second.header("last-modified"));
    assert_eq!(first.body.len(), second.body.len());
    assert_ne!(first.header("etag"), second.header("etag"));
    fs::remove_file(site.lists().join(format!("{list}.jwt"))).unwrap();
    fs::remove_file(site.lists().join(format!("{list}.cwt"))).unwrap();
    assert_eq!(site.get(list, &[]).status, 404);
}

#[test]
fn files_that_are_not_tokens_are_not_served() {
    let site = Site::start("/lists");
    let list = ListId::random();
    let token = site.signer.sign_jwt(&site.claims(list, NOW, None)).unwrap();
    fs::create_dir(site.lists().join("aggregation")).unwrap();
    let unavailable = |path: String| {
        let reply = site.send("GET", &path, &[("If-None-Match", "*")]);
        assert_eq!((reply.status, reply.problem()["code"].as_str()), (503, Some("UNAVAILABLE")), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    };
    for (at, content) in
        ["", "<html>", &token[1..], &format!("{token}\n"), &format!("\"{token}\"")].iter().enumerate()
    {
        site.write(format!("{list}.jwt"), content.as_bytes(), NOW + at as u64);
        unavailable(format!("/{list}"));
        unavailable(format!("/{list}"));
    }
    site.write("aggregation/demo.json", b"[]", NOW);
    unavailable("/aggregation/demo".to_owned());
    site.write("jwks.json", b"{", NOW);
    unavailable("/jwks.json".to_owned());

    // A JWT under a CWT's name, then a whole publication: a failure is not cached for longer than the file exists.
    site.write(format!("{list}.cwt"), token.as_bytes(), NOW);
    assert_eq!(site.get(list, &[("Accept", cwt::MEDIA_TYPE)]).status, 503);
    site.publish(list, NOW + 10, &Format::SIGNED);
    assert_eq!(site.get(list, &[]).status, 200);
    assert_eq!(site.get(list, &[("Accept", cwt::MEDIA_TYPE)]).status, 200);

    // The right mtime, but the wrong content.
    site.write(format!("{list}.jwt.gz"), &gzip(b"something else"), NOW + 20);
    site.write(format!("{list}.jwt"), token.as_bytes(), NOW + 20);
    let reply = site.get(list, &[("Accept-Encoding", "gzip")]);
    assert_eq!((reply.status, reply.header("content-encoding")), (200, None));
    fs::create_dir(site.lists().join(format!("{}.jwt", ListId::from_bytes([1; 16])))).unwrap();
    assert_eq!(site.get(ListId::from_bytes([1; 16]), &[]).status, 404, "a folder is not a token");
}

#[test]
fn files_larger_than_the_cache_are_served() {
    for cache_bytes_max in [0, 1, 1500, 4000] {
        let site = Site::with_cache("/lists", cache_bytes_max);
        let lists: [ListId; 10] = std::array::from_fn(|_| ListId::random());
        for list in lists {
            site.publish(list, NOW, &Format::SIGNED);
        }
        for list in lists.iter().chain(&lists) {
            assert!(site.verify_jwt(&site.get(*list, &[]).body).sub.ends_with(&list.to_string()));
            let compressed = site.get(*list, &[("Accept-Encoding", "gzip")]);
            assert!(site.verify_jwt(&gunzip(&compressed.body)).sub.ends_with(&list.to_string()));
        }
    }
}

/// Readers that request constantly must never see half a token, an older token after a newer one, or one validator for two
/// contents.
#[test]
fn readers_see_whole_tokens_while_they_are_replaced() {
    const PUBLICATIONS: u64 = 200;
    let site = Site::start("/lists");
    let list = ListId::random();
    site.publish(list, NOW, &Format::SIGNED);
    let over = &AtomicBool::new(false);
    let variants = [("*/*", "identity"), ("*/*", "gzip"), (cwt::MEDIA_TYPE, "gzip")];
    let seen: Vec<Vec<Seen>> = std::thread::scope(|scope| {
        let readers: Vec<_> = variants
            .into_iter()
            .chain(variants)
            .map(|variant| {
                let site = &site;
                scope.spawn(move || read_until(over, site, list, variant))
            })
            .collect();
        for iat in NOW + 1..=NOW + PUBLICATIONS {
            site.publish(list, iat, &Format::SIGNED);
        }
        over.store(true, Ordering::SeqCst);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });

    let mut body_of: HashMap<String, Bytes> = HashMap::new();
    let mut publications = HashSet::new();
    for reader in &seen {
        let mut newest = 0;
        for reply in reader {
            let known = body_of.entry(reply.etag.clone()).or_insert_with(|| reply.body.clone());
            assert_eq!(known, &reply.body, "two contents have the same validator");
            let iat = match (reply.gzip, reply.media_type.as_str()) {
                (true, jwt::MEDIA_TYPE) => site.verify_jwt(&gunzip(&reply.body)).iat.secs(),
                (false, jwt::MEDIA_TYPE) => site.verify_jwt(&reply.body).iat.secs(),
                (false, cwt::MEDIA_TYPE) => site.verify_cwt(&reply.body).iat.secs(),
                other => panic!("{other:?}"),
            };
            assert!(newest <= iat, "a reader saw an older token after a newer one");
            newest = iat;
            publications.insert(iat);
        }
        assert_eq!(newest, NOW + PUBLICATIONS, "a reader's last answer is not the last publication");
    }
    assert!(seen[1].iter().any(|reply| reply.gzip), "no reader received the compressed form");
    assert!(publications.len() > 20, "the readers saw only {} publications", publications.len());
}

struct Seen {
    etag: String,
    media_type: String,
    gzip: bool,
    body: Bytes,
}

fn read_until(
    over: &AtomicBool,
    site: &Site,
    list: ListId,
    (accept, accept_encoding): (&str, &str),
) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = reqwest::Client::new();
    let url = format!("http://{}/lists/{list}", site.address);
    runtime.block_on(async {
        let mut seen = Vec::new();
        loop {
            let last = over.load(Ordering::SeqCst);
            let request =
                client.get(&url).header("accept", accept).header("accept-encoding", accept_encoding);
            let reply = request.send().await.unwrap();
            assert_eq!(reply.status(), 200);
            let header =
                |name: &str| reply.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let (etag, media_type) = (header("etag").unwrap(), header("content-type").unwrap());
            let gzip = header("content-encoding").is_some();
            seen.push(Seen { etag, media_type, gzip, body: reply.bytes().await.unwrap() });
            if last {
                return seen;
            }
        }
    })
}

#[test]
fn the_page_gives_way_to_lists() {
    for (base, has_page) in
        [("", false), ("/assets", false), ("/assets/lists", false), ("/somewhere/else", true)]
    {
        let site = Site::start(base);
        let list = ListId::random();
        site.publish(list, NOW, &[Format::Jwt]);
        let page = |path| Reply::read(site.address, "GET", path, &[]);
        let expected = if has_page { 200 } else { 404 };
        for path in ["/", "/assets/main.js", "/explorer.json"] {
            assert_eq!(page(path).status, expected, "{base}{path}");
        }
        assert_eq!(site.get(list, &[]).status, 200, "{base}");
    }
}

#[test]
fn the_page_is_told_where_lists_are_and_of_no_pool_that_shows_nothing() {
    let site = Site::start("/somewhere/else");
    let settings = || -> Value {
        serde_json::from_slice(&Reply::read(site.address, "GET", "/explorer.json", &[]).body).unwrap()
    };
    assert_eq!(settings(), json!({ "lists": "/somewhere/else/", "pools": [] }));
    fs::create_dir(site.lists().join("aggregation")).unwrap();
    site.write("aggregation/demo.json", br#"{"status_lists":[]}"#, NOW);
    assert_eq!(settings(), json!({ "lists": "/somewhere/else/", "pools": ["demo"] }));
}

#[test]
fn the_status_page_is_there_only_with_something_to_show_and_only_whole_documents_are_served() {
    let site = Site::start("/somewhere/else");
    let get = |path: &str| Reply::read(site.address, "GET", path, &[]);
    let settings = || -> Value { serde_json::from_slice(&get("/explorer.json").body).unwrap() };
    assert_eq!((get("/status.html").status, &settings()["status"]), (404, &Value::Null));
    fs::create_dir(site.lists().join("status")).unwrap();
    site.write("status/pools.json", STATUS_PAGE, NOW);
    assert_eq!((get("/status.html").status, &settings()["status"]), (200, &Value::Bool(true)));
    for (name, whole) in [("pools.json", STATUS_PAGE), ("demo.csv", CSV)] {
        let path = format!("/somewhere/else/status/{name}");
        site.write(format!("status/{name}"), whole, NOW);
        assert_eq!(get(&path).status, 200, "{path}");
        site.write(format!("status/{name}"), &whole[..whole.len() - 4], NOW + 1);
        assert_eq!(get(&path).status, 503, "{path}");
    }
}
