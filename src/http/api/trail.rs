//! What the handlers tell the audit trail: each one line of it, here the rest. Where the trail is off, all of it does nothing.

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

/// One refusal a second is told, more in a burst: strangers must not fill the disk. The others are counted.
const REFUSALS_EVERY: Duration = Duration::from_secs(1);
const REFUSALS_BURST: NonZeroU32 = NonZeroU32::new(100).expect("it is not 0");

/// Bounds how many refusals are told.
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

/// A request of which the trail tells already.
struct Told;

/// Tells that so many references are handed out. Without that they must not be.
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
    // Boxed, as what follows: without a trail, requests must not carry the room for it.
    let written = Box::pin(api.within(api.audit.record(line))).await.and_then(Result::ok);
    written.map(|_| ()).ok_or_else(|| Problem::unaudited("no reference was handed out"))
}

/// Tells that these changes are about to be made. Without that they must not be.
pub(super) async fn updating(
    request: &HttpRequest,
    api: &Api,
    pool: &PoolApi,
    changes: &[Requested],
) -> Result<Changing, Problem> {
    let change = |change: &Requested| Change { list: change.list, index: change.index, value: change.value };
    begin(request, api, || Action::update(&pool.id, changes.iter().map(change))).await
}

/// Tells that every status of this list is about to be changed. Without that it must not be.
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

/// Tells that this list is about to be retired. Without that it must not be.
pub(super) async fn retiring(
    request: &HttpRequest,
    api: &Api,
    pool: &PoolApi,
    list: ListId,
    force: bool,
) -> Result<Changing, Problem> {
    begin(request, api, || Action::Retire { pool: (&pool.id).into(), list: list.to_string(), force }).await
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

/// A change of which the trail says that it was begun.
#[must_use = "the trail does not say what became of the change"]
pub(super) struct Changing(Option<Begun>);

impl Changing {
    /// Tells what became of it. Nobody is told of a success that the trail does not know.
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
                Err(Problem::unaudited("the change was made, but is not told; repeat the request"))
            }
            (outcome, _) => outcome,
        }
    }
}

/// Tells of a request that was refused because of who sent it.
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
    api.audit.note(line.after(api.refusals.left_out.swap(0, Relaxed)));
}

/// Who sends this request: nobody with a name before they were let in.
fn caller(request: &HttpRequest) -> Caller {
    let extensions = request.extensions();
    Caller {
        request: extensions.get::<RequestId>().map(RequestId::to_string),
        name: extensions.get::<CallerName>().map(|CallerName(name)| name.to_string()),
    }
}
