//! The OpenAPI description of the write API. What an operation takes and gives is said beside its handler; this file has what
//! several share: the problems, and how callers say who they are.

use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Header, OpenApi as Description, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa::{Modify, OpenApi, ToResponse};

use super::problem::MEDIA_TYPE;
use super::{fill, health, pools, references, statuses};

/// What issuers and operators can ask for. A new operation is a line in `paths`.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "statuslist",
        description = "A Status Issuer for the IETF Token Status List: issuers take references for their credentials and set \
            statuses; lists that changed are signed and published on the beat of their pool, as static files.\n\n\
            Every error is `application/problem+json` with exactly `code` and `message`. Clients compare the code; the message \
            says what to change. After an answer with `Retry-After` the same request may be sent again after that many seconds.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
        contact()
    ),
    paths(
        references::new_references,
        statuses::update,
        statuses::batch_update,
        pools::pool,
        pools::lists,
        pools::retire,
        fill::fill,
        pools::status,
        references::new_reference,
        references::new_references_of_path,
        statuses::older_update,
        health::live,
        health::ready,
        health::metrics,
        health::version,
    ),
    tags(
        (name = "references", description = "What goes into a credential: the `uri` of a list and an index in it."),
        (name = "statuses", description = "What a reference says: valid, invalid, suspended."),
        (name = "pools", description = "What issuers agree on with this service, and what its store knows."),
        (name = "older paths", description = "The same operations under the names of earlier servers."),
        (name = "operation", description = "For those who run the service."),
    ),
    modifiers(&Security, &Admission, &Problems),
)]
struct Document;

/// The description of the write API.
pub fn openapi() -> Description {
    Document::openapi()
}

/// How callers say who they are. An operation names those that it takes in `security`.
struct Security;

impl Modify for Security {
    fn modify(&self, description: &mut Description) {
        let key = ApiKeyValue::with_description(
            "X-Api-Key",
            "A key of the pool, as its settings name it by its hash.",
        );
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("api-key", SecurityScheme::ApiKey(ApiKey::Header(key)));
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.bearer_format = Some("JWT".to_owned());
        bearer.description =
            Some("An access token (RFC 9068) of the authorization server that the settings name, if they name one.".to_owned());
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// What every operation that asks who calls may answer.
struct Admission;

impl Modify for Admission {
    fn modify(&self, description: &mut Description) {
        for path in description.paths.paths.values_mut() {
            let operations = [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete];
            for operation in operations.into_iter().flatten().filter(|operation| operation.security.is_some())
            {
                for (code, problem) in [
                    ("401", Unauthorized::PROBLEM),
                    ("403", Forbidden::PROBLEM),
                    ("429", RateLimitReached::PROBLEM),
                ] {
                    let problem = RefOr::Ref(Ref::from_response_name(problem.name));
                    operation.responses.responses.entry(code.to_owned()).or_insert(problem);
                }
            }
        }
    }
}

/// A problem that several operations answer with: everything that one status can say.
struct Problem {
    name: &'static str,
    description: &'static str,
    codes: &'static [&'static str],
    retry_after: bool,
}

impl Problem {
    fn response(&self) -> Response {
        let text =
            |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
        let body = ObjectBuilder::new()
            .property(
                "code",
                text("What is wrong, for programs").enum_values(Some(self.codes.iter().copied())),
            )
            .property("message", text("What is wrong and what to change, for people"))
            .required("code")
            .required("message")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        let response = ResponseBuilder::new()
            .description(self.description)
            .content(MEDIA_TYPE, ContentBuilder::new().schema(Some(body)).build());
        if !self.retry_after {
            return response.build();
        }
        let secs = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
        let mut header = Header::new(secs);
        header.description = Some("After how many seconds the same request may be sent again".to_owned());
        response.header("Retry-After", header).build()
    }
}

struct Problems;

impl Modify for Problems {
    fn modify(&self, description: &mut Description) {
        let components = description.components.get_or_insert_default();
        for problem in ALL {
            components.responses.insert(problem.name.to_owned(), RefOr::T(problem.response()));
        }
    }
}

/// Makes of each problem a type that `responses(…)` of an operation can name, and [`ALL`] of them.
macro_rules! problems {
    ($($name:ident: $description:literal, [$($code:literal),+] $(, $retry_after:ident)?;)+) => {
        $(
            #[doc = $description]
            pub(super) struct $name;

            impl $name {
                const PROBLEM: Problem = Problem {
                    name: stringify!($name),
                    description: $description,
                    codes: &[$($code),+],
                    retry_after: false $(|| problems!(@ $retry_after))?,
                };
            }

            impl<'r> ToResponse<'r> for $name {
                fn response() -> (&'r str, RefOr<Response>) {
                    (Self::PROBLEM.name, RefOr::T(Self::PROBLEM.response()))
                }
            }
        )+
        const ALL: &[Problem] = &[$($name::PROBLEM),+];
    };
    (@ retry_after) => { true };
}

problems! {
    BadRequest: "The request is not what is expected, or names what is not there. Nothing was changed.",
        ["BAD_REQUEST", "NO_SUCH_LIST", "INDEX_OUT_OF_BOUNDS", "INDEX_NOT_ALLOCATED", "VALUE_OUT_OF_RANGE"];
    Unauthorized: "The API key is missing, or opens nothing that the request names.", ["UNAUTHORIZED"];
    Forbidden: "The entry has a final status, which it keeps; or the caller lacks the scope for this, or the client certificate.",
        ["FORBIDDEN"];
    KeyReused: "The `Idempotency-Key` was used for another request.", ["IDEMPOTENCY_KEY_REUSED"];
    NotFound: "There is no such pool or list.", ["NO_SUCH_POOL", "NO_SUCH_LIST", "NOT_FOUND"];
    RequestTimeout: "The body did not come in time. Nothing was changed.", ["REQUEST_TIMEOUT"];
    ListInUse: "Credentials with references of the list may still be valid.", ["LIST_IN_USE"];
    ListRetired: "The list was retired and takes no updates any more.", ["LIST_RETIRED"];
    PayloadTooLarge: "The body has more bytes than the settings allow.", ["PAYLOAD_TOO_LARGE"];
    UnsupportedMediaType: "The body is not `application/json`.", ["UNSUPPORTED_MEDIA_TYPE"];
    RateLimitReached: "No references are ready, and none was handed out; or too many requests came. Nothing was changed.", ["RATE_LIMIT_REACHED"], retry_after;
    Unavailable: "The service cannot do this at the moment; the message says whether a change may have been made. Repeating the \
        request does no harm.", ["UNAVAILABLE"], retry_after;
}
