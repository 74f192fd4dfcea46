//! `/admin/keys`: API keys. A key is in one answer only; the store has its hash.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp as Moment;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::body::{self, Body};
use super::super::responses::{BadRequest, ListInUse, NotFound, Unavailable};
use super::{Api, Changed, Kind, Problem, admit, change, query, read, shown};
use crate::audit::Action;
use crate::config::{parse_duration, show_duration};
use crate::model::api_key::{ApiKeyHash, Scope, generate_api_key};
use crate::model::registry::{PreviousKey, RegisteredKey};

/// The longest name of a key. Every line of the audit trail holds it.
const NAME_CHARS_MAX: usize = 64;
/// For how long a key stays valid after its rotation, at most.
const GRACE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::http::api) struct NewKey {
    /// The name in logs and in the audit trail: 1 to 64 letters, digits and `-_.@`.
    #[schema(example = "acme-2026")]
    name: String,
    /// The pools that it opens, of the settings or made at run time.
    #[schema(example = json!(["acme"]))]
    pools: Vec<String>,
    /// What it allows there: `allocate`, `update`, `read`. Left out: all three.
    #[serde(default)]
    #[schema(example = json!(["allocate", "update"]))]
    scopes: Option<Vec<String>>,
    /// When it ends; left out: never.
    #[serde(default)]
    #[schema(example = "2027-11-28T00:00:00Z")]
    not_after: Option<String>,
}

impl Body for NewKey {
    const NAMES: &'static [(&'static str, &'static [&'static str])] =
        &[("name", &[]), ("pools", &[]), ("scopes", &[]), ("not-after", &[])];
}

/// How to replace a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http::api) struct Rotation {
    /// For how long the earlier key stays valid, at most `24h`. Left out: it ends at once.
    #[serde(default)]
    #[schema(example = "1h")]
    grace: Option<String>,
}

impl Body for Rotation {
    const NAMES: &'static [(&'static str, &'static [&'static str])] = &[("grace", &[])];
}

/// An API key that was made at run time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RegisteredKey)]
struct KeyAnswer {
    name: String,
    /// The key itself, only in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Whether this instance uses it, only in that answer. If not, it goes on as before, and its log says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_use: Option<bool>,
    pools: Vec<String>,
    scopes: Vec<String>,
    /// When it was made.
    #[schema(example = "2026-11-28T12:00:00Z")]
    created: String,
    /// When it ends; null: never.
    not_after: Option<String>,
    /// Until when the key before the latest rotation is valid; null: there is none.
    previous_until: Option<String>,
}

/// The API keys that were made at run time.
#[derive(Serialize, ToSchema)]
#[schema(as = RegisteredKeys)]
struct Keys {
    keys: Vec<KeyAnswer>,
}

/// Create an API key
///
/// `POST /admin/keys`: the key is in this answer and nowhere else. It is valid on this instance when this is answered, on the others within
/// a second.
#[utoipa::path(
    operation_id = "createKey",
    post,
    path = "/admin/keys",
    tag = "administration",
    security(("api-key" = [])),
    request_body = NewKey,
    responses(
        (status = 201, description = "The key", body = KeyAnswer),
        (status = 400, response = BadRequest),
        (status = 404, response = NotFound),
        (status = 409, response = ListInUse),
        (status = 503, response = Unavailable),
    )
)]
pub(in crate::http::api) async fn create_key(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let (caller, admin) = admit(&request, &api)?;
    query::none(&request, &api)?;
    let NewKey { name, pools, scopes, not_after } = body::read(&request, payload, &api).await?;
    check_name(&name)?;
    let all = || Scope::ALL.map(|scope| scope.name().to_owned()).to_vec();
    let scopes = scopes.unwrap_or_else(all);
    check_scopes(&scopes)?;
    if pools.is_empty() {
        return Err(Problem::bad_request("`pools` is empty: such a key opens nothing"));
    }
    let pools: Vec<_> = pools.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let now = api.clock.now();
    let not_after = not_after.as_deref().map(read_moment).transpose()?;
    if not_after.is_some_and(|end| end <= now.millis()) {
        return Err(Problem::bad_request("`not-after` has passed already"));
    }
    let key = generate_api_key();
    let made = RegisteredKey {
        hash: ApiKeyHash::of(&key).to_setting(),
        previous: None,
        scopes: scopes.clone(),
        pools: pools.clone(),
        not_after,
        created: now.millis(),
    };
    let action = || Action::CreateKey { key: name.clone(), pools: pools.clone(), scopes: scopes.clone() };
    let created = change(&request, (&api, admin), Kind::Make, action, async |registry| {
        if registry.keys.contains_key(&name) || (admin.rules.has_key)(&name) {
            return Err(Problem::name_taken(&name, "there is a key of this name"));
        }
        let unknown = pools.iter().find(|pool| {
            let in_use = pool.parse().is_ok_and(|id| api.pool(&id).is_some());
            !in_use && !registry.pools.contains_key(*pool)
        });
        if let Some(unknown) = unknown {
            return Err(Problem::no_such_pool(unknown));
        }
        registry.keys.insert(name.clone(), made.clone());
        Ok(made.clone())
    });
    let created = created.await?;
    tracing::info!(key = name, caller = caller.name(), "made an API key");
    Ok(HttpResponse::Created().json(answer_with(&name, &created, &key)))
}

/// Get the API keys made at run time
///
/// `GET /admin/keys`: without the keys themselves, which nobody has.
#[utoipa::path(
    operation_id = "getKeys",
    get,
    path = "/admin/keys",
    tag = "administration",
    security(("api-key" = [])),
    responses(
        (status = 200, description = "The keys", body = Keys),
        (status = 400, response = BadRequest),
        (status = 503, response = Unavailable),
    )
)]
pub(in crate::http::api) async fn keys(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    admit(&request, &api)?;
    query::none(&request, &api)?;
    let (_, registry) = read(&api).await?;
    let keys = registry.keys.iter().map(|(name, key)| answer(name, key)).collect();
    Ok(HttpResponse::Ok().json(Keys { keys }))
}

