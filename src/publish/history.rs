//! The archive of a pool with `history`: the original tokens of each publication, for "Historical Resolution". A token is
//! kept until `retention` after its replacement; a pool without history keeps none.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::durable::{self, FileError};
use crate::site::folder::{Site, SiteError};
use crate::site::layout;
use crate::status_list::ListId;

/// Removes the tokens of a list's archive that are older than `retention`, or all of them.
pub(super) fn sweep(
    site: &Site,
    list: &ListId,
    retention: Option<Duration>,
    now: Timestamp,
) -> Result<(), SiteError> {
    let folder = site.layout().history(list);
    let Some(retention) = retention else {
        return durable::remove_folder(&folder);
    };
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|source| FileError::new("read", &folder, source))?,
    };
    let since = now.date().minus(retention);
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut old: Vec<_> = paths
        .filter_map(|path| Some((layout::archived(&path)?.0, path)))
        .filter(|(iat, _)| *iat <= since)
        .collect();
    // The latest of them was current at the beginning of the retention period.
    let current_then = old.iter().map(|(iat, _)| *iat).max();
    old.retain(|(iat, _)| Some(*iat) != current_then);
    old.iter().try_for_each(|(_, path)| durable::remove(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::NumericDate;
    use crate::site::folder::TokenFiles;
    use crate::status_list::Format;

    #[test]
    fn what_was_replaced_before_the_retention_goes() {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::open(folder.path()).unwrap();
        let list = ListId::random();
        for iat in [100, 200, 300, 400] {
            let iat = NumericDate::from_secs(iat);
            let files =
                TokenFiles::new([(Format::Jwt, iat.to_string().into_bytes()), (Format::Cwt, vec![1])]);
            site.prepare(&list, &files, iat).unwrap().archived(&site, &list, iat).put().unwrap();
        }
        let kept = || {
            let mut names: Vec<_> = fs::read_dir(site.layout().history(&list))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with("jwt"))
                .collect();
            names.sort();
            names
        };
        assert_eq!(kept(), ["100.jwt", "200.jwt", "300.jwt", "400.jwt"]);
        let sweep_at = |now, retention: Option<u64>| {
            let retention = retention.map(Duration::from_secs);
            sweep(&site, &list, retention, Timestamp::from_secs(now)).unwrap();
        };
        sweep_at(350, Some(100));
        assert_eq!(kept(), ["200.jwt", "300.jwt", "400.jwt"], "200 was current at 250");
        sweep_at(10_000, Some(100));
        assert_eq!(kept(), ["400.jwt"]);
        assert_eq!(fs::read(site.layout().history(&list).join("400.jwt")).unwrap(), b"400");
        sweep_at(10_000, None);
        assert!(!site.layout().history(&list).exists());
        sweep_at(10_000, Some(100));
    }
}
