//! Where the publisher reads keys and writes files.

use std::path::PathBuf;

/// The publisher's folders.
#[derive(Clone, Debug)]
pub struct PublishConfig {
    /// The tokens go into `lists/` below it.
    pub storage_directory: PathBuf,
    /// Where generated development keys are kept.
    pub key_directory: PathBuf,
}
