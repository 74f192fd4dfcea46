//! `POST /pools/{pool}/new-references`, and the older paths that do the same.

use std::cell::Cell;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::idempotency::{IdempotencyKey, Key, Repeated};
use super::problem::Problem;
use super::responses::{
    BadRequest, KeyReused, ListInUse, NotFound, RateLimitReached, Unauthorized, Unavailable,
};
use super::{Api, PoolApi, trail};
use crate::access::Identity;
use crate::config::Quotas;
use crate::model::api_key::Scope;
use crate::status_list::Reference;
use crate::store::Given;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Query {
    /// Number of references. The settings and the size of the pool's buffer limit it.
    #[serde(default = "one")]
    #[param(minimum = 1, default = 1)]
    amount: u32,
    /// Add the `status` claim of each, ready for a credential.
    #[serde(default)]
    claims: bool,
}

const fn one() -> u32 {
    1
}

/// New references. Each is handed out once.
#[derive(Serialize, ToSchema)]
struct References {
    references: Vec<Item>,
}

/// The reference of one credential to its status.
#[derive(Serialize, ToSchema)]
#[schema(as = Reference)]
struct Item {
    /// The list, for `status_list.uri`.
    #[schema(example = "https://status.example/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d", format = "uri")]
    uri: String,
    /// The entry, for `status_list.idx`.
    index: u32,
    /// The `status` claim of the credential; only with `claims=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    status: Option<Value>,
}

/// Allocate references
///
/// `POST /pools/{pool}/new-references?amount=N[&claims=true]`: each reference is for one credential and is handed out once. One
/// that the caller does not use stays unused.
#[utoipa::path(
    post,
    path = "/pools/{pool}/new-references",
    tag = "references",
    security(("api-key" = []), ("bearer" = [])),
    params(("pool" = String, Path, example = "demo", description = "The pool's name"), Query, IdempotencyKey),
    responses(
        (status = 200, description = "The references", body = References),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 404, response = NotFound),
        (status = 409, response = ListInUse),
        (status = 422, response = KeyReused),
        (status = 429, response = RateLimitReached),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn new_references(
    request: HttpRequest,
    api: web::Data<Api>,
    pool: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of(&request, &api).await?;
    let pool = caller.pool(&api, &pool, Scope::Allocate)?;
    let query = web::Query::<Query>::from_query(request.query_string())
        .map_err(|error| Problem::bad_request(format!("The query does not match the API: {error}")))?;
    let references = allocate(&request, &api, (&caller, pool), query.amount, query.claims).await?;
    let item = |reference: Given| {
        let uri = pool.base.join(&reference.list);
        let status =
            query.claims.then(|| Reference { uri: uri.clone(), idx: reference.idx.into() }.to_json());
        Item { uri, index: reference.idx, status }
    };
    Ok(HttpResponse::Ok().json(References { references: references.into_iter().map(item).collect() }))
}

/// Allocate one reference
///
/// `POST /api/{pool}/new-reference`
#[utoipa::path(
    post,
    path = "/api/{pool}/new-reference",
    tag = "older paths",
    security(("api-key" = []), ("bearer" = [])),
    params(("pool" = String, Path, example = "demo", description = "The pool's name"), IdempotencyKey),
    responses(
        (status = 200, description = "The reference", body = Item),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 404, response = NotFound),
        (status = 409, response = ListInUse),
        (status = 422, response = KeyReused),
        (status = 429, response = RateLimitReached),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn new_reference(
    request: HttpRequest,
    api: web::Data<Api>,
    pool: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = Caller::of(&request, &api).await?;
    let pool = caller.pool(&api, &pool, Scope::Allocate)?;
    let references = allocate(&request, &api, (&caller, pool), 1, false).await?;
    Ok(HttpResponse::Ok().json(items(pool, references).next()))
}

