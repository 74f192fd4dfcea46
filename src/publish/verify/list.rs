//! The look at one list: all of its files against the store's record of it.

use super::fault::FaultKind;
use super::{Found, PoolToVerify};
use crate::base::clock::NumericDate;
use crate::bitstring::Credential;
use crate::publish::ours::{self, Token};
use crate::publish::pass::gate::{self, Expected};
use crate::sign::{Certificate, chain};
use crate::site::folder::Site;
use crate::site::layout::{File, ListFile};
use crate::status_list::{Claims, Format, ListId};
use crate::store::{Changes, ListRecord, Publication, Snapshot};

/// What the store says of a list, and when it was asked.
pub(super) struct Stored {
    pub(super) record: ListRecord,
    pub(super) snapshot: Snapshot,
    /// The changes that are not published yet, if a journal is kept.
    pub(super) changes: Option<Changes>,
    pub(super) now: NumericDate,
}

impl PoolToVerify {
    /// Looks at all files of a list. Returns how many there are. A list that was never published has none to compare.
    pub(super) fn look_at_list(&self, site: &Site, stored: &Stored, found: &mut Found) -> usize {
        let list = stored.record.id;
        let mut fault =
            |file, kind| found.fault(site, &File::List(list, file), Some(&self.shape.id), Some(list), kind);
        if stored.record.retired {
            if !site.has_mark_of_retirement(&list) {
                fault(ListFile::Gone, FaultKind::Missing);
            }
            return 1;
        }
        let Some(published) = stored.record.published else { return 0 };
        let files = match site.read(&list, self.formats) {
            Ok(files) => files,
            Err(error) => {
                fault(ListFile::Form(Format::Jwt), FaultKind::Io(error.to_string()));
                return 0;
            }
        };
        let mut claims: Vec<(Format, Claims)> = Vec::new();
        let mut amount = 0;
        for file in ListFile::OF_PUBLICATION {
            if !file.format().is_some_and(|format| self.formats.contains(format)) {
                continue;
            }
            let Some(bytes) = files.file(file) else {
                fault(file, FaultKind::Missing);
                continue;
            };
            amount += 1;
            if let ListFile::Form(format) = file
                && format.is_signed()
            {
                match self.look_at_token(format, bytes, &list, stored.now) {
                    Ok(token) => claims.push((format, token)),
                    Err(kind) => fault(file, kind),
                }
            }
        }
        for (format, claims) in &claims {
            for kind in self.disagreements(claims, published, stored) {
                fault(ListFile::Form(*format), kind);
            }
        }
        let Some((_, first)) = claims.first() else { return amount };
        for (format, _) in claims.iter().filter(|(_, other)| other != first) {
            fault(ListFile::Form(*format), FaultKind::FilesDiffer);
        }
        for file in ours::unsigned_files_that_differ(&files, first) {
            fault(file, FaultKind::FilesDiffer);
        }
        for (purpose, bytes) in ours::credentials(&files) {
            let same = |credential: &Credential| {
                ours::array_in(first).is_some_and(|array| credential.is_of(first, &array))
            };
            match self.look_at_credential(bytes, stored.now) {
                Ok(credential) if credential.purpose == purpose && same(&credential) => {}
                Ok(_) => fault(ListFile::Form(Format::Bitstring(purpose)), FaultKind::FilesDiffer),
                Err(kind) => fault(ListFile::Form(Format::Bitstring(purpose)), kind),
            }
        }
        amount
    }

    /// Reads a token as a verifier does who knows the keys of the settings and of `jwks.json`.
    fn look_at_token(
        &self,
        format: Format,
        bytes: &[u8],
        list: &ListId,
        now: NumericDate,
    ) -> Result<Claims, FaultKind> {
        let token = Token::decode(format, bytes)?;
        self.check_signature(&token)?;
        chain::check(token.certificates.as_deref().unwrap_or_default(), now)?;
        match token.breach(format, self.shape.capacity.entries(), self.profiles) {
            Some(breach) => Err(FaultKind::Profile(breach)),
            None => self.claims_of(token, list),
        }
    }

