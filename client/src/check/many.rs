//! Many lists at once, each fetched one time, however many of its statuses are asked for.

use futures_util::stream::{self, Stream, StreamExt};

use super::verdict::{Statuses, read};
use super::{CannotTell, Check, Outcome, TokenFacts, Trust, fetch};
use crate::base::clock::Clock;

/// How many lists are fetched at the same time.
const AT_ONCE: usize = 8;

/// A list that was fetched and judged.
#[derive(Debug)]
pub struct CheckedList {
    /// Its `uri`.
    pub uri: String,
    /// What its token says about itself, if there is one. Rely on that only if it is `trusted_by` someone.
    pub token: Option<TokenFacts>,
    statuses: Result<Statuses, CannotTell>,
}

impl CheckedList {
    /// The outcome at one index, or why none can be told.
    pub fn at(&self, idx: u64) -> Result<Outcome, &CannotTell> {
        self.statuses.as_ref().map(|statuses| statuses.at(idx))
    }

    /// Why its statuses cannot be told, if so.
    pub fn why_not(&self) -> Option<&CannotTell> {
        self.statuses.as_ref().err()
    }
}

/// Fetches and judges these lists by the rules of `request`, in this order. A list that fails does not stop the others.
pub fn lists<'a>(
    request: &'a Check,
    uris: Vec<String>,
    trust: &'a Trust,
    clock: &'a Clock,
) -> impl Stream<Item = CheckedList> + 'a {
    stream::iter(uris).map(move |uri| one(request, uri, trust, clock)).buffered(AT_ONCE)
}

async fn one(request: &Check, uri: String, trust: &Trust, clock: &Clock) -> CheckedList {
    let request = Check { uri, ..request.clone() };
    let (token, statuses) = match fetch::token(&request).await {
        Ok(fetched) => read(&request, fetched.format, &fetched.body, Some(trust), clock.now().date()),
        Err(why) => (None, Err(why.into())),
    };
    CheckedList { uri: request.uri, token, statuses }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use actix_web::{HttpResponse, web};

    use super::super::verdict::tests::{NOW, claims, signer};
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::check::NotValid;
    use crate::check::fetch::tests::serve_on;
    use crate::issuer::JwkSet;
    use crate::status_list::{Claims, Status};

    #[actix_web::test]
    async fn each_list_is_fetched_once_and_one_that_fails_does_not_stop_the_others() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (signer, fetched) = (signer(), Arc::new(AtomicUsize::new(0)));
        let uri = |name: &str| format!("{base}/{name}");
        let good = signer.sign_jwt(&Claims { sub: uri("good"), ..claims() }).unwrap();
        let counted = Arc::clone(&fetched);
        serve_on(listener, move |config| {
            let (good, counted) = (good.clone(), Arc::clone(&counted));
            let list = move |path: web::Path<String>| {
                counted.fetch_add(1, Ordering::Relaxed);
                let body = if *path == "good" { good.clone() } else { "no token".to_owned() };
                async move { HttpResponse::Ok().content_type("application/statuslist+jwt").body(body) }
            };
            config.route("/{name}", web::get().to(list));
        });
        let keys = serde_json::to_vec(&JwkSet { keys: vec![signer.jwk()] }).unwrap();
        let (trust, clock) =
            (Trust::from_jwks(&keys).unwrap(), Clock::set_to(Timestamp::from_secs(NOW.secs())));
        let request = Check::new("", 0);
        let uris = vec![uri("bad"), uri("good"), "ftp://x/".to_owned()];
        let checked: Vec<_> = lists(&request, uris.clone(), &trust, &clock).collect().await;
        assert_eq!(checked.iter().map(|list| &list.uri).collect::<Vec<_>>(), uris.iter().collect::<Vec<_>>());
        assert_eq!(checked[0].why_not().unwrap().code(), "token");
        assert_eq!(checked[2].why_not().unwrap().code(), "fetch");
        let at = |idx| checked[1].at(idx).unwrap();
        assert!(matches!(at(0), Outcome::Valid));
        assert!(matches!(at(2), Outcome::NotValid(NotValid::Status(Status::SUSPENDED))));
        assert!(matches!(at(4), Outcome::NotValid(NotValid::OutsideList(_))));
        assert_eq!(fetched.load(Ordering::Relaxed), 2, "once for each list");
    }
}
