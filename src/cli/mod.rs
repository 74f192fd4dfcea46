//! The command line.

mod admin;
mod audit;
mod backup;
mod check;
mod check_config;
mod client;
mod exit;
mod first_minute;
mod healthcheck;
mod import;
mod openapi;
mod plan;
mod probe;
mod references;
mod retire;
mod settings;
mod store;
mod verify;
mod watch;

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
pub use exit::FAILED;
use indicatif::{ProgressBar, ProgressStyle};
use settings::Settings;
use tracing_subscriber::filter::LevelFilter;
use zeroize::Zeroizing;

use crate::app::App;
use crate::app::reload;
use crate::base::clock::Clock;
use crate::base::private_memory;
use crate::keys::made;
use crate::model::api_key::{ApiKeyHash, generate_api_key};
use crate::sign::Algorithm;
use crate::telemetry;

/// The environment variable of `server.listen`.
const LISTEN: &str = "STATUSLIST__SERVER__LISTEN";

/// A Status Issuer for the IETF Token Status List.
///
/// Hands out references, takes status updates durably, and publishes signed lists as static files. Without a command it
/// serves; without a settings file it runs on its built-in defaults.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// Settings file (YAML). Without it ./statuslist.yaml is read, if it exists. May be given several times: the files are merged, and
    /// later ones win
    #[arg(long, global = true, env = "STATUSLIST_CONFIG", value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Print no welcome and no progress; log only warnings, unless STATUSLIST_LOG says otherwise
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API, publish on the beat, and serve the lists if the settings say so (the default)
    Serve(Serve),
    /// Publish what is pending without serving; no service may be running on the same SQLite file
    Publish(Publish),
    /// Read what serve will read, settings, keys, certificates and folders, and report every mistake; changes nothing
    CheckConfig(check_config::CheckConfig),
    /// Make a signing key (PKCS#8 PEM) in a new file
    GenerateKey(GenerateKey),
    /// Take references of a pool for new credentials from the running service
    Allocate(client::Allocate),
    /// Set one status, or a batch of them, in the running service
    Set(client::Set),
    /// Show the facts of a running service, of a pool or of a reference
    Info(client::Info),
    /// Look up one status as a Relying Party does: fetch, verify, judge. Exits with 0 valid, 1 not valid, 2 could not tell
    Check(check::Arguments),
    /// Watch statuses of other issuers' attestations, and tell each change: as a line, or to a program
    Watch(watch::Arguments),
    /// Show what a deployment will need: lists, sizes, signatures, traffic, memory, staleness
    Plan(plan::Arguments),
    /// Copy the SQLite database into a new file while the service runs
    Backup(backup::Backup),
    /// Take over lists of another status list service, with the addresses that they have, or the statuses of an issuer's register
    Import(import::Arguments),
    /// Take over what the published tokens show and a restored store does not have; no service may use the store
    Restore(import::Restore),
    /// Move all pools and lists from one store to another; no service may use either
    Migrate(store::Migrate),
    /// End a list whose credentials have all expired, in the running service
    Retire(retire::Retire),
    /// Make, show, change and delete pools of a running service, on its address for management
    Pool(admin::Pool),
    /// Make, show, rotate and end API keys of a running service, on its address for management
    Key(admin::Key),
    /// End the allocation from all lists that a pool has now, for example after the store was restored by hand
    Seal(store::Seal),
    /// Verify the audit trail
    Audit(audit::Arguments),
    /// Compare every published file with the store, keys and settings, changing nothing; the service may run meanwhile
    Verify(verify::Verify),
    /// Look at published lists as wallets do, on every node, and tell Prometheus what is wrong
    Probe(probe::Arguments),
    /// Check whether a running service is well. Exits with 0 if it is, with 1 if not
    Healthcheck(healthcheck::Healthcheck),
    /// Print the OpenAPI description of the service
    Openapi,
    /// Print the hash of an API key for `api-keys`; the key is read from standard input
    HashKey(HashKey),
}

