//! Token, trust, time and question → verdict ("Validation Rules"): no I/O, no clock.
//!
//! Nothing in a token is acted upon before its signature is verified, least of all its `lst`.

use super::key::Algorithm;
use super::outcome::{CannotTell, IAT_LEEWAY, NotValid, Outcome};
use super::trust::Signed;
use super::{Check, Format, Report, TokenFacts, Trust, Untrusted};
use crate::base::clock::NumericDate;
use crate::base::digest::digest;
use crate::chain::Validity;
use crate::profile::{Facts, Profiles};
use crate::status_list::{
    Capacity, Claims, IndexOutOfRange, InvalidCapacity, InvalidClaims, Status, StatusArray, cwt, jwt, lst,
};

/// The statuses of a list whose token is verified; `None` if it has no entries.
#[derive(Debug)]
pub(crate) struct Statuses(Option<StatusArray>);

impl Statuses {
    /// The status at one index.
    pub(crate) fn get(&self, idx: u64) -> Result<Status, IndexOutOfRange> {
        let array = self.0.as_ref().ok_or(IndexOutOfRange { idx, entries: 0 })?;
        Ok(array.get(array.capacity().index(idx)?))
    }

    /// The outcome at one index: never unknown.
    pub(super) fn at(&self, idx: u64) -> Outcome {
        match self.get(idx) {
            Ok(Status::VALID) => Outcome::Valid,
            Ok(other) => Outcome::NotValid(NotValid::Status(other)),
            Err(outside) => Outcome::NotValid(outside.into()),
        }
    }

    /// The memory that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |array| array.as_bytes().len())
    }
}

/// Judges a fetched `token` at `now`.
pub fn judge(
    request: &Check,
    format: Format,
    token: &[u8],
    trust: Option<&Trust>,
    now: NumericDate,
) -> Report {
    let (facts, statuses) = read(request, format, token, trust, now);
    let outcome = statuses.map_or_else(Outcome::Unknown, |statuses| statuses.at(request.idx));
    Report::new(request, now, outcome, facts)
}

/// Reads a fetched `token` at `now`, whichever index is asked for. Returns what it says about itself, if it can be decoded.
pub(crate) fn read(
    request: &Check,
    format: Format,
    token: &[u8],
    trust: Option<&Trust>,
    now: NumericDate,
) -> (Option<TokenFacts>, Result<Statuses, CannotTell>) {
    let (signed, claims) = match decode(format, token) {
        Ok(decoded) => decoded,
        Err(why) => return (None, Err(why)),
    };
    let mut facts = TokenFacts {
        format,
        bytes: token.len(),
        alg: signed.alg_name.clone(),
        kid: signed.kid.as_deref().map(|kid| String::from_utf8_lossy(kid).into_owned()),
        trusted_by: None,
        iat: claims.iat,
        exp: claims.exp,
        ttl: claims.ttl,
        certificates_end: Validity::of(&signed.chain).ok().flatten().map(|validity| validity.not_after),
        content: digest("list", &[&[claims.bits.get()], &claims.lst]),
        bits: claims.bits,
        entries: None,
    };
    let statuses = apply(request, &signed, &claims, trust, now, &mut facts);
    (Some(facts), statuses)
}

/// Verifies a fetched `token` at `now`. Returns its array, whatever it says.
pub(super) fn verify(
    request: &Check,
    format: Format,
    token: &[u8],
    trust: &Trust,
    now: NumericDate,
) -> Result<StatusArray, CannotTell> {
    let (signed, claims) = decode(format, token)?;
    trust.signer_of(&signed, now)?;
    check_subject(request, &claims)?;
    check_times(request, &claims, now)?;
    let array = lst::inflate(&claims.lst, request.limits.inflated_bytes_max)?;
    let empty = |error: InvalidCapacity| InvalidClaims::Malformed { format: "token", why: error.to_string() };
    let capacity = Capacity::of_bytes(array.len(), claims.bits).map_err(empty)?;
    Ok(StatusArray::from_bytes(capacity, array).expect("the capacity follows from its length"))
}

