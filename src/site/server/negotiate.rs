//! Chooses format and coding for a request (RFC 9110, "Proactive Negotiation"): pure functions of its headers.
//!
//! actix-web's `QualityItem` parses each member of a list. The list itself is split here, because actix-web's `Accept` splits at
//! commas inside quotes and drops unreadable members, and its `AcceptEncoding` knows neither `x-gzip` nor what `*` means for
//! gzip.

use std::str::FromStr;

use actix_web::http::header::{HeaderValue, Quality, QualityItem};
use mime::Mime;

use crate::status_list::Format;

/// Returns the unsigned form that these values of `Accept` name, if they name nothing else.
pub(super) fn raw_format<'a>(mut accept: impl Iterator<Item = &'a HeaderValue>) -> Option<Format> {
    let (Some(only), None) = (accept.next(), accept.next()) else { return None };
    [Format::Json, Format::Cbor].into_iter().find(|format| only == format.media_type())
}

/// A member of a list that does not follow the grammar.
struct Unreadable;

/// Returns the formats that these values of `Accept` allow, the most wanted first.
///
/// An unreadable member might have allowed anything, so it counts as `*/*` with the least weight. So an unreadable header is
/// equal to an absent one, and the `*; q=.2, */*; q=.2` that Java sends by default gets an answer.
pub(super) fn formats<'a>(accept: impl Iterator<Item = &'a HeaderValue>) -> impl Iterator<Item = Format> {
    let mut asked = false;
    let mut best = Format::SIGNED.map(|format| (Specificity::None, Quality::ZERO, format));
    members::<Mime>(accept, |member| {
        asked = true;
        let (range, weight) = match member {
            Ok(QualityItem { item, quality }) => (item, quality),
            Err(Unreadable) => (mime::STAR_STAR, Quality::MIN),
        };
        for (specificity, quality, format) in &mut best {
            let found = specificity_of(&range, *format);
            // The most specific range decides ("Accept"); among equals that differ only in parameters, the more permissive one.
            if found != Specificity::None && (found, weight) > (*specificity, *quality) {
                (*specificity, *quality) = (found, weight);
            }
        }
    });
    if !asked {
        best = best.map(|(_, _, format)| (Specificity::All, Quality::MAX, format));
    }
    // Stable, so the order of `Format::SIGNED` decides between equals.
    best.sort_by_key(|(_, quality, _)| std::cmp::Reverse(*quality));
    best.into_iter().filter(|(_, quality, _)| *quality > Quality::ZERO).map(|(_, _, format)| format)
}

/// Whether these values of `Accept-Encoding` want gzip at least as much as no coding.
///
/// No coding is the default, also for a client that refuses it while nothing else is available: an uncompressed answer
/// helps the client more than none ("Accept-Encoding").
pub fn wants_gzip<'a>(accept_encoding: impl Iterator<Item = &'a HeaderValue>) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    members::<String>(accept_encoding, |member| {
        let Ok(QualityItem { item: coding, quality }) = member else { return };
        let weight = match coding.as_str() {
            "*" => &mut any,
            coding if coding.eq_ignore_ascii_case("identity") => &mut identity,
            coding if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => {
                &mut gzip
            }
            _ => return,
        };
        *weight = (*weight).max(Some(quality));
    });
    let gzip = gzip.or(any).unwrap_or(Quality::ZERO);
    let identity = identity.or(any).unwrap_or(Quality::ZERO);
    gzip > Quality::ZERO && gzip >= identity
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    None,
    All,
    Type,
    Exact,
}

/// How specifically `range` names `format`. Parameters do not count: the media types of tokens have none.
fn specificity_of(range: &Mime, format: Format) -> Specificity {
    let range = range.essence_str();
    match range {
        "*/*" => Specificity::All,
        _ if range.eq_ignore_ascii_case("application/*") => Specificity::Type,
        _ if range.eq_ignore_ascii_case(format.media_type()) => Specificity::Exact,
        _ => Specificity::None,
    }
}

