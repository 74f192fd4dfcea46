//! Making signed tokens of compressed lists, compared with the bare signature over the same number of bytes.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to report")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use statuslist::base::clock::NumericDate;
use statuslist::sign::{Algorithm, KeyHints, Signer, SigningKey, generate};
use statuslist::status_list::{Bits, Claims, lst};

#[path = "support/random.rs"]
mod random;

fn sign(criterion: &mut Criterion) {
    let pem = generate(Algorithm::Es256).unwrap();
    let raw =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pem::parse(&pem).unwrap().contents());
    let (raw, random) = (raw.unwrap(), SystemRandom::new());
    let hints = KeyHints { kid: true, x5c: false, jwk: false };
    let signer = Signer::new(SigningKey::from_pem(&pem, None, None).unwrap(), hints);

    let mut group = criterion.benchmark_group("sign ES256");
    for (name, entries) in [("100k at 1 %", 100_000), ("1M at 1 %", 1_000_000)] {
        let claims = claims(lst::compress(&random::random_array(entries, 0.01, 1)).into());
        let (jwt, cwt) = (signer.sign_jwt(&claims).unwrap(), signer.sign_cwt(&claims).unwrap());
        for (format, bytes) in [("jwt", jwt.as_bytes()), ("cwt", &cwt[..])] {
            let id = BenchmarkId::new(format!("raw, bytes of the {format}"), name);
            group.bench_with_input(id, bytes, |bench, bytes| {
                bench.iter(|| raw.sign(&random, black_box(bytes)).unwrap())
            });
        }
        group.bench_with_input(BenchmarkId::new("jwt", name), &claims, |bench, claims| {
            bench.iter(|| signer.sign_jwt(black_box(claims)).unwrap())
        });
        group.bench_with_input(BenchmarkId::new("cwt", name), &claims, |bench, claims| {
            bench.iter(|| signer.sign_cwt(black_box(claims)).unwrap())
        });
    }
    group.finish();
}

fn claims(lst: Arc<[u8]>) -> Claims {
    let uri = "https://status.example.com/lists/c4157bd6-9415-4cdb-af57-0fb91781993b";
    Claims {
        nbf: None,
        sub: uri.to_owned(),
        iss: Some("https://issuer.example.com".to_owned()),
        iat: NumericDate::from_secs(1_800_000_000),
        exp: Some(NumericDate::from_secs(1_800_086_400)),
        ttl: Some(Duration::from_secs(600)),
        bits: Bits::One,
        lst,
        aggregation_uri: Some("https://status.example.com/lists/aggregation/demo".to_owned()),
    }
}

criterion_group!(benches, sign);
criterion_main!(benches);
