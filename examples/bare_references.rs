//! References without authentication, metrics, request ids, limits or audit trail: only the same allocator and the same
//! JSON. `bench/overhead` compares the service with it, to measure what all of that costs. Usage: `bare_references SETTINGS
//! ADDRESS`; the service with these settings runs in the same process, on its own address.

use std::path::Path;
use std::time::Duration;

use actix_web::{App as ActixApp, HttpResponse, HttpServer, web};
use anyhow::{Context, Result};
use serde::Serialize;
use statuslist::app::{App, Handle};
use statuslist::base::clock::Clock;
use statuslist::config::Config;
use statuslist::model::pool::PoolId;
use statuslist::status_list::BaseUri;

#[derive(Serialize)]
struct References {
    references: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    uri: String,
    index: u32,
}

struct Bare {
    handle: Handle,
    base: BaseUri,
}

#[actix_web::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: bare_references SETTINGS ADDRESS");
    let (settings, address) = (next()?, next()?);
    let text =
        std::fs::read_to_string(Path::new(&settings)).with_context(|| format!("cannot read {settings}"))?;
    let config = Config::load(Some(&text), std::iter::empty())?;
    let base = config.public_url.clone();
    let (handle, running) = Box::pin(App::build(config, Clock::System)).await?.run();
    let bare = web::Data::new(Bare { handle: handle.clone(), base });
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(bare.clone())
            .route("/health/live", web::get().to(HttpResponse::Ok))
            .route("/pools/{pool}/new-references", web::post().to(references))
    });
    // Set up like the service, except for its features.
    let server = server.client_request_timeout(Duration::from_secs(10)).disable_signals().bind(&address);
    let server = server.with_context(|| format!("cannot listen on {address}"))?.run();
    actix_web::rt::spawn(async move {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        terminate.recv().await;
        handle.stop();
        anyhow::Ok(())
    });
    actix_web::rt::spawn(server);
    running.await
}

async fn references(bare: web::Data<Bare>, pool: web::Path<String>) -> HttpResponse {
    let Ok(pool) = pool.parse::<PoolId>() else { return HttpResponse::NotFound().finish() };
    let Some(references) = bare.handle.allocate(&pool, 1).await else {
        return HttpResponse::ServiceUnavailable().finish();
    };
    let item = |reference: statuslist::allocate::Allocated| Item {
        uri: bare.base.join(&reference.list),
        index: reference.idx,
    };
    HttpResponse::Ok().json(References { references: references.into_iter().map(item).collect() })
}
