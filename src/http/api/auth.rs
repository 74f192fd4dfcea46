//! Authenticates callers: reads a request's credentials, and turns refusals into answers. `access/` decides who may do what.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpMessage;
use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HeaderName};

use super::problem::Problem;
use super::{Api, PoolApi};
use crate::access::{self, Access, Credentials, Denied, Identity, Refused};
use crate::model::api_key::Scope;
use crate::model::pool::PoolId;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const BEARER: &str = "Bearer ";

/// The name of an authenticated caller in logs and in the audit trail. A request carries it as an extension if a trail is kept.
pub(super) struct CallerName(pub(super) Arc<str>);

/// An authenticated caller, permitted to do something in at least one pool.
pub(super) struct Caller(access::Caller);

impl Caller {
    /// Authenticates the caller of this request, or refuses the request before its body is read.
    pub(super) async fn of(request: &HttpRequest, api: &Api) -> Result<Self, Problem> {
        let access = api.access();
        let credentials = credentials(request, &access);
        let caller = access.admit(&credentials).await;
        if api.audit.is_on()
            && let Ok(caller) = &caller
        {
            request.extensions_mut().insert(CallerName(Arc::clone(caller.name())));
        }
        caller.map(Self).map_err(|refused| refusal(refused, &credentials))
    }

    /// Authenticates the holder of a key for administration, likewise.
    pub(super) fn administering(request: &HttpRequest, api: &Api) -> Result<Self, Problem> {
        let access = api.access();
        let credentials = credentials(request, &access);
        let caller = access.admit_admin(&credentials);
        if let Ok(caller) = &caller {
            request.extensions_mut().insert(CallerName(Arc::clone(caller.name())));
        }
        caller.map(Self).map_err(|refused| refusal(refused, &credentials))
    }

    /// Returns the pool of this name if the caller has this scope in it.
    pub(super) fn pool(&self, api: &Api, name: &str, scope: Scope) -> Result<Arc<PoolApi>, Problem> {
        let id: PoolId = name.parse().map_err(|_| Problem::no_such_pool(name))?;
        self.may_use(api.pool(&id).ok_or_else(|| Problem::no_such_pool(name))?, scope)
    }

    /// Returns `pool` if the caller has this scope in it.
    pub(super) fn may_use(&self, pool: Arc<PoolApi>, scope: Scope) -> Result<Arc<PoolApi>, Problem> {
        match self.0.may(scope, &pool.id) {
            Ok(()) => Ok(pool),
            Err(Denied::OtherPool) => Err(Problem::invalid_key()),
            Err(Denied::LacksScope) if self.0.has_token() => Err(Problem::token_lacks_scope(&pool.id, scope)),
            Err(Denied::LacksScope) => Err(Problem::key_lacks_scope(&pool.id, scope)),
        }
    }

    /// The pools in which the caller has this scope.
    pub(super) fn pools(&self, api: &Api, scope: Scope) -> Vec<Arc<PoolApi>> {
        let pools = api.pools.load();
        pools.values().filter(|pool| self.0.may(scope, &pool.id).is_ok()).cloned().collect()
    }

    /// Identifies the caller, whatever name logs use.
    pub(super) fn identity(&self) -> &Identity {
        self.0.identity()
    }

    /// The caller's name in logs and in the audit trail. Not a secret.
    pub(super) fn name(&self) -> &str {
        self.0.name()
    }
}

/// Whether this is what stands under `api-keys` in the settings.
fn is_hash(key: &[u8]) -> bool {
    key.to_ascii_lowercase().starts_with(b"sha256:")
}

/// Whether this is no JWT at all.
fn is_key(token: &str) -> bool {
    !token.is_empty() && !token.contains('.')
}

fn refusal(refused: Refused, credentials: &Credentials<'_>) -> Problem {
    match refused {
        Refused::Missing if credentials.token.is_some() => Problem::no_tokens(),
        Refused::Missing => Problem::missing_key(),
        Refused::InvalidKey if credentials.api_key.is_some_and(is_hash) => Problem::hash_as_key(),
        Refused::InvalidKey => Problem::invalid_key(),
        Refused::NotAdmin => Problem::not_admin(),
        Refused::InvalidToken if credentials.token.is_some_and(is_key) => Problem::key_as_token(),
        Refused::InvalidToken => Problem::invalid_token(),
        Refused::KeysUnknown => Problem::token_keys_unknown(),
        Refused::NoCertificate => Problem::no_client_certificate(),
        Refused::TooMany { retry_after } => Problem::too_many_requests(retry_after),
    }
}

/// Refuses a request without a verified client certificate, if the settings require one.
pub(super) fn require_certificate(request: &HttpRequest, api: &Api) -> Result<(), Problem> {
    let access = api.access();
    access.check_certificate(&credentials(request, &access)).map_err(|_| Problem::no_client_certificate())
}

/// The client's address, taken from `X-Forwarded-For` as far as its proxies are trusted.
pub(super) fn client_address(request: &HttpRequest, access: &Access) -> Option<IpAddr> {
    Some(access.client_address(request.peer_addr()?.ip(), &forwarded_for(request)))
}

/// Returns all values of `X-Forwarded-For`. A value that is not text keeps its place, as an unreadable address.
fn forwarded_for(request: &HttpRequest) -> Vec<&str> {
    request.headers().get_all(FORWARDED_FOR).map(|value| value.to_str().unwrap_or("?")).collect()
}

fn credentials<'a>(request: &'a HttpRequest, access: &Access) -> Credentials<'a> {
    let headers = request.headers();
    let bearer = |value: &'a str| {
        let (scheme, token) = value.split_at_checked(BEARER.len())?;
        scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim())
    };
    Credentials {
        peer: request.peer_addr().map(|address| address.ip()),
        forwarded_for: forwarded_for(request),
        client_certificate: access.certificate_header().and_then(|name| {
            let mut values = headers.get_all(name);
            values.next().filter(|_| values.next().is_none()).map(|value| value.as_bytes())
        }),
        api_key: headers.get(API_KEY).map(|value| value.as_bytes()),
        token: headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer),
    }
}
