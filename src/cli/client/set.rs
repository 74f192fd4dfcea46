//! `statuslist set`: sets one status, or a batch of them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use super::batch::{Batch, Stop};
use super::status_value::StatusValue;
use super::{Connection, Failure, Format, Service, run};
use crate::cli::exit::{EXIT_CODES, FAILED, REFUSED};

/// `statuslist set`
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Set {
    /// `uri` of the reference
    #[arg(required_unless_present = "batch", requires_all = ["idx", "value"])]
    uri: Option<String>,
    /// `idx` of the reference
    idx: Option<u64>,
    /// valid, revoked (or invalid), suspended, or a number
    value: Option<StatusValue>,
    /// Set it only if this status is stored; otherwise nothing is changed
    #[arg(long, value_name = "STATUS", conflicts_with = "batch")]
    expected: Option<StatusValue>,
    /// Read lines `URI IDX VALUE` from this file, or from standard input
    ///
    /// Fields are separated by blanks or commas; a line may also be a JSON object with uri, index and value. Empty lines
    /// and lines that begin with # are skipped. It stops at the first refused line, and says how to continue.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", conflicts_with = "uri")]
    batch: Option<PathBuf>,
    /// Skip this many lines of the batch, which are already done
    #[arg(long, value_name = "LINES", requires = "batch", default_value_t = 0)]
    skip: u64,
    /// Output; by default a table on a terminal, JSON elsewhere
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    connection: Connection,
}

impl Set {
    pub(in crate::cli) fn run(&self) -> Result<ExitCode> {
        let service = self.connection.open()?;
        match (&self.batch, &self.uri, self.idx, self.value) {
            (Some(file), ..) => self.set_batch(&service, file),
            (None, Some(uri), Some(idx), Some(value)) => run(self.set_one(&service, uri, idx, value)),
            _ => unreachable!("clap requires all three, or a batch"),
        }
    }

    async fn set_one(
        &self,
        service: &Service,
        uri: &str,
        idx: u64,
        StatusValue(value): StatusValue,
    ) -> Result<(), Failure> {
        let update = json!({ "uri": uri, "index": idx, "value": value });
        let mut body = update.clone();
        if let Some(StatusValue(expected)) = self.expected {
            body["expected"] = json!(expected);
        }
        let body = body.to_string();
        let with_body = |request: reqwest::RequestBuilder| {
            request.header(CONTENT_TYPE, "application/json").body(body.clone())
        };
        service.ask(Method::PATCH, "/status-lists/update", with_body).await?;
        let mut out = std::io::stdout().lock();
        match Format::or_by_output(self.format) {
            Format::Json => writeln!(out, "{update}")?,
            Format::Table => {
                writeln!(out, "index {idx} of {uri} is {value}; the list is published on the next beat")?;
            }
        }
        Ok(())
    }

    fn set_batch(&self, service: &Service, file: &Path) -> Result<ExitCode> {
        let of_a_file = file != Path::new("-");
        let open = || File::open(file).with_context(|| format!("cannot read {}", file.display()));
        let (input, bar): (Box<dyn BufRead>, _) = if of_a_file {
            // Counted first, so that the progress bar knows its end.
            let lines = BufReader::new(open()?).split(b'\n').count();
            let style = ProgressStyle::with_template("{bar:40} line {pos}/{len}, {per_sec}, {eta} left")?;
            (Box::new(BufReader::new(open()?)), ProgressBar::new(lines as u64).with_style(style))
        } else {
            let style = ProgressStyle::with_template("{spinner} line {pos}, {per_sec}")?;
            (Box::new(std::io::stdin().lock()), ProgressBar::new_spinner().with_style(style))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut batch = Batch::new(service, self.skip, &bar);
        let stopped = runtime.context("cannot start a runtime")?.block_on(batch.run(input));
        let (done, through) = (batch.done, batch.through());
        bar.finish_and_clear();

        let mut summary = json!({ "done": done, "through": through });
        let code = match &stopped {
            Ok(()) => ExitCode::SUCCESS,
            Err(Stop::Refused { line, code, message }) => {
                summary["refused"] = json!({ "line": line, "code": code, "message": message });
                eprintln!("refused: line {line}: {message}");
                ExitCode::from(REFUSED)
            }
            Err(Stop::Failed(error)) => {
                summary["failed"] = json!(format!("{error:#}"));
                eprintln!("error: {error:#}");
                ExitCode::from(FAILED)
            }
        };
        let mut out = std::io::stdout().lock();
        let printed = match Format::or_by_output(self.format) {
            Format::Json => writeln!(out, "{summary}"),
            Format::Table => writeln!(out, "{done} statuses were set, all of the first {through} lines"),
        };
        printed.context("cannot print")?;
        if stopped.is_err() {
            let name = if of_a_file { format!(" {}", file.display()) } else { String::new() };
            eprintln!(
                "to continue: statuslist set --batch{name} --skip {through} (repeating a line does no harm)"
            );
        }
        Ok(code)
    }
}
