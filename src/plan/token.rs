//! How large a list's token is, and what it costs to publish one: measured by rehearsing publications.

use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use serde::Serialize;

use crate::base::clock::NumericDate;
use crate::publish::{PublishError, rehearse};
use crate::sign::{Algorithm, KeyHints, KeyRing, Signer, SigningKey, generate};
use crate::site::folder::TokenFiles;
use crate::site::layout::ListFile;
use crate::status_list::{Capacity, Claims, Format, StatusArray};

/// How often a publication is rehearsed, with several arrays in turn, because a repeated one is faster (the processor has
/// adapted to it). The result is the lower quartile of the times: other work on the machine only adds to them, and so does
/// the first allocation of memory.
const REHEARSALS: usize = 12;
const ARRAYS: usize = 4;
/// After this time no more rehearsals of large lists begin.
const PATIENCE: Duration = Duration::from_secs(2);
/// CPU seconds for the parts that are not rehearsed: the store, and the files with their fsyncs. They hardly depend on the
/// list (measured with renewals of small lists, on the machine of `docs/PERFORMANCE.md`).
const STORE_AND_FILES_SECONDS: f64 = 0.0015;

/// The token of a list in which a share of the entries is set.
#[derive(Clone, Debug, Serialize)]
pub struct TokenSize {
    /// The average lower bound of any encoding, in bytes (Shannon).
    pub bound_bytes: f64,
    /// Bytes of the compressed array, `lst`.
    pub lst_bytes: usize,
    /// Bytes of the JWT.
    pub jwt_bytes: usize,
    /// Bytes of the JWT compressed with gzip, as most clients fetch it.
    pub jwt_gzip_bytes: usize,
    /// Bytes of the CWT.
    pub cwt_bytes: usize,
    /// CPU seconds of this machine to publish the list in one format after a change: verifying the previous token,
    /// compressing, signing and gzipping the new one, reading it as a Relying Party does, and a fixed part for store and
    /// files.
    pub seconds: f64,
    /// The same without a change: the compressed array is reused.
    pub renewal_seconds: f64,
}

impl TokenSize {
    /// Makes the token of a random list in which `set_share` of the entries are set.
    pub fn measure(
        capacity: Capacity,
        set_share: f64,
        uri: &str,
        lifetime: Duration,
        ttl: Duration,
    ) -> Result<Self, PublishError> {
        let random = || StatusArray::from_bytes(capacity, random_array(capacity, set_share));
        let arrays = [(); ARRAYS].map(|()| random().expect("the random array has the length of the list"));
        let key = generate(Algorithm::Es256).expect("making a key fails only without random numbers");
        let key = SigningKey::from_pem(&key, None, None).expect("a key that was just made is a key");
        let signer = Signer::new(key, KeyHints { kid: true, x5c: false, jwk: false });
        let keys = KeyRing::new(signer.clone(), None);
        let iat = NumericDate::from_secs(1_700_000_000);
        let mut claims = Claims {
            sub: uri.to_owned(),
            iss: None,
            iat,
            nbf: None,
            exp: Some(iat.plus(lifetime)),
            ttl: Some(ttl),
            bits: capacity.bits(),
            lst: [].into(),
            aggregation_uri: None,
        };
        let first = rehearse(&keys, &arrays[0], &claims, TokenFiles::default(), true)?;
        let (mut files, mut published) = first;
        let mut measured = |changed| {
            let (begun, mut times) = (Instant::now(), Vec::with_capacity(REHEARSALS));
            while times.len() < REHEARSALS && (times.is_empty() || begun.elapsed() < PATIENCE) {
                claims.iat = claims.iat.plus(Duration::from_secs(1));
                let array = &arrays[if changed { (times.len() + 1) % ARRAYS } else { 0 }];
                let before = std::mem::take(&mut files);
                let begun = Instant::now();
                (files, published) = rehearse(&keys, array, &claims, before, changed)?;
                times.push(begun.elapsed());
            }
            times.sort_unstable();
            Ok::<_, PublishError>(times[times.len() / 4].as_secs_f64() + STORE_AND_FILES_SECONDS)
        };
        // In this order, because the first array is published now.
        let renewal_seconds = measured(false)?;
        let seconds = measured(true)?;
        let length = |file| files.file(file).map_or(0, <[u8]>::len);
        Ok(Self {
            bound_bytes: shannon_bytes(capacity, set_share),
            lst_bytes: published.lst.len(),
            jwt_bytes: length(ListFile::Form(Format::Jwt)),
            jwt_gzip_bytes: length(ListFile::JwtGzip),
            cwt_bytes: signer.sign_cwt(&published)?.len(),
            seconds,
            renewal_seconds,
        })
    }
}

/// An array in which this share of the entries has status 1.
fn random_array(capacity: Capacity, set_share: f64) -> Vec<u8> {
    let mut array = vec![0_u8; capacity.bytes()];
    let bits = u64::from(capacity.bits().get());
    let below = (set_share * f64::from(u32::MAX)) as u32;
    let mut random = [0_u8; 4096];
    for (entry, draw) in (0..u64::from(capacity.entries())).zip((0..).map(|n: usize| n % 1024)) {
        if draw == 0 {
            rand::fill(&mut random).expect("the system's random numbers never run out once it has started");
        }
        let drawn =
            u32::from_le_bytes(random[4 * draw..][..4].try_into().expect("four bytes are four bytes"));
        if drawn < below {
            let place = entry * bits;
            array[(place / 8) as usize] |= 1 << (place % 8);
        }
    }
    array
}

/// The average lower bound of any encoding of independent entries: n·H(p)/8.
fn shannon_bytes(capacity: Capacity, share: f64) -> f64 {
    let bits = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    f64::from(capacity.entries()) * (bits(share) + bits(1.0 - share)) / 8.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::Bits;

    /// Compares with the specification's table of sizes ("Size Comparison"), an independent measurement.
    #[test]
    fn sizes_match_those_in_the_specification() {
        let measure = |entries: u32, share: f64| {
            let capacity = Capacity::new(entries.into(), Bits::One).unwrap();
            let uri = "https://status.example.com/lists/7d1c1f4e-1111-4000-8000-000000000000";
            TokenSize::measure(capacity, share, uri, Duration::from_secs(86_400), Duration::from_secs(600))
                .unwrap()
        };
        for line in include_str!("../../tests/vectors/sizes.csv")
            .lines()
            .filter(|line| line.starts_with("status_list,"))
        {
            let columns: Vec<_> = line.split(',').collect();
            let (entries, printed): (u32, f64) = (columns[2].parse().unwrap(), columns[8].parse().unwrap());
            let share = columns[3].trim_end_matches('%').parse::<f64>().unwrap() / 100.0;
            if entries != 100_000 || !(0.01..=0.5).contains(&share) {
                continue;
            }
            let size = measure(entries, share);
            let ratio = size.lst_bytes as f64 / printed;
            assert!(
                (0.78..=1.06).contains(&ratio),
                "{entries} at {share}: {} against {printed}",
                size.lst_bytes
            );
            assert!(size.bound_bytes < size.lst_bytes as f64 * 1.02, "{size:?}");
            // Base64url twice, plus overhead; gzip undoes the expansion.
            let jwt = size.lst_bytes as f64 * 16.0 / 9.0;
            assert!((jwt..jwt + 900.0).contains(&(size.jwt_bytes as f64)), "{size:?}");
            assert!(size.cwt_bytes < size.jwt_gzip_bytes && size.jwt_gzip_bytes < size.jwt_bytes, "{size:?}");
        }
    }
}
