//! Rehearses a publication, to measure its CPU time: the same steps by the same functions, but without the store and the files.
//! For planning; no real publication uses it.

use std::sync::Arc;

use super::pass::gate::{self, Expected};
use super::{PublishError, ours};
use crate::sign::KeyRing;
use crate::sign::profile::Profiles;
use crate::site::folder::TokenFiles;
use crate::status_list::{Claims, Format, StatusArray, lst};

/// Returns the JWT and its gzip form that would replace `published`, with these `claims` and `array` as the `lst`. Compresses
/// the array if it has `changed`; otherwise reuses the `lst` of the previous token.
pub fn rehearse(
    keys: &KeyRing,
    array: &StatusArray,
    claims: &Claims,
    published: TokenFiles,
    changed: bool,
) -> Result<(TokenFiles, Claims), PublishError> {
    let previous = ours::newest(&published, keys, &claims.sub);
    let lst = match &previous {
        Some(previous) if !changed => Arc::clone(&previous.lst),
        _ => lst::compress(array.as_bytes()).into(),
    };
    let claims = Claims { lst, ..claims.clone() };
    let signer = keys.signer();
    let files = TokenFiles::new([(Format::Jwt, signer.sign_jwt(&claims)?.into_bytes())]);
    let expected = Expected {
        uri: &claims.sub,
        capacity: array.capacity(),
        key: signer.public_key(),
        chain: signer.chain_in_header(),
        now: claims.iat,
        latest_iat: claims.iat,
        previous_iat: previous.as_ref().map(|previous| previous.iat),
        previous: previous.as_ref(),
        previous_is_latest: true,
        profiles: Profiles::default(),
        final_status: None,
        array,
        changes: None,
    };
    gate::check(&files, &expected)?;
    Ok((files, claims))
}
