//! The service's own documentation: its OpenAPI description at `/openapi.json`, and the page at `/docs` that shows it.
//!
//! The description is made from the code. `docs/openapi.json` is a copy for readers without a running service; a test compares the
//! two. The page is Swagger UI, built into the program, with a start and a search of our own (`page.js`). It makes requests only to the
//! service.

mod examples;
mod swagger_ui;

use std::hash::{DefaultHasher, Hasher};
use std::io::Read;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, EntityTag, Header, HeaderValue, IfNoneMatch};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, guard};
use flate2::read::GzDecoder;
use utoipa::openapi::{OpenApi, ServerBuilder};

use crate::http::api;
use crate::site::server;

/// Allows only the page's own files, the description and requests to the service. Swagger UI needs no more than images in its style
/// sheet (`data:`): React sets styles through the DOM, which `style-src` does not restrict. It cannot do with
/// `require-trusted-types-for`, because it shows the description's Markdown as HTML, after DOMPurify has cleaned it.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
/// The path of `public-url` in the copy of the description.
const USUAL_BASE: &str = "/lists";
/// The server in it.
const USUAL_SERVER: &str = "http://localhost:8090";

/// The description of everything served by a service whose lists are below `base`, if it serves lists.
pub fn description(base: Option<&str>) -> OpenApi {
    let mut description = api::openapi();
    // Where the description comes from, whatever its address.
    description.servers = Some(vec![ServerBuilder::new().url("/").description(Some("This service")).build()]);
    if let Some(base) = base {
        let mut site = server::openapi();
        let paths = std::mem::take(&mut site.paths.paths);
        site.paths.paths = paths.into_iter().map(|(path, item)| (format!("{base}{path}"), item)).collect();
        description.merge(site);
    }
    examples::add(&mut description);
    description
}

/// Returns the text of `docs/openapi.json`.
pub fn copy() -> String {
    let mut description = description(Some(USUAL_BASE));
    let started =
        ServerBuilder::new().url(USUAL_SERVER).description(Some("A service on its built-in settings"));
    description.servers = Some(vec![started.build()]);
    let mut text = description.to_pretty_json().expect("a description always serializes");
    text.push('\n');
    text
}

/// The served description, and the files of the page that shows it.
#[derive(Clone)]
pub struct Docs(Vec<File>);

impl Docs {
    /// Describes a service whose lists are below `base`, if it serves lists.
    pub fn new(base: Option<&str>) -> Self {
        let description = description(base).to_json().expect("a description always serializes");
        Self(vec![
            File::new("/openapi.json", "application/json", description.into()),
            File::new("/docs", "text/html; charset=utf-8", include_str!("page.html").into()),
            File::new("/docs/page.css", CSS, include_str!("page.css").into()),
            File::new("/docs/page.js", SCRIPT, include_str!("page.js").into()),
            File::of_swagger_ui("/docs/swagger-ui.css", CSS),
            File::of_swagger_ui("/docs/swagger-ui-bundle.js", SCRIPT),
        ])
    }

    /// Mounts description and page. Must come before the site, which may take every other path.
    pub fn configure(&self, config: &mut ServiceConfig) {
        for file in self.0.clone() {
            let resource = web::resource(file.path);
            let get = move |request: HttpRequest| std::future::ready(file.answer(&request));
            let reading = guard::Any(guard::Get()).or(guard::Head());
            let resource = resource.route(web::route().guard(reading).to(get));
            config.service(resource.default_service(web::to(api::only_get)));
        }
    }
}

/// A file of the page, or the description.
#[derive(Clone)]
struct File {
    path: &'static str,
    media_type: &'static str,
    content: Bytes,
    /// Whether the content is compressed.
    gzip: bool,
    /// Weak, because it is that of the content in both forms.
    tag: EntityTag,
}

