//! The write API: the route table, and the state that its handlers share.
//!
//! Never names `publish/`: it meets the publisher only in the store, so no request causes a signature.

mod admin;
mod auth;
mod bodies;
mod body;
mod code;
mod fill;
mod health;
mod idempotency;
mod observe;
mod openapi;
mod pools;
mod problem;
mod query;
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

use crate::access::{Access, Today};
use crate::allocate::{Allocator, HandedOut};
use crate::audit::Audit;
use crate::base::clock::{Clock, Timestamp};
use crate::base::clock_watch::ClockWatch;
use crate::config::{Limits, Quotas};
use crate::model::pool::PoolId;
use crate::status_list::{BaseUri, Capacity, ListId, Purpose, StatusSet};
use crate::store::{Deadline, Store, StoreError};
use crate::telemetry::metrics::{Metrics, PoolMetrics};
use crate::update::Updater;
pub use admin::{Admin, Rules};
use bodies::Bodies;
pub use openapi::openapi;
use problem::Problem;

/// The state that all handlers share.
pub struct Api {
    /// What the `uri`s of all pools begin with.
    bases: Vec<BaseUri>,
    /// The pools by name; they come and go while the service runs.
    pools: ArcSwap<Pools>,
    /// What requests for administration need, if there are any.
    admin: Option<Admin>,
    /// Who may do what; a reload of the settings replaces it as a whole.
    access: ArcSwap<Access>,
    /// The store, for queries.
    pub store: Store,
    /// Limits on the size and number of everything.
    pub limits: Limits,
    /// The metrics that `/metrics` exports.
    pub metrics: Arc<Metrics>,
    /// The clock.
    pub clock: Clock,
    /// The audit trail.
    pub audit: Audit,
    /// Whether the time of day can be believed, if this instance publishes.
    clock_watch: Option<Arc<ClockWatch>>,
    /// Whether unknown members and parameters are ignored, as the original service does.
    lenient: bool,
    refusals: trail::Refusals,
    /// The memory of all request bodies.
    bodies: Arc<Bodies>,
    /// The pool of each known list. A list never changes its pool.
    known: RwLock<HashMap<ListId, PoolId>>,
}

/// The pools by name.
type Pools = BTreeMap<PoolId, Arc<PoolApi>>;

/// One pool as the API sees it.
pub struct PoolApi {
    /// Its name.
    pub id: PoolId,
    /// What the `uri` of each of its lists begins with.
    pub base: BaseUri,
    /// Entries of each list, and bits per entry.
    pub capacity: Capacity,
    /// The statuses that updates may set.
    pub statuses: StatusSet,
    /// Allocates references.
    pub allocator: Arc<Allocator>,
    /// The references that were handed out, if the pool refuses updates of all others.
    pub handed_out: Option<HandedOut>,
    /// Applies updates.
    pub updater: Updater,
    /// The references handed out today.
    pub today: Today,
    /// Its metrics.
    pub metrics: Arc<PoolMetrics>,
    /// The facts that `GET /pools/{pool}` returns.
    pub facts: ArcSwap<PoolFacts>,
}

/// Facts about a pool that issuers need to know.
pub struct PoolFacts {
    /// Bits per entry.
    pub bits: u8,
    /// Entries of a list.
    pub size: u32,
    /// `ttl` in seconds.
    pub ttl_secs: u64,
    /// `exp - iat` in seconds.
    pub list_lifetime_secs: u64,
    /// The longest validity of a credential that refers to the pool, if known.
    pub reference_lifetime: Option<Duration>,
    /// How long published tokens are valid after they should have been renewed.
    pub valid_after_renewal: Duration,
    /// The beat in seconds.
    pub update_interval_secs: u64,
    /// Names of the token formats.
    pub formats: Vec<&'static str>,
    /// What the status list credentials of each list are about; empty if none are published.
    pub purposes: Vec<Purpose>,
    /// The id of the current signing key.
    pub key_id: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether verifiers accept the certificates of the signing key at this time. Always true on an instance that never publishes.
    pub certificates_hold_at: Arc<dyn Fn(Timestamp) -> bool + Send + Sync>,
    /// The certificate of the authority of the signing key, if the pool is for mdocs and it is known.
    pub authority: Arc<dyn Fn() -> Option<Vec<u8>> + Send + Sync>,
    /// The most references that one request can ever get, apart from the limit in the settings.
    pub amount_max: u32,
    /// The most that callers can make it store.
    pub quotas: Quotas,
    /// Whether it hands out no references.
    pub closed: bool,
}

