//! The lines of a batch, as spreadsheets, databases and programs write them: CSV with commas, semicolons or tabs, with or without
//! quotes and a header, words between blanks, or JSON.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use serde::Deserialize;
use serde_json::Value;

use super::status_value::StatusValue;

/// The names of the columns in a header.
const URI: [&str; 4] = ["uri", "url", "listuri", "statuslisturi"];
const INDEX: [&str; 3] = ["idx", "index", "statuslistidx"];
const VALUE: [&str; 3] = ["value", "status", "newstatus"];
/// Excel and others mark UTF-8 with it.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// One status to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Update {
    pub(super) uri: String,
    pub(super) index: u64,
    pub(super) value: StatusValue,
}

/// A line, or an entry of a JSON document.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// `None` if there is nothing to do; otherwise what to set, or why it cannot be read.
    pub(super) update: Result<Option<Update>, String>,
}

/// Reads line after line.
pub(super) struct Lines<R> {
    input: R,
    number: u64,
    /// Whether a line that is neither empty nor a remark was read.
    begun: bool,
    /// Where a header says that `uri`, `idx` and `value` are.
    columns: Option<[usize; 3]>,
    /// The entries of a JSON document that are left, if the input is one.
    document: Option<VecDeque<Result<Update, String>>>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, number: 0, begun: false, columns: None, document: None }
    }

    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        Ok((self.input.read_until(b'\n', &mut line)? > 0).then_some(line))
    }

    fn parse(&mut self, line: Vec<u8>) -> io::Result<Result<Option<Update>, String>> {
        let Ok(text) = String::from_utf8(line) else {
            return Ok(Err("is not UTF-8; save the file as CSV in UTF-8".to_owned()));
        };
        let text = text.strip_prefix(BYTE_ORDER_MARK).filter(|_| self.number == 1).unwrap_or(&text);
        let line = text.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(Ok(None));
        }
        let first = !std::mem::replace(&mut self.begun, true);
        if first && is_document(line) {
            let mut rest = text.to_owned();
            self.input.read_to_string(&mut rest)?;
            return Ok(match document(&rest) {
                Ok(entries) => {
                    let mut entries = VecDeque::from(entries);
                    let update = entries.pop_front().transpose();
                    self.document = Some(entries);
                    update
                }
                Err(why) => Err(why),
            });
        }
        if line.starts_with('{') {
            let json = serde_json::from_str::<Json>(line);
            return Ok(json
                .map_err(|error| format!("a JSON line has uri, index and value: {error}"))
                .and_then(|json| json.update(None).map(Some)));
        }
        let fields = fields(line);
        if first && let Some(columns) = header(&fields) {
            self.columns = columns.as_ref().ok().copied();
            return Ok(columns.map(|_| None));
        }
        Ok(self.update(&fields).map(Some))
    }

    fn update(&self, fields: &[String]) -> Result<Update, String> {
        let [uri, index, value] = match self.columns {
            Some(columns) => columns.map(|column| fields.get(column).map_or("", String::as_str)),
            None => {
                let used = fields.iter().rposition(|field| !field.is_empty()).map_or(0, |last| last + 1);
                let [uri, index, value] = &fields[..used] else {
                    return Err("a line is URI, IDX and VALUE, with blanks, commas or semicolons between them; a first line may name \
                                the columns"
                        .to_owned());
                };
                [uri, index, value].map(String::as_str)
            }
        };
        if uri.is_empty() {
            return Err("the uri is missing".to_owned());
        }
        let index = index.parse().map_err(|_| format!("the index `{index}` is not a number"))?;
        Ok(Update { uri: uri.to_owned(), index, value: value.parse()? })
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(document) = &mut self.document {
            self.number += 1;
            let update = document.pop_front()?.map(Some);
            return Some(Ok(Line { number: self.number, update }));
        }
        let line = self.read_line().transpose()?;
        self.number += 1;
        Some(line.and_then(|line| Ok(Line { number: self.number, update: self.parse(line)? })))
    }
}

