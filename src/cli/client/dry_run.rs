//! `statuslist set --batch --dry-run`: reads a whole batch and says what it would do. Asks no service.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, Write};

use serde_json::json;

use super::Format;
use super::lines::Lines;
use super::status_value::StatusValue;

/// The most wrong lines that are shown.
const SHOWN_MAX: usize = 20;

/// What a batch would do.
#[derive(Debug, Default)]
pub(super) struct DryRun {
    lines: u64,
    values: BTreeMap<StatusValue, u64>,
    lists: BTreeSet<String>,
    /// References that a later line sets again.
    repeated: u64,
    wrong: Vec<(u64, String)>,
}

impl DryRun {
    /// Reads the batch, without its first `skip` lines.
    pub(super) fn of(input: impl BufRead, skip: u64) -> io::Result<Self> {
        let (mut found, mut seen) = (Self::default(), HashMap::new());
        for line in Lines::new(input) {
            let line = line?;
            found.lines = line.number;
            if line.number <= skip {
                continue;
            }
            match line.update {
                Ok(None) => {}
                Ok(Some(update)) => {
                    *found.values.entry(update.value).or_default() += 1;
                    found.lists.insert(update.uri.clone());
                    found.repeated += u64::from(seen.insert((update.uri, update.index), ()).is_some());
                }
                Err(why) => found.wrong.push((line.number, why)),
            }
        }
        Ok(found)
    }

    /// Whether every line can be read.
    pub(super) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }

    pub(super) fn print(&self, format: Format, out: &mut impl Write) -> io::Result<()> {
        let total: u64 = self.values.values().sum();
        if format == Format::Json {
            let values: BTreeMap<_, _> =
                self.values.iter().map(|(value, count)| (value.0.to_string(), count)).collect();
            let wrong = self.wrong.iter().map(|(line, why)| json!({ "line": line, "message": why }));
            let wrong: Vec<_> = wrong.collect();
            let summary = json!({
                "dryRun": true, "lines": self.lines, "statuses": total, "lists": self.lists.len(), "values": values,
                "repeated": self.repeated, "wrong": wrong,
            });
            return writeln!(out, "{summary}");
        }
        writeln!(
            out,
            "would set {total} statuses in {} lists; nothing was changed, and no service was asked",
            self.lists.len()
        )?;
        for (value, count) in &self.values {
            writeln!(out, "  {value:<14} {count}")?;
        }
        if self.repeated > 0 {
            writeln!(
                out,
                "{} of them are for a reference of an earlier line: the last line counts",
                self.repeated
            )?;
        }
        for (line, why) in self.wrong.iter().take(SHOWN_MAX) {
            writeln!(out, "wrong: line {line}: {why}")?;
        }
        if self.wrong.len() > SHOWN_MAX {
            writeln!(out, "and {} more wrong lines", self.wrong.len() - SHOWN_MAX)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_summed_up_and_every_wrong_line_named() {
        let input = "uri;idx;value\nhttp://x/a;1;1\nhttp://x/b;1;revoked\nhttp://x/a;1;valid\nhttp://x/a;x;1\nhttp://x/a;2;gone\n";
        let found = DryRun::of(input.as_bytes(), 0).unwrap();
        assert!(!found.is_good());
        let mut out = Vec::new();
        found.print(Format::Table, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        for part in [
            "would set 3 statuses in 2 lists",
            "  valid (0)      1\n  revoked (1)    2\n",
            "1 of them",
            "wrong: line 5: the index `x`",
            "wrong: line 6: ",
        ] {
            assert!(out.contains(part), "{out}");
        }
        let mut json = Vec::new();
        found.print(Format::Json, &mut json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&json["values"]["1"], &json["wrong"][1]["line"]), (&json!(2), &json!(6)), "{json}");
        assert!(DryRun::of(input.as_bytes(), 6).unwrap().is_good());
    }
}
