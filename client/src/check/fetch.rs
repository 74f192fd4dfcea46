//! Fetches a Status List Token or a JWKS from an untrusted server ("Status List Request", "Redirection 3xx").
//!
//! Bounded in redirects, bytes and time. Leaves every judgement of the content to `verdict.rs` and `trust.rs`. Ignores HTTP
//! caching, because `exp` and `ttl` take precedence.

use std::error::Error;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url};
use thiserror::Error;

use super::address::{Resolver, is_private};
use super::redirect::{REDIRECTS_MAX, RedirectRefused};
use super::{Check, CheckLimits, Format};
use crate::base::loopback::is_loopback_host;
use crate::status_list::Aggregation;

/// A JWKS is small.
const JWKS_BYTES_MAX: u64 = 1 << 20;

/// Why a fetch failed.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The address cannot be fetched.
    #[error(
        "{uri:?} is not an absolute http or https URI; write it whole, beginning with https:// or http://"
    )]
    Uri {
        /// The given text.
        uri: String,
    },
    /// The address has a user name or password.
    #[error("the address has a user name or password, but status lists are public; leave them out")]
    Credentials,
    /// The keys would come over an insecure connection.
    #[error(
        "{url} would bring trusted keys over plain http; use https, or get the file in a safe way and give its path (http is accepted from this machine only)"
    )]
    InsecureKeys {
        /// The given URL.
        url: String,
    },
    /// The client cannot be built because the system has no certificate authorities.
    #[error("cannot set up TLS: {why}; install the system's ca-certificates, or set SSL_CERT_FILE")]
    Client {
        /// The client's message.
        why: String,
    },
    /// The redirect is refused.
    #[error(transparent)]
    Redirect(#[from] RedirectRefused),
    /// The server is too slow.
    #[error("no complete response in time ({why}); try again later")]
    Timeout {
        /// The client's message.
        why: String,
    },
    /// The server cannot be reached, or breaks off.
    #[error("the request failed: {why}")]
    Transport {
        /// The client's message.
        why: String,
    },
    /// The response has no content.
    #[error("the server responded {status}: {advice}")]
    Status {
        /// The status code.
        status: u16,
        /// What to do.
        advice: &'static str,
    },
    /// The media type is not that of a Status List Token.
    #[error("the response is {got:?}, not {} or {}; is this the `uri` of a status list?", Format::Jwt.media_type(), Format::Cwt.media_type())]
    ContentType {
        /// The media type received.
        got: String,
    },
    /// The token has the other format.
    #[error("requested {wanted}, the server sent {got}; omit `--format` to accept both")]
    OtherFormat {
        /// The format requested.
        wanted: Format,
        /// The format received.
        got: Format,
    },
    /// The content has another encoding than gzip, although none was requested.
    #[error("the response is encoded as {got:?}, which was not requested")]
    Encoding {
        /// The encoding received.
        got: String,
    },
    /// The content is not gzip, although the header says so.
    #[error("the response claims to be gzip, but is not: {why}")]
    Gzip {
        /// The decoder's message.
        why: String,
    },
    /// The response is too long.
    #[error("the response has more than {max} bytes")]
    TooLarge {
        /// The most bytes accepted.
        max: u64,
    },
}

/// A token, and its declared format.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) format: Format,
    pub(crate) body: Vec<u8>,
    /// By which the server names this version.
    pub(crate) etag: Option<String>,
    /// The final address, if a redirect was followed.
    pub(super) redirected_to: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A token: it is signed, so any connection is acceptable.
    Token,
    /// Keys: they are trusted because of their source.
    Keys,
}

/// Fetches the token that answers `request`.
pub(super) async fn token(request: &Check) -> Result<Fetched, FetchError> {
    let new = token_unless(request, None).await?;
    Ok(new.expect("without a condition, 304 is an error"))
}