/// An entry in JSON. Further members are ignored: the references that `allocate` prints have some.
#[derive(Deserialize)]
struct Json {
    uri: String,
    #[serde(alias = "idx")]
    index: u64,
    value: Option<Value>,
}

impl Json {
    /// What it sets, or `value` if it does not say.
    fn update(self, value: Option<&Value>) -> Result<Update, String> {
        let value = self.value.as_ref().or(value).ok_or("the value is missing")?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(Update { uri: self.uri, index: self.index, value: value.parse()? })
    }
}

/// Whether a whole JSON document begins here, instead of one object on each line.
fn is_document(line: &str) -> bool {
    let has = |member: &str| line.contains(member);
    let body = || !has("\"uri\"") || has("\"updates\"") || has("\"statusListReferences\"");
    line.starts_with('[') || (line.starts_with('{') && body())
}

/// The entries of a JSON document: an array of them, or the body of a batch for the API.
fn document(text: &str) -> Result<Vec<Result<Update, String>>, String> {
    let document = serde_json::from_str(text).map_err(|error| format!("the JSON cannot be read: {error}"))?;
    let (entries, value) = match document {
        Value::Array(entries) => (Some(entries), None),
        Value::Object(mut members) => {
            let entries = members.remove("updates").or_else(|| members.remove("statusListReferences"));
            let entries = if let Some(Value::Array(entries)) = entries { Some(entries) } else { None };
            (entries, members.remove("value"))
        }
        _ => (None, None),
    };
    let must =
        "the JSON must be an array of objects with uri, index and value, or a body of a batch for the API";
    let entries = entries.ok_or(must)?;
    let entry = |entry| {
        let json = serde_json::from_value::<Json>(entry);
        let json = json.map_err(|error| format!("an entry has uri, index and value: {error}"))?;
        json.update(value.as_ref())
    };
    Ok(entries.into_iter().map(entry).collect())
}

