//! Connections to PostgreSQL, and what the server says about each besides its answers.
//!
//! A commit whose synchronous standby did not confirm it is answered as if it had been, with a warning before it. So every
//! connection notes its warnings, which is why this is not `deadpool-postgres`: that drops them.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool::managed;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::Severity;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::checks::{self, Unusable};
use crate::config::PostgresConfig;
use crate::store::standing::Standing;

/// The connections of this instance.
pub(super) type Connections = managed::Pool<Manager>;
/// A connection, for one caller at a time.
pub(super) type Pooled = managed::Object<Manager>;
/// Why no connection is to be had.
pub(super) type NoConnection = managed::PoolError<Unusable>;

/// Makes connections, and refuses servers that would lose what they acknowledge.
pub(super) struct Manager {
    to: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
    config: PostgresConfig,
    standing: Arc<Standing>,
}

/// A connection; closed when dropped.
pub(super) struct Connection {
    pub(super) client: Client,
    warned: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// Creates the pool. Fails if TLS is wanted and the system has no certificate authorities.
pub(super) fn connections(config: &PostgresConfig, standing: Arc<Standing>) -> Result<Connections, String> {
    let mut to = tokio_postgres::Config::new();
    for address in &config.hosts {
        to.host(&address.host).port(address.port);
    }
    to.user(&config.username).dbname(&config.database).application_name("statuslist");
    if let Some(password) = &config.password {
        to.password(password.expose_secret());
    }
    to.connect_timeout(config.connect_timeout);
    to.target_session_attrs(TargetSessionAttrs::ReadWrite);
    to.ssl_mode(if config.tls { SslMode::Require } else { SslMode::Disable });
    let tls = config.tls.then(trusted).transpose()?;
    let manager = Manager { to, tls, config: config.clone(), standing };
    let nodes = u32::try_from(config.hosts.len()).unwrap_or(u32::MAX);
    let timeouts = managed::Timeouts {
        wait: Some(config.command_timeout),
        // Servers are tried one after the other, and the one that is found is asked for its settings.
        create: Some(config.connect_timeout * nodes + config.command_timeout),
        recycle: Some(config.command_timeout),
    };
    let pool = managed::Pool::builder(manager).max_size(config.connections).timeouts(timeouts);
    pool.runtime(deadpool::Runtime::Tokio1).build().map_err(|error| error.to_string())
}

/// Trusts the system's certificate authorities, or those of `SSL_CERT_FILE`.
fn trusted() -> Result<MakeRustlsConnect, String> {
    match MakeRustlsConnect::with_native_certs() {
        Ok((connector, _)) => Ok(connector),
        Err(errors) => {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            Err(format!("no certificate authority of the system can be read: {}", errors.join("; ")))
        }
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = Unusable;

    async fn create(&self) -> Result<Connection, Unusable> {
        let connection = match &self.tls {
            Some(tls) => {
                let (client, connection) = self.to.connect(tls.clone()).await?;
                Connection::new(client, connection)
            }
            None => {
                let (client, connection) = self.to.connect(NoTls).await?;
                Connection::new(client, connection)
            }
        };
        let server = checks::ask(&connection.client).await?;
        self.standing.saw_clock(server.clock_millis);
        checks::judge(&server, &self.config)?;
        Ok(connection)
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &managed::Metrics,
    ) -> managed::RecycleResult<Unusable> {
        match connection.client.is_closed() {
            true => Err(managed::RecycleError::message("the connection was closed")),
            false => Ok(()),
        }
    }
}

impl Connection {
    fn new<S, T>(client: Client, mut connection: tokio_postgres::Connection<S, T>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let warned = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&warned);
        let task = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message
                    && notice.parsed_severity() == Some(Severity::Warning)
                {
                    tracing::warn!(warning = notice.message(), "PostgreSQL warns");
                    noted.store(true, Ordering::SeqCst);
                }
            }
        });
        Self { client, warned, task }
    }

    /// Whether the server warned since this was asked last.
    pub(super) fn was_warned(&self) -> bool {
        self.warned.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
