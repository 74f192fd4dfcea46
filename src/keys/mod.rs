//! The keys that sign: making development keys, and reading those that the settings name into signers.

pub mod made;
pub mod signers;
