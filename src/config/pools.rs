//! One status list pool: its shape, its times, and how its references and tokens are made.

use std::time::Duration;

use super::profile::RawProfiles;
use super::public_url;
use super::raw::{RawOnUnderflow, RawPool, RawQuotas};
use super::signer::SignerConfig;
use super::{ConfigError, api_keys, formats, show_duration};
use crate::model::api_key::ApiKey;
use crate::model::pool::PoolShape;
use crate::sign::profile::{ENTRIES_MIN, MAINTAINED_DAYS_MIN, Profile, Profiles};
use crate::status_list::{BaseUri, Bits, Capacity, Formats, Status, StatusSet};

/// A list with fewer entries hides no holder ("Herd Privacy").
const HERD_MIN: u32 = 1000;
const PREFETCH_CAPACITY_DEFAULT: u32 = 1000;
/// The most lists kept open, and the most kept ready, at a time.
const LISTS_MAX: usize = 1000;
/// The longest time from a beat to its publication: tokens must outlive the next one. Includes one second, because `iat`
/// counts whole seconds.
const BEAT_MARGIN: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

/// The settings of one pool, grouped by when they can change.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// What its lists look like. Can never change: the store refuses another shape at the start.
    pub shape: PoolShape,
    /// What needs a restart to change.
    pub start: PoolStart,
    /// What can change while the service runs.
    pub live: PoolLive,
    /// The keys for writing; can change while the service runs. Empty only for the built-in pool before its first start.
    pub api_keys: Vec<ApiKey>,
    /// The signing key; can change while the service runs.
    pub signer: SignerConfig,
    /// Whether it was made while a service ran, of a template.
    pub registered: bool,
}

/// The settings of a pool that do not change while the service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStart {
    /// The profiles that its tokens and its signer follow.
    pub profiles: Profiles,
    /// The formats of a publication.
    pub formats: Formats,
    /// Whether an aggregation names the lists.
    pub aggregation: bool,
    /// How often the service checks that enough lists are ready.
    pub check_delay: Duration,
    /// Whether to refuse updates of entries that were never handed out.
    pub reject_unallocated: bool,
    /// How long to keep replaced tokens for `?time=`; `None` keeps none.
    pub history: Option<Duration>,
}

/// The settings of a pool that can change while the service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLive {
    /// The tokens' `iss`.
    pub issuer: Option<String>,
    /// Open lists: how many are used for references at the same time.
    pub open_lists: usize,
    /// How many published, unused lists to keep ready.
    pub ready_lists: usize,
    /// The buffer of references.
    pub prefetch: Prefetch,
    /// The beat: how long an acknowledged update may wait for its publication.
    pub update_interval: Duration,
    /// The tokens' times.
    pub lifetimes: Lifetimes,
    /// The longest validity of a credential, from the allocation of its reference on, if known.
    pub reference_lifetime: Option<Duration>,
    /// The most that its callers can make it store and sign.
    pub quotas: Quotas,
    /// Whether it hands out no references.
    pub closed: bool,
    /// Whether a public file keeps how its counts develop.
    pub statistics: bool,
}

/// The most that the callers of a pool can make it store and sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Lists that are not retired.
    pub lists: u64,
    /// References that each instance hands out in a day (UTC); `None`: no limit.
    pub references_per_day: Option<u32>,
    /// The same to each caller.
    pub references_per_key_per_day: Option<u32>,
}

impl Quotas {
    fn check(raw: &RawQuotas) -> Result<Self, Refusal> {
        let quotas = [
            ("quotas.lists", Some(raw.lists)),
            ("quotas.references-per-day", raw.references_per_day.map(u64::from)),
            ("quotas.references-per-key-per-day", raw.references_per_key_per_day.map(u64::from)),
        ];
        if let Some((setting, _)) = quotas.into_iter().find(|(_, quota)| *quota == Some(0)) {
            return Err((setting, "must be at least 1".to_owned()));
        }
        Ok(Self {
            lists: raw.lists,
            references_per_day: raw.references_per_day,
            references_per_key_per_day: raw.references_per_key_per_day,
        })
    }
}

/// The buffer of references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Refill if fewer than this are left.
    pub threshold: u32,
    /// Refill to this many.
    pub capacity: u32,
    /// What happens to a request that finds too few references.
    pub on_underflow: OnUnderflow,
}

/// What happens to a request for references that finds too few in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnderflow {
    /// It waits, up to the request timeout.
    Delay,
    /// It is refused with status 429.
    Fail,
}

/// The times of a token. Invariant: a copy fetched at any moment and kept for `ttl` never outlives the token's `exp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// `exp - iat`.
    pub list_lifetime: Duration,
    /// `ttl`.
    pub ttl: Duration,
    /// The age at which an unchanged list is signed again.
    pub resign_after: Duration,
}

