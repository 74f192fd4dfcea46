//! `statuslist openapi`: prints the OpenAPI description of the service, kept in `docs/openapi.json`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::http::docs;

pub(super) fn run() -> Result<ExitCode> {
    std::io::stdout().write_all(docs::copy().as_bytes()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
