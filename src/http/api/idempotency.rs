//! `Idempotency-Key`: for a day, a retried request for references with the same key gets the same answer.
//!
//! Invariant: references are returned under a key only after the store has durably recorded them as its answer. A crash in between
//! leaves references unused, but never hands one out twice. A store that lost data may have lost a key: a retry then gets new
//! references.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use utoipa::IntoParams;

use super::problem::Problem;
use super::{Api, PoolApi};
use crate::access::Identity;
use crate::allocate::Allocated;
use crate::base::digest::digest;
use crate::model::pool::PoolId;
use crate::store::{Answered, Digest, Given, Keep, Remembered};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const LENGTH_MAX: usize = 255;
/// How long a retry gets the same answer.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// The header, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only for the description: the code must detect a repeated header")]
pub(super) struct IdempotencyKey {
    /// A unique name for this request, such as a random UUID. A retry with the same key within a day gets the same references.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    key: Option<String>,
}

/// Whether the answer was sent before.
pub(super) struct Repeated(pub(super) bool);

/// Identifies a request by pool, caller and the key that the caller chose. The caller is identified by its credential, not by its
/// display name: two issuers of one pool that choose the same key must not get the same references.
pub(super) struct Key(Digest);

impl Key {
    /// Returns the key of a request for references of `pool`, if the request has one.
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

    /// Returns the answer recorded under this key. If there is none, calls `allocate`, and records and returns its result. `asked`
    /// identifies the content of the request.
    pub(super) async fn answer(
        self,
        api: &Api,
        pool: &PoolApi,
        asked: &str,
        allocate: impl Future<Output = Result<Vec<Allocated>, Problem>>,
    ) -> Result<(Vec<Given>, Repeated), Problem> {
        let Self(key) = self;
        let asked = digest("statuslist request for references", &[asked.as_bytes()]);
        // A plain retry allocates nothing.
        let before = api.ask(pool, api.store.remembered(&pool.id, key, api.clock.now())).await?;
        if let Some(before) = before {
            return repeat(before, asked);
        }
        let taken = allocate.await?;
        let answer = pool.allocator.answer(asked, &taken);
        let references = answer.references();
        let keep = Keep { time: KEEP, bytes_max: api.limits.idempotency_bytes_max };
        // Even if this fails, a retry may receive these references, so nobody else may ever get them.
        let remembered = api.store.remember(&pool.id, key, answer, api.clock.now(), keep);
        match api.ask(pool, remembered).await? {
            Remembered::Now => Ok((references, Repeated(false))),
            Remembered::Before(before) => {
                // Another request with this key was faster; nobody has seen our references.
                pool.allocator.give_back(taken);
                repeat(before, asked)
            }
            Remembered::Full { retry_after } => {
                pool.allocator.give_back(taken);
                Err(Problem::too_many_answers(&pool.id, keep.bytes_max, retry_after))
            }
        }
    }
}

fn repeat(before: Answered, asked: Digest) -> Result<(Vec<Given>, Repeated), Problem> {
    match before.request == asked {
        true => Ok((before.references(), Repeated(true))),
        false => Err(Problem::idempotency_key_reused()),
    }
}
