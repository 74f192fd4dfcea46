//! The content of a list's token: makes claims of a snapshot and a time. Pure.

use std::sync::Arc;

use crate::base::clock::NumericDate;
use crate::config::{Lifetimes, PoolLive};
use crate::model::pool::PoolShape;
use crate::site::layout::aggregation_path;
use crate::status_list::{BaseUri, Bits, Claims};

/// What all tokens of a pool have in common.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// `iss`.
    pub(super) issuer: Option<String>,
    /// `status_list.bits`.
    pub(super) bits: Bits,
    /// `exp` and `ttl`.
    pub(super) lifetimes: Lifetimes,
    /// `status_list.aggregation_uri`.
    pub(super) aggregation_uri: Option<String>,
}

impl Template {
    pub(super) fn of(shape: &PoolShape, aggregation: bool, live: &PoolLive, base: &BaseUri) -> Self {
        let aggregation = aggregation.then(|| aggregation_path(&shape.id));
        Self {
            issuer: live.issuer.clone(),
            bits: shape.capacity.bits(),
            lifetimes: live.lifetimes,
            aggregation_uri: aggregation.map(|path| base.join_path(&path)),
        }
    }

    /// Returns the claims of the list `uri`, whose compressed array is `lst`, signed at `iat`.
    pub(super) fn claims(&self, uri: String, lst: Arc<[u8]>, iat: NumericDate) -> Claims {
        Claims {
            sub: uri,
            iss: self.issuer.clone(),
            iat,
            nbf: None,
            exp: Some(iat.plus(self.lifetimes.list_lifetime)),
            ttl: Some(self.lifetimes.ttl),
            bits: self.bits,
            lst,
            aggregation_uri: self.aggregation_uri.clone(),
        }
    }
}
