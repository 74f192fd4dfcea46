//! statuslist: a Status Issuer for the IETF Token Status List.
//!
//! Issuers of credentials ask the API for references and update statuses; the publisher signs the changed lists and writes
//! them as static files. `ARCHITECTURE.md` follows one revocation through all parts. The modules are listed in that order;
//! `tests/tidy.rs` checks which may name which.
//!
//! Invariants, each with a test:
//! 1. `status_list` imports no other part, does no I/O, knows no clock.
//! 2. `api` and `publish` never name each other; they meet only in the store. No request causes a signature.
//! 3. A change and its dirty mark are one atomic step, durable before it is answered.
//! 4. A published file is whole or absent, and only replaced by one that passed the gate.
//! 5. No (`uri`, `idx`) is handed out twice; the order of indices reveals nothing.
//! 6. An unchanged list is signed again well before its `exp`. If signing fails, the old file stays.
//! 7. Only `app` sees all settings; every other part is given its own section.

// The specification, the values that all parts share, and the base of every part.
pub mod base;
pub mod model;
pub use statuslist_client::{bitstring, status_list};

// The operator's settings, and the keys that sign.
pub mod config;
pub mod keys;
pub mod sign;

// From a request to the durable store.
pub mod access;
pub mod allocate;
pub mod audit;
pub mod http;
pub mod store;
pub mod update;

// From the store to signed files.
pub mod publish;
pub mod site;

// What Relying Parties do, what operators see, and where lists come from.
pub mod import;
pub mod plan;
pub mod probe;
pub mod telemetry;
pub use statuslist_client::check;

// Running all parts.
pub mod app;
pub mod cli;

// For `fuzz/`; not for users of the library.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
