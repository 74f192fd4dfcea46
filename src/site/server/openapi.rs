//! The OpenAPI description of what Relying Parties can fetch. Each operation is described beside its handler.

use serde_json::{Map, Value};
use utoipa::openapi::OpenApi as Description;
use utoipa::{OpenApi, ToSchema};

#[derive(OpenApi)]
#[openapi(
    paths(super::list, super::credential, super::aggregation, super::jwks),
    tags((name = "lists", description = "What verifiers fetch; nginx or a CDN may serve the same files.")),
)]
struct Document;

/// The description of the site, with paths relative to that of `public-url`.
pub fn openapi() -> Description {
    Document::openapi()
}

/// Why there is no file.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only for the schema; `problem.rs` writes it")]
pub(super) struct Problem {
    /// What is wrong, for programs.
    code: String,
    /// What is wrong and what to change, for people.
    message: String,
}

/// A list without a signature ("Status List in JSON Format").
#[derive(ToSchema)]
#[expect(dead_code, reason = "only for the schema; the publisher writes it")]
pub(super) struct StatusList {
    /// Bits per entry.
    bits: u8,
    /// The statuses, compressed, in base64url.
    lst: String,
}

/// A CWT, or a list in CBOR.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only for the schema; the publisher writes it")]
pub(super) struct Bytes(Vec<u8>);

/// A Status List Aggregation.
#[derive(ToSchema)]
#[schema(as = Aggregation)]
#[expect(dead_code, reason = "only for the schema; the publisher writes it")]
pub(super) struct Lists {
    /// The `uri` of every list.
    status_lists: Vec<String>,
}

/// A JWK Set (RFC 7517).
#[derive(ToSchema)]
#[schema(as = JwkSet)]
#[expect(dead_code, reason = "only for the schema; the publisher writes it")]
pub(super) struct Keys {
    /// JSON Web Keys.
    keys: Vec<Map<String, Value>>,
}
