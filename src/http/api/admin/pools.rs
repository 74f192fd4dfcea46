//! `/admin/pools`: pools of templates.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::super::body::{self, Body};
use super::super::query::Query;
use super::super::responses::{BadRequest, ListInUse, NotFound, Unavailable};
use super::{Api, Kind, Problem, admit, ask, change, query, read, shown};
use crate::audit::Action;
use crate::base::clock::Timestamp;
use crate::model::pool::PoolId;
use crate::model::registry::RegisteredPool;
use crate::store::ListRecord;

/// From so long after it was closed on, no instance hands out references of a pool.
const CLOSED_EVERYWHERE: Duration = Duration::from_secs(60);

/// A pool to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http::api) struct NewPool {
    /// The name: 1 to 64 of a-z, 0-9, `_` and `-`. It is a part of no `uri`. A name is used once, also after its pool is deleted.
    #[schema(example = "acme")]
    name: String,
    /// The template, of those in the settings.
    #[schema(example = "issuers")]
    template: String,
    /// What differs from the template, named as in the settings: `issuer`, `quotas`, `reference-lifetime`, and `title`.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({ "title": "Acme", "quotas": { "lists": 10 } }))]
    settings: Map<String, Value>,
}

impl Body for NewPool {
    const NAMES: &'static [(&'static str, &'static [&'static str])] =
        &[("name", &[]), ("template", &[]), ("settings", &[])];
}

/// What to change of a pool.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http::api) struct PoolPatch {
    /// A JSON Merge Patch (RFC 7396) of its settings: null returns to the template's.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({ "quotas": { "lists": 20 } }))]
    settings: Map<String, Value>,
    /// Whether it hands out no references. Its lists stay published and can be updated.
    #[serde(default)]
    closed: Option<bool>,
}

impl Body for PoolPatch {
    const NAMES: &'static [(&'static str, &'static [&'static str])] = &[("settings", &[]), ("closed", &[])];
}

/// A pool that was made at run time.
#[derive(Serialize, ToSchema)]
#[schema(as = RegisteredPool)]
struct PoolAnswer {
    name: String,
    template: String,
    /// What differs from the template.
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
    /// When it was made.
    #[schema(example = "2026-11-28T12:00:00Z")]
    created: String,
    /// Grows with each change.
    version: u64,
    /// Since when it hands out no references; null if it does.
    closed: Option<String>,
}

/// The pools that were made at run time.
#[derive(Serialize, ToSchema)]
#[schema(as = RegisteredPools)]
struct Pools {
    pools: Vec<PoolAnswer>,
    /// The names of those that were deleted. They are not used again.
    deleted: Vec<String>,
}

/// Create a pool
///
/// `POST /admin/pools`: makes a pool of a template of the settings. It serves on this instance when this is answered, on the others
/// within a second.
#[utoipa::path(
    operation_id = "createPool",
    post,
    path = "/admin/pools",
    tag = "administration",
    security(("api-key" = [])),
    request_body = NewPool,
    responses(
        (status = 201, description = "The pool", body = PoolAnswer),
        (status = 400, response = BadRequest),
        (status = 409, response = ListInUse),
        (status = 503, response = Unavailable),
    )
)]
pub(in crate::http::api) async fn create_pool(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (caller, admin) = admit(&request, &api)?;
    query::none(&request, &api)?;
    let NewPool { name, template, settings } = body::read(&request, payload, &api).await?;
    let id: PoolId = name.parse().map_err(|why| Problem::bad_request(format!("{why}")))?;
    let settings = settings.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let created = api.clock.now().millis();
    let pool = RegisteredPool { template: template.clone(), settings, created, version: 1, closed: None };
    let action = || Action::CreatePool { pool: name.clone(), template: template.clone() };
    let made = change(&request, (&api, admin), Kind::Make, action, async |registry| {
        let taken = |why: &str| Err(Problem::name_taken(&name, why));
        if registry.pools.contains_key(&name) || api.pool(&id).is_some() {
            return taken("there is a pool of this name");
        }
        // Its lists are still there, and a list never changes its pool.
        if registry.deleted.contains_key(&name) || ask(&api, api.store.shape_of(&id)).await?.is_some() {
            return taken("the store has lists of an earlier pool of this name");
        }
        registry.pools.insert(name.clone(), pool.clone());
        Ok(pool.clone())
    });
    let made = made.await?.in_use()?;
    if api.pool(&id).is_none() {
        return Err(Problem::not_in_use_yet());
    }
    tracing::info!(pool = %id, template, caller = caller.name(), "made a pool");
    Ok(HttpResponse::Created().json(answer(&name, &made)))
}

/// Get the pools made at run time
///
/// `GET /admin/pools`
#[utoipa::path(
    operation_id = "getRegisteredPools",
    get,
    path = "/admin/pools",
    tag = "administration",
    security(("api-key" = [])),
    responses(
        (status = 200, description = "The pools", body = Pools),
        (status = 400, response = BadRequest),
        (status = 503, response = Unavailable),
    )
)]
pub(in crate::http::api) async fn pools(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    admit(&request, &api)?;
    query::none(&request, &api)?;
    let (_, registry) = read(&api).await?;
    let pools = registry.pools.iter().map(|(name, pool)| answer(name, pool)).collect();
    Ok(HttpResponse::Ok().json(Pools { pools, deleted: registry.deleted.into_keys().collect() }))
}

