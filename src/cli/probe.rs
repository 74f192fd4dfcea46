//! `statuslist probe`: looks at published lists as wallets do, again and again or once, and tells Prometheus.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Context, Result};
use clap::Args;
use tracing_subscriber::filter::LevelFilter;

use super::check::{duration, token_format};
use super::client::{Canary, Connection};
use super::exit::REFUSED;
use crate::base::clock::Clock;
use crate::base::durable::{self, Mode};
use crate::check::TrustSource;
use crate::config::{LogFormat, Telemetry};
use crate::probe::{Metrics, Node, Probe, Round, Targets};
use crate::status_list::Format;
use crate::telemetry::{self, text};

/// `statuslist probe`
#[derive(Debug, Args)]
#[command(
    after_help = "With --once it exits with 0 if nothing is wrong, 1 if something is, 2 if it could not look."
)]
pub(super) struct Arguments {
    /// `uri` of a list to look at; may be repeated
    #[arg(long, value_name = "URI", required_unless_present = "aggregation")]
    list: Vec<String>,
    /// Address of an aggregation, all of whose lists are looked at; may be repeated
    #[arg(long, value_name = "URL")]
    aggregation: Vec<String>,
    /// Trust anchor: a PEM file of certificates, a JWKS file, or the URL of a JWKS
    #[arg(long, value_name = "FILE|URL")]
    trust: TrustSource,
    /// A node to look at: its address with a port (the request still has the public name), or `public` for whatever the
    /// public name leads to, such as a CDN; may be repeated
    #[arg(long, value_name = "ADDRESS|public", default_value = "public")]
    node: Vec<Node>,
    /// A format to look at, jwt or cwt; may be repeated
    #[arg(long, value_parser = token_format, default_value = "jwt")]
    format: Vec<Format>,
    /// Time between two rounds
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    every: Duration,
    /// The most lists in one round; the next one continues with the others
    #[arg(long, value_name = "LISTS", default_value_t = 100)]
    at_most: usize,
    /// How far a node may be behind the newest token of a list
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    max_lag: Duration,
    /// Look once, and exit. Without memory of earlier rounds an `iat` that went back is not noticed
    #[arg(long)]
    once: bool,
    /// Serve the metrics at this address of the loopback interface, at /metrics
    #[arg(long, value_name = "ADDRESS", value_parser = loopback, conflicts_with = "once")]
    listen: Option<SocketAddr>,
    /// Write the metrics to this file after each round, for the textfile collector of the node exporter
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
    /// Also allocate a reference of this pool, revoke it, and measure how long it takes until every node shows that. Needs --url and
    /// credentials; each canary uses up one reference
    #[arg(long, value_name = "POOL")]
    canary: Option<String>,
    /// Time between two canaries
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m", requires = "canary")]
    canary_every: Duration,
    /// How long a canary may take until it counts as missed
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m", requires = "canary")]
    canary_patience: Duration,
    #[command(flatten)]
    connection: Connection,
}

impl Arguments {
    pub(super) fn run(self) -> Result<ExitCode> {
        let _exporting = telemetry::start(
            &Telemetry { format: LogFormat::Human, otlp_endpoint: None },
            LevelFilter::INFO,
        )?;
        actix_web::rt::System::new().block_on(self.probe())
    }

    async fn probe(self) -> Result<ExitCode> {
        let canary = match &self.canary {
            Some(pool) => Some(Canary::new(self.connection.open()?, pool.clone(), self.canary_patience)),
            None => None,
        };
        let canary_every = canary.as_ref().map(|_| self.canary_every);
        let metrics = Arc::new(Metrics::new(&self.node, self.every, canary_every, Clock::System.now()));
        let mut probe = Probe::new(self.targets(), Clock::System);
        if self.once {
            let round = probe.round(&metrics).await;
            report(&round);
            let missed = match &canary {
                Some(canary) => canary.fly(&probe, &metrics).await?,
                None => 0,
            };
            self.write(&metrics)?;
            println!(
                "looked at {} lists on {} nodes: {} problems",
                round.lists,
                self.node.len(),
                round.problems.len() + missed
            );
            let good = round.problems.is_empty() && missed == 0;
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) });
        }
        if let Some(address) = self.listen {
            serve(address, Arc::clone(&metrics))?;
        }
        // Beside the rounds, which must not wait for a canary.
        if let Some(canary) = canary {
            let (probe, metrics) = (Probe::new(self.targets(), Clock::System), Arc::clone(&metrics));
            let mut interval = tokio::time::interval(self.canary_every);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            actix_web::rt::spawn(async move {
                loop {
                    interval.tick().await;
                    if let Err(error) = canary.fly(&probe, &metrics).await {
                        tracing::error!(error = format!("{error:#}"), "cannot send a canary");
                    }
                }
            });
        }
        let mut interval = tokio::time::interval(self.every);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let rounds = async {
            loop {
                interval.tick().await;
                report(&probe.round(&metrics).await);
                self.write(&metrics)?;
            }
        };
        tokio::select! {
            ended = rounds => ended,
            () = super::wait_for_signal() => Ok(ExitCode::SUCCESS),
        }
    }

    fn targets(&self) -> Targets {
        Targets {
            lists: self.list.clone(),
            aggregations: self.aggregation.clone(),
            nodes: self.node.clone(),
            formats: self.format.clone(),
            trust: self.trust.clone(),
            lists_max: self.at_most,
            lag_max: self.max_lag,
        }
    }

    fn write(&self, metrics: &Metrics) -> Result<()> {
        let Some(file) = &self.textfile else { return Ok(()) };
        durable::replace(file, metrics.to_text().as_bytes(), Mode::Public).context("cannot write --textfile")
    }
}

fn report(round: &Round) {
    for problem in &round.problems {
        tracing::warn!(node = %problem.node, list = problem.list, reason = problem.reason.name(), "{}", problem.why);
    }
}

/// Serves the metrics until the program ends.
fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> Result<()> {
    let metrics = web::Data::from(metrics);
    let server = HttpServer::new(move || {
        let show = async |metrics: web::Data<Metrics>| {
            HttpResponse::Ok().content_type(text::PROMETHEUS).body(metrics.to_text())
        };
        App::new().app_data(metrics.clone()).route("/metrics", web::get().to(show))
    });
    let server = server.workers(1).disable_signals().bind(address);
    let server = server.with_context(|| format!("cannot listen on {address} (--listen)"))?;
    tracing::info!("the metrics are at http://{address}/metrics");
    actix_web::rt::spawn(server.run());
    Ok(())
}

fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.parse::<SocketAddr>().map_err(|_| "an address has a port, such as 127.0.0.1:9634")?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("the metrics are served on a loopback address only; put a proxy in front for others"),
    }
}
