//! The test's own authorization server: its key, tokens made by it or by a forger, and its key set over HTTP.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://as.example";
pub(crate) const AUDIENCE: &str = "https://status.example";

/// A key of the authorization server, which signs tokens.
pub(crate) struct Authority {
    key: SigningKey,
    kid: String,
}

impl Authority {
    pub(crate) fn new(kid: &str) -> Self {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).unwrap();
        Self { key: SigningKey::from_slice(&secret).unwrap(), kid: kid.to_owned() }
    }

    /// The public key as a JWK.
    pub(crate) fn jwk(&self) -> Value {
        let point = self.key.verifying_key().to_encoded_point(false);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (text(point.x().unwrap()), text(point.y().unwrap()));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "alg": "ES256", "x": x, "y": y })
    }

    /// The public key in PEM, as available to a forger.
    pub(crate) fn public_pem(&self) -> String {
        use p256::pkcs8::EncodePublicKey;
        p256::PublicKey::from(self.key.verifying_key()).to_public_key_pem(Default::default()).unwrap()
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": "ES256", "kid": self.kid })
    }

    /// A good token with this `scope`.
    pub(crate) fn token(&self, scope: &str) -> String {
        self.signed(&self.header(), &claims(scope))
    }

    /// These parts, signed with ES256 whatever the header says.
    pub(crate) fn signed(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature: Signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

/// The claims of a good token, for ten minutes from now on.
pub(crate) fn claims(scope: &str) -> Value {
    let now = now();
    json!({
        "iss": ISSUER, "aud": [AUDIENCE, "https://other.example"], "sub": "5ba552d67", "client_id": "issuer-1", "jti": "1",
        "iat": now, "exp": now + 600, "scope": scope,
    })
}

pub(crate) fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "an authorization server has a clock of its own")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// `header.claims`: the signed part.
pub(crate) fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// Signs with HMAC and `secret`.
pub(crate) fn hmac_signed(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = message(header, claims);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// How the server of a key set answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Keys(Vec<Value>),
    Status(u16),
    /// Never.
    Nothing,
}

/// The key set behind a URL.
pub(crate) struct KeySetServer {
    pub(crate) url: String,
    shared: Arc<(Mutex<Answer>, AtomicUsize)>,
}

impl KeySetServer {
    pub(crate) fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let shared = Arc::new((Mutex::new(answer), AtomicUsize::new(0)));
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => break,
                    }
                }
                of_thread.1.fetch_add(1, Ordering::SeqCst);
                let answer = of_thread.0.lock().unwrap().clone();
                let (status, body) = match answer {
                    Answer::Keys(keys) => (200, json!({ "keys": keys }).to_string()),
                    Answer::Status(status) => (status, String::new()),
                    Answer::Nothing => {
                        unanswered.push(stream);
                        continue;
                    }
                };
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close", body.len());
                // Ignored: the client may be gone.
                let _ = write!(stream, "{head}\r\n\r\n{body}");
            }
        });
        Self { url, shared }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.shared.0.lock().unwrap() = answer;
    }

    /// The number of requests.
    pub(crate) fn asked(&self) -> usize {
        self.shared.1.load(Ordering::SeqCst)
    }
}
