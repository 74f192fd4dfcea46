//! Pools and API keys made at run time: by real processes, over the address for management.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::reload::{replace_key, write};
use crate::support::eventually;
use crate::support::fleet::{Instance, on_redis, shared, signer};
use crate::support::process::{Process, command, free_port};
use crate::support::redis::RedisServer;
use crate::support::relying_party::published;

const ADMIN: &str = "the-operator";

/// One address of an instance, and a key.
struct Caller<'a> {
    client: Client,
    url: String,
    key: Option<&'a str>,
}

impl<'a> Caller<'a> {
    fn new(url: impl Into<String>, key: Option<&'a str>) -> Self {
        let client = Client::builder().timeout(Duration::from_secs(15)).build().unwrap();
        Self { client, url: url.into(), key }
    }

    /// Returns status and body.
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(key) = self.key {
            request = request.header("X-Api-Key", key);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, None).await
    }

    /// One reference of this pool, or the refusal.
    async fn reference(&self, pool: &str) -> Result<(String, u64), (u16, Value)> {
        let (status, body) = self.send(Method::POST, &format!("/pools/{pool}/new-references"), None).await;
        match status {
            200 => {
                let reference = &body["references"][0];
                Ok((reference["uri"].as_str().unwrap().to_owned(), reference["index"].as_u64().unwrap()))
            }
            _ => Err((status, body["code"].clone())),
        }
    }
}

/// The settings of these tests: a pool and a template, with one key.
fn settings(folder: &Path) -> String {
    let pool = format!(
        "size: 800, update-interval: 1s, open-lists: 1, precreation: {{ lists: 0, check-delay: 200ms }}, \
         prefetch: {{ capacity: 100 }}, {}",
        signer(folder)
    );
    format!(
        "{}admin-api-keys: [ {{ key: {ADMIN}, name: operator }} ]\n\
         templates: {{ issuers: {{ {pool} }} }}\n\
         status-list-pools: {{ fixed: {{ api-keys: [ {{ key: x, name: of-settings }} ], {pool} }} }}\n",
        shared(folder)
    )
}

