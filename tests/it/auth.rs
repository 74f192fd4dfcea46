//! Every way to authenticate with the write API: valid credentials get what they permit; all others are refused and change nothing.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use statuslist::base::clock::{Clock, Timestamp};

use crate::support::app::{KEY, Reference, TestApp};
use crate::support::authority::{
    AUDIENCE, Answer, Authority, ISSUER, KeySetServer, claims, hmac_signed, message, now,
};
use crate::support::eventually;
use crate::support::process::{Process, command, free_port, log_path};

fn start(settings: &str) -> TestApp {
    TestApp::start_with(tempfile::tempdir().unwrap(), settings, Clock::System)
}

/// Sends with this credential. Returns status, body and headers.
async fn sent(request: RequestBuilder, credential: (&str, &str)) -> (StatusCode, Value, HeaderMap) {
    let response = request.header(credential.0, credential.1).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null), headers)
}

/// All operations of the API on pool `p`, with the scope that each needs. Successful ones change `reference`.
fn operations(app: &TestApp, reference: &Reference) -> Vec<(&'static str, RequestBuilder)> {
    let ask = |method: Method, path: &str, body: Option<Value>| {
        let request = app.client.request(method, format!("{}{path}", app.url));
        match body {
            Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
            None => request,
        }
    };
    let (uri, index) = (&reference.uri, reference.index);
    let list = uri.rsplit('/').next().unwrap();
    let update = || Some(json!({ "uri": uri, "index": index, "value": 1 }));
    let batch = json!({ "statusListReferences": [{ "uri": uri, "index": index }], "value": 1 });
    vec![
        ("allocate", ask(Method::POST, "/pools/p/new-references", None)),
        ("allocate", ask(Method::POST, "/api/p/new-reference", None)),
        ("allocate", ask(Method::POST, "/api/p/new-references/2", None)),
        ("read", ask(Method::GET, "/pools/p", None)),
        ("read", ask(Method::GET, "/pools/p/lists", None)),
        ("read", ask(Method::GET, &format!("/pools/p/lists/{list}/statuses/{index}"), None)),
        ("update", ask(Method::PATCH, "/status-lists/update", update())),
        ("update", ask(Method::POST, "/api/update-status", update())),
        ("update", ask(Method::PATCH, "/status-lists/batch-update", Some(batch))),
        ("update", ask(Method::PATCH, &format!("/pools/p/lists/{list}"), Some(json!({ "value": 1 })))),
        ("update", ask(Method::DELETE, &format!("/pools/p/lists/{list}?force=true"), None)),
    ]
}

/// Asserts that refused requests changed nothing.
async fn assert_untouched(app: &TestApp, reference: &Reference) {
    let stored = app.stored(reference).await;
    assert_eq!((stored["value"].as_u64(), stored["version"].as_u64()), (Some(0), Some(0)), "{stored}");
    let (_, lists) = app.send(Method::GET, "/pools/p/lists", None).await;
    assert!(lists["lists"].as_array().unwrap().iter().all(|list| list["retired"] == false), "{lists}");
}

fn keys_of(p: &str) -> String {
    format!("status-list-pools:\n  p: {{ api-keys: [ {KEY}, {p} ] }}\n  q: {{ api-key: the key of q }}")
}

