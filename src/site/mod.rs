//! What is published: the folder of signed files, and the server that hands them to Relying Parties.

pub mod folder;
pub mod layout;
pub mod server;
