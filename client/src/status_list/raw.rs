//! A list without a token around it: `application/statuslist+json` and `+cbor` ("Status List in JSON Format", "Status List
//! in CBOR Format"). It is unsigned, so it is for clients that trust its source, and only sent to those that accept nothing
//! else.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value as Cbor;
use serde::Serialize;

use super::{Bits, Claims, InvalidBits, InvalidClaims, cbor, json};

/// The media type in JSON.
pub const JSON_MEDIA_TYPE: &str = "application/statuslist+json";
/// The media type in CBOR.
pub const CBOR_MEDIA_TYPE: &str = "application/statuslist+cbor";

/// A packed, compressed array and the width of its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawList {
    /// Bits of one entry.
    pub bits: Bits,
    /// The compressed array.
    pub lst: Arc<[u8]>,
    /// The `uri` of the aggregation of the pool's lists.
    pub aggregation_uri: Option<String>,
}

#[derive(Serialize)]
struct Json {
    bits: u64,
    lst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregation_uri: Option<String>,
}

impl RawList {
    /// The list that a token with these claims holds.
    pub fn of(claims: &Claims) -> Self {
        let Claims { bits, lst, aggregation_uri, .. } = claims;
        Self { bits: *bits, lst: Arc::clone(lst), aggregation_uri: aggregation_uri.clone() }
    }

    /// The list as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let json = Json {
            bits: self.bits.get().into(),
            lst: URL_SAFE_NO_PAD.encode(&self.lst),
            aggregation_uri: self.aggregation_uri.clone(),
        };
        serde_json::to_vec(&json).expect("a number and two texts are always JSON")
    }

    /// Reads a JSON document.
    pub fn from_json(document: &[u8]) -> Result<Self, InvalidClaims> {
        let mut members =
            json::object(document).map_err(|error| InvalidClaims::wrong("document", error.to_string()))?;
        let bits = json::whole("bits", members.get("bits").ok_or(InvalidClaims::Missing("bits"))?)?;
        let lst = json::text(&mut members, "lst")?.ok_or(InvalidClaims::Missing("lst"))?;
        let lst = URL_SAFE_NO_PAD.decode(lst);
        Ok(Self {
            bits: bits
                .try_into()
                .map_err(|error: InvalidBits| InvalidClaims::wrong("bits", error.to_string()))?,
            lst: lst.map_err(|error| InvalidClaims::wrong("lst", error.to_string()))?.into(),
            aggregation_uri: json::text(&mut members, "aggregation_uri")?,
        })
    }

    /// The list as CBOR, with `lst` as a byte string.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut map = vec![
            (Cbor::from("bits"), Cbor::from(self.bits.get())),
            (Cbor::from("lst"), Cbor::Bytes(self.lst.to_vec())),
        ];
        if let Some(uri) = &self.aggregation_uri {
            map.push((Cbor::from("aggregation_uri"), Cbor::from(uri.as_str())));
        }
        let mut bytes = Vec::with_capacity(self.lst.len() + 64);
        ciborium::into_writer(&Cbor::Map(map), &mut bytes).expect("writing to memory does not fail");
        bytes
    }

    /// Reads a CBOR document.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, InvalidClaims> {
        let value = cbor::read(bytes).map_err(|why| InvalidClaims::wrong("document", why))?;
        let map = value.into_map().map_err(|_| InvalidClaims::wrong("document", "must be a map"))?;
        let member = |name: &str| cbor::member(&map, &Cbor::from(name));
        let bits = member("bits").and_then(Cbor::as_integer).and_then(|bits| u64::try_from(bits).ok());
        let bits = bits.ok_or_else(|| InvalidClaims::wrong("bits", "must be a number"))?;
        let lst = member("lst").and_then(Cbor::as_bytes);
        let lst = lst.ok_or_else(|| InvalidClaims::wrong("lst", "must be a byte string"))?;
        Ok(Self {
            bits: bits
                .try_into()
                .map_err(|error: InvalidBits| InvalidClaims::wrong("bits", error.to_string()))?,
            lst: lst.as_slice().into(),
            aggregation_uri: member("aggregation_uri")
                .map(|uri| uri.as_text().map(str::to_owned))
                .map(|uri| uri.ok_or_else(|| InvalidClaims::wrong("aggregation_uri", "must be text")))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::vectors;

    #[test]
    fn both_forms_are_those_of_the_specification() {
        let mut compared = 0;
        for example in vectors::all()["encodings"].as_array().unwrap() {
            let text = |name: &str| example[name].as_str();
            let (Some(lst), Some(cbor)) = (text("lst"), text("status_list_cbor_hex")) else { continue };
            let list = RawList {
                bits: example["bits"].as_u64().unwrap().try_into().unwrap(),
                lst: URL_SAFE_NO_PAD.decode(lst).unwrap().into(),
                aggregation_uri: None,
            };
            let json: serde_json::Value = serde_json::from_slice(&list.to_json()).unwrap();
            assert_eq!(json, serde_json::json!({ "bits": example["bits"], "lst": lst }));
            assert_eq!(list.to_cbor(), vectors::hex(cbor));
            compared += 1;
        }
        assert!(compared >= 4, "{compared}");
    }

    #[test]
    fn reads_what_it_writes() {
        let list = RawList {
            bits: Bits::Two,
            lst: [1, 2, 3].into(),
            aggregation_uri: Some("https://status.example/lists/aggregation/p".to_owned()),
        };
        assert_eq!(RawList::from_json(&list.to_json()).unwrap(), list);
        assert_eq!(RawList::from_cbor(&list.to_cbor()).unwrap(), list);
        for broken in [
            &b"{"[..],
            b"[]",
            br#"[1,"",null]"#,
            br#"{"bits":3,"lst":""}"#,
            br#"{"bits":1}"#,
            br#"{"bits":1,"lst":"","lst":""}"#,
            br#"{"bits":1,"lst":"","aggregation_uri":null}"#,
        ] {
            RawList::from_json(broken).unwrap_err();
            RawList::from_cbor(broken).unwrap_err();
        }
    }
}
