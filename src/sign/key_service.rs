//! A signing key in another service, which signs over HTTP: on a Unix socket, or over TLS. `docs/KEY_SERVICE.md` has the protocol.
//!
//! A call may take seconds and must come from a blocking thread. Time, tries and the size of an answer are bounded. After a
//! service failed all tries, other calls fail at once for a moment, so that a pass over many lists ends soon. Signatures are
//! not verified here, except the first one: the gate verifies each token.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, mpsc};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Request, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Algorithm, Jwk, PublicKey};

/// The pauses after tries that failed in a way that may pass. There is one more try than pauses.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// How long a service that failed all tries is not asked again.
const REST: Duration = Duration::from_secs(1);
/// The longest answer that is read; a P-521 key takes 400 bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How much of a refusal is quoted, in characters.
const QUOTED_MAX: usize = 300;
/// How many calls of the process wait at a time, so that services that hang leave threads to everything else.
const CALLS_MAX: usize = 128;
/// The members of a JWK that only its owner may know.
const PRIVATE_MEMBERS: [&str; 7] = ["d", "k", "p", "q", "dp", "dq", "qi"];

/// Drives the connections to all key services. Callers wait on threads of their own, with or without a runtime.
static CONNECTIONS: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).thread_name("key-service").enable_all().build()
});

static CALLS: Semaphore = Semaphore::const_new(CALLS_MAX);

/// Where a key service has a key.
#[derive(Clone, Debug)]
pub struct ServiceKey {
    /// The address to which paths are added. On a socket only its scheme and host are used.
    pub base: Url,
    /// The Unix socket, if it is one.
    pub socket: Option<PathBuf>,
    /// The key's name.
    pub name: String,
    /// The bearer token, if the service wants one.
    pub token: Option<SecretString>,
    /// How long one try may take.
    pub timeout: Duration,
}

/// A private key that makes signatures elsewhere.
pub(super) struct KeyService {
    link: Arc<Link>,
    /// The URL that signs.
    sign: Url,
    algorithm: Algorithm,
    /// When the service failed all tries, and how.
    failed: Mutex<Option<(Instant, String)>>,
}

/// The connections to a service.
struct Link {
    client: Client,
    /// Its name in messages.
    name: String,
    token: Option<SecretString>,
    timeout: Duration,
}

/// Why a call failed.
struct Fault {
    why: String,
    /// Whether another try may succeed.
    may_pass: bool,
}

/// `GET /v1/keys/{name}`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    algorithm: String,
    public_key: Value,
}

/// The body of `POST /v1/keys/{name}/sign`: a digest, or for Ed25519, which hashes by itself, the message.
#[derive(Serialize)]
struct Wanted {
    algorithm: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// The answer to it.
#[derive(Deserialize)]
struct Signed {
    signature: String,
}

/// A problem (RFC 9457).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

/// Waits until the process may make another call. The call itself waits on a thread, of which there are not many.
pub(super) async fn turn() -> Option<SemaphorePermit<'static>> {
    CALLS.acquire().await.ok()
}

impl KeyService {
    /// Asks for the public key and makes the service sign, so that an unusable key is noticed now.
    pub(super) fn open(key: &ServiceKey) -> Result<(Self, PublicKey), String> {
        let name = match &key.socket {
            Some(socket) => format!("unix://{}", socket.display()),
            None => key.base.to_string(),
        };
        let (token, timeout) = (key.token.clone(), key.timeout);
        let link = Arc::new(Link { client: client(key)?, name, token, timeout });
        let request = link.client.get(url(&key.base, &["v1", "keys", &key.name])?);
        let described: Description = link.call(request.build())?;
        let public = public_key(described).map_err(|why| link.says(&why))?;
        let sign = url(&key.base, &["v1", "keys", &key.name, "sign"])?;
        let service = Self { link, sign, algorithm: public.algorithm(), failed: Mutex::default() };
        let probe = b"statuslist";
        match public.verify(probe, &service.sign(probe)?) {
            true => Ok((service, public)),
            false => {
                Err(service.link.says("a signature that does not verify with the public key that it gave"))
            }
        }
    }

