//! `profile` of a pool: its forms in the settings, and the defaults that it sets. Leaves the settings that break it to `pools.rs`, and
//! keys and certificates to `keys/`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::sign::profile::{Profile, Profiles};
use crate::status_list::Status;

/// One profile or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "haip, mdoc or eudi, or a list of them")]
pub(super) enum RawProfiles {
    One(Profile),
    Several(Vec<Profile>),
}

impl RawProfiles {
    pub(super) fn set(raw: Option<Self>) -> Profiles {
        match raw {
            None => Profiles::default(),
            Some(Self::One(profile)) => [profile].into_iter().collect(),
            Some(Self::Several(profiles)) => profiles.into_iter().collect(),
        }
    }
}

/// The defaults that the `profile` of a pool as given sets. One that cannot be read sets none, and is refused later.
pub(super) fn defaults(given: &Value) -> Value {
    let raw = given.get("profile").and_then(|profile| serde_json::from_value(profile.clone()).ok());
    let profiles = RawProfiles::set(raw);
    let mut defaults = Map::new();
    let formats: Vec<_> = profiles.iter().filter_map(Profile::format).map(|format| format.name()).collect();
    if !formats.is_empty() {
        defaults.insert("formats".to_owned(), json!(formats));
    }
    if profiles.contains(Profile::Eudi) {
        defaults.insert("final-status".to_owned(), json!(Status::INVALID.value()));
    }
    Value::Object(defaults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, PoolConfig};
    use crate::status_list::Format;

    fn pool(settings: &str) -> Result<(PoolConfig, Vec<String>), String> {
        let signer = match settings.contains("signer") {
            true => "",
            false => ", signer: { pem: { key: key.pem, chain: chain.pem } }",
        };
        let file = format!("status-list-pools: {{ a: {{ api-key: x, {settings}{signer} }} }}");
        let config = Config::load(Some(&file), std::iter::empty()).map_err(|error| error.to_string())?;
        Ok((config.pools.into_values().next().unwrap(), config.warnings))
    }

    #[test]
    fn a_profile_sets_the_defaults_of_what_it_demands() {
        for (profile, formats, final_status) in [
            ("null", &[Format::Jwt][..], None),
            ("haip", &[Format::Jwt], None),
            ("mdoc", &[Format::Cwt], None),
            ("[mdoc, haip]", &[Format::Jwt, Format::Cwt], None),
            ("eudi", &[Format::Jwt], Some(Status::INVALID)),
            ("[eudi, mdoc]", &[Format::Cwt], Some(Status::INVALID)),
            ("mdoc, formats: [jwt, cwt]", &[Format::Jwt, Format::Cwt], None),
        ] {
            let (pool, _) = pool(&format!("profile: {profile}")).unwrap();
            assert_eq!(pool.start.formats.iter().collect::<Vec<_>>(), formats, "{profile}");
            assert_eq!(pool.shape.final_status, final_status, "{profile}");
        }
    }

    #[test]
    fn settings_that_break_a_profile_are_refused_by_name() {
        for (settings, setting, why) in [
            ("profile: other", "profile", "haip, mdoc or eudi"),
            ("profile: haip, formats: [cwt]", "formats", "jwt"),
            ("profile: mdoc, formats: [jwt]", "formats", "cwt"),
            ("profile: mdoc, bits: 2", "bits", "M-04"),
            ("profile: haip, signer: { pem: null }", "signer", "certificates"),
            ("profile: eudi, size: 9992", "size", "E-02"),
            ("profile: eudi, final-status: null", "final-status", "E-03"),
            ("profile: eudi, bits: 2, final-status: 2", "final-status", "E-03"),
        ] {
            let error = pool(settings).unwrap_err();
            let expected = format!("status-list-pools.a.{setting}: ");
            assert!(error.starts_with(&expected) && error.contains(why), "{settings}: {error}");
        }
        assert!(pool("profile: eudi, size: 10000").is_ok(), "the control");
    }

    #[test]
    fn a_status_that_is_maintained_for_less_than_31_days_is_warned_about() {
        let warned = |settings: &str| {
            let (_, warnings) = pool(settings).unwrap();
            warnings.iter().any(|warning| warning.contains("reference-lifetime") && warning.contains("E-04"))
        };
        assert!(warned("profile: eudi") && warned("profile: eudi, reference-lifetime: 30d"));
        assert!(!warned("profile: eudi, reference-lifetime: 31d") && !warned("profile: haip"));
    }
}
