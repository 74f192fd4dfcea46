//! `statuslist check`: looks up statuses as a Relying Party does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use futures_util::stream::StreamExt;
use serde_json::json;

use super::exit::{FAILED, REFUSED};
use super::references::{self, Reference};
use crate::base::clock::{Clock, NumericDate};
use crate::check::{self, Check, CheckLimits, CheckedList, Outcome, Trust, TrustSource};
use crate::sign::profile::{Profile, Profiles};
use crate::status_list::Format;

#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 if all are valid, 1 if one is not, 2 if one could not be told. With --aggregation: 0 if all lists are \
                  good, 2 if one is not."
)]
pub(super) struct Arguments {
    /// `uri` of the credential's `status_list`
    #[arg(long, requires = "idx", required_unless_present_any = ["batch", "aggregation"])]
    uri: Option<String>,
    /// `idx` of the credential's `status_list`
    #[arg(long, requires = "uri")]
    idx: Option<u64>,
    /// Look up every `URI IDX` of this file, one a line (- for standard input), and fetch each list once
    #[arg(long, value_name = "FILE", conflicts_with_all = ["uri", "aggregation"])]
    batch: Option<PathBuf>,
    /// Check every list that this aggregation names
    #[arg(long, value_name = "URI", conflicts_with = "uri")]
    aggregation: Option<String>,
    /// Ask for the status at this time in the past, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    time: Option<NumericDate>,
    /// Print JSON: with --batch and --aggregation a line for each
    #[arg(long)]
    json: bool,
    /// Trust anchor: a PEM file of certificates, a JWKS file, or the URL of a JWKS
    #[arg(long, value_name = "FILE|URL")]
    trust: Option<TrustSource>,
    #[command(flatten)]
    rules: Rules,
}

/// The rules for tokens.
#[derive(Debug, Args)]
pub(super) struct Rules {
    /// The extended key usage that the certificate must have, in dotted numbers
    #[arg(long, value_name = "OID")]
    eku: Option<String>,
    /// Accept a certificate that is only for other purposes, such as that of a TLS server
    #[arg(long, conflicts_with = "eku")]
    any_eku: bool,
    /// Refuse tokens that break this profile: haip (JWT), mdoc (CWT) or eudi; may be repeated
    #[arg(long, value_parser = profile())]
    profile: Vec<Profile>,
    /// The token format to request, jwt or cwt; by default the one that the profile is about
    #[arg(long, value_parser = token_format)]
    format: Option<Format>,
    /// Refuse lists signed longer ago than this, for example 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_age: Option<Duration>,
    /// Follow a redirect from a public address to a private one
    #[arg(long)]
    private_redirects: bool,
}

impl Rules {
    /// A check by these rules. Fails if no token could keep them.
    pub(super) fn check(self, uri: String, idx: u64) -> Result<Check> {
        let mut formats = self.profile.iter().filter_map(|profile| profile.format()).chain(self.format);
        let format = formats.next();
        if let Some(other) = formats.find(|other| Some(*other) != format) {
            return Err(anyhow!(
                "haip is about jwt and mdoc about cwt, so no token keeps all of this ({other}, too, is asked for); check one at a time"
            ));
        }
        Ok(Check {
            eku: self.eku,
            any_eku: self.any_eku,
            profiles: self.profile.into_iter().collect::<Profiles>(),
            format,
            max_age: self.max_age,
            limits: CheckLimits { private_redirects: self.private_redirects, ..CheckLimits::default() },
            ..Check::new(uri, idx)
        })
    }
}

impl Arguments {
    pub(super) fn run(self) -> Result<ExitCode> {
        let runtime = super::runtime()?;
        let Self { uri, idx, batch, aggregation, time, json, trust, rules } = self;
        let request = rules.check(uri.unwrap_or_default(), idx.unwrap_or_default())?;
        let request = Check { time, trust, ..request };
        let code = runtime.block_on(async {
            match (batch, aggregation) {
                (Some(file), _) => check_batch(&request, &references::read(&file)?, json).await,
                (None, Some(aggregation)) => check_aggregation(&request, &aggregation, json).await,
                (None, None) => {
                    let report = check::check(&request, Clock::System.now().date()).await;
                    match json {
                        true => println!("{:#}", report.to_json()),
                        false => print!("{report}"),
                    }
                    Ok(report.exit_code())
                }
            }
        })?;
        Ok(ExitCode::from(code))
    }
}

