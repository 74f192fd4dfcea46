//! Each rule of the cache, against a real server, with a clock that the test moves.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::base::clock::Timestamp;
use crate::check::testing::{NOW, after, claims, serve_on, signer, signer_of, token};
use crate::check::{CheckLimits, TrustSource};
use crate::issuer::{Algorithm, JwkSet, Signer};
use crate::status_list::{Bits, Claims, Format, Status, lst};

const TTL: u64 = 600;

/// A server of lists and of the keys that signed them.
struct Site {
    base: String,
    served: Arc<Served>,
    signer: Signer,
    clock: Clock,
}

#[derive(Default)]
struct Served {
    replies: Mutex<HashMap<String, Reply>>,
    jwks: Mutex<String>,
    keys_fetched: AtomicUsize,
    fetched: AtomicUsize,
    /// `If-None-Match` of the latest request.
    condition: Mutex<Option<String>>,
    /// Requests that wait at the gate now, and the most that ever did.
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
    gate: Mutex<Option<Arc<Semaphore>>>,
}

#[derive(Clone)]
struct Reply {
    status: u16,
    format: Format,
    body: Vec<u8>,
    etag: Option<&'static str>,
}

impl Served {
    async fn list(self: Arc<Self>, request: HttpRequest, name: String) -> HttpResponse {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        let condition = request.headers().get("if-none-match").map(|tag| tag.to_str().unwrap().to_owned());
        self.condition.lock().clone_from(&condition);
        let gate = self.gate.lock().clone();
        if let Some(gate) = gate {
            let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_waiting.fetch_max(waiting, Ordering::SeqCst);
            let _passed = gate.acquire().await.unwrap();
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        let Some(reply) = self.replies.lock().get(&name).cloned() else {
            return HttpResponse::NotFound().finish();
        };
        if condition.is_some() && condition.as_deref() == reply.etag {
            return HttpResponse::NotModified().finish();
        }
        let mut response = HttpResponse::build(reply.status.try_into().unwrap());
        response.content_type(reply.format.media_type());
        reply.etag.map(|tag| response.insert_header(("etag", tag)));
        response.body(reply.body)
    }
}

impl Site {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::new(Served::default());
        let shared = Arc::clone(&served);
        serve_on(listener, move |config| {
            let (lists, keys) = (Arc::clone(&shared), Arc::clone(&shared));
            let list = move |request: HttpRequest, name: web::Path<String>| {
                Arc::clone(&lists).list(request, name.into_inner())
            };
            let jwks = move || {
                keys.keys_fetched.fetch_add(1, Ordering::SeqCst);
                let jwks = keys.jwks.lock().clone();
                async move { HttpResponse::Ok().content_type("application/json").body(jwks) }
            };
            config.route("/jwks.json", web::get().to(jwks)).route("/{name}", web::get().to(list));
        });
        let signer = signer();
        let clock = Clock::set_to(Timestamp::from(NOW));
        let site = Self { base, served, signer, clock };
        site.trust(&[&site.signer]);
        site
    }

    fn trust(&self, signers: &[&Signer]) {
        let jwks = JwkSet { keys: signers.iter().map(|signer| signer.jwk()).collect() };
        *self.served.jwks.lock() = serde_json::to_string(&jwks).unwrap();
    }

    fn check(&self) -> Check {
        let trust = Some(TrustSource::Url(format!("{}/jwks.json", self.base)));
        Check { trust, ..Check::new("", 0) }
    }

    fn cache(&self, rules: CacheRules) -> StatusListCache {
        StatusListCache::with_clock(self.check(), rules, self.clock.clone())
    }

