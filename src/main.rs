//! statuslist: arguments → settings → service. Prints a failure's causes and sets the exit code.

use std::process::ExitCode;

use clap::Parser;
use statuslist::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  cause: {cause}");
            }
            ExitCode::from(statuslist::cli::FAILED)
        }
    }
}
