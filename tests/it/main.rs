//! The whole service: real server, real files, real clients. One binary, its modules mirror what users do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod allocate;
mod api;
mod auth;
mod cli;
mod crash;
mod disk_full;
mod everysec;
mod explorer;
mod failover;
mod instances;
mod interop;
mod lifecycle;
mod migrate;
mod nginx;
mod nginx_hammer;
mod power_cut;
mod publish;
mod publish_role;
mod redis_down;
mod restart;
mod restore;
mod sinks;
mod slow_clients;
mod support;
