//! A key service that speaks the protocol of `docs/KEY_SERVICE.md`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::link::{Access, Fault, Link, url};
use super::{Address, Input};
use crate::sign::{Algorithm, Jwk, PublicKey};

/// The longest answer that is read; a P-521 key takes 400 bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// The members of a JWK that only its owner may know.
const PRIVATE_MEMBERS: [&str; 7] = ["d", "k", "p", "q", "dp", "dq", "qi"];

pub(super) struct External {
    pub(super) link: Arc<Link>,
    /// The URL that signs.
    sign: Url,
    algorithm: Algorithm,
}

/// `GET /v1/keys/{name}`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    algorithm: String,
    public_key: Value,
}

/// The body of `POST /v1/keys/{name}/sign`.
#[derive(Serialize)]
struct Wanted {
    algorithm: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// The answer to it.
#[derive(Deserialize)]
struct Signed {
    signature: String,
}

impl External {
    pub(super) fn open(
        address: &Address,
        name: &str,
        token: Option<SecretString>,
        timeout: Duration,
    ) -> Result<(Self, PublicKey), String> {
        let link = Link::new(address, Access::Bearer(token), timeout, ANSWER_BYTES_MAX)?;
        let request = link.client().get(url(&address.base, &["v1", "keys", name])?);
        let described: Description = link.call(request.build())?;
        let public = public_key(described).map_err(|why| link.says(&why))?;
        let sign = url(&address.base, &["v1", "keys", name, "sign"])?;
        Ok((Self { link, sign, algorithm: public.algorithm() }, public))
    }

    pub(super) fn sign(&self, input: &Input<'_>) -> Result<Vec<u8>, Fault> {
        let (digest, message) = match input {
            Input::Digest(digest) => (Some(URL_SAFE_NO_PAD.encode(digest)), None),
            Input::Message(message) => (None, Some(URL_SAFE_NO_PAD.encode(message))),
        };
        let wanted = Wanted { algorithm: self.algorithm.jose_name(), digest, message };
        let body = serde_json::to_vec(&wanted).expect("texts become JSON");
        let request = self.link.client().post(self.sign.clone());
        let request = request.header(CONTENT_TYPE, "application/json").body(body).build();
        let signed: Signed = self.link.call(request)?;
        let signature = URL_SAFE_NO_PAD.decode(&signed.signature);
        signature.map_err(|_| self.link.lasting("a signature that is not base64url"))
    }
}

fn public_key(described: Description) -> Result<PublicKey, String> {
    let Description { algorithm, public_key } = described;
    if PRIVATE_MEMBERS.iter().any(|member| public_key.get(member).is_some()) {
        return Err(
            "a private key instead of a public one: replace that key, for it was given away".to_owned()
        );
    }
    let jwk: Jwk = serde_json::from_value(public_key).map_err(|error| format!("no public JWK: {error}"))?;
    let public = PublicKey::from_jwk(&jwk).map_err(|error| format!("a key that cannot be used: {error}"))?;
    let of_key = public.algorithm().jose_name();
    match algorithm == of_key {
        true => Ok(public),
        false => Err(format!("the algorithm `{algorithm}` with a key of {of_key}")),
    }
}
