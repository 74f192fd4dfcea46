//! `Idempotency-Key`: a request for references that is repeated with its key is answered as the first time, for a day.
//!
//! Invariant: references are answered under a key only after the store remembers, durably, that they are its answer. A crash
//! in between leaves references that nobody has, never references that two have. A store that lost data may have forgotten a
//! key: its request is then given new references.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use utoipa::IntoParams;

use super::pools::ask;
use super::problem::Problem;
use super::{Api, PoolApi};
use crate::access::Identity;
use crate::allocate::Allocated;
use crate::base::digest::digest;
use crate::model::pool::PoolId;
use crate::store::{Answered, Digest, Given, Remembered};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const LENGTH_MAX: usize = 255;
/// For how long a retry is answered the same.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// The header, as the description of the API has it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only described: a header that comes twice must be seen")]
pub(super) struct IdempotencyKey {
    /// A name for this request, a random UUID for example: repeated with it within a day, it is answered the same references.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    key: Option<String>,
}

/// Whether references were answered before.
pub(super) struct Repeated(pub(super) bool);

/// What names a request: the pool, its caller, and the key that the caller chose. Two issuers of one pool who choose the same
/// key must not be given the same references, so the caller is their credential, not the name that logs give it.
pub(super) struct Key(Digest);

impl Key {
    /// The key of a request for references of `pool`, if it has one.
    pub(super) fn of(
        request: &HttpRequest,
        pool: &PoolId,
        caller: &Identity,
    ) -> Result<Option<Self>, Problem> {
        let mut values = request.headers().get_all(HEADER);
        let Some(value) = values.next() else { return Ok(None) };
        let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
        if values.next().is_some() || !visible || !(1..=LENGTH_MAX).contains(&value.len()) {
            return Err(Problem::bad_request(format!(
                "Idempotency-Key must be given once, with 1 to {LENGTH_MAX} visible ASCII characters; a random UUID is best"
            )));
        }
        let parts = [pool.as_str().as_bytes(), caller.as_bytes(), value.as_bytes()];
        Ok(Some(Self(digest("statuslist answer under an Idempotency-Key", &parts))))
    }

    /// What was answered under this key, or else what `allocate` gives, remembered from now on. `asked` is what the request
    /// asks for, in a form that only the same request has.
    pub(super) async fn answer(
        self,
        api: &Api,
        pool: &PoolApi,
        asked: &str,
        allocate: impl Future<Output = Result<Vec<Allocated>, Problem>>,
    ) -> Result<(Vec<Given>, Repeated), Problem> {
        let Self(key) = self;
        let asked = digest("statuslist request for references", &[asked.as_bytes()]);
        // A plain retry takes nothing.
        let before = ask(api, pool, api.store.remembered(&pool.id, key, api.clock.now())).await?;
        if let Some(before) = before {
            return repeat(before, asked);
        }
        let taken = allocate.await?;
        let references: Vec<_> = taken.iter().map(Given::from).collect();
        let answer = Answered { request: asked, references: references.clone() };
        // If this fails, a retry may yet be given these references, so they never become anybody else's.
        let remembered = api.store.remember(&pool.id, key, answer, api.clock.now(), KEEP);
        match ask(api, pool, remembered).await? {
            Remembered::Now => Ok((references, Repeated(false))),
            Remembered::Before(before) => {
                // Another request with this key was faster; nobody has seen ours.
                pool.allocator.give_back(taken);
                repeat(before, asked)
            }
        }
    }
}

fn repeat(before: Answered, asked: Digest) -> Result<(Vec<Given>, Repeated), Problem> {
    match before.request == asked {
        true => Ok((before.references, Repeated(true))),
        false => Err(Problem::idempotency_key_reused()),
    }
}
