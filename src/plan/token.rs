//! How large a list's token is, and what it takes to publish one: found by rehearsing publications.

use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use serde::Serialize;

use crate::publish::{PublishError, rehearse};
use crate::sign::{Algorithm, KeyHints, KeyRing, Signer, SigningKey, generate};
use crate::site::folder::TokenFiles;
use crate::site::layout::ListFile;
use crate::status_list::{Capacity, Claims, Format, StatusArray};

/// How often a publication is rehearsed, each time with another of so many arrays, because the same one again is known to the
/// processor. Of the times that it took, a quarter is shorter than the one that counts: whatever else the machine does only adds
/// to them, and so does the memory that the first rehearsals are given by the system.
const REHEARSALS: usize = 12;
const ARRAYS: usize = 4;
/// After this time there are no more rehearsals of large lists.
const PATIENCE: Duration = Duration::from_secs(2);
/// CPU seconds for what is not rehearsed: the store, and the files with their fsyncs. It hardly depends on the list (measured with
/// small ones that are renewed, on the machine of `docs/PERFORMANCE.md`).
const HANDLING_SECONDS: f64 = 0.0015;

/// The token of a list with a share of its entries set.
#[derive(Clone, Debug, Serialize)]
pub struct TokenSize {
    /// Bytes below which no encoding gets on average (Shannon).
    pub bound_bytes: f64,
    /// Bytes of the compressed array, `lst`.
    pub lst_bytes: usize,
    /// Bytes of the JWT.
    pub jwt_bytes: usize,
    /// Bytes of the JWT as most clients fetch it.
    pub jwt_gzip_bytes: usize,
    /// Bytes of the CWT.
    pub cwt_bytes: usize,
    /// CPU seconds of this machine to publish it in one format after a change: to verify the token before it, to compress, sign
    /// and gzip the new one, to read that as a Relying Party does, and a fixed part for store and files.
    pub seconds: f64,
    /// The same where nothing changed: what is compressed already is not compressed again.
    pub renewal_seconds: f64,
}

impl TokenSize {
    /// Makes the token of a random list of which `set_share` is set.
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
        let iat = 1_700_000_000;
        let mut claims = Claims {
            sub: uri.to_owned(),
            iss: None,
            iat,
            nbf: None,
            exp: Some(iat + lifetime.as_secs()),
            ttl: Some(ttl.as_secs()),
            bits: capacity.bits(),
            lst: [].into(),
            aggregation_uri: None,
        };
        let first = rehearse(&keys, &arrays[0], &claims, TokenFiles::default(), true)?;
        let (mut files, mut published) = first;
        let mut measured = |changed| {
            let (begun, mut times) = (Instant::now(), Vec::with_capacity(REHEARSALS));
            while times.len() < REHEARSALS && (times.is_empty() || begun.elapsed() < PATIENCE) {
                claims.iat += 1;
                let array = &arrays[if changed { (times.len() + 1) % ARRAYS } else { 0 }];
                let before = std::mem::take(&mut files);
                let begun = Instant::now();
                (files, published) = rehearse(&keys, array, &claims, before, changed)?;
                times.push(begun.elapsed());
            }
            times.sort_unstable();
            Ok::<_, PublishError>(times[times.len() / 4].as_secs_f64() + HANDLING_SECONDS)
        };
        // In this order, because it is the first array that is published now.
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

/// An array with this share of its entries at status 1.
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

/// What no encoding of independent entries can undercut on average: n·H(p)/8.
fn shannon_bytes(capacity: Capacity, share: f64) -> f64 {
    let bits = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    f64::from(capacity.entries()) * (bits(share) + bits(1.0 - share)) / 8.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_list::Bits;

    /// Against the specification's own table of sizes ("Size Comparison"), which was measured by others.
    #[test]
    fn sizes_are_those_that_the_specification_prints() {
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
            // Base64url twice, and what is around it; gzip takes that back.
            let jwt = size.lst_bytes as f64 * 16.0 / 9.0;
            assert!((jwt..jwt + 900.0).contains(&(size.jwt_bytes as f64)), "{size:?}");
            assert!(size.cwt_bytes < size.jwt_gzip_bytes && size.jwt_gzip_bytes < size.jwt_bytes, "{size:?}");
        }
    }
}
