//! The built-in Status Provider, for use without nginx: serves the folder that the publisher writes.
//!
//! Responsible for what a Relying Party sees of a list over HTTP ("Status List Request", "Status List Response"):
//! formats, codings, validators, the lifetime of answers, CORS. Leaves the content of every file to the publisher, and shares only
//! the folder's layout with it.
//!
//! Invariant: a file that has expired or does not parse is never served, not even as 304. No request is logged, so the logs do not
//! show which Relying Party requested which list ("Observability of Issuers").

mod cache;
mod history;
mod negotiate;
mod openapi;
mod page;
mod problem;

#[cfg(test)]
mod expectations;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use actix_web::http::header::{self, Header, HeaderValue, IfModifiedSince, IfNoneMatch};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, guard};

use self::cache::{Cache, Content, Document, Unserviceable};
pub use self::negotiate::wants_gzip;
pub use self::openapi::openapi;
use self::problem::{Excerpt, Problem};
use crate::base::clock::NumericDate;
use crate::site::layout::{File, Layout};
use crate::site::status_page::Statistics;
use crate::status_list::{Aggregation, Format, ListId, Purpose};

/// The most bytes of files held in memory, unless [`SiteServer::with_cache_bytes_max`] sets another limit.
pub const CACHE_BYTES_MAX: u64 = 64 << 20;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// Tokens are public and requests need no credentials, so scripts of any web page may read them ("Status List Request").
const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// The request headers that an answer about a list depends on. Set for a list with one format too: it may get another later.
const VARY: HeaderValue = HeaderValue::from_static("Accept, Accept-Encoding");
/// How many seconds a browser may cache that any request is allowed. No browser caches it for more than a day.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// Returns the current second.
pub type Now = Arc<dyn Fn() -> NumericDate + Send + Sync>;

/// Serves the published files below one folder.
pub struct SiteServer {
    base: String,
    /// The same lists are also below these paths.
    others: Vec<String>,
    max_age_secs: AtomicU64,
    keys_max_age_secs: AtomicU64,
    now: Now,
    cache: Cache,
}

impl SiteServer {
    /// Serves the published files of `layout` under the path `base`, as `BaseUri::path` returns it: empty, or with a leading and no
    /// trailing slash. No answer may be kept longer than `max_age`, nor longer than its token allows.
    pub fn new(layout: Layout, base: &str, max_age: Duration, now: Now) -> Self {
        let cache = Cache::new(layout, CACHE_BYTES_MAX);
        let (max_age_secs, keys_max_age_secs) = (max_age.as_secs().into(), u64::MAX.into());
        Self { base: base.to_owned(), others: Vec::new(), max_age_secs, keys_max_age_secs, now, cache }
    }

