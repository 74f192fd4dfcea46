//! A Relying Party's side of the Token Status List: fetches Status List Tokens, verifies them, holds them in memory, and tells the
//! status at an index.
//!
//! [`StatusListCache`] is the part for programs; [`check`] is one check, and the judgement alone. `README.md` has an example.
//!
//! The service `statuslist` builds on this crate: it shares the specification, its command `check` is the verifier, and its tests
//! use the verifier as the counterpart of everything that it publishes. Nothing here knows pools, stores and private keys.

pub mod base;
pub mod bitstring;
pub mod cache;
pub mod chain;
pub mod check;
pub mod profile;
pub mod status_list;

pub use cache::{Answer, CacheRules, Counts, Freshness, NoStatus, StatusListCache};
pub use check::{Check, Trust, TrustSource};
pub use status_list::{Reference, Status};

/// The example of the README, which is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
#[path = "tests/issuer.rs"]
mod issuer;
