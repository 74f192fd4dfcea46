//! `PATCH /pools/{pool}/lists/{id}`: one status for every entry of a list, at once or spread over beats.
//!
//! It bypasses the queue of updates, whose bounds count entries. An update answered before it is in the store already and is
//! overwritten; an update sent after its answer overwrites it.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::body::Body;
use super::problem::Problem;
use super::query;
use super::responses::{
    BadRequest, Forbidden, ListRetired, NotFound, PayloadTooLarge, RequestTimeout, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use super::value::{NewStatus, Value};
use super::{Api, body, trail};
use crate::model::api_key::Scope;
use crate::store::{Refusal, Spread};
use crate::update::UpdateError;

/// The most beats for one change: three and a half days with a beat of five minutes.
const BEATS_MAX: u32 = 1000;

/// One status for every entry.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Fill {
    #[schema(value_type = NewStatus)]
    value: Value,
    /// Number of beats to spread the change over; 1 changes all entries at once.
    #[serde(default = "at_once")]
    #[schema(minimum = 1, maximum = 1000, default = 1)]
    spread_beats: u32,
}

impl Body for Fill {
    const NAMES: &'static [(&'static str, &'static [&'static str])] =
        &[("value", &[]), ("spread-beats", &[])];
}

fn at_once() -> u32 {
    1
}

/// The progress of a change that is spread over beats.
#[derive(Serialize, ToSchema)]
struct Spreading {
    /// Number of beats until every entry is set; fewer than requested where the entries do not divide.
    beats: u32,
}

/// Set every status of a list
///
/// `PATCH /pools/{pool}/lists/{id}`: sets every entry, including those not handed out, or none. Unless it sets the default
/// status, no more references are taken from the list. With `spread-beats`, each beat of the pool sets a share in random order,
/// so that no token shows which entries belong together. An update of an entry to another status in between completes the
/// rest first, at once. Repeating the request changes nothing; a request with another value or number of beats replaces it.
#[utoipa::path(
    operation_id = "setStatusesOfList",
    patch,
    path = "/pools/{pool}/lists/{id}",
    tag = "pools",
    security(("api-key" = []), ("bearer" = [])),
    params(
        ("pool" = String, Path, example = "demo", description = "The pool's name"),
        ("id" = String, Path, description = "The list: the last segment of its `uri`"),
    ),
    request_body = Fill,
    responses(
        (status = 204, description = "Every entry is set"),
        (status = 202, description = "Every entry will be set over these beats", body = Spreading),
        (status = 400, response = BadRequest),
        (status = 401, response = Unauthorized),
        (status = 403, response = Forbidden),
        (status = 404, response = NotFound),
        (status = 408, response = RequestTimeout),
        (status = 410, response = ListRetired),
        (status = 413, response = PayloadTooLarge),
        (status = 415, response = UnsupportedMediaType),
        (status = 503, response = Unavailable),
    )
)]
pub(super) async fn fill(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (pool, id) = path.into_inner();
    let caller = Caller::of(&request, &api).await?;
    let pool = &*caller.pool(&api, &pool, Scope::Update)?;
    query::none(&request, &api)?;
    let Fill { value, spread_beats: beats } = body::read(&request, payload, &api).await?;
    if !(1..=BEATS_MAX).contains(&beats) {
        return Err(Problem::bad_request(format!("spread-beats must be 1 to {BEATS_MAX}, got {beats}")));
    }
    let list = id.parse().map_err(|_| Problem::no_such_list(&id))?;
    let record = api.ask(pool, api.store.list(list)).await?.filter(|record| record.pool == pool.id);
    record.ok_or_else(|| Problem::no_such_list(&id))?;
    let value = value.number(&pool.base.join(&list))?;
    let changing = trail::filling(&request, &api, pool, list, value, beats).await?;
    let status = pool.statuses.check(value);
    let filled = match status {
        Ok(status) => {
            api.ask(pool, api.store.fill_list(list, status, beats, api.deadline(), api.clock.now())).await
        }
        Err(why) => Err(Problem::value_out_of_range(&pool.base.join(&list), value, &why)),
    };
    let filled = filled.and_then(|filled| {
        filled.map_err(|refusal| match refusal {
            Refusal::NoSuchList { .. } => Problem::no_such_list(&id),
            refusal => Problem::from_update(UpdateError::Refused(refusal), &pool.base),
        })
    });
    // Where it cannot be told whether the list was sealed, no reference of it is the safer answer.
    if filled.as_ref().err().is_none_or(Problem::is_of_the_server) {
        let after = api.ask(pool, api.store.list(list)).await;
        if !matches!(&after, Ok(Some(record)) if !record.sealed) {
            pool.allocator.forget(&list);
        }
    }
    changing.ended(&api, filled).await?;
    let caller = caller.name();
    let pool_id = &pool.id;
    tracing::info!(pool = %pool_id, list.id = %list, caller, value, beats, "set every entry of a list");
    Ok(match beats {
        1 => HttpResponse::NoContent().finish(),
        _ => HttpResponse::Accepted().json(Spreading { beats: Spread::beats_taken(pool.capacity, beats) }),
    })
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn the_description_names_the_bounds_that_hold() {
        let described = serde_json::to_value(Fill::schema()).unwrap();
        let beats = &described["properties"]["spread-beats"];
        assert_eq!((&beats["minimum"], &beats["maximum"]), (&1.into(), &BEATS_MAX.into()), "{beats}");
    }
}