#[tokio::test]
async fn invalid_keys_are_refused_alike_and_change_nothing() {
    let app = start(&keys_of(
        "{ key: ended, not-after: 2020-01-01T00:00:00Z }, { key: not begun, not-before: 2120-01-01T00:00:00Z }",
    ));
    let reference = app.references(1).await.remove(0);
    let message = "Invalid api key; it is unknown, has ended, or is for another pool";
    for key in ["wrong", "", "ended", "not begun", "the key of q", "the key of this tesu"] {
        for (_, request) in operations(&app, &reference) {
            let (status, body, headers) = sent(request, ("X-Api-Key", key)).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{key}: {body}");
            assert_eq!(body, json!({ "code": "UNAUTHORIZED", "message": message }), "{key}");
            assert!(!headers.contains_key("www-authenticate"), "{key}");
        }
    }
    // Without a credential, or with one of a kind that is not configured.
    let missing = "Missing api key; send it in the header X-Api-Key";
    let no_tokens = "Missing api key; this service takes no bearer tokens: send an API key of the pool in the header X-Api-Key";
    for (header, message) in [
        (("X-Other", KEY), missing),
        (("Authorization", "Bearer abc"), no_tokens),
        (("Authorization", "Basic abc"), missing),
    ] {
        for (_, request) in operations(&app, &reference) {
            let (status, body, _) = sent(request, header).await;
            assert_eq!((status, &body["message"]), (StatusCode::UNAUTHORIZED, &json!(message)));
        }
    }
    assert_untouched(&app, &reference).await;
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_no_more() {
    let app = start(&keys_of(
        "{ key: for allocate, scopes: [allocate] }, { key: for update, scopes: [update] }, { key: for read, scopes: [read], not-after: 2120-01-01T00:00:00Z }",
    ));
    let reference = app.references(1).await.remove(0);
    for scope in ["allocate", "read"] {
        for (needed, request) in operations(&app, &reference) {
            let (status, body, _) = sent(request, ("X-Api-Key", &format!("for {scope}"))).await;
            if needed == scope {
                assert_eq!(status, StatusCode::OK, "{scope}: {body}");
            } else {
                let message = format!("This api key lacks the scope `{needed}` in pool p");
                let expected = json!({ "code": "FORBIDDEN", "message": message });
                assert_eq!((status, &body), (StatusCode::FORBIDDEN, &expected), "{scope} for {needed}");
            }
        }
    }
    assert_untouched(&app, &reference).await;
    for (needed, request) in operations(&app, &reference) {
        let (status, body, _) = sent(request, ("X-Api-Key", "for update")).await;
        let expected = if needed == "update" { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN };
        assert_eq!(status, expected, "update for {needed}: {body}");
    }
}

fn with_authority(jwks: &str, more: &str) -> String {
    format!(
        "oauth: {{ issuer: '{ISSUER}', audience: '{AUDIENCE}', {jwks}, algorithms: [ES256], leeway: 5s }}
{more}
status-list-pools:
  p: {{ api-key: {KEY} }}
  q: {{ api-key: the key of q }}"
    )
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn invalid_tokens_are_refused_alike_and_change_nothing() {
    let (authority, forger) = (Authority::new("k1"), Authority::new("k1"));
    // A symmetric key in the set must not be used: anyone who reads the set could sign with it.
    let symmetric = json!({ "kty": "oct", "kid": "secret", "alg": "HS256", "k": "c2VjcmV0" });
    let server = KeySetServer::start(Answer::Keys(vec![symmetric, authority.jwk()]));
    let app = start(&with_authority(&format!("jwks-url: '{}'", server.url), ""));
    let reference = app.references(1).await.remove(0);

    let all = "p:allocate p:update p:read";
    let (header, good) = (authority.header(), claims(all));
    let with_header = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        header
    };
    let with_claim = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        authority.signed(&header, &claims)
    };
    let without_claim = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        authority.signed(&header, &claims)
    };
    let hs256 = |kid: &str| json!({ "typ": "at+jwt", "alg": "HS256", "kid": kid });
    let fine = authority.token(all);
    let (signed, signature) = fine.rsplit_once('.').unwrap();
    let refused = [
        ("alg: none", format!("{}.", message(&with_header("alg", json!("none")), &good))),
        ("alg: None, signed", authority.signed(&with_header("alg", json!("None")), &good)),
        ("HS256 with the public key", hmac_signed(&hs256("k1"), &good, authority.public_pem().as_bytes())),
        ("HS256 with the JWK", hmac_signed(&hs256("k1"), &good, authority.jwk().to_string().as_bytes())),
        ("HS256 with the symmetric key of the set", hmac_signed(&hs256("secret"), &good, b"secret")),
        ("another algorithm of the header", authority.signed(&with_header("alg", json!("RS256")), &good)),
        ("expired", with_claim("exp", json!(now() - 6))),
        ("no exp", without_claim("exp")),
        ("exp that is no number", with_claim("exp", json!("never"))),
        ("not yet valid", with_claim("nbf", json!(now() + 60))),
        ("nbf of null", with_claim("nbf", Value::Null)),
        ("client of null", with_claim("client_id", Value::Null)),
        ("critical extensions of null", authority.signed(&with_header("crit", Value::Null), &good)),
        ("claims in an array", {
            let now = now();
            let claims = json!([now + 600, now, all, "issuer-1", "5ba552d67", ISSUER]);
            authority.signed(&header, &claims)
        }),
        ("header in an array", authority.signed(&json!(["at+jwt", "ES256", null, null, "k1"]), &good)),
        ("wrong audience", with_claim("aud", json!("https://other.example"))),
        ("no audience", without_claim("aud")),
        ("wrong issuer", with_claim("iss", json!("https://evil.example"))),
        ("several issuers", with_claim("iss", json!([ISSUER, "https://evil.example"]))),
        ("no issuer", without_claim("iss")),
        ("neither subject nor client", {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().retain(|name, _| name != "sub" && name != "client_id");
            authority.signed(&header, &claims)
        }),
        ("an ID token", authority.signed(&with_header("typ", json!("JWT")), &good)),
        ("no typ", authority.signed(&json!({ "alg": "ES256", "kid": "k1" }), &good)),
        ("unknown kid", authority.signed(&with_header("kid", json!("k2")), &good)),
        ("no kid", authority.signed(&json!({ "typ": "at+jwt", "alg": "ES256" }), &good)),
        ("its own key", forger.signed(&with_header("jwk", forger.jwk()), &good)),
        ("foreign signature", forger.token(all)),
        ("critical extension", authority.signed(&with_header("crit", json!(["x"])), &good)),
        (
            "other claims under the signature",
            format!("{}.{signature}", message(&header, &claims("p:update"))),
        ),
        ("no signature", format!("{signed}.")),
        ("too long", with_claim("more", json!("x".repeat(9000)))),
        ("no JWT", "abc".to_owned()),
        ("nothing", String::new()),
    ];
    for (what, token) in &refused {
        for (_, request) in operations(&app, &reference) {
            let (status, body, headers) = sent(request, ("Authorization", &bearer(token))).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{what}: {body}");
            if *what != "nothing" {
                let message = match *what {
                    "no JWT" => "Invalid bearer token; it is no JWT: send an API key in the header X-Api-Key",
                    _ => "Invalid bearer token",
                };
                assert_eq!(body, json!({ "code": "UNAUTHORIZED", "message": message }), "{what}");
                assert_eq!(headers["www-authenticate"], "Bearer error=\"invalid_token\"", "{what}");
            }
        }
    }
    assert_untouched(&app, &reference).await;

    // A valid token does not compensate for a wrong key.
    let (_, request) = operations(&app, &reference).remove(0);
    let request = request.header("Authorization", bearer(&fine));
    assert_eq!(sent(request, ("X-Api-Key", "wrong")).await.0, StatusCode::UNAUTHORIZED);

    for typ in ["at+jwt", "application/at+jwt", "AT+JWT"] {
        let token = authority.signed(&with_header("typ", json!(typ)), &good);
        let (_, request) = operations(&app, &reference).remove(0);
        let (status, body, _) = sent(request, ("authorization", &format!("bearer {token}"))).await;
        assert_eq!(status, StatusCode::OK, "{typ}: {body}");
    }
    for (claim, value) in
        [("exp", json!(now() - 2)), ("nbf", json!(now() + 2)), ("aud", json!(AUDIENCE)), ("exp", json!(9e9))]
    {
        let (_, request) = operations(&app, &reference).remove(0);
        let (status, body, _) =
            sent(request, ("Authorization", &bearer(&with_claim(claim, value.clone())))).await;
        assert_eq!(status, StatusCode::OK, "{claim} {value}: {body}");
    }
}

