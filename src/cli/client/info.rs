//! `statuslist info`: the facts of a service, of a pool, or of one reference.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::status_value::StatusValue;
use super::{Connection, Failure, Format, Service, list_id, run};
use crate::base::clock::NumericDate;
use crate::cli::exit::EXIT_CODES;

/// `statuslist info`
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Info {
    /// The pool: shows what issuers agree on, and how much of it is used. Without it: the service's version, and all pools of the key
    #[arg(long)]
    pool: Option<String>,
    /// `uri` of a reference: shows the stored value, and whether it is published
    #[arg(requires = "idx")]
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
        let facts = match (&self.pool, &self.uri, self.idx) {
            (Some(pool), Some(uri), Some(idx)) => status(service, pool, uri, idx).await?,
            (None, Some(uri), Some(idx)) => find(service, uri, idx).await?,
            (Some(pool), ..) => get(service, &format!("/pools/{pool}")).await?,
            (None, ..) => {
                let pools = get(service, "/pools").await?;
                let mut facts = json!({ "url": self.connection.url, "pools": pools["pools"] });
                // Operators may keep it away from callers, see `server.management-listen`.
                if let Ok(version) = get(service, "/version").await {
                    facts["version"] = version["version"].clone();
                }
                facts
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

async fn get(service: &Service, path: &str) -> Result<Value, Failure> {
    service.ask(Method::GET, path, |request| request).await
}

async fn status(service: &Service, pool: &str, uri: &str, idx: u64) -> Result<Value, Failure> {
    get(service, &format!("/pools/{pool}/lists/{}/statuses/{idx}", list_id(uri))).await
}

/// Looks for the list in each pool of the key.
async fn find(service: &Service, uri: &str, idx: u64) -> Result<Value, Failure> {
    let pools = get(service, "/pools").await?;
    let mut refused = Failure::Failed(anyhow!("the key is for no pool"));
    for pool in pools["pools"].as_array().into_iter().flatten() {
        match status(service, pool["pool"].as_str().unwrap_or_default(), uri, idx).await {
            Err(Failure::Refused(refusal)) if refusal.code == "NO_SUCH_LIST" => {
                refused = Failure::Refused(refusal);
            }
            found => return found,
        }
    }
    Err(refused)
}

/// One row for each fact, with its name and unit for people.
fn rows(out: &mut impl Write, prefix: &str, facts: &Value) -> std::io::Result<()> {
    for (name, fact) in facts.as_object().into_iter().flatten() {
        let name = format!("{prefix}{name}");
        match fact {
            Value::Object(_) => rows(out, &format!("{name}."), fact)?,
            Value::Array(_) if name == "pools" => {}
            Value::Array(entries) => {
                let entries: Vec<_> = entries.iter().map(plain).collect();
                writeln!(out, "{:<30} {}", label(&name), entries.join(", "))?;
            }
            fact => writeln!(out, "{:<30} {}", label(&name), shown(&name, fact))?,
        }
    }
    // After the facts of the service.
    facts["pools"].as_array().map_or(Ok(()), |pools| table(out, pools))
}

/// One row for each pool.
fn table(out: &mut impl Write, pools: &[Value]) -> std::io::Result<()> {
    let width = pools.iter().filter_map(|pool| Some(pool["pool"].as_str()?.len())).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "\n{:<width$}  {:>5}  {:>12}  {:>7}  {:>12}  {:>12}  BEAT",
        "POOL", "BITS", "LIST SIZE", "LISTS", "USED", "LEFT"
    )?;
    for pool in pools {
        let [bits, size, lists] = ["bits", "size", "lists"].map(|name| plain(&pool[name]));
        let [used, free] = ["used", "free"].map(|name| plain(&pool["references"][name]));
        let beat = shown("updateInterval", &pool["updateInterval"]);
        let pool = plain(&pool["pool"]);
        writeln!(out, "{pool:<width$}  {bits:>5}  {size:>12}  {lists:>7}  {used:>12}  {free:>12}  {beat}")?;
    }
    Ok(())
}

fn label(name: &str) -> &str {
    match name {
        "url" => "service",
        "bits" => "bits per entry",
        "size" => "entries per list",
        "ttl" => "verifiers may cache a list for",
        "listLifetime" => "a signed list is valid for",
        "updateInterval" => "changed lists are signed every",
        "keyId" => "signing key (kid)",
        "references.used" => "references used",
        "references.free" => "references left in open lists",
        "references.ready" => "used, but not handed out yet",
        "value" => "stored status",
        "version" => "version",
        "publishedVersion" => "published version",
        other => other,
    }
}

/// A fact with its unit.
fn shown(name: &str, fact: &Value) -> String {
    match (name, fact.as_u64(), fact.as_bool()) {
        ("ttl" | "listLifetime" | "updateInterval", Some(secs), _) => {
            crate::config::show_duration(Duration::from_secs(secs))
        }
        ("value", Some(value), _) => StatusValue(value).to_string(),
        ("publishedAt", Some(secs), _) => NumericDate::from_secs(secs).to_string(),
        (_, _, Some(yes)) => if yes { "yes" } else { "no" }.to_owned(),
        _ if fact.is_null() => "none yet".to_owned(),
        _ => plain(fact),
    }
}

fn plain(fact: &Value) -> String {
    fact.as_str().map_or_else(|| fact.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_names_and_units() {
        let pool = json!({ "pool": "demo", "bits": 2, "size": 800, "ttl": 90, "updateInterval": 3600, "lists": 3,
            "formats": ["jwt", "cwt"], "references": { "used": 17, "free": 5 }, "value": 1, "published": true, "publishedVersion": null });
        let mut out = Vec::new();
        rows(&mut out, "", &pool).unwrap();
        rows(&mut out, "", &json!({ "pools": [pool] })).unwrap();
        let out = String::from_utf8(out).unwrap();
        for line in [
            "bits per entry                 2\n",
            "verifiers may cache a list for 1m 30s\n",
            "changed lists are signed every 1h\n",
            "formats                        jwt, cwt\n",
            "references used                17\n",
            "stored status                  revoked (1)\n",
            "published                      yes\n",
            "published version              none yet\n",
            "\nPOOL   BITS     LIST SIZE    LISTS          USED          LEFT  BEAT\n",
            "\ndemo      2           800        3            17             5  1h\n",
        ] {
            assert!(out.contains(line), "{line}: {out}");
        }
    }
}
