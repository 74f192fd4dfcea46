//! What a server of the site must answer, as data: one row for each request, and a function that checks a row.
//!
//! Names nothing of this crate, so that a test of another server over the same folder can include this file: the same code
//! checks the built-in server and nginx against the same rows. Where nginx cannot comply, the row says why, and what nginx must
//! do instead.
//!
//! Placeholders in paths and headers stand for values that only the test knows:
//!
//! | placeholder | meaning |
//! |---|---|
//! | `{both}` | a list published as JWT, compressed JWT and CWT |
//! | `{BOTH}` | its id in capitals |
//! | `{jwt}`, `{cwt}` | a list published in this format only; the JWT has no compressed form |
//! | `{raw}` | a list published as JWT, and without a signature as [`RAW_JSON`] and [`RAW_CBOR`] |
//! | `{credential}` | a list published as JWT and as the status list credential about revocations |
//! | `{torn}` | a list published as JWT, whose compressed form is of the next publication |
//! | `{expired}` | a list published in all forms, whose tokens have expired |
//! | `{gone}` | a list that was retired: it has no tokens, but an empty file `<list id>.gone` |
//! | `{unknown}` | a list id under which nothing was published |
//! | `{pool}` | a pool that has an aggregation |
//! | `{etag jwt}`, `{etag gzip}`, `{etag cwt}`, `{etag expired}`, `{etag credential}` | the `ETag` of the answers for `{both}`, `{expired}` and `{credential}` |
//! | `{modified}`, `{next}` | the time of all publications, and that of the next one |

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// One request and its answer.
#[derive(Debug)]
pub(crate) struct Row {
    /// What the row shows; unique.
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    /// The path below the base path.
    pub(crate) path: &'static str,
    /// Header lines in this order, besides `Host`.
    pub(crate) send: &'static [(&'static str, &'static str)],
    pub(crate) status: u16,
    pub(crate) body: Body,
    pub(crate) nginx: Option<Difference>,
}

/// What nginx does instead, and why it cannot do better.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) because: &'static str,
    pub(crate) status: u16,
    pub(crate) body: Body,
}

/// The body of an answer; for HEAD, the one that GET would get. It also determines the headers: `Content-Type`,
/// `Content-Encoding`, and for a token `Vary`, `ETag`, `Last-Modified` and `Cache-Control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Jwt,
    GzippedJwt,
    /// The compressed form of the next publication.
    NextGzippedJwt,
    Cwt,
    /// The list without a signature.
    RawJson,
    /// The same in CBOR.
    RawCbor,
    /// The credential about revocations.
    Credential,
    Json,
    /// The statistics of a pool.
    Csv,
    /// A problem with this code.
    Problem(&'static str),
    /// No body: the answer to OPTIONS.
    Preflight,
    /// No body: the client already has the content whose ETag has this placeholder.
    Unchanged(&'static str),
}

/// A list of 16 entries ("Status List in JSON Format").
pub(crate) const RAW_JSON: &[u8] = br#"{"bits":1,"lst":"eNrbuRgAAhcBXQ"}"#;
/// The same ("Status List in CBOR Format").
pub(crate) const RAW_CBOR: &[u8] = b"\xa2\x64bits\x01\x63lst\x4a\x78\xda\xdb\xb9\x18\x00\x02\x17\x01\x5d";

/// The statistics of a pool, in `status/demo.csv`.
pub(crate) const CSV: &[u8] = b"time,lists,entries,revoked,suspended\n2027-01-15T08:00:00Z,2,200000,7,0\n";
/// What the status page shows, in `status/pools.json`.
pub(crate) const STATUS_PAGE: &[u8] =
    br#"{"operator":null,"pools":[{"pool":"demo","title":{"en":"D","de":"D"},"update_interval":10,"statistics":true}]}"#;

/// A server over a folder with the content that the placeholders name.
pub(crate) trait Subject {
    /// The `Cache-Control` of tokens and documents that are far from their expiry.
    const CACHE_CONTROL: &'static str;

    fn address(&self) -> SocketAddr;
    /// The path of `public-url`.
    fn base(&self) -> &str;
    /// The value of each placeholder.
    fn words(&self) -> &Words;
    /// Verifies a token and returns its `sub`.
    fn sub_of_jwt(&self, token: &[u8]) -> String;
    fn sub_of_cwt(&self, token: &[u8]) -> String;
    /// The same of a status list credential, with its `id`.
    fn id_of_credential(&self, credential: &[u8]) -> String;

    /// Sends one request. Its path is below the base.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        Reply::read(self.address(), method, &format!("{}{path}", self.base()), headers)
    }
}