    /// Reads a status list credential as a verifier does who knows those keys.
    fn look_at_credential(&self, bytes: &[u8], now: NumericDate) -> Result<Credential, FaultKind> {
        let token = Token::decode_credential(bytes)?;
        self.check_signature(&token)?;
        chain::check(token.certificates.as_deref().unwrap_or_default(), now)?;
        Ok(token.claims)
    }

    /// Returns the `iat` of an earlier token. Once it has expired, the key that signed it may be forgotten, so its signature is not
    /// verified then.
    pub(super) fn look_at_archived(
        &self,
        format: Format,
        bytes: &[u8],
        list: &ListId,
        now: NumericDate,
    ) -> Result<NumericDate, FaultKind> {
        let token = Token::decode(format, bytes)?;
        if token.claims.exp.is_none_or(|exp| exp > now) {
            self.check_signature(&token)?;
        }
        self.claims_of(token, list).map(|claims| claims.iat)
    }

    fn check_signature<C>(&self, token: &Token<'_, C>) -> Result<(), FaultKind> {
        let known = self.keys.iter().find(|key| token.is_signed_by(key)).ok_or(FaultKind::Signature)?;
        match token.certificates.as_deref().ok_or(FaultKind::OtherChain)?.first() {
            Some(leaf) if Certificate::parse(leaf).map_or(true, |leaf| leaf.key != *known) => {
                Err(FaultKind::OtherChain)
            }
            _ => Ok(()),
        }
    }

    fn claims_of(&self, token: Token<'_>, list: &ListId) -> Result<Claims, FaultKind> {
        match token.claims {
            claims if claims.sub == self.base.join(list) => Ok(claims),
            claims => Err(FaultKind::Subject(claims.sub)),
        }
    }

    /// What of a good token is not as the store has it.
    fn disagreements(&self, claims: &Claims, published: Publication, stored: &Stored) -> Vec<FaultKind> {
        let (exp, now) = (claims.exp.unwrap_or(NumericDate::MAX), stored.now);
        let mut found = Vec::new();
        if exp <= now {
            found.push(FaultKind::Expired { exp, now });
        }
        let is_current = stored.snapshot.version == published.version;
        // A crash between the renaming and the settling leaves newer files of a list that is still pending.
        let is_ahead_of_store = !is_current && claims.iat > published.iat;
        if claims.iat != published.iat && !is_ahead_of_store {
            found.push(FaultKind::OtherPublication { found: claims.iat, published: published.iat });
        }
        let unchanged = Changes::default();
        let expected = Expected {
            uri: &claims.sub,
            capacity: self.shape.capacity,
            key: &self.keys[0],
            chain: &[],
            now,
            latest_iat: now,
            previous_iat: None,
            previous: Some(claims),
            previous_is_latest: true,
            profiles: self.profiles,
            final_status: self.shape.final_status,
            array: &stored.snapshot.array,
            changes: if is_current { Some(&unchanged) } else { stored.changes.as_ref() },
        };
        // As if the store's statuses were to be published over this token now.
        let explained = gate::array_of(claims, self.shape.capacity)
            .and_then(|_| gate::check_changes(&stored.snapshot.array, &expected));
        found.extend(explained.err().map(FaultKind::Statuses));
        found
    }
}

/// Why the store does not explain a file of a list that it knows; `None` if it does.
pub(super) fn unexplained(pool: &PoolToVerify, record: &ListRecord, file: ListFile) -> Option<FaultKind> {
    match (record.retired, file) {
        (true, ListFile::Gone) => None,
        (true, _) => Some(FaultKind::OfRetiredList),
        (false, ListFile::Gone) => Some(FaultKind::MarkOfLiveList),
        (false, file) => {
            let published = file.format().is_some_and(|format| pool.formats.contains(format));
            (!published).then_some(FaultKind::OtherFormat)
        }
    }
}
