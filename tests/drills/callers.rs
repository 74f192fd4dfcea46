//! Those who use the service during a drill: an issuer that allocates and revokes, and a verifier that fetches lists. They count what
//! fails, and know what must hold afterwards.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use parking_lot::Mutex;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::machine::KEY;
use crate::support::app::Reference;
use crate::support::eventually;
use crate::support::fleet::PUBLIC_URL;
use crate::support::relying_party::{List, published};

/// Longer than the service takes for any request.
const PATIENCE: Duration = Duration::from_secs(15);

/// A client of the write API.
#[derive(Clone)]
pub(super) struct Issuer {
    client: Client,
    url: String,
    pool: &'static str,
    key: String,
}

impl Issuer {
    pub(super) fn new(url: &str, pool: &'static str) -> Self {
        Self::with_key(url, pool, KEY)
    }

    pub(super) fn with_key(url: &str, pool: &'static str, key: &str) -> Self {
        // A connection for each request: which of two closes an idle connection first is no matter of these drills.
        let client = Client::builder().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap();
        Self { client, url: url.to_owned(), pool, key: key.to_owned() }
    }

    /// Sends a request. Returns the body of the answer, or what came instead.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let request =
            self.client.request(method, format!("{}{path}", self.url)).header("X-Api-Key", &self.key);
        let request = match body {
            Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = request.send().await.map_err(|error| format!("no answer: {error:?}"))?;
        let status = answer.status();
        let body = answer.text().await.map_err(|error| format!("half an answer: {error:?}"))?;
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(serde_json::from_str(&body).unwrap_or_default()),
            _ => Err(format!("{} {body}", status.as_u16())),
        }
    }

    /// Asks for references once.
    pub(super) async fn try_references(&self, amount: usize) -> Result<Vec<Reference>, String> {
        let path = format!("/pools/{}/new-references?amount={amount}", self.pool);
        let body = self.send(Method::POST, &path, None).await?;
        Ok(serde_json::from_value(body["references"].clone()).unwrap())
    }

    /// Asks until there are references.
    pub(super) async fn references(&self, amount: usize) -> Vec<Reference> {
        eventually("references", async || self.try_references(amount).await.ok()).await
    }

    /// Sets a status.
    pub(super) async fn set(&self, reference: &Reference, value: u8) -> Result<(), String> {
        let body = json!({ "uri": reference.uri, "index": reference.index, "value": value });
        self.send(Method::PATCH, "/status-lists/update", Some(body)).await.map(|_| ())
    }

    /// Revokes until that is acknowledged.
    pub(super) async fn revoke(&self, reference: &Reference) {
        eventually("a revocation", async || self.set(reference, 1).await.ok()).await;
    }
}

/// What the callers saw.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) references: Vec<Reference>,
    /// The revocations that were acknowledged.
    pub(super) revoked: Vec<Reference>,
    /// What came instead of an answer that was hoped for.
    pub(super) refused: Vec<String>,
    /// How many tokens verified.
    pub(super) tokens: usize,
    /// What was wrong with others, looked at with the keys of that moment.
    pub(super) unreadable: Vec<String>,
    /// The same with keys that were kept for some time.
    pub(super) unreadable_with_kept: Vec<String>,
}

impl Tally {
    /// Checks that no reference came twice, and that every acknowledged revocation is published below this folder.
    pub(super) async fn check(&self, folder: &Path) {
        let different: HashSet<_> = self.references.iter().collect();
        assert_eq!(different.len(), self.references.len(), "a reference was handed out twice");
        assert!(!self.revoked.is_empty(), "nothing was revoked");
        eventually("every acknowledged revocation in the published files", async || {
            let mut lists: HashMap<&str, List> = HashMap::new();
            self.revoked.iter().all(|reference| is_published(folder, reference, 1, &mut lists)).then_some(())
        })
        .await;
    }

    /// Checks that nobody noticed anything.
    pub(super) fn nothing_failed(&self) {
        self.everything_readable();
        assert_eq!(self.refused, Vec::<String>::new(), "of {} requests", self.references.len());
    }

    /// Checks that verifiers noticed nothing.
    pub(super) fn everything_readable(&self) {
        assert!(self.tokens > 0, "no token was fetched");
        assert_eq!(self.unreadable, Vec::<String>::new(), "of {} tokens", self.tokens);
    }