impl File {
    fn new(path: &'static str, media_type: &'static str, content: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(&content);
        let tag = EntityTag::new_weak(format!("{:016x}", hasher.finish()));
        Self { path, media_type, content, gzip: false, tag }
    }

    fn of_swagger_ui(path: &'static str, media_type: &'static str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        let content = swagger_ui::gzip_of(name).expect("tests fetch the two files that are used");
        Self { gzip: true, ..Self::new(path, media_type, content.into()) }
    }

    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let known = match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&self.tag)),
            Err(_) => false,
        };
        let mut response = HttpResponse::build(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
        response
            .insert_header((header::ETAG, self.tag.to_string()))
            .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
            .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
            .insert_header((header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")));
        if self.gzip {
            response.insert_header((header::VARY, header::ACCEPT_ENCODING.as_str()));
        }
        if known {
            return response.finish();
        }
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(self.media_type)));
        if !self.gzip {
            return response.body(self.content.clone());
        }
        if server::wants_gzip(request.headers().get_all(header::ACCEPT_ENCODING)) {
            response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
            return response.body(self.content.clone());
        }
        let mut plain = Vec::new();
        let read = GzDecoder::new(self.content.as_ref()).read_to_end(&mut plain);
        read.expect("what was compressed when the program was built can be read");
        response.body(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_what_the_code_says() {
        let kept = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));
        // Compared as text, because the order matters too.
        assert!(
            kept.is_ok_and(|kept| kept == copy()),
            "docs/openapi.json is out of date; refresh it: cargo run -- openapi > docs/openapi.json"
        );
    }

    #[test]
    fn every_reference_in_it_leads_somewhere() {
        let text = copy();
        let description: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut references = 0;
        for rest in text.split("\"$ref\": \"#").skip(1) {
            let pointer = rest.split('"').next().unwrap();
            assert!(description.pointer(pointer).is_some(), "{pointer} does not exist");
            references += 1;
        }
        assert!(references > 50);
        assert_eq!(description["openapi"], "3.1.0");
        // A status is a number or a name, nothing else.
        let value = &description["components"]["schemas"]["Update"]["properties"]["value"];
        assert_eq!(value["$ref"], "#/components/schemas/Status");
    }

    /// Generated clients have readable names, one type for all errors, and an address.
    #[test]
    fn every_operation_has_a_readable_id_and_examples_and_errors_are_one_schema() {
        let description: serde_json::Value = serde_json::from_str(&copy()).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        let paths = description["paths"].as_object().unwrap();
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(!id.contains('_') && ids.insert(id.to_owned()), "{method} {path}: {id}");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let response = match response["$ref"].as_str() {
                        Some(reference) => description.pointer(&reference[1..]).unwrap(),
                        None => response,
                    };
                    for (media_type, content) in response["content"].as_object().into_iter().flatten() {
                        let place = format!("{method} {path} {status} {media_type}");
                        if media_type == "application/problem+json" {
                            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{place}");
                        }
                        let has = ["example", "examples"].iter().any(|name| !content[name].is_null());
                        assert!(has, "no example: {place}");
                    }
                }
                if let Some(body) = operation["requestBody"]["content"]["application/json"].as_object() {
                    assert!(body.contains_key("example") || body.contains_key("examples"), "{method} {path}");
                }
            }
        }
        assert_eq!(description["servers"][0]["url"], USUAL_SERVER);
        let served: serde_json::Value = serde_json::from_slice(&Docs::new(None).0[0].content).unwrap();
        assert_eq!(served["servers"][0]["url"], "/", "wherever it is served");
    }

    #[test]
    fn lists_are_described_where_they_are_served() {
        let paths = |base| description(base).paths.paths.into_keys().collect::<Vec<_>>();
        assert!(paths(Some("/a/b")).iter().any(|path| path == "/a/b/{list}"));
        assert!(paths(Some("")).iter().any(|path| path == "/{list}"));
        assert!(!paths(None).iter().any(|path| path.ends_with("/{list}")));
    }
}
