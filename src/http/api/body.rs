//! Reads JSON bodies: bounded and typed, with errors that say what to change.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use actix_web::{HttpMessage, HttpRequest, web};
use futures_core::Stream;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use tokio::time::Instant;

use super::Api;
use super::bodies::{Share, Spent};
use super::problem::Problem;
use crate::base::blocking::blocking;
use crate::config::Limits;

/// How long a body may arrive more slowly than the settings allow.
const SLOW_FOR: Duration = Duration::from_secs(2);
/// From so many bytes on, a body is parsed on a thread of its own: this one also answers other callers.
const LARGE_BYTES: usize = 65_536;

/// A body, which names its members: where unknown ones are ignored, these are kept.
pub(super) trait Body {
    /// Each member, with those of its entries.
    const NAMES: &'static [(&'static str, &'static [&'static str])];
}

/// Reads the body as `T`. A body whose announced length exceeds the limit is not read at all.
pub(super) async fn read<T: DeserializeOwned + Body + Send + 'static>(
    request: &HttpRequest,
    payload: web::Payload,
    api: &Api,
) -> Result<T, Problem> {
    let header = |name: HeaderName| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let essence = header(CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::unsupported_media_type(essence));
    }
    // The server refuses a length that is not a number.
    let announced = header(CONTENT_LENGTH).parse().unwrap_or(0);
    if announced > api.limits.body_bytes_max {
        return Err(Problem::payload_too_large(api.limits.body_bytes_max));
    }
    let mut share = api.bodies.share();
    let receiving = receive(payload.into_inner(), announced, &mut share, &api.limits);
    let body = api.within(receiving).await.ok_or_else(Problem::slow_body)??;
    let lenient = api.lenient;
    let parse = move |body: &[u8]| if lenient { parse_leniently(body) } else { parse(body) };
    let value = match body.len() < LARGE_BYTES {
        true => parse(&body),
        false => blocking(move || parse(&body)).await.map_err(|_| Problem::unavailable())?,
    };
    if !share.is_empty() {
        // What was read from it takes memory until the request is answered.
        request.extensions_mut().insert(share);
    }
    value
}

/// Reads the whole body into memory, of which `share` gets its part.
async fn receive(
    mut payload: Payload,
    announced: usize,
    share: &mut Share,
    limits: &Limits,
) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    let (mut counted_from, mut until) = (0, Instant::now() + SLOW_FOR);
    loop {
        let next = poll_fn(|cx| Pin::new(&mut payload).poll_next(cx));
        let next = tokio::time::timeout_at(until, next).await;
        let Ok(next) = next else {
            let arrived = (body.len() - counted_from) as u64;
            if arrived < limits.body_bytes_per_second_min * SLOW_FOR.as_secs() {
                return Err(Problem::slow_body());
            }
            (counted_from, until) = (body.len(), Instant::now() + SLOW_FOR);
            continue;
        };
        let Some(bytes) = next else { return Ok(body) };
        let bytes = bytes.map_err(|_| Problem::bad_request("The body could not be read completely"))?;
        let needed = body.len() + bytes.len();
        if needed > limits.body_bytes_max {
            return Err(Problem::payload_too_large(limits.body_bytes_max));
        }
        if needed > body.capacity() {
            // At most twice what has arrived: a length is easily announced.
            let most = if announced > 0 { announced } else { limits.body_bytes_max };
            let capacity = needed.max(most.min(2 * body.capacity()));
            share.grow_to(capacity).map_err(|Spent| Problem::too_many_bodies())?;
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(&bytes);
    }
}

/// Parses these bytes as `T`.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map(|Object(value)| value).map_err(|error| {
        // Only now, because it takes time: names the entry of a batch.
        let mut again = serde_json::Deserializer::from_slice(body);
        let place = serde_path_to_error::deserialize::<_, Object<T>>(&mut again).err();
        let place = place.map(|error| error.path().to_string()).filter(|path| path.contains('['));
        let place = place.map_or(String::new(), |path| format!("{path}: "));
        Problem::bad_request(format!("The body does not match the API: {place}{error}"))
    })
}

/// As [`parse`], without the members that `T` does not have.
fn parse_leniently<T: DeserializeOwned + Body>(body: &[u8]) -> Result<T, Problem> {
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(body) else { return parse(body) };
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| T::NAMES.iter().any(|(known, _)| known == name));
        for (name, known) in T::NAMES {
            for entry in members.get_mut(*name).and_then(|member| member.as_array_mut()).into_iter().flatten()
            {
                entry
                    .as_object_mut()
                    .into_iter()
                    .for_each(|entry| entry.retain(|name, _| known.contains(&name.as_str())));
            }
        }
    }
    parse(value.to_string().as_bytes())
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