impl PoolConfig {
    /// Checks the pool `name` of the section `section`.
    pub(super) fn check(
        section: &str,
        name: &str,
        public_url: &BaseUri,
        mut raw: RawPool,
        keyless_allowed: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let key = |setting: &str| format!("{section}.{name}.{setting}");
        let refuse = |setting: &str, why: &dyn ToString| ConfigError::at(key(setting), why.to_string());

        let id = name.parse().map_err(|why| ConfigError::at(section, format!("{why}")))?;
        let bits = Bits::try_from(raw.bits).map_err(|why| refuse("bits", &why))?;
        let capacity = Capacity::new(raw.size, bits).map_err(|why| refuse("size", &why))?;
        if capacity.entries() < HERD_MIN {
            warnings.push(format!(
                "{} is {}: so few entries hide no holder; use at least {HERD_MIN}",
                key("size"),
                capacity.entries()
            ));
        }
        let statuses = StatusSet::new(bits, &raw.application_statuses)
            .map_err(|why| refuse("application-statuses", &why))?;
        let default_status =
            statuses.check(raw.default_status).map_err(|why| refuse("default-status", &why))?;
        let final_status = raw
            .final_status
            .map(|value| statuses.check(value))
            .transpose()
            .map_err(|why| refuse("final-status", &why))?;

        if final_status == Some(default_status) {
            let why = format!(
                "final-status and default-status are both {}: no entry could be updated",
                default_status.value()
            );
            return Err(refuse("final-status", &why));
        }
        let given = formats::Given {
            formats: &raw.formats,
            bits,
            issuer: raw.issuer.as_deref(),
            application_statuses: &raw.application_statuses,
            final_status,
        };
        let formats = formats::check(&given).map_err(|(setting, why)| refuse(setting, &why))?;
        warnings.extend(formats::warning(&given).map(|why| format!("{} {why}", key("final-status"))));
        if !(1..=LISTS_MAX).contains(&raw.open_lists) {
            return Err(refuse("open-lists", &format!("must be at least 1 and at most {LISTS_MAX}")));
        }
        if raw.precreation.lists > LISTS_MAX {
            return Err(refuse("precreation.lists", &format!("must be at most {LISTS_MAX}")));
        }
        if raw.precreation.check_delay.0 < Duration::from_millis(100) {
            return Err(refuse("precreation.check-delay", &"must be at least 100ms"));
        }
        let lifetimes = Lifetimes::check(&raw).map_err(|(setting, why)| refuse(setting, &why))?;
        if lifetimes.ttl < raw.update_interval.0 && raw.ttl.is_some() {
            warnings.push(format!(
                "{} is below update-interval: verifiers fetch more often than lists change",
                key("ttl")
            ));
        }
        let given = (raw.api_key.take(), std::mem::take(&mut raw.api_keys));
        let api_keys = api_keys::check(given, &key, keyless_allowed, warnings)?;
        let quotas = Quotas::check(&raw.quotas).map_err(|(setting, why)| refuse(setting, &why))?;
        let prefetch = Prefetch::check(&raw, capacity).map_err(|(setting, why)| refuse(setting, &why))?;
        let public_url = match &raw.public_url {
            Some(own) => public_url::check(&key("public-url"), own, warnings)?,
            None => public_url.clone(),
        };
        let pool = Self {
            shape: PoolShape { id, public_url, capacity, default_status, final_status, statuses },
            start: PoolStart {
                profiles: RawProfiles::set(raw.profile),
                formats,
                aggregation: raw.aggregation,
                check_delay: raw.precreation.check_delay.0,
                reject_unallocated: raw.reject_unallocated,
                history: raw.history.map(|history| history.retention.0),
            },
            live: PoolLive {
                issuer: raw.issuer,
                open_lists: raw.open_lists,
                ready_lists: raw.precreation.lists,
                prefetch,
                update_interval: raw.update_interval.0,
                lifetimes,
                reference_lifetime: raw.reference_lifetime.map(|lifetime| lifetime.0),
                quotas,
                closed: false,
                // `explorer` names the pools that do.
                statistics: false,
            },
            api_keys,
            signer: SignerConfig::check(raw.signer).map_err(|why| refuse("signer", &why))?,
            registered: false,
        };
        pool.check_profiles().map_err(|(setting, why)| refuse(setting, &why))?;
        warnings.extend(pool.short_maintenance().map(|why| format!("{} {why}", key("reference-lifetime"))));
        Ok(pool)
    }

