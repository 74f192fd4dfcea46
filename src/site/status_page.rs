//! The documents of the status page: which pools it shows, and how their counts developed. Both are public.
//!
//! | document | content |
//! |---|---|
//! | the pools | JSON: who runs them, and of each pool on the page its name, titles and beat, and whether it has statistics |
//! | the statistics of a pool | CSV: a line for each publication that changed a count, oldest first |
//!
//! Statistics are bounded: of the lines before the newest [`Statistics::WHOLE`] only the last of each day stays, and of those as many
//! of the newest as [`Statistics::LINES_MAX`] leaves room for.

use jiff::Timestamp as Moment;
use serde::Serialize;
use thiserror::Error;

use crate::base::clock::NumericDate;

/// The first line of the statistics.
const HEADER: &str = "time,lists,entries,revoked,suspended";
const DAY_SECS: u64 = 86_400;

/// What the page shows.
#[derive(Debug, Serialize)]
pub struct StatusPage {
    /// Who runs the service.
    pub operator: Option<Operator>,
    /// The pools on the page.
    pub pools: Vec<ShownPool>,
}

/// Who runs the service.
#[derive(Debug, Serialize)]
pub struct Operator {
    /// The name.
    pub name: String,
    /// The address of a page about the operator.
    pub url: Option<String>,
    /// The address of what the operator says of these lists.
    pub documentation: Option<String>,
}

/// A pool on the page.
#[derive(Debug, Serialize)]
pub struct ShownPool {
    /// Its name, which is that of its aggregation and of its statistics.
    pub pool: String,
    /// What the page calls it.
    pub title: Title,
    /// Its beat in seconds: a change is published within this time.
    pub update_interval: u64,
    /// Whether it has statistics.
    pub statistics: bool,
}

/// A title in the languages of the page.
#[derive(Debug, Serialize)]
pub struct Title {
    /// English.
    pub en: String,
    /// German.
    pub de: String,
}

impl StatusPage {
    /// The document as it is served.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers always serialize")
    }
}

/// The counts of a pool at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Published lists that are not retired.
    pub lists: u64,
    /// Their entries, those that were never handed out included.
    pub entries: u64,
    /// Entries with the status INVALID.
    pub revoked: u64,
    /// Entries with the status SUSPENDED.
    pub suspended: u64,
}

/// How the counts of a pool developed, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics(Vec<(NumericDate, Counts)>);

/// A document that is not the statistics of a pool.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("statistics are lines of `{HEADER}`; line {0} is not")]
pub struct InvalidStatistics(usize);

impl Statistics {
    /// The media type.
    pub const MEDIA_TYPE: &str = "text/csv";
    /// The most lines: a hundred kilobytes.
    pub const LINES_MAX: usize = 2000;
    /// How many of the newest lines are never thinned out.
    pub const WHOLE: usize = 1000;

    /// Adds a line. Returns `false`, and adds none, if no count has changed; before the first list all are zero. Time never goes back,
    /// whatever the clock does.
    pub fn add(&mut self, now: NumericDate, counts: Counts) -> bool {
        let last = self.0.last().copied();
        if last.map_or(Counts::default(), |(_, last)| last) == counts {
            return false;
        }
        self.0.push((last.map_or(now, |(time, _)| time.max(now)), counts));
        if self.0.len() > Self::LINES_MAX {
            self.thin_out();
        }
        true
    }

    fn thin_out(&mut self) {
        let newest = self.0.split_off(self.0.len() - Self::WHOLE);
        let days: Vec<_> = self.0.chunk_by(|a, b| day_of(a.0) == day_of(b.0)).collect();
        let lasts = days.iter().filter_map(|day| day.last());
        let too_many = days.len().saturating_sub(Self::LINES_MAX - Self::WHOLE);
        self.0 = lasts.skip(too_many).copied().chain(newest).collect();
    }

    /// The document as it is served.
    pub fn to_csv(&self) -> Vec<u8> {
        let lines = self.0.iter().map(|(time, counts)| {
            let secs = i64::try_from(time.secs()).unwrap_or(i64::MAX);
            let time = Moment::from_second(secs).unwrap_or(Moment::MAX);
            let Counts { lists, entries, revoked, suspended } = counts;
            format!("{time},{lists},{entries},{revoked},{suspended}\n")
        });
        std::iter::once(format!("{HEADER}\n")).chain(lines).collect::<String>().into_bytes()
    }

    /// Reads a document. Fails with the number of the first line that is wrong.
    pub fn from_csv(document: &[u8]) -> Result<Self, InvalidStatistics> {
        let text = std::str::from_utf8(document).map_err(|_| InvalidStatistics(1))?;
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(InvalidStatistics(1));
        }
        let read = lines.enumerate().map(|(n, line)| line_of(line).ok_or(InvalidStatistics(n + 2)));
        read.collect::<Result<_, _>>().map(Self)
    }

    /// Reads what can be read of a damaged document.
    pub fn salvaged(document: &[u8]) -> Self {
        Self(String::from_utf8_lossy(document).lines().filter_map(line_of).collect())
    }
}

