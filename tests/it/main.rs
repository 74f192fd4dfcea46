//! The whole service: real server, real files, real clients. One binary, its modules mirror what users do.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod allocate;
mod api;
mod audit;
mod auth;
mod bench;
mod bodies;
mod bulk;
mod certificates;
mod chains;
mod chaos;
mod cli;
mod client;
mod client_certificates;
mod clocks;
mod crash;
mod disk_full;
mod docs;
#[path = "../drills/mod.rs"]
mod drills;
mod edge;
mod everysec;
mod explorer;
mod failover;
mod golden;
mod hanging;
mod held_lock;
mod idempotency;
mod instances;
mod interop;
mod key_rotation;
mod late_writes;
mod lifecycle;
mod load;
mod migrate;
mod modes;
mod nginx;
mod nginx_connections;
mod nginx_hammer;
mod nginx_service;
mod observability;
mod open_files;
mod operations;
mod packages;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod plan;
mod postgres;
mod power_cut;
mod probe;
mod publish;
mod publish_role;
mod quotas;
mod redis_down;
mod redis_tls;
mod reload;
mod restart;
mod restore;
mod schemathesis;
mod secrets;
mod sinks;
mod slow_clients;
mod spread;
mod support;
mod verify;