fn check_subject(request: &Check, claims: &Claims) -> Result<(), CannotTell> {
    if claims.sub != request.uri {
        return Err(CannotTell::OtherSubject { sub: claims.sub.clone(), uri: request.uri.clone() });
    }
    Ok(())
}

fn apply(
    request: &Check,
    signed: &Signed,
    claims: &Claims,
    trust: Option<&Trust>,
    now: NumericDate,
    facts: &mut TokenFacts,
) -> Result<Statuses, CannotTell> {
    facts.trusted_by = Some(trust.ok_or(CannotTell::NoTrust)?.signer_of(signed, now)?);
    check_subject(request, claims)?;
    check_times(request, claims, now)?;

    let bytes = lst::inflate(&claims.lst, request.limits.inflated_bytes_max)?;
    // Inflating is bounded by the largest possible list, so only an empty array has no capacity.
    let capacity = Capacity::of_bytes(bytes.len(), claims.bits).ok();
    let entries = capacity.map_or(0, Capacity::entries);
    facts.entries = Some(entries);
    check_profiles(request.profiles, signed, claims, (facts.format, entries))?;
    let array = capacity.map(|capacity| StatusArray::from_bytes(capacity, bytes));
    Ok(Statuses(array.transpose().expect("the capacity follows from its length")))
}

fn check_profiles(
    profiles: Profiles,
    signed: &Signed,
    claims: &Claims,
    (format, entries): (Format, u32),
) -> Result<(), CannotTell> {
    let facts = Facts {
        format,
        alg: &signed.alg_name,
        chain: &signed.chain,
        chain_is_protected: signed.chain_is_protected,
        bits: claims.bits,
        entries,
        expires: claims.exp.is_some(),
    };
    match profiles.breaches(&facts) {
        kept if kept.is_empty() => Ok(()),
        breaches => Err(CannotTell::Profile { breaches }),
    }
}

fn check_times(request: &Check, claims: &Claims, now: NumericDate) -> Result<(), CannotTell> {
    let (iat, exp) = (claims.iat, claims.exp);
    if let Some(from) = claims.nbf.filter(|from| *from > request.time.unwrap_or(now).plus(IAT_LEEWAY)) {
        return Err(CannotTell::NotYet { from });
    }
    if iat > now.plus(IAT_LEEWAY) {
        return Err(CannotTell::IssuedInFuture { iat, now });
    }
    match request.time {
        Some(time) if time > now => return Err(CannotTell::TimeAhead { time }),
        // A token of the past has naturally expired, so `exp` is compared with the requested time. A token without `exp`
        // that is still served has been valid from its `iat` until now.
        Some(time) if time < iat || exp.is_some_and(|exp| time > exp) => {
            return Err(CannotTell::OtherTime { iat, exp, time });
        }
        Some(_) => {}
        None => {
            if let Some(exp) = exp.filter(|exp| *exp <= now) {
                return Err(CannotTell::Expired { exp, now });
            }
        }
    }
    let age = request.time.unwrap_or(now).since(iat);
    match request.max_age {
        Some(max_age) if age > max_age => Err(CannotTell::TooOld { age, max_age }),
        _ => Ok(()),
    }
}