    fn uri(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    fn reference(&self, name: &str, idx: u64) -> Reference {
        Reference { uri: self.uri(name), idx }
    }

    /// Serves a list with these claims and the site's own `sub`.
    fn serve(&self, name: &str, claims: Claims) {
        self.serve_as(name, claims, None);
    }

    fn serve_as(&self, name: &str, claims: Claims, etag: Option<&'static str>) {
        let claims = Claims { sub: self.uri(name), ..claims };
        let body = token(Format::Jwt, &self.signer, &claims);
        self.reply(name, Reply { status: 200, format: Format::Jwt, body, etag });
    }

    fn fail(&self, name: &str, status: u16) {
        self.reply(name, Reply { status, format: Format::Jwt, body: Vec::new(), etag: None });
    }

    fn reply(&self, name: &str, reply: Reply) {
        self.served.replies.lock().insert(name.to_owned(), reply);
    }

    /// From now on requests wait, until the permits of the returned gate let them pass.
    fn shut(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.served.gate.lock() = Some(Arc::clone(&gate));
        gate
    }

    fn fetched(&self) -> usize {
        self.served.fetched.load(Ordering::SeqCst)
    }

    fn pass(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }
}

/// Rules without renewals in the background.
fn rules() -> CacheRules {
    CacheRules { renewals_max: 0, ..CacheRules::default() }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn code(cache: &StatusListCache, reference: &Reference) -> &'static str {
    cache.status(reference).await.unwrap_err().code()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < secs(20), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[actix_web::test]
async fn a_token_is_used_for_its_ttl_and_not_a_second_longer() {
    let site = Site::start();
    site.serve("list", claims());
    let cache = site.cache(rules());
    for (idx, status) in [Status::VALID, Status::INVALID, Status::SUSPENDED].into_iter().enumerate() {
        assert_eq!(cache.status(&site.reference("list", idx as u64)).await.unwrap().status, status);
    }
    site.pass(TTL - 1);
    let answer = cache.status(&site.reference("list", 0)).await.unwrap();
    assert_eq!((answer.freshness, answer.age, answer.iat), (Freshness::Fresh, secs(TTL - 1), after(-12)));
    assert_eq!(site.fetched(), 1);
    site.pass(1);
    let answer = cache.status(&site.reference("list", 0)).await.unwrap();
    assert_eq!((answer.age, site.fetched()), (Duration::ZERO, 2));
    let counts = cache.counts();
    assert_eq!((counts.from_memory, counts.waited, counts.fetches, counts.lists), (3, 2, 2, 1));
}

#[actix_web::test]
async fn exp_ends_a_token_before_its_ttl_even_if_the_clock_is_set_back() {
    let site = Site::start();
    site.serve("list", Claims { exp: Some(after(100)), ..claims() });
    // The server cannot be reached, which would allow any other token to be used.
    let cache = site.cache(CacheRules { stale_max: secs(10_000), ..rules() });
    let reference = site.reference("list", 0);
    cache.status(&reference).await.unwrap();
    site.fail("list", 503);
    site.pass(99);
    assert_eq!(cache.status(&reference).await.unwrap().freshness, Freshness::Fresh);
    site.pass(1);
    assert_eq!(code(&cache, &reference).await, "fetch");
    site.clock.jump(-50);
    assert_eq!(code(&cache, &reference).await, "fetch");
}

#[actix_web::test]
async fn ttl_is_bounded_and_may_be_absent() {
    let site = Site::start();
    let far = Some(after(10_000_000));
    for (name, ttl, exp, used_for) in [
        ("short", Some(1), far, 5),
        ("long", Some(1_000_000), far, 86_400),
        ("without", None, Some(after(1000)), 1000),
        ("without-far", None, far, 86_400),
        ("neither", None, None, 5),
    ] {
        site.serve(name, Claims { ttl: ttl.map(secs), exp, ..claims() });
        let (cache, reference) = (site.cache(rules()), site.reference(name, 0));
        let before = site.fetched();
        cache.status(&reference).await.unwrap();
        let begun = site.clock.now();
        site.pass(used_for - 1);
        cache.status(&reference).await.unwrap();
        assert_eq!(site.fetched() - before, 1, "{name}");
        site.pass(1);
        let _ = cache.status(&reference).await;
        assert_eq!(site.fetched() - before, 2, "{name}");
        site.clock.jump(-(i64::try_from(site.clock.now().since(begun).as_secs()).unwrap()));
    }
}

#[actix_web::test]
async fn many_callers_share_one_fetch() {
    let site = Site::start();
    site.serve("list", claims());
    let (cache, gate) = (site.cache(rules()), site.shut());
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let (cache, reference) = (cache.clone(), site.reference("list", 1));
            actix_web::rt::spawn(async move { cache.status(&reference).await })
        })
        .collect();
    eventually("all wait", || cache.counts().waited == 50).await;
    gate.add_permits(1000);
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().status, Status::INVALID);
    }
    assert_eq!((site.fetched(), cache.counts().fetches), (1, 1));
}