#[tokio::test]
async fn a_token_does_what_its_scope_says_and_no_more() {
    let authority = Authority::new("k1");
    let server = KeySetServer::start(Answer::Keys(vec![authority.jwk()]));
    let app = start(&with_authority(&format!("jwks-url: '{}'", server.url), ""));
    let reference = app.references(1).await.remove(0);
    for (scope, granted) in [
        ("p:allocate", vec!["allocate"]),
        ("openid p:read", vec!["read"]),
        ("q:allocate q:update q:read", vec![]),
        ("", vec![]),
        ("allocate update read *:update p:*", vec![]),
        ("p:update p:allocate", vec!["allocate", "update"]),
    ] {
        for (needed, request) in operations(&app, &reference) {
            let (status, body, headers) =
                sent(request, ("Authorization", &bearer(&authority.token(scope)))).await;
            if granted.contains(&needed) {
                assert!(status.is_success(), "{scope} for {needed}: {status} {body}");
                continue;
            }
            let message = format!("This token lacks the scope `p:{needed}`");
            let expected = json!({ "code": "FORBIDDEN", "message": message });
            assert_eq!((status, &body), (StatusCode::FORBIDDEN, &expected), "{scope} for {needed}");
            let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"p:{needed}\"");
            assert_eq!(headers["www-authenticate"], challenge.as_str());
        }
        if !granted.contains(&"update") {
            assert_untouched(&app, &reference).await;
        }
    }
}

