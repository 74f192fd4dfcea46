//! A signing key in a hardware security module, used through PKCS#11: it signs inside and never leaves.
//!
//! A call may take milliseconds and must come from a blocking thread. Idle sessions are kept for later calls, so that
//! several threads can sign at once. After a failure all sessions are dropped and the call is retried; if that fails too,
//! the module is restarted for a last try.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use parking_lot::{Mutex, MutexGuard, RwLock};
use secrecy::{ExposeSecret, SecretString};

use super::{Algorithm, PublicKey};

/// Where a token's key is.
#[derive(Clone, Debug)]
pub struct HsmKey {
    /// The vendor's library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The label of the key pair.
    pub key: String,
    /// The PIN of the token.
    pub pin: SecretString,
}

/// A private key that makes signatures.
pub(super) struct Hsm {
    key: HsmKey,
    algorithm: Algorithm,
    idle: Mutex<Vec<Open>>,
}

/// A session in which the key was found.
struct Open {
    session: Session,
    private: ObjectHandle,
    /// The generation of the module that the session belongs to.
    generation: u64,
}

/// A module, loaded once for the whole process: ending it ends it for all keys.
struct Module {
    context: Pkcs11,
    /// How often it was restarted. Sessions from before a restart are gone, and others may have their numbers.
    generation: u64,
}

/// Read-locked while a module is in use, write-locked to restart one.
static MODULES: LazyLock<RwLock<HashMap<PathBuf, Module>>> = LazyLock::new(RwLock::default);

/// Module, token, and the hash of a PIN that the token refused. Tokens lock after a few tries, so none is tried twice.
type RefusedPin = (PathBuf, String, [u8; 32]);

static REFUSED: LazyLock<Mutex<HashSet<RefusedPin>>> = LazyLock::new(Mutex::default);

fn refused_pins() -> MutexGuard<'static, HashSet<RefusedPin>> {
    REFUSED.lock()
}

fn pin_of(key: &HsmKey) -> RefusedPin {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, key.pin.expose_secret().as_bytes()).as_ref());
    (key.module.clone(), key.token.clone(), hash)
}

fn pin_is_refused(key: &HsmKey) -> bool {
    refused_pins().contains(&pin_of(key))
}

impl Hsm {
    /// Finds the key and makes it sign, so that an unusable key is noticed now.
    pub(super) fn open(key: HsmKey) -> Result<(Self, PublicKey), String> {
        let (open, public) = in_module(&key, |module| {
            let open = Open::new(&key, module)?;
            let public = open.public_key(&key)?;
            Ok((open, public))
        })?;
        let hsm = Self { key, algorithm: public.algorithm(), idle: Mutex::new(vec![open]) };
        let probe = b"statuslist";
        match public.verify(probe, &hsm.sign(probe)?) {
            true => Ok((hsm, public)),
            false => Err(format!("the public key `{}` does not belong to the private key", hsm.key.key)),
        }
    }

    /// The raw signature over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let sign = || {
            in_module(&self.key, |module| {
                // Taken out first, because the list must not stay locked while the token works.
                let idle = self.idle().pop();
                if let Some(open) = idle.and_then(|open| open.still_of(module))
                    && let Ok(signature) = self.sign_in(open, message)
                {
                    return Ok(signature);
                }
                // The token may have been away: no open session is usable now.
                let stale = std::mem::take(&mut *self.idle());
                drop(stale.into_iter().filter_map(|open| open.still_of(module)).collect::<Vec<_>>());
                let open = Open::new(&self.key, module)?;
                self.sign_in(open, message).map_err(|error| format!("the token cannot sign: {error}"))
            })
        };
        // Some modules look for tokens only when they start.
        sign().or_else(|error| match pin_is_refused(&self.key) {
            true => Err(error),
            false => restart(&self.key).and_then(|()| sign()),
        })
    }

    fn sign_in(&self, open: Open, message: &[u8]) -> Result<Vec<u8>, Error> {
        let digest = |algorithm| digest::digest(algorithm, message);
        let signature = match self.algorithm {
            Algorithm::Es256 => {
                open.session.sign(&Mechanism::Ecdsa, open.private, digest(&digest::SHA256).as_ref())
            }
            Algorithm::Es384 => {
                open.session.sign(&Mechanism::Ecdsa, open.private, digest(&digest::SHA384).as_ref())
            }
            Algorithm::Es512 => {
                open.session.sign(&Mechanism::Ecdsa, open.private, digest(&digest::SHA512).as_ref())
            }
            Algorithm::EdDsa => {
                let pure = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
                open.session.sign(&pure, open.private, message)
            }
        }?;
        self.idle().push(open);
        Ok(signature)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Open>> {
        self.idle.lock()
    }
}

