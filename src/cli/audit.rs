//! `statuslist audit verify`: checks that the audit trail is unchanged.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::audit::{files_of, verify};
use crate::config::Config;

/// The exit code of a broken chain.
const BROKEN: u8 = 1;

/// `statuslist audit`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the chain of hashes through one or several files. Exits with 0 if it is intact, 1 if not, 2 if a file is
    /// unreadable
    ///
    /// Without files: `audit.path` of the settings and all earlier files beside it. Consecutive files may be given in any order. A
    /// chain does not show whether lines were cut off at its end, or whether all of it was rewritten. To detect that, keep the last
    /// hash that this command prints where nobody who can write the trail can change it, and pass it as --anchor later.
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Verify {
    /// The files of the trail; without any, those of the settings
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The hash that an earlier verification printed; a line must have it
    #[arg(long, value_name = "HASH")]
    anchor: Option<String>,
}

impl Arguments {
    pub(super) fn run(&self, settings: impl FnOnce() -> Result<Config>) -> Result<ExitCode> {
        let Command::Verify(Verify { files, anchor }) = &self.command;
        let files = match files.as_slice() {
            [] => {
                let audit = settings()?
                    .audit
                    .context("audit.path is null in the settings: there is no trail; or name its files")?;
                let path = audit.path.display();
                let files =
                    files_of(&audit.path).with_context(|| format!("cannot read the folder of {path}"))?;
                ensure!(
                    !files.is_empty(),
                    "there is neither {path} (audit.path) nor an earlier file beside it"
                );
                files
            }
            files => files.to_owned(),
        };
        match verify(&files, anchor.as_deref()).context("cannot read the audit trail")? {
            Ok(span) => {
                files.iter().for_each(|file| println!("read {}", file.display()));
                println!(
                    "intact: lines {} to {}, {} to {}",
                    span.first.0, span.last.0, span.first.1, span.last.1
                );
                if span.first.0 > 1 {
                    println!("begins with line {}; earlier lines are in earlier files", span.first.0);
                }
                if span.has_anchor {
                    println!("has the anchor: nothing up to it was changed or cut off");
                }
                println!("last hash: {}", span.last_hash);
                Ok(ExitCode::SUCCESS)
            }
            Err(broken) => {
                eprintln!("broken: {broken}");
                Ok(ExitCode::from(BROKEN))
            }
        }
    }
}
