//! `statuslist retire`: asks a running service to end a list.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use reqwest::{Client, StatusCode};
use serde::Deserialize;

/// `statuslist retire`
#[derive(Debug, Args)]
pub(super) struct Retire {
    /// The list: its id or its `uri`
    list: String,
    /// The pool it belongs to
    #[arg(long)]
    pool: String,
    /// Also while references of it may still be valid: credentials that have one fail from then on
    #[arg(long)]
    force: bool,
    /// Where the service is
    #[arg(long, env = "STATUSLIST_URL", default_value = "http://127.0.0.1:8090")]
    url: String,
    /// An API key of the pool; better in the environment, where others do not see it
    #[arg(long, env = "STATUSLIST_API_KEY", hide_env_values = true)]
    api_key: String,
}

#[derive(Deserialize)]
struct Problem {
    message: String,
}

impl Retire {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let list = self.list.rsplit('/').next().unwrap_or(&self.list);
        let query = if self.force { "?force=true" } else { "" };
        let url = format!("{}/pools/{}/lists/{list}{query}", self.url.trim_end_matches('/'), self.pool);
        actix_web::rt::System::new().block_on(async {
            let answer = Client::new().delete(&url).header("X-Api-Key", &self.api_key).send().await;
            let answer = answer.with_context(|| format!("cannot reach the service at {}", self.url))?;
            if answer.status() == StatusCode::NO_CONTENT {
                println!("retired: from the next beat on, the list's `uri` answers 410");
                return Ok(ExitCode::SUCCESS);
            }
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            match serde_json::from_str::<Problem>(&text) {
                Ok(problem) => bail!("{}", problem.message),
                Err(_) => bail!("the service answered {status}; is {} the write API?", self.url),
            }
        })
    }
}
