//! `statuslist retire`: tells a running service to end a list.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use reqwest::Method;

use super::client::{Connection, list_id, run};
use super::exit::EXIT_CODES;

/// `statuslist retire`
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Retire {
    /// The list: its id or its `uri`
    list: String,
    /// The pool it belongs to
    #[arg(long)]
    pool: String,
    /// Retire even if references of it may still be valid: their credentials fail from then on
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Retire {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let query = if self.force { "?force=true" } else { "" };
        let path = format!("/pools/{}/lists/{}{query}", self.pool, list_id(&self.list));
        let service = self.connection.open()?;
        run(async {
            service.ask(Method::DELETE, &path, |request| request).await?;
            println!("retired: from the next beat on, the list's `uri` answers 410");
            Ok(())
        })
    }
}
