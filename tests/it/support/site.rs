//! A folder as the publisher writes it, by the publisher's own code, with tokens that a test makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use statuslist::base::clock::NumericDate;
use statuslist::bitstring::Credential;
use statuslist::sign::{Algorithm, JwkSet, KeyHints, Signer, SigningKey, generate};
use statuslist::site::folder::{Site, TokenFiles};
use statuslist::status_list::{
    Aggregation, Bits, Capacity, Claims, Format, ListId, Purpose, Status, StatusArray, lst,
};

/// The folder, and the key that signs what is in it.
pub(crate) struct TestSite {
    storage: PathBuf,
    pub(crate) site: Site,
    pub(crate) signer: Signer,
    public_url: String,
}

impl TestSite {
    /// Opens `<folder>/public`. If it is new, makes a key and publishes it.
    pub(crate) fn open(folder: &Path, public_url: &str) -> Self {
        let storage = folder.join("public");
        let site = Site::open(&storage).unwrap();
        let key_file = folder.join("key.pem");
        if !key_file.exists() {
            let pem = generate(Algorithm::Es256).unwrap();
            std::io::Write::write_all(&mut fs::File::create(&key_file).unwrap(), pem.as_bytes()).unwrap();
        }
        let key = SigningKey::from_pem(&fs::read_to_string(key_file).unwrap(), None, None).unwrap();
        let signer = Signer::new(key, KeyHints { kid: true, x5c: false, jwk: false });
        site.write_jwks(&serde_json::to_vec(&JwkSet { keys: vec![signer.jwk()] }).unwrap()).unwrap();
        Self { storage, site, signer, public_url: public_url.to_owned() }
    }

    /// `storage-directory`.
    pub(crate) fn storage(&self) -> &Path {
        &self.storage
    }

    pub(crate) fn uri(&self, list: ListId) -> String {
        format!("{}/{list}", self.public_url)
    }

    /// The path of a list's file with this extension.
    pub(crate) fn path(&self, list: ListId, extension: &str) -> PathBuf {
        self.site.layout().lists().join(format!("{list}.{extension}"))
    }

    /// Signs a list whose array depends on `iat`, so that no two publications are alike.
    pub(crate) fn sign(&self, list: ListId, iat: u64, exp: u64, array_bytes: u64) -> (String, Vec<u8>) {
        // It compresses badly, so that a torn body would be a large part of it.
        let mut state = iat;
        let noise = (0..array_bytes).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let array: Vec<u8> = noise.collect();
        let claims = Claims { lst: lst::compress(&array).into(), ..self.claims(list, iat, exp) };
        (self.signer.sign_jwt(&claims).unwrap(), self.signer.sign_cwt(&claims).unwrap())
    }

    fn claims(&self, list: ListId, iat: u64, exp: u64) -> Claims {
        Claims {
            nbf: None,
            sub: self.uri(list),
            iss: None,
            iat: NumericDate::from_secs(iat),
            exp: Some(NumericDate::from_secs(exp)),
            ttl: Some(Duration::from_secs(300)),
            bits: Bits::One,
            lst: [].into(),
            aggregation_uri: None,
        }
    }

    /// The status list credential about revocations of a list without any.
    pub(crate) fn credential(&self, list: ListId, iat: u64, exp: u64) -> String {
        let array = StatusArray::filled(Capacity::new(800, Bits::One).unwrap(), Status::VALID);
        let claims = Claims { iss: Some("https://issuer.example".to_owned()), ..self.claims(list, iat, exp) };
        self.signer.sign_credential(&Credential::of(&claims, &array, Purpose::Revocation)).unwrap()
    }

    /// Writes the files of one publication.
    pub(crate) fn write(&self, list: ListId, files: &TokenFiles, iat: u64) {
        self.site.write_list(&list, files, NumericDate::from_secs(iat)).unwrap();
    }

    /// The latest `iat` of a list's files.
    pub(crate) fn latest_iat(&self, list: ListId) -> Option<u64> {
        self.site.latest_mtime(&list, NumericDate::MAX).map(NumericDate::secs)
    }

    /// Publishes a list in these formats.
    pub(crate) fn publish(&self, list: ListId, iat: u64, exp: u64, jwt: bool, cwt: bool) {
        let (signed_jwt, signed_cwt) = self.sign(list, iat, exp, 100);
        let jwt = jwt.then(|| (Format::Jwt, signed_jwt.into_bytes()));
        let files = TokenFiles::new(jwt.into_iter().chain(cwt.then_some((Format::Cwt, signed_cwt))));
        self.write(list, &files, iat);
    }

    /// Publishes the aggregation of the pool `demo`.
    pub(crate) fn aggregate(&self, lists: &[ListId]) {
        let aggregation = Aggregation { status_lists: lists.iter().map(|list| self.uri(*list)).collect() };
        self.site.write_aggregation(&"demo".parse().unwrap(), &aggregation.to_json()).unwrap();
    }
}
