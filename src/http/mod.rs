//! Which address serves what: the lists for everyone, the write API for issuers, and the management routes for operators. One
//! address serves all, unless the settings give the write API or the operators an address of their own; then no other serves them.

pub mod api;
mod connection;
pub mod docs;
pub mod places;
mod unread;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle, Service, ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::rt::net::TcpStream;
use actix_web::{App as ActixApp, HttpResponse, HttpServer, web};
use anyhow::{Context, Result};

use crate::base::awake::Awake;
use crate::config::ServerConfig;
use crate::site::server::SiteServer;
use api::{Api, Offer};
use connection::{Connection, WithoutPlace};
use docs::Docs;
use places::{Places, Room};
use unread::Unread;

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
            TcpListener::bind(address).with_context(|| {
                let variable = key.to_uppercase().replace('-', "_");
                format!("cannot listen on {address}; set server.{key} (STATUSLIST__SERVER__{variable}) to an address that is free")
            })
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

/// The most connections to the operators' address. Few connect to it, and nobody else takes their places.
const OPERATORS_MAX: usize = 64;

/// What the servers of all addresses share.
struct Shared<'a> {
    config: &'a ServerConfig,
    api: &'a web::Data<Api>,
    awake: Arc<Awake>,
    places: Arc<Places>,
}

/// The servers of all listeners, to be awaited, and the handles that stop them. All together keep at most the connections of `room`.
pub(crate) fn servers(
    listeners: &Listeners,
    config: &ServerConfig,
    room: Room,
    api: &web::Data<Api>,
    site: Option<&Arc<SiteServer>>,
) -> Result<(Vec<Server>, Vec<ServerHandle>)> {
    // Operators use the address of the write API, unless they have their own.
    let (api_apart, management_apart) = (listeners.api.is_some(), listeners.management.is_some());
    // Each address has places of its own, so that none can take those of another.
    let of_management = if management_apart { OPERATORS_MAX.min(room.connections / 8) } else { 0 };
    let of_api = if api_apart { (room.connections - of_management) / 2 } else { 0 };
    let of_public = room.connections - of_management - of_api;
    let places = Places::new(room, api.metrics.connections.clone());
    let shared = Shared { config, api, awake: Awake::watch(), places };
    let public = Offer { api: !api_apart, management: !api_apart && !management_apart };
    let mut servers = vec![server(&listeners.public, &shared, (config.workers, of_public), public, site)?];
    if let Some(listener) = &listeners.api {
        let offer = Offer { api: true, management: !management_apart };
        servers.push(server(listener, &shared, (config.workers, of_api), offer, None)?);
    }
    if let Some(listener) = &listeners.management {
        let offer = Offer { api: false, management: true };
        servers.push(server(listener, &shared, (1, of_management), offer, None)?);
    }
    let handles = servers.iter().map(Server::handle).collect();
    Ok((servers, handles))
}

fn server(
    listener: &TcpListener,
    shared: &Shared<'_>,
    (workers, connections): (usize, usize),
    offer: Offer,
    site: Option<&Arc<SiteServer>>,
) -> Result<Server> {
    let listener = listener.try_clone().context("cannot use the bound address")?;
    let Shared { config, api, awake, places } = shared;
    let request_timeout = api.limits.request_timeout;
    let (api, site, awake, places) = ((*api).clone(), site.cloned(), Arc::clone(awake), Arc::clone(places));
    let idle = if offer.api { IDLE_WRITER } else { IDLE_READER };
    // A request takes its timeout for the body, again for making the answer, and some time for the client to read it.
    let patience = idle.max(SLOWEST_READER) + request_timeout * 2;
    let docs = offer.api.then(|| Docs::new(site.as_ref().map(|site| site.base())));
    let of_connections = api.clone();
    let server = HttpServer::new(move || {
        ActixApp::new()
            .wrap_fn(|mut request, service| {
                let unread = Unread::of(&mut request);
                let call = match refused(&request) {
                    Some(refuse) => Err(request.into_response(refuse)),
                    None => Ok(service.call(request)),
                };
                async move {
                    let answer: ServiceResponse = match call {
                        Ok(call) => call.await?,
                        Err(refused) => refused,
                    };
                    Ok::<_, actix_web::Error>(match unread {
                        Some(unread) => unread.end(answer).await,
                        None => answer,
                    })
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
        .max_connections((connections / workers).max(1))
        .on_connect(move |stream, of_connection| {
            let Some(stream) = stream.downcast_ref::<TcpStream>() else { return };
            let address = stream.peer_addr().ok().and_then(|peer| of_connections.access().counted(peer.ip()));
            match places.take(address) {
                Some(place) => Connection::watch(stream, of_connection, patience, &awake, Some(place)),
                None => Connection::refuse(stream, of_connection),
            }
        })
        .keep_alive(idle)
        .client_request_timeout(request_timeout)
        // `unread` reads what is left of a body, so the server must not, which would read without a bound.
        .client_disconnect_timeout(Duration::ZERO)
        .shutdown_timeout(config.shutdown_grace.as_secs())
        .disable_signals()
        .listen(listener)
        .context("cannot listen")?;
    Ok(server.run())
}

/// Notes that a request begins. Returns the answer if its connection rules it out.
fn refused(request: &ServiceRequest) -> Option<HttpResponse> {
    if request.conn_data::<WithoutPlace>().is_some() {
        return Some(last(api::without_place()));
    }
    let connection = request.conn_data::<Connection>()?;
    connection.begin();
    // Nobody knows when this change was sent.
    (!request.method().is_safe() && connection.is_of_before_a_sleep()).then(|| last(api::slept()))
}

/// The same answer as the last of its connection.
fn last(mut answer: HttpResponse) -> HttpResponse {
    answer.head_mut().set_connection_type(ConnectionType::Close);
    answer
}
