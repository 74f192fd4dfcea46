//! Reads JSON bodies: bounded and typed, with errors that say what to change.

use std::fmt;
use std::marker::PhantomData;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, web};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use super::Api;
use super::problem::Problem;
use crate::base::blocking::blocking;
use crate::http::connection::Connection;

/// From so many bytes on, a body is parsed on a thread of its own: this one also answers other callers.
const LARGE_BYTES: usize = 65_536;

/// Reads the body as `T`. A body whose announced length exceeds the limit is not read at all.
pub(super) async fn read<T: DeserializeOwned + Send + 'static>(
    request: &HttpRequest,
    payload: web::Payload,
    api: &Api,
) -> Result<T, Problem> {
    let mut payload = payload.into_inner();
    let content_type =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::unsupported_media_type());
    }
    let slow = || {
        request.conn_data::<Connection>().inspect(|connection| connection.end());
        Problem::slow_body()
    };
    let too_large = || Problem::payload_too_large(api.limits.body_bytes_max);
    let body = api.within(web::Bytes::from_request(request, &mut payload)).await.ok_or_else(slow)?;
    let body = body.map_err(|error| match error.as_response_error().status_code() {
        actix_web::http::StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Problem::bad_request("The body could not be read completely"),
    })?;
    if body.len() < LARGE_BYTES {
        return parse(&body);
    }
    blocking(move || parse(&body)).await.map_err(|_| Problem::unavailable())?
}

/// Parses these bytes as `T`.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map(|Object(value)| value)
        .map_err(|error| Problem::bad_request(format!("The body does not match the API: {error}")))
}

/// A value that is written as a JSON object. A derived `Deserialize` also accepts an array of the members in their order, which
/// no description of the API allows.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData))
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// Reads an array of objects. For optional members.
pub(super) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let objects = Option::<Vec<Object<T>>>::deserialize(deserializer)?;
    Ok(objects.map(|objects| objects.into_iter().map(|Object(value)| value).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq, Eq)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        uri: String,
        index: u64,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Entries {
        #[serde(default, deserialize_with = "objects")]
        entries: Option<Vec<Entry>>,
    }

    #[test]
    fn an_array_is_no_object() {
        let entry = |uri: &str| Entry { uri: uri.to_owned(), index: 1 };
        assert_eq!(parse::<Entry>(br#"{"uri":"a","index":1}"#).unwrap(), entry("a"));
        for array in [&br#"["a",1]"#[..], b"[]", b"null", br#"[{"uri":"a","index":1}]"#] {
            assert!(parse::<Entry>(array).is_err(), "{array:?}");
        }
        let read = |body: &str| parse::<Entries>(body.as_bytes()).map(|entries| entries.entries);
        let body = r#"{"entries":[{"uri":"a","index":1},{"uri":"b","index":1}]}"#;
        assert_eq!(read(body).unwrap(), Some(vec![entry("a"), entry("b")]));
        assert_eq!(read("{}").unwrap(), None);
        for array in [
            r#"{"entries":[["a",1]]}"#,
            r#"{"entries":[{"uri":"a","index":1},["a",1]]}"#,
            r#"[[{"uri":"a","index":1}]]"#,
        ] {
            assert!(read(array).is_err(), "{array}");
        }
    }
}
