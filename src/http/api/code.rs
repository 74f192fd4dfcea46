//! The catalogue of all errors of the write API. The answers and the OpenAPI document are made from it.

use actix_web::http::StatusCode;

/// Makes the enum, and the table of its members.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $code:literal, $meaning:literal;)+) => {
        /// An error: its HTTP status, the code that programs compare, and what it means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code {
            $(#[doc = $meaning] $name,)+
        }

        impl Code {
            /// All of them.
            pub(super) const ALL: &[Self] = &[$(Self::$name),+];

            /// The HTTP status of its answers.
            pub(super) const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// `code` in its answers. Two errors have the same one where clients treat them alike.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// What it means, for the OpenAPI document.
            pub(super) const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)+ }
            }
        }
    };
}

codes! {
    BadRequest = BAD_REQUEST, "BAD_REQUEST", "The request is not as described here. Nothing was changed.";
    NoListToUpdate = BAD_REQUEST, "NO_SUCH_LIST", "The `uri` is not that of a list. Nothing was changed.";
    IndexOutOfBounds = BAD_REQUEST, "INDEX_OUT_OF_BOUNDS", "The list has no entry with this index. Nothing was changed.";
    IndexNotAllocated = BAD_REQUEST, "INDEX_NOT_ALLOCATED", "The reference was never handed out. Nothing was changed.";
    ValueOutOfRange = BAD_REQUEST, "VALUE_OUT_OF_RANGE", "The pool does not have this status. Nothing was changed.";
    Unauthorized = UNAUTHORIZED, "UNAUTHORIZED", "The credential is missing, unknown, or not for the pool.";
    Forbidden = FORBIDDEN, "FORBIDDEN", "The caller lacks the scope, or the entry has a final status, which it keeps.";
    NotFound = NOT_FOUND, "NOT_FOUND", "The path does not exist.";
    NoSuchPool = NOT_FOUND, "NO_SUCH_POOL", "The pool does not exist.";
    NoSuchKey = NOT_FOUND, "NO_SUCH_KEY", "No key of this name was made at run time.";
    NoSuchList = NOT_FOUND, "NO_SUCH_LIST", "The list does not exist.";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "The path has no such method; `Allow` names those that it has.";
    RequestTimeout = REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "The body did not arrive in time. Nothing was changed.";
    ListInUse = CONFLICT, "LIST_IN_USE", "Credentials with references of the list may still be valid.";
    ListQuotaReached = CONFLICT, "LIST_QUOTA_REACHED", "The pool has as many lists as its quota allows, and too few references are left in them. Nothing was handed out; an operator has to act.";
    NameTaken = CONFLICT, "NAME_TAKEN", "There is or was a pool or a key of this name. Nothing was changed.";
    PoolClosed = CONFLICT, "POOL_CLOSED", "The pool hands out no more references.";
    PoolInUse = CONFLICT, "POOL_IN_USE", "Credentials with references of the pool may still be valid.";
    ListRetired = GONE, "LIST_RETIRED", "The list was retired and takes no more updates.";
    PreconditionFailed = PRECONDITION_FAILED, "PRECONDITION_FAILED", "An entry has another status than `expected`. Nothing was changed.";
    PayloadTooLarge = PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "The body is larger than the settings allow.";
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "The body is not `application/json`.";
    KeyReused = UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED", "The `Idempotency-Key` was used for another request.";
    TooManyAnswers = TOO_MANY_REQUESTS, "IDEMPOTENCY_BUDGET_REACHED", "The answers kept under `Idempotency-Key`s take all the room of the pool. Nothing was handed out; repeat the request after `Retry-After`, or send it without the header.";
    RateLimitReached = TOO_MANY_REQUESTS, "RATE_LIMIT_REACHED", "The caller sent too many requests, or no references are ready. Nothing was changed; repeat the request after `Retry-After`.";
    DailyQuotaReached = TOO_MANY_REQUESTS, "DAILY_QUOTA_REACHED", "The pool or the caller has used up the references of the day. Nothing was handed out; repeat the request after `Retry-After`.";
    StoreDamaged = INTERNAL_SERVER_ERROR, "STORE_DAMAGED", "The store is damaged. Do not repeat the request; an operator has to act.";
    Unavailable = SERVICE_UNAVAILABLE, "UNAVAILABLE", "The request is not acknowledged; the message says whether a change may have been made. After the answer it takes no further effect. Repeating it does no harm.";
}
