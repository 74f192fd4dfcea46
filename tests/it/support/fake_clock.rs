//! A time of day that follows a file, for a process under libfaketime. The uptime and the times of files stay real.

use std::path::Path;

/// Sets the clock of the processes that follow this file, for example to `+7200`, two hours ahead.
pub(crate) fn set(file: &Path, offset: &str) {
    let new = file.with_extension("new");
    std::io::Write::write_all(&mut std::fs::File::create(&new).unwrap(), offset.as_bytes()).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// The environment of a process that follows this file.
pub(crate) fn follows(file: &Path) -> Vec<(String, String)> {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let library =
        libraries.map(|of| of.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    let library = library.expect("libfaketime is installed: run scripts/test");
    let pairs = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
