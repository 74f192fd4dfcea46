//! statuslist: a Status Issuer for the IETF Token Status List.

pub mod check;
pub mod config;
pub mod issuer;
pub mod pool;
pub mod sign;
pub mod status_list;
