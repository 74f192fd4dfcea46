//! Load by the real k6 (`scripts/install-test-tools` installs it), with the scripts in `tests/load`. They note every step of
//! every client, numbered, so that a note that k6 lost is detected.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::process::{signal, test_tool};

/// A running k6; killed when dropped.
pub(crate) struct K6 {
    child: Child,
    notes: PathBuf,
    log: PathBuf,
}

/// The notes of each client, in order.
pub(crate) type Notes = Vec<Vec<String>>;

impl K6 {
    /// Starts a script, which gets `environment` as `__ENV`. Its notes go to `folder`.
    pub(crate) fn start(script: &str, folder: &Path, environment: &[(&str, String)]) -> Self {
        let (notes, log) = (folder.join("k6-notes.txt"), folder.join("k6-log.txt"));
        // k6 would append to those of an earlier run.
        File::create(&notes).unwrap();
        let mut command = Command::new(test_tool("venv/bin/k6"));
        command.args(["run", "--quiet", "--no-summary", "--no-usage-report", "--address", ""]);
        command.args(["--log-format", "raw", "--no-color", "--console-output"]).arg(&notes);
        for (name, value) in environment {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/load").join(script));
        let said = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        Self { child: command.spawn().unwrap(), notes, log }
    }

    /// Interrupts it and returns the notes of its clients. The last step of each may lack a result.
    pub(crate) fn stop(mut self) -> Notes {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "k6 gave up ({ended:?}):\n{}", self.end_of_log());
        signal("-INT", self.child.id());
        self.child.wait().unwrap();
        let notes = std::fs::read_to_string(&self.notes).unwrap();
        let mut clients: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for line in notes.lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(Ok(client)), Some(Ok(number)), Some(note)) =
                (words.next().map(str::parse), words.next().map(str::parse::<usize>), words.next())
            else {
                panic!("k6 wrote a line that is not a note: {line}");
            };
            let noted = clients.entry(client).or_default();
            assert_eq!(noted.len(), number, "k6 lost a note of client {client}");
            noted.push(note.to_owned());
        }
        clients.into_values().collect()
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let lines: Vec<_> = log.lines().rev().filter(|line| *line != "Request Failed").take(20).collect();
        lines.join("\n")
    }
}

impl Drop for K6 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a whole script of `k6/` and returns its output; with a failed threshold its exit code is not zero.
pub(crate) fn run(script: &Path, folder: &Path, environment: &[(&str, &str)]) -> Output {
    command(script, folder, environment).output().unwrap()
}

/// The same, ready to be run.
pub(crate) fn command(script: &Path, folder: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(test_tool("venv/bin/k6"));
    command.args(["run", "--quiet", "--no-usage-report", "--no-color", "--address", ""]);
    command.arg("--env").arg(format!("SUMMARY={}", folder.join("summary.json").display()));
    for (name, value) in environment {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script)).stdin(Stdio::null());
    command
}
