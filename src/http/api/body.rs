//! Reading a JSON body: bounded, typed, and with errors that say what to change.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, dev, web};
use serde::de::DeserializeOwned;

use super::Api;
use super::problem::Problem;
use crate::http::connection::Connection;

/// The body as `T`. Nothing is read of a body that announces more than the limit.
pub(super) async fn json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    api: &Api,
) -> Result<T, Problem> {
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
    let body = api.within(web::Bytes::from_request(request, payload)).await.ok_or_else(slow)?;
    let body = body.map_err(|error| match error.as_response_error().status_code() {
        actix_web::http::StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Problem::bad_request("The body could not be read to its end"),
    })?;
    parse(&body)
}

/// These bytes as `T`.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("The body is not what is expected: {error}")))
}
