//! statuslist: a Status Issuer for the IETF Token Status List.

pub mod allocate;
pub mod api;
pub mod app;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod issuer;
pub mod keys;
pub mod metrics;
pub mod pool;
pub mod publish;
pub mod sign;
pub mod signals;
pub mod site_server;
pub mod status_list;
pub mod stopper;
pub mod store;
pub mod telemetry;
pub mod update;
