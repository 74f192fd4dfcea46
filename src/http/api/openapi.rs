//! The OpenAPI description of the write API. Each operation is described beside its handler; this file has what several share:
//! the error responses, and how callers authenticate.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi as Description, Ref, RefOr};
use utoipa::{Modify, OpenApi};

use super::code::Code;
use super::responses::{self, Forbidden, RateLimitReached, StoreDamaged, Unauthorized};
use super::{admin, fill, health, pools, references, statuses};

/// The operations of the API. A new operation is a line in `paths`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "statuslist",
        description = "A Status Issuer for the IETF Token Status List: issuers allocate references for their credentials and set \
            statuses; on the beat of each pool, lists that changed are signed and published as static files.\n\n\
            Every error is `application/problem+json` with exactly `code` and `message`. Programs compare the code; the message \
            says what to change. A change is durable when answered with 2xx. After a 503 or no answer it is not acknowledged: an update \
            takes no effect later than its request's time limit, so repeat it, and if an answer has `Retry-After`, wait that many seconds.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact()
    ),
    paths(
        references::new_references,
        statuses::update,
        statuses::batch_update,
        pools::pools,
        pools::pool,
        pools::lists,
        pools::retire,
        fill::fill,
        pools::status,
        references::new_reference,
        references::new_references_of_path,
        statuses::older_update,
        admin::pools::create_pool,
        admin::pools::pools,
        admin::pools::patch_pool,
        admin::pools::delete_pool,
        admin::keys::create_key,
        admin::keys::keys,
        admin::keys::rotate_key,
        admin::keys::end_key,
        health::live,
        health::ready,
        health::fresh,
        health::metrics,
        health::version,
    ),
    // Only a schema that is written by hand names it.
    components(schemas(references::StatusClaim, references::CredentialStatus)),
    tags(
        (name = "references", description = "The `uri` and `idx` that go into a credential."),
        (name = "statuses", description = "The status of a reference: valid, invalid, suspended, or a number."),
        (name = "pools", description = "Pools, their lists, and how much of them is used."),
        (name = "older paths", description = "The same operations under the names of earlier servers."),
        (name = "operation", description = "For operators."),
        (name = "administration", description = "Pools and API keys made at run time: on `server.management-listen` alone, with a key of `admin-api-keys`."),
    ),
    modifiers(&Security, &Admission, &Problems),
)]
struct Document;

/// The description of the write API.
pub fn openapi() -> Description {
    Document::openapi()
}

/// How callers authenticate. An operation names its schemes in `security`.
struct Security;

impl Modify for Security {
    fn modify(&self, description: &mut Description) {
        let key = ApiKeyValue::with_description("X-Api-Key", "An API key of the pool.");
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("api-key", SecurityScheme::ApiKey(ApiKey::Header(key)));
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.bearer_format = Some("JWT".to_owned());
        bearer.description = Some(
            "An access token (RFC 9068) of the authorization server in the settings, if there is one."
                .to_owned(),
        );
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The error responses of every operation that authenticates.
struct Admission;

impl Modify for Admission {
    fn modify(&self, description: &mut Description) {
        for operation in operations(description).filter(|operation| operation.security.is_some()) {
            refer_to(operation, Code::Unauthorized, Unauthorized::NAME);
            refer_to(operation, Code::Forbidden, Forbidden::NAME);
            refer_to(operation, Code::RateLimitReached, RateLimitReached::NAME);
        }
    }
}

/// The error responses, and the one of a damaged store wherever the store can fail.
struct Problems;

impl Modify for Problems {
    fn modify(&self, description: &mut Description) {
        for operation in operations(description) {
            if operation.responses.responses.contains_key("503") {
                refer_to(operation, Code::StoreDamaged, StoreDamaged::NAME);
            }
        }
        let components = description.components.get_or_insert_default();
        components.schemas.insert(responses::PROBLEM.to_owned(), RefOr::T(responses::problem()));
        components.responses.extend(responses::all().into_iter().map(|(name, of)| (name.to_owned(), of)));
    }
}

fn operations(description: &mut Description) -> impl Iterator<Item = &mut Operation> {
    let paths = description.paths.paths.values_mut();
    paths.flat_map(|path| [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete]).flatten()
}

/// Adds the response `name` to an operation, under the status of `code`.
fn refer_to(operation: &mut Operation, code: Code, name: &str) {
    let responses = &mut operation.responses.responses;
    let status = code.status().as_u16().to_string();
    responses.entry(status).or_insert(RefOr::Ref(Ref::from_response_name(name)));
}
