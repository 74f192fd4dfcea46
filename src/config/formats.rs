//! `formats`: the forms in which a pool publishes its lists, and what each demands of the other settings.

use serde::Deserialize;

use crate::status_list::{Bits, Format, Formats, Purpose, Status};

/// A format as settings name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFormat {
    Jwt,
    Cwt,
    Json,
    Cbor,
    /// The credentials of all purposes that the lists can tell.
    Bitstring,
}

impl RawFormat {
    fn formats(self, bits: Bits) -> Vec<Format> {
        match self {
            Self::Jwt => vec![Format::Jwt],
            Self::Cwt => vec![Format::Cwt],
            Self::Json => vec![Format::Json],
            Self::Cbor => vec![Format::Cbor],
            Self::Bitstring => {
                let told = Purpose::ALL.into_iter().filter(|it| it.status().value() <= bits.status_max());
                told.map(Format::Bitstring).collect()
            }
        }
    }
}

/// The settings of a pool that its formats depend on.
pub(super) struct Given<'a> {
    pub(super) formats: &'a [RawFormat],
    pub(super) bits: Bits,
    pub(super) issuer: Option<&'a str>,
    pub(super) application_statuses: &'a [u8],
    pub(super) final_status: Option<Status>,
}

/// Returns the formats, or the setting that does not fit them and why.
pub(super) fn check(raw: &Given<'_>) -> Result<Formats, (&'static str, String)> {
    let formats: Formats = raw.formats.iter().flat_map(|format| format.formats(raw.bits)).collect();
    if !formats.iter().any(Format::is_signed) {
        let why =
            "must name jwt, cwt or both; json and cbor, which are unsigned, and bitstring only beside them";
        return Err(("formats", why.to_owned()));
    }
    if !raw.formats.contains(&RawFormat::Bitstring) {
        return Ok(formats);
    }
    if !raw.issuer.is_some_and(is_url) {
        let why = "must be a URL or a DID: the format bitstring publishes credentials, whose issuer it is";
        return Err(("issuer", why.to_owned()));
    }
    if !raw.application_statuses.is_empty() {
        let why = "must be empty with the format bitstring, whose credentials tell only which entries are revoked or suspended";
        return Err(("application-statuses", why.to_owned()));
    }
    Ok(formats)
}

/// What verifiers of a pool with these settings may take for broken, if anything.
pub(super) fn warning(raw: &Given<'_>) -> Option<&'static str> {
    let reversible = raw.final_status != Some(Status::INVALID);
    (raw.formats.contains(&RawFormat::Bitstring) && reversible)
        .then_some("should be 1 with the format bitstring: a revocation there is never taken back")
}

/// Whether it begins with a scheme.
fn is_url(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let scheme = text.split_once(':').filter(|(_, rest)| !rest.is_empty()).map_or("", |(scheme, _)| scheme);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn loaded(pool: &str) -> Result<Config, String> {
        let settings = format!("status-list-pools: {{ p: {{ api-key: x, {pool} }} }}");
        Config::load(Some(&settings), std::iter::empty()).map_err(|error| error.to_string())
    }

    #[test]
    fn bitstring_has_a_credential_for_each_purpose_that_the_bits_can_tell() {
        let formats = |bits: u8| {
            let pool = format!("formats: [jwt, bitstring], issuer: 'did:web:status.example', bits: {bits}");
            let config = loaded(&pool).unwrap();
            config.pools.values().next().unwrap().start.formats.iter().collect::<Vec<_>>()
        };
        let [revocation, suspension] = Purpose::ALL.map(Format::Bitstring);
        assert_eq!(formats(1), [Format::Jwt, revocation]);
        for bits in [2, 4, 8] {
            assert_eq!(formats(bits), [Format::Jwt, revocation, suspension]);
        }
    }

    #[test]
    fn what_credentials_cannot_say_is_refused() {
        let issuer = "issuer: 'https://issuer.example'";
        for (pool, setting, why) in [
            (format!("formats: [bitstring], {issuer}"), "formats", "only beside"),
            ("formats: [jwt, bitstring]".to_owned(), "issuer", "a URL or a DID"),
            ("formats: [jwt, bitstring], issuer: Example".to_owned(), "issuer", "a URL or a DID"),
            ("formats: [jwt, bitstring], issuer: 'https:'".to_owned(), "issuer", "a URL or a DID"),
            (
                format!("formats: [jwt, bitstring], bits: 2, application-statuses: [3], {issuer}"),
                "application-statuses",
                "must be empty",
            ),
            (format!("formats: [jwt, revocation], {issuer}"), "formats", "bitstring"),
        ] {
            let error = loaded(&pool).unwrap_err();
            assert!(error.contains(setting) && error.contains(why), "{pool}: {error}");
        }
    }

    #[test]
    fn a_revocation_that_can_be_taken_back_is_warned_about() {
        let warned = |more: &str| {
            let pool = format!("formats: [jwt, bitstring], issuer: 'https://issuer.example'{more}");
            loaded(&pool).unwrap().warnings.iter().any(|warning| warning.contains("bitstring"))
        };
        assert!(warned("") && !warned(", final-status: 1"));
    }
}
