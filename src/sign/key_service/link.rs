//! The connections to a key service: bounded, tried again, and with what proves to the service who asks.

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Request, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::Address;
use super::sigv4::Sigv4;

/// The pauses after tries that failed in a way that may pass. There is one more try than pauses.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// How much of a refusal is quoted, in characters.
const QUOTED_MAX: usize = 300;
/// The header with the token of Vault and OpenBao.
const VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

/// Drives the connections to all key services. Callers wait on threads of their own, with or without a runtime.
static CONNECTIONS: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).thread_name("key-service").enable_all().build()
});

/// The connections to a service.
pub(super) struct Link {
    client: Client,
    /// Its name in messages.
    name: String,
    access: Access,
    timeout: Duration,
    /// The longest answer that is read.
    answer_bytes_max: usize,
}

/// What proves to the service who asks. It also tells how the service words a refusal.
pub(super) enum Access {
    /// A bearer token, if the service wants one.
    Bearer(Option<SecretString>),
    /// The token of Vault in this file, read for each call, so that it may be replaced at any time. `None` leaves it to an agent.
    Vault(Option<PathBuf>),
    /// A signature of each request by AWS's scheme.
    Aws(Sigv4),
}

/// Why a call failed.
pub(super) struct Fault {
    pub(super) why: String,
    /// Whether another try may succeed.
    pub(super) may_pass: bool,
}

/// A problem (RFC 9457).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

/// A refusal by Vault.
#[derive(Deserialize)]
struct VaultErrors {
    errors: Vec<String>,
}

/// A refusal by AWS.
#[derive(Deserialize)]
struct AwsError {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(default, alias = "Message")]
    message: String,
}

impl Link {
    pub(super) fn new(
        address: &Address,
        access: Access,
        timeout: Duration,
        answer_bytes_max: usize,
    ) -> Result<Arc<Self>, String> {
        let name = match &address.socket {
            Some(socket) => format!("unix://{}", socket.display()),
            None => address.base.to_string(),
        };
        let client = client(address, timeout)?;
        Ok(Arc::new(Self { client, name, access, timeout, answer_bytes_max }))
    }

    /// What makes requests for [`Self::call`].
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request until it is answered, and waits for that. Takes no longer than all tries and pauses together.
    pub(super) fn call<T: DeserializeOwned>(
        self: &Arc<Self>,
        request: reqwest::Result<Request>,
    ) -> Result<T, Fault> {
        let lasting = |why: String| Fault { why, may_pass: false };
        let unasked =
            |error: &dyn Error| lasting(format!("cannot ask the key service {}: {error}", self.name));
        let mut request = request.map_err(|error| unasked(&error))?;
        let token = self.access.identify(&mut request).map_err(lasting)?;
        let connections = CONNECTIONS.as_ref().map_err(|error| unasked(error))?;
        let (tell, told) = mpsc::sync_channel(1);
        let link = Arc::clone(self);
        connections.spawn(async move {
            // If nobody waits any more, nobody needs it.
            let _ = tell.send(link.ask(request, token.as_ref()).await);
        });
        let body = told.recv().unwrap_or_else(|error| Err(unasked(&error)))?;
        serde_json::from_slice(&body)
            .map_err(|error| lasting(self.says(&format!("what the protocol does not have: {error}"))))
    }

