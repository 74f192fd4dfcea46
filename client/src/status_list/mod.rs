//! The Token Status List specification as pure functions and values.
//!
//! Responsible for everything that the specification defines: packing, compression, claims, the two token formats,
//! references and aggregation. Leaves signing and storing to the service, time to `base/clock.rs`.
//!
//! Invariant: imports nothing else of this crate, does no I/O, knows no clock. Section titles in comments are those of
//! draft-ietf-oauth-status-list-21.

mod aggregation;
mod array;
mod bits;
mod cbor;
mod claims;
pub mod cwt;
mod format;
mod index;
pub(crate) mod json;
pub mod jwt;
pub mod lst;
pub mod raw;
mod reference;
mod status;
mod uri;

pub use aggregation::{Aggregation, InvalidAggregation};
pub use array::{StatusArray, WrongLength};
pub use bits::{Bits, InvalidBits};
pub use claims::{Claims, InvalidClaims};
pub use format::{Format, Formats, InvalidFormat, Purpose};
pub use index::{Capacity, Index, IndexOutOfRange, InvalidCapacity, LIST_BYTES_MAX};
pub use reference::{InvalidReference, Reference};
pub use status::{Status, StatusRefused, StatusSet};
pub use uri::{BaseUri, InvalidBaseUri, InvalidListId, ListId};

/// The specification's own test data, shared by the tests of the modules below.
#[cfg(test)]
pub(crate) mod vectors {
    use serde_json::Value;

    pub(crate) fn all() -> Value {
        serde_json::from_str(include_str!("../../../tests/vectors/vectors.json"))
            .expect("vectors.json is JSON")
    }

    pub(crate) fn token(name: &str) -> Value {
        let all = all();
        let tokens = all["tokens"].as_array().expect("tokens is an array");
        tokens.iter().find(|t| t["name"] == name).unwrap_or_else(|| panic!("no token {name}")).clone()
    }

    pub(crate) fn p256_key(jwk: &Value) -> p256::ecdsa::VerifyingKey {
        use base64::Engine;
        let decode = |name: &str| {
            let text = jwk[name].as_str().expect("a coordinate is text");
            base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).expect("a coordinate is base64url")
        };
        let point = [&[4][..], &decode("x"), &decode("y")].concat();
        p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).expect("the key is on the curve")
    }

    pub(crate) fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }
}
