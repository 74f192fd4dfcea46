//! A Relying Party's side of the Token Status List: fetches Status List Tokens, verifies them, and tells the status at an index.
//!
//! The service `statuslist` builds on this crate: it shares the specification, its command `check` is the verifier, and its tests
//! use the verifier as the counterpart of everything that it publishes. Nothing here knows pools, stores and private keys.

pub mod base;
pub mod chain;
pub mod check;
pub mod profile;
pub mod status_list;

#[cfg(test)]
#[path = "tests/issuer.rs"]
mod issuer;
