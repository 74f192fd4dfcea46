//! Liveness, readiness, metrics and version, for operators.

use std::time::Duration;

use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse, Responder, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::auth::require_certificate;
use super::problem::{Problem, sensitive};
use super::responses::Unauthorized;
use crate::telemetry::text;

/// How long an answer waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// How old an answer of the store may be: whoever asks without a key must not load it.
const STORE_AGE: Duration = Duration::from_secs(1);
/// How many beats an acknowledged change may wait for its publication.
const BEATS_MAX: u64 = 3;

#[derive(Serialize, ToSchema)]
struct Health {
    /// `UP`, or `DOWN` with status 503.
    status: &'static str,
    /// What is wrong; absent if nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

impl Health {
    fn answer(problems: Vec<String>) -> HttpResponse {
        let mut answer = match problems.is_empty() {
            true => HttpResponse::Ok().json(Self { status: "UP", problems }),
            false => HttpResponse::ServiceUnavailable().json(Self { status: "DOWN", problems }),
        };
        sensitive(answer.headers_mut());
        answer
    }
}

#[derive(Serialize, ToSchema)]
struct Version {
    version: &'static str,
}

/// Get liveness
///
/// `GET /health/live`
#[utoipa::path(operation_id = "getLiveness", get, path = "/health/live", tag = "operation", responses((status = 200, description = "The process answers", body = Health)))]
pub(super) async fn live() -> impl Responder {
    Health::answer(Vec::new())
}

/// Get readiness
///
/// `GET /health/ready`: whether to send requests to this instance. It stays ready while the store is down: reads go on, writes
/// get 503, and another instance would do no better. It is not ready while a certificate of a signing key is out of date,
/// because verifiers refuse what this instance publishes, and while its clock cannot be believed, because it publishes nothing.
#[utoipa::path(
    operation_id = "getReadiness",
    get,
    path = "/health/ready",
    tag = "operation",
    responses(
        (status = 200, description = "Ready for requests", body = Health),
        (status = 503, description = "Not ready; `problems` says why", body = Health),
    )
)]
pub(super) async fn ready(api: web::Data<Api>) -> impl Responder {
    let now = api.clock.now();
    let clock = api.clock_watch.as_ref().and_then(|watch| watch.now(api.store.time()).err());
    let clock = clock.map(|why| why.to_string());
    let pools = api.pools.load();
    let out_of_date = pools.iter().filter(|(_, pool)| !(pool.facts.load().certificates_hold_at)(now));
    let certificates = out_of_date.map(|(id, _)| {
        format!("pool {id}: a certificate of the signing key is not valid now, so verifiers refuse its lists; renew it")
    });
    Health::answer(clock.into_iter().chain(certificates).collect())
}

/// Get freshness
///
/// `GET /health/fresh`: whether the published lists are current: no published token has expired, and nothing acknowledged has
/// been waiting for its publication for longer than three beats. For load balancers in front of the lists. While the store does not
/// answer, what it said last counts.
#[utoipa::path(
    operation_id = "getFreshness",
    get,
    path = "/health/fresh",
    tag = "operation",
    responses(
        (status = 200, description = "The lists are current", body = Health),
        (status = 503, description = "They are not; `problems` says which", body = Health),
    )
)]
pub(super) async fn fresh(api: web::Data<Api>) -> impl Responder {
    look_at_freshness(&api).await;
    let now = api.clock.now();
    let mut problems = Vec::new();
    for (id, pool) in &**api.pools.load() {
        let (freshness, beat) = (&pool.metrics.freshness, pool.facts.load().update_interval_secs);
        let waiting = freshness.unpublished_for(now).as_secs();
        if waiting > BEATS_MAX * beat {
            problems.push(format!("pool {id}: a change has been waiting for its publication for {waiting} s (the beat is {beat} s)"));
        }
        if freshness.is_expired(now) {
            problems.push(format!("pool {id}: a published token may have expired"));
        }
    }
    Health::answer(problems)
}

/// Asks the store what is not published, and when the next token expires.
async fn look_at_freshness(api: &Api) {
    let look = async {
        for (id, pool) in &*api.pools.load_full() {
            let freshness = &pool.metrics.freshness;
            if !freshness.ask_after(STORE_AGE) {
                continue;
            }
            if let Ok(dirty) = api.store.dirty(id).await {
                freshness.note_unpublished(dirty.iter().filter_map(|list| list.since).min());
            }
            if let Ok(Some(renewal)) = api.store.next_due(id).await {
                freshness.note_valid_until(renewal.plus(pool.facts.load().valid_after_renewal).date());
            }
        }
    };
    let _ = tokio::time::timeout(STORE_PATIENCE, look).await;
}

/// Get the metrics
///
/// `GET /metrics`
#[utoipa::path(
    operation_id = "getMetrics",
    get,
    path = "/metrics",
    tag = "operation",
    responses(
        (status = 200, description = "The metrics, as OpenMetrics text if `Accept` names it, otherwise in the older text format of Prometheus", content(
            (String = "application/openmetrics-text"),
            (String = "text/plain"),
        )),
        (status = 401, response = Unauthorized),
    )
)]
pub(super) async fn metrics(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    look_at_freshness(&api).await;
    let accepted = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    let now = api.clock.now();
    match accepted.into_iter().any(|value| value.contains("application/openmetrics-text")) {
        true => HttpResponse::Ok().content_type(text::OPENMETRICS).body(api.metrics.to_openmetrics(now)),
        false => HttpResponse::Ok().content_type(text::PROMETHEUS).body(api.metrics.to_prometheus(now)),
    }
}

/// As [`metrics`], at an address that issuers can reach.
pub(super) async fn metrics_beside_the_api(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    require_certificate(&request, &api)?;
    Ok(metrics(request, api).await)
}

/// Get the version
///
/// `GET /version`
#[utoipa::path(
    operation_id = "getVersion",
    get,
    path = "/version",
    tag = "operation",
    responses(
        (status = 200, description = "The version of the program; as text for those who ask for that alone", content(
            (Version = "application/json"),
            (String = "text/plain"),
        )),
        (status = 401, response = Unauthorized),
    )
)]
pub(super) async fn version(request: HttpRequest) -> HttpResponse {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let accepted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match accepted
        .split([',', ';'])
        .next()
        .is_some_and(|first| first.trim().eq_ignore_ascii_case("text/plain"))
    {
        true => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(VERSION),
        false => HttpResponse::Ok().json(Version { version: VERSION }),
    }
}

/// As [`version`], at an address that issuers can reach.
pub(super) async fn version_beside_the_api(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    require_certificate(&request, &api)?;
    Ok(version(request).await)
}
