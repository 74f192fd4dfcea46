//! How large a list's token is, and what it takes to make one: found by making some, as the publisher does.

use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::sign::{Algorithm, KeyHints, SignError, Signer, SigningKey, generate};
use crate::status_list::{Capacity, Claims, lst};

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
    /// CPU seconds of this machine to compress and sign it in one format.
    pub seconds: f64,
}

impl TokenSize {
    /// Makes the token of a random list of which `set_share` is set.
    pub fn measure(
        capacity: Capacity,
        set_share: f64,
        uri: &str,
        lifetime: Duration,
        ttl: Duration,
    ) -> Result<Self, SignError> {
        let array = random_array(capacity, set_share);
        let key = generate(Algorithm::Es256).expect("making a key fails only without random numbers");
        let key = SigningKey::from_pem(&key, None, None).expect("a key that was just made is a key");
        let signer = Signer::new(key, KeyHints { kid: true, x5c: false, jwk: false });
        let begun = Instant::now();
        let compressed = lst::compress(&array);
        let claims = Claims {
            sub: uri.to_owned(),
            iss: None,
            iat: 1_700_000_000,
            nbf: None,
            exp: Some(1_700_000_000 + lifetime.as_secs()),
            ttl: Some(ttl.as_secs()),
            bits: capacity.bits(),
            lst: compressed.into(),
            aggregation_uri: None,
        };
        let jwt = signer.sign_jwt(&claims)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(jwt.as_bytes()).expect("writing to memory does not fail");
        let gzip = black_box(gzip.finish().expect("writing to memory does not fail"));
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Self {
            bound_bytes: shannon_bytes(capacity, set_share),
            lst_bytes: claims.lst.len(),
            jwt_bytes: jwt.len(),
            jwt_gzip_bytes: gzip.len(),
            cwt_bytes: signer.sign_cwt(&claims)?.len(),
            seconds,
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