impl fmt::Debug for Hsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hsm({}, {})", self.key.token, self.key.key)
    }
}

impl Open {
    /// Returns itself if `module` was not restarted since. Otherwise it must not even be closed: a later session may have
    /// its number.
    fn still_of(self, module: &Module) -> Option<Self> {
        if self.generation == module.generation {
            return Some(self);
        }
        std::mem::forget(self.session);
        None
    }

    fn new(key: &HsmKey, module: &Module) -> Result<Self, String> {
        let context = &module.context;
        let failed = |what: &str, error: Error| format!("{what} token `{}`: {error}", key.token);
        let slots = context.get_slots_with_initialized_token();
        let slots = slots.map_err(|error| failed("cannot list slots to find", error))?;
        let label = |slot| context.get_token_info(slot).map(|info| info.label().trim_end().to_owned()).ok();
        let slot = slots.into_iter().find(|slot| label(*slot).as_deref() == Some(&key.token));
        let slot = slot.ok_or_else(|| format!("there is no token `{}` in any slot", key.token))?;
        let session =
            context.open_ro_session(slot).map_err(|error| failed("cannot open a session with", error))?;
        if pin_is_refused(key) {
            return Err(format!(
                "the PIN of the token `{}` was refused before; set another one, or restart the service: further tries could lock it",
                key.token
            ));
        }
        match session.login(UserType::User, Some(&AuthPin::new(key.pin.expose_secret().into()))) {
            // A login is valid for all sessions of this process.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => {
                if let Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLocked, _) =
                    &error
                {
                    refused_pins().insert(pin_of(key));
                }
                return Err(failed("cannot log in to", error));
            }
        }
        let private = find(&session, ObjectClass::PRIVATE_KEY, key)?;
        Ok(Self { session, private, generation: module.generation })
    }

    fn public_key(&self, key: &HsmKey) -> Result<PublicKey, String> {
        let public = find(&self.session, ObjectClass::PUBLIC_KEY, key)?;
        let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
        let attributes = self.session.get_attributes(public, &wanted).map_err(|error| error.to_string())?;
        let (mut curve, mut point) = (Vec::new(), Vec::new());
        for attribute in attributes {
            match attribute {
                Attribute::EcParams(value) => curve = value,
                Attribute::EcPoint(value) => point = value,
                _ => {}
            }
        }
        public_key(&curve, &point)
            .ok_or_else(|| format!("the key `{}` is not on P-256, P-384, P-521 or Ed25519", key.key))
    }
}

/// Runs `work` in the module of `key`, which is not restarted meanwhile. Loads the module if necessary.
fn in_module<T>(key: &HsmKey, work: impl FnOnce(&Module) -> Result<T, String>) -> Result<T, String> {
    let modules = MODULES.read();
    if let Some(module) = modules.get(&key.module) {
        return work(module);
    }
    drop(modules);
    let mut modules = MODULES.write();
    let module = match modules.entry(key.module.clone()) {
        Entry::Occupied(loaded) => loaded.into_mut(),
        Entry::Vacant(place) => place.insert(Module { context: start(key)?, generation: 0 }),
    };
    work(module)
}

