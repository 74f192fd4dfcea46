//! The files of a trail: the one being written, and the earlier ones beside it.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::durable::folder_of;

/// The files of the trail that is written to `path`, the current one last. Leaves out lines that a crash cut short, which stand
/// in files of their own.
pub fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = folder_of(path);
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let current = path.file_name().unwrap_or_default().to_string_lossy();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(listed)? {
        let name = entry?.file_name();
        let earlier = name
            .to_str()
            .and_then(|name| name.strip_prefix(&*current)?.strip_prefix('.'))
            .is_some_and(is_time);
        if earlier {
            files.push(folder.join(name));
        }
    }
    files.sort();
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Whether an ending is the time at which a file was full.
fn is_time(ending: &str) -> bool {
    ending.starts_with(|first: char| first.is_ascii_digit()) && ending.ends_with('Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_files_and_the_current_one_are_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a.jsonl", "a.jsonl.2026-11-02T10-00-00.000Z", "a.jsonl.2026-11-01T10-00-00.000Z"];
        for name in
            names.iter().chain(&["a.jsonl.lock", "a.jsonl.tmp", "a.jsonl.torn-17", "b.jsonl", "a.jsonl.1"])
        {
            std::fs::File::create(folder.path().join(name)).unwrap();
        }
        let found = files_of(&folder.path().join("a.jsonl")).unwrap();
        assert_eq!(found, [names[2], names[1], names[0]].map(|name| folder.path().join(name)));
    }
}
