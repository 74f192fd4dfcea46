//! OpenID4VC High Assurance Interoperability Profile 1.0, section 6.1: the key of a Status List Token comes in `x5c`.

use super::{Broken, Facts};
use crate::chain::is_self_signed;

pub(super) fn broken(token: &Facts<'_>) -> Vec<Broken> {
    let [leaf, above @ ..] = token.chain else {
        return vec![("H-01", "`x5c` is missing from the header".to_owned())];
    };
    let mut broken = Vec::new();
    if is_self_signed(leaf) {
        broken.push(("H-02", "the signer's certificate is self-signed".to_owned()));
    }
    if above.last().is_some_and(|last| is_self_signed(last)) {
        broken.push((
            "H-03",
            "the last certificate of `x5c` is self-signed: it is the trust anchor".to_owned(),
        ));
    }
    broken
}