/// An instance, and the address where it is administered.
fn instance(folder: &Path, name: &str, settings: &str) -> (Instance, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let variable = ("STATUSLIST__SERVER__MANAGEMENT_LISTEN".to_owned(), address.clone());
    (Instance::start_with(folder, name, settings, vec![variable]), format!("http://{address}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_instance_makes_all_instances_have() {
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    let settings = format!("{}{}", on_redis(&redis, "connections: 4"), settings(folder.path()));
    let (a, admin_a) = instance(folder.path(), "a", &settings);
    let (mut b, admin_b) = instance(folder.path(), "b", &settings);
    a.issuer().references("fixed", 1).await;
    b.issuer().references("fixed", 1).await;
    let admin = Caller::new(&admin_a, Some(ADMIN));

    // Who may: nobody without a key, no issuer, and nobody on another address.
    let acme =
        json!({ "name": "acme", "template": "issuers", "settings": { "issuer": "https://acme.example" } });
    assert_eq!(Caller::new(&admin_a, None).post("/admin/pools", acme.clone()).await.0, 401);
    assert_eq!(Caller::new(&admin_a, Some("y")).post("/admin/pools", acme.clone()).await.0, 401);
    let (status, body) = Caller::new(&admin_a, Some("x")).post("/admin/pools", acme.clone()).await;
    assert_eq!((status, &body["code"]), (403, &"FORBIDDEN".into()), "{body}");
    for key in [None, Some("x"), Some(ADMIN)] {
        for path in ["/admin/pools", "/admin/keys"] {
            assert_eq!(Caller::new(a.url(), key).get(path).await.0, 404, "{path}");
        }
    }
    assert_eq!(Caller::new(a.url(), Some(ADMIN)).get("/pools").await.0, 401, "an operator is no issuer");

    // A pool and a key, made on one instance.
    let (status, body) = admin.post("/admin/pools", acme.clone()).await;
    assert_eq!(status, 201, "{body}");
    let begun = Instant::now();
    let key = json!({ "name": "acme-1", "pools": ["acme"] });
    let (status, made) = admin.post("/admin/keys", key).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["key"].as_str().unwrap();
    let (on_a, on_b) = (Caller::new(a.url(), Some(secret)), Caller::new(b.url(), Some(secret)));
    assert_eq!(on_a.get("/pools/acme").await.0, 200, "in use where it was made");
    let made_at = Instant::now();
    eventually("the pool on the other instance", async || {
        (on_b.get("/pools/acme").await.0 == 200).then_some(())
    })
    .await;
    println!("in use on the other instance {:?} after the key was made", made_at.elapsed());
    let (uri, index) =
        eventually("a reference on the other instance", async || on_b.reference("acme").await.ok()).await;
    println!("a reference on the other instance {:?} after the pool was made", begun.elapsed());
    assert_eq!(on_b.reference("fixed").await, Err((401, "UNAUTHORIZED".into())), "of another pool");
    let change = json!({ "uri": uri, "index": index, "value": 1 });
    let (status, body) = on_b.send(Method::PATCH, "/status-lists/update", Some(change)).await;
    assert_eq!(status, 204, "{body}");
    let public = folder.path();
    eventually("the revocation in the published file", async || {
        let list = published(public, &uri).ok()?;
        (list.status(index) == 1 && list.claims["iss"] == "https://acme.example").then_some(())
    })
    .await;
    let path = format!("/lists/{}", uri.rsplit('/').next().unwrap());
    let served = reqwest::get(format!("{}{path}", a.url())).await.unwrap();
    assert_eq!(served.status(), StatusCode::OK, "served by the first");

    // One name, one pool; one name, one key.
    let other = Caller::new(&admin_b, Some(ADMIN));
    let pool = |name: &str, template: &str| json!({ "name": name, "template": template });
    for name in ["acme", "fixed"] {
        let (status, body) = other.post("/admin/pools", pool(name, "issuers")).await;
        assert_eq!((status, &body["code"]), (409, &"NAME_TAKEN".into()), "{body}");
    }
    for name in ["acme-1", "of-settings", "operator"] {
        let (status, body) = other.post("/admin/keys", json!({ "name": name, "pools": ["fixed"] })).await;
        assert_eq!((status, &body["code"]), (409, &"NAME_TAKEN".into()), "{body}");
    }
    for (path, body, expected, part) in [
        ("/admin/pools", pool("other", "none"), 400, "template `none`"),
        (
            "/admin/pools",
            json!({ "name": "b", "template": "issuers", "settings": { "bits": 2 } }),
            400,
            "bits",
        ),
        (
            "/admin/pools",
            json!({ "name": "b", "template": "issuers", "settings": { "quotas": { "lists": 0 } } }),
            400,
            "quotas.lists",
        ),
        ("/admin/keys", json!({ "name": "b", "pools": ["acme"], "scopes": ["admin"] }), 400, "admin"),
        ("/admin/keys", json!({ "name": "b", "pools": ["none"] }), 404, "none"),
        ("/admin/keys/b/rotate", json!({}), 404, "b"),
        ("/admin/keys/acme-1/rotate", json!({ "grace": "25h" }), 400, "24h"),
    ] {
        let (status, answer) = other.post(path, body.clone()).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(status == expected && message.contains(part), "{body}: {status} {answer}");
    }
    let (_, keys) = other.get("/admin/keys").await;
    assert!(keys["keys"][0]["name"] == "acme-1" && !keys.to_string().contains(secret), "{keys}");
    assert!(!redis.cli(&["HGET", "statuslist:{:registry}", "content"]).contains(secret));

    // All of it survives kill -9.
    b.kill();
    b.start_again();
    eventually("the pool after a restart", async || on_b.reference("acme").await.ok()).await;

    // A rotation, with both keys for a while; then the end.
    let (status, rotated) = admin.post("/admin/keys/acme-1/rotate", json!({ "grace": "1h" })).await;
    let renewed = Caller::new(b.url(), rotated["key"].as_str());
    assert!(status == 200 && rotated["previousUntil"].is_string(), "{rotated}");
    eventually("the new key on the other instance", async || renewed.reference("acme").await.ok()).await;
    assert!(on_b.reference("acme").await.is_ok(), "within the grace");
    let (status, _) = admin.send(Method::DELETE, "/admin/keys/acme-1", None).await;
    let ended = Instant::now();
    assert_eq!(status, 204);
    assert_eq!(on_a.reference("acme").await, Err((401, "UNAUTHORIZED".into())), "at once where it was ended");
    for caller in [&renewed, &on_b] {
        eventually("the end of the key on the other instance", async || {
            caller.reference("acme").await.is_err().then_some(())
        })
        .await;
    }
    println!("refused on the other instance {:?} after its end", ended.elapsed());

    // A pool ends in two steps.
    let (_, made) = admin.post("/admin/keys", json!({ "name": "acme-2", "pools": ["acme", "fixed"] })).await;
    let on_b = Caller::new(b.url(), made["key"].as_str());
    eventually("the second key", async || on_b.reference("acme").await.ok()).await;
    let delete = async |query: &str| {
        let (status, body) = admin.send(Method::DELETE, &format!("/admin/pools/acme{query}"), None).await;
        (status, body["code"].clone())
    };
    assert_eq!(delete("").await, (409, "POOL_IN_USE".into()), "it hands out references");
    let closed = json!({ "closed": true, "settings": { "reference-lifetime": "30d", "issuer": null } });
    let (status, body) = admin.send(Method::PATCH, "/admin/pools/acme", Some(closed)).await;
    assert!(status == 200 && body["closed"].is_string() && body["version"] == 2, "{body}");
    assert_eq!(body["settings"], json!({ "reference-lifetime": "30d" }));
    eventually("the closed pool on the other instance", async || {
        (on_b.reference("acme").await == Err((409, "POOL_CLOSED".into()))).then_some(())
    })
    .await;
    let change = json!({ "uri": uri, "index": index, "value": 0 });
    assert_eq!(on_b.send(Method::PATCH, "/status-lists/update", Some(change)).await.0, 204, "still updated");
    assert_eq!(delete("").await, (409, "POOL_IN_USE".into()), "its references live for 30 days");
    assert_eq!(delete("?force=true").await.0, 204);
    eventually("the end of the pool on the other instance", async || {
        (on_b.reference("acme").await == Err((404, "NO_SUCH_POOL".into()))).then_some(())
    })
    .await;
    assert!(on_b.reference("fixed").await.is_ok(), "the key still opens the other pool");
    assert_eq!(delete("").await, (404, "NO_SUCH_POOL".into()));
    let (status, body) = admin.post("/admin/pools", acme).await;
    assert_eq!((status, &body["code"]), (409, &"NAME_TAKEN".into()), "{body}");
    b.kill();
    b.start_again();
    b.issuer().references("fixed", 1).await;
    let (_, pools) = Caller::new(&admin_b, Some(ADMIN)).get("/admin/pools").await;
    assert_eq!(pools, json!({ "pools": [], "deleted": ["acme"] }));
}

/// What the settings say later may contradict the store. The start says what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_contradict_the_store_are_refused_at_the_start_and_changes_are_audited() {
    let folder = tempfile::tempdir().unwrap();
    let (port, management) = (free_port(), free_port());
    let addresses = format!(
        "server: {{ management-listen: \"127.0.0.1:{management}\" }}\naudit: {{ path: data/audit.jsonl }}\n"
    );
    let settings = format!("{addresses}{}", settings(folder.path()));
    let service = Process::start(command(folder.path(), port, &settings), folder.path(), port).opened();
    let admin = Caller::new(format!("http://127.0.0.1:{management}"), Some(ADMIN));
    let acme = json!({ "name": "acme", "template": "issuers", "settings": { "title": "Acme" } });
    assert_eq!(admin.post("/admin/pools", acme).await.0, 201);
    let (_, made) = admin.post("/admin/keys", json!({ "name": "acme-1", "pools": ["acme"] })).await;
    let secret = made["key"].as_str().unwrap();
    let issuer = Caller::new(format!("http://127.0.0.1:{port}"), Some(secret));
    let (uri, _) = eventually("a reference", async || issuer.reference("acme").await.ok()).await;
    let trail = std::fs::read_to_string(folder.path().join("data/audit.jsonl")).unwrap();
    let created = trail.lines().find(|line| line.contains("create-pool")).unwrap();
    assert!(
        created.contains("\"caller\":\"operator\"") && created.contains("\"pool\":\"acme\""),
        "{created}"
    );
    assert!(trail.contains("\"create-key\"") && !trail.contains(secret), "{trail}");
    service.kill();

    let refused = |settings: String| {
        let output = command(folder.path(), port, &settings).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let twice = refused(settings.replace("status-list-pools: { fixed:", "status-list-pools: { acme:"));
    assert!(twice.contains("status-list-pools.acme") && twice.contains("template `issuers`"), "{twice}");
    let without = refused(settings.replace("templates: { issuers:", "templates: { others:"));
    assert!(without.contains("no template `issuers`") && without.contains("acme"), "{without}");
    let named = refused(settings.replace("admin-api-keys:", "retired-pools: [acme]\nadmin-api-keys:"));
    assert!(named.contains("retired-pools") && named.contains("statuslist pool delete"), "{named}");

    let _service = Process::start(command(folder.path(), port, &settings), folder.path(), port).opened();
    eventually("the pool after the restart", async || issuer.reference("acme").await.ok()).await;
    let list = uri.rsplit('/').next().unwrap();
    let served = reqwest::get(format!("http://127.0.0.1:{port}/lists/{list}")).await.unwrap();
    assert_eq!(served.status(), StatusCode::OK);
}

/// Whatever is wrong with files and keys: a key ends when it is ended, and a pool that cannot be served holds up neither the others nor a start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_elsewhere_delays_no_end_of_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let (port, management) = (free_port(), free_port());
    let addresses = format!("server: {{ management-listen: \"127.0.0.1:{management}\" }}\n");
    // The template comes first, and has a key of its own.
    let settings = settings(folder.path()).replacen("signer.pem", "of-template.pem", 1);
    let settings = format!("{addresses}{settings}");
    replace_key(folder.path(), "of-template.pem");
    let service = Process::start(command(folder.path(), port, &settings), folder.path(), port).opened();
    let admin = Caller::new(format!("http://127.0.0.1:{management}"), Some(ADMIN));
    let pool = |name: &str| json!({ "name": name, "template": "issuers" });
    assert_eq!(admin.post("/admin/pools", pool("acme")).await.0, 201);
    let mut secrets = Vec::new();
    for name in ["first", "second", "third"] {
        let (_, made) = admin.post("/admin/keys", json!({ "name": name, "pools": ["acme"] })).await;
        assert_eq!(made["inUse"], true, "{made}");
        secrets.push(made["key"].as_str().unwrap().to_owned());
    }
    let issuer = |secret: &str| {
        let secret: &'static str = Box::leak(secret.to_owned().into_boxed_str());
        Caller::new(format!("http://127.0.0.1:{port}"), Some(secret))
    };
    for secret in &secrets {
        eventually("a reference", async || issuer(secret).reference("acme").await.ok()).await;
    }
    let refused = Err((401, "UNAUTHORIZED".into()));
    let end = async |name: &str| admin.send(Method::DELETE, &format!("/admin/keys/{name}"), None).await.0;

    // Settings that cannot be read.
    let file = folder.path().join("settings.yaml");
    write(&file, "templates: [");
    assert_eq!(end("first").await, 204);
    assert_eq!(issuer(&secrets[0]).reference("acme").await, refused);
    assert!(issuer(&secrets[1]).reference("acme").await.is_ok());
    // Settings that need a restart.
    write(&file, &format!("limits: {{ batch: 7 }}\n{settings}"));
    assert_eq!(end("second").await, 204);
    assert_eq!(issuer(&secrets[1]).reference("acme").await, refused);
    write(&file, &settings);

    // A pool whose key cannot be read is stored, and not served until it can.
    std::fs::remove_file(folder.path().join("of-template.pem")).unwrap();
    let (status, body) = admin.post("/admin/pools", pool("late")).await;
    assert!(status == 503 && body["message"].as_str().unwrap().contains("stored"), "{status} {body}");
    assert!(issuer(&secrets[2]).reference("acme").await.is_ok(), "the others go on");
    assert_eq!(end("third").await, 204);
    assert_eq!(issuer(&secrets[2]).reference("acme").await, refused);
    service.kill();

    // A template whose key is not there is a fault of the settings; `check-config` tells it as well.
    let output = command(folder.path(), port, &settings).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("templates.issuers"), "{told}");
    let checked = command(folder.path(), port, &settings).arg("check-config").output().unwrap();
    let told = format!("{checked:?}");
    assert!(!checked.status.success() && told.contains("templates.issuers.signer"), "{told}");
    replace_key(folder.path(), "of-template.pem");
    let _service = Process::start(command(folder.path(), port, &settings), folder.path(), port).opened();
    let (_, made) = admin.post("/admin/keys", json!({ "name": "fourth", "pools": ["late"] })).await;
    let secret = made["key"].as_str().unwrap();
    eventually("the late pool", async || issuer(secret).reference("late").await.ok()).await;
}

