//! `PATCH /status-lists/update` and `batch-update`, and the older path of the same meaning.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, dev, web};
use serde::Deserialize;

use super::auth::Caller;
use super::body;
use super::pools::ask;
use super::problem::Problem;
use super::{Api, PoolApi, trail};
use crate::issuer::Scope;
use crate::status_list::{ListId, Status};
use crate::store::StatusChange;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    uri: String,
    index: u64,
    value: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BatchUpdate {
    status_list_references: Option<Vec<Target>>,
    value: Option<Value>,
    updates: Option<Vec<Update>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    uri: String,
    index: u64,
}

/// A status as clients write it: its number, or its registered name.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "`value` must be a number from 0, or \"valid\", \"invalid\" or \"suspended\"")]
pub(super) enum Value {
    Number(u64),
    Name(Name),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Name {
    Valid,
    Invalid,
    Suspended,
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

/// `PATCH /status-lists/update`
pub(super) async fn update(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of(&request, &api).await?;
    let update: Update = read(&request, payload, &api).await?;
    let (list, pool) = api.find(&update.uri).await?;
    let change = StatusChange { list, idx: update.index, value: update.value.number() };
    apply(&request, &api, caller.may_use(pool, Scope::Update)?, vec![change]).await
}

/// `PATCH /status-lists/batch-update`: all or nothing, in one pool.
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
        changes.push(StatusChange { list, idx: target.index, value });
    }
    let pool = only_pool.expect("a batch has at least one entry, whose pool was found");
    apply(&request, &api, pool, changes).await
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
    changes: Vec<StatusChange>,
) -> Result<HttpResponse, Problem> {
    if let Some(handed_out) = &pool.handed_out {
        // What is no index of the list the store refuses, by its own name.
        let index = |change: &StatusChange| Some((change.list, pool.capacity.index(change.idx).ok()?.get()));
        let indices = changes.iter().filter_map(index);
        let missing = handed_out.first_missing(&api.store, pool.capacity.entries(), indices);
        if let Some((list, index)) = ask(api, pool, missing).await? {
            return Err(Problem::not_allocated(&api.base.join(&list), index));
        }
    }
    let changing = trail::updating(request, api, pool, &changes).await?;
    let applied = api.within(pool.updater.update(changes)).await.ok_or_else(Problem::timed_out);
    let applied = applied.and_then(|applied| applied.map_err(|error| Problem::from_update(error, &api.base)));
    changing.ended(api, applied).await?;
    Ok(HttpResponse::NoContent().finish())
}