    /// Serves them below these paths as well, for pools with another public address.
    pub fn also_below<'a>(mut self, paths: impl Iterator<Item = &'a str>) -> Self {
        self.others = paths.filter(|path| *path != self.base).map(str::to_owned).collect();
        self.others.sort_unstable();
        self.others.dedup();
        self
    }

    /// Changes how long an answer may be kept: at most `max_age`, and the keys at most `keys`.
    pub fn set_max_age(&self, max_age: Duration, keys: Duration) {
        self.max_age_secs.store(max_age.as_secs(), Ordering::Relaxed);
        self.keys_max_age_secs.store(keys.as_secs(), Ordering::Relaxed);
    }

    fn max_age_secs(&self) -> u64 {
        self.max_age_secs.load(Ordering::Relaxed)
    }

    /// Holds at most `bytes` of files in memory. A file of more than half of that is read anew for every request.
    pub fn with_cache_bytes_max(self, bytes: u64) -> Self {
        Self { cache: self.cache.resized(bytes), ..self }
    }

    /// The path below which the lists are served.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Mounts the lists, what `others` mounts, and the page. Paths are matched in this order, and most requests are for lists. But
    /// if the lists are at the root, they match every remaining path, so they come last.
    pub fn configure(self: &Arc<Self>, config: &mut ServiceConfig, others: impl FnOnce(&mut ServiceConfig)) {
        let mut bases: Vec<_> = self.others.iter().chain([&self.base]).collect();
        // A path that is the beginning of another comes after it.
        bases.sort_unstable_by_key(|base| Reverse(base.len()));
        bases.iter().filter(|base| !base.is_empty()).for_each(|base| self.configure_lists(base, config));
        others(config);
        page::configure(self, config);
        if bases.last().is_some_and(|base| base.is_empty()) {
            self.configure_lists("", config);
        }
    }

    fn configure_lists(self: &Arc<Self>, base: &str, config: &mut ServiceConfig) {
        config.service(
            web::scope(base)
                .app_data(Data::from(Arc::clone(self)))
                .service(resource("/jwks.json", jwks))
                .service(resource("/aggregation/{pool}", aggregation))
                .service(resource("/status/pools.json", status_page))
                .service(resource("/status/{pool}.csv", statistics))
                .service(resource("/bitstring/{purpose}/{list}", credential))
                .service(resource("/{list}", list))
                .default_service(web::to(no_such_path)),
        );
    }

    /// Returns the only form of a list, for a client that accepts none. A list with one form is sent in that form: some verifiers ask
    /// for `application/json` and read the token anyway. RFC 9110 allows it ("Accept").
    async fn only_form(&self, list: ListId) -> Result<Option<(Format, Arc<Document>)>, Problem> {
        let there = |format: &Format| self.cache.contains(&File::of_list(list, *format));
        let offered: Vec<_> = Format::SIGNED.into_iter().filter(there).collect();
        match offered.as_slice() {
            [] => Ok(None),
            [only] => Ok(self.cache.read(&File::of_list(list, *only)).await?.map(|token| (*only, token))),
            several => {
                Err(Problem::NotAcceptable(several.iter().map(|format| format.media_type()).collect()))
            }
        }
    }

    /// How many seconds an answer with this token may be kept. Fails if the token has expired.
    fn max_age_secs_of(&self, token: &Document, list: ListId, format: Format) -> Result<u64, Problem> {
        let now = (self.now)();
        if token.lifetime.is_over(now) {
            if token.report_expiry() {
                tracing::error!(list.id = %list, ?format, "published token is not served: it has expired");
            }
            return Err(Problem::StaleToken);
        }
        Ok(token.lifetime.max_age_secs(now, self.max_age_secs()))
    }

    /// Answers with a document that is not a token. A key set has a media type of its own, but readers expect this one.
    fn json<'a>(&self, document: &'a Document) -> Answer<'a> {
        Answer {
            document,
            content: &document.plain,
            gzip: false,
            negotiated: false,
            media_type: Aggregation::MEDIA_TYPE,
            max_age_secs: self.max_age_secs(),
        }
    }
}

/// Fetch a Status List Token
///
/// Signed lists are public: no key is needed, and scripts of any page may read them. Send the `ETag` of your copy as
/// `If-None-Match`, and keep an answer no longer than `Cache-Control` and the token's `ttl` say. `Accept` chooses among the formats in
/// which the pool publishes.
#[utoipa::path(
    operation_id = "fetchList",
    get,
    path = "/{list}",
    tag = "lists",
    params(
        ("list" = String, Path, example = "5f1ae880-251c-4ec2-b3d0-b61ea62a306d", description = "The list"),
        ("time" = Option<u64>, Query, description = "The token that was valid at this time, in seconds since 1970; for pools that keep a history"),
    ),
    responses(
        (status = 200, description = "The token, or the list without a signature if only that was asked for", content(
            (String = "application/statuslist+jwt"),
            (inline(openapi::Bytes) = "application/statuslist+cwt"),
            (openapi::StatusList = "application/statuslist+json"),
            (inline(openapi::Bytes) = "application/statuslist+cbor"),
        )),
        (status = 304, description = "The client's copy is current"),
        (status = 400, description = "`time` is not a number of seconds since 1970", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such list, or no token of it for that time", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 406, description = "The list is not published in an accepted format", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 410, description = "The list is retired: all credentials that refer to it have expired", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 501, description = "No history is kept: leave out `time`", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The published token has expired", body = openapi::Problem, content_type = "application/problem+json",
            headers(("Retry-After" = u32, description = "The number of seconds after which to retry"))),
    )
)]
async fn list(site: Data<SiteServer>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = request.match_info().query("list");
    let no_such_list = || Problem::NoSuchList(Excerpt::of(id));
    if let Some(time) = history::asked_time(request.query_string()) {
        // A server in front does not know which lists exist: without history every answer is the same.
        let list = id.parse().map_err(|_| Problem::NoHistory)?;
        let (format, token) = site.token_of(list, time, request.headers()).await?;
        return Ok(Answer::of_token(&token, format, false, site.max_age_secs()).to(&request));
    }
    let list: ListId = id.parse().map_err(|_| no_such_list())?;
    let mut found = None;
    let raw = negotiate::raw_format(request.headers().get_all(header::ACCEPT));
    for format in raw.into_iter().chain(negotiate::formats(request.headers().get_all(header::ACCEPT))) {
        if let Some(token) = site.cache.read(&File::of_list(list, format)).await? {
            found = Some((format, token));
            break;
        }
    }
    let (format, token) = match found {
        Some(found) => found,
        None => match site.only_form(list).await? {
            Some(found) => found,
            None if site.cache.is_retired(list) => return Err(Problem::Retired),
            None => return Err(no_such_list()),
        },
    };
    let max_age_secs = site.max_age_secs_of(&token, list, format)?;
    let wants_gzip = negotiate::wants_gzip(request.headers().get_all(header::ACCEPT_ENCODING));
    Ok(Answer::of_token(&token, format, wants_gzip, max_age_secs).to(&request))
}

