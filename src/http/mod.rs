//! Which address serves what: the lists for everyone, the write API for issuers, and the management routes for operators. One
//! address serves all, unless the settings give the write API or the operators an address of their own; then no other serves them.

pub mod api;
pub mod connection;
pub mod docs;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle, Service};
use actix_web::{App as ActixApp, HttpServer, web};
use anyhow::{Context, Result};

use crate::base::awake::Awake;
use crate::config::ServerConfig;
use crate::site::server::SiteServer;
use api::{Api, Offer};
use connection::Connection;
use docs::Docs;

/// How long a client may take to read an answer: enough for a large list over a slow line.
const SLOWEST_READER: Duration = Duration::from_secs(60);
/// How long a connection for writing may be idle. Longer than clients and proxies keep theirs (nginx 60 s; Go, Rust's reqwest
/// 90 s): if the client closes first, no request is sent into a closing connection, and no client automatically repeats a request
/// that allocates.
const IDLE_WRITER: Duration = Duration::from_secs(100);
/// The same where lists are only read: any request can be repeated, and many clients send only one.
const IDLE_READER: Duration = Duration::from_secs(5);

/// The bound addresses.
pub struct Listeners {
    public: TcpListener,
    api: Option<TcpListener>,
    management: Option<TcpListener>,
}

impl Listeners {
    /// Binds the addresses of the settings.
    pub fn bind(config: &ServerConfig) -> Result<Self> {
        let bind = |address: SocketAddr, key: &str| {
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address} (server.{key})"))
        };
        Ok(Self {
            public: bind(config.listen, "listen")?,
            api: config.api_listen.map(|address| bind(address, "api-listen")).transpose()?,
            management: config
                .management_listen
                .map(|address| bind(address, "management-listen"))
                .transpose()?,
        })
    }
}

/// Serves everything on one address.
impl From<TcpListener> for Listeners {
    fn from(public: TcpListener) -> Self {
        Self { public, api: None, management: None }
    }
}

/// The servers of all listeners, to be awaited, and the handles that stop them.
pub(crate) fn servers(
    listeners: &Listeners,
    config: &ServerConfig,
    api: &web::Data<Api>,
    site: Option<&Arc<SiteServer>>,
) -> Result<(Vec<Server>, Vec<ServerHandle>)> {
    // Operators use the address of the write API, unless they have their own.
    let (api_apart, management_apart) = (listeners.api.is_some(), listeners.management.is_some());
    let public = Offer { api: !api_apart, management: !api_apart && !management_apart };
    let awake = Awake::watch();
    let mut servers = vec![server(&listeners.public, config, config.workers, api, public, site, &awake)?];
    if let Some(listener) = &listeners.api {
        let offer = Offer { api: true, management: !management_apart };
        servers.push(server(listener, config, config.workers, api, offer, None, &awake)?);
    }
    if let Some(listener) = &listeners.management {
        let offer = Offer { api: false, management: true };
        servers.push(server(listener, config, 1, api, offer, None, &awake)?);
    }
    let handles = servers.iter().map(Server::handle).collect();
    Ok((servers, handles))
}

fn server(
    listener: &TcpListener,
    config: &ServerConfig,
    workers: usize,
    api: &web::Data<Api>,
    offer: Offer,
    site: Option<&Arc<SiteServer>>,
    awake: &Arc<Awake>,
) -> Result<Server> {
    let listener = listener.try_clone().context("cannot use the bound address")?;
    let (request_timeout, api, site) = (api.limits.request_timeout, api.clone(), site.cloned());
    let idle = if offer.api { IDLE_WRITER } else { IDLE_READER };
    // A request takes its timeout for the body, again for making the answer, and some time for the client to read it.
    let patience = idle.max(SLOWEST_READER) + request_timeout * 2;
    let awake = Arc::clone(awake);
    let docs = offer.api.then(|| Docs::new(site.as_ref().map(|site| site.base())));
    let server = HttpServer::new(move || {
        ActixApp::new()
            .wrap_fn(|request, service| {
                let connection = request.conn_data::<Connection>();
                connection.inspect(|connection| connection.begin());
                // Nobody knows when this change was sent; the connection ends with the answer.
                let late = !request.method().is_safe()
                    && connection.is_some_and(|connection| connection.is_of_before_a_sleep());
                let call = match late {
                    true => {
                        connection.inspect(|connection| connection.end());
                        Err(request.into_response(api::slept()))
                    }
                    false => Ok(service.call(request)),
                };
                async move {
                    match call {
                        Ok(call) => call.await,
                        Err(refused) => Ok(refused),
                    }
                }
            })
            .default_service(web::to(api::not_found))
            .configure(|config| {
                let others = |config: &mut web::ServiceConfig| {
                    api::configure(api.clone(), offer, config);
                    docs.iter().for_each(|docs| docs.configure(config));
                };
                match &site {
                    Some(site) => site.configure(config, others),
                    None => others(config),
                }
            })
    });
    let server = server
        .workers(workers)
        // Each worker has its own counters.
        .max_connections(config.max_connections.div_ceil(workers))
        .on_connect(move |stream, of_connection| Connection::watch(stream, of_connection, patience, &awake))
        .keep_alive(idle)
        .client_request_timeout(request_timeout)
        .shutdown_timeout(config.shutdown_grace.as_secs())
        .disable_signals()
        .listen(listener)
        .context("cannot listen")?;
    Ok(server.run())
}