fn start(key: &HsmKey) -> Result<Pkcs11, String> {
    let failed = |error: Error| format!("cannot use the PKCS#11 module {}: {error}", key.module.display());
    let context = Pkcs11::new(&key.module).map_err(failed)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(context),
        Err(error) => Err(failed(error)),
    }
}

/// Ends the module and starts it again. Its other keys notice that and open new sessions.
fn restart(key: &HsmKey) -> Result<(), String> {
    let mut modules = MODULES.write();
    let Some(module) = modules.get_mut(&key.module) else { return Ok(()) };
    tracing::warn!(module = %key.module.display(), "restarting the PKCS#11 module, because signing failed");
    // Its result is not needed: the next call shows whether the module works.
    let _ = module.context.clone().finalize();
    module.generation += 1;
    module.context = start(key)?;
    Ok(())
}

fn find(session: &Session, class: ObjectClass, key: &HsmKey) -> Result<ObjectHandle, String> {
    let wanted = [Attribute::Class(class), Attribute::Label(key.key.as_bytes().to_vec())];
    let found = session.find_objects(&wanted).map_err(|error| format!("cannot look for the key: {error}"))?;
    match found.as_slice() {
        [one] => Ok(*one),
        others => Err(format!(
            "token `{}` has {} objects {class} labelled `{}`, not one",
            key.token,
            others.len(),
            key.key
        )),
    }
}

/// The public key with these CKA_EC_PARAMS and CKA_EC_POINT.
fn public_key(curve: &[u8], point: &[u8]) -> Option<PublicKey> {
    const P_256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const P_384: &[u8] = &[0x06, 5, 0x2b, 0x81, 4, 0, 0x22];
    const P_521: &[u8] = &[0x06, 5, 0x2b, 0x81, 4, 0, 0x23];
    const ED25519: &[u8] = &[0x06, 3, 0x2b, 0x65, 0x70];
    const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";
    let algorithm = match curve {
        P_256 => Algorithm::Es256,
        P_384 => Algorithm::Es384,
        P_521 => Algorithm::Es512,
        ED25519 | ED25519_NAME => Algorithm::EdDsa,
        _ => return None,
    };
    let length = algorithm.key_bytes();
    // An OCTET STRING by the standard, the bare point in some modules. The length of P-521's takes two bytes.
    let bare = match point {
        [4, rest_length, rest @ ..] | [4, 0x81, rest_length, rest @ ..]
            if usize::from(*rest_length) == length && rest.len() == length =>
        {
            rest
        }
        bare => bare,
    };
    (bare.len() == length).then(|| PublicKey::new(algorithm, bare.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_in_both_forms_and_other_curves_are_refused() {
        let p_256 = [0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        let point = [&[4][..], &[7; 64]].concat();
        let wrapped = [&[4, 65][..], &point].concat();
        let read = public_key(&p_256, &point).unwrap();
        assert_eq!(read.algorithm(), Algorithm::Es256);
        assert_eq!(public_key(&p_256, &wrapped), Some(read));
        let p_521 = [0x06, 5, 0x2b, 0x81, 4, 0, 0x23];
        let point_521 = [&[4][..], &[7; 132]].concat();
        let read = public_key(&p_521, &point_521).unwrap();
        assert_eq!(read.algorithm(), Algorithm::Es512);
        assert_eq!(public_key(&p_521, &[&[4, 0x81, 133][..], &point_521].concat()), Some(read));
        let secp256k1 = [0x06, 5, 0x2b, 0x81, 4, 0, 0x0a];
        assert_eq!(public_key(&secp256k1, &point), None);
        assert_eq!(public_key(&p_256, &point[1..]), None);
    }

    #[test]
    fn errors_name_a_missing_module_and_never_the_pin() {
        let (token, key) = ("t".to_owned(), "k".to_owned());
        let key = HsmKey { module: "/none.so".into(), token, key, pin: "hidden".to_owned().into() };
        assert!(!format!("{key:?}").contains("hidden"));
        let Err(error) = Hsm::open(key) else { panic!("opened") };
        assert!(error.contains("/none.so") && !error.contains("hidden"), "{error}");
    }
}
