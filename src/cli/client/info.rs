//! `statuslist info`: the facts of a service, of a pool, or of one reference.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Connection, Failure, Format, Service, list_id, run};
use crate::cli::exit::EXIT_CODES;

/// `statuslist info`
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Info {
    /// The pool: shows what issuers agree on, and how much of it is used. Without it: the service's version
    #[arg(long)]
    pool: Option<String>,
    /// `uri` of a reference: shows the stored value, and whether it is published
    #[arg(requires_all = ["pool", "idx"])]
    uri: Option<String>,
    /// `idx` of the reference
    idx: Option<u64>,
    /// Output; by default a table on a terminal, JSON elsewhere
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    connection: Connection,
}

impl Info {
    pub(in crate::cli) fn run(&self) -> Result<ExitCode> {
        let service = self.connection.open()?;
        run(self.print(&service))
    }

    async fn print(&self, service: &Service) -> Result<(), Failure> {
        let get = async |path: &str| service.ask(Method::GET, path, |request| request).await;
        let facts = match (&self.pool, &self.uri, self.idx) {
            (Some(pool), Some(uri), Some(idx)) => {
                get(&format!("/pools/{pool}/lists/{}/statuses/{idx}", list_id(uri))).await?
            }
            (Some(pool), ..) => get(&format!("/pools/{pool}")).await?,
            (None, ..) => {
                let version = get("/version").await?;
                json!({ "url": self.connection.url, "version": version["version"] })
            }
        };
        let mut out = std::io::stdout().lock();
        if Format::or_by_output(self.format) == Format::Json {
            writeln!(out, "{facts}")?;
        } else {
            rows(&mut out, "", &facts)?;
        }
        Ok(())
    }
}

/// One row for each fact. Nested facts get the names of both levels.
fn rows(out: &mut impl Write, prefix: &str, facts: &Value) -> std::io::Result<()> {
    for (name, fact) in facts.as_object().into_iter().flatten() {
        let name = format!("{prefix}{name}");
        match fact {
            Value::Object(_) => rows(out, &format!("{name}."), fact)?,
            Value::Array(entries) => {
                let entries: Vec<_> = entries.iter().map(plain).collect();
                writeln!(out, "{name:<20} {}", entries.join(", "))?;
            }
            fact => writeln!(out, "{name:<20} {}", plain(fact))?,
        }
    }
    Ok(())
}

fn plain(fact: &Value) -> String {
    fact.as_str().map_or_else(|| fact.to_string(), str::to_owned)
}
