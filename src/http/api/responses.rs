//! The error responses of the OpenAPI document: one for each HTTP status, made from the catalogue in `code.rs`.

use utoipa::ToResponse;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Header, RefOr, Response, ResponseBuilder};

use super::code::Code;
use super::problem::MEDIA_TYPE;

/// The response with the status of `of`: every code that it can carry, with its meaning.
fn response(of: Code, retry_after: bool) -> Response {
    let codes = || Code::ALL.iter().filter(|code| code.status() == of.status());
    let description: Vec<_> = codes().map(|code| format!("`{}`: {}", code.name(), code.meaning())).collect();
    let text =
        |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    let body = ObjectBuilder::new()
        .property("code", text("The error, for programs").enum_values(Some(codes().map(|code| code.name()))))
        .property("message", text("What is wrong and what to change, for people"))
        .required("code")
        .required("message")
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    let response = ResponseBuilder::new()
        .description(description.join("\n\n"))
        .content(MEDIA_TYPE, ContentBuilder::new().schema(Some(body)).build());
    if !retry_after {
        return response.build();
    }
    let secs = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let mut header = Header::new(secs);
    header.description = Some("The number of seconds after which to retry".to_owned());
    response.header("Retry-After", header).build()
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
