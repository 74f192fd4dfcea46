//! Status List Aggregation: the list of a pool's lists ("Status List Aggregation in JSON Format").

use serde_json::Value;
use thiserror::Error;

use super::json;

/// The `uri`s of all live lists of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregation {
    /// Each equal to the `sub` of a token that can be fetched there.
    pub status_lists: Vec<String>,
}

/// A document that is not an aggregation.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an aggregation is a JSON object whose `status_lists` is an array of strings")]
pub struct InvalidAggregation;

impl Aggregation {
    /// The media type of an aggregation.
    pub const MEDIA_TYPE: &str = "application/json";

    /// The document as it is served.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::json!({ "status_lists": self.status_lists }).to_string().into_bytes()
    }

    /// Reads a document.
    pub fn from_json(document: &[u8]) -> Result<Self, InvalidAggregation> {
        let document = json::object(document).map_err(|_| InvalidAggregation)?;
        let lists = document.get("status_lists").and_then(Value::as_array).ok_or(InvalidAggregation)?;
        let uris = lists.iter().map(|uri| uri.as_str().map(str::to_owned).ok_or(InvalidAggregation));
        Ok(Self { status_lists: uris.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::vectors;

    #[test]
    fn reads_and_writes_the_specifications_example() {
        let example = vectors::all()["aggregation_example"].clone();
        let aggregation = Aggregation::from_json(example.to_string().as_bytes()).unwrap();
        assert_eq!(aggregation.status_lists.len(), 3);
        assert_eq!(serde_json::from_slice::<Value>(&aggregation.to_json()).unwrap(), example);
        assert_eq!(Aggregation::from_json(b"[]"), Err(InvalidAggregation));
        assert_eq!(Aggregation::from_json(br#"{"status_lists":[1]}"#), Err(InvalidAggregation));
    }
}
