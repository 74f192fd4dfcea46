//! Who calls: the API key of a request, and which pools it opens.

use actix_web::HttpRequest;
use subtle::Choice;

use super::problem::Problem;
use super::{Api, PoolApi};
use crate::issuer::ApiKeyHash;
use crate::pool::PoolId;

const HEADER: &str = "X-Api-Key";

/// A caller whose key opens at least one pool.
pub(super) struct Caller(ApiKeyHash);

impl Caller {
    /// The caller of this request. Refused before its body is read if the key opens nothing.
    pub(super) fn of(request: &HttpRequest, api: &Api) -> Result<Self, Problem> {
        let key = request.headers().get(HEADER).ok_or_else(Problem::missing_key)?;
        let key = key.to_str().map_err(|_| Problem::invalid_key())?;
        let caller = Self(ApiKeyHash::of(key));
        // Every key of every pool is looked at, whichever fits.
        let opens = api.pools.values().fold(Choice::from(0), |opens, pool| opens | caller.opens(pool));
        if bool::from(opens) { Ok(caller) } else { Err(Problem::invalid_key()) }
    }

    /// The pool of this name, if the caller may use it.
    pub(super) fn pool<'a>(&self, api: &'a Api, name: &str) -> Result<&'a PoolApi, Problem> {
        let id: PoolId = name.parse().map_err(|_| Problem::no_such_pool(name))?;
        self.may_use(api.pools.get(&id).ok_or_else(|| Problem::no_such_pool(name))?)
    }

    /// `pool`, if the caller may use it.
    pub(super) fn may_use<'a>(&self, pool: &'a PoolApi) -> Result<&'a PoolApi, Problem> {
        if bool::from(self.opens(pool)) { Ok(pool) } else { Err(Problem::invalid_key()) }
    }

    fn opens(&self, pool: &PoolApi) -> Choice {
        pool.api_keys.load().iter().fold(Choice::from(0), |opens, key| opens | key.matches(&self.0))
    }
}
