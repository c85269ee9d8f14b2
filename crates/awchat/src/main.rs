//! The command line: serve, dev, token, export, erase, backup.

use std::io::{BufWriter, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use awchat::app::App;
use awchat::clock::Clock;
use awchat::config::{self, Config, LogFormat};
use awchat::store::Store;
use awchat::traces::Traces;
use awchat::{auth, export, id, server};
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Chosen by measurement: docs/adr has why.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[path = "main/personal.rs"]
mod personal;

/// Support chat in your own app, with your operators in Intercom.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server; its settings are environment variables, also read from `.env`.
    #[command(after_help = config::help_text())]
    Serve,
    /// Run the whole product on this machine, with a stand-in for Intercom: nothing to configure.
    #[cfg(feature = "dev")]
    Dev,
    /// Print a session token signed with the first of SESSION_JWT_SECRETS.
    Token {
        /// The user's id in your app.
        #[arg(long)]
        sub: String,
        /// How long it holds, in seconds.
        #[arg(long, default_value_t = 3600)]
        lifetime: u32,
    },
    /// Print users' ratings or complaints, oldest first, or all that is kept of one user, as JSON. The server may run
    /// meanwhile; DATABASE_URL says where.
    Export {
        /// What to print.
        #[arg(required_unless_present = "user")]
        what: Option<export::What>,
        /// All that is kept of this user; the user's id in your app.
        #[arg(long, conflicts_with_all = ["what", "since", "format"])]
        user: Option<String>,
        /// From this day (UTC) or RFC 3339 time on; all, unless given.
        #[arg(long)]
        since: Option<String>,
        /// How to print it.
        #[arg(long, value_enum, default_value = "csv")]
        format: export::Format,
    },
    /// Erase a user: all that is kept here, and the contact at Intercom. A running server does it, else this command.
    Erase {
        /// The user's id in your app.
        #[arg(long)]
        user: String,
    },
    /// Copy the SQLite database of DATABASE_URL to a new file, and check the copy. The server may run meanwhile.
    Backup {
        /// The new file.
        file: PathBuf,
    },
}

/// How long a load balancer has to notice that `/ready` says no.
const UNREADY: Duration = Duration::from_secs(5);

type Failure = awchat::error::Cause;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{failure}");
            let mut cause = failure.source();
            while let Some(why) = cause {
                eprint!(": {why}");
                cause = why.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve => serve(Config::from_lookup(&config::environment()?)?).await,
            #[cfg(feature = "dev")]
            Command::Dev => {
                let config = Config::dev(&config::environment()?)?;
                log_as(config.log_format, None);
                awchat::dev::run(config, until_told()).await
            }
            Command::Token { sub, lifetime } => print_token(&sub, lifetime),
            Command::Export { what: Some(what), since, format, .. } => {
                print_export(what, since.as_deref(), format).await
            }
            Command::Export { user, .. } => personal::export(&user.unwrap_or_default()).await,
            Command::Erase { user } => personal::erase(&user).await,
            Command::Backup { file } => back_up(&file).await,
        }
    })
}

async fn serve(config: Config) -> Result<(), Failure> {
    let traces = config.traces.as_ref().map(Traces::open).transpose()?;
    log_as(config.log_format, traces.as_ref());
    if let Err(limit) = server::raise_descriptors() {
        tracing::warn!(limit, "the limit of file descriptors stays as it is");
    }
    let listener = TcpListener::bind(config.listen_addr).await?;
    let metrics = match config.metrics_addr {
        Some(address) => Some(TcpListener::bind(address).await?),
        None => None,
    };
    // Said once it is so of both.
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
    let app = App::open(config, Clock::system()).await?;
    let told = until_told();
    let measuring = async {
        if let Some(listener) = metrics {
            server::measure(listener, app.clone(), told.clone()).await;
        }
    };
    tokio::join!(server::run(listener, app.clone(), told.clone(), UNREADY), measuring);
    if let Some(traces) = traces {
        traces.close().await;
    }
    Ok(())
}

fn print_token(sub: &str, lifetime: u32) -> Result<(), Failure> {
    let secret = config::signing_secret(&config::environment()?).ok_or("SESSION_JWT_SECRETS: must be set")?;
    let sub = id::UserId::parse(sub).ok_or("--sub: must be 1 to 128 visible characters")?;
    println!("{}", auth::mint(&secret, &sub, lifetime, &Clock::system(), serde_json::Map::new()));
    Ok(())
}

async fn print_export(what: export::What, since: Option<&str>, format: export::Format) -> Result<(), Failure> {
    let since_ms = export::since_ms(since)?;
    let url = config::database_url(&config::environment()?);
    let store = Store::open_to_read(url.expose()).await?;
    let mut out = BufWriter::new(std::io::stdout());
    match export::write(&store, what, since_ms, format, &mut out).await {
        Err(cause) if export::is_broken_pipe(&cause) => Ok(()),
        done => done,
    }
}

async fn back_up(file: &Path) -> Result<(), Failure> {
    let url = config::database_url(&config::environment()?);
    let copied = Store::back_up(url.expose(), file).await?;
    println!("{}: {} conversations, {} bytes, checked", file.display(), copied.conversations, copied.bytes);
    Ok(())
}

/// Where there are no traces, their spans are off with all else below `INFO`: they cost a look at one number.
fn log_as(format: LogFormat, traces: Option<&Traces>) {
    let Some(traces) = traces else {
        let logs = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::INFO)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        return match format {
            LogFormat::Pretty => logs.init(),
            LogFormat::Json => logs.json().flatten_event(true).init(),
        };
    };
    let logs = tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let logs = match format {
        LogFormat::Pretty => logs.with_filter(LevelFilter::INFO).boxed(),
        LogFormat::Json => logs.json().flatten_event(true).with_filter(LevelFilter::INFO).boxed(),
    };
    tracing_subscriber::registry().with(logs).with(traces.layer()).init();
}

/// Cancelled at the first SIGTERM or SIGINT; the second ends the process at once, which is safe.
fn until_told() -> CancellationToken {
    let told = CancellationToken::new();
    let shutdown = told.clone();
    // Lives as long as the process: there is nothing to wait for.
    tokio::spawn(async move {
        signal().await;
        shutdown.cancel();
        signal().await;
        tracing::warn!("told twice: leaving at once");
        end();
    });
    told
}

#[expect(clippy::disallowed_methods, reason = "the journal makes it safe to leave at once")]
fn end() {
    std::process::exit(130)
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
