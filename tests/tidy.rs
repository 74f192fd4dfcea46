//! Enforces the edges between the parts, which a crate for each would enforce: read from the `use` lines of the source.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/names.rs"]
mod names;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The direction of the source tree, from the outermost part to the foundation: a part may name only parts of the
/// lines below its own. Parts on one line never name each other.
const LINE: &[&[&str]] = &[
    &["main", "lib", "fuzzing"],
    &["cli"],
    &["app", "import", "plan", "probe"],
    &["http", "publish", "cache"],
    &["allocate", "update", "audit", "check"],
    &["store", "site", "access", "keys", "telemetry"],
    &["config"],
    &["sign", "model"],
    &["profile", "bitstring"],
    &["status_list", "chain"],
    &["base"],
];

/// What a part may name of this crate, if less than [`LINE`] allows. A path names a folder, and applies to its content
/// unless a longer path does. Tests are excluded: they may use everything.
const EDGES: &[(&str, &[&str])] = &[
    ("status_list", &["base"]),
    ("base", &[]),
    ("bitstring", &["base", "status_list"]),
    ("chain", &["base"]),
    ("profile", &["chain", "status_list"]),
    ("model", &["base", "status_list"]),
    ("sign", &["base", "bitstring", "status_list"]),
    // Of `sign` only the rules of profiles, which are pure.
    ("config", &["base", "model", "sign", "status_list"]),
    // Knows nothing of HTTP: `http` reads the headers.
    ("access", &["base", "config", "model"]),
    ("keys", &["base", "config", "model", "sign", "status_list"]),
    ("store", &["base", "config", "model", "status_list"]),
    ("site", &["base", "bitstring", "model", "sign", "status_list"]),
    ("site/server", &["base", "bitstring", "model", "sign", "status_list"]),
    ("telemetry", &["base", "config", "model"]),
    ("allocate", &["base", "config", "model", "status_list", "store", "telemetry"]),
    ("update", &["base", "model", "store", "telemetry"]),
    ("audit", &["base", "config", "model", "status_list", "telemetry"]),
    ("check", &["base", "chain", "profile", "status_list"]),
    ("cache", &["base", "check", "status_list"]),
    // Knows nothing of HTTP, and nothing of the API.
    (
        "publish",
        &["base", "bitstring", "config", "model", "sign", "site", "status_list", "store", "telemetry"],
    ),
    // Knows nothing of publishing: it meets the publisher only in the store.
    ("http", &["base", "config", "site", "telemetry"]),
    // Knows nothing of signing either: no request ever causes a signature.
    (
        "http/api",
        &[
            "access",
            "allocate",
            "audit",
            "base",
            "bitstring",
            "config",
            "model",
            "status_list",
            "store",
            "telemetry",
            "update",
        ],
    ),
    // Rehearses a publication to measure its cost.
    // Knows what wallets know, and nothing of the service.
    ("probe", &["base", "check", "status_list", "telemetry"]),
    // Knows nothing of HTTP's other side: it writes to the store as `cli` does.
    ("import", &["base", "check", "config", "model", "publish", "sign", "site", "status_list", "store"]),
    ("plan", &["base", "publish", "sign", "site", "status_list"]),
];

/// The service, and the crate for Relying Parties. They are one tree to the rules below, because the service re-exports what it shares
/// under the same names. The compiler enforces that the crate names nothing of the service.
const ROOTS: [&str; 2] = ["src", "client/src"];

fn all_sources() -> impl Iterator<Item = PathBuf> {
    ROOTS.into_iter().flat_map(|root| sources(Path::new(root)))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

/// The path below its root without its extension: a file, or the folder of a `mod.rs`.
fn place_of(path: &Path) -> String {
    let below = ROOTS.iter().find_map(|root| path.strip_prefix(root).ok()).unwrap().with_extension("");
    let place = if below.ends_with("mod") { below.parent().unwrap().to_owned() } else { below };
    place.to_string_lossy().into_owned()
}

/// The first name of a place.
fn part_of(place: &str) -> &str {
    place.split('/').next().unwrap()
}

fn row_of(part: &str) -> usize {
    let row = LINE.iter().position(|row| row.contains(&part));
    row.unwrap_or_else(|| panic!("{part} is missing in LINE: add it to its line"))
}

/// The edges of the longest path that applies to `place`.
fn edges_of(place: &str) -> Option<&'static [&'static str]> {
    let holds =
        |path: &str| place.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let edges = EDGES.iter().filter(|(path, _)| holds(path)).max_by_key(|(path, _)| path.len());
    edges.map(|(_, allowed)| *allowed)
}