/// Passes each member of a comma-separated list, which may span several header lines, to `found`.
fn members<'a, T: FromStr>(
    lines: impl Iterator<Item = &'a HeaderValue>,
    mut found: impl FnMut(Result<QualityItem<T>, Unreadable>),
) {
    for line in lines {
        let Ok(line) = line.to_str() else {
            found(Err(Unreadable));
            continue;
        };
        let (mut quoted, mut escaped) = (false, false);
        let outside_quotes = |char: char| {
            match char {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ',' => return !quoted,
                _ => {}
            }
            false
        };
        for member in line.split(outside_quotes) {
            // Empty members and empty parameters are allowed and mean nothing ("Lists", "Parameters").
            let member = member.trim_matches([' ', '\t']).trim_end_matches([';', ' ', '\t']);
            if !member.is_empty() {
                found(member.parse().map_err(|_| Unreadable));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(values: &[&'static str]) -> Vec<HeaderValue> {
        values.iter().map(|value| HeaderValue::from_bytes(value.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn accept_decides_the_format() {
        use Format::{Cwt, Jwt};
        let check = |accept: &[&'static str], expected: &[Format]| {
            assert_eq!(formats(lines(accept).iter()).collect::<Vec<_>>(), expected, "{accept:?}");
        };
        const BOTH: &[Format] = &[Jwt, Cwt];
        check(&[], BOTH);
        check(&[""], BOTH);
        check(&[" , ,"], BOTH);
        check(&["*/*"], BOTH);
        check(&["application/*"], BOTH);
        check(&["APPLICATION/*"], BOTH);
        check(&["text/html, */*;q=0.1"], BOTH);
        check(&["application/statuslist+jwt"], &[Jwt]);
        check(&["application/statuslist+cwt"], &[Cwt]);
        check(&["Application/StatusList+CWT"], &[Cwt]);
        check(&["application/statuslist+cwt, application/statuslist+jwt"], BOTH);
        check(&["application/statuslist+cwt,application/statuslist+jwt;q=0.999"], &[Cwt, Jwt]);
        check(&["application/statuslist+jwt;q=0.1", "application/statuslist+cwt;q=0.2"], &[Cwt, Jwt]);
        check(&["application/statuslist+jwt ; Q=0.1 , application/statuslist+cwt"], &[Cwt, Jwt]);
        check(&["application/statuslist+jwt;q=0, */*"], &[Cwt]);
        check(&["*/*, application/statuslist+jwt;q=0"], &[Cwt]);
        check(&["application/*;q=0, */*"], &[]);
        check(&["application/*;q=0, application/statuslist+cwt;q=0.1"], &[Cwt]);
        check(&["application/*;q=0.5, application/statuslist+jwt;q=0.1, */*"], &[Cwt, Jwt]);
        check(&["*/*;q=0"], &[]);
        check(&["text/html"], &[]);
        check(&["application/jwt, application/cwt"], &[]);
        check(&["application/statuslist+cwt;profile=x"], &[Cwt]);
        check(&["application/statuslist+cwt;q=0.5;profile=x"], &[Cwt]);
        check(&[r#"application/statuslist+cwt;a="x,y;q=0", text/html"#], &[Cwt]);
        check(&["application/statuslist+cwt;"], &[Cwt]);
    }

    #[test]
    fn unreadable_members_allow_everything_with_the_least_weight() {
        use Format::{Cwt, Jwt};
        let check = |accept: &[&'static str], expected: &[Format]| {
            assert_eq!(formats(lines(accept).iter()).collect::<Vec<_>>(), expected, "{accept:?}");
        };
        check(&["statuslist+jwt"], &[Jwt, Cwt]);
        check(&["application/statuslist+cwt;q=2"], &[Jwt, Cwt]);
        check(&["ü"], &[Jwt, Cwt]);
        check(&["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"], &[Jwt, Cwt]);
        check(&["application/statuslist+cwt, *; q=.2"], &[Cwt, Jwt]);
        check(&["application/statuslist+jwt;q=0, ???"], &[Cwt]);
        check(&[r#"a/b;a="\",", application/statuslist+cwt"#], &[Cwt, Jwt]);
    }

    #[test]
    fn accept_encoding_decides_the_coding() {
        let check = |accept_encoding: &[&'static str], expected: bool| {
            assert_eq!(wants_gzip(lines(accept_encoding).iter()), expected, "{accept_encoding:?}");
        };
        for wanted in [
            "gzip",
            "GZip",
            "x-gzip",
            "*",
            "gzip;q=0.001",
            "deflate, gzip;q=1.0, *;q=0.5",
            "br, gzip;q=0.8",
            "gzip, identity",
            "identity;q=0.5, gzip;q=0.5",
            "identity;q=0, *;q=0.1",
            "gzip, *;q=0",
        ] {
            check(&[wanted], true);
        }
        check(&["br", "gzip"], true);
        for unwanted in [
            "",
            "identity",
            "br, zstd",
            "gzip;q=0",
            "gzip;q=0.0, *",
            "x-gzip;q=0",
            "*;q=0",
            "gzip;q=0.4, identity;q=0.5",
            "gzip;q=0.4, *;q=0.5",
            "identity;q=0",
            "gzip;q=2",
            "gzipped",
        ] {
            check(&[unwanted], false);
        }
        check(&[], false);
    }
}
