//! Many statuses, line by line, gathered into requests with one list and one value each: a request is for one pool, and
//! only the service knows the pool of a list. No line overtakes an earlier one of the same reference.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, BufRead};

use anyhow::{Error, anyhow};
use indicatif::ProgressBar;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;
use tokio::sync::mpsc;

use super::lines::{Line, Lines, Update};
use super::{Failure, Service};

/// The most lines that are gathered: also the most entries of a request, and the most that are repeated when a batch is
/// continued.
const WINDOW: usize = 2000;

/// A batch in progress.
pub(super) struct Batch<'a> {
    service: &'a Service,
    skip: u64,
    bar: &'a ProgressBar,
    /// Number of statuses that were set.
    pub(super) done: u64,
    /// The latest line that was read and is well-formed.
    latest: u64,
    /// The lines that were read but are not done yet.
    open: BTreeSet<u64>,
    /// The first line that is refused so far.
    refused: Option<Refused>,
}

/// A line that is malformed, or that the service refuses. All lines before it are done.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) line: u64,
    pub(super) code: String,
    pub(super) message: String,
}

/// Why a batch stopped before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// A line is refused.
    Refused(Refused),
    /// No response, or a timeout.
    Failed(Error),
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// A parsed line.
#[derive(Debug)]
struct Entry {
    line: u64,
    update: Update,
}

/// Reads lines on a thread of its own, so that waiting for one can be interrupted.
pub(super) fn read(input: impl BufRead + Send + 'static) -> mpsc::Receiver<io::Result<Line>> {
    let (send, lines) = mpsc::channel(WINDOW);
    std::thread::spawn(move || {
        for line in Lines::new(input) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl<'a> Batch<'a> {
    /// A batch whose first `skip` lines are already done.
    pub(super) fn new(service: &'a Service, skip: u64, bar: &'a ProgressBar) -> Self {
        Self { service, skip, bar, done: 0, latest: 0, open: BTreeSet::new(), refused: None }
    }

    /// The last line up to which all are done.
    pub(super) fn through(&self) -> u64 {
        self.open.first().map_or(self.latest, |line| line - 1)
    }

    /// Processes line after line, and stops at the first that is refused.
    pub(super) async fn run(&mut self, mut lines: mpsc::Receiver<io::Result<Line>>) -> Result<(), Stop> {
        let mut window = Vec::new();
        let mut named = HashSet::new();
        while let Some(line) = lines.recv().await {
            let Line { number, update } =
                line.map_err(|error| Stop::Failed(anyhow!("cannot read line {}: {error}", self.latest + 1)))?;
            let update = if number <= self.skip { Ok(None) } else { update };
            let update = match update {
                Ok(Some(update)) => update,
                Ok(None) => {
                    self.latest = number;
                    continue;
                }
                Err(message) => {
                    // Does the earlier lines first, so that the line can be corrected and the rest continued.
                    self.apply(&window).await?;
                    return Err(Stop::Refused(Refused {
                        line: number,
                        code: "BAD_LINE".to_owned(),
                        message,
                    }));
                }
            };
            if window.len() == WINDOW || named.contains(&(update.uri.clone(), update.index)) {
                self.apply(&window).await?;
                window.clear();
                named.clear();
            }
            named.insert((update.uri.clone(), update.index));
            window.push(Entry { line: number, update });
            self.open.insert(number);
            self.latest = number;
        }
        self.apply(&window).await
    }

    /// Applies all lines of a window, with one request for each list and value. If one is refused, those before it are applied all
    /// the same, so that the rest can be continued from there.
    async fn apply(&mut self, window: &[Entry]) -> Result<(), Stop> {
        let mut groups: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
        for entry in window {
            groups.entry((&entry.update.uri, entry.update.value)).or_default().push(entry);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| group[0].line);
        for mut group in groups {
            if let Some(refused) = &self.refused {
                group.retain(|entry| entry.line < refused.line);
            }
            self.apply_group(&group).await?;
        }
        self.refused.take().map_or(Ok(()), |refused| Err(Stop::Refused(refused)))
    }

    /// A request is all or nothing: a refused one is halved until it is one line. Stops at that line.
    async fn apply_group(&mut self, group: &[&Entry]) -> Result<(), Stop> {
        let mut parts = if group.is_empty() { Vec::new() } else { vec![group] };
        while let Some(part) = parts.pop() {
            match self.request(part).await {
                Ok(()) => {
                    self.done += part.len() as u64;
                    part.iter().for_each(|entry| _ = self.open.remove(&entry.line));
                    self.bar.set_position(self.through());
                }
                // Wrong credentials are not the line's fault.
                Err(Failure::Refused(refusal)) if part.len() > 1 && refusal.status != 401 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(Failure::Refused(refusal)) => {
                    let (line, code, message) = (part[0].line, refusal.code, refusal.message);
                    self.refused = Some(Refused { line, code, message });
                    return Ok(());
                }
                Err(Failure::Failed(error)) => return Err(Stop::Failed(error)),
            }
        }
        Ok(())
    }

    async fn request(&self, part: &[&Entry]) -> Result<(), Failure> {
        let target = |entry: &&Entry| json!({ "uri": entry.update.uri, "index": entry.update.index });
        let targets: Vec<_> = part.iter().map(target).collect();
        let value = part[0].update.value.0;
        let body = json!({ "statusListReferences": targets, "value": value }).to_string();
        let with_body = |request: reqwest::RequestBuilder| {
            request.header(CONTENT_TYPE, "application/json").body(body.clone())
        };
        self.service.ask(Method::PATCH, "/status-lists/batch-update", with_body).await?;
        Ok(())
    }
}
