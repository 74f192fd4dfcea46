//! Turns errors into answers: a code of `code.rs` with a message for this request. Nothing else does.
//!
//! The body is exactly `{"code": …, "message": …}`, which existing clients compare. A 4xx says what to change; a 5xx says only
//! whether to retry, and its cause goes to the log.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use super::code::Code;
use crate::access::UsedUp;
use crate::allocate::NotAllocated;
use crate::model::api_key::Scope;
use crate::model::pool::PoolId;
use crate::status_list::{BaseUri, ListId};
use crate::store::{Refusal, StoreError};
use crate::update::UpdateError;

/// The media type of an error.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";
/// No cache keeps an answer of the API.
const NO_STORE: (HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
/// No browser takes it for a page.
const NO_SNIFF: (HeaderName, HeaderValue) = (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// Sets the headers of every answer of the API.
pub(super) fn sensitive(headers: &mut HeaderMap) {
    for (name, value) in [NO_STORE, NO_SNIFF] {
        headers.insert(name, value);
    }
}

/// An error answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    code: Code,
    message: String,
    retry_after_secs: Option<u32>,
    /// An additional header for the client: `Allow`, or `WWW-Authenticate` (RFC 6750).
    header: Option<(HeaderName, String)>,
}

impl Problem {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_secs: None, header: None }
    }

    fn retry(self, after_secs: u32) -> Self {
        Self { retry_after_secs: Some(after_secs), ..self }
    }

    fn challenge(self, challenge: String) -> Self {
        Self { header: Some((WWW_AUTHENTICATE, challenge)), ..self }
    }

    /// The `code` of the answer.
    pub(super) fn code(&self) -> &'static str {
        self.code.name()
    }

    /// Whether the service is at fault, so that the outcome of the request may be unknown.
    pub(super) fn is_of_the_server(&self) -> bool {
        self.code.status().is_server_error()
    }

    /// The same problem, with what to do about it.
    pub(super) fn and(mut self, advice: impl fmt::Display) -> Self {
        self.message = format!("{}; {advice}", self.message);
        self
    }

    pub(super) fn missing_key() -> Self {
        Self::new(Code::Unauthorized, "Missing api key").and("send it in the header X-Api-Key")
    }

    /// The answer to a bearer token where none is accepted.
    pub(super) fn no_tokens() -> Self {
        let advice =
            "this service takes no bearer tokens: send an API key of the pool in the header X-Api-Key";
        Self::new(Code::Unauthorized, "Missing api key").and(advice)
    }

    /// The same for a key that exists and for one that does not.
    pub(super) fn invalid_key() -> Self {
        let advice = "it is unknown, has ended, or is for another pool";
        Self::new(Code::Unauthorized, "Invalid api key").and(advice)
    }

    pub(super) fn hash_as_key() -> Self {
        let advice = "this is the hash in the settings: send the key that it was made of";
        Self::new(Code::Unauthorized, "Invalid api key").and(advice)
    }

    pub(super) fn invalid_token() -> Self {
        let problem = Self::new(Code::Unauthorized, "Invalid bearer token");
        problem.challenge("Bearer error=\"invalid_token\"".to_owned())
    }

    pub(super) fn key_as_token() -> Self {
        Self::invalid_token().and("it is no JWT: send an API key in the header X-Api-Key")
    }

    pub(super) fn no_client_certificate() -> Self {
        let message = "A verified client certificate is required; connect with yours";
        Self::new(Code::Unauthorized, message)
    }

    pub(super) fn key_lacks_scope(pool: &PoolId, scope: Scope) -> Self {
        let message = format!("This api key lacks the scope `{}` in pool {pool}", scope.name());
        Self::new(Code::Forbidden, message)
    }

    pub(super) fn token_lacks_scope(pool: &PoolId, scope: Scope) -> Self {
        let needed = format!("{pool}:{}", scope.name());
        let message = format!("This token lacks the scope `{needed}`");
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{needed}\"");
        Self::new(Code::Forbidden, message).challenge(challenge)
    }

    pub(super) fn too_many_requests(retry_after: Duration) -> Self {
        let message = "Too many requests; retry after the seconds in Retry-After";
        Self::new(Code::RateLimitReached, message).retry(whole_secs(retry_after))
    }

    pub(super) fn token_keys_unknown() -> Self {
        let message = "The authorization server's keys are not available, so bearer tokens cannot be verified; retry shortly";
        Self::new(Code::Unavailable, message).retry(5)
    }

    pub(super) fn no_such_pool(pool: &str) -> Self {
        Self::new(Code::NoSuchPool, format!("No pool with id {}", shortened(pool)))
    }

    pub(super) fn pool_closed(pool: &PoolId) -> Self {
        Self::new(
            Code::PoolClosed,
            format!("Pool {pool} hands out no more references: an operator closed it"),
        )
    }

    pub(super) fn no_such_list(list: &str) -> Self {
        Self::new(Code::NoSuchList, format!("No list with id {}", shortened(list)))
    }

    pub(super) fn no_list_to_update(list: &ListId) -> Self {
        let problem = Self::new(Code::NoListToUpdate, format!("No list with id {list}"));
        problem.and("the address is right, but the list is not in the store: send the `uri` of a reference as it was handed out")
    }

    pub(super) fn list_retired(list: &ListId) -> Self {
        let message = format!("The list {list} is retired: it is no longer published");
        Self::new(Code::ListRetired, message)
    }

    pub(super) fn list_in_use(list: &ListId, why: &str) -> Self {
        let message = format!("The list {list} cannot be retired: {why}; `force=true` retires it anyway");
        Self::new(Code::ListInUse, message)
    }

    pub(super) fn invalid_list_uri(uri: &str, bases: &[BaseUri]) -> Self {
        let problem = Self::new(Code::NoListToUpdate, format!("listUri {} invalid", shortened(uri)));
        let lists: Vec<_> = bases.iter().map(|base| format!("{base}/<list id>")).collect();
        let lists = lists.join(" or ");
        problem
            .and(format_args!("the lists of this service are {lists}: send the `uri` as it was handed out"))
    }

    pub(super) fn index_out_of_bounds(uri: &str, index: impl fmt::Display, entries: Option<u32>) -> Self {
        let message = format!("Index out of bounds (uri={uri}, index={index})");
        let problem = Self::new(Code::IndexOutOfBounds, message);
        match entries {
            Some(entries) => {
                problem.and(format_args!("the list has the indices 0 to {}", entries.saturating_sub(1)))
            }
            None => problem.and("an index is a number from 0"),
        }
    }

    pub(super) fn amount_out_of_range(amount: impl fmt::Display, most: u32) -> Self {
        Self::new(
            Code::ValueOutOfRange,
            format!("amount must be 1 to {most}, got {amount}; split the request"),
        )
    }

    pub(super) fn unknown_parameter(name: &str, known: &[&str]) -> Self {
        let alike = |known: &str| strsim::normalized_damerau_levenshtein(known, name) > 0.6;
        let meant = match known.iter().find(|known| alike(known)) {
            Some(known) => format!("; did you mean `{known}`?"),
            None => ".".to_owned(),
        };
        let takes = match known {
            [] => "no parameters".to_owned(),
            known => format!("only `{}`", known.join("`, `")),
        };
        let name = shortened(name);
        Self::bad_request(format!("The query parameter `{name}` is unknown{meant} This path takes {takes}"))
    }

    pub(super) fn wrong_parameter(name: &str, given: &str, expected: &str) -> Self {
        Self::bad_request(format!(
            "The query parameter `{name}` must be {expected}, got `{}`",
            shortened(given)
        ))
    }

    pub(super) fn value_out_of_range(uri: &str, value: impl fmt::Display, why: &dyn fmt::Display) -> Self {
        let message = format!("Value out of range (uri={uri}, value={value}): {why}");
        Self::new(Code::ValueOutOfRange, message)
    }

    pub(super) fn not_allocated(uri: &str, index: u32) -> Self {
        let message = format!("Index not allocated (uri={uri}, index={index}): it was never handed out");
        Self::new(Code::IndexNotAllocated, message)
    }

    /// `why` may quote the client's input, which may be as long as a body.
    pub(super) fn bad_request(why: impl AsRef<str>) -> Self {
        Self::new(Code::BadRequest, shortened(why.as_ref()))
    }

    pub(super) fn contradiction(uri: &str, index: u64) -> Self {
        let message = format!(
            "Two values for one entry (uri={}, index={index}); leave one of them out",
            shortened(uri)
        );
        Self::bad_request(message)
    }

    pub(super) fn idempotency_key_reused() -> Self {
        let message = "This Idempotency-Key was used for another request; give each request a key of its own";
        Self::new(Code::KeyReused, message)
    }

    pub(super) fn too_many_answers(pool: &PoolId, bytes_max: u64, retry_after: Duration) -> Self {
        let message = format!(
            "The answers kept under Idempotency-Keys in pool {pool} take all of their {bytes_max} bytes (limits.idempotency-bytes); \
             request more references at a time, leave the header out, or retry after the seconds in Retry-After"
        );
        let secs = u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        Self::new(Code::TooManyAnswers, message).retry(secs)
    }

    pub(super) fn unsupported_media_type(given: &str) -> Self {
        let given =
            if given.is_empty() { "no Content-Type".to_owned() } else { format!("`{}`", shortened(given)) };
        Self::new(Code::UnsupportedMediaType, format!("The body must be application/json, got {given}"))
    }

    pub(super) fn payload_too_large(bytes_max: usize) -> Self {
        let message = format!("The body has more than {bytes_max} bytes; split the request");
        Self::new(Code::PayloadTooLarge, message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(Code::NotFound, "This path does not exist; /docs names all")
    }

    pub(super) fn method_not_allowed(allowed: &str) -> Self {
        let message = format!("This path supports only {allowed}");
        Self { header: Some((ALLOW, allowed.to_owned())), ..Self::new(Code::MethodNotAllowed, message) }
    }

    /// The answer to a request for references of `pool` that gets none.
    pub(super) fn not_allocated_because(why: &NotAllocated, pool: &PoolId) -> Self {
        match why {
            NotAllocated::Underflow => Self::underflow(),
            NotAllocated::TooManyLists { lists } => {
                let message = format!(
                    "Pool {pool} has {lists} lists, as many as status-list-pools.{pool}.quotas.lists allows, and too few references \
                     are left in them; the operator must raise it, or retire lists whose credentials have expired"
                );
                Self::new(Code::ListQuotaReached, message)
            }
        }
    }

    pub(super) fn used_up_today(used_up: &UsedUp, pool: &PoolId) -> Self {
        let UsedUp { setting, most, left, retry_after } = used_up;
        let message = format!(
            "{left} of the {most} references of today are left (status-list-pools.{pool}.{setting}); none was handed out, \
             request no more than that, or retry after the seconds in Retry-After"
        );
        Self::new(Code::DailyQuotaReached, message).retry(whole_secs(*retry_after))
    }

    fn underflow() -> Self {
        let message = "No references are ready; try again shortly";
        Self::new(Code::RateLimitReached, message).retry(1)
    }

    pub(super) fn busy() -> Self {
        let message = "Too many updates are waiting; nothing was changed, try again shortly";
        Self::new(Code::Unavailable, message).retry(1)
    }

    pub(super) fn unavailable() -> Self {
        let message = "The store is not available; whether a change was made is unknown, repeat the request";
        Self::new(Code::Unavailable, message).retry(2)
    }

    pub(super) fn late() -> Self {
        let message = "The request took too long; nothing was changed, repeat the request";
        Self::new(Code::Unavailable, message).retry(1)
    }

    pub(crate) fn slept() -> Self {
        let message =
            "The service was stopped after this request was sent; nothing was changed, repeat the request";
        Self::new(Code::Unavailable, message).retry(1)
    }

    pub(crate) fn too_many_connections() -> Self {
        let message =
            "This address has too many connections; nothing was changed, close some and repeat the request";
        Self::new(Code::Unavailable, message).retry(1)
    }

    pub(super) fn store_damaged() -> Self {
        let message = "The store is damaged; do not repeat the request, an operator has to act";
        Self::new(Code::StoreDamaged, message)
    }

    pub(super) fn unaudited(what_happened: &str) -> Self {
        let message = format!("The audit trail cannot be written; {what_happened}");
        Self::new(Code::Unavailable, message).retry(2)
    }

    pub(super) fn too_many_bodies() -> Self {
        let message = "The bodies of other requests take the memory set aside for them; nothing was changed, try again shortly";
        Self::new(Code::Unavailable, message).retry(1)
    }

    pub(super) fn slow_body() -> Self {
        let message = "The body did not arrive in time; nothing was changed";
        Self::new(Code::RequestTimeout, message)
    }

    pub(super) fn no_references_in_time() -> Self {
        let message =
            "Too few references became ready in time; none was handed out, retry shortly or request fewer";
        Self::new(Code::Unavailable, message).retry(1)
    }

    pub(super) fn timed_out() -> Self {
        let message = "The request took too long; whether a change was made is unknown, repeat the request";
        Self::new(Code::Unavailable, message).retry(1)
    }

    /// The answer to a failed update. Names the list by its URI, as the client did.
    pub(super) fn from_update(error: UpdateError, base: &BaseUri) -> Self {
        match error {
            UpdateError::Refused(refusal) => Self::from_refusal(refusal, base),
            UpdateError::Busy => Self::busy(),
            UpdateError::Late => Self::late(),
            UpdateError::Damaged(_) => Self::store_damaged(),
            UpdateError::Unavailable(_) => Self::unavailable(),
        }
    }

    fn from_refusal(refusal: Refusal, base: &BaseUri) -> Self {
        match refusal {
            Refusal::NoSuchList { list } => Self::no_list_to_update(&list),
            Refusal::Retired { list } => Self::list_retired(&list),
            Refusal::FinalStatus { list, index, status } => {
                let (uri, idx) = (base.join(&list), index.get());
                let message =
                    format!("The status is final (uri={uri}, index={idx}, status={})", status.value());
                Self::new(Code::Forbidden, message)
            }
            Refusal::NotAsExpected { list, index, expected, stored } => {
                let (uri, idx) = (base.join(&list), index.get());
                let (expected, stored) = (expected.value(), stored.value());
                let message = format!(
                    "The status is not the expected one (uri={uri}, index={idx}, expected={expected}, stored={stored})"
                );
                Self::new(Code::PreconditionFailed, message)
            }
        }
    }

    /// The answer when the store failed during a request about `pool`.
    pub(super) fn from_store(error: &StoreError, pool: &PoolId) -> Self {
        tracing::error!(%pool, %error, "the store failed");
        match error {
            StoreError::Late => Self::late(),
            StoreError::Damaged(_) => Self::store_damaged(),
            _ => Self::unavailable(),
        }
    }
}

/// A time to wait, in seconds, that is surely over then.
fn whole_secs(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
}

/// The client's input, shortened to a harmless length.
pub(super) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: &'a str,
        }
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, MEDIA_TYPE));
        response.insert_header(NO_STORE).insert_header(NO_SNIFF);
        if let Some(secs) = self.retry_after_secs {
            response.insert_header((RETRY_AFTER, secs));
        }
        if let Some((name, value)) = &self.header {
            response.insert_header((name, value.as_str()));
        }
        let body = Body { code: self.code(), message: &self.message };
        response.body(serde_json::to_vec(&body).expect("two strings always serialize"))
    }
}
