//! Reads untrusted CBOR: one whole data item whose maps have each key once (RFC 8949, section 5.6, and RFC 9052, section
//! 3).

use std::collections::BTreeSet;

use ciborium::Value;
use ciborium_ll::{Decoder, Header};
use coset::CborSerializable;

/// The data item in `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let value = Value::from_slice(bytes).map_err(|error| error.to_string())?;
    if has_nested_chunks(bytes) {
        return Err("a piece of a string of indefinite length is one itself".to_owned());
    }
    match key_twice(&value) {
        Some(key) => Err(format!("the key {key:?} comes twice in one map")),
        None => Ok(value),
    }
}

/// The value of this key of a map.
pub(super) fn member<'a>(map: &'a [(Value, Value)], key: &Value) -> Option<&'a Value> {
    map.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn key_twice(value: &Value) -> Option<&Value> {
    match value {
        Value::Array(items) => items.iter().find_map(key_twice),
        Value::Tag(_, item) => key_twice(item),
        Value::Map(members) => {
            let mut seen = BTreeSet::new();
            let twice = members.iter().map(|(key, _)| key).find(|key| !seen.insert(shortest(key)));
            twice.or_else(|| {
                members.iter().find_map(|(key, value)| key_twice(key).or_else(|| key_twice(value)))
            })
        }
        _ => None,
    }
}

/// Whether a piece of a string of indefinite length has an indefinite length itself (RFC 8949, section 3.2.3, forbids it), in a data
/// item that ciborium reads.
fn has_nested_chunks(mut bytes: &[u8]) -> bool {
    let mut within = false;
    while !bytes.is_empty() {
        let mut decoder = Decoder::from(bytes);
        let Ok(header) = decoder.pull() else { return false };
        bytes = &bytes[decoder.offset()..];
        match header {
            Header::Bytes(None) | Header::Text(None) if within => return true,
            Header::Bytes(None) | Header::Text(None) => within = true,
            Header::Bytes(Some(length)) | Header::Text(Some(length)) => {
                bytes = bytes.get(length..).unwrap_or_default();
            }
            // Within a string nothing else ends.
            Header::Break => within = false,
            _ => {}
        }
    }
    false
}

/// The one encoding that all equal values share.
fn shortest(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("writing to memory does not fail");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::vectors::hex;

    #[test]
    fn keys_are_unique_at_every_depth() {
        // Also if the two are encoded differently: 1 in one byte and in two, "a" whole and in pieces.
        for twice in [
            "a201000100",
            "a20100180100",
            "a26161007f6161ff01",
            "a2410100410101",
            "a301000200 0100",
            "81a201000100",
            "c1a201000100",
            "a100a2616100616101",
            "a1a20100010000",
        ] {
            let read = read(&hex(&twice.replace(' ', "")));
            assert!(read.is_err(), "{twice}: {read:?}");
        }
        for once in ["a0", "a201004101 00", "a201002000", "a20100fb3ff000000000000001", "82a10100a10100"] {
            assert!(read(&hex(&once.replace(' ', ""))).is_ok(), "{once}");
        }
    }

    #[test]
    fn pieces_of_strings_are_whole() {
        for nested in ["5f5f4101ffff", "7f7f6161ffff", "81 5f41015f4102ff41 03ff", "a1015f5fffff"] {
            let read = read(&hex(&nested.replace(' ', "")));
            assert!(read.is_err(), "{nested}: {read:?}");
        }
        // In one string after another, and in an array of indefinite length.
        for whole in ["5f41014102ff", "825f4101ff5f4102ff", "9f7f6161ff5fffff", "425f5f"] {
            assert!(read(&hex(whole)).is_ok(), "{whole}");
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert!(read(&hex("0000")).is_err());
        assert!(read(&hex("")).is_err());
    }
}