/// Change a pool
///
/// `PATCH /admin/pools/{pool}`: its settings, or whether it hands out references.
#[utoipa::path(
    operation_id = "patchPool",
    patch,
    path = "/admin/pools/{pool}",
    tag = "administration",
    security(("api-key" = [])),
    params(("pool" = String, Path, example = "acme", description = "The pool's name")),
    request_body = PoolPatch,
    responses(
        (status = 200, description = "The pool after the change", body = PoolAnswer),
        (status = 400, response = BadRequest),
        (status = 404, response = NotFound),
        (status = 503, response = Unavailable),
    )
)]
pub(in crate::http::api) async fn patch_pool(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let ((caller, admin), name) = (admit(&request, &api)?, name.into_inner());
    query::none(&request, &api)?;
    let PoolPatch { settings, closed } = body::read(&request, payload, &api).await?;
    let action = || Action::PatchPool {
        pool: name.clone(),
        settings: settings.keys().cloned().chain(closed.map(|_| "closed".to_owned())).collect(),
    };
    let made = change(&request, (&api, admin), Kind::Make, action, async |registry| {
        let pool = registry.pools.get_mut(&name).ok_or_else(|| Problem::not_made_at_run_time(&name))?;
        pool.patch(&settings);
        pool.closed = match closed {
            None => pool.closed,
            Some(false) => None,
            Some(true) => pool.closed.or(Some(api.clock.now().millis())),
        };
        pool.version += 1;
        Ok(pool.clone())
    });
    let made = made.await?.in_use()?;
    tracing::info!(pool = %name, caller = caller.name(), closed = made.closed.is_some(), "changed a pool");
    Ok(HttpResponse::Ok().json(answer(&name, &made)))
}

/// For the description only.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the handler reads it")]
struct Deletion {
    /// Delete it although credentials with references of it may still be valid.
    #[param(default = false, required = false)]
    force: bool,
}

/// Delete a pool
///
/// `DELETE /admin/pools/{pool}[?force=true]`: no list of it is renewed any more, and its name is not used again. Refused while a reference
/// of it may be in a valid credential: it must have been closed for as long as its `reference-lifetime`.
#[utoipa::path(
    operation_id = "deletePool",
    delete,
    path = "/admin/pools/{pool}",
    tag = "administration",
    security(("api-key" = [])),
    params(("pool" = String, Path, example = "acme", description = "The pool's name"), Deletion),
    responses(
        (status = 204, description = "The pool is deleted"),
        (status = 400, response = BadRequest),
        (status = 404, response = NotFound),
        (status = 409, response = ListInUse),
        (status = 503, response = Unavailable),
    )
)]
pub(in crate::http::api) async fn delete_pool(
    request: HttpRequest,
    api: web::Data<Api>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let ((caller, admin), name) = (admit(&request, &api)?, name.into_inner());
    let query = Query::of(&request, &api, &["force"])?;
    let force = query.get("force", "true or false")?.unwrap_or(false);
    let action = || Action::DeletePool { pool: name.clone(), force };
    let deleted = change(&request, (&api, admin), Kind::End, action, async |registry| {
        let pool = registry.pools.get(&name).ok_or_else(|| Problem::not_made_at_run_time(&name))?;
        let now = api.clock.now();
        if !force {
            let id: PoolId = name.parse().map_err(|_| Problem::not_made_at_run_time(&name))?;
            let lists = match ask(&api, api.store.shape_of(&id)).await? {
                Some(_) => ask(&api, api.store.lists(&id)).await?,
                None => Vec::new(),
            };
            let lifetime = api.pool(&id).and_then(|pool| pool.facts.load().reference_lifetime);
            if let Some(why) = still_in_use(&lists, pool.closed, lifetime, now) {
                return Err(Problem::pool_in_use(&name, &why));
            }
        }
        registry.pools.remove(&name);
        registry.deleted.insert(name.clone(), now.millis());
        // A key that opens nothing is none.
        registry.keys.values_mut().for_each(|key| key.pools.retain(|pool| *pool != name));
        registry.keys.retain(|_, key| !key.pools.is_empty());
        Ok(())
    });
    deleted.await?.in_use()?;
    tracing::info!(pool = %name, caller = caller.name(), force, "deleted a pool");
    Ok(HttpResponse::NoContent().finish())
}

/// Why credentials with references of a pool may still be valid. As for one list, except that the pool's closing ends what its open lists
/// hand out.
fn still_in_use(
    lists: &[ListRecord],
    closed: Option<u64>,
    lifetime: Option<Duration>,
    now: Timestamp,
) -> Option<String> {
    let in_use = || lists.iter().filter(|list| !list.retired);
    let last = in_use().filter_map(|list| list.leased_at).max()?;
    let Some(closed) = closed.map(Timestamp::from_millis) else {
        return Some("references of it are still handed out; close it first (`\"closed\": true`)".to_owned());
    };
    let Some(lifetime) = lifetime else {
        return Some(
            "the validity of its references is unknown (`reference-lifetime` of the pool)".to_owned(),
        );
    };
    // What an open list had leased may have been handed out later, from memory. What was leased since the closing was not handed out.
    let ended = closed.plus(CLOSED_EVERYWHERE);
    let last = if in_use().any(|list| list.open) { ended } else { last.min(ended) };
    let until = last.plus(lifetime);
    (until > now)
        .then(|| format!("its references may be valid for {} more seconds", until.since(now).as_secs() + 1))
}

fn answer(name: &str, pool: &RegisteredPool) -> PoolAnswer {
    PoolAnswer {
        name: name.to_owned(),
        template: pool.template.clone(),
        settings: pool.settings.clone(),
        created: shown(pool.created),
        version: pool.version,
        closed: pool.closed.map(shown),
    }
}
