//! A key in the key management service of AWS.
//!
//! An alias is followed once: the key behind it signs until the settings are read again.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use x509_parser::asn1_rs::{Error as DerError, FromDer, Integer, Sequence};

use super::link::{Access, Fault, Link};
use super::sigv4::Sigv4;
use super::{Address, AwsKmsKey, Input};
use crate::sign::{Algorithm, PublicKey};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

pub(super) struct AwsKms {
    pub(super) link: Arc<Link>,
    endpoint: Url,
    /// The key's ARN, as the service gave it.
    key: String,
    algorithm: Algorithm,
    /// The algorithm's name there.
    signing: &'static str,
}

/// `GetPublicKey`
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    key_id: String,
    public_key: String,
    #[serde(default)]
    signing_algorithms: Vec<String>,
}

/// `Sign`
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Signed {
    signature: String,
}

impl AwsKms {
    pub(super) fn open(name: &str, key: &AwsKmsKey, timeout: Duration) -> Result<(Self, PublicKey), String> {
        let sigv4 = Sigv4::new("kms", key.region.as_deref(), key.credentials.as_ref())?;
        let endpoint = match &key.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => of_region(&sigv4.region)?,
        };
        let address = Address { base: endpoint.clone(), socket: None };
        let link = Link::new(&address, Access::Aws(sigv4), timeout, ANSWER_BYTES_MAX)?;
        let described: Description = call(&link, &endpoint, "GetPublicKey", &json!({ "KeyId": name }))?;
        let (signing, public) = public_key(&described).map_err(|why| link.says(&why))?;
        let algorithm = public.algorithm();
        Ok((Self { link, endpoint, key: described.key_id, algorithm, signing }, public))
    }

    pub(super) fn sign(&self, input: &Input<'_>) -> Result<Vec<u8>, Fault> {
        let Input::Digest(digest) = input else { unreachable!("no key was accepted that signs messages") };
        let wanted = json!({
            "KeyId": self.key,
            "Message": STANDARD.encode(digest),
            "MessageType": "DIGEST",
            "SigningAlgorithm": self.signing,
        });
        let signed: Signed = call(&self.link, &self.endpoint, "Sign", &wanted)?;
        let der = STANDARD.decode(&signed.signature).ok();
        let raw = der.and_then(|der| side_by_side(&der, self.algorithm.coordinate_bytes()));
        raw.ok_or_else(|| self.link.lasting("a signature that is not two numbers in DER"))
    }
}

fn call<T: DeserializeOwned>(
    link: &Arc<Link>,
    endpoint: &Url,
    action: &str,
    body: &Value,
) -> Result<T, Fault> {
    let request = link.client().post(endpoint.clone()).body(body.to_string());
    let request = request.header(CONTENT_TYPE, "application/x-amz-json-1.1");
    link.call(request.header("X-Amz-Target", format!("TrentService.{action}")).build())
}

/// The public endpoint of a region.
fn of_region(region: &str) -> Result<Url, String> {
    let end = if region.starts_with("cn-") { ".cn" } else { "" };
    let url = format!("https://kms.{region}.amazonaws.com{end}");
    url.parse().map_err(|error| format!("{region} cannot be a region of AWS: {error}"))
}

fn public_key(described: &Description) -> Result<(&'static str, PublicKey), String> {
    let Description { public_key, signing_algorithms, .. } = described;
    let der = STANDARD.decode(public_key).ok();
    let public = der.and_then(|der| PublicKey::from_der(&der).ok());
    let signing = public.as_ref().and_then(|public| match public.algorithm() {
        Algorithm::Es256 => Some("ECDSA_SHA_256"),
        Algorithm::Es384 => Some("ECDSA_SHA_384"),
        Algorithm::Es512 => Some("ECDSA_SHA_512"),
        // It would sign 4096 bytes at most, which few tokens are below.
        Algorithm::EdDsa => None,
    });
    let signing = signing.filter(|signing| signing_algorithms.iter().any(|given| given == signing));
    signing.zip(public).ok_or_else(|| {
        format!(
            "a key that signs with [{}]: expected ECC_NIST_P256, ECC_NIST_P384 or ECC_NIST_P521 for SIGN_VERIFY",
            signing_algorithms.join(", ")
        )
    })
}

/// r and s, each as long as a coordinate, from their DER.
fn side_by_side(der: &[u8], coordinate_bytes: usize) -> Option<Vec<u8>> {
    let (rest, [r, s]) = Sequence::from_der_and_then(der, |content| {
        let (rest, r) = Integer::from_der(content)?;
        let (_, s) = Integer::from_der(rest)?;
        Ok::<_, x509_parser::nom::Err<DerError>>((&[][..], [number(&r), number(&s)]))
    })
    .ok()?;
    let padded = |number: Vec<u8>| {
        let missing = coordinate_bytes.checked_sub(number.len())?;
        Some([vec![0; missing], number].concat())
    };
    if rest.is_empty() { Some([padded(r)?, padded(s)?].concat()) } else { None }
}

/// The bytes of a positive number, without the zero in front that keeps it positive.
fn number(integer: &Integer<'_>) -> Vec<u8> {
    let bytes: &[u8] = integer.as_ref();
    bytes.iter().skip_while(|byte| **byte == 0).copied().collect()
}
