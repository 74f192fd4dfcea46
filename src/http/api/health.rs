//! Liveness, readiness, metrics and version: what those who run the service ask.

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpResponse, Responder, ResponseError, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::problem::Problem;

const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Serialize, ToSchema)]
struct Health {
    /// `UP`, or `DOWN` with status 503.
    status: &'static str,
}

const UP: Health = Health { status: "UP" };
const DOWN: Health = Health { status: "DOWN" };

#[derive(Serialize, ToSchema)]
struct Version {
    version: &'static str,
}

/// Ask whether the process answers
///
/// `GET /health/live`
#[utoipa::path(get, path = "/health/live", tag = "operation", responses((status = 200, description = "It does", body = Health)))]
pub(super) async fn live() -> impl Responder {
    HttpResponse::Ok().json(UP)
}

/// Ask whether requests may be sent here
///
/// `GET /health/ready`: requests may be sent here. It stays so while the store is down: then reads go on, writes get 503, and
/// sending them to another instance would change nothing. It ends while a certificate of a signing key is out of date, because
/// verifiers refuse what this instance publishes.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "operation",
    responses(
        (status = 200, description = "They may", body = Health),
        (status = 503, description = "They should not; the log says why", body = Health),
    )
)]
pub(super) async fn ready(api: web::Data<Api>) -> impl Responder {
    let now = api.clock.now();
    match api.pools.values().all(|pool| (pool.about.load().certificates_hold_at)(now)) {
        true => HttpResponse::Ok().json(UP),
        false => HttpResponse::ServiceUnavailable().json(DOWN),
    }
}

/// Read the metrics
///
/// `GET /metrics`
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    responses((status = 200, description = "OpenMetrics", body = String, content_type = METRICS))
)]
pub(super) async fn metrics(api: web::Data<Api>) -> impl Responder {
    HttpResponse::Ok().content_type(METRICS).body(api.metrics.to_text())
}

/// Ask for the program's version
///
/// `GET /version`
#[utoipa::path(get, path = "/version", tag = "operation", responses((status = 200, description = "It", body = Version)))]
pub(super) async fn version() -> impl Responder {
    HttpResponse::Ok().json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// What another method gets on a path that knows only `allowed`, one or several of them.
pub(super) async fn method_not_allowed(allowed: String) -> impl Responder {
    let mut response = Problem::method_not_allowed(&allowed).error_response();
    let allowed = HeaderValue::from_str(&allowed).expect("methods are tokens");
    response.headers_mut().insert(ALLOW, allowed);
    response
}