#[actix_web::test]
async fn a_fetch_goes_on_when_its_caller_gives_up() {
    let site = Site::start();
    site.serve("list", claims());
    let (cache, gate, reference) = (site.cache(rules()), site.shut(), site.reference("list", 1));
    let caller = actix_web::rt::spawn({
        let (cache, reference) = (cache.clone(), reference.clone());
        async move { cache.status(&reference).await }
    });
    eventually("the request has arrived", || site.fetched() == 1).await;
    caller.abort();
    gate.add_permits(1000);
    assert_eq!(cache.status(&reference).await.unwrap().status, Status::INVALID);
    assert_eq!(site.fetched(), 1);
}

#[actix_web::test]
async fn a_list_is_renewed_in_the_background_before_its_time_is_over() {
    let site = Site::start();
    site.serve("list", claims());
    let (cache, reference) = (site.cache(CacheRules::default()), site.reference("list", 0));
    cache.status(&reference).await.unwrap();
    site.pass(TTL * 7 / 10 - 1);
    cache.status(&reference).await.unwrap();
    assert_eq!(cache.counts().waited, 1);
    site.pass(TTL * 2 / 10 + 1);
    // Whoever waited for a fetch now would wait for ever.
    let gate = site.shut();
    for _ in 0..10 {
        assert_eq!(cache.status(&reference).await.unwrap().age, secs(TTL * 9 / 10));
    }
    eventually("one renewal has begun", || site.fetched() == 2).await;
    gate.add_permits(1000);
    eventually("it has ended", || cache.counts().fetches == 2).await;
    assert_eq!(cache.status(&reference).await.unwrap().age, Duration::ZERO);
    assert_eq!((site.fetched(), cache.counts().waited), (2, 1));
}

