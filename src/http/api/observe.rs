//! Observes every request: its id, its status and its duration. Never a body, a key or a query.

use std::rc::Rc;
use std::time::Instant;

use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::{Error, HttpMessage};
use tracing::Instrument;

use super::problem::sensitive;
use super::request_id::RequestId;
use super::trail;
use crate::telemetry::http::RouteMetrics;

/// Handles a request, and logs and counts the answer.
pub(super) fn observe<S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>>(
    metrics: Rc<RouteMetrics>,
    audited: bool,
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse, Error>> + use<S> {
    let begun = Instant::now();
    let id = RequestId::of(request.headers());
    if audited {
        request.extensions_mut().insert(id.clone());
    }
    let span = tracing::debug_span!("request", request.id = %id, route = metrics.route(), method = %request.method());
    crate::telemetry::continue_trace(&span, request.headers());
    let answering = span.in_scope(|| service.call(request)).instrument(span);
    async move {
        let mut answer = answering.await?;
        let (status, seconds) = (answer.status(), begun.elapsed().as_secs_f64());
        metrics.answered(status.as_u16(), seconds);
        if audited {
            trail::answered(&answer);
        }
        let route = metrics.route();
        if status.is_server_error() {
            tracing::warn!(request.id = %id, route, status = status.as_u16(), seconds, "request failed");
        } else {
            tracing::debug!(request.id = %id, route, status = status.as_u16(), seconds, "answered");
        }
        id.set_in(answer.headers_mut());
        sensitive(answer.headers_mut());
        Ok(answer)
    }
}
