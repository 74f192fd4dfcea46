//! The whole service: real server, real files, real clients. One binary, its modules mirror what users do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod allocate;
mod api;
mod cli;
mod crash;
mod disk_full;
mod everysec;
mod explorer;
mod failover;
mod instances;
mod interop;
mod key_rotation;
mod lifecycle;
mod migrate;
mod nginx;
mod nginx_hammer;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod power_cut;
mod publish;
mod publish_role;
mod redis_down;
mod reload;
mod restart;
mod restore;
mod sinks;
mod support;
