//! `GET /pools/{pool}` and below: the pools, lists and statuses in the store. Never reads a token.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::problem::Problem;
use super::query::{self, Query};
use super::responses::{BadRequest, ListInUse, NotFound, Unauthorized, Unavailable};
use super::{Api, PoolApi, trail};
use crate::base::clock::Timestamp;
use crate::model::api_key::Scope;
use crate::store::ListRecord;

/// A pool: its shape, its times, and how much of it is used.
#[derive(Serialize, ToSchema)]
#[schema(as = Pool)]
#[serde(rename_all = "camelCase")]
struct PoolAnswer {
    pool: String,
    /// Bits per entry.
    bits: u8,
    /// Entries per list.
    size: u32,
    /// `ttl` of the tokens: for how many seconds verifiers may cache them.
    ttl: u64,
    /// `exp - iat` of the tokens, in seconds.
    list_lifetime: u64,
    /// The beat, in seconds: how long a change may wait for its publication.
    update_interval: u64,
    /// The formats in which lists are published.
    #[schema(value_type = Vec<String>, example = json!(["jwt", "cwt"]))]
    formats: Vec<&'static str>,
    /// `kid` of the signing key.
    key_id: String,
    /// Number of lists.
    lists: u64,
    references: Usage,
}

/// The pools that the caller may read.
#[derive(Serialize, ToSchema)]
struct Pools {
    pools: Vec<PoolAnswer>,
}

/// The references of a pool.
#[derive(Serialize, ToSchema)]
struct Usage {
    /// Handed out, or leased by an instance to be handed out.
    used: u64,
    /// Left in the open lists.
    free: u64,
    /// Buffered in this instance, to be handed out at once.
    ready: usize,
}

/// All lists of a pool.
#[derive(Serialize, ToSchema)]
struct Lists {
    lists: Vec<List>,
}

/// One list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct List {
    id: String,
    uri: String,
    /// References handed out, or leased by an instance to be handed out.
    used: u32,
    /// Whether references are still taken from it.
    open: bool,
    /// Whether it is retired: no longer published.
    retired: bool,
    /// Number of changes so far.
    version: u64,
    /// The version that is published; null before the first publication.
    published_version: Option<u64>,
    /// `iat` of the published token, in seconds since 1970.
    published_at: Option<u64>,
    /// The change of the whole list in progress, if a PATCH with `spread-beats` started one.
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<Spread>,
}

/// A change of a whole list that is spread over beats.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Spread {
    /// The status that every entry will have.
    value: u8,
    /// The requested number of beats.
    beats: u32,
    /// Entries that do not have it yet.
    entries_left: u32,
}

/// The stored status of one entry, and whether it is published.
#[derive(Serialize, ToSchema)]
#[schema(as = Stored)]
#[serde(rename_all = "camelCase")]
struct StatusAnswer {
    uri: String,
    index: u32,
    value: u8,
    /// A version of the list that has this status.
    version: u64,
    /// The version that is published; null before the first publication.
    published_version: Option<u64>,
    /// Whether the published list has this status.
    published: bool,
}

/// Get a pool
///
/// `GET /pools/{pool}`: its shape, its times, and how much of it is used.
#[utoipa::path(
    operation_id = "getPool",
    get,
    path = "/pools/{pool}",
    tag = "pools",
    security(("api-key" = []), ("bearer" = [])),
    params(("pool" = String, Path, example = "demo", description = "The pool's name")),
    responses(
        (status = 200, description = "The pool", body = PoolAnswer),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 404, response = NotFound),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn pool(
    request: HttpRequest,
    api: web::Data<Api>,
    pool: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let pool = &*Caller::of(&request, &api).await?.pool(&api, &pool, Scope::Read)?;
    query::none(&request, &api)?;
    Ok(HttpResponse::Ok().json(answer(&api, pool).await?))
}

