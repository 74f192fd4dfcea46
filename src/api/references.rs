//! `POST /pools/{pool}/new-references`, and the older paths of the same meaning.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::Caller;
use super::problem::Problem;
use super::{Api, PoolApi};
use crate::allocate::Allocated;
use crate::status_list::Reference;

#[derive(Deserialize)]
pub(super) struct Query {
    #[serde(default = "one")]
    amount: u32,
    #[serde(default)]
    claims: bool,
}

const fn one() -> u32 {
    1
}

#[derive(Serialize)]
struct References {
    references: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    uri: String,
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
}

/// `POST /pools/{pool}/new-references?amount=N[&claims=true]`
pub(super) async fn new_references(
    request: HttpRequest,
    api: web::Data<Api>,
    pool: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let pool = Caller::of(&request, &api)?.pool(&api, &pool)?;
    let query = web::Query::<Query>::from_query(request.query_string())
        .map_err(|error| Problem::bad_request(format!("The query is not what is expected: {error}")))?;
    let references = allocate(&api, pool, query.amount).await?;
    let item = |reference: Allocated| {
        let uri = api.base.join(&reference.list);
        let status =
            query.claims.then(|| Reference { uri: uri.clone(), idx: reference.idx.into() }.to_json());
        Item { uri, index: reference.idx, status }
    };
    Ok(HttpResponse::Ok().json(References { references: references.into_iter().map(item).collect() }))
}

/// `POST /api/{pool}/new-reference`
pub(super) async fn new_reference(
    request: HttpRequest,
    api: web::Data<Api>,
    pool: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let pool = Caller::of(&request, &api)?.pool(&api, &pool)?;
    let references = allocate(&api, pool, 1).await?;
    Ok(HttpResponse::Ok().json(items(&api, references).next()))
}

/// `POST /api/{pool}/new-references/{n}`
pub(super) async fn new_references_of_path(
    request: HttpRequest,
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (pool, amount) = path.into_inner();
    let pool = Caller::of(&request, &api)?.pool(&api, &pool)?;
    let amount =
        amount.parse().map_err(|_| Problem::bad_request("The amount in the path is not a number"))?;
    let references = allocate(&api, pool, amount).await?;
    Ok(HttpResponse::Ok().json(References { references: items(&api, references).collect() }))
}

async fn allocate(api: &Api, pool: &PoolApi, amount: u32) -> Result<Vec<Allocated>, Problem> {
    // Where a pool does not wait, more than the buffer holds would be refused for ever.
    let max = pool.about.load().amount_max.min(api.limits.amount_max);
    if !(1..=max).contains(&amount) {
        return Err(Problem::bad_request(format!("amount must be 1 to {max}, got {amount}")));
    }
    let allocated = api.within(pool.allocator.allocate(amount as usize)).await;
    allocated.ok_or_else(Problem::no_references_in_time)?.map_err(|_| Problem::underflow())
}

fn items(api: &Api, references: Vec<Allocated>) -> impl Iterator<Item = Item> {
    references.into_iter().map(|reference| Item {
        uri: api.base.join(&reference.list),
        index: reference.idx,
        status: None,
    })
}
