//! `PATCH /status-lists/update` and `batch-update`, and the older path that does the same.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::{self, Body};
use super::problem::Problem;
use super::query;
use super::responses::{
    BadRequest, Forbidden, ListRetired, PayloadTooLarge, PreconditionFailed, RateLimitReached,
    RequestTimeout, Unauthorized, Unavailable, UnsupportedMediaType,
};
use super::value::{NewStatus, Requested, Value, WrittenIndex, expected};
use super::{Api, PoolApi, trail};
use crate::model::api_key::Scope;
use crate::status_list::ListId;
use crate::store::{Refusal, StatusChange};
use crate::update::UpdateError;

/// One reference and its new status.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Update {
    /// `uri` of the reference, as it was handed out.
    #[schema(example = "https://status.example/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d")]
    uri: String,
    /// `index` of the reference, as it was handed out.
    #[schema(value_type = u64, example = 4711)]
    index: WrittenIndex,
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

impl Body for Update {
    const NAMES: &'static [(&'static str, &'static [&'static str])] =
        &[("uri", &[]), ("index", &[]), ("value", &[]), ("expected", &[])];
}

impl Body for BatchUpdate {
    const NAMES: &'static [(&'static str, &'static [&'static str])] = &[
        ("statusListReferences", &["uri", "index"]),
        ("value", &[]),
        ("expected", &[]),
        ("updates", &["uri", "index", "value", "expected"]),
    ];
}

/// One reference.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Target {
    /// `uri` of the reference, as it was handed out.
    #[schema(example = "https://status.example/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d")]
    uri: String,
    /// `index` of the reference, as it was handed out.
    #[schema(value_type = u64, example = 4711)]
    index: WrittenIndex,
}

impl Update {
    /// Returns the change, whose `uri` is that of `list`.
    fn of_list(&self, list: ListId) -> Result<Requested, Problem> {
        let number = |value: Value| value.number(&self.uri);
        let (index, value) = (self.index.number(&self.uri)?, number(self.value)?);
        Ok(Requested { list, index, value, expected: self.expected.map(number).transpose()? })
    }
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
    operation_id = "setStatus",
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
    query::none(&request, &api)?;
    let update: Update = body::read(&request, payload, &api).await?;
    let (list, pool) = api.find(&update.uri).await?;
    let pool = &*caller.may_use(pool, Scope::Update)?;
    apply(&request, &api, pool, vec![update.of_list(list)?], None).await
}

