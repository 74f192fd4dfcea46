//! `PATCH /status-lists/update` and `batch-update`, and the older path that does the same.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::body;
use super::problem::Problem;
use super::responses::{
    BadRequest, Forbidden, ListRetired, PayloadTooLarge, PreconditionFailed, RateLimitReached,
    RequestTimeout, Unauthorized, Unavailable, UnsupportedMediaType,
};
use super::value::{NewStatus, Requested, Value, expected};
use super::{Api, PoolApi, trail};
use crate::model::api_key::Scope;
use crate::status_list::ListId;
use crate::store::StatusChange;

/// One reference and its new status.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Update {
    /// `uri` of the reference, as it was handed out.
    #[schema(example = "https://status.example/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d")]
    uri: String,
    /// `index` of the reference, as it was handed out.
    #[schema(example = 4711)]
    index: u64,
    #[schema(value_type = NewStatus)]
    value: Value,
    /// The status that the caller believes is stored. If another one is, nothing is changed and the answer is 412.
    #[schema(value_type = NewStatus, required = false)]
    #[serde(default, deserialize_with = "expected")]
    expected: Option<Value>,
}

/// Several references of one pool and their new statuses.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BatchUpdate {
    /// References that all get `value`: at least one, and at most as many as the settings allow.
    #[schema(min_items = 1)]
    #[serde(default, deserialize_with = "body::objects")]
    status_list_references: Option<Vec<Target>>,
    #[schema(value_type = Option<NewStatus>)]
    value: Option<Value>,
    /// Beside `value`: the status that the caller believes is stored for each reference. If one has another, nothing is changed
    /// and the answer is 412.
    #[schema(value_type = NewStatus, required = false)]
    #[serde(default, deserialize_with = "expected")]
    expected: Option<Value>,
    /// In place of these: references with a value each.
    #[schema(min_items = 1)]
    #[serde(default, deserialize_with = "body::objects")]
    updates: Option<Vec<Update>>,
}

/// One reference.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Target {
    /// `uri` of the reference, as it was handed out.
    #[schema(example = "https://status.example/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d")]
    uri: String,
    /// `index` of the reference, as it was handed out.
    #[schema(example = 4711)]
    index: u64,
}

impl BatchUpdate {
    /// Returns the changes, and the name of the member that holds them.
    fn changes(self) -> Result<(&'static str, Vec<Update>), Problem> {
        match (self.status_list_references, self.value, self.updates) {
            (Some(targets), Some(value), None) => {
                let expected = self.expected;
                let update = |Target { uri, index }| Update { uri, index, value, expected };
                Ok(("statusListReferences", targets.into_iter().map(update).collect()))
            }
            (None, None, Some(_)) if self.expected.is_some() => Err(Problem::bad_request(
                "`expected` beside `updates` has no meaning; give each of the updates its own",
            )),
            (None, None, Some(updates)) => Ok(("updates", updates)),
            _ => Err(Problem::bad_request(
                "The body must have either `statusListReferences` and one `value` for all, or `updates` with a value each",
            )),
        }
    }
}

