//! A Relying Party's check: fetches a Status List Token and returns the status at one index ("Validation Rules").
//!
//! Used by the cache, by the service's command line, and by its tests as the counterpart of everything that it publishes. Reads
//! tokens with `status_list/`, and knows nothing of pools, stores and private keys.
//!
//! Invariant: `trust.rs` and `verdict.rs` decide without I/O, and time always comes in as an argument. This folder never
//! sees the credential itself: the caller must check first that it is authentic and has not expired.

mod address;
mod anchors;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod conformance;
mod fetch;
mod key;
mod many;
mod name_constraints;
mod outcome;
mod path;
mod redirect;
mod report;
mod times;
mod trust;
mod untrusted;
mod usage;
mod verdict;

pub use fetch::FetchError;
pub(crate) use fetch::token_unless;
pub use many::{CheckedList, lists};
pub use outcome::{CannotList, CannotTell, IAT_LEEWAY, NotValid, Outcome};
pub use path::ChainFlaw;
pub use redirect::{REDIRECTS_MAX, RedirectRefused};
pub use report::{Report, TokenFacts};
pub use trust::{InvalidTrust, Trust};
pub use untrusted::{TrustedBy, Untrusted};
pub use verdict::judge;
pub(crate) use verdict::{Statuses, read};

/// For the tests of the cache as well.
#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::fetch::tests::serve_on;
    pub(crate) use super::verdict::tests::{NOW, after, claims, signer, signer_of, token};
}

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::base::clock::NumericDate;
use crate::profile::Profiles;
use crate::status_list::{Aggregation, Format, LIST_BYTES_MAX, StatusArray};

/// The question, and the rules for the answer.
#[derive(Clone, Debug)]
pub struct Check {
    /// `uri` of the credential's `status.status_list`, byte for byte.
    pub uri: String,
    /// `idx` of the credential's `status.status_list`.
    pub idx: u64,
    /// The trust anchors. Without them no signature can be verified, so the status remains unknown.
    pub trust: Option<TrustSource>,
    /// The extended key usage that the signer's certificate must have, in dotted numbers. None is built in, because the
    /// registry has not given it a number yet.
    pub eku: Option<String>,
    /// Whether to accept a signer's certificate whose extended key usages are all for other purposes, such as that of a TLS
    /// server.
    pub any_eku: bool,
    /// The profiles whose rules the token must keep.
    pub profiles: Profiles,
    /// The only format to accept; `None` accepts both.
    pub format: Option<Format>,
    /// The time of the status, instead of now ("Historical Resolution").
    pub time: Option<NumericDate>,
    /// The oldest token to accept, by `iat`, whatever its `exp`.
    pub max_age: Option<Duration>,
    /// Connects to this address, whatever the `uri`'s name resolves to: one node of several that serve it. A port in the `uri` takes
    /// precedence over that of the address.
    pub node: Option<SocketAddr>,
    /// Limits on what a stranger's server can make us wait for or store.
    pub limits: CheckLimits,
}

/// The source of the trusted keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustSource {
    /// A PEM file of certificates, or a JWKS file.
    File(PathBuf),
    /// A JWKS on the web: https, or http of this machine.
    Url(String),
}

/// Bounds on one check.
#[derive(Clone, Debug)]
pub struct CheckLimits {
    /// The most bytes of a fetched token.
    pub body_bytes_max: u64,
    /// The most bytes of an inflated list; the specification sets no limit.
    pub inflated_bytes_max: u64,
    /// Whether to follow a redirect from a public address to a private network or this machine.
    pub private_redirects: bool,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait for a complete response.
    pub total_timeout: Duration,
}

/// Fetches the keys and the token, and applies the rules.
pub async fn check(request: &Check, now: NumericDate) -> Report {
    match observe(request, now).await {
        Ok(report) => report,
        Err(why) => Report::new(request, now, Outcome::Unknown(why), None),
    }
}

/// As [`check`], with keys that were loaded before.
pub async fn check_with(request: &Check, trust: &Trust, now: NumericDate) -> Report {
    match fetch_and_judge(request, Some(trust), now).await {
        Ok(report) => report,
        Err(why) => Report::new(request, now, Outcome::Unknown(why), None),
    }
}

/// Fetches and verifies a whole list, by the rules of [`check_with`].
pub async fn list(request: &Check, trust: &Trust, now: NumericDate) -> Result<StatusArray, CannotTell> {
    let fetched = fetch::token(request).await?;
    verdict::verify(request, fetched.format, &fetched.body, trust, now)
}

/// Fetches the `uri`s of an aggregation ("Status List Aggregation").
pub async fn aggregation(url: &str, limits: &CheckLimits) -> Result<Vec<String>, CannotList> {
    let document = fetch::aggregation(url, limits).await?;
    Ok(Aggregation::from_json(&document)?.status_lists)
}

async fn observe(request: &Check, now: NumericDate) -> Result<Report, CannotTell> {
    // The keys come first: a mistyped file name should cost no request.
    let trust = match &request.trust {
        Some(source) => Some(load(source, request).await?),
        None => None,
    };
    fetch_and_judge(request, trust.as_ref(), now).await
}

async fn fetch_and_judge(
    request: &Check,
    trust: Option<&Trust>,
    now: NumericDate,
) -> Result<Report, CannotTell> {
    let fetched = fetch::token(request).await?;
    let report = judge(request, fetched.format, &fetched.body, trust, now);
    Ok(Report { redirected_to: fetched.redirected_to, ..report })
}

