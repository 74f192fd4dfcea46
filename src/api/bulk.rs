//! `PATCH /pools/{pool}/lists/{id}`: one status for every entry of a list.
//!
//! It goes to the store without waiting in the queue of updates, whose bounds count entries: whatever was answered before it
//! is in the store already, so it stands over that, and what is asked for after its answer stands over it.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::auth::Caller;
use super::pools::ask;
use super::problem::Problem;
use super::statuses::{Value, read};
use super::{Api, trail};
use crate::issuer::Scope;
use crate::store::Refusal;
use crate::update::UpdateError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fill {
    value: Value,
}

/// `PATCH /pools/{pool}/lists/{id}`: sets every entry, those that nobody has as well, or none. Unless that is the default
/// status, the list gives no more references.
pub(super) async fn fill(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (pool, id) = path.into_inner();
    let caller = Caller::of(&request, &api).await?;
    let pool = caller.pool(&api, &pool, Scope::Update)?;
    let Fill { value } = read(&request, payload, &api).await?;
    let list = id.parse().map_err(|_| Problem::no_such_list(&id))?;
    let record = ask(&api, pool, api.store.list(list)).await?.filter(|record| record.pool == pool.id);
    record.ok_or_else(|| Problem::no_such_list(&id))?;
    let changing = trail::filling(&request, &api, pool, list, value.number()).await?;
    let filled = ask(&api, pool, api.store.fill_list(list, value.number(), api.clock.now())).await;
    let filled = filled.and_then(|filled| {
        filled.map_err(|refusal| match refusal {
            Refusal::NoSuchList { .. } => Problem::no_such_list(&id),
            refusal => Problem::from_update(UpdateError::Refused(refusal), &api.base),
        })
    });
    changing.ended(&api, filled).await?;
    if ask(&api, pool, api.store.list(list)).await?.is_some_and(|record| record.sealed) {
        pool.allocator.forget(&list);
    }
    let caller = caller.name();
    tracing::info!(pool = %pool.id, list.id = %list, caller, value = value.number(), "set every entry of a list");
    Ok(HttpResponse::NoContent().finish())
}