/// As [`token`]; `None` if the server says that the version that it named `etag` is still the latest.
pub(crate) async fn token_unless(request: &Check, etag: Option<&str>) -> Result<Option<Fetched>, FetchError> {
    let mut url = parse(&request.uri)?;
    if let Some(time) = request.time {
        url.query_pairs_mut().append_pair("time", &time.to_string());
    }
    let accept = match request.format {
        Some(format) => format.media_type().to_owned(),
        None => format!("{}, {};q=0.9", Format::Jwt.media_type(), Format::Cwt.media_type()),
    };
    let node = request.node;
    let response = get(url.clone(), &accept, Purpose::Token, etag, (node, &request.limits)).await?;
    if response.status() == StatusCode::NOT_MODIFIED {
        return Ok(None);
    }
    let is_gzip = is_gzip(&response)?;
    let format = format_of(&response)?;
    if let Some(wanted) = request.format.filter(|wanted| *wanted != format) {
        return Err(FetchError::OtherFormat { wanted, got: format });
    }
    let redirected_to = (*response.url() != url).then(|| response.url().to_string());
    let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
    let body = body(response, is_gzip, request.limits.body_bytes_max).await?;
    Ok(Some(Fetched { format, body, etag, redirected_to }))
}

/// Fetches the JWKS at `url`.
pub(super) async fn jwks(url: &str, limits: &CheckLimits) -> Result<Vec<u8>, FetchError> {
    let url = parse(url)?;
    if !is_safe_for_keys(&url) {
        return Err(FetchError::InsecureKeys { url: url.to_string() });
    }
    let accept = "application/jwk-set+json, application/json";
    let response = get(url, accept, Purpose::Keys, None, (None, limits)).await?;
    let is_gzip = is_gzip(&response)?;
    body(response, is_gzip, JWKS_BYTES_MAX.min(limits.body_bytes_max)).await
}

/// Fetches the aggregation at `url`. Its lists are signed, so any connection is acceptable.
pub(super) async fn aggregation(url: &str, limits: &CheckLimits) -> Result<Vec<u8>, FetchError> {
    let response = get(parse(url)?, Aggregation::MEDIA_TYPE, Purpose::Token, None, (None, limits)).await?;
    let is_gzip = is_gzip(&response)?;
    body(response, is_gzip, limits.body_bytes_max).await
}

fn parse(uri: &str) -> Result<Url, FetchError> {
    let url = Url::parse(uri).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| FetchError::Uri { uri: uri.to_owned() })?;
    if has_credentials(&url) { Err(FetchError::Credentials) } else { Ok(url) }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

async fn get(
    url: Url,
    accept: &str,
    purpose: Purpose,
    etag: Option<&str>,
    (node, limits): (Option<SocketAddr>, &CheckLimits),
) -> Result<Response, FetchError> {
    let client = client(&url, purpose, node, limits).build().or_else(|error| match url.scheme() {
        // A slim container has no certificate authorities, and plain http needs none.
        "http" => client(&url, purpose, node, limits).tls_certs_only([]).build(),
        _ => Err(error),
    });
    let client = client.map_err(|error| FetchError::Client { why: causes(&error) })?;
    // Without the second header a server may choose any encoding (RFC 9110, section 12.5.3).
    let request = client.get(url).header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
    let request = match etag {
        Some(etag) => request.header(IF_NONE_MATCH, etag),
        None => request,
    };
    let response = request.send().await.map_err(failed)?;
    match response.status().as_u16() {
        200..=299 => Ok(response),
        304 if etag.is_some() => Ok(response),
        status => Err(FetchError::Status { status, advice: advice(status, purpose) }),
    }
}

/// Whether the content is compressed. Some servers compress everything, requested or not, and some send the header without
/// a value.
fn is_gzip(response: &Response) -> Result<bool, FetchError> {
    let lines = response.headers().get_all(CONTENT_ENCODING).iter();
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
    let codings = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
    let codings: Vec<_> =
        codings.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity")).collect();
    match codings.as_slice() {
        [] => Ok(false),
        // RFC 9110, section 8.4.1.3: `x-gzip` means the same.
        [coding] if ["gzip", "x-gzip"].iter().any(|gzip| coding.eq_ignore_ascii_case(gzip)) => Ok(true),
        _ => Err(FetchError::Encoding { got: lines.join(", ") }),
    }
}

