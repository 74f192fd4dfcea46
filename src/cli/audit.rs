//! `statuslist audit verify`: checks that the audit trail is unchanged.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::audit::verify;

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
    /// Consecutive files may be given in any order. A chain does not show whether lines were cut off at its end, or whether
    /// all of it was rewritten. To detect that, keep the last hash that this command prints where nobody who can write the
    /// trail can change it, and pass it as --anchor later.
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Verify {
    /// The files of the trail
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The hash that an earlier verification printed; a line must have it
    #[arg(long, value_name = "HASH")]
    anchor: Option<String>,
}

impl Arguments {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let Command::Verify(Verify { files, anchor }) = &self.command;
        match verify(files, anchor.as_deref()).context("cannot read the audit trail")? {
            Ok(span) => {
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
