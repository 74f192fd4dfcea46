//! Real servers on free ports of this machine.
//!
//! Names nothing of this crate, so that the unit tests of the store can include this file.

#[path = "child.rs"]
mod child;
#[path = "patroni.rs"]
pub(crate) mod patroni;
#[path = "port.rs"]
pub(crate) mod port;
#[path = "postgres.rs"]
pub(crate) mod postgres;
#[path = "redis.rs"]
pub(crate) mod redis;
#[path = "wire.rs"]
pub(crate) mod wire;
