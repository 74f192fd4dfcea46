//! Keeps the edges between the parts, which a workspace of crates would keep: read from the `use` lines of the source.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each part may name of this crate. Tests are left out: they may use everything.
const EDGES: &[(&str, &[&str])] = &[
    ("status_list", &[]),
    ("clock", &[]),
    ("stopper", &[]),
    ("connection", &[]),
    ("signals", &[]),
    ("instance", &["store"]),
    ("issuer", &["clock"]),
    ("pool", &["status_list"]),
    ("metrics", &["pool"]),
    ("config", &["clock", "issuer", "pool", "status_list"]),
    ("sign", &["status_list"]),
    ("telemetry", &["config"]),
    // Knows nothing of HTTP: `api` reads the headers.
    ("access", &["clock", "config", "issuer", "pool"]),
    ("store", &["clock", "config", "pool", "status_list"]),
    ("allocate", &["clock", "config", "metrics", "pool", "signals", "status_list", "stopper", "store"]),
    ("update", &["clock", "metrics", "pool", "store"]),
    ("audit", &["clock", "config", "metrics", "pool", "status_list"]),
    // Knows nothing of HTTP, and nothing of the API. Of `allocate` it needs the permutation only.
    (
        "publish",
        &[
            "allocate",
            "clock",
            "config",
            "metrics",
            "pool",
            "sign",
            "signals",
            "status_list",
            "stopper",
            "store",
        ],
    ),
    // Knows nothing of signing or publishing: no request ever causes a signature.
    (
        "api",
        &[
            "access",
            "allocate",
            "audit",
            "clock",
            "config",
            "connection",
            "issuer",
            "metrics",
            "pool",
            "status_list",
            "store",
            "telemetry",
            "update",
        ],
    ),
    ("site_server", &["pool", "sign", "status_list"]),
    ("check", &["sign", "status_list"]),
    // Rehearses a publication to see what it takes.
    ("plan", &["publish", "sign", "status_list"]),
    ("keys", &["config", "issuer", "sign"]),
    // Does not know what takes the settings.
    ("reload", &["config", "metrics", "stopper"]),
    ("signing_keys", &["clock", "config", "keys", "sign"]),
];
/// The outermost parts, which may name everything.
const OUTERMOST: &[&str] = &["app", "cli", "docs", "fuzzing", "http", "lib", "main"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

/// The first folder or file name below `src/`.
fn part_of(path: &Path) -> String {
    let below = path.strip_prefix("src").unwrap();
    below.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// `part::tests::name`, with nothing left out.
fn is_test_path(text: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.contains("::") && text.split("::").all(word)
}

/// The part of a file that is no test.
fn product(source: &str) -> &str {
    let tests =
        source.find("#[cfg(test)]\nmod tests").or_else(|| source.find("#[cfg(test)]\npub(super) mod tests"));
    &source[..tests.unwrap_or(source.len())]
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    ["tests.rs", "contract.rs", "expectations.rs"].contains(&name.as_ref())
}

#[test]
fn parts_name_only_what_they_may() {
    let mut wrong = Vec::new();
    for path in sources(Path::new("src")) {
        let part = part_of(&path);
        if OUTERMOST.contains(&part.as_str()) || is_test_file(&path) {
            continue;
        }
        let allowed = EDGES.iter().find(|(name, _)| *name == part).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("{part} has no line in EDGES: say what it may use"));
        let source = std::fs::read_to_string(&path).unwrap();
        let named: BTreeSet<_> = product(&source)
            .split("crate::")
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
            .filter(|name| !name.is_empty() && *name != part)
            .collect();
        wrong.extend(
            named
                .into_iter()
                .filter(|name| !allowed.contains(name))
                .map(|name| format!("{}: {name}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "these edges are not in tests/tidy.rs: {wrong:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in sources(Path::new("src")) {
        let source = std::fs::read_to_string(&path).unwrap();
        assert!(source.starts_with("//! "), "{} has no `//!` at its top", path.display());
    }
}

#[test]
fn files_hold_one_idea() {
    const LINES_MAX: usize = 450;
    for path in sources(Path::new("src")) {
        let source = std::fs::read_to_string(&path).unwrap();
        let lines = product(&source).lines().count();
        assert!(
            is_test_file(&path) || lines <= LINES_MAX,
            "{} has {lines} lines without its tests",
            path.display()
        );
    }
}

#[test]
fn only_values_know_a_wire_format() {
    // The wire formats of tokens, keys and the API have homes of their own; the rest of the values derive none.
    for path in sources(Path::new("src/store")).into_iter().chain(sources(Path::new("src/publish"))) {
        let source = std::fs::read_to_string(&path).unwrap();
        assert!(!source.contains("Serialize"), "{} derives a wire format", path.display());
    }
}

#[test]
fn every_test_that_the_compliance_table_names_exists() {
    let table = std::fs::read_to_string("docs/COMPLIANCE.md").unwrap();
    let mut tests = String::new();
    for path in sources(Path::new("src")).into_iter().chain(sources(Path::new("tests"))) {
        tests.push_str(&std::fs::read_to_string(path).unwrap());
    }
    let named = table.split('`').skip(1).step_by(2).filter(|name| is_test_path(name));
    let missing: Vec<_> =
        named.filter(|name| !tests.contains(&format!("fn {}(", name.rsplit("::").next().unwrap()))).collect();
    assert!(missing.is_empty(), "docs/COMPLIANCE.md names tests that do not exist: {missing:#?}");
}