/// Splits a line at the character that separates its fields.
fn fields(line: &str) -> Vec<String> {
    let mut quoted = false;
    let outside: Vec<_> = line
        .bytes()
        .filter(|byte| {
            quoted ^= *byte == b'"';
            !quoted
        })
        .collect();
    let count = |delimiter: u8| outside.iter().filter(|byte| **byte == delimiter).count();
    // A single tab is a blank between words.
    let least = [(b';', 1), (b',', 1), (b'\t', 2)];
    let Some((delimiter, _)) = least.into_iter().find(|(delimiter, least)| count(*delimiter) >= *least)
    else {
        return line.split_whitespace().map(|field| field.trim_matches('"').to_owned()).collect();
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(line.as_bytes());
    let mut record = csv::StringRecord::new();
    // Reading from memory does not fail, and the text is UTF-8.
    let _ = reader.read_record(&mut record);
    record.iter().map(str::to_owned).collect()
}

/// The columns, if this is a header. Fails if it names too few.
fn header(fields: &[String]) -> Option<Result<[usize; 3], String>> {
    let plain = |field: &String| {
        let letters = field.chars().filter(|c| c.is_alphanumeric());
        letters.collect::<String>().to_ascii_lowercase()
    };
    let names: Vec<_> = fields.iter().map(plain).collect();
    let find = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
    let columns = [find(&URI), find(&INDEX), find(&VALUE)];
    match columns {
        [None, None, _] => None,
        [Some(uri), Some(index), Some(value)] => Some(Ok([uri, index, value])),
        _ => {
            Some(Err("the header must name the columns uri, idx (or index) and value (or status)".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Vec<Result<Option<Update>, String>> {
        Lines::new(input).map(|line| line.unwrap().update).collect()
    }

    fn updates(input: &str) -> Vec<(String, u64, u64)> {
        let lines = read(input.as_bytes()).into_iter();
        let updates = lines.filter_map(|update| update.unwrap_or_else(|why| panic!("{input}: {why}")));
        updates.map(|update| (update.uri, update.index, update.value.0)).collect()
    }

    #[test]
    fn lines_are_words_csv_or_json() {
        for line in [
            "http://x/lists/a 7 revoked",
            "\thttp://x/lists/a  7\t1 \r",
            "http://x/lists/a,7,invalid",
            "http://x/lists/a, 7, 1",
            "http://x/lists/a;7;Revoked;;",
            "\"http://x/lists/a\";\"7\";\"1\"\r\n",
            "\"http://x/lists/a\" \"7\" 1",
            "http://x/lists/a\t7\tINVALID",
            r#"{"uri":"http://x/lists/a","index":7,"value":1}"#,
            r#"{"uri":"http://x/lists/a","idx":7,"value":"revoked","status":{}}"#,
        ] {
            assert_eq!(updates(line), [("http://x/lists/a".to_owned(), 7, 1)], "{line}");
        }
        for line in ["\n", "  ", "# a remark"] {
            assert!(updates(line).is_empty(), "{line}");
        }
        for (line, why) in [
            ("http://x/lists/a 7", "URI, IDX and VALUE"),
            ("http://x/lists/a 7 1 1", "URI, IDX and VALUE"),
            ("http://x/lists/a x 1", "`x` is not a number"),
            (";7;1", "the uri is missing"),
            ("http://x/lists/a 7 gone", "suspended"),
            (r#"{"uri":"a","index":7}"#, "value is missing"),
            (r#"{"uri":"a","index":7,"value":-1}"#, "suspended"),
            (r#"{"uri":"a","index":"#, "JSON"),
            ("uri;value\n", "header"),
        ] {
            let found = read(line.as_bytes()).pop().unwrap().unwrap_err();
            assert!(found.contains(why), "{line}: {found}");
        }
        assert!(read(b"http://\xff 7 1")[0].as_ref().unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn exports_of_spreadsheets_and_programs_are_read_as_they_are() {
        let expected = [("http://x/a".to_owned(), 7, 1), ("http://x/b".to_owned(), 8, 0)];
        for file in [
            "\u{feff}uri,idx,value\r\nhttp://x/a,7,1\r\nhttp://x/b,8,valid\r\n",
            "\u{feff}Name;Status;Index;List URI;Date\n\"Doe; Jane\";revoked;7;http://x/a;\n;valid;8;http://x/b;2026",
            "# export\n\n\"status_list.uri\"\t\"status_list.idx\"\t\"status\"\nhttp://x/a\t7\tinvalid\nhttp://x/b\t8\t0\n",
            "[{\"uri\":\"http://x/a\",\"index\":7,\"value\":1},\n{\"uri\":\"http://x/b\",\"idx\":8,\"value\":\"valid\"}]",
            "[\n  {\n    \"uri\": \"http://x/a\", \"index\": 7, \"value\": \"revoked\"\n  },\n  { \"uri\": \"http://x/b\", \"index\": 8, \"value\": 0 }\n]\n",
            "{\"updates\": [{\"uri\":\"http://x/a\",\"index\":7,\"value\":1}, {\"uri\":\"http://x/b\",\"index\":8,\"value\":0}]}",
            "\u{feff}{\n\"updates\": [{\"uri\":\"http://x/a\",\"index\":7,\"value\":1}, {\"uri\":\"http://x/b\",\"index\":8,\"value\":0}]}",
        ] {
            assert_eq!(updates(file), expected, "{file}");
        }
        let same =
            r#"{"statusListReferences":[{"uri":"a","index":1},{"uri":"a","index":2}],"value":"suspended"}"#;
        assert_eq!(updates(same), [("a".to_owned(), 1, 2), ("a".to_owned(), 2, 2)]);
        let numbers =
            |input: &str| Lines::new(input.as_bytes()).map(|line| line.unwrap().number).collect::<Vec<_>>();
        assert_eq!(numbers("uri,idx,value\n\na,1,1\n"), [1, 2, 3]);
        assert_eq!(numbers(same), [1, 2], "of the entries");
        for (document, why) in [("[1]", "an entry has"), ("[{", "cannot be read"), ("{}", "must be an array")]
        {
            let found = read(document.as_bytes()).remove(0).unwrap_err();
            assert!(found.contains(why), "{document}: {found}");
        }
    }
}
