//! What a server of the site must answer, as data: one row a request.
//!
//! Names nothing of this crate, so that a test of another server over the same folder can include this very file.
//! In paths and headers stand for what only the test knows:
//!
//! | word | meaning |
//! |---|---|
//! | `{both}` | a list published as JWT, compressed JWT and CWT |
//! | `{jwt}`, `{cwt}` | a list published in this format only; the JWT has no compressed form |
//! | `{torn}` | a list published as JWT, whose compressed form is of another publication |
//! | `{expired}` | a list published in all forms, whose tokens have expired |
//! | `{unknown}` | a list id under which nothing was published |
//! | `{pool}` | a pool that has an aggregation |
//! | `{etag jwt}`, `{etag gzip}`, `{etag cwt}`, `{modified}` | what the answers about `{both}` carry |

/// One request and its answer.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it shows; unique.
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    /// Below the base path.
    pub(crate) path: &'static str,
    /// Header lines in this order, besides `Host`.
    pub(crate) send: &'static [(&'static str, &'static str)],
    pub(crate) status: u16,
    pub(crate) body: Body,
}

/// The body of an answer, for HEAD the one that GET would get. It decides the headers too: `Content-Type`,
/// `Content-Encoding`, and for a token `Vary`, `ETag`, `Last-Modified` and `Cache-Control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Jwt,
    GzippedJwt,
    Cwt,
    Json,
    /// A problem with this code.
    Problem(&'static str),
    /// None: the answer to OPTIONS.
    Preflight,
    /// None: the client has the content that has this name among the words above.
    Unchanged(&'static str),
}

const fn row(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    send: &'static [(&'static str, &'static str)],
    status: u16,
    body: Body,
) -> Row {
    Row { name, method, path, send, status, body }
}

use Body::{Cwt, GzippedJwt, Json, Jwt, Preflight, Problem, Unchanged};

const JWT: (&str, &str) = ("Accept", "application/statuslist+jwt");
const CWT: (&str, &str) = ("Accept", "application/statuslist+cwt");
const GZIP: (&str, &str) = ("Accept-Encoding", "gzip");
const LONG_AGO: &str = "Thu, 01 Jan 1970 00:00:01 GMT";

/// All of them.
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
    row("two lines", "GET", "/{both}", &[("Accept", "text/html"), CWT], 200, Cwt),
    row("JWT refused", "GET", "/{both}", &[("Accept", "application/statuslist+jwt;q=0, */*")], 200, Cwt),
    row("JWT refused, only JWT there", "GET", "/{jwt}", &[("Accept", "application/statuslist+jwt;q=0, */*")], 200, Jwt),
    row("the closer range counts", "GET", "/{both}", &[("Accept", "*/*;q=1, application/*;q=0.5, application/statuslist+jwt;q=0.1")], 200, Cwt),
    row("all refused", "GET", "/{both}", &[("Accept", "*/*;q=0")], 406, Problem("NOT_ACCEPTABLE")),
    row("neither format", "GET", "/{both}", &[("Accept", "application/jwt, text/html")], 406, Problem("NOT_ACCEPTABLE")),
    row("CWT asked for, only JWT there", "GET", "/{jwt}", &[CWT], 200, Jwt),
    row("JWT asked for, only CWT there", "GET", "/{cwt}", &[JWT], 200, Cwt),
    row("JSON asked for, only JWT there", "GET", "/{jwt}", &[("Accept", "application/did+ld+json, application/json")], 200, Jwt),
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
    row("no compressed form there", "GET", "/{jwt}", &[GZIP], 200, Jwt),
    row("the compressed form is of another publication", "GET", "/{torn}", &[GZIP], 200, Jwt),
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
    row("whatever there is", "GET", "/{both}", &[("If-None-Match", "*")], 304, Unchanged("{etag jwt}")),
    row("another", "GET", "/{both}", &[("If-None-Match", "\"a\"")], 200, Jwt),
    row("the CWT is not the JWT", "GET", "/{both}", &[("If-None-Match", "{etag cwt}")], 200, Jwt),
    row("the JWT is not the compressed JWT", "GET", "/{both}", &[GZIP, ("If-None-Match", "{etag jwt}")], 200, GzippedJwt),
    row("since its own time", "GET", "/{both}", &[("If-Modified-Since", "{modified}")], 304, Unchanged("{etag jwt}")),
    row("since long ago", "GET", "/{both}", &[("If-Modified-Since", LONG_AGO)], 200, Jwt),
    row("since no time", "GET", "/{both}", &[("If-Modified-Since", "yesterday")], 200, Jwt),
    row("another, whatever the time", "GET", "/{both}", &[("If-None-Match", "\"a\""), ("If-Modified-Since", "{modified}")], 200, Jwt),
    row("the same, whatever the time", "GET", "/{both}", &[("If-None-Match", "{etag jwt}"), ("If-Modified-Since", LONG_AGO)], 304, Unchanged("{etag jwt}")),
    row("a part is not to be had", "GET", "/{both}", &[("Range", "bytes=0-9")], 200, Jwt),
    // Expiry: `exp` counts more than anything ("Status List Response").
    row("expired", "GET", "/{expired}", &[], 503, Problem("STALE_TOKEN")),
    row("expired CWT", "GET", "/{expired}", &[CWT], 503, Problem("STALE_TOKEN")),
    row("expired, compressed", "GET", "/{expired}", &[GZIP], 503, Problem("STALE_TOKEN")),
    row("expired and HEAD", "HEAD", "/{expired}", &[], 503, Problem("STALE_TOKEN")),
    row("expired and known", "GET", "/{expired}", &[("If-None-Match", "*")], 503, Problem("STALE_TOKEN")),
    row("expired and not modified", "GET", "/{expired}", &[("If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 GMT")], 503, Problem("STALE_TOKEN")),
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
    // What else there is, and what is not.
    row("aggregation", "GET", "/aggregation/{pool}", &[GZIP], 200, Json),
    row("aggregation, HEAD", "HEAD", "/aggregation/{pool}", &[], 200, Json),
    row("key set", "GET", "/jwks.json", &[GZIP, ("Accept", "text/html")], 200, Json),
    row("OPTIONS of the key set", "OPTIONS", "/jwks.json", &[("Origin", "https://rp.example")], 204, Preflight),
    row("unknown list", "GET", "/{unknown}", &[], 404, Problem("NO_SUCH_LIST")),
    row("unknown list, in CWT", "GET", "/{unknown}", &[CWT], 404, Problem("NO_SUCH_LIST")),
    row("unknown list, known", "GET", "/{unknown}", &[("If-None-Match", "*")], 404, Problem("NO_SUCH_LIST")),
    row("not a list id", "GET", "/abc", &[], 404, Problem("NO_SUCH_LIST")),
    row("the file's name", "GET", "/{both}.jwt", &[], 404, Problem("NO_SUCH_LIST")),
    row("the compressed file's name", "GET", "/{both}.jwt.gz", &[], 404, Problem("NO_SUCH_LIST")),
    row("out of the folder", "GET", "/..%2f{both}", &[], 404, Problem("NO_SUCH_LIST")),
    row("unknown pool", "GET", "/aggregation/other", &[], 404, Problem("NO_SUCH_POOL")),
    row("out of the aggregations", "GET", "/aggregation/..%2fjwks", &[], 404, Problem("NO_SUCH_POOL")),
    row("slash at the end", "GET", "/{both}/", &[], 404, Problem("NOT_FOUND")),
    row("deeper path", "GET", "/a/b/c", &[], 404, Problem("NOT_FOUND")),
];
