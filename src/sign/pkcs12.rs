//! A private key and its certificates from a PKCS#12 key store (`.p12`, `.pfx`).

use p12_keystore::error::Error;
use p12_keystore::{Certificate, Pkcs12Archive, PrivateKeyBag};
use zeroize::Zeroizing;

use super::InvalidKey;

/// A key and all certificates of its store, in the store's order.
pub(super) struct Contents {
    /// The private key in PKCS#8.
    pub(super) pkcs8: Zeroizing<Vec<u8>>,
    certificates: Vec<Certificate>,
}

/// Opens `store` and returns its only key, or the one named `alias`.
pub(super) fn open(store: &[u8], password: &str, alias: Option<&str>) -> Result<Contents, InvalidKey> {
    let archive = Pkcs12Archive::from_pkcs12(store, password).map_err(|error| match error {
        Error::MacError(_) => InvalidKey::Password,
        error => InvalidKey::Pkcs12(error.to_string()),
    })?;
    let name = |key: &PrivateKeyBag| key.friendly_name.clone().unwrap_or_default();
    let aliases: Vec<_> = archive.keys.iter().map(name).collect();
    let mut fitting = archive.keys.into_iter().filter(|key| alias.is_none_or(|alias| name(key) == alias));
    let (Some(key), None) = (fitting.next(), fitting.next()) else {
        return Err(InvalidKey::Alias { aliases });
    };
    let certificates = archive.certs.into_iter().map(|bag| bag.cert).collect();
    Ok(Contents { pkcs8: Zeroizing::new(key.key.as_der().to_vec()), certificates })
}

impl Contents {
    /// The certificates from the one that `is_leaf` to the last below the root. Verifiers must know the root anyway.
    pub(super) fn chain(&self, is_leaf: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut chain: Vec<&Certificate> = Vec::new();
        let mut next = self.certificates.iter().find(|certificate| is_leaf(certificate.as_der()));
        while let Some(certificate) = next.filter(|certificate| !chain.contains(certificate)) {
            let is_root = certificate.issuer() == certificate.subject();
            if !is_root || chain.is_empty() {
                chain.push(certificate);
            }
            let issuer = certificate.issuer();
            next = self.certificates.iter().find(|above| !is_root && above.subject() == issuer);
        }
        chain.into_iter().map(|certificate| certificate.as_der().to_vec()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use crate::sign::key::tests::key_and_chain;
    use crate::sign::{Algorithm, InvalidKey, SigningKey, generate};

    /// A key store made by the system's openssl from this key and chain.
    fn store(folder: &Path, key: &str, chain: Option<&str>, arguments: &[&str]) -> Vec<u8> {
        for (name, content) in [("key.pem", Some(key)), ("chain.pem", chain)] {
            let mut file = std::fs::File::create(folder.join(name)).unwrap();
            std::io::Write::write_all(&mut file, content.unwrap_or_default().as_bytes()).unwrap();
        }
        let mut openssl = Command::new("openssl");
        openssl.current_dir(folder).args(["pkcs12", "-export", "-inkey", "key.pem", "-passout", "pass:tést"]);
        match chain {
            Some(_) => openssl.args(["-in", "chain.pem"]),
            None => openssl.arg("-nocerts"),
        };
        let made = openssl.args(arguments).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        made.stdout
    }

    #[test]
    fn stores_of_openssl_are_read_with_their_chain_leaf_first() {
        let folder = tempfile::tempdir().unwrap();
        let (key, chain) = key_and_chain();
        let expected = SigningKey::from_pem(&key, Some(&chain), None).unwrap();
        for arguments in [&["-name", "signer"][..], &["-legacy"], &["-keypbe", "NONE", "-certpbe", "NONE"]] {
            let store = store(folder.path(), &key, Some(&chain), arguments);
            let read = SigningKey::from_pkcs12(&store, "tést", None, None);
            let read = read.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            assert_eq!(read.kid(), expected.kid());
            assert_eq!(read.chain(), expected.chain_below_anchor(), "{arguments:?}: without the root");
            assert!(read.public_key().verify(b"x", &read.sign(b"x").unwrap()));
        }
    }

    #[test]
    fn keys_of_every_algorithm_are_read_without_certificates() {
        let folder = tempfile::tempdir().unwrap();
        for algorithm in Algorithm::ALL {
            let store = store(folder.path(), &generate(algorithm).unwrap(), None, &[]);
            let read = SigningKey::from_pkcs12(&store, "tést", None, Some("k")).unwrap();
            assert_eq!(read.public_key().algorithm(), algorithm);
            assert_eq!((read.kid(), read.chain().len()), ("k", 0));
        }
    }

    #[test]
    fn unusable_stores_are_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), &generate(Algorithm::Es256).unwrap(), None, &["-name", "signer"]);
        let refused = |bytes: &[u8], password: &str, alias: Option<&str>| {
            SigningKey::from_pkcs12(bytes, password, alias, None).unwrap_err()
        };
        assert!(matches!(refused(&store, "wrong", None), InvalidKey::Password));
        assert!(matches!(refused(b"no store", "tést", None), InvalidKey::Pkcs12(_)));
        let other = refused(&store, "tést", Some("other"));
        assert!(other.to_string().contains("\"signer\""), "{other}");
        assert!(SigningKey::from_pkcs12(&store, "tést", Some("signer"), None).is_ok());
    }
}
