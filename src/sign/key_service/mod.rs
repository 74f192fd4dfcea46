//! A signing key in another service, which signs over HTTP: on a Unix socket, or over TLS. `docs/KEY_SERVICE.md` has the protocol
//! and its dialects: services that only describe a key and sign in other words.
//!
//! A call may take seconds and must come from a blocking thread. Time, tries and the size of an answer are bounded. After a
//! service failed all tries, other calls fail at once for a moment, so that a pass over many lists ends soon. Signatures are
//! not verified here, except the first one: the gate verifies each token.

mod aws_kms;
mod external;
mod link;
mod sigv4;
mod vault;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{self, Digest};
use parking_lot::Mutex;
use reqwest::Url;
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::aws_kms::AwsKms;
use self::external::External;
use self::link::Link;
use self::vault::Vault;
use super::{Algorithm, PublicKey};

/// How long a service that failed all tries is not asked again.
const REST: Duration = Duration::from_secs(1);
/// How many calls of the process wait at a time, so that services that hang leave threads to everything else.
const CALLS_MAX: usize = 128;

static CALLS: Semaphore = Semaphore::const_new(CALLS_MAX);

/// A key that another service has.
#[derive(Clone, Debug)]
pub struct ServiceKey {
    /// Its name there.
    pub name: String,
    /// How long one try may take.
    pub timeout: Duration,
    /// The service.
    pub service: KeyServiceKind,
}

/// The service that has a key, and how to ask it.
#[derive(Clone, Debug)]
pub enum KeyServiceKind {
    /// One that speaks the protocol of `docs/KEY_SERVICE.md`.
    External {
        /// Where it is.
        address: Address,
        /// The bearer token, if it wants one.
        token: Option<SecretString>,
    },
    /// The transit engine of HashiCorp Vault or OpenBao.
    Vault {
        /// Where it is.
        address: Address,
        /// Which of its keys.
        key: VaultKey,
    },
    /// The key management service of AWS.
    AwsKms(AwsKmsKey),
}

/// The address of a service, to which paths are added.
#[derive(Clone, Debug)]
pub struct Address {
    /// On a socket only its scheme and host are used.
    pub base: Url,
    /// The Unix socket, if it is one.
    pub socket: Option<PathBuf>,
}

/// A key of a transit engine.
#[derive(Clone, Debug)]
pub struct VaultKey {
    /// The path of the engine.
    pub mount: String,
    /// The version that signs; `None` is the newest when the key is read.
    pub version: Option<u64>,
    /// The namespace, if there are several.
    pub namespace: Option<String>,
    /// The file with the token, read for each call; `None` if an agent adds it.
    pub token_file: Option<PathBuf>,
}

/// A key of AWS.
#[derive(Clone, Debug)]
pub struct AwsKmsKey {
    /// `None` is that of the environment, or us-east-1.
    pub region: Option<String>,
    /// `None` is that of the region.
    pub endpoint: Option<Url>,
    /// The id of an access key and its secret; `None` takes those of the environment or of the machine's role.
    pub credentials: Option<(String, SecretString)>,
}

/// A private key that makes signatures elsewhere.
pub(super) struct KeyService {
    service: Service,
    /// The key's name there.
    name: String,
    algorithm: Algorithm,
    /// When the service failed all tries, and how.
    failed: Mutex<Option<(Instant, String)>>,
}

enum Service {
    External(External),
    Vault(Vault),
    AwsKms(AwsKms),
}

/// What a service signs: a digest, or for Ed25519, which hashes by itself, the message.
enum Input<'a> {
    Digest(Digest),
    Message(&'a [u8]),
}

/// Waits until the process may make another call. The call itself waits on a thread, of which there are not many.
pub(super) async fn turn() -> Option<SemaphorePermit<'static>> {
    CALLS.acquire().await.ok()
}

