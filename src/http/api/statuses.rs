//! `PATCH /status-lists/update` and `batch-update`, and the older path of the same meaning.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, dev, web};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::body;
use super::openapi::{
    BadRequest, Forbidden, ListRetired, PayloadTooLarge, RateLimitReached, RequestTimeout, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use super::pools::ask;
use super::problem::Problem;
use super::{Api, PoolApi, trail};
use crate::model::api_key::Scope;
use crate::status_list::{ListId, Status};
use crate::store::StatusChange;

/// One reference and its new status.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Update {
    /// The list, as it was handed out.
    #[schema(example = "https://status.example/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d")]
    uri: String,
    /// The entry in it.
    #[schema(example = 4711)]
    index: u64,
    #[schema(value_type = NewStatus)]
    value: Value,
}

/// Several references of one pool and their new status.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BatchUpdate {
    /// With one `value` for all of them: at least one, and at most what the settings allow.
    #[schema(min_items = 1)]
    #[serde(default, deserialize_with = "body::objects")]
    status_list_references: Option<Vec<Target>>,
    #[schema(value_type = Option<NewStatus>)]
    value: Option<Value>,
    /// Instead of both, with a value for each.
    #[schema(min_items = 1)]
    #[serde(default, deserialize_with = "body::objects")]
    updates: Option<Vec<Update>>,
}

/// One reference.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Target {
    /// The list, as it was handed out.
    #[schema(example = "https://status.example/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d")]
    uri: String,
    /// The entry in it.
    #[schema(example = 4711)]
    index: u64,
}

/// A status as clients write it: its number, or its registered name.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[schema(as = Status, example = "invalid")]
#[serde(untagged, expecting = "`value` must be a number from 0, or \"valid\", \"invalid\" or \"suspended\"")]
pub(super) enum Value {
    Number(u64),
    Name(Name),
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[schema(as = StatusName)]
#[serde(rename_all = "lowercase")]
pub(super) enum Name {
    Valid,
    Invalid,
    Suspended,
}

/// Any type of the name `Value` is serde_json's to utoipa; it must be told another.
pub(super) type NewStatus = Value;

/// One change as the client wrote it.
pub(super) struct Requested {
    pub(super) list: ListId,
    pub(super) index: u64,
    pub(super) value: u64,
}

impl Requested {
    /// The change, if the pool's lists have the index and may hold the value.
    fn checked(&self, api: &Api, pool: &PoolApi) -> Result<StatusChange, Problem> {
        let &Self { list, index, value } = self;
        let uri = || api.base.join(&list);
        let index = pool.capacity.index(index).map_err(|_| Problem::index_out_of_bounds(&uri(), index))?;
        let status =
            pool.statuses.check(value).map_err(|why| Problem::value_out_of_range(&uri(), value, &why))?;
        Ok(StatusChange { list, index, status })
    }
}

impl BatchUpdate {
    /// What its list of entries is called, and the changes that it asks for.
    fn changes(self) -> Result<(&'static str, Vec<Update>), Problem> {
        match (self.status_list_references, self.value, self.updates) {
            (Some(targets), Some(value), None) => {
                let update = |Target { uri, index }| Update { uri, index, value };
                Ok(("statusListReferences", targets.into_iter().map(update).collect()))
            }
            (None, None, Some(updates)) => Ok(("updates", updates)),
            _ => Err(Problem::bad_request(
                "The body must have either `statusListReferences` and one `value` for all, or `updates` with a value each",
            )),
        }
    }
}

impl Value {
    pub(super) fn number(&self) -> u64 {
        let status = match self {
            Self::Number(number) => return *number,
            Self::Name(Name::Valid) => Status::VALID,
            Self::Name(Name::Invalid) => Status::INVALID,
            Self::Name(Name::Suspended) => Status::SUSPENDED,
        };
        status.value().into()
    }
}

/// Set one status
///
/// `PATCH /status-lists/update`: durable when it is answered, and published on the next beat of the pool.
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
    let update: Update = read(&request, payload, &api).await?;
    let (list, pool) = api.find(&update.uri).await?;
    let change = Requested { list, index: update.index, value: update.value.number() };
    apply(&request, &api, caller.may_use(pool, Scope::Update)?, vec![change]).await
}

/// Set several statuses
///
/// `PATCH /status-lists/batch-update`: all or nothing, in one pool.
#[utoipa::path(
    patch,
    path = "/status-lists/batch-update",
    tag = "statuses",
    security(("api-key" = []), ("bearer" = [])),
    request_body = BatchUpdate,
    responses(
        (status = 204, description = "All of them are set"),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 408, response = RequestTimeout),
        (status = 410, response = ListRetired),
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
    let batch: BatchUpdate = read(&request, payload, &api).await?;
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
                        "One batch-update is for lists of one pool; split the request",
                    ));
                }
                only_pool = Some(pool);
                list
            }
        };
        latest = Some((&target.uri, list));
        let value = target.value.number();
        if values.insert((list, target.index), value).is_some_and(|other| other != value) {
            return Err(Problem::contradiction(&target.uri, target.index));
        }
        changes.push(Requested { list, index: target.index, value });
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

pub(super) async fn read<T: serde::de::DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    api: &Api,
) -> Result<T, Problem> {
    let mut payload: dev::Payload = payload.into_inner();
    body::json(request, &mut payload, api).await
}

async fn apply(
    request: &HttpRequest,
    api: &Api,
    pool: &PoolApi,
    requested: Vec<Requested>,
) -> Result<HttpResponse, Problem> {
    if let Some(handed_out) = &pool.handed_out {
        // An index that the list does not have is refused below, by its own name.
        let index = |change: &Requested| Some((change.list, pool.capacity.index(change.index).ok()?.get()));
        let indices = requested.iter().filter_map(index);
        let missing = handed_out.first_missing(&api.store, pool.capacity.entries(), indices);
        if let Some((list, index)) = Box::pin(ask(api, pool, missing)).await? {
            return Err(Problem::not_allocated(&api.base.join(&list), index));
        }
    }
    let changing = trail::updating(request, api, pool, &requested).await?;
    let changes = requested.iter().map(|change| change.checked(api, pool)).collect::<Result<_, _>>();
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
    applied.map_err(|error| Problem::from_update(error, &api.base))
}

/// These bytes as each body, up to the list that they name.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_any(bytes: &[u8]) {
    let base: crate::status_list::BaseUri = "https://example.com/lists".parse().expect("a URL");
    let list = |uri: &str| base.list_id(uri).map(|list| assert_eq!(base.join(&list), uri));
    match body::parse::<Update>(bytes) {
        Ok(update) => {
            let _ = (list(&update.uri), update.index, update.value.number());
        }
        Err(problem) => assert!(problem.to_string().len() < 1000, "an answer grows with its question"),
    }
    if let Ok((_, updates)) = body::parse::<BatchUpdate>(bytes).and_then(BatchUpdate::changes) {
        updates.iter().for_each(|update| {
            let _ = (list(&update.uri), update.index, update.value.number());
        });
    }
}