/// A key that only a template names is watched as any other: a new one signs without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_template_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    let (port, management) = (free_port(), free_port());
    let settings = settings(folder.path()).replacen("signer.pem", "of-template.pem", 1);
    let settings = format!(
        "server: {{ management-listen: \"127.0.0.1:{management}\" }}\npublish: {{ keys-max-age: 1s }}\n{settings}"
    );
    let before = replace_key(folder.path(), "of-template.pem");
    let _service = Process::start(command(folder.path(), port, &settings), folder.path(), port).opened();
    let admin = Caller::new(format!("http://127.0.0.1:{management}"), Some(ADMIN));
    assert_eq!(admin.post("/admin/pools", json!({ "name": "acme", "template": "issuers" })).await.0, 201);
    let (_, made) = admin.post("/admin/keys", json!({ "name": "k", "pools": ["acme"] })).await;
    let issuer = Caller::new(format!("http://127.0.0.1:{port}"), made["key"].as_str());
    eventually("a reference", async || issuer.reference("acme").await.ok()).await;
    let signs = async || issuer.get("/pools/acme").await.1.to_string();
    assert!(signs().await.contains(&before));
    let after = replace_key(folder.path(), "of-template.pem");
    eventually("the new key to sign", async || signs().await.contains(&after).then_some(())).await;
}