/// Fetch a status list credential of the W3C
///
/// The same list as a Bitstring Status List, for one purpose, of pools with the format `bitstring`. It is sent whatever `Accept` says.
#[utoipa::path(
    operation_id = "fetchCredential",
    get,
    path = "/bitstring/{purpose}/{list}",
    tag = "lists",
    params(
        ("purpose" = String, Path, example = "revocation", description = "revocation or suspension"),
        ("list" = String, Path, example = "5f1ae880-251c-4ec2-b3d0-b61ea62a306d", description = "The list"),
    ),
    responses(
        (status = 200, description = "The credential", body = String, content_type = "application/vc+jwt"),
        (status = 304, description = "The client's copy is current"),
        (status = 404, description = "There is no such credential", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 410, description = "The list is retired: all credentials that refer to it have expired", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The published credential has expired", body = openapi::Problem, content_type = "application/problem+json",
            headers(("Retry-After" = u32, description = "The number of seconds after which to retry"))),
    )
)]
async fn credential(site: Data<SiteServer>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let named = request.match_info().query("purpose");
    let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.name() == named);
    let format = Format::Bitstring(purpose.ok_or(Problem::NoSuchPath)?);
    let id = request.match_info().query("list");
    let no_such_list = || Problem::NoSuchList(Excerpt::of(id));
    let list: ListId = id.parse().map_err(|_| no_such_list())?;
    let Some(token) = site.cache.read(&File::of_list(list, format)).await? else {
        return Err(if site.cache.is_retired(list) { Problem::Retired } else { no_such_list() });
    };
    let max_age_secs = site.max_age_secs_of(&token, list, format)?;
    // Each address has one form.
    Ok(Answer { negotiated: false, ..Answer::of_token(&token, format, false, max_age_secs) }.to(&request))
}

/// Fetch the addresses of all lists of a pool
#[utoipa::path(
    operation_id = "fetchAggregation",
    get,
    path = "/aggregation/{pool}",
    tag = "lists",
    params(("pool" = String, Path, example = "demo", description = "The pool's name")),
    responses(
        (status = 200, description = "The Status List Aggregation", body = openapi::Lists),
        (status = 304, description = "The client's copy is current"),
        (status = 404, description = "There is no such pool", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The file cannot be read", body = openapi::Problem, content_type = "application/problem+json",
            headers(("Retry-After" = u32, description = "The number of seconds after which to retry"))),
    )
)]
async fn aggregation(site: Data<SiteServer>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = request.match_info().query("pool");
    let no_such_pool = || Problem::NoSuchPool(Excerpt::of(id));
    let pool = id.parse().map_err(|_| no_such_pool())?;
    let document = site.cache.read(&File::Aggregation(pool)).await?.ok_or_else(no_such_pool)?;
    Ok(site.json(&document).to(&request))
}

/// Fetch the keys that sign
#[utoipa::path(
    operation_id = "fetchKeys",
    get,
    path = "/jwks.json",
    tag = "lists",
    responses(
        (status = 200, description = "A JWK Set (RFC 7517): the keys that sign, and those whose tokens are still valid", body = openapi::Keys),
        (status = 304, description = "The client's copy is current"),
        (status = 404, description = "Nothing is published yet", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The file cannot be read", body = openapi::Problem, content_type = "application/problem+json",
            headers(("Retry-After" = u32, description = "The number of seconds after which to retry"))),
    )
)]
async fn jwks(site: Data<SiteServer>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let document = site.cache.read(&File::Jwks).await?.ok_or(Problem::NoSuchPath)?;
    let answer = site.json(&document);
    let max_age_secs = answer.max_age_secs.min(site.keys_max_age_secs.load(Ordering::Relaxed));
    Ok(Answer { max_age_secs, ..answer }.to(&request))
}

