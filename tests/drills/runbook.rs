//! The commands of docs/OPERATIONS.md.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::process::PROGRAM;

const PAGE: &str = include_str!("../../docs/OPERATIONS.md");

/// The shell blocks of this section, in order.
pub(crate) fn blocks(section: &str) -> Vec<String> {
    let heading = format!("\n## {section}\n");
    let (_, text) = PAGE.split_once(&heading).unwrap_or_else(|| panic!("no section {section}"));
    let text = text.split("\n## ").next().unwrap();
    text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// A shell in a folder, in which `statuslist` is the program under test and some paths of the page are other ones.
pub(crate) struct Shell<'a> {
    pub(crate) folder: &'a Path,
    /// What the page names, and what it is here.
    pub(crate) here: Vec<(&'a str, String)>,
}

impl Shell<'_> {
    /// Runs these lines of the page.
    pub(crate) fn run(&self, lines: &str) -> Output {
        let programs = self.folder.join("bin");
        std::fs::create_dir_all(&programs).unwrap();
        let _ = std::os::unix::fs::symlink(PROGRAM, programs.join("statuslist"));
        let lines = self.here.iter().fold(lines.to_owned(), |lines, (from, to)| lines.replace(from, to));
        let lines = format!("PATH={}:$PATH\n{lines}", programs.display());
        Command::new("bash").args(["-euc", &lines]).current_dir(self.folder).output().unwrap()
    }

    /// Runs these lines, which must succeed. Returns what they printed.
    pub(crate) fn succeed(&self, lines: &str) -> String {
        let output = self.run(lines);
        assert!(output.status.success(), "{lines}: {}", said(&output));
        said(&output)
    }
}

/// What a command printed.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}
