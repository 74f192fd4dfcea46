//! Finds files that name each other in a circle, directly or through the re-exports of a `mod.rs`.

use std::collections::{BTreeMap, BTreeSet};

/// The source of each file, by its place: the path below `src/` without `.rs`, or the folder of a `mod.rs`.
pub(crate) type Sources = BTreeMap<String, String>;

/// Returns the places that reach themselves, each with those of the circle that it names. A folder and its content count as one:
/// naming each other makes no circle.
pub(crate) fn circles(sources: &Sources) -> Vec<String> {
    let uses: BTreeMap<&str, Vec<String>> =
        sources.iter().map(|(place, source)| (place.as_str(), paths_in(source))).collect();
    let mut named: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (&place, paths) in &uses {
        let targets = paths.iter().filter_map(|path| resolve(&uses, place, path, 0));
        named.insert(place, targets.filter(|target| !is_one_house(place, target)).collect());
    }
    let reached = |from: &str| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(place) = next.pop() {
            for target in named.get(place.as_str()).into_iter().flatten() {
                if reached.insert(target.clone()) {
                    next.push(target.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<_, _> = named.keys().map(|place| (*place, reached(place))).collect();
    let in_circle = |place: &&&str| reached[**place].contains(**place);
    let describe = |place: &&str| {
        let back: Vec<_> =
            named[place].iter().filter(|target| reached[target.as_str()].contains(*place)).collect();
        format!("{place} names {back:?}")
    };
    named.keys().filter(in_circle).map(describe).collect()
}

fn is_one_house(one: &str, other: &str) -> bool {
    let holds = |folder: &str, file: &str| {
        file.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    holds(one, other) || holds(other, one)
}

/// Returns the file to which `path`, as written in `place`, leads.
fn resolve(uses: &BTreeMap<&str, Vec<String>>, place: &str, path: &str, depth: usize) -> Option<String> {
    let here: Vec<&str> = place.split('/').collect();
    let mut names: Vec<&str> = path.split("::").collect();
    let mut base = match names[0] {
        "crate" => Vec::new(),
        "self" => here,
        "super" => {
            let up = names.iter().take_while(|name| **name == "super").count();
            names.drain(1..up);
            here[..here.len().checked_sub(up)?].to_vec()
        }
        child if uses.contains_key(format!("{place}/{child}").as_str()) => {
            names.insert(0, "self");
            here
        }
        _ => return None,
    };
    let mut rest = names.into_iter().skip(1).peekable();
    while let Some(name) =
        rest.next_if(|name| uses.contains_key([&base[..], &[*name]].concat().join("/").as_str()))
    {
        base.push(name);
    }
    let found = base.join("/");
    let of_found = uses.get(found.as_str())?;
    let re_exported =
        rest.peek().and_then(|name| of_found.iter().find(|path| path.rsplit("::").next() == Some(*name)));
    let behind = re_exported.filter(|_| depth < 4).and_then(|path| resolve(uses, &found, path, depth + 1));
    Some(behind.unwrap_or(found))
}

/// Returns every path that a source names: each leaf of its `use` trees, and the paths in its code.
fn paths_in(source: &str) -> Vec<String> {
    let (mut paths, mut code) = (Vec::new(), String::new());
    let mut lines = source.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    while let Some(line) = lines.next() {
        let Some(tree) = use_tree(line) else {
            code.extend([line, "\n"]);
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            tree.push_str(lines.next().expect("a `use` ends"));
        }
        leaves("", tree.split(';').next().unwrap(), &mut paths);
    }
    let is_path = |word: &&str| ["crate::", "super::", "self::"].iter().any(|start| word.starts_with(start));
    let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    paths.extend(words.filter(is_path).map(|word| word.trim_end_matches(':').to_owned()));
    paths
}

/// Returns what follows `use` in a line that begins with it, or with `pub use`.
fn use_tree(line: &str) -> Option<&str> {
    let (before, tree) = line.split_once("use ")?;
    (before.is_empty() || before.starts_with("pub") && before.ends_with([' ', ')'])).then_some(tree)
}

/// The leaves of `a::{b, c::{d, e}}`.
fn leaves(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, members)) = tree.split_once('{') else {
        let leaf = tree.split(" as ").next().unwrap_or(tree).trim();
        paths.extend(
            (!leaf.is_empty()).then(|| format!("{prefix}{leaf}").trim_end_matches("::self").to_owned()),
        );
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let members = members.rsplit_once('}').map_or(members, |(members, _)| members);
    let (mut depth, mut begin) = (0_usize, 0);
    for (at, char) in members.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                leaves(&prefix, &members[begin..at], paths);
                begin = at + 1;
            }
            _ => {}
        }
    }
    leaves(&prefix, &members[begin..], paths);
}

#[test]
fn a_circle_is_found_and_only_a_circle() {
    let found = |files: &[(&str, &str)]| {
        circles(&files.iter().map(|(place, source)| ((*place).to_owned(), (*source).to_owned())).collect())
    };
    let straight = [
        ("a", "pub use one::One;"),
        ("a/one", "struct One;"),
        ("a/two", "use super::One;\nfn f() { super::g() }"),
    ];
    assert!(found(&straight).is_empty());
    let direct =
        [("a", ""), ("a/one", "use super::two::{self, Two};"), ("a/two", "fn f() -> super::one::One {}")];
    assert_eq!(found(&direct).len(), 2, "{:?}", found(&direct));
    let re_exported = [
        ("a", "pub use one::{x, One};"),
        ("a/one", "use super::two::Two;"),
        ("a/two", "use crate::a::{\n    One,\n};"),
    ];
    assert_eq!(found(&re_exported).len(), 2, "{:?}", found(&re_exported));
    let between_parts = [
        ("a", "use crate::b::B;"),
        ("b", "use crate::c::C;"),
        ("c", "use crate::a::A;"),
        ("d", "use crate::a::A;"),
    ];
    assert_eq!(found(&between_parts).len(), 3, "{:?}", found(&between_parts));
}