fn client(url: &Url, purpose: Purpose, node: Option<SocketAddr>, limits: &CheckLimits) -> ClientBuilder {
    let resolver = Resolver::default();
    let (seen, allowed) = (resolver.clone(), limits.private_redirects);
    let policy = Policy::custom(move |attempt| {
        let refused = refused(attempt.previous(), attempt.url(), purpose);
        let refused = refused.or_else(|| match attempt.previous().last() {
            Some(from) if !allowed => leads_inside(&seen, from, attempt.url()),
            _ => None,
        });
        match refused {
            Some(refused) => attempt.error(refused),
            None => attempt.follow(),
        }
    });
    let client = Client::builder()
        .redirect(policy)
        .dns_resolver(Arc::new(resolver))
        .connect_timeout(limits.connect_timeout)
        .timeout(limits.total_timeout)
        .user_agent(concat!("statuslist/", env!("CARGO_PKG_VERSION")));
    match (node, url.host_str()) {
        (Some(node), Some(host)) => client.resolve(host, node).no_proxy(),
        // A proxy's localhost is another machine.
        _ if is_loopback(url) => client.no_proxy(),
        _ => client,
    }
}

/// Why a redirect from a public address must not be followed. If only the resolver can tell, makes it refuse private
/// addresses for this name.
fn leads_inside(resolver: &Resolver, from: &Url, to: &Url) -> Option<RedirectRefused> {
    let is_inside = |url: &Url| match literal(url) {
        Some(address) => is_private(address),
        None => is_loopback(url) || resolver.is_private(url.host_str().unwrap_or_default()),
    };
    if is_inside(from) {
        return None;
    }
    match literal(to) {
        None if !is_loopback(to) => {
            resolver.must_be_public(to.host_str().unwrap_or_default());
            None
        }
        Some(address) if !is_private(address) => None,
        _ => Some(RedirectRefused::Private { to: to.to_string() }),
    }
}

/// The body. Stops reading as soon as it is too long, both as received and as decompressed.
async fn body(response: Response, is_gzip: bool, bytes_max: u64) -> Result<Vec<u8>, FetchError> {
    let body = read(response, bytes_max).await?;
    if !is_gzip {
        return Ok(body);
    }
    let mut unpacked = Vec::new();
    let mut reader = MultiGzDecoder::new(body.as_slice()).take(bytes_max.saturating_add(1));
    reader.read_to_end(&mut unpacked).map_err(|error| FetchError::Gzip { why: error.to_string() })?;
    if unpacked.len() as u64 > bytes_max {
        Err(FetchError::TooLarge { max: bytes_max })
    } else {
        Ok(unpacked)
    }
}

