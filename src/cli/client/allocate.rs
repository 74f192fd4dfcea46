//! `statuslist allocate`: references for new credentials.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::Value;

use super::{Connection, Failure, Format, Service, run};
use crate::cli::exit::EXIT_CODES;

/// The most references of one request; a service may allow fewer.
const AMOUNT_MAX: u64 = 500;

/// The codes of a service that hands out fewer at once; the second is that of earlier versions.
const TOO_MANY: [&str; 2] = ["VALUE_OUT_OF_RANGE", "BAD_REQUEST"];

/// `statuslist allocate`
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Allocate {
    /// The pool
    #[arg(long)]
    pool: String,
    /// How many references
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    amount: u64,
    /// With each reference, print the `status` claim that goes into its credential
    #[arg(long)]
    claims: bool,
    /// Idempotency-Key: running again with the same key, pool and amount returns the same references
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Output; by default a table on a terminal, JSON elsewhere
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    connection: Connection,
}

impl Allocate {
    pub(in crate::cli) fn run(&self) -> Result<ExitCode> {
        let service = self.connection.open()?;
        run(self.allocate(&service))
    }

    async fn allocate(&self, service: &Service) -> Result<(), Failure> {
        // Without a key from the caller, use our own: a request whose response was lost can be retried.
        let key = self.idempotency_key.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let format = Format::or_by_output(self.format);
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} references, {eta} left");
        let bar = match self.amount > AMOUNT_MAX {
            true => ProgressBar::new(self.amount).with_style(style.context("cannot draw the progress bar")?),
            false => ProgressBar::hidden(),
        };
        let (mut done, mut at_once, mut request) = (0, AMOUNT_MAX, 0);
        while done < self.amount {
            let amount = at_once.min(self.amount - done);
            let key = if amount == self.amount { key.clone() } else { format!("{key}-{request}") };
            match self.request(service, amount, &key).await {
                Ok(answer) => bar.suspend(|| self.print(&answer, format, done == 0))?,
                // More than this pool can ever return at once.
                Err(Failure::Refused(refusal))
                    if TOO_MANY.contains(&refusal.code.as_str()) && at_once > 1 =>
                {
                    at_once = amount.div_ceil(2).min(at_once - 1);
                    continue;
                }
                Err(failure) => {
                    bar.finish_and_clear();
                    if done > 0 {
                        eprintln!("{done} of {} references were printed, and are yours", self.amount);
                    }
                    return Err(failure);
                }
            }
            done += amount;
            request += 1;
            bar.set_position(done);
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn request(&self, service: &Service, amount: u64, key: &str) -> Result<Value, Failure> {
        let claims = if self.claims { "&claims=true" } else { "" };
        let path = format!("/pools/{}/new-references?amount={amount}{claims}", self.pool);
        service.ask(Method::POST, &path, |request| request.header("Idempotency-Key", key)).await
    }

    fn print(&self, answer: &Value, format: Format, first: bool) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let references = answer["references"].as_array().into_iter().flatten();
        for (number, reference) in references.enumerate() {
            if format == Format::Json {
                writeln!(out, "{reference}")?;
                continue;
            }
            let uri = reference["uri"].as_str().unwrap_or_default();
            if first && number == 0 {
                writeln!(out, "{:<width$}  IDX", "URI", width = uri.len())?;
            }
            match reference.get("status") {
                Some(status) => writeln!(out, "{uri}  {:<8}  {status}", reference["index"].to_string())?,
                None => writeln!(out, "{uri}  {}", reference["index"])?,
            }
        }
        out.flush()
    }
}