/// Allocate references
///
/// `POST /api/{pool}/new-references/{n}`
#[utoipa::path(
    post,
    path = "/api/{pool}/new-references/{n}",
    tag = "older paths",
    security(("api-key" = []), ("bearer" = [])),
    params(
        ("pool" = String, Path, example = "demo", description = "The pool's name"),
        ("n" = u32, Path, example = 10, description = "Number of references", minimum = 1),
        IdempotencyKey,
    ),
    responses(
        (status = 200, description = "The references", body = References),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 404, response = NotFound),
        (status = 409, response = ListInUse),
        (status = 422, response = KeyReused),
        (status = 429, response = RateLimitReached),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn new_references_of_path(
    request: HttpRequest,
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (pool, amount) = path.into_inner();
    let caller = Caller::of(&request, &api).await?;
    let pool = caller.pool(&api, &pool, Scope::Allocate)?;
    let amount =
        amount.parse().map_err(|_| Problem::bad_request("The amount in the path is not a number"))?;
    let references = allocate(&request, &api, (&caller, pool), amount, false).await?;
    Ok(HttpResponse::Ok().json(References { references: items(pool, references).collect() }))
}

async fn allocate(
    request: &HttpRequest,
    api: &Api,
    (caller, pool): (&Caller, &PoolApi),
    amount: u32,
    claims: bool,
) -> Result<Vec<Given>, Problem> {
    // A pool that does not wait could never hand out more than its buffer holds, and none more than its quotas.
    let (amount_max, quotas) = {
        let facts = pool.facts.load();
        (facts.amount_max, facts.quotas)
    };
    let most = [Some(amount_max), quotas.references_per_day, quotas.references_per_key_per_day];
    let max = most.into_iter().flatten().fold(api.limits.amount_max, u32::min);
    if !(1..=max).contains(&amount) {
        return Err(Problem::bad_request(format!("amount must be 1 to {max}, got {amount}")));
    }
    let counted = Counted { pool, caller: caller.identity(), amount: Cell::new(0) };
    let taken = async {
        counted.count(amount, &quotas, api)?;
        let allocated = api.within(pool.allocator.allocate(amount as usize)).await;
        let allocated = allocated
            .ok_or_else(Problem::no_references_in_time)?
            .map_err(|why| Problem::not_allocated_because(&why, &pool.id))?;
        if let Err(problem) = trail::allocated(request, api, pool, amount, false).await {
            // Nobody has seen these references.
            pool.allocator.give_back(allocated);
            return Err(problem);
        }
        Ok(allocated)
    };
    let Some(key) = Key::of(request, &pool.id, caller.identity())? else {
        let references = taken.await?.iter().map(Given::from).collect();
        counted.keep();
        return Ok(references);
    };
    let asked = format!("amount={amount}&claims={claims}");
    let (references, Repeated(repeated)) = Box::pin(key.answer(api, pool, &asked, taken)).await?;
    match repeated {
        true => trail::allocated(request, api, pool, amount, true).await?,
        false => counted.keep(),
    }
    Ok(references)
}

/// What a request counts as handed out today; taken back when dropped, unless it is kept.
struct Counted<'a> {
    pool: &'a PoolApi,
    caller: &'a Identity,
    amount: Cell<u32>,
}

impl Counted<'_> {
    fn count(&self, amount: u32, quotas: &Quotas, api: &Api) -> Result<(), Problem> {
        let PoolApi { id, today, metrics, .. } = self.pool;
        let all = today.count(self.caller, amount, quotas, api.clock.now()).map_err(|used_up| {
            metrics.quota_reached(used_up.setting.trim_start_matches("quotas."));
            Problem::used_up_today(&used_up, id)
        })?;
        metrics.references_today.set(i64::try_from(all).unwrap_or(i64::MAX));
        self.amount.set(amount);
        Ok(())
    }

    fn keep(&self) {
        self.amount.set(0);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.amount.get() > 0 {
            self.pool.today.take_back(self.caller, self.amount.get());
        }
    }
}

fn items(pool: &PoolApi, references: Vec<Given>) -> impl Iterator<Item = Item> {
    references.into_iter().map(|reference| Item {
        uri: pool.base.join(&reference.list),
        index: reference.idx,
        status: None,
    })
}