    /// Refuses the first setting that breaks a profile of the pool. The other rules are about keys, which nobody has read yet.
    fn check_profiles(&self) -> Result<(), Refusal> {
        let profiles = self.start.profiles;
        for (profile, format) in profiles.iter().filter_map(|profile| Some((profile, profile.format()?))) {
            if !self.start.formats.contains(format) {
                return Err(("formats", format!("must name {format}, which the profile {profile} is about")));
            }
            if self.signer.key.is_none() {
                let why = format!("must name a key and its certificates, for the profile {profile}");
                return Err(("signer", why));
            }
        }
        if profiles.contains(Profile::Mdoc) && self.shape.capacity.bits() != Bits::One {
            return Err(("bits", "must be 1 (rule M-04 of the profile mdoc)".to_owned()));
        }
        if !profiles.contains(Profile::Eudi) {
            return Ok(());
        }
        if self.shape.capacity.entries() < ENTRIES_MIN {
            return Err(("size", format!("must be at least {ENTRIES_MIN} (rule E-02 of the profile eudi)")));
        }
        if self.shape.final_status != Some(Status::INVALID) {
            let why = "must be 1: a revocation is never reversed (rule E-03 of the profile eudi)";
            return Err(("final-status", why.to_owned()));
        }
        Ok(())
    }

    /// Why a Wallet Provider's statuses would be maintained for too short a time, if so.
    fn short_maintenance(&self) -> Option<String> {
        let least = Duration::from_secs(MAINTAINED_DAYS_MIN * 86_400);
        let is_short = self.live.reference_lifetime.is_none_or(|lifetime| lifetime < least);
        (is_short && self.start.profiles.contains(Profile::Eudi)).then(|| {
            format!(
                "should be at least {} for a Wallet Provider: answers say until when a status is maintained (rule E-04 of the \
                 profile eudi)",
                show_duration(least)
            )
        })
    }
}

type Refusal = (&'static str, String);

impl Prefetch {
    fn check(raw: &RawPool, list: Capacity) -> Result<Self, Refusal> {
        let capacity = raw.prefetch.capacity.unwrap_or(PREFETCH_CAPACITY_DEFAULT.min(list.entries()));
        let threshold = raw.prefetch.threshold.unwrap_or(capacity.div_ceil(5));
        if capacity == 0 || threshold == 0 {
            return Err((
                "prefetch",
                "prefetch.capacity and prefetch.threshold must be at least 1".to_owned(),
            ));
        }
        if capacity > list.entries() {
            let why = format!(
                "prefetch.capacity ({capacity}) must not be above size ({}); lower the first or raise the second",
                list.entries()
            );
            return Err(("prefetch.capacity", why));
        }
        if threshold > capacity {
            let why = format!(
                "prefetch.threshold ({threshold}) must not be above prefetch.capacity ({capacity}); lower the first or raise the second"
            );
            return Err(("prefetch.threshold", why));
        }
        let on_underflow = match raw.prefetch.on_underflow {
            RawOnUnderflow::Delay => OnUnderflow::Delay,
            RawOnUnderflow::Fail => OnUnderflow::Fail,
        };
        Ok(Self { threshold, capacity, on_underflow })
    }
}

impl Lifetimes {
    fn check(raw: &RawPool) -> Result<Self, Refusal> {
        let (beat, lifetime) = (raw.update_interval.0, raw.list_lifetime.0);
        if beat < SECOND {
            return Err((
                "update-interval",
                format!("must be at least 1s (`iat` counts seconds), got {}", show_duration(beat)),
            ));
        }
        if lifetime < beat + BEAT_MARGIN {
            let why = format!(
                "list-lifetime ({}) must be longer than update-interval ({}) by at least {}, or tokens expire before they can be renewed",
                show_duration(lifetime),
                show_duration(beat),
                show_duration(BEAT_MARGIN)
            );
            return Err(("list-lifetime", why));
        }
        let resign_after =
            raw.resign_after.map_or(Duration::from_secs(lifetime.as_secs() / 2), |setting| setting.0);
        // Renewal happens only at beats.
        let age_max = resign_after.max(beat);
        let ttl_max = lifetime.checked_sub(age_max).filter(|rest| *rest >= SECOND).ok_or_else(|| {
            let why = format!(
                "resign-after ({}) must be shorter than list-lifetime ({}) by at least 1s",
                show_duration(resign_after),
                show_duration(lifetime)
            );
            ("resign-after", why)
        })?;
        let ttl = match raw.ttl.map(|setting| setting.0) {
            None => beat.min(ttl_max),
            Some(ttl) if ttl < SECOND => {
                return Err(("ttl", format!("must be at least 1s, got {}", show_duration(ttl))));
            }
            Some(ttl) if ttl > ttl_max => {
                let why = format!(
                    "ttl ({}) must not be above list-lifetime ({}) - resign-after ({}; at least a beat), or a copy outlives its token; lower the first, or raise the second",
                    show_duration(ttl),
                    show_duration(lifetime),
                    show_duration(resign_after)
                );
                return Err(("ttl", why));
            }
            Some(ttl) => ttl,
        };
        let whole = |duration: Duration| Duration::from_secs(duration.as_secs());
        Ok(Self { list_lifetime: whole(lifetime), ttl: whole(ttl), resign_after: whole(resign_after) })
    }
}
