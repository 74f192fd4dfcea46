//! The cheapest server for updates: it parses the same JSON as `PATCH /status-lists/update`, answers 204 and keeps nothing.
//! `bench/http` compares the service with it. Usage: `parse_only ADDRESS`.

use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Context, Result};
use serde::Deserialize;

/// The same body as in the service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    uri: String,
    index: u64,
    value: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(u64),
    Name(Name),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Valid,
    Invalid,
    Suspended,
}

#[actix_web::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).context("usage: parse_only ADDRESS")?;
    let server = HttpServer::new(|| {
        App::new()
            .route("/health/live", web::get().to(live))
            .route("/status-lists/update", web::patch().to(update))
    });
    // Set up like the service, except for its features.
    let server = server.client_request_timeout(Duration::from_secs(10)).bind(&address);
    server.with_context(|| format!("cannot listen on {address}"))?.run().await?;
    Ok(())
}

async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "UP" }))
}

async fn update(body: web::Bytes) -> HttpResponse {
    // Uses the parsed values, so that parsing cannot be optimised away.
    let accepted = serde_json::from_slice::<Update>(&body).is_ok_and(|update| {
        let value = match update.value {
            Value::Number(number) => number,
            Value::Name(Name::Valid) => 0,
            Value::Name(Name::Invalid) => 1,
            Value::Name(Name::Suspended) => 2,
        };
        !update.uri.is_empty() && update.index <= u64::from(u32::MAX) && value <= u64::from(u8::MAX)
    });
    if accepted { HttpResponse::NoContent().finish() } else { HttpResponse::BadRequest().finish() }
}
