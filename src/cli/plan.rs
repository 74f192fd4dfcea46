//! `statuslist plan`: what a deployment will need, for choosing list sizes, beats and `ttl`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::config::parse_duration;
use crate::plan::{Demand, Plan, TokenSize};
use crate::status_list::{Bits, Capacity};

/// `statuslist plan`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// References handed out per day
    #[arg(long, value_name = "N")]
    references_per_day: f64,
    /// How long a credential is valid (365d)
    #[arg(long, value_parser = duration)]
    lifetime: Duration,
    /// The share of them that is revoked before its end: 0.01 or 1%
    #[arg(long, value_parser = share, default_value = "1%")]
    revocation_rate: f64,
    /// `update-interval`
    #[arg(long, value_parser = duration, default_value = "10s")]
    beat: Duration,
    /// `ttl`: how long verifiers keep a list
    #[arg(long, value_parser = duration, default_value = "10m")]
    ttl: Duration,
    /// `list-lifetime`
    #[arg(long, value_parser = duration, default_value = "24h")]
    list_lifetime: Duration,
    /// Verifiers that fetch lists, or caches in front of them
    #[arg(long, value_name = "N", default_value = "100")]
    verifiers: f64,
    /// Credentials that each verifier checks per day
    #[arg(long, value_name = "N", default_value = "1000")]
    checks_per_day: f64,
    /// Entries of one list
    #[arg(long, value_name = "N", default_value = "100000")]
    size: u64,
    /// Bits of one entry: 1, 2, 4 or 8
    #[arg(long, default_value = "1")]
    bits: u64,
    /// `open-lists`, times the number of instances that hand out references
    #[arg(long, value_name = "N", default_value = "2")]
    open_lists: u32,
    /// `precreation.lists`, times that number
    #[arg(long, value_name = "N", default_value = "1")]
    precreated_lists: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    plan: &'a Plan,
    token: &'a TokenSize,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = parse_duration(text).filter(|duration| duration.as_secs() > 0);
    parsed.ok_or_else(|| "a duration of at least a second, with its unit: 10s, 24h, 365d".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let (number, of) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().ok().map(|number| number / of);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share from 0 to 1, or 0% to 100%".to_owned())
}

