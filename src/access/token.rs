//! Bearer tokens: JWT access tokens of an authorization server (RFC 9068), and what their `scope` allows.
//!
//! A token never chooses its algorithm: it must be in the settings and fit the key that `kid` names. `jsonwebtoken` checks
//! signature, `iss` and `aud`; this file checks the times, with the service's clock.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::jwks::KeySet;
use super::{AccessError, Caller, Identity};
use crate::base::clock::Clock;
use crate::config::OauthConfig;
use crate::model::api_key::{Scope, Scopes};
use crate::model::pool::PoolId;

/// Longer than any real token, and short enough to refuse cheaply.
const TOKEN_BYTES_MAX: usize = 8192;
/// The longest name of a client in logs and the audit trail.
const NAME_CHARS_MAX: usize = 64;
/// RFC 9068, "Header": without it, an ID token or any other JWT of the same server could pass as an access token.
const TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];

/// The members of the header and of the claims that are read here.
const READ: [&str; 11] =
    ["typ", "alg", "kid", "crit", "iss", "aud", "exp", "nbf", "scope", "client_id", "sub"];

/// Verifies tokens.
pub(super) struct Tokens {
    settings: OauthConfig,
    keys: KeySet,
    clock: Clock,
}

/// Why a token is refused. For the log only, and never with a part of the token.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum TokenRefused {
    #[error("it has more than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is not a JWT, a part of its header is null, or its `alg` is unknown")]
    Malformed,
    #[error("its `typ` is not at+jwt")]
    Type,
    #[error("its `crit` names an unknown extension")]
    Critical,
    #[error("its `alg` is not in oauth.algorithms")]
    Algorithm,
    #[error("it has no `kid`")]
    NoKid,
    #[error("its `kid` is not in the key set, or not for its `alg`")]
    UnknownKey,
    #[error("the authorization server's keys are not known")]
    NoKeys,
    #[error("signature, `iss` or `aud`: {0}")]
    Jwt(String),
    #[error("a claim that matters is null")]
    Null,
    #[error("it has neither `sub` nor `client_id`, so it names no holder")]
    Nobody,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    sub: Option<String>,
    /// A single string: `jsonwebtoken` would also accept a list.
    #[serde(rename = "iss")]
    _iss: String,
}

impl Tokens {
    pub(super) fn new(settings: &OauthConfig, patience: Duration, clock: Clock) -> Result<Self, AccessError> {
        let keys = KeySet::open(&settings.jwks, patience, clock.clone())?;
        Ok(Self { settings: settings.clone(), keys, clock })
    }

    pub(super) async fn prepare(&self) {
        self.keys.prepare().await;
    }

    /// Verifies a token and returns its holder.
    pub(super) async fn verify(&self, token: &str) -> Result<Caller, TokenRefused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefused::TooLong);
        }
        let header = header_of(token).ok_or(TokenRefused::Malformed)?;
        let typ = header.typ.as_deref().unwrap_or_default();
        if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ)) {
            return Err(TokenRefused::Type);
        }
        if header.crit.is_some() {
            return Err(TokenRefused::Critical);
        }
        if !self.settings.algorithms.contains(&header.alg) {
            return Err(TokenRefused::Algorithm);
        }
        let kid = header.kid.ok_or(TokenRefused::NoKid)?;
        let key = self.keys.find(&kid, header.alg).await;
        let unknown = || if self.keys.are_known() { TokenRefused::UnknownKey } else { TokenRefused::NoKeys };
        let key = key.ok_or_else(unknown)?;
        let members = decode::<Map<String, Value>>(token, &key, &self.validation(header.alg));
        let members = members.map_err(|why| TokenRefused::Jwt(why.to_string()))?.claims;
        if !has_no_null(&members) {
            return Err(TokenRefused::Null);
        }
        let claims: Claims = serde_json::from_value(Value::Object(members))
            .map_err(|why| TokenRefused::Jwt(why.to_string()))?;
        self.check_times(&claims)?;
        self.caller(&claims)
    }

    fn caller(&self, claims: &Claims) -> Result<Caller, TokenRefused> {
        let Claims { sub, client_id, .. } = claims;
        let identity = Identity::of_token(&self.settings.issuer, sub.as_deref(), client_id.as_deref());
        let name = name(claims).ok_or(TokenRefused::Nobody)?;
        Ok(Caller { identity, name: name.into(), rights: rights(&claims.scope), with_token: true })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        // Both are checked below, with our clock.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        validation
    }

    fn check_times(&self, claims: &Claims) -> Result<(), TokenRefused> {
        let (now, leeway) = (self.clock.now().date().secs() as f64, self.settings.leeway.as_secs_f64());
        if claims.exp + leeway <= now {
            return Err(TokenRefused::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now + leeway) {
            return Err(TokenRefused::NotYetValid);
        }
        Ok(())
    }
}

/// Reads the header of a token. Only an object is one: the library would also read an array.
fn header_of(token: &str) -> Option<Header> {
    let part = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    serde_json::from_slice(&part).ok().filter(has_no_null)?;
    decode_header(token).ok()
}

/// Whether no member that is read here is null: that would pass for one that is absent.
fn has_no_null(members: &Map<String, Value>) -> bool {
    !READ.iter().any(|name| members.get(*name).is_some_and(Value::is_null))
}

/// The name of the token's holder in logs; `None` if the token names none.
fn name(claims: &Claims) -> Option<String> {
    let mut given = [&claims.client_id, &claims.sub].into_iter().flatten();
    let client = given.find(|claim| !claim.is_empty())?;
    let shown = client.chars().take(NAME_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c });
    Some(format!("jwt:{}", shown.collect::<String>()))
}

/// Reads `demo:allocate other:read` and ignores words for other services.
fn rights(scope: &str) -> Vec<(PoolId, Scopes)> {
    let right = |word: &str| {
        let (pool, scope) = word.split_once(':')?;
        Some((pool.parse().ok()?, [Scope::from_name(scope)?].into_iter().collect()))
    };
    scope.split(' ').filter_map(right).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_words_name_pool_and_scope() {
        let caller = Caller {
            identity: Identity::of_token("i", None, Some("a")),
            name: "jwt:a".into(),
            rights: rights("openid demo:allocate demo:read other:update demo:write demo: :read a:b:c"),
            with_token: true,
        };
        let may = |scope, pool: &str| caller.may(scope, &pool.parse().unwrap()).is_ok();
        assert_eq!(caller.rights.len(), 3);
        assert!(may(Scope::Allocate, "demo") && may(Scope::Read, "demo") && may(Scope::Update, "other"));
        assert!(!may(Scope::Update, "demo") && !may(Scope::Read, "other") && !may(Scope::Read, "third"));
    }

    #[test]
    fn names_are_short_and_harmless() {
        let name = |client: &str, sub: &str| {
            name(&Claims {
                exp: 0.0,
                nbf: None,
                scope: String::new(),
                client_id: Some(client.to_owned()),
                sub: Some(sub.to_owned()),
                _iss: String::new(),
            })
        };
        assert_eq!(name("issuer-1", "s").unwrap(), "jwt:issuer-1");
        assert_eq!(name("a\nb", "s").unwrap(), "jwt:a?b");
        assert_eq!(name("", "s").unwrap(), "jwt:s");
        assert_eq!(name("", ""), None);
        assert_eq!(name(&"x".repeat(1000), "s").unwrap().len(), 4 + NAME_CHARS_MAX);
    }
}