async fn allocates(app: &TestApp, token: &str) -> bool {
    let request = app.client.post(format!("{}/pools/p/new-references", app.url));
    sent(request, ("Authorization", &bearer(token))).await.0.is_success()
}

#[tokio::test]
async fn keys_behind_a_url_are_rotated_and_outlive_their_server() {
    let (old, new) = (Authority::new("k1"), Authority::new("k2"));
    let server = KeySetServer::start(Answer::Keys(vec![old.jwk()]));
    let clock = Clock::set_to(Timestamp::from_secs(now()));
    let settings = with_authority(&format!("jwks-url: '{}'", server.url), "limits: { request-timeout: 2s }");
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, clock.clone());
    let (of_old, of_new) = (old.token("p:allocate"), new.token("p:allocate"));

    assert!(allocates(&app, &of_old).await);
    assert!(!allocates(&app, &of_new).await);
    let asked = server.asked();
    assert!(asked <= 2, "at the start, and for the unknown key: {asked}");
    server.answer(Answer::Keys(vec![new.jwk()]));
    for _ in 0..20 {
        assert!(!allocates(&app, &of_new).await, "fetched once a minute, whatever tokens say");
    }
    assert_eq!(server.asked(), asked);
    clock.advance(Duration::from_secs(61));
    assert!(allocates(&app, &of_new).await);
    assert!(!allocates(&app, &of_old).await, "the old key was removed");
    assert_eq!(server.asked(), asked + 1);

    // Ten minutes later the set is fetched again; without an answer the latest one stays.
    for answer in [Answer::Status(500), Answer::Keys(vec![]), Answer::Nothing] {
        server.answer(answer);
        let before = server.asked();
        clock.advance(Duration::from_secs(601));
        let token = in_the_future(&new, &clock);
        assert!(allocates(&app, &token).await);
        assert_eq!(server.asked(), before + 1);
    }
    server.answer(Answer::Keys(vec![old.jwk()]));
    clock.advance(Duration::from_secs(61));
    let token = in_the_future(&old, &clock);
    assert!(allocates(&app, &token).await);
}

