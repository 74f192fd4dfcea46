//! `/admin`: pools of templates, and API keys, made while the service runs. On the operators' own address alone.
//!
//! A change is decided on the registry as the store has it, checked as a start with it would, and written if nobody changed the registry
//! meanwhile. Then every instance reloads. Nothing here changes a running part.

pub(super) mod keys;
pub(super) mod pools;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::{HttpRequest, Route, web};
use jiff::Timestamp as Moment;
use tokio::sync::{Notify, watch};

use super::auth::Caller;
use super::problem::Problem;
use super::{Api, query, trail};
use crate::audit::Action;
use crate::model::registry::Registry;
use crate::store::{REGISTRY_BYTES_MAX, Registered, Stamp, StoreError};

/// How often a change is decided anew because another one came first.
const TRIES_MAX: usize = 5;
/// How long an answer waits until this instance uses the change. Others take it within a second.
const IN_USE_PATIENCE: Duration = Duration::from_secs(3);

/// What requests for administration need of the service.
pub struct Admin {
    /// What the settings say.
    pub rules: Rules,
    /// Tells the reload of a change.
    pub changed: Arc<Notify>,
    /// The version of the registry that is in use.
    pub in_use: watch::Receiver<Stamp>,
}

/// Tells whether, or why not, the settings can be used with a registry.
type Check = dyn Fn(&Registry) -> Result<(), String> + Send + Sync;

/// What the settings say about pools and keys made at run time.
pub struct Rules {
    /// Why the settings cannot be used with this registry, if so.
    pub check: Arc<Check>,
    /// Whether the settings have a key of this name.
    pub has_key: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

/// The routes.
pub(super) fn routes() -> Vec<(&'static str, Vec<(Method, Route)>)> {
    vec![
        (
            "/admin/pools",
            vec![(Method::GET, web::to(pools::pools)), (Method::POST, web::to(pools::create_pool))],
        ),
        (
            "/admin/pools/{pool}",
            vec![(Method::PATCH, web::to(pools::patch_pool)), (Method::DELETE, web::to(pools::delete_pool))],
        ),
        ("/admin/keys", vec![(Method::GET, web::to(keys::keys)), (Method::POST, web::to(keys::create_key))]),
        ("/admin/keys/{name}", vec![(Method::DELETE, web::to(keys::end_key))]),
        ("/admin/keys/{name}/rotate", vec![(Method::POST, web::to(keys::rotate_key))]),
    ]
}

/// Authenticates an operator.
fn admit<'a>(request: &HttpRequest, api: &'a Api) -> Result<(Caller, &'a Admin), Problem> {
    let caller = Caller::administering(request, api)?;
    let admin = api.admin.as_ref().ok_or_else(Problem::not_found)?;
    Ok((caller, admin))
}

/// The registry as the store has it.
async fn read(api: &Api) -> Result<(Registered, Registry), Problem> {
    let registered = ask(api, api.store.registry()).await?;
    let registry = Registry::from_text(&registered.content).map_err(|error| {
        tracing::error!(%error, "the pools and keys of the store cannot be read");
        Problem::store_damaged()
    })?;
    Ok((registered, registry))
}

/// A change that is stored.
struct Changed<T> {
    made: T,
    /// Whether this instance uses it.
    in_use: bool,
}

impl<T> Changed<T> {
    /// Fails if this instance goes on as before: nobody may believe that something has ended before it has.
    fn in_use(self) -> Result<T, Problem> {
        if self.in_use { Ok(self.made) } else { Err(Problem::not_in_use_yet()) }
    }
}

/// What a change does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It makes or changes something, which must fit the settings.
    Make,
    /// It only takes something away. That must go also where the settings do not fit what is left, such as during an upgrade.
    End,
}

/// Changes the registry as `edit` says, with a line in the audit trail, and waits until this instance uses the change.
async fn change<T>(
    request: &HttpRequest,
    (api, admin): (&Api, &Admin),
    kind: Kind,
    action: impl FnOnce() -> Action,
    edit: impl AsyncFn(&mut Registry) -> Result<T, Problem>,
) -> Result<Changed<T>, Problem> {
    let changing = trail::administering(request, api, action).await?;
    let changed = Box::pin(replace(api, admin, kind, &edit)).await;
    // Also if the outcome is unknown, or its line cannot be written.
    admin.changed.notify_one();
    let (made, stamp) = changing.ended(api, changed).await?;
    let mut in_use = admin.in_use.clone();
    let waiting = in_use.wait_for(|used| used.number() >= stamp.number());
    let in_use = tokio::time::timeout(IN_USE_PATIENCE, waiting).await.is_ok();
    if !in_use {
        tracing::warn!(
            "a change of pools or keys is stored, but this instance does not use it yet; the log says why"
        );
    }
    Ok(Changed { made, in_use })
}

async fn replace<T>(
    api: &Api,
    admin: &Admin,
    kind: Kind,
    edit: &impl AsyncFn(&mut Registry) -> Result<T, Problem>,
) -> Result<(T, Stamp), Problem> {
    for _ in 0..TRIES_MAX {
        let (seen, mut registry) = read(api).await?;
        let made = edit(&mut registry).await?;
        if kind == Kind::Make {
            (admin.rules.check)(&registry).map_err(Problem::bad_request)?;
        }
        let text = registry.to_text();
        if text.len() > REGISTRY_BYTES_MAX {
            return Err(Problem::bad_request(format!(
                "All pools and keys made at run time may take {REGISTRY_BYTES_MAX} bytes, and would take {}",
                text.len()
            )));
        }
        let newer = seen.followed_by(text);
        if ask(api, api.store.replace_registry(&seen.stamp, &newer, api.deadline())).await? {
            return Ok((made, newer.stamp));
        }
    }
    Err(Problem::busy())
}

/// Queries the store, within the time limit of a request.
async fn ask<T>(api: &Api, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, Problem> {
    let answer = api.within(answer).await.ok_or_else(Problem::unavailable)?;
    answer.map_err(|error| Problem::from_registry(&error))
}

/// A time as in the settings, for an answer.
fn shown(millis: u64) -> String {
    let time = i64::try_from(millis).ok().and_then(|millis| Moment::from_millisecond(millis).ok());
    time.map_or_else(String::new, |time| time.to_string())
}
