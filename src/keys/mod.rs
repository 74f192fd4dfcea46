//! The keys that sign: generates development keys, and reads those that the settings name into signers.

pub mod made;
pub mod signers;