impl KeyService {
    /// Asks for the public key and makes the service sign, so that an unusable key is noticed now.
    pub(super) fn open(key: &ServiceKey) -> Result<(Self, PublicKey), String> {
        let (service, public) = Service::open(key)?;
        let (name, algorithm) = (key.name.clone(), public.algorithm());
        let service = Self { service, name, algorithm, failed: Mutex::default() };
        let probe = b"statuslist";
        match public.verify(probe, &service.sign(probe)?) {
            true => Ok((service, public)),
            false => {
                let link = service.service.link();
                Err(link.says("a signature that does not verify with the public key that it gave"))
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
        let signature = self.service.sign(&self.input(message)).map_err(|fault| {
            if fault.may_pass {
                *self.failed.lock() = Some((Instant::now(), fault.why.clone()));
            }
            fault.why
        })?;
        // For ECDSA two numbers as long as a coordinate, for Ed25519 as much.
        let expected = 2 * self.algorithm.coordinate_bytes();
        match signature.len() == expected {
            true => Ok(signature),
            false => Err(self.service.link().says(&format!(
                "a signature of {} bytes instead of {expected}: r and s side by side, not DER",
                signature.len()
            ))),
        }
    }

    fn input<'a>(&self, message: &'a [u8]) -> Input<'a> {
        let algorithm = match self.algorithm {
            Algorithm::Es256 => &digest::SHA256,
            Algorithm::Es384 => &digest::SHA384,
            Algorithm::Es512 => &digest::SHA512,
            Algorithm::EdDsa => return Input::Message(message),
        };
        Input::Digest(digest::digest(algorithm, message))
    }
}

impl fmt::Debug for KeyService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyService({})", self.name)
    }
}

impl Service {
    fn open(key: &ServiceKey) -> Result<(Self, PublicKey), String> {
        let ServiceKey { name, timeout, service } = key;
        match service {
            KeyServiceKind::External { address, token } => {
                let (service, public) = External::open(address, name, token.clone(), *timeout)?;
                Ok((Self::External(service), public))
            }
            KeyServiceKind::Vault { address, key } => {
                let (service, public) = Vault::open(address, name, key, *timeout)?;
                Ok((Self::Vault(service), public))
            }
            KeyServiceKind::AwsKms(key) => {
                let (service, public) = AwsKms::open(name, key, *timeout)?;
                Ok((Self::AwsKms(service), public))
            }
        }
    }

    fn sign(&self, input: &Input<'_>) -> Result<Vec<u8>, link::Fault> {
        match self {
            Self::External(service) => service.sign(input),
            Self::Vault(service) => service.sign(input),
            Self::AwsKms(service) => service.sign(input),
        }
    }