/// Rotate an API key
///
/// `POST /admin/keys/{name}/rotate`: replaces it by a new one of the same name. The earlier key stays valid for `grace`; one before that
/// ends at once.
#[utoipa::path(
    operation_id = "rotateKey",
    post,
    path = "/admin/keys/{name}/rotate",
    tag = "administration",
    security(("api-key" = [])),
    params(("name" = String, Path, example = "acme-2026", description = "The key's name")),
    request_body = Rotation,
    responses(
        (status = 200, description = "The new key", body = KeyAnswer),
        (status = 400, response = BadRequest),
        (status = 404, response = NotFound),
        (status = 503, response = Unavailable),
    )
)]
pub(in crate::http::api) async fn rotate_key(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let ((caller, admin), name) = (admit(&request, &api)?, name.into_inner());
    query::none(&request, &api)?;
    let Rotation { grace } = body::read(&request, payload, &api).await?;
    let grace = match grace {
        None => Duration::ZERO,
        Some(text) => parse_duration(&text).ok_or_else(|| {
            Problem::bad_request("`grace` must be a duration with its unit, such as `10m` or `24h`")
        })?,
    };
    if grace > GRACE_MAX {
        let most = show_duration(GRACE_MAX);
        return Err(Problem::bad_request(format!(
            "grace must be at most {most}, got {}",
            show_duration(grace)
        )));
    }
    let now = api.clock.now();
    let key = generate_api_key();
    let hash = ApiKeyHash::of(&key).to_setting();
    let action = || Action::RotateKey { key: name.clone(), grace_secs: grace.as_secs() };
    let rotated = change(&request, (&api, admin), Kind::End, action, async |registry| {
        let made = registry.keys.get_mut(&name).ok_or_else(|| Problem::no_such_key(&name))?;
        let earlier = std::mem::replace(&mut made.hash, hash.clone());
        made.previous =
            (!grace.is_zero()).then(|| PreviousKey { hash: earlier, not_after: now.plus(grace).millis() });
        Ok(made.clone())
    });
    let rotated = rotated.await?;
    tracing::info!(key = %name, caller = caller.name(), "replaced an API key");
    Ok(HttpResponse::Ok().json(answer_with(&name, &rotated, &key)))
}

/// End an API key
///
/// `DELETE /admin/keys/{name}`: this instance refuses it when this is answered, the others within a second.
#[utoipa::path(
    operation_id = "endKey",
    delete,
    path = "/admin/keys/{name}",
    tag = "administration",
    security(("api-key" = [])),
    params(("name" = String, Path, example = "acme-2026", description = "The key's name")),
    responses(
        (status = 204, description = "The key has ended"),
        (status = 400, response = BadRequest),
        (status = 404, response = NotFound),
        (status = 503, response = Unavailable),
    )
)]
pub(in crate::http::api) async fn end_key(
    request: HttpRequest,
    api: web::Data<Api>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let ((caller, admin), name) = (admit(&request, &api)?, name.into_inner());
    query::none(&request, &api)?;
    let action = || Action::EndKey { key: name.clone() };
    let ended = change(&request, (&api, admin), Kind::End, action, async |registry| {
        registry.keys.remove(&name).map(|_| ()).ok_or_else(|| Problem::no_such_key(&name))
    });
    ended.await?.in_use()?;
    tracing::info!(key = %name, caller = caller.name(), "ended an API key");
    Ok(HttpResponse::NoContent().finish())
}

/// Without `/`, which a key of the settings may have: the name is a segment of a path here.
fn check_name(name: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    // Clients take `.` and `..` for folders of the path.
    if (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.chars().all(allowed)
        && name.chars().any(|c| c != '.')
    {
        return Ok(());
    }
    Err(Problem::bad_request(format!(
        "`name` must be 1 to {NAME_CHARS_MAX} letters, digits and -_.@, and not only dots"
    )))
}

fn check_scopes(scopes: &[String]) -> Result<(), Problem> {
    if scopes.is_empty() {
        return Err(Problem::bad_request("`scopes` is empty; leave it out for all"));
    }
    match scopes.iter().find(|scope| Scope::from_name(scope).is_none()) {
        None => Ok(()),
        Some(unknown) => {
            let known = Scope::ALL.map(Scope::name).join(", ");
            let why = format!("There is no scope `{unknown}` for a key made at run time; there are {known}");
            Err(Problem::bad_request(why))
        }
    }
}

fn read_moment(text: &str) -> Result<u64, Problem> {
    let time = text.parse::<Moment>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    time.ok_or_else(|| {
        Problem::bad_request("`not-after` must be a time with its zone, such as `2027-01-01T00:00:00Z`")
    })
}

/// The answer that has the key itself. It is given also if the key is not in use yet: nobody else has it.
fn answer_with(name: &str, changed: &Changed<RegisteredKey>, key: &str) -> KeyAnswer {
    KeyAnswer { key: Some(key.to_owned()), in_use: Some(changed.in_use), ..answer(name, &changed.made) }
}

fn answer(name: &str, made: &RegisteredKey) -> KeyAnswer {
    KeyAnswer {
        name: name.to_owned(),
        key: None,
        in_use: None,
        pools: made.pools.clone(),
        scopes: made.scopes.clone(),
        created: shown(made.created),
        not_after: made.not_after.map(shown),
        previous_until: made.previous.as_ref().map(|previous| shown(previous.not_after)),
    }
}
