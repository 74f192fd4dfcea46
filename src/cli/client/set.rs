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

use super::batch::{self, Batch, Refused, Stop};
use super::dry_run::DryRun;
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
    /// Fields are separated by commas, semicolons, tabs or blanks, and may be in quotes. A first line may name the columns (uri, idx
    /// or index, value or status); others are ignored. A line may also be a JSON object with uri, index and value, and the file a
    /// JSON array of them. Empty lines and lines that begin with # are skipped. It stops at the first refused line, and says how to
    /// continue.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", conflicts_with = "uri")]
    batch: Option<PathBuf>,
    /// Skip this many lines of the batch, which are already done
    #[arg(long, value_name = "LINES", requires = "batch", default_value_t = 0)]
    skip: u64,
    /// Say what would be set, without asking a service; names every line that cannot be read
    #[arg(long)]
    dry_run: bool,
    /// Output; by default a table on a terminal, JSON elsewhere
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    connection: Connection,
}

impl Set {
    pub(in crate::cli) fn run(&self) -> Result<ExitCode> {
        match (&self.batch, &self.uri, self.idx, self.value) {
            (Some(file), ..) if self.dry_run => self.try_batch(file),
            (Some(file), ..) => self.set_batch(&self.connection.open()?, file),
            (None, Some(uri), Some(idx), Some(value)) if self.dry_run => {
                println!(
                    "would set index {idx} of {uri} to {value}; nothing was changed, and no service was asked"
                );
                Ok(ExitCode::SUCCESS)
            }
            (None, Some(uri), Some(idx), Some(value)) => {
                run(self.set_one(&self.connection.open()?, uri, idx, value))
            }
            _ => unreachable!("clap requires all three, or a batch"),
        }
    }

    async fn set_one(
        &self,
        service: &Service,
        uri: &str,
        idx: u64,
        value: StatusValue,
    ) -> Result<(), Failure> {
        let update = json!({ "uri": uri, "index": idx, "value": value.0 });
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

    fn try_batch(&self, file: &Path) -> Result<ExitCode> {
        let found =
            DryRun::of(open(file)?, self.skip).with_context(|| format!("cannot read {}", file.display()))?;
        let printed = found.print(Format::or_by_output(self.format), &mut std::io::stdout().lock());
        printed.context("cannot print")?;
        Ok(if found.is_good() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
    }

    fn set_batch(&self, service: &Service, file: &Path) -> Result<ExitCode> {
        let of_a_file = is_file(file);
        let (input, bar) = if of_a_file {
            // Counted first, so that the progress bar knows its end.
            let lines = open(file)?.split(b'\n').count();
            let style = ProgressStyle::with_template("{bar:40} line {pos}/{len}, {per_sec}, {eta} left")?;
            (open(file)?, ProgressBar::new(lines as u64).with_style(style))
        } else {
            let style = ProgressStyle::with_template("{spinner} line {pos}, {per_sec}")?;
            (open(file)?, ProgressBar::new_spinner().with_style(style))
        };
        let runtime = crate::cli::runtime()?;
        let mut batch = Batch::new(service, self.skip, &bar);
        let stopped = runtime.block_on(async {
            tokio::select! {
                ended = batch.run(batch::read(input)) => ended,
                _ = tokio::signal::ctrl_c() => Err(Stop::Interrupted),
            }
        });
        let (done, through) = (batch.done, batch.through());
        bar.finish_and_clear();

        let mut summary = json!({ "done": done, "through": through });
        let command = |skip: u64| {
            let file = if of_a_file { format!(" {}", file.display()) } else { String::new() };
            format!("statuslist set --batch{file} --skip {skip}")
        };
        let again = || format!("to continue: {} (repeating a line does no harm)", command(through));
        let (code, advice) = match &stopped {
            Ok(()) => (ExitCode::SUCCESS, None),
            Err(Stop::Refused(Refused { line, code, message })) => {
                summary["refused"] = json!({ "line": line, "code": code, "message": message });
                eprintln!("refused: line {line}: {message}");
                let (with, without) = (command(line - 1), command(*line));
                let advice = match code.as_str() {
                    // Not the line's fault.
                    "UNAUTHORIZED" => again(),
                    _ => {
                        format!("to continue: correct line {line} and run {with}\nor leave it out: {without}")
                    }
                };
                (ExitCode::from(REFUSED), Some(advice))
            }
            Err(Stop::Failed(error)) => {
                summary["failed"] = json!(format!("{error:#}"));
                eprintln!("error: {error:#}");
                (ExitCode::from(FAILED), Some(again()))
            }
            Err(Stop::Interrupted) => {
                summary["interrupted"] = json!(true);
                eprintln!("interrupted after line {through}");
                (ExitCode::from(FAILED), Some(again()))
            }
        };
        let mut out = std::io::stdout().lock();
        let printed = match Format::or_by_output(self.format) {
            Format::Json => writeln!(out, "{summary}"),
            Format::Table => writeln!(out, "{done} statuses were set, all of the first {through} lines"),
        };
        printed.context("cannot print")?;
        advice.iter().for_each(|advice| eprintln!("{advice}"));
        Ok(code)
    }
}

fn is_file(file: &Path) -> bool {
    file != Path::new("-")
}

fn open(file: &Path) -> Result<Box<dyn BufRead + Send>> {
    if !is_file(file) {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Box::new(BufReader::new(opened)))
}
