//! The commands of docs/OPERATIONS.md.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::process::PROGRAM;

const PAGE: &str = include_str!("../../docs/OPERATIONS.md");

/// The text of this section.
pub(crate) fn section(section: &str) -> &'static str {
    section_of(PAGE, section)
}

fn section_of(page: &'static str, section: &str) -> &'static str {
    let heading = format!("\n## {section}\n");
    let (_, text) = page.split_once(&heading).unwrap_or_else(|| panic!("no section {section}"));
    text.split("\n## ").next().unwrap()
}

/// The shell blocks of this section, in order.
pub(crate) fn blocks(name: &str) -> Vec<String> {
    blocks_of(PAGE, name)
}

/// The shell blocks of this section of another page, in order.
pub(crate) fn blocks_of(page: &'static str, name: &str) -> Vec<String> {
    let blocks = section_of(page, name).split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// A shell in a folder, in which `statuslist` is the program under test and some paths of the page are other ones.
pub(crate) struct Shell {
    pub(crate) folder: PathBuf,
    /// What the page names, and what it is here; at each place the first that fits counts.
    pub(crate) here: Vec<(&'static str, String)>,
}

impl Shell {
    /// Runs these lines of the page.
    pub(crate) fn run(&self, lines: &str) -> Output {
        let programs = self.folder.join("bin");
        std::fs::create_dir_all(&programs).unwrap();
        let _ = std::os::unix::fs::symlink(PROGRAM, programs.join("statuslist"));
        let lines = format!("PATH={}:$PATH\n{}", programs.display(), said_here(lines, &self.here));
        // Some lines wait for something, which must not be for ever.
        let mut shell = Command::new("timeout");
        shell.args(["60", "bash", "-euc", &lines]).current_dir(&self.folder).output().unwrap()
    }

    /// Runs these lines, which must succeed. Returns what they printed.
    pub(crate) fn succeed(&self, lines: &str) -> String {
        let output = self.run(lines);
        assert!(output.status.success(), "{lines}: {}", said(&output));
        said(&output)
    }
}

/// A text of the page with the names of `here` in place of its own: at each place the first that fits.
pub(crate) fn said_here(text: &str, here: &[(&str, String)]) -> String {
    let (mut said, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        let found = here.iter().find(|(name, _)| rest.starts_with(name));
        let (length, by) = match found {
            Some((name, by)) => (name.len(), by.as_str()),
            None => (next.len_utf8(), &rest[..next.len_utf8()]),
        };
        said.push_str(by);
        rest = &rest[length..];
    }
    said
}

/// What a command printed.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Sections whose commands others run: `scripts/chart`, `it::profiles`, `it::edge`, `it::probe` and `store::tests::permissions`.
const ELSEWHERE: [&str; 5] =
    ["Install", "Certificates", "Caches in front", "Watching from outside", "PostgreSQL"];

#[test]
fn each_section_with_commands_has_a_drill() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drills");
    let drills = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let drills: String = drills.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let sections = PAGE.split("\n## ").skip(1).filter(|section| section.contains("```sh\n"));
    let names = sections.map(|section| section.lines().next().unwrap());
    let without = |name: &&str| !ELSEWHERE.contains(name) && !drills.contains(&format!("blocks(\"{name}\")"));
    let missing: Vec<_> = names.filter(without).collect();
    assert!(missing.is_empty(), "no drill follows {missing:?} of docs/OPERATIONS.md");
}