/// The placeholders and their values.
#[derive(Debug, Default)]
pub(crate) struct Words(pub(crate) Vec<(&'static str, String)>);

impl Words {
    pub(crate) fn fill_in(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Sends a request over a connection of its own. Written by hand, because HTTP clients add headers of their own to each
    /// request and normalize paths.
    pub(crate) fn read(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A server that refuses to read everything may reset the connection after its answer.
        let ended = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head, but {ended:?}"));
        let body = answer.split_off(end + 4);
        let head = String::from_utf8(answer).unwrap();
        let mut lines = head.trim_end().lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} occurs twice");
        value
    }

    pub(crate) fn problem(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Sends the row's request and checks every part of the answer.
pub(crate) fn check<S: Subject>(subject: &S, row: &Row) {
    let words = subject.words();
    let path = words.fill_in(row.path);
    let send: Vec<_> = row.send.iter().map(|(name, value)| (*name, words.fill_in(value))).collect();
    let send: Vec<_> = send.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let reply = subject.ask(row.method, &path, &send);
    let header = |name: &str| reply.header(name);
    assert_eq!(reply.status, row.status);
    assert_eq!(header("access-control-allow-origin"), Some("*"));
    assert_eq!(header("access-control-allow-credentials"), None);

    // HEAD has the headers of GET, without the body.
    let body = if row.method == "HEAD" {
        assert!(reply.body.is_empty());
        let get = subject.ask("GET", &path, &send);
        let without_date = |reply: &Reply| -> HashSet<_> {
            reply.headers.iter().filter(|(name, _)| name != "date").cloned().collect()
        };
        assert_eq!(without_date(&get), without_date(&reply));
        get.body
    } else {
        reply.body.clone()
    };
    if reply.status != 204 && reply.status != 304 {
        assert_eq!(header("content-length"), Some(body.len().to_string().as_str()));
    }
    let gzipped = matches!(row.body, Body::GzippedJwt | Body::NextGzippedJwt);
    if let Some(media_type) = match row.body {
        Body::Jwt | Body::GzippedJwt | Body::NextGzippedJwt => Some("application/statuslist+jwt"),
        Body::Cwt => Some("application/statuslist+cwt"),
        Body::RawJson => Some("application/statuslist+json"),
        Body::RawCbor => Some("application/statuslist+cbor"),
        Body::Credential => Some("application/vc+jwt"),
        Body::Json => Some("application/json"),
        Body::Csv => Some("text/csv"),
        Body::Problem(_) => Some("application/problem+json"),
        Body::Preflight | Body::Unchanged(_) => None,
    } {
        assert_eq!(header("content-type"), Some(media_type));
        assert_eq!(header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(header("content-encoding"), gzipped.then_some("gzip"));
    let is_document = matches!(row.body, Body::Json | Body::Csv);
    if gzipped
        || is_document
        || matches!(row.body, Body::Jwt | Body::Cwt | Body::RawJson | Body::RawCbor | Body::Credential)
    {
        let modified = if row.body == Body::NextGzippedJwt { "{next}" } else { "{modified}" };
        assert_eq!(header("accept-ranges"), Some("none"));
        assert_eq!(header("last-modified"), Some(words.fill_in(modified).as_str()));
        assert_eq!(header("cache-control"), Some(S::CACHE_CONTROL));
        assert_eq!(header("access-control-expose-headers"), Some("etag"));
        let etag = header("etag").unwrap();
        assert!(etag.len() > 10 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    }
    match row.body {
        Body::Problem("NOT_ACCEPTABLE") => assert_eq!(header("vary"), Some("Accept")),
        Body::Problem(_) | Body::Preflight | Body::Json | Body::Csv | Body::Credential => {
            assert_eq!(header("vary"), None)
        }
        Body::Unchanged("{etag credential}") => assert_eq!(header("vary"), None),
        _ => assert_eq!(header("vary"), Some("Accept, Accept-Encoding")),
    }
    let about = |sub: String| assert!(path.contains(sub.rsplit('/').next().unwrap()), "{sub}");
    match row.body {
        Body::Jwt => about(subject.sub_of_jwt(&body)),
        Body::GzippedJwt | Body::NextGzippedJwt => {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain).unwrap();
            about(subject.sub_of_jwt(&plain));
        }
        Body::Cwt => about(subject.sub_of_cwt(&body)),
        Body::Credential => about(subject.id_of_credential(&body)),
        Body::RawJson => assert_eq!(body, RAW_JSON),
        Body::RawCbor => assert_eq!(body, RAW_CBOR),
        Body::Csv => assert_eq!(body, CSV),
        Body::Json => assert!(serde_json::from_slice::<Value>(&body).unwrap().is_object()),
        Body::Unchanged(etag) => {
            assert!(body.is_empty());
            assert_eq!(header("etag"), Some(words.fill_in(etag).as_str()));
            assert_eq!(header("cache-control"), Some(S::CACHE_CONTROL));
            assert_eq!((header("content-length"), header("content-type")), (None, None));
        }
        Body::Preflight => {
            assert!(body.is_empty());
            assert_eq!(header("access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
            assert_eq!(header("access-control-allow-headers"), Some("*"));
            assert_eq!(header("access-control-max-age"), Some("86400"));
        }
        Body::Problem(code) => {
            let problem: Value = serde_json::from_slice(&body).unwrap();
            let message = problem["message"].as_str().unwrap();
            assert_eq!(
                String::from_utf8(body.clone()).unwrap(),
                json!({"code": code, "message": message}).to_string()
            );
            assert_eq!(header("etag"), None);
            let cache_control = match row.status {
                404 => "public, max-age=5",
                410 => "public, max-age=300",
                _ => "no-store",
            };
            assert_eq!(header("cache-control"), Some(cache_control));
            assert_eq!(header("retry-after").is_some(), row.status == 503);
            assert_eq!(header("allow"), (row.status == 405).then_some("GET, HEAD, OPTIONS"));
        }
    }
}

const fn row(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    send: &'static [(&'static str, &'static str)],
    status: u16,
    body: Body,
) -> Row {
    Row { name, method, path, send, status, body, nginx: None }
}

impl Row {
    const fn but_nginx(self, because: &'static str, status: u16, body: Body) -> Self {
        Self { nginx: Some(Difference { because, status, body }), ..self }
    }
}

use Body::{
    Credential, Csv, Cwt, GzippedJwt, Json, Jwt, NextGzippedJwt, Preflight, Problem, RawCbor, RawJson,
    Unchanged,
};

const JWT: (&str, &str) = ("Accept", "application/statuslist+jwt");
const CWT: (&str, &str) = ("Accept", "application/statuslist+cwt");
const GZIP: (&str, &str) = ("Accept-Encoding", "gzip");
const KNOWN: (&str, &str) = ("If-None-Match", "*");
const LONG_AGO: &str = "Thu, 01 Jan 1970 00:00:01 GMT";

const FIRST_LINE: &str = "before version 1.23 nginx sees only the first line of a header";
const BOTH_CONDITIONS: &str =
    "nginx sends 304 only if the date matches as well; the client receives the same content again";
const NOT_COMPARED: &str = "nginx does not compare the two files; the newer token serves as well";
const NO_EXP: &str = "nginx does not read `exp`; verifiers do";

/// All rows.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    // Formats (RFC 9110, "Accept").
    row("no Accept is a JWT", "GET", "/{both}", &[], 200, Jwt),
    row("no Accept is a CWT when there is no JWT", "GET", "/{cwt}", &[], 200, Cwt),
    row("empty Accept", "GET", "/{both}", &[("Accept", "")], 200, Jwt),
    row("anything", "GET", "/{both}", &[("Accept", "*/*")], 200, Jwt),
    row("anything, only CWT there", "GET", "/{cwt}", &[("Accept", "*/*")], 200, Cwt),
    row("application/*", "GET", "/{both}", &[("Accept", "application/*")], 200, Jwt),
    row("application/*, only CWT there", "GET", "/{cwt}", &[("Accept", "application/*")], 200, Cwt),
    row("a browser", "GET", "/{both}", &[("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")], 200, Jwt),
    row("JWT by name", "GET", "/{both}", &[JWT], 200, Jwt),
    row("CWT by name", "GET", "/{both}", &[CWT], 200, Cwt),
    row("upper case", "GET", "/{both}", &[("Accept", "APPLICATION/STATUSLIST+CWT")], 200, Cwt),
    row("equal weights", "GET", "/{both}", &[("Accept", "application/statuslist+cwt, application/statuslist+jwt")], 200, Jwt),
    row("CWT weighs more", "GET", "/{both}", &[("Accept", "application/statuslist+jwt;q=0.5, application/statuslist+cwt;q=0.9")], 200, Cwt),
    row("CWT weighs more, JWT there", "GET", "/{jwt}", &[("Accept", "application/statuslist+jwt;q=0.5, application/statuslist+cwt;q=0.9")], 200, Jwt),
    row("spaces and tabs", "GET", "/{both}", &[("Accept", "application/statuslist+jwt ;\tq=0.1 ,  application/statuslist+cwt")], 200, Cwt),
    row("the weight may follow a parameter", "GET", "/{both}", &[("Accept", "application/statuslist+jwt;v=1;q=0.1, application/statuslist+cwt;q=0.2")], 200, Cwt),
    row("parameters do not count", "GET", "/{both}", &[("Accept", "application/statuslist+cwt;profile=\"a,b\"")], 200, Cwt),
    row("two lines", "GET", "/{both}", &[("Accept", "text/html"), CWT], 200, Cwt).but_nginx(FIRST_LINE, 406, Problem("NOT_ACCEPTABLE")),
    row("JWT refused", "GET", "/{both}", &[("Accept", "application/statuslist+jwt;q=0, */*")], 200, Cwt),
    row("JWT refused, only JWT there", "GET", "/{jwt}", &[("Accept", "application/statuslist+jwt;q=0, */*")], 200, Jwt),
    row("the closer range counts", "GET", "/{both}", &[("Accept", "*/*;q=1, application/*;q=0.5, application/statuslist+jwt;q=0.1")], 200, Cwt),
    row("all refused", "GET", "/{both}", &[("Accept", "*/*;q=0")], 406, Problem("NOT_ACCEPTABLE")),
    row("neither format, only CWT there", "GET", "/{cwt}", &[("Accept", "text/html;q=1.0")], 200, Cwt),
    row("weights of three digits", "GET", "/{both}", &[("Accept", "application/statuslist+jwt;q=0.123, application/statuslist+cwt;q=0.124")], 200, Cwt),
    row("weights of different length", "GET", "/{both}", &[("Accept", "application/statuslist+jwt;q=0.5, application/statuslist+cwt;q=0.45")], 200, Jwt),
    row("a weight of one in full", "GET", "/{both}", &[("Accept", "application/statuslist+cwt;q=1.000, application/statuslist+jwt;q=0.999")], 200, Cwt),
    row("an empty weight is none", "GET", "/{both}", &[("Accept", "application/statuslist+cwt;q=, application/statuslist+jwt;q=0.001")], 200, Jwt),
    row("only commas", "GET", "/{both}", &[("Accept", " , ,")], 200, Jwt),
    row("neither format", "GET", "/{both}", &[("Accept", "application/jwt, text/html")], 406, Problem("NOT_ACCEPTABLE")),
    row("CWT asked for, only JWT there", "GET", "/{jwt}", &[CWT], 200, Jwt),
    row("JWT asked for, only CWT there", "GET", "/{cwt}", &[JWT], 200, Cwt),
    row("JSON asked for, only JWT there", "GET", "/{jwt}", &[("Accept", "application/did+ld+json, application/json")], 200, Jwt),
    // Unsigned forms, only for clients that accept nothing else.
    row("raw JSON", "GET", "/{raw}", &[("Accept", "application/statuslist+json")], 200, RawJson),
    row("raw CBOR", "GET", "/{raw}", &[("Accept", "application/statuslist+cbor")], 200, RawCbor),
    row("raw JSON, HEAD", "HEAD", "/{raw}", &[("Accept", "application/statuslist+json")], 200, RawJson),
    row("raw JSON or a token", "GET", "/{raw}", &[("Accept", "application/statuslist+json, application/statuslist+jwt;q=0.1")], 200, Jwt),
    row("anything, raw forms there", "GET", "/{raw}", &[("Accept", "*/*")], 200, Jwt),
    row("raw JSON that is not there", "GET", "/{both}", &[("Accept", "application/statuslist+json")], 406, Problem("NOT_ACCEPTABLE")),
    row("raw CBOR that is not there, one format there", "GET", "/{cwt}", &[("Accept", "application/statuslist+cbor")], 200, Cwt),
    row("raw JSON of no list", "GET", "/{unknown}", &[("Accept", "application/statuslist+json")], 404, Problem("NO_SUCH_LIST")),
    row("raw JSON of a retired list", "GET", "/{gone}", &[("Accept", "application/statuslist+json")], 410, Problem("GONE")),
    row("Accept that is none", "GET", "/{both}", &[("Accept", "statuslist+cwt")], 200, Jwt),
    row("Accept of older Java", "GET", "/{both}", &[("Accept", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2")], 200, Jwt),
    // Codings (RFC 9110, "Accept-Encoding").
    row("gzip", "GET", "/{both}", &[GZIP], 200, GzippedJwt),
    row("gzip among others", "GET", "/{both}", &[JWT, ("Accept-Encoding", "gzip, deflate, br, zstd")], 200, GzippedJwt),
    row("x-gzip in upper case", "GET", "/{both}", &[("Accept-Encoding", "X-GZIP")], 200, GzippedJwt),
    row("any coding", "GET", "/{both}", &[("Accept-Encoding", "*")], 200, GzippedJwt),
    row("any coding but gzip", "GET", "/{both}", &[("Accept-Encoding", "*, gzip;q=0")], 200, Jwt),
    row("identity", "GET", "/{both}", &[("Accept-Encoding", "identity")], 200, Jwt),
    row("gzip refused", "GET", "/{both}", &[("Accept-Encoding", "gzip;q=0")], 200, Jwt),
    row("gzip refused in three digits", "GET", "/{both}", &[("Accept-Encoding", "gzip;q=0.000, br")], 200, Jwt),
    row("identity weighs more", "GET", "/{both}", &[("Accept-Encoding", "gzip;q=0.5, identity;q=0.8")], 200, Jwt),
    row("gzip weighs more", "GET", "/{both}", &[("Accept-Encoding", "identity;q=0.5, gzip;q=0.8")], 200, GzippedJwt),
    row("codings that are not there", "GET", "/{both}", &[("Accept-Encoding", "br, zstd")], 200, Jwt),
    row("a CWT is never compressed", "GET", "/{both}", &[CWT, GZIP], 200, Cwt),
    row("gzip through a proxy", "GET", "/{both}", &[GZIP, ("Via", "1.1 cache.example")], 200, GzippedJwt),
    row("only gzip", "GET", "/{both}", &[("Accept-Encoding", "gzip, *;q=0")], 200, GzippedJwt),
    row("gzip weighs a little less", "GET", "/{both}", &[("Accept-Encoding", "gzip;q=0.79,identity;q=0.8")], 200, Jwt),
    row("equal weights of codings", "GET", "/{both}", &[("Accept-Encoding", "identity;q=0.5, gzip;q=0.50")], 200, GzippedJwt),
    row("no compressed form there", "GET", "/{jwt}", &[GZIP], 200, Jwt),
    row("the compressed form is of another publication", "GET", "/{torn}", &[GZIP], 200, Jwt).but_nginx(NOT_COMPARED, 200, NextGzippedJwt),
    // Methods.
    row("HEAD of a JWT", "HEAD", "/{both}", &[], 200, Jwt),
    row("HEAD of a compressed JWT", "HEAD", "/{both}", &[GZIP], 200, GzippedJwt),
    row("HEAD of a CWT", "HEAD", "/{both}", &[CWT], 200, Cwt),
    row("HEAD of nothing", "HEAD", "/{unknown}", &[], 404, Problem("NO_SUCH_LIST")),
    row("OPTIONS", "OPTIONS", "/{both}", &[("Origin", "https://rp.example"), ("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "if-none-match")], 204, Preflight),
    row("POST", "POST", "/{both}", &[("Content-Length", "0")], 405, Problem("METHOD_NOT_ALLOWED")),
    row("PUT", "PUT", "/{both}", &[("Content-Length", "0")], 405, Problem("METHOD_NOT_ALLOWED")),
    row("DELETE", "DELETE", "/{both}", &[], 405, Problem("METHOD_NOT_ALLOWED")),
    row("POST to the key set", "POST", "/jwks.json", &[("Content-Length", "0")], 405, Problem("METHOD_NOT_ALLOWED")),
    // Conditions (RFC 9110, "Conditional Requests").
    row("the same JWT", "GET", "/{both}", &[("If-None-Match", "{etag jwt}")], 304, Unchanged("{etag jwt}")),
    row("the same CWT", "GET", "/{both}", &[CWT, ("If-None-Match", "{etag cwt}")], 304, Unchanged("{etag cwt}")),
    row("the same compressed JWT", "GET", "/{both}", &[GZIP, ("If-None-Match", "{etag gzip}")], 304, Unchanged("{etag gzip}")),
    row("HEAD of the same", "HEAD", "/{both}", &[("If-None-Match", "{etag jwt}")], 304, Unchanged("{etag jwt}")),
    row("one of several", "GET", "/{both}", &[("If-None-Match", "\"a\", W/\"b\", {etag jwt}")], 304, Unchanged("{etag jwt}")),
    row("weakly the same", "GET", "/{both}", &[("If-None-Match", "W/{etag jwt}")], 304, Unchanged("{etag jwt}")),
    row("whatever there is", "GET", "/{both}", &[KNOWN], 304, Unchanged("{etag jwt}")),
    row("another", "GET", "/{both}", &[("If-None-Match", "\"a\"")], 200, Jwt),
    row("the CWT is not the JWT", "GET", "/{both}", &[("If-None-Match", "{etag cwt}")], 200, Jwt),
    row("the JWT is not the compressed JWT", "GET", "/{both}", &[GZIP, ("If-None-Match", "{etag jwt}")], 200, GzippedJwt),
    row("since its own time", "GET", "/{both}", &[("If-Modified-Since", "{modified}")], 304, Unchanged("{etag jwt}")),
    row("since long ago", "GET", "/{both}", &[("If-Modified-Since", LONG_AGO)], 200, Jwt),
    row("since no time", "GET", "/{both}", &[("If-Modified-Since", "yesterday")], 200, Jwt),
    row("another, whatever the time", "GET", "/{both}", &[("If-None-Match", "\"a\""), ("If-Modified-Since", "{modified}")], 200, Jwt),
    row("the same, whatever the time", "GET", "/{both}", &[("If-None-Match", "{etag jwt}"), ("If-Modified-Since", LONG_AGO)], 304, Unchanged("{etag jwt}")).but_nginx(BOTH_CONDITIONS, 200, Jwt),
    row("a part is not to be had", "GET", "/{both}", &[("Range", "bytes=0-9")], 200, Jwt),
    // Expiry: `exp` counts more than anything ("Status List Response").
    row("expired", "GET", "/{expired}", &[], 503, Problem("STALE_TOKEN")).but_nginx(NO_EXP, 200, Jwt),
    row("expired CWT", "GET", "/{expired}", &[CWT], 503, Problem("STALE_TOKEN")).but_nginx(NO_EXP, 200, Cwt),
    row("expired, compressed", "GET", "/{expired}", &[GZIP], 503, Problem("STALE_TOKEN")).but_nginx(NO_EXP, 200, GzippedJwt),
    row("expired and HEAD", "HEAD", "/{expired}", &[], 503, Problem("STALE_TOKEN")).but_nginx(NO_EXP, 200, Jwt),
    row("expired and known", "GET", "/{expired}", &[KNOWN], 503, Problem("STALE_TOKEN")).but_nginx(NO_EXP, 304, Unchanged("{etag expired}")),
    row("expired and not modified", "GET", "/{expired}", &[("If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 GMT")], 503, Problem("STALE_TOKEN")).but_nginx(NO_EXP, 200, Jwt),
    // "Historical Resolution" is not offered.
    row("a time", "GET", "/{both}?time=1686925000", &[], 501, Problem("NOT_IMPLEMENTED")),
    row("time zero", "GET", "/{both}?time=0", &[], 501, Problem("NOT_IMPLEMENTED")),
    row("empty time", "GET", "/{both}?time=", &[], 501, Problem("NOT_IMPLEMENTED")),
    row("only the word time", "GET", "/{both}?time", &[], 501, Problem("NOT_IMPLEMENTED")),
    row("time among others", "GET", "/{both}?a=b&time=1", &[], 501, Problem("NOT_IMPLEMENTED")),
    row("time before others", "GET", "/{both}?time=1&a=b", &[], 501, Problem("NOT_IMPLEMENTED")),
    row("time in another spelling", "GET", "/{both}?%74ime=1", &[], 501, Problem("NOT_IMPLEMENTED")),
    row("time and HEAD", "HEAD", "/{both}?time=1", &[], 501, Problem("NOT_IMPLEMENTED")),
    row("time of the same content", "GET", "/{both}?time=1", &[("If-None-Match", "{etag jwt}")], 501, Problem("NOT_IMPLEMENTED")),
    row("not time", "GET", "/{both}?xtime=1", &[], 200, Jwt),
    row("not time either", "GET", "/{both}?a=time&timer=1&Time=2", &[], 200, Jwt),
    // Other resources, and missing ones.
    row("aggregation", "GET", "/aggregation/{pool}", &[GZIP], 200, Json),
    row("aggregation, HEAD", "HEAD", "/aggregation/{pool}", &[], 200, Json),
    row("key set", "GET", "/jwks.json", &[GZIP, ("Accept", "text/html")], 200, Json),
    row("OPTIONS of the key set", "OPTIONS", "/jwks.json", &[("Origin", "https://rp.example")], 204, Preflight),
    row("the pools of the status page", "GET", "/status/pools.json", &[GZIP], 200, Json),
    row("the pools of the status page, HEAD", "HEAD", "/status/pools.json", &[], 200, Json),
    row("statistics", "GET", "/status/{pool}.csv", &[GZIP, ("Accept", "text/html")], 200, Csv),
    row("statistics, HEAD", "HEAD", "/status/{pool}.csv", &[], 200, Csv),
    row("OPTIONS of the statistics", "OPTIONS", "/status/{pool}.csv", &[("Origin", "https://rp.example")], 204, Preflight),
    row("POST of the statistics", "POST", "/status/{pool}.csv", &[], 405, Problem("METHOD_NOT_ALLOWED")),
    row("statistics of another pool", "GET", "/status/other.csv", &[], 404, Problem("NOT_FOUND")),
    row("another document", "GET", "/status/{pool}.json", &[], 404, Problem("NOT_FOUND")),
    row("out of the statistics", "GET", "/status/..%2fjwks.csv", &[], 404, Problem("NOT_FOUND")),
    row("credential", "GET", "/bitstring/revocation/{credential}", &[], 200, Credential),
    row("credential, whatever is accepted", "GET", "/bitstring/revocation/{credential}", &[("Accept", "text/html"), GZIP], 200, Credential),
    row("credential, HEAD", "HEAD", "/bitstring/revocation/{credential}", &[], 200, Credential),
    row("the same credential", "GET", "/bitstring/revocation/{credential}", &[("If-None-Match", "{etag credential}")], 304, Unchanged("{etag credential}")),
    row("the credential is not the JWT", "GET", "/bitstring/revocation/{both}", &[("If-None-Match", "{etag jwt}")], 404, Problem("NO_SUCH_LIST")),
    row("OPTIONS of a credential", "OPTIONS", "/bitstring/revocation/{credential}", &[("Origin", "https://rp.example")], 204, Preflight),
    row("POST of a credential", "POST", "/bitstring/revocation/{credential}", &[], 405, Problem("METHOD_NOT_ALLOWED")),
    row("the list of a credential", "GET", "/{credential}", &[JWT], 200, Jwt),
    row("a purpose without a credential", "GET", "/bitstring/suspension/{credential}", &[], 404, Problem("NO_SUCH_LIST")),
    row("another purpose", "GET", "/bitstring/message/{credential}", &[], 404, Problem("NOT_FOUND")),
    row("credential of an unknown list", "GET", "/bitstring/revocation/{unknown}", &[], 404, Problem("NO_SUCH_LIST")),
    row("credential of a retired list", "GET", "/bitstring/suspension/{gone}", &[], 410, Problem("GONE")),
    row("line feed at the end of a credential", "GET", "/bitstring/revocation/{credential}%0a", &[], 404, Problem("NO_SUCH_LIST")),
    row("the credential's file", "GET", "/{credential}.revocation", &[], 404, Problem("NO_SUCH_LIST")),
    row("unknown list", "GET", "/{unknown}", &[], 404, Problem("NO_SUCH_LIST")),
    row("unknown list, in CWT", "GET", "/{unknown}", &[CWT], 404, Problem("NO_SUCH_LIST")),
    row("unknown list, known", "GET", "/{unknown}", &[KNOWN], 404, Problem("NO_SUCH_LIST")),
    row("retired list", "GET", "/{gone}", &[], 410, Problem("GONE")),
    row("retired list, in CWT", "GET", "/{gone}", &[CWT], 410, Problem("GONE")),
    row("retired list, neither format", "GET", "/{gone}", &[("Accept", "text/html")], 410, Problem("GONE")),
    row("retired list, HEAD", "HEAD", "/{gone}", &[GZIP], 410, Problem("GONE")),
    row("retired list, known", "GET", "/{gone}", &[KNOWN], 410, Problem("GONE")),
    row("retired list, some time", "GET", "/{gone}?time=1", &[], 501, Problem("NOT_IMPLEMENTED")),
    row("OPTIONS of a retired list", "OPTIONS", "/{gone}", &[], 204, Preflight),
    row("the mark of a retired list", "GET", "/{gone}.gone", &[], 404, Problem("NO_SUCH_LIST")),
    row("not a list id", "GET", "/abc", &[], 404, Problem("NO_SUCH_LIST")),
    row("the file's name", "GET", "/{both}.jwt", &[], 404, Problem("NO_SUCH_LIST")),
    row("the compressed file's name", "GET", "/{both}.jwt.gz", &[], 404, Problem("NO_SUCH_LIST")),
    row("out of the folder", "GET", "/..%2f{both}", &[], 404, Problem("NO_SUCH_LIST")),
    row("unknown pool", "GET", "/aggregation/other", &[], 404, Problem("NO_SUCH_POOL")),
    row("out of the aggregations", "GET", "/aggregation/..%2fjwks", &[], 404, Problem("NO_SUCH_POOL")),
    row("line feed at the end", "GET", "/{both}%0a", &[], 404, Problem("NO_SUCH_LIST")),
    row("in capitals", "GET", "/{BOTH}", &[], 404, Problem("NO_SUCH_LIST")),
    row("unpublished neither format", "GET", "/{unknown}", &[("Accept", "text/html")], 404, Problem("NO_SUCH_LIST")),
    row("slash at the end", "GET", "/{both}/", &[], 404, Problem("NOT_FOUND")),
    row("deeper path", "GET", "/a/b/c", &[], 404, Problem("NOT_FOUND")),
];
