//! `statuslist watch`: looks at the statuses of other issuers' attestations again and again, and tells each change once.
//!
//! For chained revocation: whoever issued a credential on the strength of an attestation must revoke it when that is revoked.
//! Until it is told otherwise, `watch` takes each reference to be valid, as it was when the attestation was accepted. So nothing
//! is kept on disk, and after a restart everything that is not valid is told again: at least once.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use futures_util::stream::StreamExt;
use serde_json::json;

use super::check::{self, Rules, duration};
use super::exit::{FAILED, REFUSED};
use super::references::{self, Reference};
use crate::base::clock::Clock;
use crate::check::{Check, TrustSource, lists};

#[derive(Debug, Args)]
#[command(
    after_help = "With --once it exits with 0 if all are valid, 1 if something was told, 2 if a status could not be told or \
                  the command failed."
)]
pub(super) struct Arguments {
    /// The references to watch, `URI IDX` one a line; read again before each round
    file: PathBuf,
    /// Trust anchor: a PEM file of certificates, a JWKS file, or the URL of a JWKS; read again before each round
    #[arg(long, value_name = "FILE|URL")]
    trust: TrustSource,
    /// Time between two rounds
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    every: Duration,
    /// Run this program for each change, with URI, IDX and STATUS as arguments, instead of printing a line. If it fails, the change is
    /// told again in the next round
    #[arg(long, value_name = "PROGRAM")]
    command: Option<PathBuf>,
    /// Look once, tell everything that is not valid, and exit
    #[arg(long)]
    once: bool,
    /// Print lines of JSON
    #[arg(long, conflicts_with = "command")]
    json: bool,
    #[command(flatten)]
    rules: Rules,
}

const VALID: &str = "VALID";

/// What was told of each reference that is not taken to be valid.
type Told = HashMap<Reference, String>;

impl Arguments {
    pub(super) fn run(self) -> Result<ExitCode> {
        let runtime = super::runtime()?;
        let Self { file, trust, every, command, once, json, rules } = self;
        let request = Check { trust: Some(trust), ..rules.check(String::new(), 0)? };
        let teller = Teller { command, json };
        runtime.block_on(async {
            let mut told = Told::new();
            loop {
                match round(&request, &file, &teller, &mut told).await {
                    Ok(code) if once => return Ok(ExitCode::from(code)),
                    Err(error) if once => return Err(error),
                    Ok(_) => {}
                    // The file may be written at this moment, and a key set may be away.
                    Err(error) => eprintln!("warning: {error:#}; trying again in the next round"),
                }
                tokio::time::sleep(every).await;
            }
        })
    }
}

/// Looks at all references. Returns the exit code of a single round.
async fn round(request: &Check, file: &Path, teller: &Teller, told: &mut Told) -> Result<u8> {
    let references = references::read(file)?;
    let trust = check::load_trust(request).await?;
    let named: HashSet<_> = references.iter().collect();
    told.retain(|reference, _| named.contains(reference));
    let by_list = references::by_list(&references);
    let uris = by_list.iter().map(|(uri, _)| (*uri).to_owned()).collect();
    let mut checked = std::pin::pin!(lists(request, uris, &trust, &Clock::System));
    let mut code = 0;
    for (uri, indices) in by_list {
        let list = checked.next().await.context("a list was not checked")?;
        if let Some(why) = list.why_not() {
            eprintln!("warning: {} COULD NOT TELL: {why}", uri.escape_debug());
            code = FAILED;
            continue;
        }
        for idx in indices {
            let reference = Reference { uri: uri.to_owned(), idx };
            let (status, why) = check::told(&list, idx);
            if told.get(&reference).map_or(VALID, String::as_str) == status {
                continue;
            }
            code = code.max(REFUSED);
            if let Err(error) = teller.tell(&reference, &status, why.as_deref()) {
                eprintln!("warning: {error:#}; it is told again in the next round");
                code = FAILED;
                continue;
            }
            match status == VALID {
                true => told.remove(&reference),
                false => told.insert(reference, status),
            };
        }
    }
    Ok(code)
}

/// Where changes go.
struct Teller {
    command: Option<PathBuf>,
    json: bool,
}

impl Teller {
    fn tell(&self, Reference { uri, idx }: &Reference, status: &str, why: Option<&str>) -> Result<()> {
        let Some(program) = &self.command else {
            match self.json {
                true => println!("{}", json!({ "uri": uri, "idx": idx, "status": status, "why": why })),
                false => println!("{}", check::line(uri, *idx, status, why)),
            }
            return Ok(());
        };
        let shown = program.display();
        let ended = Command::new(program).arg(uri).arg(idx.to_string()).arg(status).status();
        let ended = ended.with_context(|| format!("cannot run {shown}"))?;
        anyhow::ensure!(ended.success(), "{shown} {} {idx} {status}: {ended}", uri.escape_debug());
        Ok(())
    }
}