    /// Adds what others saw.
    pub(super) fn add(&mut self, references: impl IntoIterator<Item = Reference>) {
        self.references.extend(references);
    }
}

/// Whether the published list of a reference shows this status.
fn is_published<'a>(
    folder: &Path,
    reference: &'a Reference,
    value: u8,
    lists: &mut HashMap<&'a str, List>,
) -> bool {
    if !lists.contains_key(reference.uri.as_str()) {
        let Ok(list) = published(folder, &reference.uri) else { return false };
        lists.insert(&reference.uri, list);
    }
    lists[reference.uri.as_str()].status(reference.index) == value
}

/// Waits until the published list of a reference shows this status.
pub(super) async fn until_published(folder: &Path, reference: &Reference, value: u8) {
    eventually("the status to be published", async || {
        is_published(folder, reference, value, &mut HashMap::new()).then_some(())
    })
    .await;
}

/// An issuer and a verifier at work, until they are told to end.
pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    issuing: JoinHandle<Tally>,
    reading: JoinHandle<Tally>,
}

impl Callers {
    /// The issuer sends requests to `issuer`'s address, the verifier reads at `site`. The verifier also keeps keys for as long as
    /// `kept` says.
    pub(super) fn start(issuer: Issuer, site: &str, kept: Duration) -> Self {
        let (stop, lists) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let issuing = tokio::spawn(issue(issuer, Arc::clone(&lists), Arc::clone(&stop)));
        let reading = tokio::spawn(read(site.to_owned(), kept, lists, Arc::clone(&stop)));
        Self { stop, issuing, reading }
    }

    /// Ends them.
    pub(super) async fn end(mut self) -> Tally {
        // So that they also see the time after the drill.
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.stop.store(true, Ordering::SeqCst);
        let issued = (&mut self.issuing).await.unwrap();
        let Tally { tokens, unreadable, unreadable_with_kept, .. } = (&mut self.reading).await.unwrap();
        Tally { tokens, unreadable, unreadable_with_kept, ..issued }
    }
}

/// So that a failed drill ends.
impl Drop for Callers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

async fn issue(issuer: Issuer, lists: Arc<Mutex<BTreeSet<String>>>, stop: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::SeqCst) {
        match issuer.try_references(5).await {
            Ok(references) => {
                lists.lock().extend(references.iter().map(|reference| reference.uri.clone()));
                match issuer.set(&references[0], 1).await {
                    Ok(()) => tally.revoked.push(references[0].clone()),
                    Err(why) => tally.refused.push(why),
                }
                tally.references.extend(references);
            }
            Err(why) => tally.refused.push(why),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tally
}

async fn read(
    site: String,
    kept: Duration,
    lists: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
) -> Tally {
    let client = Client::builder().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap();
    let fetch = async |path: &str| -> Result<String, String> {
        let answer = client.get(format!("{site}{path}")).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        answer.map_err(|error| format!("{error:?}"))?.text().await.map_err(|error| format!("{error:?}"))
    };
    let keys = async || -> Result<JwkSet, String> {
        serde_json::from_str(&fetch("/lists/jwks.json").await?).map_err(|error| error.to_string())
    };
    let (mut tally, mut latest) = (Tally::default(), HashMap::new());
    let mut old: Option<(Instant, JwkSet)> = None;
    while !stop.load(Ordering::SeqCst) {
        let now: Vec<String> = lists.lock().iter().cloned().collect();
        for uri in now {
            let path = format!("/lists/{}", uri.strip_prefix(PUBLIC_URL).unwrap().trim_start_matches('/'));
            let looked = async {
                let fresh = keys().await?;
                let token = fetch(&path).await?;
                let list = List::verify(&token, &uri, &fresh)?;
                let before = latest.insert(uri.clone(), list.iat()).unwrap_or(0);
                if list.iat() < before {
                    return Err(format!("iat went back from {before} to {}", list.iat()));
                }
                Ok((token, fresh))
            };
            match looked.await {
                Ok((token, fresh)) => {
                    tally.tokens += 1;
                    if old.as_ref().is_none_or(|(since, _)| since.elapsed() > kept) {
                        old = Some((Instant::now(), fresh));
                    }
                    let kept = &old.as_ref().unwrap().1;
                    if let Err(why) = List::verify(&token, &uri, kept) {
                        tally.unreadable_with_kept.push(format!("{uri}: {why}"));
                    }
                }
                Err(why) => tally.unreadable.push(format!("{uri}: {why}")),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tally
}
