//! The whole service: real server, real files, real clients. One binary, its modules mirror what users do.

mod allocate;
mod api;
mod cli;
mod crash;
mod disk_full;
mod interop;
mod power_cut;
mod publish;
mod restart;
mod support;
