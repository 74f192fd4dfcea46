//! `POST /pools/{pool}/new-references`, and the older paths that do the same.

use std::cell::Cell;
use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::Ref;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::idempotency::{IdempotencyKey, Key, Repeated};
use super::problem::Problem;
use super::query::{self, Query};
use super::responses::{
    BadRequest, KeyReused, ListInUse, NotFound, RateLimitReached, Unauthorized, Unavailable,
};
use super::{Api, PoolApi, trail};
use crate::access::Identity;
use crate::base::clock::{NumericDate, Timestamp};
use crate::bitstring;
use crate::config::Quotas;
use crate::model::api_key::Scope;
use crate::status_list::{Purpose, Reference};
use crate::store::Given;

/// For the description only.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the handler reads them one by one")]
struct Parameters {
    /// Number of references. The settings and the size of the pool's buffer limit it.
    #[param(minimum = 1, default = 1, required = false)]
    amount: u32,
    /// Add the `status` claim of each, ready for a credential: `true` in JSON, `cbor` in CBOR for CWTs and mdocs. With `true`, pools with
    /// the format `bitstring` add the `credentialStatus` of a W3C credential as well.
    #[param(inline, required = false)]
    claims: ClaimsForm,
}

/// The form of the `status` claims in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
enum ClaimsForm {
    #[default]
    False,
    True,
    Cbor,
}

impl FromStr for ClaimsForm {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut forms = [Self::False, Self::True, Self::Cbor].into_iter();
        forms.find(|form| form.name() == text).ok_or(())
    }
}

impl ClaimsForm {
    const fn name(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::True => "true",
            Self::Cbor => "cbor",
        }
    }

    fn of(self, reference: &Reference, authority: Option<&[u8]>) -> Option<Value> {
        match self {
            Self::False => None,
            Self::True => Some(reference.to_json()),
            Self::Cbor => Some(URL_SAFE_NO_PAD.encode(reference.to_mso_cbor(authority)).into()),
        }
    }

    fn credential_status(self, reference: &Reference, purposes: &[Purpose]) -> Option<Value> {
        (self == Self::True && !purposes.is_empty())
            .then(|| bitstring::credential_status(reference, purposes))
    }
}

/// New references. Each is handed out once.
#[derive(Serialize, ToSchema)]
struct References {
    references: Vec<Item>,
    /// Until when the statuses of all these references are maintained, in seconds since 1970: no list of theirs can be retired before.
    /// Only if the pool has a `reference-lifetime`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false, example = 1_830_000_000_u64)]
    maintained_until: Option<NumericDate>,
}

/// The reference of one credential to its status.
#[derive(Serialize, ToSchema)]
#[schema(as = Reference)]
struct Item {
    /// The list, for `status_list.uri`.
    #[schema(example = "https://status.example/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d")]
    uri: String,
    /// The entry, for `status_list.idx`.
    index: u32,
    /// See [`status_claim`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = status_claim, required = false)]
    status: Option<Value>,
    /// The `credentialStatus` of a W3C credential: an entry for each status list credential. Only with `claims=true`, of pools with the
    /// format `bitstring`.
    #[serde(rename = "credentialStatus", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<CredentialStatus>, required = false)]
    credential_status: Option<Value>,
}

/// Where one status of a credential is (W3C Bitstring Status List, "BitstringStatusListEntry").
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only for the schema; `bitstring` writes it")]
pub(super) struct CredentialStatus {
    id: String,
    /// `BitstringStatusListEntry`.
    r#type: String,
    /// `revocation` or `suspension`.
    status_purpose: String,
    /// `index` of the reference, as text.
    status_list_index: String,
    /// The address of the status list credential.
    status_list_credential: String,
}

/// The `status` claim of a credential in JSON.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only for the schema; `Reference` writes it")]
pub(super) struct StatusClaim {
    status_list: StatusListClaim,
}

/// The entry and the list.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only for the schema; `Reference` writes it")]
struct StatusListClaim {
    /// `index` of the reference.
    idx: u32,
    /// `uri` of the reference.
    uri: String,
}

/// An object, or base64url.
fn status_claim() -> Schema {
    let what = "The `status` claim of the credential; only with `claims=true`, or, as CBOR in base64url, with `claims=cbor`.";
    let one_of = OneOfBuilder::new()
        .description(Some(what))
        .item(Ref::from_schema_name("StatusClaim"))
        .item(ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9_-]+$")));
    Schema::OneOf(one_of.build())
}

