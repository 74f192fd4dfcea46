//! A verifier that checks credentials as fast as it can, by lists that it holds in memory: how many a second, and what one costs.
//! The lists are served in the same process, with a `ttl` so short that all of them are renewed several times meanwhile; that is part of
//! the figures. Usage: `cargo run --release -p statuslist-client --example verifier -- [SECONDS]` (10 for each of two measurements).

use std::collections::HashMap;
use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use statuslist_client::base::clock::Clock;
use statuslist_client::status_list::{Bits, Claims, jwt, lst};
use statuslist_client::{CacheRules, Check, Reference, Status, StatusListCache};

type Failure = Box<dyn Error + Send + Sync>;

const LISTS: usize = 200;
const ENTRIES: usize = 100_000;
const CREDENTIALS: usize = 10_000;
const TTL: Duration = Duration::from_secs(5);

/// An issuer of credentials and of the lists of their statuses, with one key for both.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn jwks(&self) -> String {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": x, "y": y }] }).to_string()
    }

    fn sign(&self, input: String) -> Result<String, Failure> {
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes())?;
        Ok(jwt::assemble(input, signature.as_ref()))
    }

    /// A list of which every hundredth entry is INVALID.
    fn list(&self, uri: &str) -> Result<String, Failure> {
        let mut entries = vec![0; ENTRIES / 8];
        (0..ENTRIES).step_by(100).for_each(|entry| entries[entry / 8] |= 1 << (entry % 8));
        let now = Clock::System.now().date();
        let claims = Claims {
            sub: uri.to_owned(),
            iss: None,
            iat: now,
            nbf: None,
            exp: Some(now.plus(Duration::from_secs(24 * 3600))),
            ttl: Some(TTL),
            bits: Bits::One,
            lst: lst::compress(&entries).into(),
            aggregation_uri: None,
        };
        let header = jwt::Header { alg: "ES256".into(), typ: jwt::TYP.into(), ..jwt::Header::default() };
        self.sign(jwt::signing_input(&header, &claims))
    }

    fn credential(&self, reference: &Reference) -> Result<String, Failure> {
        let header = json!({ "alg": "ES256", "typ": "dc+sd-jwt" });
        let payload = json!({ "iss": "https://issuer.example", "vct": "urn:example:pass", "status": reference.to_json() });
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        self.sign(format!("{header}.{payload}"))
    }
}

/// Serves these tokens in a thread of its own, each under its path, and 304 to whoever has it.
fn serve(listener: TcpListener, tokens: HashMap<String, String>) {
    let tokens = Arc::new(tokens);
    let handler = move |request: HttpRequest| {
        let token = tokens.get(request.path()).cloned();
        async move {
            match token {
                None => HttpResponse::NotFound().finish(),
                Some(_) if request.headers().contains_key("if-none-match") => {
                    HttpResponse::NotModified().finish()
                }
                Some(token) => HttpResponse::Ok()
                    .content_type(jwt::MEDIA_TYPE)
                    .insert_header(("etag", "\"1\""))
                    .body(token),
            }
        }
    };
    std::thread::spawn(move || {
        let server = HttpServer::new(move || App::new().default_service(web::to(handler.clone())));
        actix_web::rt::System::new().block_on(server.workers(1).listen(listener)?.run())
    });
}

struct Verifier {
    issuer: ParsedPublicKey,
    cache: StatusListCache,
    credentials: Vec<(String, Reference)>,
}