    /// The raw signature over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        if let Some((since, why)) = &*self.failed.lock()
            && since.elapsed() < REST
        {
            return Err(format!("{why}; not asked again within {REST:?}"));
        }
        let body = serde_json::to_vec(&self.wanted(message)).expect("texts become JSON");
        let request = self.link.client.post(self.sign.clone());
        let request = request.header(CONTENT_TYPE, "application/json").body(body).build();
        let signed: Signed = self.link.call(request).map_err(|fault| {
            if fault.may_pass {
                *self.failed.lock() = Some((Instant::now(), fault.why.clone()));
            }
            fault.why
        })?;
        let signature = URL_SAFE_NO_PAD.decode(&signed.signature);
        let signature = signature.map_err(|_| self.link.says("a signature that is not base64url"))?;
        // For ECDSA two numbers as long as a coordinate, for Ed25519 as much.
        let expected = 2 * self.algorithm.coordinate_bytes();
        match signature.len() == expected {
            true => Ok(signature),
            false => Err(self.link.says(&format!(
                "a signature of {} bytes instead of {expected}: r and s side by side, not DER",
                signature.len()
            ))),
        }
    }

    fn wanted(&self, message: &[u8]) -> Wanted {
        let algorithm = match self.algorithm {
            Algorithm::Es256 => Some(&digest::SHA256),
            Algorithm::Es384 => Some(&digest::SHA384),
            Algorithm::Es512 => Some(&digest::SHA512),
            Algorithm::EdDsa => None,
        };
        let digest = algorithm.map(|algorithm| URL_SAFE_NO_PAD.encode(digest::digest(algorithm, message)));
        let message = digest.is_none().then(|| URL_SAFE_NO_PAD.encode(message));
        Wanted { algorithm: self.algorithm.jose_name(), digest, message }
    }
}

impl fmt::Debug for KeyService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyService({})", self.sign)
    }
}

impl Link {
    /// Sends a request until it is answered, and waits for that. Takes no longer than all tries and pauses together.
    fn call<T: DeserializeOwned>(self: &Arc<Self>, request: reqwest::Result<Request>) -> Result<T, Fault> {
        let lasting = |why: String| Fault { why, may_pass: false };
        let unasked =
            |error: &dyn Error| lasting(format!("cannot ask the key service {}: {error}", self.name));
        let request = request.map_err(|error| unasked(&error))?;
        let connections = CONNECTIONS.as_ref().map_err(|error| unasked(error))?;
        let (tell, told) = mpsc::sync_channel(1);
        let link = Arc::clone(self);
        connections.spawn(async move {
            // If nobody waits any more, nobody needs it.
            let _ = tell.send(link.ask(request).await);
        });
        let body = told.recv().unwrap_or_else(|error| Err(unasked(&error)))?;
        serde_json::from_slice(&body)
            .map_err(|error| lasting(self.says(&format!("what the protocol does not have: {error}"))))
    }

    async fn ask(&self, request: Request) -> Result<Vec<u8>, Fault> {
        let mut pauses = PAUSES.iter();
        loop {
            let again = request.try_clone().expect("its body is in memory");
            match self.ask_once(again).await {
                Err(Fault { may_pass: true, why }) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(Fault { may_pass: true, why }),
                },
                answered => return answered,
            }
        }
    }

    async fn ask_once(&self, request: Request) -> Result<Vec<u8>, Fault> {
        let response = self.client.execute(request).await.map_err(|error| self.unreached(&error))?;
        let status = response.status();
        let body = self.read(response).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let may_pass = [429, 502, 503, 504].contains(&status.as_u16());
        Err(Fault { why: self.says(&format!("{status}{}", self.quoted(&body))), may_pass })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreached(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let why = self.says(&format!("more than {ANSWER_BYTES_MAX} bytes"));
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
    fn says(&self, what: &str) -> String {
        format!("the key service {} answered {what}", self.name)
    }

    /// What a refusal says: on one line, not too long, and without the token.
    fn quoted(&self, body: &[u8]) -> String {
        let text = match serde_json::from_slice::<Problem>(body) {
            Ok(Problem { title, detail }) if detail.is_empty() => title,
            Ok(Problem { title, detail }) if title.is_empty() => detail,
            Ok(Problem { title, detail }) => format!("{title}: {detail}"),
            Err(_) => String::from_utf8_lossy(body).into_owned(),
        };
        let token = self.token.as_ref().map_or("", |token| token.expose_secret());
        let text = if token.is_empty() { text } else { text.replace(token, "…") };
        let text = text.trim().chars().take(QUOTED_MAX).map(|c| if c.is_control() { ' ' } else { c });
        let text: String = text.collect();
        if text.is_empty() { text } else { format!(" ({text})") }
    }
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.why
    }
}