    fn link(&self) -> &Arc<Link> {
        match self {
            Self::External(service) => &service.link,
            Self::Vault(service) => &service.link,
            Self::AwsKms(service) => &service.link,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use aws_lc_rs::digest;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use p256::ecdsa::signature::Signer;
    use p256::ecdsa::{Signature, SigningKey};
    use p256::pkcs8::EncodePublicKey;
    use serde_json::{Value, json};

    use super::external::ANSWER_BYTES_MAX;
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

    fn key_of(service: KeyServiceKind) -> ServiceKey {
        ServiceKey { name: "a".to_owned(), timeout: Duration::from_secs(5), service }
    }

    /// A key service that gives these answers, one after the other, and then closes its address. Returns what it was asked.
    fn service(answers: Vec<(u16, String)>) -> (ServiceKey, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base: Url = format!("http://{}/below/", listener.local_addr().unwrap()).parse().unwrap();
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
        let (address, token) = (Address { base, socket: None }, Some(TOKEN.to_owned().into()));
        (key_of(KeyServiceKind::External { address, token }), answering)
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
        let socket = Some("/none/keys.sock".into());
        let address = Address { base: "http://localhost".parse().unwrap(), socket };
        let key = key_of(KeyServiceKind::External { address, token: None });
        let refused = KeyService::open(&key).map(|_| ()).unwrap_err();
        assert!(refused.contains("unix:///none/keys.sock cannot be reached (No such file"), "{refused}");
        assert!(refused.contains("start it, or correct its url"), "{refused}");
    }

    /// The same service as one of another kind.
    fn as_vault(of_service: &mut ServiceKey, token_file: PathBuf) {
        let KeyServiceKind::External { address, .. } = &of_service.service else { panic!("external") };
        let (mount, namespace) = ("some/transit".to_owned(), Some("team".to_owned()));
        let key = VaultKey { mount, version: None, namespace, token_file: Some(token_file) };
        of_service.service = KeyServiceKind::Vault { address: address.clone(), key };
    }

    fn as_kms(of_service: &mut ServiceKey) {
        let KeyServiceKind::External { address, .. } = &of_service.service else { panic!("external") };
        let (endpoint, credentials) = (Some(address.base.clone()), Some(("id".to_owned(), TOKEN.into())));
        let region = Some("eu-central-1".to_owned());
        of_service.service = KeyServiceKind::AwsKms(AwsKmsKey { region, endpoint, credentials });
    }

    fn of_vault(key: &SigningKey) -> (u16, String) {
        let pem = key.verifying_key().to_public_key_pem(Default::default()).unwrap();
        let data =
            json!({ "type": "ecdsa-p256", "latest_version": 3, "keys": { "3": { "public_key": pem } } });
        (200, json!({ "data": data }).to_string())
    }

    fn signed_by_vault(begin: &str, signature: &[u8]) -> (u16, String) {
        let signature = format!("{begin}{}", URL_SAFE_NO_PAD.encode(signature));
        (200, json!({ "data": { "signature": signature } }).to_string())
    }

    #[test]
    fn vault_is_asked_with_the_token_that_its_file_has_just_now() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let write = |token: &str| {
            Write::write_all(&mut std::fs::File::create(&file).unwrap(), token.as_bytes()).unwrap();
        };
        let (key, other) = (key(), key());
        let signature = signed_by_vault("vault:v3:", &probe(&key).to_bytes());
        let refusal = (403, json!({ "errors": ["permission denied", "for second"] }).to_string());
        let (mut of_service, asked) =
            service(vec![of_vault(&key), signature.clone(), refusal, (503, String::new()), signature]);
        as_vault(&mut of_service, file.clone());
        write("first\n");
        let (service, _) = KeyService::open(&of_service).unwrap();
        write("second\n");
        let refused = service.sign(b"statuslist").unwrap_err();
        assert!(refused.ends_with("answered 403 Forbidden (permission denied; for …)"), "{refused}");
        write("third");
        service.sign(b"statuslist").unwrap();
        let asked = asked.join().unwrap();
        assert!(asked[0].starts_with("GET /below/v1/some/transit/keys/a HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked[1].starts_with("POST /below/v1/some/transit/sign/a HTTP/1.1\r\n"), "{asked:?}");
        for (asked, token) in asked.iter().zip(["first", "first", "second", "third", "third"]) {
            assert!(asked.contains(&format!("x-vault-token: {token}\r\n")), "{token}: {asked}");
            assert!(asked.contains("x-vault-namespace: team\r\n"), "{asked}");
        }
        let body: Value = serde_json::from_str(asked[1].split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let digest = STANDARD.encode(digest::digest(&digest::SHA256, b"statuslist"));
        let expected = json!({ "input": digest, "prehashed": true, "hash_algorithm": "sha2-256", "marshaling_algorithm": "jws", "key_version": 3 });
        assert_eq!(body, expected);
        std::fs::remove_file(&file).unwrap();
        let refused = service.sign(b"statuslist").unwrap_err();
        assert!(refused.starts_with("cannot read the token of the key service in "), "{refused}");

        write(TOKEN);
        for (answers, why) in [
            (vec![of_vault(&key), signed_by_vault("vault:v4:", b"")], "does not begin with `vault:v3:`"),
            (
                vec![of_vault(&key), signed_by_vault("vault:v3:", &probe(&other).to_bytes())],
                "does not verify",
            ),
            (vec![of_vault(&key), signed_by_vault("vault:v3:", probe(&key).to_der().as_bytes())], "not DER"),
            (vec![good(&key)], "answered what the protocol does not have: missing field `data`"),
        ] {
            let (mut of_service, asked) = self::service(answers);
            as_vault(&mut of_service, file.clone());
            let refused = KeyService::open(&of_service).map(|_| ()).unwrap_err();
            assert!(refused.contains(why) && !refused.contains(TOKEN), "{why}: {refused}");
            asked.join().unwrap();
        }
    }

    fn of_kms(key: &SigningKey, algorithm: &str) -> (u16, String) {
        let der = key.verifying_key().to_public_key_der().unwrap();
        let public = STANDARD.encode(der.as_bytes());
        let described = json!({ "KeyId": "arn:the-key", "PublicKey": public, "KeySpec": "ECC_NIST_P256", "SigningAlgorithms": [algorithm] });
        (200, described.to_string())
    }

    fn signed_by_kms(signature: &[u8]) -> (u16, String) {
        (200, json!({ "KeyId": "arn:the-key", "Signature": STANDARD.encode(signature) }).to_string())
    }

    #[test]
    fn kms_is_asked_with_signed_requests_and_its_der_becomes_two_numbers() {
        let key = key();
        let throttled = (400, json!({ "__type": "ThrottlingException", "message": "slower" }).to_string());
        let internal = (500, json!({ "__type": "KMSInternalException" }).to_string());
        let signature = signed_by_kms(probe(&key).to_der().as_bytes());
        let answers = vec![of_kms(&key, "ECDSA_SHA_256"), throttled, internal, signature];
        let (mut of_service, asked) = service(answers);
        as_kms(&mut of_service);
        let (service, public) = KeyService::open(&of_service).unwrap();
        assert_eq!(public.algorithm(), Algorithm::Es256);
        assert!(!format!("{service:?} {of_service:?}").contains(TOKEN));
        let asked = asked.join().unwrap();
        for (asked, action) in asked.iter().zip(["GetPublicKey", "Sign", "Sign", "Sign"]) {
            assert!(asked.contains(&format!("x-amz-target: TrentService.{action}\r\n")), "{asked}");
            assert!(asked.contains("/eu-central-1/kms/aws4_request, SignedHeaders="), "{asked}");
            assert!(asked.contains(";host;") && asked.contains(";x-amz-target") && !asked.contains(TOKEN));
        }
        assert!(asked[0].ends_with(r#"{"KeyId":"a"}"#), "{asked:?}");
        let body: Value = serde_json::from_str(asked[3].split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let digest = STANDARD.encode(digest::digest(&digest::SHA256, b"statuslist"));
        let expected = json!({ "KeyId": "arn:the-key", "Message": digest, "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256" });
        assert_eq!(body, expected);
    }

    #[test]
    fn what_kms_refuses_or_gives_wrongly_is_told() {
        let (key, other) = (key(), key());
        let denied = json!({ "__type": "com.amazonaws#AccessDeniedException", "Message": "not you" });
        for (answers, why) in [
            (vec![(400, denied.to_string())], "400 Bad Request (AccessDeniedException: not you)"),
            (
                vec![of_kms(&key, "RSASSA_PSS_SHA_256")],
                "a key that signs with [RSASSA_PSS_SHA_256]: expected",
            ),
            (vec![of_kms(&key, "ECDSA_SHA_256"), signed_by_kms(b"no")], "not two numbers in DER"),
            (
                vec![of_kms(&key, "ECDSA_SHA_256"), signed_by_kms(&[0x30, 3, 2, 1, 1])],
                "not two numbers in DER",
            ),
            (
                vec![of_kms(&key, "ECDSA_SHA_256"), signed_by_kms(probe(&other).to_der().as_bytes())],
                "not verify",
            ),
        ] {
            let (mut of_service, asked) = service(answers);
            as_kms(&mut of_service);
            let refused = KeyService::open(&of_service).map(|_| ()).unwrap_err();
            assert!(refused.contains(why), "{why}: {refused}");
            asked.join().unwrap();
        }
    }
}
