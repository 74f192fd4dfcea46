//! A key in the transit engine of HashiCorp Vault or OpenBao.
//!
//! One version of the key signs until the settings are read again: the one that they name, or the newest at that time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::link::{Access, Fault, Link, url};
use super::{Address, Input, VaultKey};
use crate::sign::{Algorithm, PublicKey};

/// The longest answer that is read: a description has all versions of the key, 400 bytes each.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

pub(super) struct Vault {
    pub(super) link: Arc<Link>,
    /// The URL that signs.
    sign: Url,
    namespace: Option<HeaderValue>,
    version: u64,
    algorithm: Algorithm,
}

/// What the engine answers, in an envelope.
#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

/// `GET /v1/{mount}/keys/{name}`
#[derive(Deserialize)]
struct Description {
    #[serde(rename = "type")]
    kind: String,
    latest_version: u64,
    /// The versions; each is an object only if the key has a public half.
    keys: BTreeMap<u64, Value>,
}

/// The body of `POST /v1/{mount}/sign/{name}`.
#[derive(Serialize)]
struct Wanted {
    key_version: u64,
    input: String,
    /// r and s side by side, in base64url.
    marshaling_algorithm: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_algorithm: Option<&'static str>,
    prehashed: bool,
}

/// The answer to it.
#[derive(Deserialize)]
struct Signed {
    signature: String,
}

impl Vault {
    pub(super) fn open(
        address: &Address,
        name: &str,
        key: &VaultKey,
        timeout: Duration,
    ) -> Result<(Self, PublicKey), String> {
        let link = Link::new(address, Access::Vault(key.token_file.clone()), timeout, ANSWER_BYTES_MAX)?;
        let namespace = key.namespace.as_deref().map(HeaderValue::from_str).transpose();
        let namespace = namespace.map_err(|_| "the namespace cannot be a header".to_owned())?;
        let below = |action: &'static str| {
            let path: Vec<_> =
                std::iter::once("v1").chain(key.mount.split('/')).chain([action, name]).collect();
            url(&address.base, &path)
        };
        let request = link.client().get(below("keys")?);
        let described: Answer<Description> = link.call(as_client(request, namespace.as_ref()).build())?;
        let (version, public) = public_key(&described.data, key.version).map_err(|why| link.says(&why))?;
        let (sign, algorithm) = (below("sign")?, public.algorithm());
        Ok((Self { link, sign, namespace, version, algorithm }, public))
    }

    pub(super) fn sign(&self, input: &Input<'_>) -> Result<Vec<u8>, Fault> {
        let hash_algorithm = match self.algorithm {
            Algorithm::Es256 => Some("sha2-256"),
            Algorithm::Es384 => Some("sha2-384"),
            Algorithm::Es512 => Some("sha2-512"),
            Algorithm::EdDsa => None,
        };
        let (input, prehashed) = match input {
            Input::Digest(digest) => (STANDARD.encode(digest), true),
            Input::Message(message) => (STANDARD.encode(message), false),
        };
        let version = self.version;
        let wanted =
            Wanted { key_version: version, input, marshaling_algorithm: "jws", hash_algorithm, prehashed };
        let body = serde_json::to_vec(&wanted).expect("texts become JSON");
        let request = self.link.client().post(self.sign.clone()).header(CONTENT_TYPE, "application/json");
        let request = as_client(request.body(body), self.namespace.as_ref()).build();
        let signed: Answer<Signed> = self.link.call(request)?;
        let begin = format!("vault:v{version}:");
        let signature = signed.data.signature.strip_prefix(&begin);
        let signature = signature
            .ok_or_else(|| self.link.lasting(&format!("a signature that does not begin with `{begin}`")))?;
        let signature = URL_SAFE_NO_PAD.decode(signature);
        signature.map_err(|_| self.link.lasting("a signature that is not base64url"))
    }
}

/// Adds what both requests have.
fn as_client(request: RequestBuilder, namespace: Option<&HeaderValue>) -> RequestBuilder {
    // Agents can demand it, because a browser cannot be made to send it.
    let request = request.header("X-Vault-Request", "true");
    match namespace {
        Some(namespace) => request.header("X-Vault-Namespace", namespace),
        None => request,
    }
}

/// The wanted version of the key, or the newest, and its public half.
fn public_key(described: &Description, wanted: Option<u64>) -> Result<(u64, PublicKey), String> {
    let Description { kind, latest_version, keys } = described;
    let version = wanted.unwrap_or(*latest_version);
    let key = keys.get(&version).ok_or_else(|| {
        let there: Vec<_> = keys.keys().map(ToString::to_string).collect();
        format!("that the key has no version {version}, only {}", there.join(", "))
    })?;
    let text = key.get("public_key").and_then(Value::as_str).filter(|text| !text.is_empty());
    let unsupported = || {
        format!(
            "a key of the type {kind}: expected ecdsa-p256, ecdsa-p384, ecdsa-p521, or ed25519 that is not derived"
        )
    };
    let text = text.ok_or_else(unsupported)?;
    let public = match kind.as_str() {
        "ed25519" => {
            let bytes =
                STANDARD.decode(text).ok().filter(|bytes| bytes.len() == Algorithm::EdDsa.key_bytes());
            bytes.map(|bytes| PublicKey::new(Algorithm::EdDsa, bytes))
        }
        _ => pem::parse(text).ok().and_then(|block| PublicKey::from_der(block.contents()).ok()),
    };
    Ok((version, public.ok_or_else(unsupported)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const P_256: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7\nYfps5mliLmDyn7Z5A/4QCLi8maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==\n-----END PUBLIC KEY-----\n";

    fn read(kind: &str, keys: &Value, wanted: Option<u64>) -> Result<(u64, PublicKey), String> {
        let described = json!({ "type": kind, "latest_version": 2, "keys": keys, "other": true });
        public_key(&serde_json::from_value(described).unwrap(), wanted)
    }

    #[test]
    fn the_newest_version_signs_unless_one_is_named() {
        let keys = json!({ "1": { "public_key": P_256 }, "2": { "public_key": P_256 } });
        assert_eq!(read("ecdsa-p256", &keys, None).unwrap().0, 2);
        let (version, public) = read("ecdsa-p256", &keys, Some(1)).unwrap();
        assert_eq!((version, public.algorithm()), (1, Algorithm::Es256));
        assert_eq!(public.to_jwk(None).x, "YP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Y");
        let refused = read("ecdsa-p256", &keys, Some(3)).unwrap_err();
        assert_eq!(refused, "that the key has no version 3, only 1, 2");
    }

    #[test]
    fn keys_that_cannot_sign_tokens_are_refused_by_their_type() {
        let key = |text: &str| json!({ "2": { "public_key": text } });
        for (kind, keys) in [
            ("aes256-gcm96", json!({ "2": 1_800_000_000 })),
            ("ed25519", key("")),
            ("ed25519", key("AAAA")),
            ("rsa-2048", key("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")),
        ] {
            let refused = read(kind, &keys, None).unwrap_err();
            assert!(
                refused.starts_with(&format!("a key of the type {kind}: expected ecdsa-p256")),
                "{refused}"
            );
        }
    }
}