/// Get all pools
///
/// `GET /pools`: those that the caller may read.
#[utoipa::path(
    operation_id = "getPools",
    get,
    path = "/pools",
    tag = "pools",
    security(("api-key" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The pools", body = Pools),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn pools(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let caller = Caller::of(&request, &api).await?;
    query::none(&request, &api)?;
    let mut pools = Vec::new();
    for pool in caller.pools(&api, Scope::Read) {
        pools.push(answer(&api, &pool).await?);
    }
    Ok(HttpResponse::Ok().json(Pools { pools }))
}

async fn answer(api: &Api, pool: &PoolApi) -> Result<PoolAnswer, Problem> {
    let usage = api.ask(pool, api.store.usage(&pool.id)).await?;
    let facts = pool.facts.load();
    Ok(PoolAnswer {
        pool: pool.id.to_string(),
        bits: facts.bits,
        size: facts.size,
        ttl: facts.ttl_secs,
        list_lifetime: facts.list_lifetime_secs,
        update_interval: facts.update_interval_secs,
        formats: facts.formats.clone(),
        key_id: (facts.key_id)(),
        lists: usage.lists,
        references: Usage { used: usage.leased, free: usage.free, ready: pool.allocator.ready() },
    })
}

/// Get all lists of a pool
///
/// `GET /pools/{pool}/lists`
#[utoipa::path(
    operation_id = "getLists",
    get,
    path = "/pools/{pool}/lists",
    tag = "pools",
    security(("api-key" = []), ("bearer" = [])),
    params(("pool" = String, Path, example = "demo", description = "The pool's name")),
    responses(
        (status = 200, description = "The lists", body = Lists),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 404, response = NotFound),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn lists(
    request: HttpRequest,
    api: web::Data<Api>,
    pool: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let pool = &*Caller::of(&request, &api).await?.pool(&api, &pool, Scope::Read)?;
    query::none(&request, &api)?;
    let lists = api.ask(pool, api.store.lists(&pool.id)).await?;
    let lists = lists.iter().map(|list| describe(pool, list)).collect();
    Ok(HttpResponse::Ok().json(Lists { lists }))
}

/// For the description only.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the handler reads it")]
struct Retirement {
    /// Retire it although credentials with references of it may still be valid.
    #[param(default = false, required = false)]
    force: bool,
}

/// Retire a list
///
/// `DELETE /pools/{pool}/lists/{id}[?force=true]`: takes no more updates. At the next beat its tokens are removed, and its `uri`
/// answers 410.
#[utoipa::path(
    operation_id = "retireList",
    delete,
    path = "/pools/{pool}/lists/{id}",
    tag = "pools",
    security(("api-key" = []), ("bearer" = [])),
    params(
        ("pool" = String, Path, example = "demo", description = "The pool's name"),
        ("id" = String, Path, example = "5f1ae880-251c-4ec2-b3d0-b61ea62a306d", description = "The list: the last segment of its `uri`"),
        Retirement,
    ),
    responses(
        (status = 204, description = "The list is retired"),
        (status = 400, response = BadRequest),
        (status = 409, response = ListInUse),
        (status = 401, response = Unauthorized),
        (status = 404, response = NotFound),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn retire(
    request: HttpRequest,
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (pool, id) = path.into_inner();
    let caller = Caller::of(&request, &api).await?;
    let pool = &*caller.pool(&api, &pool, Scope::Update)?;
    let query = Query::of(&request, &api, &["force"])?;
    let force = query.get("force", "true or false")?.unwrap_or(false);
    let list = id.parse().map_err(|_| Problem::no_such_list(&id))?;
    let record = api.ask(pool, api.store.list(list)).await?.filter(|record| record.pool == pool.id);
    let record = record.ok_or_else(|| Problem::no_such_list(&id))?;
    if !force && let Some(why) = still_in_use(&record, pool.facts.load().reference_lifetime, api.clock.now())
    {
        return Err(Problem::list_in_use(&list, &why));
    }
    let changing = trail::retiring(&request, &api, pool, list, force).await?;
    let retired = api.ask(pool, api.store.retire_list(list, api.deadline())).await;
    // Also after a failure: it is then unknown whether the list was retired.
    pool.allocator.forget(&list);
    changing.ended(&api, retired).await?;
    tracing::info!(pool = %pool.id, list.id = %list, caller = caller.name(), force, "retired a list");
    Ok(HttpResponse::NoContent().finish())
}

/// Why credentials with references of a list may still be valid.
fn still_in_use(record: &ListRecord, lifetime: Option<Duration>, now: Timestamp) -> Option<String> {
    let leased_at = record.leased_at?;
    if record.retired {
        return None;
    }
    if record.open {
        return Some("references of it are still handed out".to_owned());
    }
    let Some(lifetime) = lifetime else {
        return Some(
            "the validity of its references is unknown (`reference-lifetime` of the pool)".to_owned(),
        );
    };
    let until = leased_at.plus(lifetime);
    (until > now)
        .then(|| format!("its references may be valid for {} more seconds", until.since(now).as_secs() + 1))
}

/// Get one status
///
/// `GET /pools/{pool}/lists/{id}/statuses/{idx}`: the stored status, and whether it is published.
#[utoipa::path(
    operation_id = "getStatus",
    get,
    path = "/pools/{pool}/lists/{id}/statuses/{idx}",
    tag = "pools",
    security(("api-key" = []), ("bearer" = [])),
    params(
        ("pool" = String, Path, example = "demo", description = "The pool's name"),
        ("id" = String, Path, example = "5f1ae880-251c-4ec2-b3d0-b61ea62a306d", description = "The list: the last segment of its `uri`"),
        ("idx" = u64, Path, example = 4711, description = "The index of the entry"),
    ),
    responses(
        (status = 200, description = "The status", body = StatusAnswer),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 404, response = NotFound),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn status(
    request: HttpRequest,
    api: web::Data<Api>,
    path: web::Path<(String, String, String)>,
) -> Result<HttpResponse, Problem> {
    let (pool, id, idx) = path.into_inner();
    let pool = &*Caller::of(&request, &api).await?.pool(&api, &pool, Scope::Read)?;
    let list = id.parse().map_err(|_| Problem::no_such_list(&id))?;
    query::none(&request, &api)?;
    let idx: i64 = idx.parse().map_err(|_| {
        Problem::bad_request(format!("The index in the path must be a number from 0, got `{idx}`"))
    })?;
    let record = api.ask(pool, api.store.list(list)).await?.filter(|record| record.pool == pool.id);
    let record = record.ok_or_else(|| Problem::no_such_list(&id))?;
    let index = u64::try_from(idx).ok().and_then(|idx| pool.capacity.index(idx).ok());
    let entries = pool.capacity.entries();
    let index =
        index.ok_or_else(|| Problem::index_out_of_bounds(&pool.base.join(&list), idx, Some(entries)))?;
    let (value, version) = api.ask(pool, api.store.status(list, index)).await?;
    let published = record.published.map(|published| published.version);
    Ok(HttpResponse::Ok().json(StatusAnswer {
        uri: pool.base.join(&list),
        index: index.get(),
        value: value.value(),
        version: version.0,
        published_version: published.map(|published| published.0),
        published: published.is_some_and(|published| published >= version),
    }))
}

fn describe(pool: &PoolApi, list: &ListRecord) -> List {
    let spread = list.spread.map(|spread| Spread {
        value: spread.value.value(),
        beats: spread.beats,
        entries_left: pool.capacity.entries().saturating_sub(spread.done),
    });
    List {
        id: list.id.to_string(),
        uri: pool.base.join(&list.id),
        used: list.leased,
        open: list.open,
        retired: list.retired,
        version: list.version.0,
        published_version: list.published.map(|published| published.version.0),
        published_at: list.published.map(|published| published.iat.secs()),
        spread,
    }
}
