//! statuslist: a Status Issuer for the IETF Token Status List.

pub mod clock;
pub mod config;
pub mod issuer;
pub mod pool;
pub mod sign;
pub mod status_list;
pub mod store;
