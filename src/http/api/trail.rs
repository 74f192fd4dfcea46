//! What the handlers record in the audit trail, each with one line. Does nothing if no trail is kept.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::{HttpMessage, HttpRequest, web};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::auth::{CallerName, client_address};
use super::problem::Problem;
use super::request_id::RequestId;
use super::value::Requested;
use super::{Api, PoolApi};
use crate::audit::{Action, Begun, Caller, Change, Line, Outcome, Refusal};
use crate::status_list::ListId;

/// The sustained rate of recorded refusals, so that strangers cannot fill the disk. A burst may exceed it. All others are counted.
const REFUSALS_EVERY: Duration = Duration::from_secs(1);
const REFUSALS_BURST: NonZeroU32 = NonZeroU32::new(100).expect("it is not 0");

/// Bounds how many refusals are recorded.
pub(super) struct Refusals {
    limiter: DefaultDirectRateLimiter,
    left_out: AtomicU64,
}

impl Default for Refusals {
    fn default() -> Self {
        let quota = Quota::with_period(REFUSALS_EVERY).expect("it is not 0").allow_burst(REFUSALS_BURST);
        Self { limiter: RateLimiter::direct(quota), left_out: 0.into() }
    }
}

/// Marks a request that is already in the trail.
struct Told;

/// Records that references are being handed out. If this fails, they must not be handed out.
pub(super) async fn allocated(
    request: &HttpRequest,
    api: &Api,
    pool: &PoolApi,
    amount: u32,
    repeated: bool,
) -> Result<(), Problem> {
    if !api.audit.is_on() {
        return Ok(());
    }
    let line = Line::new(caller(request), Action::Allocate { pool: (&pool.id).into(), amount, repeated });
    // Boxed, as in `begin`: without a trail, requests must not carry its size.
    let written = Box::pin(api.within(api.audit.record(line))).await.and_then(Result::ok);
    written.map(|_| ()).ok_or_else(|| Problem::unaudited("no reference was handed out"))
}

/// Records that these changes are about to be made. If this fails, they must not be made.
pub(super) async fn updating(
    request: &HttpRequest,
    api: &Api,
    pool: &PoolApi,
    changes: &[Requested],
) -> Result<Changing, Problem> {
    let change = |change: &Requested| Change { list: change.list, index: change.index, value: change.value };
    begin(request, api, || Action::update(&pool.id, changes.iter().map(change))).await
}

/// Records that every status of this list is about to change. If this fails, none may change.
pub(super) async fn filling(
    request: &HttpRequest,
    api: &Api,
    pool: &PoolApi,
    list: ListId,
    value: u64,
    beats: u32,
) -> Result<Changing, Problem> {
    begin(request, api, || Action::Fill { pool: (&pool.id).into(), list: list.to_string(), value, beats })
        .await
}

/// Records that this list is about to be retired. If this fails, it must not be retired.
pub(super) async fn retiring(
    request: &HttpRequest,
    api: &Api,
    pool: &PoolApi,
    list: ListId,
    force: bool,
) -> Result<Changing, Problem> {
    begin(request, api, || Action::Retire { pool: (&pool.id).into(), list: list.to_string(), force }).await
}

/// Records that an operator is about to change pools or keys. If this fails, nothing may change.
pub(super) async fn administering(
    request: &HttpRequest,
    api: &Api,
    action: impl FnOnce() -> Action,
) -> Result<Changing, Problem> {
    begin(request, api, action).await
}

async fn begin(
    request: &HttpRequest,
    api: &Api,
    action: impl FnOnce() -> Action,
) -> Result<Changing, Problem> {
    if !api.audit.is_on() {
        return Ok(Changing(None));
    }
    request.extensions_mut().insert(Told);
    let begun = Box::pin(api.within(api.audit.begin(Line::new(caller(request), action())))).await;
    let begun = begun.and_then(Result::ok);
    begun.map(|begun| Changing(Some(begun))).ok_or_else(|| Problem::unaudited("nothing was changed"))
}

/// A change whose beginning is in the trail.
#[must_use = "the trail lacks the outcome of the change"]
pub(super) struct Changing(Option<Begun>);

impl Changing {
    /// Records the outcome. A success that is not in the trail is not reported to the client.
    pub(super) async fn ended<T>(self, api: &Api, outcome: Result<T, Problem>) -> Result<T, Problem> {
        let Some(begun) = self.0 else { return outcome };
        let told = match &outcome {
            Ok(_) => Outcome::Done,
            Err(problem) if problem.is_of_the_server() => Outcome::Unknown,
            Err(problem) => Outcome::Refused { code: problem.code().to_owned() },
        };
        let written = Box::pin(api.within(begun.end(told))).await.and_then(Result::ok);
        match (outcome, written) {
            (Ok(_), None) => {
                Err(Problem::unaudited("the change was made, but is not recorded; repeat the request"))
            }
            (outcome, _) => outcome,
        }
    }
}

/// Records a request that was refused because of its sender.
pub(super) fn answered<B>(response: &ServiceResponse<B>) {
    if !matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return;
    }
    let request = response.request();
    let Some(api) = request.app_data::<web::Data<Api>>().filter(|api| api.audit.is_on()) else { return };
    if request.extensions().contains::<Told>() {
        return;
    }
    if api.refusals.limiter.check().is_err() {
        api.refusals.left_out.fetch_add(1, Relaxed);
        return;
    }
    let problem = response.response().error().and_then(|error| error.as_error::<Problem>());
    let refusal = Refusal {
        method: request.method().to_string(),
        route: request.match_pattern().unwrap_or_default(),
        status: response.status().as_u16(),
        code: problem.map_or("", Problem::code).to_owned(),
        from: client_address(request, &api.access()).map(|address| address.to_string()),
    };
    let line = Line::new(caller(request), Action::Refused(refusal));
    api.audit.record_unwaited(line.with_dropped(api.refusals.left_out.swap(0, Relaxed)));
}

/// The sender of this request: without a name until it is authenticated.
fn caller(request: &HttpRequest) -> Caller {
    let extensions = request.extensions();
    Caller {
        request: extensions.get::<RequestId>().map(RequestId::to_string),
        name: extensions.get::<CallerName>().map(|CallerName(name)| name.to_string()),
    }
}
