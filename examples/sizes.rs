//! The sizes of compressed lists: ours, those that the specification prints ("Size Comparison"), and the lower bound of any
//! encoding. Prints a Markdown table. Usage: `sizes [--all]`; without `--all` up to a million entries.

use anyhow::{Context, Result};
use statuslist::status_list::lst;

#[path = "../benches/support/random.rs"]
mod random;

const TABLE: &str = include_str!("../tests/vectors/sizes.csv");
/// The entries of the largest list without `--all`.
const ENTRIES_MAX: usize = 1_000_000;
/// How many lists are averaged.
const LISTS: u64 = 5;

/// One size of the specification's table.
struct Printed {
    entries: usize,
    rate: f64,
    bytes: f64,
}

fn main() -> Result<()> {
    let all = std::env::args().any(|argument| argument == "--all");
    println!(
        "| entries | set | ours, bytes | printed, bytes | ours / printed | Shannon bound, bytes | ours / bound |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for line in TABLE.lines().filter(|line| line.starts_with("status_list,")) {
        let printed = parse(line).with_context(|| format!("in sizes.csv: {line}"))?;
        if !all && printed.entries > ENTRIES_MAX {
            continue;
        }
        let ours = average(printed.entries, printed.rate);
        let bound = shannon_bytes(printed.entries, printed.rate);
        // A list without uncertainty has a bound of 0.
        let to_bound = if bound > 0.0 { format!("{:.3}", ours / bound) } else { "–".to_owned() };
        println!(
            "| {} | {} % | {ours:.0} | {:.0} | {:.3} | {bound:.0} | {to_bound} |",
            printed.entries,
            printed.rate * 100.0,
            printed.bytes,
            ours / printed.bytes,
        );
    }
    Ok(())
}

fn parse(line: &str) -> Result<Printed> {
    let column = |n: usize| line.split(',').nth(n).with_context(|| format!("column {n} is missing"));
    let percent: f64 = column(3)?.trim_end_matches('%').parse()?;
    Ok(Printed { entries: column(2)?.parse()?, rate: percent / 100.0, bytes: column(8)?.parse()? })
}

/// Bytes of a compressed list, averaged over lists that are the same in every run.
fn average(entries: usize, rate: f64) -> f64 {
    let bytes = |seed| lst::compress(&random::random_array(entries, rate, seed)).len();
    (0..LISTS).map(bytes).sum::<usize>() as f64 / LISTS as f64
}

/// The average lower bound of any encoding of independent entries.
fn shannon_bytes(entries: usize, rate: f64) -> f64 {
    let bits = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    entries as f64 * (bits(rate) + bits(1.0 - rate)) / 8.0
}