/// Loads the trusted keys of a check.
pub async fn load(source: &TrustSource, request: &Check) -> Result<Trust, InvalidTrust> {
    let trust = match source {
        TrustSource::Url(url) => Trust::from_jwks(&fetch::jwks(url, &request.limits).await?)?,
        TrustSource::File(path) => {
            let read = std::fs::read_to_string(path);
            let text =
                read.map_err(|source| InvalidTrust::File { path: path.display().to_string(), source })?;
            if text.contains("-----BEGIN") {
                Trust::from_pem(&text)?
            } else {
                Trust::from_jwks(text.as_bytes())?
            }
        }
    };
    match &request.eku {
        Some(eku) => trust.requiring_eku(eku),
        None if request.any_eku => Ok(trust.allowing_any_eku()),
        None => Ok(trust),
    }
}

impl Check {
    /// A check of `idx` in the list at `uri`, now, in either format, without trust anchors.
    pub fn new(uri: impl Into<String>, idx: u64) -> Self {
        Self {
            uri: uri.into(),
            idx,
            trust: None,
            eku: None,
            any_eku: false,
            profiles: Profiles::default(),
            format: None,
            time: None,
            max_age: None,
            node: None,
            limits: CheckLimits::default(),
        }
    }
}

impl Default for CheckLimits {
    fn default() -> Self {
        Self {
            // In a JWT the list is in base64 twice, each time 4/3 as long; the rest of a token is small.
            body_bytes_max: LIST_BYTES_MAX / 9 * 16 + (64 << 10),
            inflated_bytes_max: LIST_BYTES_MAX,
            private_redirects: false,
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(60),
        }
    }
}

impl FromStr for TrustSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let is_url = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        Ok(if is_url { Self::Url(text.to_owned()) } else { Self::File(text.into()) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use actix_web::{HttpRequest, HttpResponse, web};

    use super::verdict::tests::{NOW, claims, refusal, signer, token};
    use super::*;
    use crate::issuer::JwkSet;
    use crate::status_list::Claims;

    /// A site with one list in both formats and its JWKS. Returns the list's `uri` and the JWKS.
    fn site() -> (String, JwkSet) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}/lists/1", listener.local_addr().unwrap());
        let signer = signer();
        let claims = Claims { sub: uri.clone(), ..claims() };
        let tokens = Format::SIGNED.map(|format| (format, token(format, &signer, &claims)));
        let jwks = JwkSet { keys: vec![signer.jwk()] };
        let served_jwks = serde_json::to_string(&jwks).unwrap();
        fetch::tests::serve_on(listener, move |config| {
            let (tokens, jwks) = (tokens.clone(), served_jwks.clone());
            let list = move |request: HttpRequest| {
                let accept = request.headers().get("accept").unwrap().to_str().unwrap().to_owned();
                let (format, token) = tokens
                    .iter()
                    .find(|(format, _)| accept.starts_with(format.media_type()))
                    .unwrap()
                    .clone();
                async move { HttpResponse::Ok().content_type(format.media_type()).body(token) }
            };
            let keys = move || {
                let jwks = jwks.clone();
                async move { HttpResponse::Ok().content_type("application/json").body(jwks) }
            };
            config.route("/lists/1", web::get().to(list)).route("/lists/jwks.json", web::get().to(keys));
        });
        (uri, jwks)
    }

    #[actix_web::test]
    async fn checks_what_is_served() {
        let (uri, jwks) = site();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&serde_json::to_vec(&jwks).unwrap()).unwrap();
        let url = uri.replace("/lists/1", "/lists/jwks.json");
        for trust in [url.as_str(), file.path().to_str().unwrap()] {
            for format in [None, Some(Format::Jwt), Some(Format::Cwt)] {
                let request =
                    Check { trust: Some(trust.parse().unwrap()), format, ..Check::new(uri.as_str(), 2) };
                let report = check(&request, NOW).await;
                assert!(report.to_string().starts_with("SUSPENDED  idx 2 of http://"), "{report}");
                assert_eq!(report.exit_code(), 1);
                let got = report.token.map(|token| token.format);
                assert_eq!(got, Some(format.unwrap_or(Format::Jwt)));
            }
        }
    }

    #[actix_web::test]
    async fn failed_requests_leave_the_status_unknown() {
        let (uri, _) = site();
        let request = Check { trust: Some("/nowhere".parse().unwrap()), ..Check::new(uri.as_str(), 0) };
        let why = refusal(check(&request, NOW).await);
        assert!(matches!(why, CannotTell::Trust(InvalidTrust::File { .. })), "{why}");

        let trust = Some(format!("{uri}0").parse().unwrap());
        let why = refusal(check(&Check { trust, ..Check::new(uri.as_str(), 0) }, NOW).await);
        assert!(matches!(why, CannotTell::Trust(InvalidTrust::Fetch(FetchError::Status { .. }))), "{why}");
        assert!(why.to_string().contains("check the URL given to `--trust`"), "{why}");

        let request = Check::new(format!("{uri}0"), 0);
        let why = refusal(check(&request, NOW).await);
        assert!(matches!(why, CannotTell::Fetch(FetchError::Status { status: 404, .. })), "{why}");
    }

    #[test]
    fn longest_list_fits_the_longest_body() {
        let base64 = |bytes: u64| bytes.div_ceil(3) * 4;
        let token = base64(base64(LIST_BYTES_MAX));
        assert!((token..token + (70 << 10)).contains(&CheckLimits::default().body_bytes_max));
    }

    #[test]
    fn formats_and_trust_are_read_from_the_command_line() {
        assert_eq!("http://x/jwks.json".parse(), Ok(TrustSource::Url("http://x/jwks.json".into())));
        assert_eq!("httpd.pem".parse(), Ok(TrustSource::File("httpd.pem".into())));
    }
}