/// Allocate references
///
/// `POST /pools/{pool}/new-references?amount=N[&claims=true|cbor]`: each reference is for one credential and is handed out once. One
/// that the caller does not use stays unused.
#[utoipa::path(
    operation_id = "allocateReferences",
    post,
    path = "/pools/{pool}/new-references",
    tag = "references",
    security(("api-key" = []), ("bearer" = [])),
    params(("pool" = String, Path, example = "demo", description = "The pool's name"), Parameters, IdempotencyKey),
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
    let pool = &*caller.pool(&api, &pool, Scope::Allocate)?;
    let query = Query::of(&request, &api, &["amount", "claims"])?;
    let amount = query.get("amount", "a number from 1")?.unwrap_or(1);
    let claims: ClaimsForm = query.get("claims", "true, false or cbor")?.unwrap_or_default();
    let allocated = allocate(&request, &api, (&caller, pool), amount, claims).await?;
    let facts = pool.facts.load();
    let authority = (facts.authority)();
    let item = |given: Given| {
        let reference = Reference { uri: pool.base.join(&given.list), idx: given.idx.into() };
        let status = claims.of(&reference, authority.as_deref());
        let credential_status = claims.credential_status(&reference, &facts.purposes);
        Item { uri: reference.uri, index: given.idx, status, credential_status }
    };
    let references = allocated.references.into_iter().map(item).collect();
    Ok(HttpResponse::Ok().json(References { references, maintained_until: allocated.maintained_until }))
}

/// Allocate one reference
///
/// `POST /api/{pool}/new-reference`
#[utoipa::path(
    operation_id = "allocateReferenceOnOlderPath",
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
    let pool = &*caller.pool(&api, &pool, Scope::Allocate)?;
    query::none(&request, &api)?;
    let allocated = allocate(&request, &api, (&caller, pool), 1, ClaimsForm::False).await?;
    Ok(HttpResponse::Ok().json(items(pool, allocated.references).next()))
}

/// Allocate references
///
/// `POST /api/{pool}/new-references/{n}`
#[utoipa::path(
    operation_id = "allocateReferencesOnOlderPath",
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
    let pool = &*caller.pool(&api, &pool, Scope::Allocate)?;
    query::none(&request, &api)?;
    let amount = amount.parse().map_err(|_| {
        Problem::bad_request(format!("The amount in the path must be a number from 1, got `{amount}`"))
    })?;
    let Handed { references, maintained_until } =
        allocate(&request, &api, (&caller, pool), amount, ClaimsForm::False).await?;
    let references = items(pool, references).collect();
    Ok(HttpResponse::Ok().json(References { references, maintained_until }))
}

/// References for an answer.
struct Handed {
    references: Vec<Given>,
    maintained_until: Option<NumericDate>,
}

async fn allocate(
    request: &HttpRequest,
    api: &Api,
    (caller, pool): (&Caller, &PoolApi),
    amount: i64,
    claims: ClaimsForm,
) -> Result<Handed, Problem> {
    // A pool that does not wait could never hand out more than its buffer holds, and none more than its quotas.
    let (amount_max, quotas, lifetime) = {
        let facts = pool.facts.load();
        (facts.amount_max, facts.quotas, facts.reference_lifetime)
    };
    let most = [Some(amount_max), quotas.references_per_day, quotas.references_per_key_per_day];
    let max = most.into_iter().flatten().fold(api.limits.amount_max, u32::min);
    let asked = u32::try_from(amount).ok().filter(|amount| (1..=max).contains(amount));
    let amount = asked.ok_or_else(|| Problem::amount_out_of_range(amount, max))?;
    let counted = Counted { pool, caller: caller.identity(), amount: Cell::new(0) };
    // The earliest, from which on `reference-lifetime` counts, see `still_in_use` in pools.rs.
    let leased_at = Cell::new(None);
    let taken = async {
        // Not before: an answer that was given is given again.
        if pool.facts.load().closed {
            return Err(Problem::pool_closed(&pool.id));
        }
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
        leased_at.set(allocated.iter().map(|reference| reference.leased_at).min());
        Ok(allocated)
    };
    let maintained_until = || Some(leased_at.get()?.plus(lifetime?).date());
    let Some(key) = Key::of(request, &pool.id, caller.identity())? else {
        let references = taken.await?.iter().map(Given::from).collect();
        counted.keep();
        return Ok(Handed { references, maintained_until: maintained_until() });
    };
    let asked = format!("amount={amount}&claims={}", claims.name());
    let (references, Repeated(repeated)) = Box::pin(key.answer(api, pool, &asked, taken)).await?;
    match repeated {
        true => {
            trail::allocated(request, api, pool, amount, true).await?;
            leased_at.set(latest_lease(api, pool, &references, lifetime).await?);
        }
        false => counted.keep(),
    }
    Ok(Handed { references, maintained_until: maintained_until() })
}

/// The earliest of the latest leases of the lists of these references, which were leased with them or before. `None` if nobody
/// needs it.
async fn latest_lease(
    api: &Api,
    pool: &PoolApi,
    references: &[Given],
    lifetime: Option<Duration>,
) -> Result<Option<Timestamp>, Problem> {
    if lifetime.is_none() {
        return Ok(None);
    }
    let lists: HashSet<_> = references.iter().map(|reference| reference.list).collect();
    let mut earliest = None;
    for list in lists {
        let record = api.ask(pool, api.store.list(list)).await?;
        let Some(leased_at) = record.and_then(|record| record.leased_at) else { return Ok(None) };
        earliest = Some(earliest.map_or(leased_at, |earlier: Timestamp| earlier.min(leased_at)));
    }
    Ok(earliest)
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
        credential_status: None,
    })
}
