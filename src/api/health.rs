//! Liveness, readiness, metrics and version: what those who run the service ask.

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpResponse, Responder, ResponseError, web};
use serde_json::json;

use super::Api;
use super::problem::Problem;

/// `GET /health/live`: the process answers.
pub(super) async fn live() -> impl Responder {
    HttpResponse::Ok().json(json!({ "status": "UP" }))
}

/// `GET /health/ready`: requests may be sent here. It stays so while the store is down: then reads go on, writes get 503, and
/// sending them to another instance would change nothing.
pub(super) async fn ready() -> impl Responder {
    HttpResponse::Ok().json(json!({ "status": "UP" }))
}

/// `GET /metrics`
pub(super) async fn metrics(api: web::Data<Api>) -> impl Responder {
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(api.metrics.to_text())
}

/// `GET /version`
pub(super) async fn version() -> impl Responder {
    HttpResponse::Ok().json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// What another method gets on a path that knows only `allowed`, one or several of them.
pub(super) async fn method_not_allowed(allowed: String) -> impl Responder {
    let mut response = Problem::method_not_allowed(&allowed).error_response();
    let allowed = HeaderValue::from_str(&allowed).expect("methods are tokens");
    response.headers_mut().insert(ALLOW, allowed);
    response
}