fn client(key: &ServiceKey) -> Result<Client, String> {
    let mut headers = HeaderMap::new();
    if let Some(token) = &key.token {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| {
                "the token of the key service has characters that a header cannot have".to_owned()
            })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut client = Client::builder()
        // Nobody else gets the token, nor what is to be signed.
        .redirect(Policy::none())
        .no_proxy()
        .timeout(key.timeout)
        .default_headers(headers)
        .user_agent(concat!("statuslist/", env!("CARGO_PKG_VERSION")));
    if key.base.scheme() == "http" {
        // Without certificate authorities: a small image has none.
        client = client.tls_certs_only([]);
    }
    if let Some(socket) = &key.socket {
        client = client.unix_socket(socket.clone());
    }
    client.build().map_err(|error| format!("cannot prepare connections to the key service: {error}"))
}

fn url(base: &Url, below: &[&str]) -> Result<Url, String> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| format!("{base} cannot be the address of a key service"))?
        .pop_if_empty()
        .extend(below);
    Ok(url)
}

fn public_key(described: Description) -> Result<PublicKey, String> {
    let Description { algorithm, public_key } = described;
    if PRIVATE_MEMBERS.iter().any(|member| public_key.get(member).is_some()) {
        return Err(
            "a private key instead of a public one: replace that key, for it was given away".to_owned()
        );
    }
    let jwk: Jwk = serde_json::from_value(public_key).map_err(|error| format!("no public JWK: {error}"))?;
    let public = PublicKey::from_jwk(&jwk).map_err(|error| format!("a key that cannot be used: {error}"))?;
    let of_key = public.algorithm().jose_name();
    match algorithm == of_key {
        true => Ok(public),
        false => Err(format!("the algorithm `{algorithm}` with a key of {of_key}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use p256::ecdsa::signature::Signer;
    use p256::ecdsa::{Signature, SigningKey};
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "hidden-token";

    fn key() -> SigningKey {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).unwrap();
        SigningKey::from_slice(&secret).unwrap()
    }

    fn description(key: &SigningKey, more: &Value) -> Value {
        let point = key.verifying_key().to_encoded_point(false);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = json!({ "kty": "EC", "crv": "P-256", "x": text(point.x().unwrap()), "y": text(point.y().unwrap()) });
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "algorithm": "ES256", "publicKey": jwk })
    }

    fn good(key: &SigningKey) -> (u16, String) {
        (200, description(key, &json!({})).to_string())
    }

    fn signed(signature: &[u8]) -> (u16, String) {
        (200, json!({ "signature": URL_SAFE_NO_PAD.encode(signature) }).to_string())
    }

    fn probe(key: &SigningKey) -> Signature {
        key.sign(b"statuslist")
    }

    /// A key service that gives these answers, one after the other, and then closes its address. Returns what it was asked.
    fn service(answers: Vec<(u16, String)>) -> (ServiceKey, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/below/", listener.local_addr().unwrap()).parse().unwrap();
        let answering = std::thread::spawn(move || {
            let answer = |(status, body): (u16, String)| {
                let (stream, _) = listener.accept().unwrap();
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert!(stream.read_line(&mut head).unwrap() > 0);
                }
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut asked = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut asked).unwrap();
                let length = body.len();
                let head_back = format!(
                    "HTTP/1.1 {status} X\r\nLocation: /other\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                // The other side may have heard enough.
                let _ = stream.get_mut().write_all((head_back + &body).as_bytes());
                head + &String::from_utf8(asked).unwrap()
            };
            answers.into_iter().map(answer).collect()
        });
        let (name, token) = ("a".to_owned(), Some(TOKEN.to_owned().into()));
        let key = ServiceKey { base, socket: None, name, token, timeout: Duration::from_secs(5) };
        (key, answering)
    }

    #[test]
    fn the_key_is_described_and_signs_with_the_bearer_token() {
        let key = key();
        let (of_service, asked) = service(vec![good(&key), signed(&probe(&key).to_bytes())]);
        let (service, public) = KeyService::open(&of_service).unwrap();
        assert_eq!(public.algorithm(), Algorithm::Es256);
        let asked = asked.join().unwrap();
        assert!(asked[0].starts_with("GET /below/v1/keys/a HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked[1].starts_with("POST /below/v1/keys/a/sign HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked.iter().all(|asked| asked.contains(&format!("authorization: Bearer {TOKEN}\r\n"))));
        let digest = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, b"statuslist"));
        assert!(asked[1].ends_with(&format!(r#"{{"algorithm":"ES256","digest":"{digest}"}}"#)), "{asked:?}");
        assert!(!format!("{service:?} {of_service:?}").contains(TOKEN));
    }

    #[test]
    fn answers_that_do_not_fit_are_refused_at_once_and_without_the_token() {
        let (key, other) = (key(), key());
        let problem = |status, detail: &str| (status, json!({ "title": "No", "detail": detail }).to_string());
        for (answers, why) in [
            (vec![problem(404, "no key `a`")], "answered 404 Not Found (No: no key `a`)"),
            (vec![problem(401, &format!("not {TOKEN}"))], "answered 401 Unauthorized (No: not …)"),
            (vec![(302, String::new())], "answered 302 Found"),
            (vec![(200, "<html>".to_owned())], "answered what the protocol does not have: expected value"),
            (vec![(200, "a".repeat(ANSWER_BYTES_MAX + 1))], "more than 16384 bytes"),
            (vec![(200, description(&key, &json!({ "d": "AA" })).to_string())], "was given away"),
            (vec![(200, description(&key, &json!({ "crv": "secp256k1" })).to_string())], "cannot be used"),
            (vec![(200, good(&key).1.replace("ES256", "ES384"))], "`ES384` with a key of ES256"),
            (vec![good(&key), signed(&probe(&other).to_bytes())], "does not verify"),
            (vec![good(&key), signed(probe(&key).to_der().as_bytes())], "side by side, not DER"),
            (vec![good(&key), (200, r#"{"signature":"+"}"#.to_owned())], "not base64url"),
        ] {
            let (of_service, asked) = service(answers);
            let refused = KeyService::open(&of_service).map(|_| ()).unwrap_err();
            assert!(refused.contains(why) && !refused.contains(TOKEN), "{why}: {refused}");
            asked.join().unwrap();
        }
    }

    #[test]
    fn failures_that_may_pass_are_tried_again_and_then_left_alone_for_a_moment() {
        let key = key();
        let busy = || (503, String::new());
        let signature = probe(&key).to_bytes();
        let answers = vec![busy(), good(&key), busy(), busy(), signed(&signature), busy(), busy(), busy()];
        let (of_service, asked) = service(answers);
        let (service, public) = KeyService::open(&of_service).unwrap();
        let refused = service.sign(b"statuslist").unwrap_err();
        assert!(refused.ends_with("503 Service Unavailable"), "{refused}");
        assert_eq!(asked.join().unwrap().len(), 8);
        let refused = service.sign(b"statuslist").unwrap_err();
        assert!(refused.ends_with("503 Service Unavailable; not asked again within 1s"), "{refused}");
        assert!(public.verify(b"statuslist", &signature));
    }

    #[test]
    fn a_service_that_is_away_is_named_with_what_to_do() {
        let (socket, timeout) = (Some("/none/keys.sock".into()), Duration::from_secs(5));
        let base = "http://localhost".parse().unwrap();
        let key = ServiceKey { base, socket, name: "a".to_owned(), token: None, timeout };
        let refused = KeyService::open(&key).map(|_| ()).unwrap_err();
        assert!(refused.contains("unix:///none/keys.sock cannot be reached (No such file"), "{refused}");
        assert!(refused.contains("start it, or correct its url"), "{refused}");
    }
}
