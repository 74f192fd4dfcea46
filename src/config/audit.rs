//! Where the audit trail is written, and when a new file begins.

use std::path::PathBuf;

use super::raw::RawAudit;
use super::{ConfigError, PublishConfig};

/// The audit trail's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file being written. Earlier files are beside it.
    pub path: PathBuf,
    /// A new file begins when the current one has this many bytes.
    pub rotate_bytes: u64,
    /// Whether a new file begins each day (UTC).
    pub rotate_daily: bool,
}

/// A file holds at least its first line, which is linked to the file before, and one more.
const ROTATE_BYTES_MIN: u64 = 4096;

impl AuditConfig {
    pub(super) fn check(raw: RawAudit, publish: &PublishConfig) -> Result<Option<Self>, ConfigError> {
        let Some(path) = raw.path else { return Ok(None) };
        if path.file_name().is_none() {
            return Err(ConfigError::at(
                "audit.path",
                "must be the path of a file, such as data/audit.jsonl",
            ));
        }
        if publish.world_can_read(&path) {
            let (path, public) = (path.display(), publish.storage_directory.display());
            let why =
                format!("{path} lies in storage-directory ({public}), which the world can read; move it out");
            return Err(ConfigError::at("audit.path", why));
        }
        if raw.rotate_bytes < ROTATE_BYTES_MIN {
            let why = format!("must be at least {ROTATE_BYTES_MIN}");
            return Err(ConfigError::at("audit.rotate-bytes", why));
        }
        Ok(Some(Self { path, rotate_bytes: raw.rotate_bytes, rotate_daily: raw.rotate_daily }))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn load(audit: &str) -> Result<Config, String> {
        let file = format!("audit: {{ {audit} }}");
        Config::load(Some(&file), std::iter::empty()).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_off_unless_a_file_is_named_and_never_in_the_public_folder() {
        assert!(load("").unwrap().audit.is_none());
        let audit = load("path: data/audit.jsonl").unwrap().audit.unwrap();
        assert_eq!((audit.rotate_bytes, audit.rotate_daily), (67_108_864, false));
        for (audit, key, why) in [
            ("path: public/audit.jsonl", "audit.path", "move it out"),
            ("path: ..", "audit.path", "a file"),
            ("path: a, rotate-bytes: 100", "audit.rotate-bytes", "at least 4096"),
            ("path: a, rotate-byte: 100", "audit.rotate-byte", "did you mean `rotate-bytes`?"),
        ] {
            let error = load(audit).unwrap_err();
            assert!(error.starts_with(key) && error.contains(why), "{audit}: {error}");
        }
    }
}
