//! Every answer of the site that is not a file: status, code and message, in the format that all clients of the service
//! know, `{"code":…,"message":…}`.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;
use thiserror::Error;

use super::{ANY_ORIGIN, METHODS, NOSNIFF};

/// A missing list may exist in a moment, so this answer is kept only briefly. But it may be kept, so that caches in front answer
/// strangers who request it in a loop.
const MISSING_MAX_AGE: HeaderValue = HeaderValue::from_static("public, max-age=5");
/// A retired list stays retired. No longer than this, in case it was retired by mistake.
const GONE_MAX_AGE: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// Any other answer may change at once, and caches may keep even 405 and 501 unless told otherwise (RFC 9110,
/// "Overview of Status Codes").
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// The default beat of a pool, in seconds: a new token should exist by then.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("10");

/// Why a request is not answered with a file.
#[derive(Debug, Error)]
pub(super) enum Problem {
    #[error("No list with id {0}")]
    NoSuchList(Excerpt),
    #[error("No pool with id {0}")]
    NoSuchPool(Excerpt),
    #[error("Nothing is served under this path")]
    NoSuchPath,
    #[error("Method not allowed: use GET, HEAD or OPTIONS")]
    MethodNotAllowed,
    #[error("This list is available as {}", .0.join(" and as "))]
    NotAcceptable(Vec<&'static str>),
    #[error("This list is retired: all credentials that refer to it have expired")]
    Retired,
    #[error("Historical resolution is not offered: leave out the query parameter `time`")]
    NoHistory,
    #[error("`time` must be given once, as a whole number of seconds since 1970")]
    BadTime,
    #[error("There is no token of this list for that time")]
    NoSuchTime,
    #[error("The current token of this list has expired, and there is no new one yet")]
    StaleToken,
    #[error("This file cannot be served at the moment")]
    Unavailable,
}

/// The beginning of the client's input: an answer must not grow with the request.
#[derive(Debug)]
pub(super) struct Excerpt(String);

impl Excerpt {
    const CHARS_MAX: usize = 64;

    pub(super) fn of(text: &str) -> Self {
        Self(text.chars().take(Self::CHARS_MAX).collect())
    }
}

impl std::fmt::Display for Excerpt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Problem {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchList(_) => "NO_SUCH_LIST",
            Self::NoSuchPool(_) => "NO_SUCH_POOL",
            Self::NoSuchPath => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::NotAcceptable(_) => "NOT_ACCEPTABLE",
            Self::Retired => "GONE",
            Self::NoHistory => "NOT_IMPLEMENTED",
            Self::BadTime => "BAD_REQUEST",
            Self::NoSuchTime => "NO_SUCH_TIME",
            Self::StaleToken => "STALE_TOKEN",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NoSuchList(_) | Self::NoSuchPool(_) | Self::NoSuchPath | Self::NoSuchTime => {
                StatusCode::NOT_FOUND
            }
            Self::BadTime => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Retired => StatusCode::GONE,
            // "Historical Resolution": a server that does not support it SHOULD answer 501.
            Self::NoHistory => StatusCode::NOT_IMPLEMENTED,
            Self::StaleToken | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        response
            .insert_header((header::CONTENT_TYPE, "application/problem+json"))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, NOSNIFF))
            .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN))
            .insert_header((
                header::CACHE_CONTROL,
                match status {
                    StatusCode::NOT_FOUND => MISSING_MAX_AGE,
                    StatusCode::GONE => GONE_MAX_AGE,
                    _ => NO_STORE,
                },
            ));
        match self {
            Self::MethodNotAllowed => response.insert_header((header::ALLOW, METHODS)),
            Self::NotAcceptable(_) => {
                response.insert_header((header::VARY, HeaderValue::from_static("Accept")))
            }
            Self::StaleToken | Self::Unavailable => {
                response.insert_header((header::RETRY_AFTER, RETRY_AFTER))
            }
            _ => &mut response,
        };
        response.body(json!({ "code": self.code(), "message": self.to_string() }).to_string())
    }
}
