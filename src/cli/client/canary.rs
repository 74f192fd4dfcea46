//! The canary of `statuslist probe`: one revocation from end to end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::{Failure, Service};
use crate::base::clock::Clock;
use crate::probe::{Metrics, Node, Probe};
use crate::status_list::Status;

/// How often a node is asked whether it has the revocation.
const POLL: Duration = Duration::from_millis(500);

/// Allocates references of a pool, and revokes them.
pub(in crate::cli) struct Canary {
    service: Service,
    pool: String,
    patience: Duration,
}

impl Canary {
    /// Of this pool; a revocation must be published within `patience`.
    pub(in crate::cli) fn new(service: Service, pool: String, patience: Duration) -> Self {
        Self { service, pool, patience }
    }

    /// Allocates one reference, revokes it, and waits until every node shows that. Returns how many nodes did not in time.
    pub(in crate::cli) async fn fly(&self, probe: &Probe, metrics: &Metrics) -> Result<usize> {
        let (uri, index) = self.allocate().await.map_err(|failure| explained(failure, "cannot allocate"))?;
        self.revoke(&uri, index).await.map_err(|failure| explained(failure, "cannot revoke"))?;
        let acknowledged = Instant::now();
        let trust = probe.trust().await.context("cannot load the trusted keys")?;
        let mut waiting: BTreeSet<Node> = probe.nodes().iter().copied().collect();
        while !waiting.is_empty() && acknowledged.elapsed() < self.patience {
            tokio::time::sleep(POLL).await;
            for node in waiting.clone() {
                let mut shown = true;
                for format in probe.formats() {
                    let report = probe.ask(node, &uri, index, *format, &trust).await;
                    shown &= report.status() == Some(Status::INVALID);
                }
                if shown {
                    metrics.canary_found(node, acknowledged.elapsed());
                    waiting.remove(&node);
                }
            }
        }
        for node in &waiting {
            tracing::error!(%node, uri, index, seconds = self.patience.as_secs(), "a revocation is not published");
            metrics.canary_missed(*node);
        }
        if waiting.is_empty() {
            metrics.canary_completed(Clock::System.now());
        }
        Ok(waiting.len())
    }

    async fn allocate(&self) -> Result<(String, u64), Failure> {
        let path = format!("/pools/{}/new-references?amount=1", self.pool);
        // A request whose response was lost is retried.
        let key = uuid::Uuid::new_v4().to_string();
        let answer = self.service.ask(Method::POST, &path, |request| request.header("Idempotency-Key", &key));
        let answer = answer.await?;
        let reference = &answer["references"][0];
        match (reference["uri"].as_str(), reference["index"].as_u64()) {
            (Some(uri), Some(index)) => Ok((uri.to_owned(), index)),
            _ => Err(Failure::Failed(anyhow!("the answer has no reference: {answer}"))),
        }
    }

    async fn revoke(&self, uri: &str, index: u64) -> Result<Value, Failure> {
        let body = json!({ "uri": uri, "index": index, "value": Status::INVALID.value() }).to_string();
        let update = |request: reqwest::RequestBuilder| {
            request.header(CONTENT_TYPE, "application/json").body(body.clone())
        };
        self.service.ask(Method::PATCH, "/status-lists/update", update).await
    }
}

fn explained(failure: Failure, what: &'static str) -> anyhow::Error {
    match failure {
        Failure::Refused(refusal) => anyhow!("{what}: {}", refusal.message),
        Failure::Failed(error) => error.context(what),
    }
}