#[actix_web::test]
async fn renewals_are_bounded_and_spread() {
    let site = Site::start();
    let cache = site.cache(CacheRules { renewals_max: 2, ..CacheRules::default() });
    let names: Vec<String> = (0..20).map(|number| format!("list-{number}")).collect();
    for name in &names {
        site.serve(name, claims());
        cache.status(&site.reference(name, 0)).await.unwrap();
    }
    let ask_all = async || {
        for name in &names {
            cache.status(&site.reference(name, 0)).await.unwrap();
        }
    };
    site.pass(TTL * 9 / 10);
    let gate = site.shut();
    for _ in 0..3 {
        ask_all().await;
    }
    eventually("two renewals wait", || site.served.waiting.load(Ordering::SeqCst) == 2).await;
    ask_all().await;
    gate.add_permits(1000);
    // Whenever one has ended, another begins with the next question.
    let begun = Instant::now();
    while cache.counts().fetches < 40 {
        ask_all().await;
        assert!(begun.elapsed() < secs(20), "{:?}", cache.counts());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(site.served.most_waiting.load(Ordering::SeqCst), 2);

    // All were fetched within the same second, and are not due in the same.
    let cache = site.cache(CacheRules { renewals_max: 100, ..CacheRules::default() });
    for name in &names {
        cache.status(&site.reference(name, 0)).await.unwrap();
    }
    site.pass(TTL * 8 / 10);
    let before = site.fetched();
    for name in &names {
        cache.status(&site.reference(name, 0)).await.unwrap();
    }
    eventually("some are renewed", || cache.counts().fetches > 20).await;
    let begun = site.fetched() - before;
    assert!((1..20).contains(&begun), "{begun} of 20");
}

#[actix_web::test]
async fn a_stale_answer_needs_permission_and_an_unreachable_server_and_says_what_it_is() {
    let site = Site::start();
    site.serve("list", claims());
    let reference = site.reference("list", 1);
    let (strict, lenient) = (site.cache(rules()), site.cache(CacheRules { stale_max: secs(300), ..rules() }));
    for cache in [&strict, &lenient] {
        cache.status(&reference).await.unwrap();
    }
    site.fail("list", 503);
    site.pass(TTL + 20);
    assert_eq!(code(&strict, &reference).await, "fetch");
    let answer = lenient.status(&reference).await.unwrap();
    assert_eq!((answer.status, answer.age), (Status::INVALID, secs(TTL + 20)));
    assert_eq!(answer.freshness, Freshness::Stale { by: secs(20) });
    // The server is there, and says something else: that is no reason to use an old token.
    for status in [404, 410, 200] {
        site.fail("list", status);
        site.pass(20);
        assert!(lenient.status(&reference).await.is_err(), "{status}");
    }
    site.fail("list", 503);
    site.pass(200);
    assert_eq!(lenient.status(&reference).await.unwrap().freshness, Freshness::Stale { by: secs(280) });
    site.pass(21);
    assert_eq!(code(&lenient, &reference).await, "fetch");
    site.serve("list", claims());
    site.pass(10);
    assert_eq!(lenient.status(&reference).await.unwrap().freshness, Freshness::Fresh);
}

#[test]
fn only_a_server_that_gives_no_answer_is_unreachable() {
    let fetch = |why| NoStatus::from(CannotTell::Fetch(why)).is_unreachable();
    let why = String::new;
    assert!(fetch(FetchError::Timeout { why: why() }) && fetch(FetchError::Transport { why: why() }));
    for (status, unreachable) in [(404, false), (410, false), (429, true), (500, true), (599, true)] {
        assert_eq!(fetch(FetchError::Status { status, advice: "" }), unreachable, "{status}");
    }
    assert!(!fetch(FetchError::ContentType { got: why() }) && !fetch(FetchError::TooLarge { max: 1 }));
    assert!(!NoStatus::from(CannotTell::NoTrust).is_unreachable());
}

#[actix_web::test]
async fn a_failure_is_remembered_for_a_while() {
    let site = Site::start();
    site.fail("list", 503);
    let (cache, reference) = (site.cache(rules()), site.reference("list", 0));
    for _ in 0..100 {
        assert_eq!(code(&cache, &reference).await, "fetch");
    }
    assert_eq!(site.fetched(), 1);
    site.serve("list", claims());
    site.pass(9);
    assert_eq!(code(&cache, &reference).await, "fetch");
    site.pass(1);
    cache.status(&reference).await.unwrap();
    assert_eq!((site.fetched(), cache.counts().failures), (2, 1));
}

#[actix_web::test]
async fn a_token_that_has_not_changed_is_not_sent_again_but_judged_again() {
    let site = Site::start();
    site.serve_as("list", Claims { exp: Some(after(1300)), ..claims() }, Some("\"v1\""));
    let (cache, reference) = (site.cache(rules()), site.reference("list", 2));
    cache.status(&reference).await.unwrap();
    assert_eq!(*site.served.condition.lock(), None);
    for passed in [TTL, 2 * TTL] {
        site.pass(TTL);
        let answer = cache.status(&reference).await.unwrap();
        assert_eq!((answer.status, answer.age), (Status::SUSPENDED, Duration::ZERO), "after {passed} s");
        assert_eq!(site.served.condition.lock().as_deref(), Some("\"v1\""));
    }
    site.pass(100);
    assert_eq!(code(&cache, &reference).await, "exp");
    assert_eq!(site.fetched(), 4);
    site.serve_as("list", Claims { iat: after(1300), exp: Some(after(5000)), ..claims() }, Some("\"v2\""));
    site.pass(10);
    assert_eq!(cache.status(&reference).await.unwrap().iat, after(1300));
}

#[actix_web::test]
async fn a_list_never_goes_back_to_an_older_token() {
    let site = Site::start();
    let revoked = Claims { iat: after(-10), ..claims() };
    let earlier = Claims { iat: after(-11), lst: lst::compress(&[0]).into(), ..claims() };
    site.serve("list", revoked.clone());
    let reference = site.reference("list", 1);
    let cache = site.cache(CacheRules { stale_max: secs(10_000), ..CacheRules::default() });
    cache.status(&reference).await.unwrap();
    site.serve("list", earlier);
    // The renewal brings the older one, and what is held stays for its time.
    site.pass(TTL * 9 / 10);
    cache.status(&reference).await.unwrap();
    eventually("the renewal has failed", || cache.counts().failures == 1).await;
    assert_eq!(cache.status(&reference).await.unwrap().status, Status::INVALID);
    site.pass(TTL / 10);
    let why = cache.status(&reference).await.unwrap_err();
    assert!(
        matches!(why, NoStatus::WentBack { iat, held } if (iat, held) == (after(-11), after(-10))),
        "{why}"
    );
    assert_eq!(why.code(), "iat");
    // The same token again is no step back.
    site.serve("list", revoked);
    site.pass(10);
    assert_eq!(cache.status(&reference).await.unwrap().status, Status::INVALID);
}

#[actix_web::test]
async fn the_list_that_was_asked_for_the_longest_ago_goes_first() {
    let site = Site::start();
    for name in ["a", "b", "c", "large"] {
        let entries = if name == "large" { 100_000 } else { 1000 };
        site.serve(name, Claims { lst: lst::compress(&vec![0; entries]).into(), ..claims() });
    }
    let ask = async |cache: &StatusListCache, names: &[&str]| {
        let before = site.fetched();
        for name in names {
            cache.status(&site.reference(name, 0)).await.unwrap();
        }
        site.fetched() - before
    };
    let by_number = CacheRules { lists_max: 2, ..rules() };
    let by_bytes = CacheRules { bytes_max: 4500, ..rules() };
    for rules in [by_number, by_bytes] {
        let cache = site.cache(rules);
        assert_eq!(ask(&cache, &["a", "b", "a", "c"]).await, 3, "b goes");
        assert_eq!(ask(&cache, &["a", "c"]).await, 0);
        assert_eq!(ask(&cache, &["b"]).await, 1);
        assert_eq!(ask(&cache, &["c", "a"]).await, 1, "a has gone");
        assert_eq!(cache.counts().lists, 2);
        assert!((2000..4500).contains(&cache.counts().bytes), "{:?}", cache.counts());
    }
    let cache = site.cache(CacheRules { bytes_max: 4500, ..rules() });
    assert_eq!(ask(&cache, &["a", "large", "large", "a"]).await, 3, "told from, but not held");
}

#[actix_web::test]
async fn lists_that_cannot_be_fetched_drive_out_no_others() {
    let site = Site::start();
    let cache = site.cache(CacheRules { lists_max: 3, ..rules() });
    for name in ["a", "b"] {
        site.serve(name, claims());
        cache.status(&site.reference(name, 0)).await.unwrap();
    }
    for number in 0..20 {
        assert_eq!(code(&cache, &site.reference(&format!("none-{number}"), 0)).await, "fetch");
    }
    assert_eq!(cache.counts().lists, 2);
    let gate = site.shut();
    let waits = actix_web::rt::spawn({
        let (cache, reference) = (cache.clone(), site.reference("slow", 0));
        async move { cache.status(&reference).await }
    });
    eventually("one is being fetched", || site.served.waiting.load(Ordering::SeqCst) == 1).await;
    let small = site.cache(CacheRules { lists_max: 1, ..rules() });
    let first = actix_web::rt::spawn({
        let (cache, reference) = (small.clone(), site.reference("slow", 0));
        async move { cache.status(&reference).await }
    });
    eventually("its only place is taken", || small.counts().waited == 1).await;
    let other = site.reference("other", 0);
    let told = tokio::time::timeout(secs(20), code(&small, &other)).await;
    assert_eq!(told.expect("it waits at the gate"), "full");
    gate.add_permits(1000);
    for waiting in [waits, first] {
        assert!(waiting.await.unwrap().is_err());
    }
}

#[actix_web::test]
async fn what_has_ended_is_dropped() {
    let site = Site::start();
    let cache = site.cache(rules());
    site.serve("ends", Claims { exp: Some(after(100)), ..claims() });
    site.serve("stays", claims());
    cache.status(&site.reference("ends", 0)).await.unwrap();
    site.pass(100);
    assert_eq!(cache.counts().lists, 1);
    cache.status(&site.reference("stays", 0)).await.unwrap();
    let (lists, bytes) = (cache.counts().lists, cache.counts().bytes);
    site.serve("more", claims());
    cache.status(&site.reference("more", 0)).await.unwrap();
    assert_eq!((lists, cache.counts().lists), (1, 2));
    assert!(cache.counts().bytes.abs_diff(2 * bytes) < 16, "what was dropped is not counted");
}

#[actix_web::test]
async fn new_keys_are_loaded_when_a_signature_calls_for_them_and_old_ones_end() {
    let mut site = Site::start();
    let claims = || Claims { exp: Some(after(100_000)), ..claims() };
    site.serve("list", claims());
    let (cache, reference) = (site.cache(rules()), site.reference("list", 1));
    cache.status(&reference).await.unwrap();
    let loaded = || site.served.keys_fetched.load(Ordering::SeqCst);
    assert_eq!(loaded(), 1);

    // Another signer, whose key is not published yet.
    let old = std::mem::replace(&mut site.signer, signer_of(Algorithm::EdDsa, Some("b")));
    site.serve("list", claims());
    site.serve("other", claims());
    site.pass(TTL);
    let loaded = || site.served.keys_fetched.load(Ordering::SeqCst);
    assert_eq!(code(&cache, &reference).await, "signature");
    assert_eq!(code(&cache, &site.reference("other", 0)).await, "signature");
    assert_eq!(loaded(), 2, "once in a pause, however many signatures call for it");
    site.trust(&[&old, &site.signer]);
    site.pass(10);
    cache.status(&reference).await.unwrap();
    assert_eq!(loaded(), 3);

    // The key is withdrawn, and the token that it signed stays for its time at most.
    site.trust(&[&old]);
    site.pass(3600);
    assert_eq!(code(&cache, &reference).await, "signature");
    assert_eq!(loaded(), 4);
}

#[actix_web::test]
async fn the_rules_of_check_hold() {
    let site = Site::start();
    site.serve("list", claims());
    let reference = site.reference("list", 0);
    let asked = async |check: Check| {
        let cache = StatusListCache::with_clock(check, rules(), site.clock.clone());
        cache.status(&reference).await
    };
    let code = async |check: Check| asked(check).await.unwrap_err().code();
    assert!(asked(site.check()).await.is_ok());
    assert_eq!(code(Check { trust: None, ..site.check() }).await, "no-trust");
    assert_eq!(code(Check { max_age: Some(secs(11)), ..site.check() }).await, "max-age");
    assert_eq!(code(Check { format: Some(Format::Cwt), ..site.check() }).await, "fetch");
    // More than the keys have, and less than the token.
    let limits = CheckLimits { body_bytes_max: 300, ..CheckLimits::default() };
    assert_eq!(code(Check { limits, ..site.check() }).await, "fetch");
    let profiles = [crate::profile::Profile::Haip].into_iter().collect();
    assert_eq!(code(Check { profiles, ..site.check() }).await, "profile");
    assert!(asked(Check { time: Some(after(-5000)), ..site.check() }).await.is_ok(), "the time is ignored");

    let cache = site.cache(rules());
    let outside = cache.status(&site.reference("list", 4)).await.unwrap_err();
    assert!(matches!(outside, NoStatus::OutsideList(_)), "{outside}");
    assert_eq!(outside.code(), "idx");

    // Twelve seconds old when it is fetched.
    let cache = StatusListCache::with_clock(
        Check { max_age: Some(secs(100)), ..site.check() },
        rules(),
        site.clock.clone(),
    );
    cache.status(&reference).await.unwrap();
    site.pass(88);
    cache.status(&reference).await.unwrap();
    site.pass(1);
    assert_eq!(cache.status(&reference).await.unwrap_err().code(), "max-age");
}

#[actix_web::test]
async fn lists_of_every_width_format_and_algorithm_are_read() {
    let site = Site::start();
    let algorithms = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512, Algorithm::EdDsa];
    let signers = algorithms.map(|algorithm| signer_of(algorithm, None));
    site.trust(&signers.each_ref());
    let cache = site.cache(rules());
    for bits in [Bits::One, Bits::Two, Bits::Four, Bits::Eight] {
        for format in Format::SIGNED {
            for (number, signer) in signers.iter().enumerate() {
                let name = format!("{bits}-{format}-{number}");
                let (sub, lst) = (site.uri(&name), lst::compress(&[0b01, 0xFF]).into());
                let body = token(format, signer, &Claims { sub, bits, lst, ..claims() });
                site.reply(&name, Reply { status: 200, format, body, etag: None });
                let last = 16 / u64::from(bits.get()) - 1;
                for (idx, status) in [(0, Status::INVALID), (last, Status::new(bits.status_max()))] {
                    let answer = cache.status(&site.reference(&name, idx)).await.unwrap();
                    assert_eq!(answer.status, status, "{name}");
                }
            }
        }
    }
    assert_eq!((cache.counts().lists, cache.counts().fetches), (32, 32));
}
