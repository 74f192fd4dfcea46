//! The `status` claim that goes into a Referenced Token: which entry of which list ("Referenced Token").

use ciborium::Value as Cbor;
use coset::CborSerializable;
use serde_json::{Value, json};
use thiserror::Error;

use super::cbor;

/// Where to find the status of one Referenced Token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `uri` of the list, equal to its token's `sub`.
    pub uri: String,
    /// `idx` in the list.
    pub idx: u64,
}

/// A `status` claim without a usable `status_list`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the `status` claim must hold `status_list` with a number `idx` and a text `uri`")]
pub struct InvalidReference;

impl Reference {
    /// The value of the `status` claim of a JOSE-based credential, to be copied unchanged.
    pub fn to_json(&self) -> Value {
        json!({ "status_list": { "idx": self.idx, "uri": self.uri } })
    }

    /// The value of the `status` claim (65535 in a CWT) of a COSE-based credential, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        self.to_mso_cbor(None)
    }

    /// The value of `status` of an mdoc's mobile security object, encoded. `certificate` is that of the authority by which readers
    /// verify the list, in DER (ISO/IEC 18013-5, second edition). Without it they take the authority of the mdoc itself.
    pub fn to_mso_cbor(&self, certificate: Option<&[u8]>) -> Vec<u8> {
        let mut info = vec![("idx".into(), self.idx.into()), ("uri".into(), self.uri.as_str().into())];
        info.extend(certificate.map(|der| ("certificate".into(), Cbor::Bytes(der.to_vec()))));
        let status = Cbor::Map(vec![("status_list".into(), Cbor::Map(info))]);
        status.to_vec().expect("writing to memory does not fail")
    }

    /// Reads the value of a JOSE-based credential's `status` claim.
    pub fn from_json(status: &Value) -> Result<Self, InvalidReference> {
        let info = &status["status_list"];
        let uri = info["uri"].as_str().ok_or(InvalidReference)?;
        Ok(Self { uri: uri.to_owned(), idx: info["idx"].as_u64().ok_or(InvalidReference)? })
    }

    /// Reads the value of a COSE-based credential's `status` claim.
    pub fn from_cbor(status: &[u8]) -> Result<Self, InvalidReference> {
        let status = cbor::read(status).map_err(|_| InvalidReference)?;
        let info = member(&status, "status_list").ok_or(InvalidReference)?;
        let uri = member(info, "uri").and_then(Cbor::as_text).ok_or(InvalidReference)?;
        let idx = member(info, "idx").and_then(Cbor::as_integer).ok_or(InvalidReference)?;
        Ok(Self { uri: uri.to_owned(), idx: idx.try_into().map_err(|_| InvalidReference)? })
    }
}

fn member<'a>(map: &'a Cbor, name: &str) -> Option<&'a Cbor> {
    cbor::member(map.as_map()?, &Cbor::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::vectors;

    #[test]
    fn json_is_that_of_the_specifications_sd_jwt() {
        let vector = vectors::token("referenced-token-sd-jwt");
        let reference = Reference::from_json(&vector["payload"]["status"]).unwrap();
        assert_eq!(reference, Reference { uri: "https://example.com/statuslists/1".into(), idx: 0 });
        assert_eq!(reference.to_json(), vector["payload"]["status"]);
    }

    #[test]
    fn cbor_is_that_of_the_specifications_cwt() {
        let vector = vectors::token("referenced-token-cwt");
        let payload = Cbor::from_slice(&vectors::hex(vector["payload_hex"].as_str().unwrap())).unwrap();
        let (_, status) =
            payload.as_map().unwrap().iter().find(|(key, _)| *key == Cbor::from(65535)).unwrap();
        let theirs = status.clone().to_vec().unwrap();
        let reference = Reference::from_cbor(&theirs).unwrap();
        assert_eq!(reference, Reference { uri: "https://example.com/statuslists/1".into(), idx: 0 });
        assert_eq!(reference.to_cbor(), theirs);
    }

    #[test]
    fn that_of_an_mdoc_may_have_a_certificate() {
        let reference = Reference { uri: "https://example.com/statuslists/1".into(), idx: 412 };
        let status = reference.to_mso_cbor(Some(&[0x30, 0]));
        let read = Cbor::from_slice(&status).unwrap();
        let certificate = member(member(&read, "status_list").unwrap(), "certificate");
        assert_eq!(certificate.unwrap(), &Cbor::Bytes(vec![0x30, 0]));
        assert_eq!(Reference::from_cbor(&status), Ok(reference.clone()), "other members are ignored");
        assert_eq!(reference.to_mso_cbor(None), reference.to_cbor());
    }

    #[test]
    fn wrong_types_are_refused() {
        for status in [
            json!({}),
            json!({"status_list": {"idx": "0", "uri": "a"}}),
            json!({"status_list": {"idx": -1, "uri": "a"}}),
        ] {
            assert_eq!(Reference::from_json(&status), Err(InvalidReference), "{status}");
        }
        assert_eq!(Reference::from_cbor(&[0xFF]), Err(InvalidReference));
    }
}