/// Set several statuses
///
/// `PATCH /status-lists/batch-update`: sets all or none. All references must be of one pool.
#[utoipa::path(
    operation_id = "setStatuses",
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
    query::none(&request, &api)?;
    let batch: BatchUpdate = body::read(&request, payload, &api).await?;
    let (name, updates) = batch.changes()?;
    let max = api.limits.batch_max;
    if updates.is_empty() || updates.len() > max {
        let message = format!("{name} must have 1 to {max} entries, got {}", updates.len());
        return Err(Problem::bad_request(message));
    }
    let mut changes = Vec::with_capacity(updates.len());
    let mut values = HashMap::with_capacity(updates.len());
    let mut only_pool: Option<Arc<PoolApi>> = None;
    let mut latest: Option<(&str, ListId)> = None;
    for (number, target) in updates.iter().enumerate() {
        let in_entry = |problem: Problem| problem.and(Entry(name, number));
        // Most batches name one list many times.
        let list = match latest.filter(|(uri, _)| *uri == target.uri) {
            Some((_, list)) => list,
            None => {
                let (list, pool) = api.find(&target.uri).await.map_err(in_entry)?;
                // About the caller, whatever the entry.
                let pool = caller.may_use(pool, Scope::Update)?;
                if let Some(only) = only_pool.as_ref().filter(|only| only.id != pool.id) {
                    let message = format!(
                        "All references of a batch-update must be of one pool; split the request: the first are of {}, this one is of {}",
                        only.id, pool.id
                    );
                    return Err(in_entry(Problem::bad_request(message)));
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
        let change = target.of_list(list).map_err(in_entry)?;
        if values.insert((list, change.index), change.value).is_some_and(|other| other != change.value) {
            return Err(in_entry(Problem::contradiction(&target.uri, change.index)));
        }
        changes.push(change);
    }
    let pool = only_pool.expect("a batch has at least one entry, whose pool was found");
    apply(&request, &api, &pool, changes, Some(name)).await
}

/// Set one status
///
/// `POST /api/update-status`
#[utoipa::path(
    operation_id = "setStatusOnOlderPath",
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
    batch: Option<&str>,
) -> Result<HttpResponse, Problem> {
    // The entry of a batch, by its reference.
    let in_entry = |problem: Problem, list: &ListId, index: u32| {
        let is_it = |change: &Requested| change.list == *list && change.index == u64::from(index);
        match (batch, requested.iter().position(is_it)) {
            (Some(name), Some(number)) => problem.and(Entry(name, number)),
            _ => problem,
        }
    };
    if let Some(handed_out) = &pool.handed_out {
        // An index outside the list is refused below, with a code of its own.
        let index = |change: &Requested| Some((change.list, pool.capacity.index(change.index).ok()?.get()));
        let indices = requested.iter().filter_map(index);
        let missing = handed_out.first_missing(&api.store, pool.capacity.entries(), indices);
        if let Some((list, index)) = Box::pin(api.ask(pool, missing)).await? {
            let problem = Problem::not_allocated(&pool.base.join(&list), index);
            return Err(in_entry(problem, &list, index));
        }
    }
    let changing = trail::updating(request, api, pool, &requested).await?;
    let checked = |(number, change): (usize, &Requested)| {
        let checked = change.checked(pool);
        checked.map_err(|problem| {
            batch.into_iter().fold(problem, |problem, name| problem.and(Entry(name, number)))
        })
    };
    let changes = requested.iter().enumerate().map(checked).collect::<Result<_, _>>();
    let applied = match changes {
        Ok(changes) => update_durably(api, pool, changes, in_entry).await,
        Err(refusal) => Err(refusal),
    };
    changing.ended(api, applied).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn update_durably(
    api: &Api,
    pool: &PoolApi,
    changes: Vec<StatusChange>,
    in_entry: impl Fn(Problem, &ListId, u32) -> Problem,
) -> Result<(), Problem> {
    let applied =
        api.within(pool.updater.update(changes, api.deadline())).await.ok_or_else(Problem::timed_out)?;
    applied.map_err(|error| {
        let place = match &error {
            UpdateError::Refused(
                Refusal::FinalStatus { list, index, .. } | Refusal::NotAsExpected { list, index, .. },
            ) => Some((*list, index.get())),
            _ => None,
        };
        let problem = Problem::from_update(error, &pool.base);
        match place {
            Some((list, index)) => in_entry(problem, &list, index),
            None => problem,
        }
    })
}

/// An entry of a batch, for messages.
struct Entry<'a>(&'a str, usize);

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {}[{}]", self.0, self.1)
    }
}

/// Parses these bytes as each body, up to the list's `uri`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_any(bytes: &[u8]) {
    let base: crate::status_list::BaseUri = "https://example.com/lists".parse().expect("a URL");
    let list = |uri: &str| base.list_id(uri).map(|list| assert_eq!(base.join(&list), uri));
    match body::parse::<Update>(bytes) {
        Ok(update) => {
            let _ = (list(&update.uri), update.index.number(&update.uri), update.value.number(&update.uri));
        }
        Err(problem) => {
            assert!(problem.to_string().len() < 1000, "the message is long: it quotes the input in full")
        }
    }
    if let Ok((_, updates)) = body::parse::<BatchUpdate>(bytes).and_then(BatchUpdate::changes) {
        updates.iter().for_each(|update| {
            let _ = (list(&update.uri), update.index.number(&update.uri), update.value.number(&update.uri));
        });
    }
}