/// Which pools the status page shows. The page alone needs it, so the API's description leaves it out.
async fn status_page(site: Data<SiteServer>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let document = site.cache.read(&File::StatusPage).await?.ok_or(Problem::NoSuchPath)?;
    Ok(site.json(&document).to(&request))
}

/// How the counts of a pool developed.
async fn statistics(site: Data<SiteServer>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let pool = request.match_info().query("pool").parse().map_err(|_| Problem::NoSuchPath)?;
    let document = site.cache.read(&File::Statistics(pool)).await?.ok_or(Problem::NoSuchPath)?;
    Ok(Answer { media_type: Statistics::MEDIA_TYPE, ..site.json(&document) }.to(&request))
}

async fn no_such_path() -> Result<HttpResponse, Problem> {
    Err(Problem::NoSuchPath)
}

async fn method_not_allowed() -> Result<HttpResponse, Problem> {
    Err(Problem::MethodNotAllowed)
}

/// Answers a browser's preflight request. No header can do harm here, so all are allowed.
async fn preflight() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ALLOW, METHODS))
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN))
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*")))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE))
        .finish()
}

fn resource<F, Args>(path: &str, get: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(get))
        .route(web::method(Method::OPTIONS).to(preflight))
        .default_service(web::to(method_not_allowed))
}

/// An answer with a file.
struct Answer<'a> {
    document: &'a Document,
    /// The form to send.
    content: &'a Content,
    gzip: bool,
    /// Whether another request for the same address may get another form.
    negotiated: bool,
    media_type: &'static str,
    max_age_secs: u64,
}

impl<'a> Answer<'a> {
    fn of_token(document: &'a Document, format: Format, wants_gzip: bool, max_age_secs: u64) -> Self {
        let gzip = document.gzip.as_ref().filter(|_| wants_gzip);
        Self {
            document,
            content: gzip.unwrap_or(&document.plain),
            gzip: gzip.is_some(),
            negotiated: true,
            media_type: format.media_type(),
            max_age_secs,
        }
    }

    fn to(&self, request: &HttpRequest) -> HttpResponse {
        let unchanged = self.is_known_to(request);
        let status = if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let mut response = HttpResponse::build(status);
        response
            .insert_header((header::ETAG, self.content.etag.clone()))
            .insert_header((header::LAST_MODIFIED, self.document.last_modified.clone()))
            .insert_header((header::CACHE_CONTROL, format!("public, max-age={}", self.max_age_secs)))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, NOSNIFF))
            .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN))
            // The only header set here that scripts may not read unless told so.
            .insert_header((header::ACCESS_CONTROL_EXPOSE_HEADERS, header::ETAG.as_str()));
        if self.negotiated {
            response.insert_header((header::VARY, VARY));
        }
        if unchanged {
            return response.finish();
        }
        // Half a token is useless, and parts of two publications are worse.
        response.insert_header((header::ACCEPT_RANGES, HeaderValue::from_static("none")));
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(self.media_type)));
        if self.gzip {
            response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        }
        // For HEAD the server sends the length and omits the body.
        response.body(self.content.bytes.clone())
    }

    /// Whether the client has exactly this content ("Precedence of Preconditions": the validator counts before the date).
    fn is_known_to(&self, request: &HttpRequest) -> bool {
        if request.headers().contains_key(header::IF_NONE_MATCH) {
            return match IfNoneMatch::parse(request) {
                Ok(IfNoneMatch::Any) => true,
                Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&self.content.tag)),
                Err(_) => false,
            };
        }
        let since = IfModifiedSince::parse(request).map(|IfModifiedSince(date)| SystemTime::from(date));
        since.is_ok_and(|since| self.document.modified <= since)
    }
}

/// For `fuzzing::accept`: returns the formats that these lines of `Accept` want, and whether the lines of `Accept-Encoding` after
/// an empty line want gzip.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn negotiated(bytes: &[u8]) -> (Vec<&'static str>, bool) {
    let mut parts = bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>();
    let end = parts.iter().position(|line| line.is_empty()).unwrap_or(parts.len());
    let coding = parts.split_off(end);
    let lines =
        |parts: &[&[u8]]| parts.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let (accept, coding): (Vec<_>, Vec<_>) = (lines(&parts), lines(&coding));
    let _ = negotiate::raw_format(accept.iter());
    let formats = negotiate::formats(accept.iter()).map(Format::media_type).collect();
    (formats, negotiate::wants_gzip(coding.iter()))
}

impl From<Unserviceable> for Problem {
    fn from(_: Unserviceable) -> Self {
        Self::Unavailable
    }
}