/// A failure to get the keys is not the caller's fault, and a retry may succeed.
#[tokio::test]
async fn until_keys_are_available_tokens_are_neither_accepted_nor_counted_as_guesses() {
    let authority = Authority::new("k1");
    let server = KeySetServer::start(Answer::Status(500));
    let clock = Clock::set_to(Timestamp::from_secs(now()));
    let limits = "limits: { failures-per-address: 2/h, request-timeout: 2s }";
    let settings = with_authority(&format!("jwks-url: '{}'", server.url), limits);
    let app = TestApp::start_with(tempfile::tempdir().unwrap(), &settings, clock.clone());
    for _ in 0..5 {
        let request = app.client.post(format!("{}/pools/p/new-references", app.url));
        let token = bearer(&authority.token("p:allocate"));
        let (status, body, headers) = sent(request, ("Authorization", &token)).await;
        assert_eq!((status, body["code"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("UNAVAILABLE")));
        assert!(headers.contains_key("retry-after"), "{headers:?}");
    }
    server.answer(Answer::Keys(vec![authority.jwk()]));
    clock.advance(Duration::from_secs(61));
    assert!(allocates(&app, &in_the_future(&authority, &clock)).await);
}

/// A token that is valid at the time of the test's clock.
fn in_the_future(authority: &Authority, clock: &Clock) -> String {
    let mut claims = claims("p:allocate");
    claims["exp"] = json!(clock.now().date().secs() + 600);
    authority.signed(&authority.header(), &claims)
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_it_changes() {
    let (old, new) = (Authority::new("k1"), Authority::new("k2"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let write = |content: String| {
        let aside = file.with_extension("new");
        std::io::Write::write_all(&mut std::fs::File::create(&aside).unwrap(), content.as_bytes()).unwrap();
        std::fs::rename(aside, &file).unwrap();
    };
    write(json!({ "keys": [old.jwk()] }).to_string());
    let app = start(&with_authority(&format!("jwks-path: {}", file.display()), ""));
    assert!(allocates(&app, &old.token("p:allocate")).await);
    write("not a key set".to_owned());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(allocates(&app, &old.token("p:allocate")).await, "a broken file changes nothing");
    write(json!({ "keys": [new.jwk()] }).to_string());
    eventually("the new key", async || allocates(&app, &new.token("p:allocate")).await.then_some(())).await;
    assert!(!allocates(&app, &old.token("p:allocate")).await);
}

#[tokio::test]
async fn rates_of_callers_and_addresses_are_limited() {
    let app = start(&format!(
        "server: {{ trusted-proxies: [127.0.0.1] }}
limits: {{ requests-per-key: 5/h, requests-per-address: 8/h, failures-per-address: 3/h }}
status-list-pools: {{ p: {{ api-keys: [ {KEY}, second, third ] }} }}"
    ));
    let ask = async |key: &str, address: &str| {
        let request = app.client.get(format!("{}/pools/p", app.url)).header("X-Forwarded-For", address);
        let (status, body, headers) = sent(request, ("X-Api-Key", key)).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(body["code"], "RATE_LIMIT_REACHED", "{body}");
            let secs: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=3600).contains(&secs), "{secs}");
        }
        status.as_u16()
    };
    for _ in 0..5 {
        assert_eq!(ask(KEY, "192.0.2.1").await, 200);
    }
    assert_eq!(ask(KEY, "192.0.2.2").await, 429, "the limit of the key, from any address");
    assert_eq!(ask("second", "192.0.2.1").await, 200);
    assert_eq!(ask("second", "192.0.2.1").await, 200);
    assert_eq!(ask("second", "192.0.2.1").await, 200);
    assert_eq!(ask("second", "192.0.2.1").await, 429, "the limit of the address, with any key");
    assert_eq!(ask("second", "192.0.2.3").await, 200);

    for _ in 0..4 {
        assert_eq!(ask("guessed", "192.0.2.66").await, 401);
    }
    assert_eq!(ask("guessed", "192.0.2.66").await, 429);
    assert_eq!(ask("third", "192.0.2.66").await, 429, "otherwise a correct guess would be revealed");
    assert_eq!(ask("third", "192.0.2.66, 192.0.2.4").await, 200, "entries further left may be forged");
    assert_eq!(ask("third", "192.0.2.4, 192.0.2.66").await, 429);
}

#[tokio::test]
async fn forwarded_addresses_of_strangers_are_ignored() {
    let app = start(&format!(
        "limits: {{ requests-per-address: 2/h }}\nstatus-list-pools: {{ p: {{ api-key: {KEY} }} }}"
    ));
    let mut answers = Vec::new();
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        let request = app.client.get(format!("{}/pools/p", app.url)).header("X-Forwarded-For", address);
        answers.push(sent(request, ("X-Api-Key", KEY)).await.0.as_u16());
    }
    assert_eq!(answers, [200, 200, 429]);
    let live = app.client.get(format!("{}/health/live", app.url)).send().await.unwrap();
    assert_eq!(live.status(), StatusCode::OK, "only the API is counted");
}