#[derive(Debug, Default, Args)]
struct Serve {
    /// The address to listen on, in place of server.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
struct Publish {
    /// Publish once and exit
    #[arg(long, required = true)]
    once: bool,
    /// Replace tokens whose `iat` lies more than a minute in the future, because the clock was ahead when they were signed. Their
    /// `iat` goes back; check first that the clock is right now
    #[arg(long)]
    replace_future: bool,
}

#[derive(Debug, Args)]
struct GenerateKey {
    /// The file to write; an existing file is never overwritten
    file: PathBuf,
    /// The signature algorithm of the key
    #[arg(long, value_enum, default_value = "es256")]
    algorithm: KeyAlgorithm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KeyAlgorithm {
    /// ECDSA on P-256
    Es256,
    /// ECDSA on P-384
    Es384,
    /// ECDSA on P-521
    Es512,
    /// Ed25519
    Eddsa,
}

#[derive(Debug, Args)]
struct HashKey {
    /// Make a new key and print it too, instead of reading one
    #[arg(long)]
    generate: bool,
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> Result<ExitCode> {
        private_memory::keep();
        let (quiet, settings) = (self.quiet, || Settings::read(&self.config));
        let listen = self.serve.listen;
        match self.command.unwrap_or_else(|| Command::Serve(Serve::default())) {
            Command::Serve(of_serve) => {
                let listen = of_serve.listen.or(listen).map(|listen| (LISTEN, listen.to_string()));
                serve(&Settings::read_with(&self.config, listen.into_iter().collect())?, quiet)
            }
            _ if listen.is_some() => bail!("--listen is for serve only; leave it out"),
            Command::Publish(publish) => publish_once(&settings()?, publish.replace_future, quiet),
            Command::CheckConfig(check) => check.run(&settings()?),
            Command::Backup(backup) => backup.run(&settings()?),
            Command::Import(import) => import.run(&settings()?),
            Command::Restore(restore) => restore.run(&settings()?),
            Command::Migrate(migrate) => migrate.run(&settings()?),
            Command::Retire(retire) => retire.run(),
            Command::Pool(pool) => pool.run(),
            Command::Key(key) => key.run(),
            Command::Seal(seal) => seal.run(&settings()?),
            Command::GenerateKey(key) => generate_key(&key),
            Command::Healthcheck(healthcheck) => healthcheck.run(|| settings()?.load()),
            Command::Probe(arguments) => arguments.run(),
            Command::Verify(verify) => verify.run(&settings()?),
            Command::Openapi => openapi::run(),
            Command::HashKey(hash) => hash_key(&hash),
            Command::Check(arguments) => arguments.run(),
            Command::Watch(arguments) => arguments.run(),
            Command::Plan(arguments) => arguments.run(),
            Command::Audit(arguments) => arguments.run(|| settings()?.load()),
            Command::Allocate(allocate) => allocate.run(),
            Command::Set(set) => set.run(),
            Command::Info(info) => info.run(),
        }
    }
}

fn serve(settings: &Settings, quiet: bool) -> Result<ExitCode> {
    if let Some(file) = settings.files.iter().find(|file| !file.is_file()) {
        // A pipe is empty when it is read again, and empty settings are the built-in ones.
        bail!(
            "{} is not a regular file: a running service reads its settings repeatedly, to apply changes; \
             write them to a file, in memory (below /run) if they are secret",
            file.display()
        );
    }
    let source = settings.source(&settings.load()?);
    // Load again, now that the content before is known: later changes show.
    let (config, built_in) = ((source.load)()?, settings.are_built_in());
    let _exporting = telemetry::start(&config.telemetry, usual_lines(quiet))?;
    actix_web::rt::System::new().block_on(async {
        // Opening the store may take a while. The first comparison finds what changed meanwhile.
        reload::survive_hangups();
        let first_minute = (built_in && !quiet).then(|| first_minute::FirstMinute::new(&config)).flatten();
        let app = Box::pin(App::build(config, Clock::System)).await.context("cannot start")?;
        let app = app.reloading(source);
        let welcome = first_minute.map(|first_minute| first_minute.of(&app));
        for (pool, key) in app.new_api_keys() {
            tracing::info!(%pool, "made an API key for this pool; it is printed once, only its hash is kept");
            if welcome.is_none() {
                println!("API key of pool {pool}, shown only now: {}", **key);
            }
        }
        let (handle, running) = app.run();
        let stopping = handle.clone();
        tokio::spawn(async move {
            wait_for_signal().await;
            stopping.stop();
        });
        if let Some(welcome) = welcome {
            tokio::spawn(async move { welcome.print(&handle).await });
        }
        running.await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The log lines, unless the environment says otherwise.
fn usual_lines(quiet: bool) -> LevelFilter {
    if quiet { LevelFilter::WARN } else { LevelFilter::INFO }
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals; stop the service with SIGKILL, which loses nothing");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn publish_once(settings: &Settings, replace_future: bool, quiet: bool) -> Result<ExitCode> {
    let config = settings.load()?;
    let _exporting = telemetry::start(&config.telemetry, usual_lines(quiet))?;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} lists, {per_sec}, {eta} left")
        .context("cannot draw the progress bar")?;
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0).with_style(style) };
    let (published, failed) = actix_web::rt::System::new().block_on(async {
        // Nothing is served, so any free port is suitable.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("cannot bind")?;
        let app = App::build_on(listener, config, Clock::System).await.context("cannot start")?;
        let progress = |done: usize, of: usize| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        };
        if replace_future {
            app.replace_future().await.context("cannot write the audit trail")?;
        }
        app.publish_once(&progress).await
    })?;
    bar.finish_and_clear();
    println!("published {published} lists");
    if failed > 0 {
        bail!("{failed} lists could not be published or uploaded; the log says why; their old tokens stay");
    }
    Ok(ExitCode::SUCCESS)
}

/// A runtime for commands that only wait for others.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")
}

fn generate_key(arguments: &GenerateKey) -> Result<ExitCode> {
    let algorithm = match arguments.algorithm {
        KeyAlgorithm::Es256 => Algorithm::Es256,
        KeyAlgorithm::Es384 => Algorithm::Es384,
        KeyAlgorithm::Es512 => Algorithm::Es512,
        KeyAlgorithm::Eddsa => Algorithm::EdDsa,
    };
    made::write_new_key(&arguments.file, algorithm)?;
    let file = arguments.file.display();
    println!("wrote {file}; name it in the settings of a pool: signer: {{ pem: {{ key: {file} }} }}");
    Ok(ExitCode::SUCCESS)
}

fn hash_key(arguments: &HashKey) -> Result<ExitCode> {
    if arguments.generate {
        let key = generate_api_key();
        println!("key for the issuer (keep it secret):   {}", *key);
        println!("hash for `api-keys` in the settings:   {}", ApiKeyHash::of(&key).to_setting());
        return Ok(ExitCode::SUCCESS);
    }
    let mut key = Zeroizing::new(String::new());
    std::io::stdin().read_to_string(&mut key).context("cannot read the key from standard input")?;
    let key = key.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        bail!(
            "no key on standard input; pipe one in (`echo -n KEY | statuslist hash-key`), or use --generate"
        );
    }
    println!("{}", ApiKeyHash::of(key).to_setting());
    Ok(ExitCode::SUCCESS)
}
