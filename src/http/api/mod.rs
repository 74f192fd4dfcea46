//! The write API: the route table, and what its handlers work with.
//!
//! Never names `publish/`: it meets the publisher only in the store, so no request causes a signature.

mod auth;
mod body;
mod code;
mod fill;
mod health;
mod idempotency;
mod observe;
mod openapi;
mod pools;
mod problem;
mod references;
mod request_id;
mod responses;
mod statuses;
mod trail;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::{HttpResponse, ResponseError, Route, web};
use arc_swap::{ArcSwap, Guard};
use parking_lot::RwLock;

use crate::access::Access;
use crate::allocate::{Allocator, HandedOut};
use crate::audit::Audit;
use crate::base::clock::{Clock, Timestamp};
use crate::base::clock_watch::ClockWatch;
use crate::config::Limits;
use crate::model::pool::PoolId;
use crate::status_list::{BaseUri, Capacity, ListId, StatusSet};
use crate::store::{Deadline, Store, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::update::Updater;
pub use openapi::openapi;
use problem::Problem;

/// All that handlers need.
pub struct Api {
    /// Where the lists are found; the `uri` of a reference begins with it.
    pub base: BaseUri,
    /// The pools by name.
    pub pools: BTreeMap<PoolId, PoolApi>,
    /// Who may do what; a reload of the settings replaces it whole.
    access: ArcSwap<Access>,
    /// For what is only looked at.
    pub store: Store,
    /// The most of everything.
    pub limits: Limits,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// Where it is told who asked for what.
    pub audit: Audit,
    /// Whether the time of day can be believed, if this instance publishes.
    clock_watch: Option<Arc<ClockWatch>>,
    refusals: trail::Refusals,
    /// Which pool a list belongs to: that never changes.
    known: RwLock<HashMap<ListId, PoolId>>,
}

/// One pool as the API sees it.
pub struct PoolApi {
    /// Its name.
    pub id: PoolId,
    /// Entries of each list, and bits per entry.
    pub capacity: Capacity,
    /// The statuses that updates may set.
    pub statuses: StatusSet,
    /// Gives references.
    pub allocator: Arc<Allocator>,
    /// Where updates of what was never handed out are refused: what was.
    pub handed_out: Option<HandedOut>,
    /// Takes updates.
    pub updater: Updater,
    /// What `GET /pools/{pool}` tells.
    pub about: ArcSwap<About>,
}

/// What issuers agree on with us.
pub struct About {
    /// Bits per entry.
    pub bits: u8,
    /// Entries of a list.
    pub size: u32,
    /// `ttl` in seconds.
    pub ttl_secs: u64,
    /// `exp - iat` in seconds.
    pub list_lifetime_secs: u64,
    /// The longest that a credential with a reference of the pool is valid, if that is known.
    pub reference_lifetime: Option<Duration>,
    /// The beat in seconds.
    pub update_interval_secs: u64,
    /// Names of the token formats.
    pub formats: Vec<&'static str>,
    /// The id of the key that signs now.
    pub key_id: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether verifiers accept the certificates of the key that signs at this moment, if it is this instance that signs.
    pub certificates_hold_at: Arc<dyn Fn(Timestamp) -> bool + Send + Sync>,
    /// The most references that one request can ever get, apart from the limit of the settings.
    pub amount_max: u32,
}

impl Api {
    /// The API over these parts, without an audit trail.
    pub fn new(
        base: BaseUri,
        pools: BTreeMap<PoolId, PoolApi>,
        access: Access,
        store: Store,
        limits: Limits,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Self {
        let access = ArcSwap::from_pointee(access);
        let (audit, clock_watch, refusals, known) = Default::default();
        Self { base, pools, access, store, limits, metrics, clock, audit, clock_watch, refusals, known }
    }

    /// The same with an audit trail.
    pub fn audited(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// The same, ready only while `clock_watch` believes the time of day.
    pub fn watching(self, clock_watch: Option<Arc<ClockWatch>>) -> Self {
        Self { clock_watch, ..self }
    }

    /// Who may do what, as it is now.
    pub fn access(&self) -> Guard<Arc<Access>> {
        self.access.load()
    }

    /// From now on this says who may do what. Requests that were let in before go on.
    pub fn replace_access(&self, access: Access) {
        self.access.store(Arc::new(access));
    }

    /// What `waiting` comes to, if that does not take longer than a request may.
    async fn within<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.limits.request_timeout, waiting).await.ok()
    }

    /// What the store answers about `pool`, in time.
    async fn ask<T>(
        &self,
        pool: &PoolApi,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Problem> {
        let answer = self.within(answer).await.ok_or_else(Problem::unavailable)?;
        answer.map_err(|error| Problem::from_store(&error, &pool.id))
    }

    /// Until when a change that is asked for now may be made: whoever asked is answered by then.
    fn deadline(&self) -> Deadline {
        Deadline::after(self.limits.request_timeout)
    }

    /// The list of this `uri`, and its pool.
    async fn find(&self, uri: &str) -> Result<(ListId, &PoolApi), Problem> {
        let list = self.base.list_id(uri).ok_or_else(|| Problem::invalid_list_uri(uri))?;
        let unknown = || Problem::no_list_to_update(&list);
        let known = self.known.read().get(&list).cloned();
        let pool = match known {
            Some(pool) => pool,
            None => {
                let record =
                    Box::pin(self.within(self.store.list(list))).await.ok_or_else(Problem::timed_out)?;
                let record = record.map_err(|error| {
                    tracing::error!(list.id = %list, %error, "the store failed");
                    Problem::unavailable()
                })?;
                let pool = record.ok_or_else(unknown)?.pool;
                self.known.write().insert(list, pool.clone());
                pool
            }
        };
        Ok((list, self.pools.get(&pool).ok_or_else(unknown)?))
    }
}

/// What of the API an address has, beside `/health`.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// What issuers call.
    pub api: bool,
    /// What those who run the service ask.
    pub management: bool,
}

/// Mounts the routes. Must come before the site, which may answer for every other path.
pub fn configure(api: web::Data<Api>, offer: Offer, config: &mut web::ServiceConfig) {
    let (limits, audited) = (api.limits, api.audit.is_on());
    let metrics = Arc::clone(&api.metrics);
    let at_each = |path: &'static str, routes: Vec<(Method, Route)>| {
        let metrics = Rc::new(metrics.route(path));
        let allowed = routes.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ");
        let resource =
            web::resource(path).default_service(web::to(move || method_not_allowed(allowed.clone())));
        routes
            .into_iter()
            .fold(resource, |resource, (method, handler)| resource.route(handler.method(method)))
            .wrap_fn(move |request, service| observe::observe(Rc::clone(&metrics), audited, request, service))
    };
    let at = |path: &'static str, method: Method, handler: Route| at_each(path, vec![(method, handler)]);
    config
        .app_data(web::PayloadConfig::new(limits.body_bytes_max))
        .app_data(api)
        // In the order of their load: patterns are tried one after the other.
        // Without notes: many ask, and often.
        .service(
            web::resource("/health/live")
                .get(health::live)
                .default_service(web::to(|| method_not_allowed("GET".to_owned()))),
        );
    if offer.api {
        config
            .service(at("/status-lists/update", Method::PATCH, web::to(statuses::update)))
            .service(at("/pools/{pool}/new-references", Method::POST, web::to(references::new_references)))
            .service(at("/status-lists/batch-update", Method::PATCH, web::to(statuses::batch_update)))
            .service(at("/api/update-status", Method::POST, web::to(statuses::older_update)))
            .service(at("/api/{pool}/new-reference", Method::POST, web::to(references::new_reference)))
            .service(at(
                "/api/{pool}/new-references/{n}",
                Method::POST,
                web::to(references::new_references_of_path),
            ))
            .service(at("/pools/{pool}", Method::GET, web::to(pools::pool)))
            .service(at("/pools/{pool}/lists", Method::GET, web::to(pools::lists)))
            .service(at_each(
                "/pools/{pool}/lists/{id}",
                vec![(Method::DELETE, web::to(pools::retire)), (Method::PATCH, web::to(fill::fill))],
            ))
            .service(at("/pools/{pool}/lists/{id}/statuses/{idx}", Method::GET, web::to(pools::status)));
    }
    config.service(at("/health/ready", Method::GET, web::to(health::ready)));
    if offer.management {
        config.service(at("/metrics", Method::GET, web::to(health::metrics))).service(at(
            "/version",
            Method::GET,
            web::to(health::version),
        ));
    }
}

/// The answer to another method on a path that has only GET.
pub async fn only_get() -> impl actix_web::Responder {
    method_not_allowed("GET".to_owned()).await
}

/// The answer to another method on a path that has only `allowed`: one method, or several with commas.
async fn method_not_allowed(allowed: String) -> HttpResponse {
    Problem::method_not_allowed(&allowed).error_response()
}

/// What is answered to a change that was sent before this process slept.
pub(super) fn slept() -> HttpResponse {
    Problem::slept().error_response()
}

/// What is answered where no route and no site is.
pub async fn not_found() -> impl actix_web::Responder {
    Problem::not_found().error_response()
}

/// What `fuzzing::body` asks: these bytes as each body and each query.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_any(bytes: &[u8]) {
    statuses::read_any(bytes);
    if let Ok(query) = std::str::from_utf8(bytes) {
        let _ = web::Query::<references::Query>::from_query(query);
        let _ = web::Query::<pools::Retirement>::from_query(query);
    }
}
