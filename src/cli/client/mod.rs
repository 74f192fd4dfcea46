//! What the commands that call a running service share: its address, credentials, retries, and the meaning of refusals.
//!
//! Every request may be repeated without harm: updates are idempotent, and allocations carry an `Idempotency-Key`. So a
//! request whose outcome is unknown is retried, if the service has responded before.

mod allocate;
mod batch;
mod canary;
mod dry_run;
mod info;
mod lines;
mod set;
pub(super) mod status_value;

pub(super) use allocate::Allocate;
pub(super) use canary::Canary;
pub(super) use info::Info;
pub(super) use set::Set;

use std::cell::Cell;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use clap::{Args, ValueEnum};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::exit::REFUSED;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before a retry if the response names none.
const PAUSE: Duration = Duration::from_millis(500);

/// Address of the service, and credentials.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// Address of the service
    #[arg(long, env = "STATUSLIST_URL", default_value = "http://localhost:8090")]
    url: String,
    /// An API key of the pool; better set in the environment, where other users cannot see it
    #[arg(long, env = "STATUSLIST_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<SecretString>,
    /// A file with an API key of the pool
    #[arg(long, env = "STATUSLIST_API_KEY_FILE", value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// A bearer token, used instead of an API key if there is one
    #[arg(long, env = "STATUSLIST_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<SecretString>,
    /// How long to retry while the service is busy or restarting
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::check::duration)]
    patience: Duration,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns for human readers; the default on a terminal
    Table,
    /// One JSON object per line, for programs
    Json,
}

/// A running service.
pub(super) struct Service {
    client: Client,
    url: String,
    headers: HeaderMap,
    patience: Duration,
    /// Whether it has ever responded. If so, it is worth waiting for.
    reached: Cell<bool>,
}

/// Why an action was not done.
pub(super) enum Failure {
    /// The service refuses. A retry would be refused too.
    Refused(Refusal),
    /// No response, or a timeout.
    Failed(Error),
}

/// A refusal by the service.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    /// Includes advice.
    pub(super) message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(Error::new(error).context("cannot print"))
    }
}

impl Format {
    /// The requested format, or the one that suits the output.
    fn or_by_output(asked: Option<Self>) -> Self {
        let by_output = || if std::io::stdout().is_terminal() { Self::Table } else { Self::Json };
        asked.unwrap_or_else(by_output)
    }
}

/// Runs a command to its end and returns its exit code.
pub(super) fn run(doing: impl Future<Output = Result<(), Failure>>) -> Result<ExitCode> {
    match super::runtime()?.block_on(doing) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Failure::Refused(refusal)) => {
            eprintln!("refused: {}", refusal.message);
            Ok(ExitCode::from(REFUSED))
        }
        Err(Failure::Failed(error)) => Err(error),
    }
}

impl Connection {
    /// Prepares a client of the service. Sends nothing yet.
    pub(super) fn open(&self) -> Result<Service> {
        let client = Client::builder()
            .user_agent(concat!("statuslist/", env!("CARGO_PKG_VERSION")))
            // A redirect must not send the key to another server.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build();
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = self.credentials()? {
            let value = HeaderValue::from_str(value.expose_secret());
            let mut value = value.map_err(|_| {
                anyhow!("the API key or token has characters that are not allowed in a header")
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Service {
            client: client.context("cannot make an HTTP client")?,
            url: self.url.trim_end_matches('/').to_owned(),
            headers,
            patience: self.patience,
            reached: Cell::new(false),
        })
    }

    fn credentials(&self) -> Result<Option<(HeaderName, SecretString)>> {
        const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
        if let Some(token) = &self.token {
            return Ok(Some((AUTHORIZATION, format!("Bearer {}", token.expose_secret().trim()).into())));
        }
        if let Some(key) = &self.api_key {
            return Ok(Some((API_KEY, key.clone())));
        }
        let Some(file) = &self.api_key_file else { return Ok(None) };
        let key = std::fs::read_to_string(file)
            .map(Zeroizing::new)
            .with_context(|| format!("cannot read the API key in {}", file.display()))?;
        Ok(Some((API_KEY, key.trim().into())))
    }
}

impl Service {
    /// Sends a request and returns the response, or `Null` if it has no body. Retries while the service is busy or
    /// restarting, or if the response was lost.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Value, Failure> {
        let begun = Instant::now();
        loop {
            let request = self.client.request(method.clone(), format!("{}{path}", self.url));
            let answer = match with(request.headers(self.headers.clone())).send().await {
                Ok(answer) => self.read(answer).await?,
                Err(error) if self.reached.get() && !error.is_builder() => Err((PAUSE, Error::new(error))),
                Err(error) => {
                    let advice = format!(
                        "cannot reach a service at {}; is it running? set its address with --url or STATUSLIST_URL",
                        self.url
                    );
                    return Err(Failure::Failed(Error::new(error).context(advice)));
                }
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err((pause, why)) if begun.elapsed() + pause > self.patience => {
                    let patience = crate::config::show_duration(self.patience);
                    let context = format!(
                        "the service did not complete the request within {patience} (--patience); the outcome is unknown, run the command again"
                    );
                    return Err(Failure::Failed(why.context(context)));
                }
                Err((pause, _)) => tokio::time::sleep(pause).await,
            }
        }
    }

    /// Reads a response. The inner error says when to retry, and why.
    async fn read(&self, answer: Response) -> Result<Result<Value, (Duration, Error)>, Failure> {
        self.reached.set(true);
        let status = answer.status();
        let pause = answer.headers().get(RETRY_AFTER).and_then(|secs| secs.to_str().ok()?.parse().ok());
        let pause = pause.map_or(PAUSE, Duration::from_secs);
        let text = match answer.text().await {
            Ok(text) => text,
            Err(error) => return Ok(Err((pause, Error::new(error)))),
        };
        if status == StatusCode::NO_CONTENT {
            return Ok(Ok(Value::Null));
        }
        let not_the_api =
            || anyhow!("{} answered {status}, but it is not the write API; is --url right?", self.url);
        if status.is_success() {
            return serde_json::from_str(&text).map(Ok).map_err(|_| Failure::Failed(not_the_api()));
        }
        #[derive(Deserialize)]
        struct Problem {
            code: String,
            message: String,
        }
        let problem = serde_json::from_str::<Problem>(&text);
        match (status, problem) {
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, problem) => {
                let message = problem
                    .map_or_else(|_| format!("the service answered {status}"), |problem| problem.message);
                Ok(Err((pause, Error::msg(message))))
            }
            (_, Ok(problem)) if problem.code == "NOT_FOUND" => Err(Failure::Failed(not_the_api())),
            (_, Ok(Problem { code, message })) if status.is_client_error() => {
                let message = message + self.advice(status, &code);
                Err(Failure::Refused(Refusal { status: status.as_u16(), code, message }))
            }
            (_, Ok(problem)) => Err(Failure::Failed(Error::msg(problem.message))),
            (_, Err(_)) => Err(Failure::Failed(not_the_api())),
        }
    }

    fn advice(&self, status: StatusCode, code: &str) -> &'static str {
        match (status, code) {
            (StatusCode::UNAUTHORIZED, _) if self.headers.is_empty() => {
                "; set STATUSLIST_API_KEY, STATUSLIST_API_KEY_FILE or STATUSLIST_TOKEN"
            }
            (StatusCode::UNAUTHORIZED, _) => "; the key or token must be for this pool",
            (_, "NO_SUCH_POOL") => "; the service's settings name its pools under status-list-pools",
            _ => "",
        }
    }
}

/// The id of the list at the end of a `uri`.
pub(super) fn list_id(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap_or(uri)
}
