//! `GET /pools/{pool}` and below: what the store knows, never a token.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Caller;
use super::problem::Problem;
use super::{Api, PoolApi};
use crate::clock::Timestamp;
use crate::store::{ListRecord, StoreError};

/// `GET /pools/{pool}`: what issuers agree on, and how much is used.
pub(super) async fn pool(
    request: HttpRequest,
    api: web::Data<Api>,
    pool: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let pool = Caller::of(&request, &api)?.pool(&api, &pool)?;
    let usage = ask(&api, pool, api.store.usage(&pool.id)).await?;
    let about = pool.about.load();
    Ok(HttpResponse::Ok().json(json!({
        "pool": pool.id.as_str(),
        "bits": about.bits,
        "size": about.size,
        "ttl": about.ttl_secs,
        "listLifetime": about.list_lifetime_secs,
        "updateInterval": about.update_interval_secs,
        "formats": about.formats,
        "keyId": (about.key_id)(),
        "lists": usage.lists,
        "references": { "used": usage.leased, "free": usage.free, "ready": pool.allocator.ready() },
    })))
}

/// `GET /pools/{pool}/lists`
pub(super) async fn lists(
    request: HttpRequest,
    api: web::Data<Api>,
    pool: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let pool = Caller::of(&request, &api)?.pool(&api, &pool)?;
    let lists = ask(&api, pool, api.store.lists(&pool.id)).await?;
    let lists: Vec<_> = lists.iter().map(|list| describe(&api, list)).collect();
    Ok(HttpResponse::Ok().json(json!({ "lists": lists })))
}

#[derive(Deserialize)]
pub(super) struct Retirement {
    #[serde(default)]
    force: bool,
}

/// `DELETE /pools/{pool}/lists/{id}[?force=true]`: at the next beat its tokens are removed, and its `uri` answers 410.
pub(super) async fn retire(
    request: HttpRequest,
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (pool, id) = path.into_inner();
    let pool = Caller::of(&request, &api)?.pool(&api, &pool)?;
    let query = web::Query::<Retirement>::from_query(request.query_string())
        .map_err(|error| Problem::bad_request(format!("The query is not what is expected: {error}")))?;
    let list = id.parse().map_err(|_| Problem::no_such_list(&id))?;
    let record = ask(&api, pool, api.store.list(list)).await?.filter(|record| record.pool == pool.id);
    let record = record.ok_or_else(|| Problem::no_such_list(&id))?;
    if !query.force
        && let Some(why) = still_in_use(&record, pool.about.load().reference_lifetime, api.clock.now())
    {
        return Err(Problem::list_in_use(&list, &why));
    }
    ask(&api, pool, api.store.retire_list(list)).await?;
    tracing::info!(pool = %pool.id, list.id = %list, force = query.force, "retired a list");
    Ok(HttpResponse::NoContent().finish())
}

/// Why references of a list may still be in credentials that are valid.
fn still_in_use(record: &ListRecord, lifetime: Option<Duration>, now: Timestamp) -> Option<String> {
    let leased_at = record.leased_at.map(Timestamp::from_millis)?;
    if record.retired {
        return None;
    }
    if record.open {
        return Some("it still gives references".to_owned());
    }
    let Some(lifetime) = lifetime else {
        return Some(
            "how long its references are valid is not known (`reference-lifetime` of the pool)".to_owned(),
        );
    };
    let until = leased_at.plus(lifetime);
    (until > now)
        .then(|| format!("its references may be valid for {} more seconds", until.since(now).as_secs() + 1))
}

/// `GET /pools/{pool}/lists/{id}/statuses/{idx}`: the stored value, and whether it is out yet.
pub(super) async fn status(
    request: HttpRequest,
    api: web::Data<Api>,
    path: web::Path<(String, String, String)>,
) -> Result<HttpResponse, Problem> {
    let (pool, id, idx) = path.into_inner();
    let pool = Caller::of(&request, &api)?.pool(&api, &pool)?;
    let list = id.parse().map_err(|_| Problem::no_such_list(&id))?;
    let idx: u64 = idx.parse().map_err(|_| Problem::bad_request("The index in the path is not a number"))?;
    let record = ask(&api, pool, api.store.list(list)).await?.filter(|record| record.pool == pool.id);
    let record = record.ok_or_else(|| Problem::no_such_list(&id))?;
    let index = pool.capacity.index(idx);
    let index = index.map_err(|_| Problem::index_out_of_bounds(&api.base.join(&list), idx))?;
    let (value, version) = ask(&api, pool, api.store.status(list, index)).await?;
    let published = record.published.map(|published| published.version);
    Ok(HttpResponse::Ok().json(json!({
        "uri": api.base.join(&list),
        "index": idx,
        "value": value.value(),
        "version": version,
        "publishedVersion": published,
        "published": published.is_some_and(|published| published >= version),
    })))
}

/// What the store answers, in time.
async fn ask<T>(
    api: &Api,
    pool: &PoolApi,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Problem> {
    let answer = api.within(answer).await.ok_or_else(Problem::unavailable)?;
    answer.map_err(|error| Problem::from_store(&error, &pool.id))
}

fn describe(api: &Api, list: &ListRecord) -> Value {
    json!({
        "id": list.id.to_string(),
        "uri": api.base.join(&list.id),
        "used": list.leased,
        "open": list.open,
        "retired": list.retired,
        "version": list.version,
        "publishedVersion": list.published.map(|published| published.version),
        "publishedAt": list.published.map(|published| published.iat),
    })
}
