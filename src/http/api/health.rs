//! Liveness, readiness, metrics and version, for operators.

use actix_web::{HttpRequest, HttpResponse, Responder, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::require_certificate;
use super::problem::{Problem, sensitive};
use super::responses::Unauthorized;

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

/// Get liveness
///
/// `GET /health/live`
#[utoipa::path(get, path = "/health/live", tag = "operation", responses((status = 200, description = "The process answers", body = Health)))]
pub(super) async fn live() -> impl Responder {
    let mut answer = HttpResponse::Ok().json(UP);
    sensitive(answer.headers_mut());
    answer
}

/// Get readiness
///
/// `GET /health/ready`: whether to send requests to this instance. It stays ready while the store is down: reads go on, writes
/// get 503, and another instance would do no better. It is not ready while a certificate of a signing key is out of date,
/// because verifiers refuse what this instance publishes, and while its clock cannot be believed, because it publishes nothing.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "operation",
    responses(
        (status = 200, description = "Ready for requests", body = Health),
        (status = 503, description = "Not ready; the log says why", body = Health),
    )
)]
pub(super) async fn ready(api: web::Data<Api>) -> impl Responder {
    let now = api.clock.now();
    let clock = api.clock_watch.as_ref().is_none_or(|watch| watch.now(api.store.time()).is_ok());
    match clock && api.pools.values().all(|pool| (pool.facts.load().certificates_hold_at)(now)) {
        true => HttpResponse::Ok().json(UP),
        false => HttpResponse::ServiceUnavailable().json(DOWN),
    }
}

/// Get the metrics
///
/// `GET /metrics`
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    responses(
        (status = 200, description = "The metrics in OpenMetrics format", body = String, content_type = METRICS),
        (status = 401, response = Unauthorized),
    )
)]
pub(super) async fn metrics(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::Ok().content_type(METRICS).body(api.metrics.to_text())
}

/// As [`metrics`], at an address that issuers can reach.
pub(super) async fn metrics_beside_the_api(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    require_certificate(&request, &api)?;
    Ok(metrics(api).await)
}

/// Get the version
///
/// `GET /version`
#[utoipa::path(
    get,
    path = "/version",
    tag = "operation",
    responses(
        (status = 200, description = "The version of the program", body = Version),
        (status = 401, response = Unauthorized),
    )
)]
pub(super) async fn version() -> HttpResponse {
    HttpResponse::Ok().json(Version { version: env!("CARGO_PKG_VERSION") })
}

/// As [`version`], at an address that issuers can reach.
pub(super) async fn version_beside_the_api(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    require_certificate(&request, &api)?;
    Ok(version().await)
}
