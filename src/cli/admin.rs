//! `statuslist pool` and `statuslist key`: pools of templates and API keys in a running service, through its address for management.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Connection, Failure, Service, run};
use super::exit::EXIT_CODES;

/// `statuslist pool`
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Pool {
    #[command(subcommand)]
    command: PoolCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum PoolCommand {
    /// Make a pool of a template of the service's settings
    Create {
        /// Its name, which is never used again
        name: String,
        /// The template
        #[arg(long)]
        template: String,
        /// A setting that differs from the template: title, issuer, reference-lifetime, quotas.lists and so on
        #[arg(long = "set", value_name = "SETTING=VALUE")]
        settings: Vec<String>,
    },
    /// Show the pools that were made at run time, one JSON object per line
    List,
    /// Change a pool that was made at run time
    Patch {
        /// The pool
        name: String,
        /// A setting to change, as for `create`
        #[arg(long = "set", value_name = "SETTING=VALUE")]
        settings: Vec<String>,
        /// A setting that shall be the template's again
        #[arg(long = "unset", value_name = "SETTING")]
        unset: Vec<String>,
        /// Hand out no more references; the lists stay published and can be updated
        #[arg(long, conflicts_with = "open")]
        close: bool,
        /// Hand out references again
        #[arg(long)]
        open: bool,
    },
    /// Delete a pool whose credentials have all expired: its lists are not renewed any more
    Delete {
        /// The pool
        name: String,
        /// Delete it even if references of it may still be valid: their credentials fail when its lists expire
        #[arg(long)]
        force: bool,
    },
}

/// `statuslist key`
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Key {
    #[command(subcommand)]
    command: KeyCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make an API key and print it: it is shown only now
    Create {
        /// Its name in logs and in the audit trail
        name: String,
        /// A pool that it opens; may be given several times
        #[arg(long = "pool", required = true)]
        pools: Vec<String>,
        /// What it allows there: allocate, update or read; may be given several times. All three if left out
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// When it ends, such as 2027-01-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        not_after: Option<String>,
    },
    /// Show the keys that were made at run time, one JSON object per line, without the keys themselves
    List,
    /// Replace a key by a new one of the same name, and print that
    Rotate {
        /// The name
        name: String,
        /// For how long the earlier key stays valid, at most 24h
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = super::check::duration)]
        grace: Duration,
    },
    /// End a key
    End {
        /// The name
        name: String,
    },
}

impl Pool {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let service = self.connection.open()?;
        run(self.command.send(&service))
    }
}

impl PoolCommand {
    async fn send(&self, service: &Service) -> Result<(), Failure> {
        match self {
            Self::Create { name, template, settings } => {
                let settings = tree(settings, &[])?;
                let body = json!({ "name": name, "template": template, "settings": settings });
                println!("{}", ask(service, Method::POST, "/admin/pools", Some(body)).await?);
            }
            Self::List => {
                let answer = ask(service, Method::GET, "/admin/pools", None).await?;
                print_each(&answer["pools"]);
            }
            Self::Patch { name, settings, unset, close, open } => {
                let mut body = json!({ "settings": tree(settings, unset)? });
                if *close || *open {
                    body["closed"] = (*close).into();
                }
                let path = format!("/admin/pools/{name}");
                println!("{}", ask(service, Method::PATCH, &path, Some(body)).await?);
            }
            Self::Delete { name, force } => {
                let query = if *force { "?force=true" } else { "" };
                ask(service, Method::DELETE, &format!("/admin/pools/{name}{query}"), None).await?;
                println!("deleted: its lists are not renewed any more, and its name is not used again");
            }
        }
        Ok(())
    }
}

impl Key {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let service = self.connection.open()?;
        run(self.command.send(&service))
    }
}

impl KeyCommand {
    async fn send(&self, service: &Service) -> Result<(), Failure> {
        match self {
            Self::Create { name, pools, scopes, not_after } => {
                let mut body = json!({ "name": name, "pools": pools });
                if !scopes.is_empty() {
                    body["scopes"] = json!(scopes);
                }
                if let Some(end) = not_after {
                    body["not-after"] = json!(end);
                }
                show(&ask(service, Method::POST, "/admin/keys", Some(body)).await?);
            }
            Self::List => {
                let answer = ask(service, Method::GET, "/admin/keys", None).await?;
                print_each(&answer["keys"]);
            }
            Self::Rotate { name, grace } => {
                let body = json!({ "grace": format!("{}s", grace.as_secs()) });
                let path = format!("/admin/keys/{name}/rotate");
                show(&ask(service, Method::POST, &path, Some(body)).await?);
            }
            Self::End { name } => {
                ask(service, Method::DELETE, &format!("/admin/keys/{name}"), None).await?;
                println!("ended");
            }
        }
        Ok(())
    }
}

async fn ask(service: &Service, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
    let body = body.map(|body| body.to_string());
    let with = |request: reqwest::RequestBuilder| match &body {
        Some(body) => request.header("Content-Type", "application/json").body(body.clone()),
        None => request,
    };
    service.ask(method, path, with).await
}

fn print_each(entries: &Value) {
    entries.as_array().into_iter().flatten().for_each(|entry| println!("{entry}"));
}

/// Prints the key alone, for scripts.
fn show(answer: &Value) {
    println!("{}", answer["key"].as_str().unwrap_or_default());
    if answer["inUse"] == false {
        eprintln!("WARNING: the service does not use it yet and goes on as before; its log says why");
    }
    eprintln!("the key is shown only now; give it to the issuer, and keep no copy");
}

/// Settings as a tree: `quotas.lists=5` is `{"quotas":{"lists":5}}`. Those of `unset` are null.
fn tree(set: &[String], unset: &[String]) -> Result<Value> {
    let mut tree = Map::new();
    for setting in set {
        let (path, value) =
            setting.split_once('=').ok_or_else(|| anyhow!("`{setting}` is not SETTING=VALUE"))?;
        // A number is one; anything else is a text.
        let value = value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number));
        put(&mut tree, path, value);
    }
    unset.iter().for_each(|path| put(&mut tree, path, Value::Null));
    Ok(Value::Object(tree))
}

fn put(tree: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => _ = tree.insert(path.to_owned(), value),
        Some((first, rest)) => {
            let below = tree.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_a_tree() {
        let set = ["title=Acme = 1", "quotas.lists=5", "quotas.references-per-day=7"].map(str::to_owned);
        let expected = json!({
            "title": "Acme = 1",
            "quotas": { "lists": 5, "references-per-day": 7 },
            "issuer": null
        });
        assert_eq!(tree(&set, &["issuer".to_owned()]).unwrap(), expected);
        assert!(tree(&["title".to_owned()], &[]).is_err());
    }
}
