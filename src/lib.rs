//! statuslist: a Status Issuer for the IETF Token Status List.

pub mod status_list;