impl Api {
    /// The API over these parts, without an audit trail.
    pub fn new(
        pools: BTreeMap<PoolId, PoolApi>,
        access: Access,
        store: Store,
        limits: Limits,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Self {
        let access = ArcSwap::from_pointee(access);
        let bodies = Bodies::new(limits.bodies_bytes_max);
        let (audit, clock_watch, lenient, refusals, known) = Default::default();
        let mut bases: Vec<_> = pools.values().map(|pool| pool.base.clone()).collect();
        bases.dedup();
        let pools = pools.into_iter().map(|(id, pool)| (id, Arc::new(pool))).collect();
        Self {
            bases,
            pools: ArcSwap::from_pointee(pools),
            admin: None,
            access,
            store,
            limits,
            metrics,
            clock,
            audit,
            clock_watch,
            lenient,
            refusals,
            bodies,
            known,
        }
    }

    /// The same API with an audit trail.
    pub fn audited(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// The same API, ready only while `clock_watch` believes the time of day.
    pub fn watching(self, clock_watch: Option<Arc<ClockWatch>>) -> Self {
        Self { clock_watch, ..self }
    }

    /// The same API, which ignores unknown members and parameters if `lenient`.
    pub fn lenient(self, lenient: bool) -> Self {
        Self { lenient, ..self }
    }

    /// The same API, with these beginnings of all `uri`s: also those of pools that may come.
    pub fn below(self, bases: Vec<BaseUri>) -> Self {
        Self { bases, ..self }
    }

    /// The same API, for operators as well.
    pub fn administered(self, admin: Admin) -> Self {
        Self { admin: Some(admin), ..self }
    }

    /// The pool of this name.
    pub fn pool(&self, pool: &PoolId) -> Option<Arc<PoolApi>> {
        self.pools.load().get(pool).cloned()
    }

    /// Adds pools, and removes those with the names `gone`. Requests that are already admitted continue.
    pub fn replace_pools(&self, added: Vec<PoolApi>, gone: &[PoolId]) {
        let mut pools = Pools::clone(&self.pools.load());
        pools.retain(|id, _| !gone.contains(id));
        pools.extend(added.into_iter().map(|pool| (pool.id.clone(), Arc::new(pool))));
        self.pools.store(Arc::new(pools));
    }

    /// The current permissions.
    pub fn access(&self) -> Guard<Arc<Access>> {
        self.access.load()
    }

    /// Replaces the permissions. Requests that are already admitted continue.
    pub fn replace_access(&self, access: Access) {
        self.access.store(Arc::new(access));
    }

    /// Awaits `waiting` for at most the time limit of a request. Returns `None` after that.
    async fn within<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.limits.request_timeout, waiting).await.ok()
    }

    /// Queries the store about `pool`, within the time limit.
    async fn ask<T>(
        &self,
        pool: &PoolApi,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Problem> {
        let answer = self.within(answer).await.ok_or_else(Problem::unavailable)?;
        answer.map_err(|error| Problem::from_store(&error, &pool.id))
    }

    /// The deadline of a change that is requested now. No change takes effect after its request was answered.
    fn deadline(&self) -> Deadline {
        Deadline::after(self.limits.request_timeout)
    }

    /// Returns the list with this `uri`, and its pool.
    async fn find(&self, uri: &str) -> Result<(ListId, Arc<PoolApi>), Problem> {
        let invalid = || Problem::invalid_list_uri(uri, &self.bases);
        let list = self.bases.iter().find_map(|base| base.list_id(uri)).ok_or_else(invalid)?;
        // Only lists that were imported have names that are no UUIDs.
        let unknown = || if list.is_uuid() { Problem::no_list_to_update(&list) } else { invalid() };
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
        let pool = self.pool(&pool).ok_or_else(unknown)?;
        // The name of a list of one address under another is no list's.
        pool.base.list_id(uri).ok_or_else(invalid)?;
        Ok((list, pool))
    }
}

/// The routes that an address serves, besides `/health`.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The routes for issuers.
    pub api: bool,
    /// The routes for operators.
    pub management: bool,
}

/// Mounts the routes. Must come before the site, which may take every other path.
pub fn configure(api: web::Data<Api>, offer: Offer, config: &mut web::ServiceConfig) {
    let audited = api.audit.is_on();
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
        .app_data(api)
        // In the order of their load, because patterns are tried one after the other.
        // Not observed: it is requested often.
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
            .service(at("/pools", Method::GET, web::to(pools::pools)))
            .service(at("/pools/{pool}", Method::GET, web::to(pools::pool)))
            .service(at("/pools/{pool}/lists", Method::GET, web::to(pools::lists)))
            .service(at_each(
                "/pools/{pool}/lists/{id}",
                vec![(Method::DELETE, web::to(pools::retire)), (Method::PATCH, web::to(fill::fill))],
            ))
            .service(at("/pools/{pool}/lists/{id}/statuses/{idx}", Method::GET, web::to(pools::status)));
    }
    config.service(at("/health/ready", Method::GET, web::to(health::ready))).service(at(
        "/health/fresh",
        Method::GET,
        web::to(health::fresh),
    ));
    if offer.management {
        // The operators' own address needs no certificate: no issuer reaches it.
        let (metrics, version) = match offer.api {
            true => (web::to(health::metrics_beside_the_api), web::to(health::version_beside_the_api)),
            false => (web::to(health::metrics), web::to(health::version)),
        };
        // On the operators' own address alone: elsewhere these paths do not exist.
        if !offer.api {
            for (path, routes) in admin::routes() {
                config.service(at_each(path, routes));
            }
        }
        config.service(at("/metrics", Method::GET, metrics)).service(at("/version", Method::GET, version));
    }
}

/// Answers another method on a path that has only GET.
pub async fn only_get() -> impl actix_web::Responder {
    method_not_allowed("GET".to_owned()).await
}

/// Answers another method on a path that has only `allowed`: one method, or several separated by commas.
async fn method_not_allowed(allowed: String) -> HttpResponse {
    Problem::method_not_allowed(&allowed).error_response()
}

/// Answers a change that was sent before this process slept.
pub(super) fn slept() -> HttpResponse {
    Problem::slept().error_response()
}

/// Answers a request on a connection that got no place. Its client rarely sees it: the connection is closed already.
pub(super) fn without_place() -> HttpResponse {
    Problem::too_many_connections().error_response()
}

/// Answers a path that no route and no site serves.
pub async fn not_found() -> impl actix_web::Responder {
    Problem::not_found().error_response()
}

/// For `fuzzing::body`: parses these bytes as each body and each query.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_any(bytes: &[u8]) {
    statuses::read_any(bytes);
    if let Ok(query) = std::str::from_utf8(bytes) {
        let _ = query::read_any(query);
    }
}