async fn read(mut response: Response, bytes_max: u64) -> Result<Vec<u8>, FetchError> {
    let too_large = FetchError::TooLarge { max: bytes_max };
    if response.content_length().is_some_and(|announced| announced > bytes_max) {
        return Err(too_large);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if (body.len() + chunk.len()) as u64 > bytes_max {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn format_of(response: &Response) -> Result<Format, FetchError> {
    let got = header(response, CONTENT_TYPE).unwrap_or_default();
    let essence = got.split(';').next().unwrap_or_default().trim();
    let format = Format::SIGNED.into_iter().find(|format| format.media_type().eq_ignore_ascii_case(essence));
    format.ok_or(FetchError::ContentType { got })
}

fn header(response: &Response, name: HeaderName) -> Option<String> {
    response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn refused(previous: &[Url], to: &Url, purpose: Purpose) -> Option<RedirectRefused> {
    let from_https = previous.last().is_some_and(|from| from.scheme() == "https");
    if previous.len() > REDIRECTS_MAX {
        Some(RedirectRefused::TooMany { to: to.to_string() })
    } else if previous.contains(to) {
        Some(RedirectRefused::Loop { to: to.to_string() })
    } else if has_credentials(to) {
        Some(RedirectRefused::Credentials)
    } else if from_https && to.scheme() != "https" || purpose == Purpose::Keys && !is_safe_for_keys(to) {
        Some(RedirectRefused::Downgrade { to: to.to_string() })
    } else {
        None
    }
}

fn is_safe_for_keys(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

/// The IP address in the URL, if it has one instead of a name.
fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn advice(status: u16, purpose: Purpose) -> &'static str {
    match (purpose, status) {
        (Purpose::Keys, _) => "check the URL given to `--trust`",
        (_, 400) => "the server does not understand the request; check `uri` and `--time`",
        (_, 401 | 403) => "the list is not public, or the server refuses this client",
        (_, 404) => {
            "the server has no such list, or none for that `--time`; check the `uri` of the credential"
        }
        (_, 406) => {
            "the server does not have the list in this format; omit `--format`, or request the other one"
        }
        (_, 410) => "the list is gone, which is correct once all its credentials have expired",
        (_, 429 | 503) => "the server is busy; try again later",
        (_, 501) => "the server keeps no history; omit `--time` to get the present status",
        (_, 500..) => "the server has failed; try again later",
        _ => "no token came with it; check the `uri` of the credential",
    }
}

fn failed(error: reqwest::Error) -> FetchError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<RedirectRefused>() {
            return refused.clone().into();
        }
        cause = inner.source();
    }
    let is_timeout = error.is_timeout();
    let why = causes(&error);
    if is_timeout { FetchError::Timeout { why } } else { FetchError::Transport { why } }
}

/// An error and its causes, outermost first.
fn causes(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
pub(super) mod tests {
    use std::convert::Infallible;
    use std::io::Write;
    use std::net::TcpListener;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use actix_web::body::{BodySize, MessageBody};
    use actix_web::http::header::LOCATION;
    use actix_web::web::{self, Bytes, ServiceConfig};
    use actix_web::{App, HttpRequest, HttpResponse, HttpServer};

    use super::*;
    use crate::base::clock::NumericDate;

    /// Starts a real server on a free port, which ends with the test. Returns its base URL.
    pub(in crate::check) fn serve(routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        serve_on(listener, routes)
    }

    pub(crate) fn serve_on(
        listener: TcpListener,
        routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    ) -> String {
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = HttpServer::new(move || App::new().configure(routes.clone()));
        actix_web::rt::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
        base
    }

    /// A body of this many chunks of 4096 zeros, without `Content-Length`.
    struct Chunks(u32);

    impl MessageBody for Chunks {
        type Error = Infallible;

        fn size(&self) -> BodySize {
            BodySize::Stream
        }

        fn poll_next(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Bytes, Infallible>>> {
            let left = self.0.checked_sub(1);
            self.0 = left.unwrap_or(0);
            Poll::Ready(left.map(|_| Ok(Bytes::from_static(&[0; 4096]))))
        }
    }

    fn to(location: impl Into<String>) -> HttpResponse {
        HttpResponse::Found().insert_header((LOCATION, location.into())).finish()
    }

    fn routes(config: &mut ServiceConfig) {
        async fn echo(request: HttpRequest) -> HttpResponse {
            let accept = request.headers().get("accept").unwrap().to_str().unwrap();
            let body = format!("{accept}|{}", request.query_string());
            HttpResponse::Ok().content_type("Application/StatusList+JWT; q=1").body(body)
        }
        async fn hop(left: web::Path<u32>) -> HttpResponse {
            match left.into_inner() {
                0 => to("/echo"),
                left => to(format!("/hops/{}", left - 1)),
            }
        }
        async fn status(code: web::Path<u16>) -> HttpResponse {
            HttpResponse::build(actix_web::http::StatusCode::from_u16(*code).unwrap()).finish()
        }
        async fn encoded(path: web::Path<(String, usize)>) -> HttpResponse {
            let (coding, bytes) = path.into_inner();
            let mut body = vec![b'x'; bytes];
            if coding.to_ascii_lowercase().contains("gzip") {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(&body).unwrap();
                body = encoder.finish().unwrap();
            }
            // `-` stands for an empty value, `not gzip` for content that does not match its header.
            let header = coding.trim_start_matches("not ").trim_matches('-').to_owned();
            let body = if coding.starts_with("not ") { vec![0; 9] } else { body };
            HttpResponse::Ok()
                .content_type("application/statuslist+jwt")
                .insert_header(("content-encoding", header))
                .body(body)
        }
        async fn typed(content_type: &'static str) -> HttpResponse {
            HttpResponse::Ok().content_type(content_type).body("x")
        }
        config
            .route("/echo", web::get().to(echo))
            .route("/hops/{left}", web::get().to(hop))
            .route("/circle", web::get().to(|| async { to("/circle/2") }))
            .route("/circle/2", web::get().to(|| async { to("/circle") }))
            .route("/status/{code}", web::get().to(status))
            .route("/html", web::get().to(|| typed("text/html")))
            .route("/cwt", web::get().to(|| typed("application/statuslist+cwt")))
            .route("/suffix", web::get().to(|| typed("application/statuslist+jwt2")))
            .route("/away", web::get().to(|| async { to("http://status.example/jwks.json") }))
            .route("/silent", web::get().to(std::future::pending::<HttpResponse>))
            .route("/away/password", web::get().to(|| async { to("http://u:p@127.0.0.1/echo") }))
            .route("/encoded/{coding}/{bytes}", web::get().to(encoded))
            .route(
                "/long",
                web::get().to(|| async {
                    HttpResponse::Ok().content_type("application/statuslist+jwt").body(vec![0; 1 << 20])
                }),
            )
            .route(
                "/chunks/{number}",
                web::get().to(|number: web::Path<u32>| async move {
                    HttpResponse::Ok().content_type("application/statuslist+jwt").body(Chunks(*number))
                }),
            );
    }

    async fn fetched(path: &str) -> Result<Fetched, FetchError> {
        let mut request = Check::new(format!("{}{path}", serve(routes)), 0);
        request.limits.body_bytes_max = (1 << 20) - 1;
        token(&request).await
    }

    async fn refused(path: &str) -> FetchError {
        fetched(path).await.map(|fetched| fetched.format).unwrap_err()
    }

    #[actix_web::test]
    async fn requests_the_given_format_and_time() {
        let base = serve(routes);
        let check = async |format, time, expected: &str| {
            let request = Check { format, time, ..Check::new(format!("{base}/echo"), 0) };
            let fetched = token(&request).await.unwrap();
            assert_eq!(String::from_utf8(fetched.body).unwrap(), expected);
        };
        check(None, None, "application/statuslist+jwt, application/statuslist+cwt;q=0.9|").await;
        check(Some(Format::Jwt), Some(NumericDate::MIN), "application/statuslist+jwt|time=0").await;
    }

    #[actix_web::test]
    async fn redirects_are_followed_up_to_the_limit() {
        let fetched = fetched(&format!("/hops/{}", REDIRECTS_MAX - 1)).await.unwrap();
        assert_eq!(fetched.format, Format::Jwt);
        assert!(fetched.redirected_to.unwrap().ends_with("/echo"));
        let why = refused(&format!("/hops/{REDIRECTS_MAX}")).await;
        assert!(matches!(why, FetchError::Redirect(RedirectRefused::TooMany { .. })), "{why}");
    }

    #[actix_web::test]
    async fn redirect_loop_is_refused() {
        let why = refused("/circle").await;
        assert!(matches!(why, FetchError::Redirect(RedirectRefused::Loop { .. })), "{why}");
    }

    #[test]
    fn redirect_must_not_drop_https() {
        let check = |from: &str, to: &str, purpose, allowed: bool| {
            let refused = super::refused(&[from.parse().unwrap()], &to.parse().unwrap(), purpose);
            assert_eq!(refused.is_none(), allowed, "{from} to {to}: {refused:?}");
        };
        for purpose in [Purpose::Token, Purpose::Keys] {
            check("https://a.example/", "http://a.example/", purpose, false);
            check("https://a.example/", "http://localhost/", purpose, false);
            check("https://a.example/", "https://b.example/", purpose, true);
            check("http://localhost/", "https://b.example/", purpose, true);
            check("http://localhost/", "http://127.0.0.1/", purpose, true);
            check("http://[::1]/", "http://a.example/", purpose, purpose == Purpose::Token);
        }
    }

    #[actix_web::test]
    async fn body_is_cut_off_while_it_streams() {
        assert_eq!(fetched("/chunks/255").await.unwrap().body.len(), 255 * 4096);
        for chunks in [256, u32::MAX] {
            let why = refused(&format!("/chunks/{chunks}")).await;
            assert!(matches!(why, FetchError::TooLarge { max: 1_048_575 }), "{why}");
        }
    }

    #[actix_web::test]
    async fn body_announced_as_too_long_is_refused() {
        let why = refused("/long").await;
        assert!(matches!(why, FetchError::TooLarge { .. }), "{why}");
    }

    #[actix_web::test]
    async fn other_content_types_are_refused() {
        for path in ["/html", "/suffix", "/status/204"] {
            let why = refused(path).await;
            assert!(matches!(why, FetchError::ContentType { .. }), "{why}");
        }
    }

    #[actix_web::test]
    async fn response_in_another_format_than_requested_is_refused() {
        let request = Check { format: Some(Format::Jwt), ..Check::new(format!("{}/cwt", serve(routes)), 0) };
        let why = token(&request).await.unwrap_err();
        let (wanted, got) = (Format::Jwt, Format::Cwt);
        assert!(
            matches!(why, FetchError::OtherFormat { wanted: w, got: g } if (w, g) == (wanted, got)),
            "{why}"
        );
    }

    #[actix_web::test]
    async fn encoding_that_was_not_requested_is_refused() {
        for coding in ["br", "deflate", "gzip,gzip", "zstd,gzip"] {
            let why = refused(&format!("/encoded/{coding}/9")).await;
            assert!(matches!(why, FetchError::Encoding { .. }), "{coding}: {why}");
        }
        let why = refused("/encoded/not gzip/9").await;
        assert!(matches!(why, FetchError::Gzip { .. }), "{why}");
    }

    #[actix_web::test]
    async fn gzip_and_an_empty_encoding_are_read_for_tokens_and_keys() {
        for coding in ["gzip", "x-gzip", "GZIP,identity", "identity", "-", ","] {
            let path = format!("/encoded/{coding}/1000");
            let coding = |error: FetchError| panic!("{coding}: {error}");
            assert_eq!(fetched(&path).await.unwrap_or_else(coding).body, vec![b'x'; 1000]);
            let url = format!("{}{path}", serve(routes));
            assert_eq!(jwks(&url, &CheckLimits::default()).await.unwrap(), vec![b'x'; 1000]);
        }
        for bytes in [1 << 20, 100 << 20] {
            let why = refused(&format!("/encoded/gzip/{bytes}")).await;
            assert!(matches!(why, FetchError::TooLarge { .. }), "{why}");
        }
    }

    #[actix_web::test]
    async fn credentials_in_an_address_are_never_sent() {
        for uri in ["http://u:p@127.0.0.1/1", "https://u@status.example/1", "https://:p@status.example/1"] {
            let why = token(&Check::new(uri, 0)).await.unwrap_err();
            assert!(matches!(why, FetchError::Credentials), "{uri}: {why}");
            let why = jwks(uri, &CheckLimits::default()).await.unwrap_err();
            assert!(matches!(why, FetchError::Credentials), "{uri}: {why}");
        }
        let why = refused("/away/password").await;
        assert!(matches!(why, FetchError::Redirect(RedirectRefused::Credentials)), "{why}");
    }

    #[test]
    fn redirect_must_not_lead_from_public_to_private() {
        let resolver = Resolver::default();
        resolver.resolved("inside.example", &["10.0.0.1:80".parse().unwrap()]);
        resolver.resolved(
            "outside.example",
            &["192.0.2.1:80".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap()],
        );
        let check = |from: &str, to: &str, allowed: bool| {
            let refused = leads_inside(&resolver, &from.parse().unwrap(), &to.parse().unwrap());
            assert_eq!(refused.is_none(), allowed, "{from} to {to}: {refused:?}");
        };
        for inside in [
            "http://127.1/",
            "http://[::1]/",
            "http://localhost/",
            "https://a.localhost/",
            "http://0x0a000001/",
            "https://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest",
        ] {
            check("https://outside.example/", inside, false);
            check("https://192.0.2.1/", inside, false);
            check("https://inside.example/", inside, true);
            check("http://127.0.0.1/", inside, true);
        }
        check("https://outside.example/", "https://192.0.2.7/", true);
        // Only its addresses can tell: the resolver will check them.
        check("https://outside.example/", "https://elsewhere.example/", true);
        assert!(resolver.resolved("elsewhere.example", &["10.0.0.1:80".parse().unwrap()]).is_empty());
        let mixed = ["10.0.0.1:80".parse().unwrap(), "192.0.2.1:80".parse().unwrap()];
        assert_eq!(resolver.resolved("elsewhere.example", &mixed), mixed[1..]);
        assert_eq!(resolver.resolved("another.example", &mixed), mixed);
    }

    #[actix_web::test]
    async fn every_refusing_status_says_what_to_do() {
        for (status, advice) in [
            (304, "no token came with it"),
            (400, "check `uri` and `--time`"),
            (403, "not public"),
            (404, "no such list"),
            (406, "omit `--format`"),
            (410, "the list is gone"),
            (501, "omit `--time`"),
            (503, "try again later"),
            (599, "try again later"),
        ] {
            let why = refused(&format!("/status/{status}")).await.to_string();
            assert!(why.contains(&status.to_string()) && why.contains(advice), "{why}");
        }
    }

    #[actix_web::test]
    async fn silent_server_times_out() {
        let mut request = Check::new(format!("{}/silent", serve(routes)), 0);
        request.limits.total_timeout = Duration::from_millis(50);
        let why = token(&request).await.unwrap_err();
        assert!(matches!(why, FetchError::Timeout { .. }), "{why}");
    }

    #[actix_web::test]
    async fn absent_server_is_named() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let why = token(&Check::new(format!("http://{address}/"), 0)).await.unwrap_err();
        assert!(matches!(&why, FetchError::Transport { .. }), "{why}");
        assert!(why.to_string().contains(&address.to_string()), "{why}");
    }

    #[actix_web::test]
    async fn other_uris_than_http_are_refused() {
        for uri in ["", "status.example/1", "ftp://status.example/1", "urn:uuid:x", "/lists/1"] {
            let why = token(&Check::new(uri, 0)).await.unwrap_err();
            assert!(matches!(why, FetchError::Uri { .. }), "{uri}: {why}");
        }
    }

    #[actix_web::test]
    async fn keys_come_over_https_or_from_this_machine() {
        let why = jwks("http://status.example/jwks.json", &CheckLimits::default()).await.unwrap_err();
        assert!(matches!(why, FetchError::InsecureKeys { .. }), "{why}");
        let base = serve(routes);
        assert!(
            jwks(&format!("{base}/html"), &CheckLimits::default()).await.is_ok(),
            "its type does not matter"
        );
        let why = jwks(&format!("{base}/away"), &CheckLimits::default()).await.unwrap_err();
        assert!(matches!(why, FetchError::Redirect(RedirectRefused::Downgrade { .. })), "{why}");
    }
}
