//! Decides whether a published file is ours and whole. The gate, the job, the sweep and the uploads use it.
//!
//! Anyone who can write into the folder or a bucket must not get anything signed or uploaded, and a damaged file must not prevent
//! its replacement. So no content is trusted that a key of the pool did not sign for this list.

use std::borrow::Cow;

use crate::bitstring::{self, Credential};
use crate::sign::profile::{Breach, Facts, Profiles};
use crate::sign::{Algorithm, KeyRing, PublicKey};
use crate::site::folder::{Site, SiteError, TokenFiles, gunzip};
use crate::site::layout::ListFile;
use crate::status_list::raw::RawList;
use crate::status_list::{
    Capacity, Claims, Format, Formats, InvalidClaims, LIST_BYTES_MAX, ListId, Purpose, StatusArray, cwt, jwt,
    lst,
};

/// A decoded Status List Token, or a status list credential, whose signature is not verified yet.
pub(super) struct Token<'a, C = Claims> {
    pub(super) claims: C,
    /// The certificates that it carries (DER, leaf first); `None` if they cannot be decoded.
    pub(super) certificates: Option<Vec<Vec<u8>>>,
    certificates_are_protected: bool,
    algorithm: Option<Algorithm>,
    signing_input: Cow<'a, [u8]>,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Decodes a token in this format. A form without a signature is not a token.
    pub(super) fn decode(format: Format, bytes: &'a [u8]) -> Result<Self, InvalidClaims> {
        let malformed = |why: &str| InvalidClaims::Malformed { format: "token", why: why.to_owned() };
        match format {
            Format::Jwt => {
                let token =
                    jwt::decode(std::str::from_utf8(bytes).map_err(|_| malformed("it is not text"))?)?;
                Ok(Self {
                    certificates: token.header.certificates(),
                    certificates_are_protected: true,
                    algorithm: Algorithm::from_jose_name(&token.header.alg),
                    signing_input: Cow::Borrowed(token.signing_input.as_bytes()),
                    signature: token.signature,
                    claims: token.claims,
                })
            }
            Format::Cwt => {
                let token = cwt::decode(bytes)?;
                Ok(Self {
                    certificates: Some(token.key.x5chain),
                    certificates_are_protected: token.x5chain_is_protected,
                    algorithm: Algorithm::ALL.into_iter().find(|known| known.cose_number() == token.alg),
                    signing_input: Cow::Owned(token.signing_input),
                    signature: token.signature,
                    claims: token.claims,
                })
            }
            Format::Json | Format::Cbor | Format::Bitstring(_) => Err(malformed("it is none")),
        }
    }

    /// The first rule of `profiles` that it breaks, as a list of `entries` entries.
    pub(super) fn breach(&self, format: Format, entries: u32, profiles: Profiles) -> Option<Breach> {
        let facts = Facts {
            format,
            alg: self.algorithm.map_or("an unknown algorithm", Algorithm::jose_name),
            chain: self.certificates.as_deref().unwrap_or_default(),
            chain_is_protected: self.certificates_are_protected,
            bits: self.claims.bits,
            entries,
            expires: self.claims.exp.is_some(),
        };
        profiles.breaches(&facts).into_iter().next()
    }
}

impl<'a> Token<'a, Credential> {
    /// Decodes a status list credential.
    pub(super) fn decode_credential(bytes: &'a [u8]) -> Result<Self, InvalidClaims> {
        let not_text =
            |_| InvalidClaims::Malformed { format: "credential", why: "it is not text".to_owned() };
        let read = bitstring::decode(std::str::from_utf8(bytes).map_err(not_text)?)?;
        Ok(Self {
            certificates: read.header.certificates(),
            certificates_are_protected: true,
            algorithm: Algorithm::from_jose_name(&read.header.alg),
            signing_input: Cow::Borrowed(read.signing_input.as_bytes()),
            signature: read.signature,
            claims: read.credential,
        })
    }
}

impl<C> Token<'_, C> {
    /// Whether `key` signed it, with the algorithm that it names.
    pub(super) fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.algorithm == Some(key.algorithm()) && key.verify(&self.signing_input, &self.signature)
    }
}

/// Returns the token in `bytes` if a key of the pool signed it for the list `uri`.
pub(super) fn token<'a>(format: Format, bytes: &'a [u8], keys: &KeyRing, uri: &str) -> Option<Token<'a>> {
    let token = Token::decode(format, bytes).ok()?;
    (token.claims.sub == uri && keys.verifies(&token.signing_input, &token.signature)).then_some(token)
}

/// Returns the credential in `bytes` if a key of the pool signed it for the list `uri`.
pub(super) fn credential<'a>(
    purpose: Purpose,
    bytes: &'a [u8],
    keys: &KeyRing,
    uri: &str,
) -> Option<Token<'a, Credential>> {
    let token = Token::decode_credential(bytes).ok()?;
    let ours = token.claims.purpose == purpose && token.claims.id == bitstring::address(uri, purpose);
    (ours && keys.verifies(&token.signing_input, &token.signature)).then_some(token)
}

