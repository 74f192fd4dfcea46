//! The table of tokens in `tests/vectors/verifier/`, shared with the page's tests: both verifiers give the same answer to
//! each case.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ciborium::Value as Cbor;
use serde_json::{Map, Value, json};

use super::{Check, Format, NotValid, Outcome, Trust, judge};
use crate::base::clock::NumericDate;
use crate::status_list::vectors::hex;

const TABLE: &str = include_str!("../../../tests/vectors/verifier/cases.json");

struct Table(Value);

impl Table {
    fn jwks(&self, case: &Value) -> String {
        if let Some(text) = case["jwks_text"].as_str() {
            return text.to_owned();
        }
        let entries = case.get("jwks").unwrap_or(&self.0["jwks"]).as_array().unwrap();
        let keys: Vec<Value> = entries.iter().map(|entry| self.jwk(entry)).collect();
        json!({ "keys": keys }).to_string()
    }

    fn jwk(&self, entry: &Value) -> Value {
        let Some(name) = entry.get("$key").and_then(Value::as_str) else { return entry.clone() };
        let mut jwk = self.0["keys"][name]["jwk"].as_object().unwrap().clone();
        jwk.extend(entry.as_object().unwrap().clone().into_iter().filter(|(member, _)| member != "$key"));
        Value::Object(jwk)
    }

    /// The members of one part of the case's token, including repeated ones.
    fn members(&self, case: &Value, part: &str) -> Vec<(String, String)> {
        let mut members: Map<String, Value> =
            self.0[case["format"].as_str().unwrap()][part].as_object().unwrap().clone();
        members.extend(case[part].as_object().cloned().unwrap_or_default());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut members: Vec<_> = members.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        members.retain(|(_, value)| !value.is_empty());
        for extra in case[format!("{part}_extra")].as_array().into_iter().flatten() {
            members.push((text(&extra[0]), text(&extra[1])));
        }
        members
    }

    fn json(&self, case: &Value, part: &str) -> Vec<u8> {
        if let Some(bytes) = case[format!("{part}_hex")].as_str() {
            return hex(bytes);
        }
        if let Some(text) = case[format!("{part}_text")].as_str() {
            return text.into();
        }
        let members = self.members(case, part);
        let members: Vec<_> = members.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    }

    fn cbor(&self, case: &Value, part: &str) -> Vec<u8> {
        if let Some(text) = case[format!("{part}_text")].as_str() {
            return hex(text);
        }
        let members = self.members(case, part);
        let mut map = vec![0xA0 | u8::try_from(members.len()).unwrap()];
        members.iter().for_each(|(key, value)| map.extend([hex(key), hex(value)].concat()));
        map
    }

    fn token(&self, case: &Value) -> (Format, Vec<u8>) {
        if case["format"] == "jwt" {
            let parts = ["header", "payload"].map(|part| URL_SAFE_NO_PAD.encode(self.json(case, part)));
            let input = parts.join(".");
            let signature = URL_SAFE_NO_PAD.encode(self.sign(case, input.as_bytes()));
            return (Format::Jwt, format!("{input}.{signature}").into_bytes());
        }
        let [protected, payload] = ["header", "payload"].map(|part| Cbor::Bytes(self.cbor(case, part)));
        let bytes = |value: &Cbor| {
            let mut bytes = Vec::new();
            ciborium::into_writer(value, &mut bytes).unwrap();
            bytes
        };
        let context = vec!["Signature1".into(), protected.clone(), Cbor::Bytes(vec![]), payload.clone()];
        let signature = Cbor::Bytes(self.sign(case, &bytes(&Cbor::Array(context))));
        let tag = hex(case["tag"].as_str().unwrap_or("d2"));
        let unprotected = self.cbor(case, "unprotected");
        let token =
            [tag, vec![0x84], bytes(&protected), unprotected, bytes(&payload), bytes(&signature)].concat();
        (Format::Cwt, token)
    }

    fn sign(&self, case: &Value, message: &[u8]) -> Vec<u8> {
        let name = case["key"].as_str().unwrap_or("p256");
        let pkcs8 = STANDARD.decode(self.0["keys"][name]["pkcs8"].as_str().unwrap()).unwrap();
        let random = SystemRandom::new();
        let ecdsa = |kind| {
            let key = EcdsaKeyPair::from_pkcs8(kind, &pkcs8).unwrap();
            key.sign(&random, message).unwrap().as_ref().to_vec()
        };
        match name {
            "p256" => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "p384" => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "p521" => ecdsa(&ECDSA_P521_SHA512_FIXED_SIGNING),
            "ed25519" => Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap().sign(message).as_ref().to_vec(),
            "rsa" => {
                let key = RsaKeyPair::from_pkcs8(&pkcs8).unwrap();
                let mut signature = vec![0; key.public_modulus_len()];
                let padding: &dyn aws_lc_rs::signature::RsaEncoding =
                    if case["sign"] == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            other => panic!("no key {other}"),
        }
    }

    /// The verdict on the case, in the form of its `expect`.
    fn answer(&self, case: &Value) -> Value {
        let trust = match Trust::from_jwks(self.jwks(case).as_bytes()) {
            Ok(trust) => trust,
            Err(why) => return format!("refused: {}", super::CannotTell::Trust(why).code()).into(),
        };
        let (format, token) = self.token(case);
        let request = Check::new(self.0["uri"].as_str().unwrap(), case["idx"].as_u64().unwrap_or(0));
        let report = judge(
            &request,
            format,
            &token,
            Some(&trust),
            NumericDate::from_secs(self.0["now"].as_u64().unwrap()),
        );
        match report.outcome {
            Outcome::Valid => json!(0),
            Outcome::NotValid(NotValid::Status(status)) => json!(status.value()),
            Outcome::NotValid(NotValid::OutsideList(_)) => json!("outside"),
            Outcome::Unknown(why) => format!("refused: {}", why.code()).into(),
        }
    }
}

#[test]
fn every_case_of_the_shared_table_has_its_answer() {
    let table = Table(serde_json::from_str(TABLE).unwrap());
    let cases = table.0["cases"].as_array().unwrap();
    assert!(cases.len() > 200, "{}", cases.len());
    let answers = cases.iter().map(|case| (case, table.answer(case)));
    let wrong: Vec<_> = answers
        .filter(|(case, answer)| case["expect"] != *answer)
        .map(|(case, answer)| format!("{}: expected {}, got {answer}", case["name"], case["expect"]))
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
