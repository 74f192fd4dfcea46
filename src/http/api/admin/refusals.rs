//! The problems of `/admin`, as `problem.rs` has those of the other paths.

use super::super::code::Code;
use super::super::problem::{Problem, shortened};
use crate::store::StoreError;

impl Problem {
    pub(in crate::http::api) fn not_admin() -> Self {
        Self::new(Code::Forbidden, "This api key lacks the scope `admin`")
            .and("only keys in admin-api-keys of the settings have it")
    }

    pub(in crate::http::api) fn no_such_key(name: &str) -> Self {
        let message = format!("No key with the name {} was made at run time", shortened(name));
        Self::new(Code::NoSuchKey, message)
    }

    pub(in crate::http::api) fn not_made_at_run_time(pool: &str) -> Self {
        let message = format!("No pool with id {} was made at run time", shortened(pool));
        Self::new(Code::NoSuchPool, message).and("one of the settings is changed there")
    }

    pub(in crate::http::api) fn name_taken(name: &str, why: &str) -> Self {
        Self::new(Code::NameTaken, format!("The name {} cannot be used: {why}", shortened(name)))
    }

    pub(in crate::http::api) fn pool_in_use(pool: &str, why: &str) -> Self {
        let message = format!("The pool {pool} cannot be deleted: {why}; `force=true` deletes it anyway");
        Self::new(Code::PoolInUse, message)
    }

    pub(in crate::http::api) fn not_in_use_yet() -> Self {
        let message = "The change is stored, but this instance does not use it yet and goes on as before; its log says why";
        Self::new(Code::Unavailable, message).and("do not repeat the request, but look at the log")
    }

    /// The answer when the store failed during a request about pools and keys made at run time.
    pub(in crate::http::api) fn from_registry(error: &StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        match error {
            StoreError::Late => Self::late(),
            StoreError::Damaged(_) => Self::store_damaged(),
            _ => Self::unavailable(),
        }
    }
}