/// The credentials among `files`, each with its purpose.
pub(super) fn credentials(files: &TokenFiles) -> impl Iterator<Item = (Purpose, &[u8])> {
    Purpose::ALL.into_iter().filter_map(|purpose| Some((purpose, files.form(Format::Bitstring(purpose))?)))
}

/// Returns the array in `claims`, whatever its size.
pub(super) fn array_in(claims: &Claims) -> Option<StatusArray> {
    let bytes = lst::inflate(&claims.lst, LIST_BYTES_MAX).ok()?;
    let capacity = Capacity::of_bytes(bytes.len(), claims.bits).ok()?;
    StatusArray::from_bytes(capacity, bytes).ok()
}

/// Returns the claims of the newest of our tokens among `files`.
pub(super) fn newest(files: &TokenFiles, keys: &KeyRing, uri: &str) -> Option<Claims> {
    let ours = Format::SIGNED.into_iter().filter_map(|format| token(format, files.form(format)?, keys, uri));
    ours.map(|token| token.claims).max_by_key(|claims| claims.iat)
}

/// Returns the claims of the published token of a list, the newest of its files that a key of the pool signed for `uri`.
pub fn published(
    site: &Site,
    list: &ListId,
    formats: Formats,
    keys: &KeyRing,
    uri: &str,
) -> Result<Option<Claims>, SiteError> {
    Ok(newest(&site.read(list, formats)?, keys, uri))
}

/// Whether the unsigned files match the tokens: the gzip form contains the JWT, and the raw forms contain the list of
/// `claims`. A missing file matches.
pub(super) fn unsigned_files_match(files: &TokenFiles, claims: &Claims) -> bool {
    unsigned_files_that_differ(files, claims).next().is_none()
}

/// The unsigned files that do not match the tokens, see [`unsigned_files_match`].
pub(super) fn unsigned_files_that_differ(
    files: &TokenFiles,
    claims: &Claims,
) -> impl Iterator<Item = ListFile> {
    let raw = RawList::of(claims);
    let matches = move |file: ListFile, bytes: &[u8]| match file {
        // The JSON may end with line feeds, see `TokenFiles`.
        ListFile::Form(Format::Json) => bytes.trim_ascii_end() == raw.to_json(),
        ListFile::Form(Format::Cbor) => bytes == raw.to_cbor(),
        ListFile::JwtGzip => {
            let jwt = files.form(Format::Jwt);
            jwt.is_some_and(|jwt| gunzip(bytes, jwt.len()).is_ok_and(|inflated| inflated == jwt))
        }
        // Those that are signed are compared elsewhere.
        ListFile::Form(Format::Jwt | Format::Cwt | Format::Bitstring(_)) | ListFile::Gone => true,
    };
    let differs = move |file: &ListFile| files.file(*file).is_some_and(|bytes| !matches(*file, bytes));
    ListFile::OF_PUBLICATION.into_iter().filter(differs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::NumericDate;
    use crate::status_list::Bits;

    fn claims() -> Claims {
        Claims {
            sub: "https://status.example/lists/1".to_owned(),
            iss: None,
            iat: NumericDate::from_secs(1_800_000_000),
            nbf: None,
            exp: None,
            ttl: None,
            bits: Bits::One,
            lst: [1, 2, 3].into(),
            aggregation_uri: None,
        }
    }

    #[test]
    fn json_that_was_padded_is_whole() {
        let json = RawList::of(&claims()).to_json();
        let as_long = vec![0; json.len()];
        let files = TokenFiles::new([(Format::Json, json.clone()), (Format::Cwt, as_long)]);
        assert_eq!(files.form(Format::Json).unwrap().len(), json.len() + 1);
        assert!(unsigned_files_match(&files, &claims()));
    }

    #[test]
    fn every_damaged_byte_is_found() {
        let raw = RawList::of(&claims());
        let forms =
            [(Format::Json, raw.to_json()), (Format::Cbor, raw.to_cbor()), (Format::Jwt, b"a.b.c".to_vec())];
        let files = || TokenFiles::new(forms.clone());
        assert!(unsigned_files_match(&files(), &claims()));
        for file in [ListFile::Form(Format::Json), ListFile::Form(Format::Cbor), ListFile::JwtGzip] {
            // The time and system fields of the gzip header are not content.
            let first = if file == ListFile::JwtGzip { 10 } else { 0 };
            for at in first..files().file(file).unwrap().len() {
                let mut bytes = files().file(file).unwrap().to_vec();
                bytes[at] ^= 1;
                assert!(!unsigned_files_match(&files().with(file, bytes), &claims()), "{file:?} {at}");
            }
        }
    }
}