fn line_of(line: &str) -> Option<(NumericDate, Counts)> {
    let (time, counts) = line.split_once(',')?;
    let secs = time.parse::<Moment>().ok()?.as_second();
    let counts = counts.split(',').map(|count| count.parse().ok()).collect::<Option<Vec<_>>>()?;
    let [lists, entries, revoked, suspended] = counts[..] else { return None };
    Some((NumericDate::from_secs(u64::try_from(secs).ok()?), Counts { lists, entries, revoked, suspended }))
}

fn day_of(time: NumericDate) -> u64 {
    time.secs() / DAY_SECS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_800_014_400;

    const fn at(secs: u64) -> NumericDate {
        NumericDate::from_secs(secs)
    }

    const fn revoked(revoked: u64) -> Counts {
        Counts { lists: 2, entries: 200_000, revoked, suspended: 3 }
    }

    #[test]
    fn a_line_is_added_only_when_a_count_has_changed() {
        let mut statistics = Statistics::default();
        assert!(!statistics.add(at(NOON - 1), Counts::default()), "there is no list yet");
        assert!(statistics.add(at(NOON), revoked(0)));
        assert!(!statistics.add(at(NOON + 10), revoked(0)), "only the time has changed");
        assert!(statistics.add(at(NOON + 20), revoked(1)));
        assert!(statistics.add(at(NOON + 5), revoked(2)), "the clock was put back");
        let csv = statistics.to_csv();
        assert_eq!(
            String::from_utf8_lossy(&csv),
            "time,lists,entries,revoked,suspended\n2027-01-15T12:00:00Z,2,200000,0,3\n2027-01-15T12:00:20Z,2,200000,1,3\n\
             2027-01-15T12:00:20Z,2,200000,2,3\n"
        );
        assert_eq!(Statistics::from_csv(&csv), Ok(statistics));
    }

    #[test]
    fn a_damaged_document_is_refused_and_its_good_lines_can_be_saved() {
        let header = format!("{HEADER}\n");
        let good = "2027-01-15T12:00:00Z,1,2,3,4\n";
        for (document, line) in [
            (String::new(), 1),
            (good.to_owned(), 1),
            (format!("{header}{good}x\n"), 3),
            (format!("{header}{good}2027-01-15T12:00:00Z,1,2,3\n"), 3),
            (format!("{header}2027-01-15T12:00:00Z,1,2,3,-4\n{good}"), 2),
        ] {
            assert_eq!(Statistics::from_csv(document.as_bytes()), Err(InvalidStatistics(line)), "{document}");
            let lines = Statistics::salvaged(document.as_bytes()).0.len();
            assert_eq!(lines, usize::from(!document.is_empty()), "{document}");
        }
        assert_eq!(Statistics::from_csv(b"\xff"), Err(InvalidStatistics(1)));
        assert_eq!(Statistics::from_csv(header.as_bytes()), Ok(Statistics::default()));
    }

    #[test]
    fn it_stays_small_for_ever_and_keeps_the_newest_lines_and_the_last_of_each_earlier_day() {
        let mut statistics = Statistics::default();
        // A change on each beat for three days, then one change a day for ten years.
        let beats = (0..3 * 8640).map(|n| NOON + n * 10);
        let days = (4..3650).map(|n| NOON + n * DAY_SECS);
        for (n, secs) in beats.chain(days).enumerate() {
            statistics.add(at(secs), revoked(n as u64));
            assert!(statistics.0.len() <= Statistics::LINES_MAX, "{}", statistics.0.len());
            if n == 3 * 8640 - 1 {
                let past = statistics.0.iter().filter(|(time, _)| day_of(*time) < day_of(at(secs)));
                let times: Vec<_> = past.map(|(time, _)| time.secs()).collect();
                assert_eq!(times.len(), 3, "a line for each day before this one");
                assert!(times.iter().all(|time| (time + 10) % DAY_SECS == 0), "its last: {times:?}");
            }
        }
        assert!(statistics.0.is_sorted_by_key(|(time, _)| *time));
        let newest: Vec<_> = statistics.0.iter().rev().take(Statistics::WHOLE).collect();
        assert!(
            newest.windows(2).all(|pair| pair[0].1.revoked == pair[1].1.revoked + 1),
            "none was left out"
        );
        let bytes = statistics.to_csv().len();
        assert!(bytes < 120_000, "{bytes} bytes");
    }

    #[test]
    fn the_page_is_told_names_titles_and_beats() {
        let page = StatusPage {
            operator: Some(Operator { name: "A".to_owned(), url: None, documentation: None }),
            pools: vec![ShownPool {
                pool: "licences".to_owned(),
                title: Title { en: "Licences".to_owned(), de: "Führerscheine".to_owned() },
                update_interval: 10,
                statistics: true,
            }],
        };
        let expected = serde_json::json!({
            "operator": { "name": "A", "url": null, "documentation": null },
            "pools": [{ "pool": "licences", "title": { "en": "Licences", "de": "Führerscheine" }, "update_interval": 10, "statistics": true }],
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&page.to_json()).unwrap(), expected);
    }
}
