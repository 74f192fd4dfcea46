//! The published site: the folder of signed files, and the server that sends them to Relying Parties.

pub mod folder;
pub mod layout;
pub mod server;
pub mod status_page;