    async fn ask(&self, request: Request, token: Option<&SecretString>) -> Result<Vec<u8>, Fault> {
        let mut pauses = PAUSES.iter();
        loop {
            let again = request.try_clone().expect("its body is in memory");
            match self.ask_once(again, token).await {
                Err(Fault { may_pass: true, why }) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(Fault { may_pass: true, why }),
                },
                answered => return answered,
            }
        }
    }

    async fn ask_once(&self, mut request: Request, token: Option<&SecretString>) -> Result<Vec<u8>, Fault> {
        if let Access::Aws(sigv4) = &self.access {
            let signed = tokio::time::timeout(self.timeout, sigv4.sign(&mut request)).await;
            let signed = signed.unwrap_or_else(|_| Err(format!("none came within {:?}", self.timeout)));
            signed.map_err(|why| Fault {
                why: format!("cannot ask the key service {}: no credentials of AWS: {why}", self.name),
                may_pass: true,
            })?;
        }
        let response = self.client.execute(request).await.map_err(|error| self.unreached(&error))?;
        let status = response.status();
        let body = self.read(response).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let (said, of_service) = self.access.refusal(&body, status);
        let may_pass = of_service || [429, 502, 503, 504].contains(&status.as_u16());
        Err(Fault { why: self.says(&format!("{status}{}", quoted(&said, token))), may_pass })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreached(&error))? {
            if body.len() + chunk.len() > self.answer_bytes_max {
                let why = self.says(&format!("more than {} bytes", self.answer_bytes_max));
                return Err(Fault { why, may_pass: false });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreached(&self, error: &reqwest::Error) -> Fault {
        let Self { name, timeout, .. } = self;
        let why = match error.is_timeout() {
            true => format!(
                "the key service {name} gave no answer within {timeout:?}: look whether it hangs, or raise its timeout"
            ),
            false => {
                let innermost = std::iter::successors(error.source(), |&cause| cause.source()).last();
                let cause = innermost.map_or_else(|| error.to_string(), ToString::to_string);
                format!("the key service {name} cannot be reached ({cause}): start it, or correct its url")
            }
        };
        Fault { why, may_pass: true }
    }

    /// A message about an answer.
    pub(super) fn says(&self, what: &str) -> String {
        format!("the key service {} answered {what}", self.name)
    }

    /// [`Self::says`] as a fault that lasts.
    pub(super) fn lasting(&self, what: &str) -> Fault {
        Fault { why: self.says(what), may_pass: false }
    }
}

impl Access {
    /// Puts the token into the request. Returns it, because no message may have it.
    fn identify(&self, request: &mut Request) -> Result<Option<SecretString>, String> {
        let (name, value, token) = match self {
            Self::Aws(_) | Self::Bearer(None) | Self::Vault(None) => return Ok(None),
            Self::Bearer(Some(token)) => {
                (AUTHORIZATION, format!("Bearer {}", token.expose_secret()), token.clone())
            }
            Self::Vault(Some(file)) => {
                let text = std::fs::read_to_string(file).map(Zeroizing::new);
                let text = text.map_err(|error| {
                    format!("cannot read the token of the key service in {}: {error}", file.display())
                })?;
                (VAULT_TOKEN, text.trim().to_owned(), text.trim().into())
            }
        };
        let mut value = HeaderValue::from_str(&Zeroizing::new(value)).map_err(|_| {
            "the token of the key service has characters that a header cannot have".to_owned()
        })?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
        Ok(Some(token))
    }

    /// What a refusal says, and whether it says that it may pass.
    fn refusal(&self, body: &[u8], status: StatusCode) -> (String, bool) {
        let text = || String::from_utf8_lossy(body).into_owned();
        match self {
            Self::Bearer(_) => {
                let said = match serde_json::from_slice::<Problem>(body) {
                    Ok(Problem { title, detail }) if detail.is_empty() => title,
                    Ok(Problem { title, detail }) if title.is_empty() => detail,
                    Ok(Problem { title, detail }) => format!("{title}: {detail}"),
                    Err(_) => text(),
                };
                (said, false)
            }
            Self::Vault(_) => {
                let said = serde_json::from_slice::<VaultErrors>(body);
                (said.map_or_else(|_| text(), |said| said.errors.join("; ")), false)
            }
            Self::Aws(_) => match serde_json::from_slice::<AwsError>(body) {
                Ok(AwsError { kind, message }) => {
                    let kind = kind.rsplit('#').next().unwrap_or_default();
                    let may_pass = kind.starts_with("Throttling") || status.is_server_error();
                    (format!("{kind}: {message}"), may_pass)
                }
                Err(_) => (text(), status.is_server_error()),
            },
        }
    }
}

/// What a refusal says: on one line, not too long, and without the token.
fn quoted(said: &str, token: Option<&SecretString>) -> String {
    let token = token.map_or("", |token| token.expose_secret());
    let text = if token.is_empty() { said.to_owned() } else { said.replace(token, "…") };
    let text = text.trim().chars().take(QUOTED_MAX).map(|c| if c.is_control() { ' ' } else { c });
    let text: String = text.collect();
    if text.is_empty() { text } else { format!(" ({text})") }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.why
    }
}

fn client(address: &Address, timeout: Duration) -> Result<Client, String> {
    let mut client = Client::builder()
        // Nobody else gets the token, nor what is to be signed.
        .redirect(Policy::none())
        .no_proxy()
        .timeout(timeout)
        .user_agent(concat!("statuslist/", env!("CARGO_PKG_VERSION")));
    if address.base.scheme() == "http" {
        // Without certificate authorities: a small image has none.
        client = client.tls_certs_only([]);
    }
    if let Some(socket) = &address.socket {
        client = client.unix_socket(socket.clone());
    }
    client.build().map_err(|error| format!("cannot prepare connections to the key service: {error}"))
}

/// A URL below `base`.
pub(super) fn url(base: &Url, below: &[&str]) -> Result<Url, String> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| format!("{base} cannot be the address of a key service"))?
        .pop_if_empty()
        .extend(below);
    Ok(url)
}