/// The part of a file that is not a test.
fn product(source: &str) -> &str {
    let tests =
        source.find("#[cfg(test)]\nmod tests").or_else(|| source.find("#[cfg(test)]\npub(super) mod tests"));
    &source[..tests.unwrap_or(source.len())]
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    ["tests.rs", "expectations.rs", "conformance.rs"].contains(&name.as_ref())
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// The parts of this crate that the product of a file names.
fn named_by(source: &str) -> BTreeSet<&str> {
    let rests = product(source).split("crate::").skip(1);
    let names = rests.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap());
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn parts_name_only_what_they_may() {
    let mut wrong = Vec::new();
    for path in all_sources() {
        if is_test_file(&path) {
            continue;
        }
        let place = place_of(&path);
        let part = part_of(&place);
        let source = std::fs::read_to_string(&path).unwrap();
        for name in named_by(&source).into_iter().filter(|name| *name != part) {
            let below = row_of(name) > row_of(part);
            let allowed = edges_of(&place).is_none_or(|allowed| allowed.contains(&name));
            if !below || !allowed {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these edges are not in tests/tidy.rs: {wrong:#?}");
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let files = all_sources().filter(|path| !is_test_file(path));
    let read =
        |path: PathBuf| (place_of(&path), product(&std::fs::read_to_string(&path).unwrap()).to_owned());
    let found = circles::circles(&files.map(read).collect());
    assert!(found.is_empty(), "move what both need into a file of its own: {found:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in all_sources() {
        let source = std::fs::read_to_string(&path).unwrap();
        assert!(source.starts_with("//! "), "{} has no `//!` at its top", path.display());
    }
}

#[test]
fn files_hold_one_idea() {
    const LINES_MAX: usize = 450;
    for path in all_sources() {
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
fn the_mutations_of_the_simulator_still_apply_and_are_told_of() {
    let patch = "tests/sim/mutations.patch";
    let applies = std::process::Command::new("git").args(["apply", "--check", patch]).output().unwrap();
    assert!(applies.status.success(), "make {patch} anew: {}", String::from_utf8_lossy(&applies.stderr));
    let (patch, told) =
        (std::fs::read_to_string(patch).unwrap(), std::fs::read_to_string("docs/SAFETY.md").unwrap());
    let names = patch.split("mutated(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let names: BTreeSet<_> = names.collect();
    assert!(names.len() > 30, "{} mutations", names.len());
    let untold: Vec<_> = names.into_iter().filter(|name| !told.contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "docs/SAFETY.md does not say whether these are found: {untold:?}");
}

/// Calls that open files for writing, create folders, or change names or modes.
const WRITES: [&str; 16] = [
    "OpenOptions",
    "DirBuilder",
    "File::create",
    "File::options",
    "Permissions",
    "create_dir",
    "fs::copy",
    "fs::write",
    "hard_link",
    "symlink",
    "remove_dir",
    "remove_file",
    "fs::rename",
    "set_permissions",
    "sync_all",
    "sync_data",
];

#[test]
fn only_durable_writes_files() {
    let home = Path::new("src/base/durable.rs");
    let mut wrong = Vec::new();
    for path in all_sources().filter(|path| path != home && !is_test_file(path)) {
        let source = std::fs::read_to_string(&path).unwrap();
        let code = product(&source).lines().filter(|line| !line.trim_start().starts_with("//"));
        let code: String = code.collect();
        let found = WRITES.iter().filter(|write| code.contains(*write));
        wrong.extend(found.map(|write| format!("{}: {write}", path.display())));
    }
    assert!(wrong.is_empty(), "let base::durable do this: {wrong:#?}");
    let source = std::fs::read_to_string(home).unwrap();
    let seen = WRITES.iter().filter(|write| product(&source).contains(*write)).count();
    assert!(seen > 8, "the control: durable.rs uses the calls that this test looks for");
}

#[test]
fn only_values_know_a_wire_format() {
    // The wire formats of tokens, keys and the API are in files of their own; the other values derive none.
    for path in sources(Path::new("src/store")).into_iter().chain(sources(Path::new("src/publish"))) {
        let source = std::fs::read_to_string(&path).unwrap();
        assert!(!source.contains("Serialize"), "{} derives a wire format", path.display());
    }
}

#[test]
fn every_name_in_the_compliance_table_exists() {
    for document in ["docs/COMPLIANCE.md", "docs/COMPATIBILITY.md"] {
        let missing = names::missing(&std::fs::read_to_string(document).unwrap());
        assert!(missing.is_empty(), "{document} names what does not exist: {missing:#?}");
    }
}
