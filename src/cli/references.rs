//! Files of references, for `check --batch` and `watch`: a line for each, as `URI IDX` with blanks or a comma between them, or as JSON
//! with `uri` and `idx` (or `index`, as the service answers). Empty lines and those that begin with `#` do not count.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Reference {
    pub(super) uri: String,
    #[serde(alias = "index")]
    pub(super) idx: u64,
}

/// Reads the file, or, for `-`, standard input.
pub(super) fn read(file: &Path) -> Result<Vec<Reference>> {
    let shown = file.display();
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.with_context(|| format!("cannot read {shown}"))?;
    parse(&text).with_context(|| format!("cannot use {shown}"))
}

fn parse(text: &str) -> Result<Vec<Reference>> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let filled = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    filled.map(|(number, line)| parse_line(line).with_context(|| format!("line {number}"))).collect()
}

fn parse_line(line: &str) -> Result<Reference> {
    if line.starts_with('{') {
        return serde_json::from_str(line).context("a line of JSON has `uri` and `idx`");
    }
    let fields = line.split(|c: char| c == ',' || c.is_whitespace()).filter(|field| !field.is_empty());
    let [uri, idx] = fields.collect::<Vec<_>>()[..] else {
        return Err(anyhow!("a line is URI and IDX, with blanks or a comma between them"));
    };
    let idx = idx.parse().map_err(|_| anyhow!("the index {idx:?} is not a number"))?;
    Ok(Reference { uri: uri.to_owned(), idx })
}

/// The lists in the order of their first reference, each with the indices that are asked for.
pub(super) fn by_list(references: &[Reference]) -> Vec<(&str, Vec<u64>)> {
    let mut places = std::collections::HashMap::new();
    let mut lists: Vec<(&str, Vec<u64>)> = Vec::new();
    for Reference { uri, idx } in references {
        let place = *places.entry(uri.as_str()).or_insert_with(|| {
            lists.push((uri, Vec::new()));
            lists.len() - 1
        });
        lists[place].1.push(*idx);
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_words_csv_or_json() {
        let text = "# remark\n\nhttp://x/a 7\n\thttp://x/b,8 \r\n{\"uri\":\"http://x/a\",\"index\":9,\"status\":{}}\n\
                    {\"uri\":\"http://x/a\",\"idx\":7}";
        let references = parse(text).unwrap();
        assert_eq!(by_list(&references), [("http://x/a", vec![7, 9, 7]), ("http://x/b", vec![8])]);
        for (line, why) in
            [("http://x/a", "URI and IDX"), ("http://x/a x", "not a number"), ("{\"uri\":1}", "`uri`")]
        {
            let error = format!("{:#}", parse(&format!("http://x/a 1\n{line}")).unwrap_err());
            assert!(error.starts_with("line 2: ") && error.contains(why), "{error}");
        }
    }
}