impl Verifier {
    /// Checks a whole credential: its signature, then its status.
    async fn check(&self, credential: &str) -> Result<Status, Failure> {
        let (input, signature) = credential.rsplit_once('.').ok_or("no signature")?;
        self.issuer.verify_sig(input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature)?)?;
        let (_, payload) = input.split_once('.').ok_or("no payload")?;
        let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
        let reference = Reference::from_json(&payload["status"])?;
        Ok(self.cache.status(&reference).await?.status)
    }

    /// Checks all credentials from the one at `first` on, over and over. Returns how many were checked, and how many were invalid.
    async fn work(&self, first: usize, whole: bool, until: Instant) -> Result<(u64, u64), Failure> {
        let (mut checked, mut invalid) = (0, 0);
        for (credential, reference) in self.credentials.iter().cycle().skip(first) {
            let status = match whole {
                true => self.check(credential).await?,
                false => self.cache.status(reference).await?.status,
            };
            (checked, invalid) = (checked + 1, invalid + u64::from(status == Status::INVALID));
            if checked % 64 == 0 {
                // An answer from memory never waits, and the renewals need their turn.
                tokio::task::yield_now().await;
                if Instant::now() >= until {
                    break;
                }
            }
        }
        Ok((checked, invalid))
    }
}

async fn measure(verifier: &Arc<Verifier>, what: &str, whole: bool, time: Duration) -> Result<(), Failure> {
    let workers = std::thread::available_parallelism()?.get();
    let (before, begun, cpu) = (verifier.cache.counts(), Instant::now(), cpu_time());
    let works: Vec<_> = (0..workers)
        .map(|worker| {
            let (verifier, first) = (Arc::clone(verifier), worker * CREDENTIALS / workers);
            tokio::spawn(async move { verifier.work(first, whole, begun + time).await })
        })
        .collect();
    let (mut checked, mut invalid) = (0, 0);
    for work in works {
        let (more, of_them) = work.await??;
        (checked, invalid) = (checked + more, invalid + of_them);
    }
    let (seconds, cpu, after) = (begun.elapsed().as_secs_f64(), cpu_time() - cpu, verifier.cache.counts());
    let asked = after.from_memory + after.waited - before.from_memory - before.waited;
    println!(
        "{what}: {:.0} a second with {workers} workers, {:.2} µs of CPU for each, {:.2} % invalid; {:.4} % from memory, {} renewals",
        checked as f64 / seconds,
        cpu.as_secs_f64() * 1e6 / checked as f64,
        invalid as f64 * 100.0 / checked as f64,
        (after.from_memory - before.from_memory) as f64 * 100.0 / asked as f64,
        after.fetches - before.fetches,
    );
    Ok(())
}

/// The CPU time of this process so far.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let seconds = std::env::args().nth(1).map_or(Ok(10.0), |seconds| seconds.parse())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let base = format!("http://{}", listener.local_addr()?);
    let issuer = Issuer(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?);
    let mut served = HashMap::from([("/jwks.json".to_owned(), issuer.jwks())]);
    for list in 0..LISTS {
        served.insert(format!("/{list}"), issuer.list(&format!("{base}/{list}"))?);
    }
    serve(listener, served);

    let trust = Some(format!("{base}/jwks.json").parse()?);
    let cache = StatusListCache::new(Check { trust, ..Check::new("", 0) }, CacheRules::default());
    // A list and an entry for each, far apart.
    let references = (0..CREDENTIALS).map(|number| Reference {
        uri: format!("{base}/{}", number % LISTS),
        idx: (number * 7919 % ENTRIES) as u64,
    });
    let credentials: Result<Vec<_>, Failure> =
        references.map(|reference| Ok((issuer.credential(&reference)?, reference))).collect();
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, issuer.0.public_key().as_ref())?;
    let verifier = Arc::new(Verifier { issuer: public, cache, credentials: credentials? });

    let begun = Instant::now();
    for (_, reference) in &verifier.credentials[..LISTS] {
        verifier.cache.status(reference).await?;
    }
    let counts = verifier.cache.counts();
    println!(
        "{} lists of {ENTRIES} entries: fetched one after the other in {} ms, {} KiB in memory",
        counts.lists,
        begun.elapsed().as_millis(),
        counts.bytes >> 10
    );
    let time = Duration::from_secs_f64(seconds);
    measure(&verifier, "statuses alone", false, time).await?;
    measure(&verifier, "signature and status of credentials", true, time).await
}
