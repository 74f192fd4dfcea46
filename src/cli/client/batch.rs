//! Many statuses, line by line, gathered into requests with one list and one value each: a request is for one pool, and
//! only the service knows the pool of a list. No line overtakes an earlier one of the same reference.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::BufRead;

use anyhow::{Error, anyhow};
use indicatif::ProgressBar;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;

use super::status_value::StatusValue;
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
}

/// Why a batch stopped before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// This line is malformed, or the service refuses it.
    Refused { line: u64, code: String, message: String },
    /// No response, or a timeout.
    Failed(Error),
}

/// A parsed line.
#[derive(Debug)]
struct Entry {
    line: u64,
    uri: String,
    index: u64,
    value: StatusValue,
}

impl<'a> Batch<'a> {
    /// A batch whose first `skip` lines are already done.
    pub(super) fn new(service: &'a Service, skip: u64, bar: &'a ProgressBar) -> Self {
        Self { service, skip, bar, done: 0, latest: 0, open: BTreeSet::new() }
    }

    /// The last line up to which all are done.
    pub(super) fn through(&self) -> u64 {
        self.open.first().map_or(self.latest, |line| line - 1)
    }

    /// Processes line after line, and stops at the first that is refused.
    pub(super) async fn run(&mut self, input: impl BufRead) -> Result<(), Stop> {
        let mut window = Vec::new();
        let mut named = HashSet::new();
        for (number, line) in (1..).zip(input.lines()) {
            let line = line.map_err(|error| Stop::Failed(anyhow!("cannot read line {number}: {error}")))?;
            let parsed = if number <= self.skip { Ok(None) } else { parse(&line) };
            let (uri, index, value) = match parsed {
                Ok(Some(update)) => update,
                Ok(None) => {
                    self.latest = number;
                    continue;
                }
                Err(message) => {
                    // Does the earlier lines first, so that the line can be corrected and the rest continued.
                    self.apply(&window).await?;
                    return Err(Stop::Refused { line: number, code: "BAD_LINE".to_owned(), message });
                }
            };
            if window.len() == WINDOW || named.contains(&(uri.clone(), index)) {
                self.apply(&window).await?;
                window.clear();
                named.clear();
            }
            named.insert((uri.clone(), index));
            window.push(Entry { line: number, uri, index, value });
            self.open.insert(number);
            self.latest = number;
        }
        self.apply(&window).await
    }

    /// Applies all lines of a window, with one request for each list and value.
    async fn apply(&mut self, window: &[Entry]) -> Result<(), Stop> {
        let mut groups: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
        for entry in window {
            groups.entry((&entry.uri, entry.value)).or_default().push(entry);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| group[0].line);
        for group in groups {
            self.apply_group(&group).await?;
        }
        Ok(())
    }

    /// A request is all or nothing: a refused one is halved until it is one line.
    async fn apply_group(&mut self, group: &[&Entry]) -> Result<(), Stop> {
        let mut parts = vec![group];
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
                    return Err(Stop::Refused { line, code, message });
                }
                Err(Failure::Failed(error)) => return Err(Stop::Failed(error)),
            }
        }
        Ok(())
    }

    async fn request(&self, part: &[&Entry]) -> Result<(), Failure> {
        let targets: Vec<_> =
            part.iter().map(|entry| json!({ "uri": entry.uri, "index": entry.index })).collect();
        let body = json!({ "statusListReferences": targets, "value": part[0].value.0 }).to_string();
        let with_body = |request: reqwest::RequestBuilder| {
            request.header(CONTENT_TYPE, "application/json").body(body.clone())
        };
        self.service.ask(Method::PATCH, "/status-lists/batch-update", with_body).await?;
        Ok(())
    }
}

/// Parses a line. Returns `None` if it is empty or a comment.
fn parse(line: &str) -> Result<Option<(String, u64, StatusValue)>, String> {
    #[derive(Deserialize)]
    struct Json {
        uri: String,
        index: u64,
        value: serde_json::Value,
    }
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.starts_with('{') {
        let json: Json = serde_json::from_str(line)
            .map_err(|error| format!("a JSON line has uri, index and value: {error}"))?;
        let value = json.value.as_str().map_or_else(|| json.value.to_string(), str::to_owned);
        return Ok(Some((json.uri, json.index, value.parse()?)));
    }
    let fields = line.split(|c: char| c == ',' || c.is_whitespace()).filter(|field| !field.is_empty());
    let [uri, index, value] = fields.collect::<Vec<_>>()[..] else {
        return Err("a line is URI, IDX and VALUE, with blanks or commas between them".to_owned());
    };
    let index = index.parse().map_err(|_| format!("the index `{index}` is not a number"))?;
    Ok(Some((uri.to_owned(), index, value.parse()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_words_csv_or_json() {
        let expected = Some(("http://x/lists/a".to_owned(), 7, StatusValue(1)));
        for line in [
            "http://x/lists/a 7 revoked",
            "\thttp://x/lists/a  7\t1 \r",
            "http://x/lists/a,7,invalid",
            "http://x/lists/a, 7, 1",
            r#"{"uri":"http://x/lists/a","index":7,"value":1}"#,
            r#"{"uri":"http://x/lists/a","index":7,"value":"revoked","status":{}}"#,
        ] {
            assert_eq!(parse(line), Ok(expected.clone()), "{line}");
        }
        for line in ["", "  ", "# a remark"] {
            assert_eq!(parse(line), Ok(None));
        }
        for (line, why) in [
            ("http://x/lists/a 7", "URI, IDX and VALUE"),
            ("http://x/lists/a 7 1 1", "URI, IDX and VALUE"),
            ("http://x/lists/a x 1", "`x` is not a number"),
            ("http://x/lists/a 7 gone", "suspended"),
            (r#"{"uri":"a","index":7}"#, "value"),
            (r#"{"uri":"a","index":7,"value":-1}"#, "suspended"),
        ] {
            assert!(parse(line).unwrap_err().contains(why), "{line}");
        }
    }
}