/// Set one status
///
/// `PATCH /status-lists/update`: durable when answered with 204, and published on the next beat of the pool. After any other answer
/// the change is not acknowledged: repeat the request if you still want it.
#[utoipa::path(
    patch,
    path = "/status-lists/update",
    tag = "statuses",
    security(("api-key" = []), ("bearer" = [])),
    request_body = Update,
    responses(
        (status = 204, description = "The status is set"),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 408, response = RequestTimeout),
        (status = 410, response = ListRetired),
        (status = 412, response = PreconditionFailed),
        (status = 413, response = PayloadTooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn update(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of(&request, &api).await?;
    let update: Update = body::read(&request, payload, &api).await?;
    let (list, pool) = api.find(&update.uri).await?;
    let expected = update.expected.map(|expected| expected.number());
    let change = Requested { list, index: update.index, value: update.value.number(), expected };
    apply(&request, &api, caller.may_use(pool, Scope::Update)?, vec![change]).await
}

/// Set several statuses
///
/// `PATCH /status-lists/batch-update`: sets all or none. All references must be of one pool.
#[utoipa::path(
    patch,
    path = "/status-lists/batch-update",
    tag = "statuses",
    security(("api-key" = []), ("bearer" = [])),
    request_body = BatchUpdate,
    responses(
        (status = 204, description = "All statuses are set"),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 408, response = RequestTimeout),
        (status = 410, response = ListRetired),
        (status = 412, response = PreconditionFailed),
        (status = 413, response = PayloadTooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn batch_update(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of(&request, &api).await?;
    let batch: BatchUpdate = body::read(&request, payload, &api).await?;
    let (name, updates) = batch.changes()?;
    let max = api.limits.batch_max;
    if updates.is_empty() || updates.len() > max {
        let message = format!("{name} must have 1 to {max} entries, got {}", updates.len());
        return Err(Problem::bad_request(message));
    }
    let mut changes = Vec::with_capacity(updates.len());
    let mut values = HashMap::with_capacity(updates.len());
    let mut only_pool: Option<&PoolApi> = None;
    let mut latest: Option<(&str, ListId)> = None;
    for target in &updates {
        // Most batches name one list many times.
        let list = match latest.filter(|(uri, _)| *uri == target.uri) {
            Some((_, list)) => list,
            None => {
                let (list, pool) = api.find(&target.uri).await?;
                let pool = caller.may_use(pool, Scope::Update)?;
                if only_pool.is_some_and(|only| only.id != pool.id) {
                    return Err(Problem::bad_request(
                        "All references of a batch-update must be of one pool; split the request",
                    ));
                }
                only_pool = Some(pool);
                list
            }
        };
        latest = Some((&target.uri, list));
        // This thread also answers other callers.
        if changes.len() % 4096 == 4095 {
            tokio::task::yield_now().await;
        }
        let value = target.value.number();
        if values.insert((list, target.index), value).is_some_and(|other| other != value) {
            return Err(Problem::contradiction(&target.uri, target.index));
        }
        let expected = target.expected.map(|expected| expected.number());
        changes.push(Requested { list, index: target.index, value, expected });
    }
    let pool = only_pool.expect("a batch has at least one entry, whose pool was found");
    apply(&request, &api, pool, changes).await
}

/// Set one status
///
/// `POST /api/update-status`
#[utoipa::path(
    post,
    path = "/api/update-status",
    tag = "older paths",
    security(("api-key" = []), ("bearer" = [])),
    request_body = Update,
    responses(
        (status = 204, description = "The status is set"),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 408, response = RequestTimeout),
        (status = 410, response = ListRetired),
        (status = 412, response = PreconditionFailed),
        (status = 413, response = PayloadTooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 429, response = RateLimitReached),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn older_update(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    update(request, payload, api).await
}

async fn apply(
    request: &HttpRequest,
    api: &Api,
    pool: &PoolApi,
    requested: Vec<Requested>,
) -> Result<HttpResponse, Problem> {
    if let Some(handed_out) = &pool.handed_out {
        // An index outside the list is refused below, with a code of its own.
        let index = |change: &Requested| Some((change.list, pool.capacity.index(change.index).ok()?.get()));
        let indices = requested.iter().filter_map(index);
        let missing = handed_out.first_missing(&api.store, pool.capacity.entries(), indices);
        if let Some((list, index)) = Box::pin(api.ask(pool, missing)).await? {
            return Err(Problem::not_allocated(&pool.base.join(&list), index));
        }
    }
    let changing = trail::updating(request, api, pool, &requested).await?;
    let changes = requested.iter().map(|change| change.checked(pool)).collect::<Result<_, _>>();
    let applied = match changes {
        Ok(changes) => update_durably(api, pool, changes).await,
        Err(refusal) => Err(refusal),
    };
    changing.ended(api, applied).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn update_durably(api: &Api, pool: &PoolApi, changes: Vec<StatusChange>) -> Result<(), Problem> {
    let applied =
        api.within(pool.updater.update(changes, api.deadline())).await.ok_or_else(Problem::timed_out)?;
    applied.map_err(|error| Problem::from_update(error, &pool.base))
}

/// Parses these bytes as each body, up to the list's `uri`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_any(bytes: &[u8]) {
    let base: crate::status_list::BaseUri = "https://example.com/lists".parse().expect("a URL");
    let list = |uri: &str| base.list_id(uri).map(|list| assert_eq!(base.join(&list), uri));
    match body::parse::<Update>(bytes) {
        Ok(update) => {
            let _ = (list(&update.uri), update.index, update.value.number());
        }
        Err(problem) => {
            assert!(problem.to_string().len() < 1000, "the message is long: it quotes the input in full")
        }
    }
    if let Ok((_, updates)) = body::parse::<BatchUpdate>(bytes).and_then(BatchUpdate::changes) {
        updates.iter().for_each(|update| {
            let _ = (list(&update.uri), update.index, update.value.number());
        });
    }
}