fn decode(format: Format, token: &[u8]) -> Result<(Signed, Claims), CannotTell> {
    match format {
        Format::Jwt => {
            let text = std::str::from_utf8(token)
                .map_err(|_| InvalidClaims::Malformed { format: "JWT", why: "it is not text".to_owned() })?;
            let token = jwt::decode(text)?;
            let signed = Signed {
                chain: token.header.certificates().ok_or(Untrusted::ChainEncoding)?,
                chain_is_protected: true,
                alg: Algorithm::from_jose_name(&token.header.alg),
                alg_name: token.header.alg,
                kid: token.header.kid.map(String::into_bytes),
                message: token.signing_input.as_bytes().to_vec(),
                signature: token.signature,
            };
            Ok((signed, token.claims))
        }
        Format::Cwt => {
            let token = cwt::decode(token)?;
            let known = Algorithm::from_cose_number(token.alg);
            let signed = Signed {
                alg: known.map(|(alg, _)| alg),
                alg_name: known.map_or_else(|| format!("COSE {}", token.alg), |(_, name)| name.to_owned()),
                kid: token.key.kid,
                chain: token.key.x5chain,
                chain_is_protected: token.x5chain_is_protected,
                message: token.signing_input,
                signature: token.signature,
            };
            Ok((signed, token.claims))
        }
        Format::Json | Format::Cbor | Format::Bitstring(_) => {
            Err(InvalidClaims::Malformed { format: "token", why: "it is none".to_owned() }.into())
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::issuer::{Algorithm, Jwk, JwkSet, KeyHints, Signer, SigningKey, generate};
    use crate::status_list::{Bits, vectors};

    pub(crate) const URI: &str = "https://status.example/lists/1";
    pub(crate) const NOW: NumericDate = NumericDate::from_secs(1_800_000_000);

    /// The moment this many seconds after `NOW`.
    pub(crate) fn after(secs: i64) -> NumericDate {
        NumericDate::from_signed_secs(1_800_000_000 + secs)
    }

    /// Four entries of two bits, which hold 0, 1, 2 and 3.
    pub(crate) fn claims() -> Claims {
        Claims {
            sub: URI.into(),
            iss: None,
            iat: after(-12),
            nbf: None,
            exp: Some(after(3600)),
            ttl: Some(Duration::from_secs(600)),
            bits: Bits::Two,
            lst: lst::compress(&[0b11_10_01_00]).into(),
            aggregation_uri: None,
        }
    }

    pub(crate) fn signer_of(algorithm: Algorithm, kid: Option<&str>) -> Signer {
        let key = SigningKey::from_pem(&generate(algorithm).unwrap(), None, kid).unwrap();
        Signer::new(key, KeyHints { kid: kid.is_some(), x5c: false, jwk: true })
    }

    pub(crate) fn signer() -> Signer {
        signer_of(Algorithm::Es256, Some("a"))
    }

    fn trust(keys: &[Jwk]) -> Trust {
        Trust::from_jwks(&serde_json::to_vec(&JwkSet { keys: keys.to_vec() }).unwrap()).unwrap()
    }

    pub(crate) fn token(format: Format, signer: &Signer, claims: &Claims) -> Vec<u8> {
        match format {
            Format::Jwt => signer.sign_jwt(claims).unwrap().into_bytes(),
            Format::Cwt => signer.sign_cwt(claims).unwrap(),
            Format::Json | Format::Cbor | Format::Bitstring(_) => unreachable!("no token"),
        }
    }

    pub(crate) fn refusal(report: Report) -> CannotTell {
        match report.outcome {
            Outcome::Unknown(why) => why,
            other => panic!("{other:?}"),
        }
    }

    /// Judges a well-signed token in both formats, which must have the same outcome.
    fn judged(request: &Check, claims: &Claims) -> Outcome {
        let signer = signer();
        let trust = trust(&[signer.jwk()]);
        let [jwt, cwt] = Format::SIGNED
            .map(|format| judge(request, format, &token(format, &signer, claims), Some(&trust), NOW).outcome);
        assert_eq!(format!("{jwt:?}"), format!("{cwt:?}"));
        jwt
    }

    fn refused(request: &Check, claims: &Claims) -> CannotTell {
        match judged(request, claims) {
            Outcome::Unknown(why) => why,
            other => panic!("{other:?}"),
        }
    }

    /// Judges a well-signed JWT whose `alg` was replaced by this one.
    fn with_alg(alg: &str) -> CannotTell {
        let signer = signer();
        let token = signer.sign_jwt(&claims()).unwrap();
        let (_, rest) = token.split_once('.').unwrap();
        let header = format!(r#"{{"alg":"{alg}","kid":"a","typ":"statuslist+jwt"}}"#);
        let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
        let trust = trust(&[signer.jwk()]);
        refusal(judge(&Check::new(URI, 0), Format::Jwt, forged.as_bytes(), Some(&trust), NOW))
    }

    #[test]
    fn every_status_has_its_outcome() {
        let outcome = |idx| judged(&Check::new(URI, idx), &claims());
        let not_valid = |outcome| match outcome {
            Outcome::NotValid(NotValid::Status(status)) => status.value(),
            other => panic!("{other:?}"),
        };
        assert!(matches!(outcome(0), Outcome::Valid));
        for value in 1..=3 {
            assert_eq!(u64::from(not_valid(outcome(value))), value);
        }
        let unregistered = Claims { bits: Bits::Eight, lst: lst::compress(&[0, 0x0B]).into(), ..claims() };
        assert_eq!(not_valid(judged(&Check::new(URI, 1), &unregistered)), 0x0B);
    }

    #[test]
    fn exit_codes_are_0_1_and_2() {
        let code = |idx, uri| judged(&Check::new(uri, idx), &claims()).exit_code();
        assert_eq!([code(0, URI), code(1, URI), code(4, URI), code(0, "other")], [0, 1, 1, 2]);
    }

    #[test]
    fn index_outside_the_list_is_not_valid() {
        for (lst, idx, entries) in
            [(claims().lst, 4, 4), (claims().lst, u64::MAX, 4), (lst::compress(&[]).into(), 0, 0)]
        {
            let outcome = judged(&Check::new(URI, idx), &Claims { lst, ..claims() });
            let Outcome::NotValid(NotValid::OutsideList(outside)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(outside, IndexOutOfRange { idx, entries });
        }
    }

    #[test]
    fn without_trust_the_status_is_unknown() {
        let token = token(Format::Jwt, &signer(), &claims());
        let report = judge(&Check::new(URI, 0), Format::Jwt, &token, None, NOW);
        assert_eq!(report.token.as_ref().map(|token| token.entries), Some(None), "it was not even inflated");
        let why = refusal(report);
        assert!(matches!(why, CannotTell::NoTrust));
        assert!(why.to_string().contains("pass `--trust`"));
    }

    #[test]
    fn bad_signature_is_refused() {
        let signer = signer();
        let trust = trust(&[signer.jwk()]);
        for format in Format::SIGNED {
            let mut token = token(format, &signer, &claims());
            // The signature ends both formats. Its tenth byte from the end has no padding bits.
            let at = token.len() - 10;
            token[at] = if token[at] == b'A' { b'B' } else { b'A' };
            let why = refusal(judge(&Check::new(URI, 0), format, &token, Some(&trust), NOW));
            assert!(matches!(why, CannotTell::Untrusted(Untrusted::Signature)), "{why}");
        }
    }

    #[test]
    fn known_kid_with_another_key_is_refused() {
        let trust = trust(&[signer().jwk()]);
        for format in Format::SIGNED {
            let token = token(format, &signer(), &claims());
            let why = refusal(judge(&Check::new(URI, 0), format, &token, Some(&trust), NOW));
            assert!(matches!(why, CannotTell::Untrusted(Untrusted::Signature)), "{why}");
        }
    }

    #[test]
    fn unknown_kid_is_refused_even_if_the_key_fits() {
        let signer = signer();
        let trust =
            trust(&[Jwk { kid: Some("b".into()), ..signer.jwk() }, Jwk { kid: None, ..signer.jwk() }]);
        for format in Format::SIGNED {
            let token = token(format, &signer, &claims());
            let why = refusal(judge(&Check::new(URI, 0), format, &token, Some(&trust), NOW)).to_string();
            assert!(why.contains(r#"names the key "a", the trusted JWKS has ["b", "(no kid)"]"#), "{why}");
        }
    }

    #[test]
    fn token_without_kid_may_be_of_any_trusted_key() {
        let (first, second) = (signer_of(Algorithm::Es256, None), signer_of(Algorithm::Es256, None));
        let trust = trust(&[signer_of(Algorithm::EdDsa, None).jwk(), first.jwk(), second.jwk()]);
        for format in Format::SIGNED {
            let report =
                judge(&Check::new(URI, 0), format, &token(format, &second, &claims()), Some(&trust), NOW);
            assert!(matches!(report.outcome, Outcome::Valid), "{report}");
        }
    }

    #[test]
    fn alg_other_than_that_of_the_key_is_refused() {
        for alg in ["ES384", "HS256", "none", "EdDSA", "es256"] {
            let why = with_alg(alg);
            assert!(
                matches!(&why, CannotTell::Untrusted(Untrusted::Algorithm { token, trusted })
                    if token == alg && *trusted == ["ES256"]),
                "{why}"
            );
        }
        let es384 = signer_of(Algorithm::Es384, Some("a"));
        let trust = trust(&[signer().jwk()]);
        let token = token(Format::Cwt, &es384, &claims());
        let why = refusal(judge(&Check::new(URI, 0), Format::Cwt, &token, Some(&trust), NOW));
        assert!(matches!(why, CannotTell::Untrusted(Untrusted::Algorithm { .. })), "{why}");
    }

    #[test]
    fn key_inside_the_token_is_never_trusted() {
        let (ours, theirs) = (signer_of(Algorithm::Es256, None), signer_of(Algorithm::Es256, None));
        let token = theirs.sign_jwt(&claims()).unwrap();
        assert!(jwt::decode(&token).unwrap().header.jwk.is_some());
        let why = refusal(judge(
            &Check::new(URI, 0),
            Format::Jwt,
            token.as_bytes(),
            Some(&trust(&[ours.jwk()])),
            NOW,
        ));
        assert!(matches!(why, CannotTell::Untrusted(Untrusted::Signature)), "{why}");
    }

    #[test]
    fn wrong_typ_is_refused() {
        let signer = signer();
        let header = jwt::Header { alg: "ES256".into(), typ: "JWT".into(), ..jwt::Header::default() };
        let token = jwt::assemble(jwt::signing_input(&header, &claims()), &[0; 64]);
        let trust = trust(&[signer.jwk()]);
        let report = judge(&Check::new(URI, 0), Format::Jwt, token.as_bytes(), Some(&trust), NOW);
        assert!(report.token.is_none());
        let why = refusal(report);
        assert!(matches!(why, CannotTell::Token(InvalidClaims::Wrong { name: "typ", .. })), "{why}");
    }

    #[test]
    fn token_of_the_other_format_is_refused() {
        let (signer, request) = (signer(), Check::new(URI, 0));
        let trust = trust(&[signer.jwk()]);
        for (format, other) in [(Format::Jwt, Format::Cwt), (Format::Cwt, Format::Jwt)] {
            let why = refusal(judge(&request, format, &token(other, &signer, &claims()), Some(&trust), NOW));
            assert!(matches!(why, CannotTell::Token(InvalidClaims::Malformed { .. })), "{why}");
        }
    }

    #[test]
    fn sub_must_equal_the_uri_byte_for_byte() {
        for other in [
            "https://status.example/lists/2",
            "https://status.example/lists/1/",
            "https://STATUS.example/lists/1",
            "https://status.example:443/lists/1",
            "https://status.example/lists/1?",
        ] {
            let why = refused(&Check::new(other, 0), &claims());
            assert!(matches!(why, CannotTell::OtherSubject { .. }), "{other}: {why}");
        }
    }

    #[test]
    fn a_token_is_valid_from_nbf_on() {
        let from = |nbf| Claims { nbf: Some(nbf), ..claims() };
        let request = Check::new(URI, 0);
        assert!(matches!(judged(&request, &from(NOW.plus(IAT_LEEWAY))), Outcome::Valid));
        let why = refused(&request, &from(after(61)));
        assert!(matches!(why, CannotTell::NotYet { .. }), "{why}");
    }

    #[test]
    fn iat_may_be_ahead_by_the_leeway_only() {
        let issued = |iat| Claims { iat, ..claims() };
        let request = Check::new(URI, 0);
        assert!(matches!(judged(&request, &issued(NOW.plus(IAT_LEEWAY))), Outcome::Valid));
        let why = refused(&request, &issued(after(61)));
        assert!(matches!(why, CannotTell::IssuedInFuture { .. }), "{why}");
        assert!(why.to_string().contains("1m 1s ahead"), "{why}");
    }

    #[test]
    fn expired_token_is_refused_from_the_second_of_exp_on() {
        let expiring = |exp| Claims { exp, ..claims() };
        let request = Check::new(URI, 0);
        assert!(matches!(judged(&request, &expiring(Some(after(1)))), Outcome::Valid));
        assert!(matches!(judged(&request, &expiring(None)), Outcome::Valid));
        let why = refused(&request, &expiring(Some(NOW)));
        assert!(matches!(why, CannotTell::Expired { exp, now } if (exp, now) == (NOW, NOW)), "{why}");
    }

    #[test]
    fn token_older_than_max_age_is_refused() {
        let request = |secs| Check { max_age: Some(Duration::from_secs(secs)), ..Check::new(URI, 0) };
        assert!(matches!(judged(&request(12), &claims()), Outcome::Valid));
        let why = refused(&request(11), &claims());
        assert!(
            matches!(why, CannotTell::TooOld { age, max_age } if (age.as_secs(), max_age.as_secs()) == (12, 11)),
            "{why}"
        );
    }

    #[test]
    fn token_must_cover_the_requested_time() {
        let request = |time| Check { time: Some(time), ..Check::new(URI, 0) };
        let past = Claims { iat: after(-1000), exp: Some(after(-500)), ..claims() };
        for time in [-1000, -700, -500].map(after) {
            assert!(matches!(judged(&request(time), &past), Outcome::Valid), "{time}");
        }
        for time in [NumericDate::MIN, after(-1001), after(-499), NOW] {
            let why = refused(&request(time), &past);
            assert!(matches!(why, CannotTell::OtherTime { .. }), "{time}: {why}");
        }
        let why = refused(&request(after(1)), &claims());
        assert!(matches!(why, CannotTell::TimeAhead { .. }), "{why}");
        let endless = Claims { iat: after(-1000), exp: None, ..claims() };
        assert!(matches!(judged(&request(after(-1)), &endless), Outcome::Valid));
    }

    #[test]
    fn list_that_inflates_too_far_is_refused() {
        let bomb = Claims { lst: lst::compress(&vec![0; 1 << 20]).into(), ..claims() };
        let mut request = Check::new(URI, 0);
        assert!(matches!(judged(&request, &bomb), Outcome::Valid));
        request.limits.inflated_bytes_max = (1 << 20) - 1;
        let why = refused(&request, &bomb);
        assert!(matches!(why, CannotTell::Lst(lst::InvalidLst::TooLarge { .. })), "{why}");
    }

    #[test]
    fn damaged_list_is_refused() {
        let why = refused(&Check::new(URI, 0), &Claims { lst: [1, 2, 3].as_slice().into(), ..claims() });
        assert!(matches!(why, CannotTell::Lst(lst::InvalidLst::Zlib(_))), "{why}");
    }

    #[test]
    fn the_specifications_tokens_are_accepted_within_their_lifetime() {
        let jwt = vectors::token("status-list-token-jwt-raw");
        let cwt = vectors::token("status-list-token-cwt");
        for (format, token, vector) in [
            (Format::Jwt, jwt["raw"].as_str().unwrap().as_bytes().to_vec(), &jwt),
            (Format::Cwt, vectors::hex(cwt["hex"].as_str().unwrap()), &cwt),
        ] {
            let jwk: Jwk = serde_json::from_value(vector["public_jwk"].clone()).unwrap();
            let trust = trust(&[jwk]);
            let at = |now, idx| {
                judge(
                    &Check::new("https://example.com/statuslists/1", idx),
                    format,
                    &token,
                    Some(&trust),
                    NumericDate::from_secs(now),
                )
            };
            let statuses: Vec<_> =
                (0..16).map(|idx| at(1_700_000_000, idx).status().unwrap().value()).collect();
            assert_eq!(statuses, [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]);
            assert_eq!(at(1_700_000_000, 16).exit_code(), 1);
            assert!(matches!(refusal(at(2_291_720_170, 0)), CannotTell::Expired { .. }));
            assert!(matches!(refusal(at(1_686_920_000, 0)), CannotTell::IssuedInFuture { .. }));
        }
    }
}
