//! The error responses of the OpenAPI document: one for each HTTP status, made from the catalogue in `code.rs`.

use utoipa::ToResponse;
use utoipa::openapi::example::Example;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::{ContentBuilder, Header, Ref, RefOr, Response, ResponseBuilder};

use super::code::Code;
use super::problem::MEDIA_TYPE;

/// The response with the status of `of`: every code that it can carry, with its meaning.
fn response(of: Code, retry_after: bool) -> Response {
    let codes = || Code::ALL.iter().filter(|code| code.status() == of.status());
    let description: Vec<_> = codes().map(|code| format!("`{}`: {}", code.name(), code.meaning())).collect();
    let example = |code: &Code| {
        let body = serde_json::json!({ "code": code.name(), "message": code.meaning() });
        (code.name(), Example::builder().value(Some(body)).build())
    };
    let body = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(PROBLEM)))
        .examples_from_iter(codes().map(example));
    let response =
        ResponseBuilder::new().description(description.join("\n\n")).content(MEDIA_TYPE, body.build());
    if !retry_after {
        return response.build();
    }
    let secs = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let mut header = Header::new(secs);
    header.description = Some("The number of seconds after which to retry".to_owned());
    response.header("Retry-After", header).build()
}

/// The name of the schema of every error.
pub(super) const PROBLEM: &str = "Problem";

/// The schema of every error: one, so that generated clients have one type for it.
pub(super) fn problem() -> Schema {
    let text =
        |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    let problem = ObjectBuilder::new()
        .description(Some("Why a request failed."))
        .property("code", text("The error, for programs; each response lists its codes"))
        .property("message", text("What is wrong and what to change, for people"))
        .required("code")
        .required("message")
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    problem.build().into()
}

/// Makes a type of each code, for `responses(…)` of an operation, and [`all`] of them.
macro_rules! responses {
    ($($name:ident $($retry_after:literal)?),+ $(,)?) => {
        $(
            #[doc = concat!("The response with the status of [`Code::", stringify!($name), "`].")]
            pub(super) struct $name;

            impl $name {
                /// The name of the component in the document.
                pub(super) const NAME: &str = stringify!($name);
            }

            impl<'r> ToResponse<'r> for $name {
                fn response() -> (&'r str, RefOr<Response>) {
                    (Self::NAME, RefOr::T(response(Code::$name, false $(|| $retry_after == "Retry-After")?)))
                }
            }
        )+

        /// All responses, with their names.
        pub(super) fn all() -> Vec<(&'static str, RefOr<Response>)> {
            vec![$($name::response()),+]
        }
    };
}

responses!(
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    RequestTimeout,
    ListInUse,
    ListRetired,
    PreconditionFailed,
    PayloadTooLarge,
    UnsupportedMediaType,
    KeyReused,
    RateLimitReached "Retry-After",
    StoreDamaged,
    Unavailable "Retry-After",
);
