//! `statuslist check`: looks up one status as a Relying Party does.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::base::clock::{Clock, NumericDate};
use crate::check::{Check, CheckLimits, TrustSource, check};
use crate::status_list::Format;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// `uri` of the credential's `status_list`
    #[arg(long)]
    uri: String,
    /// `idx` of the credential's `status_list`
    #[arg(long)]
    idx: u64,
    /// Trust anchor: a PEM file of certificates, a JWKS file, or the URL of a JWKS
    #[arg(long, value_name = "FILE|URL")]
    trust: Option<TrustSource>,
    /// The extended key usage that the certificate must have, in dotted numbers
    #[arg(long, value_name = "OID")]
    eku: Option<String>,
    /// Accept a certificate that is only for other purposes, such as that of a TLS server
    #[arg(long, conflicts_with = "eku")]
    any_eku: bool,
    /// The token format to request, jwt or cwt
    #[arg(long, value_parser = token_format)]
    format: Option<Format>,
    /// Ask for the status at this time in the past, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    time: Option<NumericDate>,
    /// Refuse lists signed longer ago than this, for example 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_age: Option<Duration>,
    /// Follow a redirect from a public address to a private one
    #[arg(long)]
    private_redirects: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<ExitCode> {
        let request = Check {
            trust: self.trust,
            eku: self.eku,
            any_eku: self.any_eku,
            format: self.format,
            time: self.time,
            max_age: self.max_age,
            limits: CheckLimits { private_redirects: self.private_redirects, ..CheckLimits::default() },
            ..Check::new(self.uri, self.idx)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let report = runtime.block_on(check(&request, Clock::System.now().date()));
        if self.json {
            println!("{:#}", report.to_json())
        } else {
            print!("{report}")
        }
        Ok(ExitCode::from(report.exit_code()))
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
        .ok_or_else(|| "a duration has a unit, such as 90s, 1h or PT1H".to_owned())
}

pub(super) fn token_format(text: &str) -> Result<Format, &'static str> {
    let of_tokens = text.parse().ok().filter(|format: &Format| format.is_signed());
    of_tokens.ok_or("the format must be jwt or cwt")
}
