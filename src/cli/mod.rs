//! The command line.

mod audit;
mod backup;
mod check;
mod client;
mod exit;
mod first_minute;
mod healthcheck;
mod import;
mod openapi;
mod plan;
mod probe;
mod retire;
mod store;
mod verify;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
pub use exit::FAILED;
use indicatif::{ProgressBar, ProgressStyle};
use zeroize::Zeroizing;

use crate::app::App;
use crate::app::reload::{self, Fingerprint, Source};
use crate::base::clock::Clock;
use crate::base::private_memory;
use crate::config::Config;
use crate::keys::made;
use crate::model::api_key::{ApiKeyHash, generate_api_key};
use crate::sign::Algorithm;
use crate::telemetry;

/// Read if no settings file is named.
const DEFAULT_FILE: &str = "statuslist.yaml";

/// A Status Issuer for the IETF Token Status List.
///
/// Hands out references, takes status updates durably, and publishes signed lists as static files. Without a command it
/// serves; without a settings file it runs on its built-in defaults.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// Settings file (YAML). Without it ./statuslist.yaml is read, if it exists.
    #[arg(long, global = true, env = "STATUSLIST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API, publish on the beat, and serve the lists if the settings say so (the default)
    Serve,
    /// Publish what is pending without serving; no service may be running on the same SQLite file
    Publish(Publish),
    /// Read the settings and report faults, without changing anything
    CheckConfig,
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
        let settings = || Settings::read(self.config.as_deref());
        match self.command.unwrap_or(Command::Serve) {
            Command::Serve => serve(&settings()?),
            Command::Publish(publish) => publish_once(&settings()?, publish.replace_future),
            Command::CheckConfig => check_config(&settings()?),
            Command::Backup(backup) => backup.run(&settings()?),
            Command::Import(import) => import.run(&settings()?),
            Command::Restore(restore) => restore.run(&settings()?),
            Command::Migrate(migrate) => migrate.run(&settings()?),
            Command::Retire(retire) => retire.run(),
            Command::Seal(seal) => seal.run(&settings()?),
            Command::GenerateKey(key) => generate_key(&key),
            Command::Healthcheck(healthcheck) => healthcheck.run(|| settings()?.load()),
            Command::Probe(arguments) => arguments.run(),
            Command::Verify(verify) => verify.run(&settings()?),
            Command::Openapi => openapi::run(),
            Command::HashKey(hash) => hash_key(&hash),
            Command::Check(arguments) => arguments.run(),
            Command::Plan(arguments) => arguments.run(),
            Command::Audit(arguments) => arguments.run(),
            Command::Allocate(allocate) => allocate.run(),
            Command::Set(set) => set.run(),
            Command::Info(info) => info.run(),
        }
    }
}

/// The operator's settings.
struct Settings {
    /// `None` for the built-in settings.
    file: Option<PathBuf>,
    text: Option<Zeroizing<String>>,
}

impl Settings {
    fn read(file: Option<&Path>) -> Result<Self> {
        let file = file
            .map(Path::to_owned)
            .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()));
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file)
                .map(Zeroizing::new)
                .with_context(|| format!("cannot read {}", file.display()))
        };
        let text = file.as_ref().map(read).transpose()?;
        Ok(Self { file, text })
    }

    /// The source from which a running service reloads them. `config` is in use until then.
    fn source(&self, config: &Config) -> Source {
        let (file, named) = (self.file.clone(), self.file.clone());
        let load = move || Self::read(named.as_deref())?.load();
        let seen = Fingerprint::of_settings(file.as_ref(), config);
        Source { file, load: Arc::new(load), seen }
    }

    fn load(&self) -> Result<Config> {
        Config::load(self.text.as_deref().map(String::as_str), environment()).with_context(|| {
            match &self.file {
                Some(file) => format!("cannot use the settings in {}", file.display()),
                None => "cannot use the settings".to_owned(),
            }
        })
    }
}

/// The environment variables. Skips values that are not text: none of ours are.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn serve(settings: &Settings) -> Result<ExitCode> {
    if let Some(file) = settings.file.as_ref().filter(|file| !file.is_file()) {
        // A pipe is empty when it is read again, and empty settings are the built-in ones.
        bail!(
            "{} is not a regular file: a running service reads its settings repeatedly, to apply changes; \
             write them to a file, in memory (below /run) if they are secret",
            file.display()
        );
    }
    let source = settings.source(&settings.load()?);
    // Load again, now that the content before is known: later changes show.
    let (config, built_in) = ((source.load)()?, settings.file.is_none());
    let _exporting = telemetry::start(&config.telemetry);
    actix_web::rt::System::new().block_on(async {
        // Opening the store may take a while. The first comparison finds what changed meanwhile.
        reload::survive_hangups();
        let first_minute = built_in.then(|| first_minute::FirstMinute::new(&config)).flatten();
        let app = App::build(config, Clock::System).await.context("cannot start")?;
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

fn publish_once(settings: &Settings, replace_future: bool) -> Result<ExitCode> {
    let config = settings.load()?;
    let _exporting = telemetry::start(&config.telemetry);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} lists, {per_sec}, {eta} left")
        .context("cannot draw the progress bar")?;
    let bar = ProgressBar::new(0).with_style(style);
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

fn check_config(settings: &Settings) -> Result<ExitCode> {
    let (config, built_in) = (settings.load()?, settings.file.is_none());
    for warning in &config.warnings {
        println!("warning: {warning}");
    }
    for (id, pool) in &config.pools {
        let (capacity, lifetimes) = (pool.shape.capacity, &pool.live.lifetimes);
        let show = crate::config::show_duration;
        println!(
            "pool {id}: {} entries of {} bit(s), published every {}, valid for {}, signed again after {}, ttl {}",
            capacity.entries(),
            capacity.bits(),
            show(pool.live.update_interval),
            show(lifetimes.list_lifetime),
            show(lifetimes.resign_after),
            show(lifetimes.ttl)
        );
    }
    println!("{} good", if built_in { "the built-in settings are" } else { "the settings are" });
    Ok(ExitCode::SUCCESS)
}

fn generate_key(arguments: &GenerateKey) -> Result<ExitCode> {
    let algorithm = match arguments.algorithm {
        KeyAlgorithm::Es256 => Algorithm::Es256,
        KeyAlgorithm::Es384 => Algorithm::Es384,
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
