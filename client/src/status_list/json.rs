//! Reads untrusted JSON: one object whose names are unique at every depth, as JOSE and JWT demand (RFC 7515 and RFC 7519,
//! section 4).
//!
//! A derived reader accepts an array in place of an object, and `null` in place of an absent member. If a name occurs
//! twice, one reader keeps the first and another the last: they see two different tokens. The specification allows none of
//! the three. [`object`] refuses arrays and repeated names, the readers below it refuse `null`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::InvalidClaims;

/// The members of the one object in `bytes`.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = UniqueNames.deserialize(&mut reader)?;
    reader.end()?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(Error::custom("it must be a JSON object")),
    }
}

/// The text of a member, if the member is present; `null` does not count as absent.
pub(crate) fn text(
    members: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<String>, InvalidClaims> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(InvalidClaims::wrong(name, format!("must be text, is {}", kind(&other)))),
    }
}

/// A whole number in any notation: JSON does not distinguish `2` from `2.0`.
pub(crate) fn whole(name: &'static str, value: &Value) -> Result<u64, InvalidClaims> {
    let from_float =
        || value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..=9e15).contains(number));
    let number = value.as_u64().or_else(|| from_float().map(|number| number as u64));
    number.ok_or_else(|| InvalidClaims::wrong(name, format!("must be a whole number, is {}", kind(value))))
}

/// The kind of a value, short enough for an error message.
pub(crate) fn kind(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(_) => "text".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// Reads any value and refuses an object that has a name twice.
struct UniqueNames;

impl<'de> DeserializeSeed<'de> for UniqueNames {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueNames {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(UniqueNames)? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(UniqueNames)?;
            if object.contains_key(&name) {
                return Err(Error::custom(format!("the name {name:?} comes twice in one object")));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_at_every_depth() {
        for text in
            [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#, r#"{"x":{"y":{"a":1,"b":2,"a":3}}}"#]
        {
            let error = object(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(r#""a" comes twice"#), "{error}");
        }
        let text = r#"{"a":{"a":[1,-2,2.5,true,null,"a"]},"b":[{"a":1},{"a":1}]}"#;
        let read = Value::Object(object(text.as_bytes()).unwrap());
        assert_eq!(read, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn only_an_object_is_accepted() {
        for text in ["[]", "null", "1", r#""a""#, "{} {}", "", "{", "\u{feff}{}"] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_numbers_may_have_a_decimal_point() {
        let read = |text: &str| whole("bits", &serde_json::from_str(text).unwrap()).ok();
        assert_eq!(["2", "2.0", "2e0", "0"].map(read), [Some(2), Some(2), Some(2), Some(0)]);
        assert_eq!(["2.5", "-1", "-2.0", "\"2\"", "null", "[2]", "true"].map(read), [None; 7]);
    }
}