#[tokio::test]
async fn a_client_certificate_can_be_demanded_of_the_proxy() {
    let certificate = "client-certificate: { header: X-Client-Verify, value: SUCCESS }";
    let settings = |proxy: &str| {
        format!(
            "server: {{ trusted-proxies: [{proxy}], {certificate} }}\nstatus-list-pools: {{ p: {{ api-key: {KEY} }} }}"
        )
    };
    let app = start(&settings("127.0.0.1"));
    let ask = async |app: &TestApp, said: &[&str]| {
        let mut request = app.client.get(format!("{}/pools/p", app.url));
        for said in said {
            request = request.header("X-Client-Verify", *said);
        }
        sent(request, ("X-Api-Key", KEY)).await
    };
    assert_eq!(ask(&app, &["SUCCESS"]).await.0, StatusCode::OK);
    for said in [&[][..], &["NONE"], &["FAILED:certificate has expired"], &["NONE", "SUCCESS"]] {
        let (status, body, _) = ask(&app, said).await;
        assert_eq!((status, body["code"].as_str()), (StatusCode::UNAUTHORIZED, Some("UNAUTHORIZED")));
        assert!(body["message"].as_str().unwrap().contains("certificate"), "{body}");
    }
    let elsewhere = start(&settings("192.0.2.1"));
    assert_eq!(ask(&elsewhere, &["SUCCESS"]).await.0, StatusCode::UNAUTHORIZED, "anyone can send a header");
}

#[tokio::test]
async fn no_secret_is_in_the_log_even_at_debug() {
    let authority = Authority::new("k1");
    let server = KeySetServer::start(Answer::Keys(vec![authority.jwk()]));
    let settings = with_authority(&format!("jwks-url: '{}'", server.url), "");
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut program = command(folder.path(), port, &settings);
    program.env("STATUSLIST_LOG", "debug");
    let process = Process::start(program, folder.path(), port);
    let client = reqwest::Client::new();
    let (good, bad) = (authority.token("p:read"), Authority::new("k1").token("p:read"));
    let credentials = [
        ("X-Api-Key", KEY.to_owned(), 200),
        ("X-Api-Key", "a wrong secret".to_owned(), 401),
        ("Authorization", bearer(&good), 200),
        ("Authorization", bearer(&bad), 401),
        ("Authorization", "Basic dXNlcjpwYXNzd29yZA==".to_owned(), 401),
    ];
    for (name, value, status) in &credentials {
        let request = client.get(format!("{}/pools/p", process.url));
        assert_eq!(sent(request, (name, value)).await.0.as_u16(), *status, "{name} {value}");
    }
    let log = || std::fs::read_to_string(log_path(folder.path())).unwrap();
    eventually("the log", async || log().contains("a bearer token was refused").then_some(())).await;
    for (_, value, _) in &credentials {
        let secret = value.trim_start_matches("Bearer ").trim_start_matches("Basic ");
        for part in secret.split('.').filter(|part| part.len() >= 8) {
            assert!(!log().contains(part), "{part} is in the log:\n{}", log());
        }
    }
    assert!(!log().contains(&statuslist::model::api_key::ApiKeyHash::of(KEY).to_setting()), "nor its hash");
}
