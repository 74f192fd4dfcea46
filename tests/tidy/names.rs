//! Checks the names in a document, each between backticks: all of them must exist in the tree.
//!
//! | Name | What must exist |
//! |---|---|
//! | `part::file::name` (`it::…` in `tests/it`, `tidy::…` in `tests/tidy.rs`, else in `src` or `client/src`) | that module, and in it a function or type of that name |
//! | `src/…`, `tests/…`, `config/…` and so on | the file or folder |
//! | one or more names, then "in", then a file | the names in that file |
//! | `list-lifetime`, `signer.eku` | settings of `config/default.yaml`, or words of the source |
//! | `two_words`, `TwoWords` | in the source |
//!
//! Anything else between backticks is not one of our names.

use std::fs;
use std::path::{Path, PathBuf};

/// Names that look like ours but belong to others.
const FOREIGN: [&str; 1] = ["status_list_aggregation_endpoint"];

/// Returns the names in `document` that the tree does not have.
pub(crate) fn missing(document: &str) -> Vec<String> {
    let source = source();
    let mut missing = Vec::new();
    for line in document.lines() {
        let pieces: Vec<_> = line.split('`').collect();
        let mut waiting: Vec<&str> = Vec::new();
        for (number, piece) in pieces.iter().enumerate().skip(1).step_by(2) {
            let after = pieces.get(number + 1).map_or("", |text| text.trim());
            if is_file(piece) {
                let text = fs::read_to_string(piece);
                if !Path::new(piece).exists() {
                    missing.push((*piece).to_owned());
                } else if let Ok(text) = text {
                    let absent = waiting.iter().filter(|name| !has_word(&text, name));
                    missing.extend(absent.map(|name| format!("{name} in {piece}")));
                }
                // "`name` in `a.rs` and `b.rs`": each of the files must have it.
                if after != "and" {
                    waiting.clear();
                }
                continue;
            }
            let exists = match piece.contains("::") {
                true => !is_path(piece) || has_path(piece),
                false => {
                    !is_name(piece)
                        || FOREIGN.contains(piece)
                        || piece.split('.').all(|word| has_word(&source, word))
                }
            };
            if !exists {
                missing.push((*piece).to_owned());
            }
            match after {
                "in" | "and" | "," if is_plain(piece) => waiting.push(piece),
                _ => waiting.clear(),
            }
        }
    }
    missing
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))
}

fn is_file(text: &str) -> bool {
    let folders = [
        "bench", "benches", "client", "config", "docs", "examples", "fuzz", "k6", "nginx", "public",
        "scripts", "src", "tests",
    ];
    is_plain(text) && text.split_once('/').is_some_and(|(folder, _)| folders.contains(&folder))
}

/// `part::name` and longer, with nothing left out.
fn is_path(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.split("::").all(is_word)
}

/// A setting, or an identifier of several words.
fn is_name(text: &str) -> bool {
    let is_setting = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte == b'.')
        && text.split(['-', '.']).all(|word| !word.is_empty());
    let is_identifier =
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !text.starts_with('_');
    let humps = text.bytes().filter(u8::is_ascii_uppercase).count();
    let several = text.contains('_') || (humps > 1 && text.bytes().any(|byte| byte.is_ascii_lowercase()));
    (is_setting && text.contains(['-', '.']) && !text.contains(".json")) || (is_identifier && several)
}

/// Whether the module of this path exists and declares its last name.
fn has_path(path: &str) -> bool {
    let words: Vec<_> = path.split("::").collect();
    match words[..] {
        ["it", ref rest @ ..] => has_path_below("tests/it", "tests/it/main.rs", rest),
        ["tidy", ref rest @ ..] => has_path_below("tests/tidy", "tests/tidy.rs", rest),
        ref all => {
            ["src", "client/src"].iter().any(|root| has_path_below(root, &format!("{root}/lib.rs"), all))
        }
    }
}

fn has_path_below(folder: &str, file: &str, words: &[&str]) -> bool {
    let (mut folder, mut file) = (PathBuf::from(folder), PathBuf::from(file));
    let Some((name, words)) = words.split_last() else { return false };
    for word in words {
        let (plain, whole) = (folder.join(format!("{word}.rs")), folder.join(word).join("mod.rs"));
        if plain.exists() || whole.exists() {
            file = if plain.exists() { plain } else { whole };
            folder.push(word);
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // The suite of the stores creates its modules with a macro.
        if !has_word(&text, &format!("mod {word}")) && !text.contains(&format!("suite!({word},")) {
            return false;
        }
    }
    if declares(&fs::read_to_string(&file).unwrap(), name) {
        return true;
    }
    // A folder's `mod.rs` may re-export names of its files.
    let siblings = fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    file.ends_with("mod.rs")
        && siblings
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .any(|path| declares(&fs::read_to_string(path).unwrap(), name))
}

fn declares(text: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "macro_rules!"]
        .iter()
        .any(|keyword| has_word(text, &format!("{keyword} {name}")))
}

/// Whether `text` contains `word` without a letter, digit, `_` or `-` beside it.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// Where names may come from: the source, its tests, the settings and the nginx configuration.
fn source() -> String {
    let mut text = String::new();
    for folder in ["src", "client", "tests", "config", "nginx", "scripts"] {
        for entry in walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap) {
            let path = entry.path();
            // This file contains names that do not exist.
            if path.is_file() && !path.ends_with("tidy/names.rs") {
                text.push_str(&fs::read_to_string(path).unwrap_or_default());
            }
        }
    }
    text
}

#[test]
fn what_is_not_there_is_found() {
    let there = "`tidy::names::is_file`, `status_list::lst::tests::inflating_is_bounded`, `publish::pass::gate::check`, \
                 `check_times` in `client/src/check/verdict.rs`, `formats` in `config/default.yaml`, `signer.eku`, `list-lifetime`, \
                 `KeyRing`, `<public-url>`, `n/a`, `store::tests::sqlite::blocks_are_disjoint_and_end_with_the_list`";
    assert_eq!(missing(there), Vec::<String>::new());
    let gone = [
        "`tidy::names::is_gone`",
        "`status_list::gone::tests::inflating_is_bounded`",
        "`publish::gate::check`",
        "`check_times` in `client/src/check/trust.rs`",
        "`src/keys.rs`",
        "`asks_for_history`",
        "`gone-setting`",
        "`signer.gone-setting`",
        "`GoneType`",
    ];
    for name in gone {
        assert_eq!(missing(name).len(), 1, "{name}");
    }
}
