//! An example of each request body and each answer, by operation and status. Errors have theirs from the catalogue of codes.

use serde_json::{Value, json};
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr};

const LIST: &str = "https://status.example/lists/5f1ae880-251c-4ec2-b3d0-b61ea62a306d";

/// Adds them to a description.
pub(super) fn add(description: &mut OpenApi) {
    let paths = description.paths.paths.values_mut();
    let operations =
        paths.flat_map(|path| [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete]).flatten();
    for operation in operations {
        let id = operation.operation_id.clone().unwrap_or_default();
        add_to(operation, &id);
    }
}

fn add_to(operation: &mut Operation, id: &str) {
    if let Some(RefOr::T(body)) = &mut operation.request_body
        && let Some(RefOr::T(content)) = body.content.get_mut("application/json")
    {
        content.example = request(id);
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        for (media_type, content) in &mut response.content {
            let RefOr::T(content) = content else { continue };
            content.example = match media_type.as_str() {
                "application/problem+json" => problem(status),
                media_type => answer(id, status, media_type),
            };
        }
    }
}

/// The body of a request.
fn request(operation: &str) -> Option<Value> {
    Some(match operation {
        "setStatus" | "setStatusOnOlderPath" => json!({ "uri": LIST, "index": 4711, "value": "revoked" }),
        "setStatuses" => json!({ "updates": [
            { "uri": LIST, "index": 4711, "value": "revoked" },
            { "uri": LIST, "index": 4712, "value": "valid", "expected": "suspended" },
        ] }),
        "setStatusesOfList" => json!({ "value": "revoked", "spread-beats": 100 }),
        "createPool" => {
            json!({ "name": "acme", "template": "issuers", "settings": { "title": "Acme", "quotas": { "lists": 10 } } })
        }
        "patchPool" => json!({ "settings": { "quotas": { "lists": 20 } }, "closed": false }),
        "createKey" => json!({ "name": "acme-2026", "pools": ["acme"], "scopes": ["allocate", "update"] }),
        "rotateKey" => json!({ "grace": "1h" }),
        _ => return None,
    })
}

/// An answer that is no problem.
fn answer(operation: &str, status: &str, media_type: &str) -> Option<Value> {
    let reference = |index: u32| json!({ "uri": LIST, "index": index });
    let pool = json!({
        "pool": "demo", "bits": 1, "size": 100_000, "ttl": 10, "listLifetime": 86_400, "updateInterval": 10, "formats": ["jwt"],
        "keyId": "Vh0vTmJZQdYtQ3yPzvW1fWkV6n0Zb5H0tO5rZ3N9m7A", "lists": 3,
        "references": { "used": 1002, "free": 298_998, "ready": 998 },
    });
    Some(match (operation, status, media_type) {
        ("allocateReferences" | "allocateReferencesOnOlderPath", ..) => {
            json!({ "references": [reference(4711), reference(90_210)] })
        }
        ("allocateReferenceOnOlderPath", ..) => reference(4711),
        ("setStatusesOfList", ..) => json!({ "beats": 100 }),
        ("getPool", ..) => pool,
        ("getPools", ..) => json!({ "pools": [pool] }),
        ("getLists", ..) => json!({ "lists": [{
            "id": "5f1ae880-251c-4ec2-b3d0-b61ea62a306d", "uri": LIST, "used": 1002, "open": true, "retired": false, "version": 17,
            "publishedVersion": 17, "publishedAt": 1_795_867_200,
        }] }),
        ("createPool" | "patchPool", ..) => registered_pool(),
        ("getRegisteredPools", ..) => json!({ "pools": [registered_pool()], "deleted": ["former"] }),
        ("createKey" | "rotateKey", ..) => registered_key(Some("4f0c…, 64 digits, shown only now")),
        ("getKeys", ..) => json!({ "keys": [registered_key(None)] }),
        ("getStatus", ..) => json!({
            "uri": LIST, "index": 4711, "value": 1, "version": 17, "publishedVersion": 16, "published": false,
        }),
        ("getLiveness" | "getReadiness" | "getFreshness", "200", _) => json!({ "status": "UP" }),
        ("getReadiness" | "getFreshness", ..) => {
            json!({ "status": "DOWN", "problems": ["pool demo: a published token may have expired"] })
        }
        ("getMetrics", ..) => {
            json!("# TYPE statuslist_build_info gauge\nstatuslist_build_info{version=\"0.1.0\"} 1\n")
        }
        ("getVersion", _, "text/plain") => json!("0.1.0"),
        ("getVersion", ..) => json!({ "version": "0.1.0" }),
        ("fetchList", _, "application/statuslist+jwt") => {
            json!(
                "eyJ0eXAiOiJzdGF0dXNsaXN0K2p3dCIsImFsZyI6IkVTMjU2In0.eyJzdGF0dXNfbGlzdCI6ey4uLn19.c2lnbmF0dXJl"
            )
        }
        ("fetchList", _, "application/statuslist+json") => json!({ "bits": 1, "lst": "eNrbuRgAAhcBXQ" }),
        ("fetchList", ..) => json!("bytes in CBOR"),
        ("fetchCredential", ..) => {
            json!(
                "eyJ0eXAiOiJ2Yytqd3QiLCJhbGciOiJFUzI1NiJ9.eyJjcmVkZW50aWFsU3ViamVjdCI6ey4uLn19.c2lnbmF0dXJl"
            )
        }
        ("fetchAggregation", ..) => json!({ "status_lists": [LIST] }),
        ("fetchKeys", ..) => json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "Vh0vTmJZQdYtQ3yPzvW1fWkV6n0Zb5H0tO5rZ3N9m7A",
            "x": "18wHLeIgW9wVN6VD1Txgpqy2LszYkMf6J8njVAibvhM", "y": "-V4dS4UaLMgP_4fY4j8ir7cl1TXlFdAgcx55o7TkcSA",
        }] }),
        _ => return None,
    })
}

fn registered_pool() -> Value {
    json!({
        "name": "acme", "template": "issuers", "settings": { "title": "Acme", "quotas": { "lists": 10 } },
        "created": "2026-11-28T12:00:00Z", "version": 1, "closed": null,
    })
}

fn registered_key(key: Option<&str>) -> Value {
    let mut answer = json!({
        "name": "acme-2026", "pools": ["acme"], "scopes": ["allocate", "update"], "created": "2026-11-28T12:00:00Z",
        "notAfter": null, "previousUntil": null,
    });
    if let Some(key) = key {
        answer["key"] = key.into();
    }
    answer
}

/// A problem of an address for verifiers.
fn problem(status: &str) -> Option<Value> {
    let (code, message) = match status {
        "400" => ("BAD_REQUEST", "`time` must be given once, as a whole number of seconds since 1970"),
        "404" => ("NO_SUCH_LIST", "No list with id 5f1ae880-251c-4ec2-b3d0-b61ea62a306d"),
        "406" => ("NOT_ACCEPTABLE", "This list is available as application/statuslist+jwt"),
        "410" => ("GONE", "This list is retired: all credentials that refer to it have expired"),
        "501" => {
            ("NOT_IMPLEMENTED", "Historical resolution is not offered: leave out the query parameter `time`")
        }
        "503" => ("STALE_TOKEN", "The current token of this list has expired, and there is no new one yet"),
        _ => return None,
    };
    Some(json!({ "code": code, "message": message }))
}