/// Loads the keys that many lists are verified with.
pub(super) async fn load_trust(request: &Check) -> Result<Trust> {
    let source = request.trust.as_ref().context(
        "nothing is trusted yet, so no signature can be verified; pass --trust with a certificate (PEM), a JWKS file, or the URL of a JWKS",
    )?;
    Ok(check::load(source, request).await?)
}

/// Prints a line for each reference, in the order of their lists.
async fn check_batch(request: &Check, references: &[Reference], as_json: bool) -> Result<u8> {
    let (trust, by_list) = (load_trust(request).await?, references::by_list(references));
    let uris = by_list.iter().map(|(uri, _)| (*uri).to_owned()).collect();
    let mut lists = std::pin::pin!(check::lists(request, uris, &trust, &Clock::System));
    let mut code = 0;
    for (uri, indices) in by_list {
        let list = lists.next().await.context("a list was not checked")?;
        for idx in indices {
            let (word, why) = told(&list, idx);
            code = code.max(code_of(&list, idx));
            match as_json {
                true => println!("{}", json!({ "uri": uri, "idx": idx, "status": word, "why": why })),
                false => println!("{}", line(uri, idx, &word, why.as_deref())),
            }
        }
    }
    Ok(code)
}

/// Prints a line for each list.
async fn check_aggregation(request: &Check, aggregation: &str, as_json: bool) -> Result<u8> {
    let trust = load_trust(request).await?;
    let uris = check::aggregation(aggregation, &request.limits).await?;
    let mut lists = std::pin::pin!(check::lists(request, uris, &trust, &Clock::System));
    let mut code = 0;
    while let Some(list) = lists.next().await {
        let why = list.why_not().map(ToString::to_string);
        code = if why.is_some() { FAILED } else { code };
        let (iat, exp, entries) = list
            .token
            .as_ref()
            .map_or((None, None, None), |token| (Some(token.iat), token.exp, token.entries));
        let CheckedList { uri, .. } = &list;
        match (as_json, why) {
            (true, why) => {
                let good = why.is_none();
                println!(
                    "{}",
                    json!({ "uri": uri, "good": good, "iat": iat, "exp": exp, "entries": entries, "why": why })
                );
            }
            (false, None) => println!("{uri} GOOD, {} entries", entries.unwrap_or_default()),
            (false, Some(why)) => println!("{} COULD NOT TELL: {why}", uri.escape_debug()),
        }
    }
    Ok(code)
}

/// `URI IDX STATUS`, and the reason if there is one.
pub(super) fn line(uri: &str, idx: u64, word: &str, why: Option<&str>) -> String {
    let uri = uri.escape_debug();
    match why {
        Some(why) => format!("{uri} {idx} {word}: {why}"),
        None => format!("{uri} {idx} {word}"),
    }
}

/// The status in a word, and the reason if it is none of the registered ones.
pub(super) fn told(list: &CheckedList, idx: u64) -> (String, Option<String>) {
    match list.at(idx) {
        Ok(Outcome::Valid) => ("VALID".to_owned(), None),
        Ok(Outcome::NotValid(check::NotValid::Status(status))) => (status.to_string(), None),
        Ok(Outcome::NotValid(why)) => ("NOT VALID".to_owned(), Some(why.to_string())),
        Ok(Outcome::Unknown(why)) => ("COULD NOT TELL".to_owned(), Some(why.to_string())),
        Err(why) => ("COULD NOT TELL".to_owned(), Some(why.to_string())),
    }
}

fn code_of(list: &CheckedList, idx: u64) -> u8 {
    match list.at(idx) {
        Ok(Outcome::Valid) => 0,
        Ok(Outcome::NotValid(_)) => REFUSED,
        Ok(Outcome::Unknown(_)) | Err(_) => FAILED,
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

fn profile() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::ALL.map(Profile::name)).map(|name| {
        let named = Profile::ALL.into_iter().find(|profile| profile.name() == name);
        named.expect("only names of profiles are possible")
    })
}