impl Arguments {
    pub(super) fn run(&self) -> Result<ExitCode> {
        for (name, number) in [
            ("--references-per-day", self.references_per_day),
            ("--verifiers", self.verifiers),
            ("--checks-per-day", self.checks_per_day),
        ] {
            if !number.is_finite() || number <= 0.0 {
                bail!("{name} must be above 0");
            }
        }
        let bits = Bits::try_from(self.bits).ok().context("--bits must be 1, 2, 4 or 8")?;
        let capacity = Capacity::new(self.size, bits)
            .ok()
            .context("--size times --bits must be above 0 and divisible by 8")?;
        if self.open_lists == 0 {
            bail!("--open-lists must be above 0");
        }
        let uri = "https://status.example.com/lists/00000000-0000-4000-8000-000000000000";
        let token = TokenSize::measure(capacity, self.revocation_rate, uri, self.list_lifetime, self.ttl)?;
        let demand = Demand {
            references_per_day: self.references_per_day,
            lifetime: self.lifetime,
            revocation_rate: self.revocation_rate,
            verifiers: self.verifiers,
            checks_per_day: self.checks_per_day,
            capacity,
            open_lists: self.open_lists,
            precreated_lists: self.precreated_lists,
            beat: self.beat,
            ttl: self.ttl,
            list_lifetime: self.list_lifetime,
            publish_seconds: token.seconds,
            renewal_seconds: token.renewal_seconds,
        };
        let plan = Plan::of(&demand);
        if self.json {
            println!("{}", serde_json::to_string(&Report { plan: &plan, token: &token })?);
        } else {
            print!("{}", table(&plan, &token));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(plan: &Plan, token: &TokenSize) -> String {
    let traffic = |fetches: f64| format!("{}/s", bytes(fetches * token.jwt_gzip_bytes as f64));
    let rows = [
        ("", "Lists".to_owned()),
        ("valid credentials", count(plan.live_references)),
        ("published lists", format!("{}, {} new a day", count(plan.lists), count(plan.new_lists_per_day))),
        ("", format!("A list before its end, {} % set", round(plan.set_share_at_end * 100.0))),
        (
            "compressed array",
            format!("{}, entropy bound {}", bytes(token.lst_bytes as f64), bytes(token.bound_bytes)),
        ),
        (
            "JWT",
            format!(
                "{}, fetched with gzip {}",
                bytes(token.jwt_bytes as f64),
                bytes(token.jwt_gzip_bytes as f64)
            ),
        ),
        ("CWT", bytes(token.cwt_bytes as f64)),
        ("", "Publishing".to_owned()),
        ("updates", format!("{}/s on average", round(plan.updates_per_second))),
        ("lists changed in a beat", round(plan.changed_lists_per_beat)),
        ("lists renewed in a beat", round(plan.renewed_lists_per_beat)),
        ("signatures a day, for each format", count(plan.signatures_per_day)),
        (
            "CPU for that, of one core of this machine",
            format!("{} %", round(plan.publishing_cpu_share * 100.0)),
        ),
        ("", "Fetching (JWT, gzip)".to_owned()),
        (
            "by verifiers",
            format!("{}/s, {}", round(plan.fetches_per_second), traffic(plan.fetches_per_second)),
        ),
        (
            "from the origin, behind one cache",
            format!(
                "{}/s, {}",
                round(plan.origin_fetches_per_second),
                traffic(plan.origin_fetches_per_second)
            ),
        ),
        ("", "A revocation is seen by the last verifier".to_owned()),
        ("directly from the origin", format!("after {} s", round(plan.staleness_max_without_cache_seconds))),
        ("through a cache", format!("after {} s", round(plan.staleness_max_seconds))),
        ("", "Store".to_owned()),
        ("Redis, memory", bytes(plan.redis_bytes)),
        ("SQLite, files", bytes(plan.sqlite_bytes)),
    ];
    rows.into_iter().fold(String::new(), |text, (name, value)| match name {
        "" if text.is_empty() => format!("{value}\n"),
        "" => text + &format!("\n{value}\n"),
        _ => text + &format!("  {name:<42}{value}\n"),
    })
}

fn bytes(bytes: f64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{} {unit}", round(bytes / size)),
        None => format!("{bytes:.0} bytes"),
    }
}

fn count(number: f64) -> String {
    if number >= 100.0 {
        let digits = format!("{number:.0}");
        let groups =
            digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
        groups.collect::<Vec<_>>().join(",")
    } else {
        round(number)
    }
}

/// Three significant digits: the model is no more precise.
fn round(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        number if number >= 0.01 => format!("{number:.2}"),
        number => format!("{number:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_defaults_are_those_of_the_settings() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let line = ["plan", "--references-per-day", "1", "--lifetime", "1d"];
        let Line { arguments } = clap::Parser::parse_from(line);
        let config = Config::load(None, std::iter::empty()).unwrap();
        let pool = config.pools.values().next().unwrap();
        assert_eq!(
            (arguments.open_lists as usize, arguments.precreated_lists as usize),
            (pool.live.open_lists, pool.live.ready_lists)
        );
        assert_eq!(
            (arguments.size, arguments.bits),
            (pool.shape.capacity.entries().into(), pool.shape.capacity.bits().get().into())
        );
        assert_eq!(
            (arguments.beat, arguments.list_lifetime),
            (pool.live.update_interval, pool.live.lifetimes.list_lifetime)
        );
    }

    #[test]
    fn numbers_are_in_human_notation() {
        assert_eq!((share("1%"), share("0.25"), share("100 %")), (Ok(0.01), Ok(0.25), Ok(1.0)));
        assert!(share("101%").is_err() && share("-1").is_err() && duration("10").is_err());
        assert_eq!(
            (count(73_000_000.0), count(731.0), count(2.0)),
            ("73,000,000".into(), "731".into(), "2.00".into())
        );
        assert_eq!(
            (bytes(12_500.0), bytes(999.0), round(0.0)),
            ("12.5 kB".into(), "999 bytes".into(), "0".into())
        );
    }
}
