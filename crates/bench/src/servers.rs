//! What is measured, each in a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use awchat::clock::Clock;
use awchat::config::Secret;
use awchat::{auth, id};
use sandbox::Sandbox;
use serde_json::json;

use crate::Result;

const SECRET: &str = "a-session-secret-for-the-bench-0123456789";

/// For servers whose conversations were filled in: no Intercom that would say they are not there.
pub(crate) const ALONE: &[(&str, &str)] = &[("INTERCOM_BASE_URL", "http://127.0.0.1:9")];

/// A process that ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// The server, from a release build or `AWCHAT`, with its files in `folder`. Settings of the case come last.
    pub(crate) fn awchat(folder: &Path, sandbox: &Sandbox, settings: &[(&str, &str)]) -> Result<Self> {
        let outside = sandbox::Settings::default();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = Command::new(binary());
        command.arg("serve").current_dir(folder).env_clear().envs([
            ("LISTEN_ADDR", &*address.to_string()),
            ("LOG_FORMAT", "json"),
            ("SESSION_JWT_SECRETS", SECRET),
            ("FILE_URL_SECRETS", "a-file-secret-for-the-bench-0123456789abcdef"),
            ("INTERCOM_ACCESS_TOKEN", &outside.access_token),
            ("INTERCOM_CLIENT_SECRET", &outside.client_secret),
            ("INTERCOM_ADMIN_ID", &outside.admin_id),
            ("INTERCOM_APP_ID", &outside.app_id),
            ("INTERCOM_BASE_URL", &sandbox.url()),
            ("DATABASE_URL", &database(folder)),
            ("RATE_LIMIT_PER_MINUTE", "1000000"),
            ("RATE_LIMIT_BURST", "100000"),
            ("USER_QUOTA_MB", "100000"),
            // Nothing happens by itself while something else is measured.
            ("SWEEP_INTERVAL_MS", "3600000"),
        ]);
        // A line a request, as in production; nobody reads them, who would take processor time from those who are measured.
        let log = folder.join("log.json");
        command.envs(settings.iter().copied()).stderr(File::create(&log)?).stdout(Stdio::null());
        let child = command.spawn().map_err(|why| format!("{}: {why}", binary().display()))?;
        let mut server = Self { address, child };
        sandbox.send_webhooks_to(format!("http://{address}/webhooks/intercom"));
        server.wait("/health").map_err(|why| {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            format!("{why}\n{log}")
        })?;
        Ok(server)
    }

    /// The bare handler, which answers with these headers and this body.
    pub(crate) fn bare(folder: &Path, headers: &[(String, String)], body: &str) -> Result<Self> {
        let answer = folder.join("answer.json");
        std::fs::write(&answer, json!({ "headers": headers, "body": body }).to_string())?;
        let mut child = Command::new(std::env::current_exe()?.with_file_name("bare"))
            .arg(&answer)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("its output can be read")?).read_line(&mut line)?;
        let address = line.trim().trim_start_matches("http://").parse()?;
        Ok(Self { address, child })
    }

    /// What a team would write first, if it is beside this repository: Express and Intercom's client, as it comes.
    pub(crate) fn express(sandbox: &Sandbox) -> Result<Option<Self>> {
        let source = root().join("../shared/peers/express-bff");
        if !source.exists() {
            eprintln!("NO PEER: {} is not there, so nothing is compared with Express", source.display());
            return Ok(None);
        }
        let folder = root().join("target/peers/express-bff");
        std::fs::create_dir_all(&folder)?;
        for file in ["package.json", "package-lock.json", "server.mjs"] {
            std::fs::copy(source.join(file), folder.join(file))?;
        }
        if !folder.join("node_modules/express").exists() {
            let installed = Command::new("npm")
                .args(["ci", "--silent", "--no-audit", "--no-fund"])
                .current_dir(&folder)
                .status()?;
            if !installed.success() {
                return Err("npm ci failed in target/peers/express-bff".into());
            }
        }
        let free = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let child = Command::new("node")
            .arg("server.mjs")
            .current_dir(&folder)
            .env("PORT", free.port().to_string())
            .env("INTERCOM_BASE_URL", sandbox.url())
            .env("INTERCOM_TOKEN", sandbox::Settings::default().access_token)
            .env("JWT_SECRET", SECRET)
            .env("NODE_ENV", "production")
            .spawn()?;
        let mut server = Self { address: free, child };
        server.wait("/api/conversations/0/poll")?;
        Ok(Some(server))
    }

    /// Its address as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until it answers anything.
    fn wait(&mut self, path: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if let Ok(mut socket) = std::net::TcpStream::connect(self.address) {
                let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
                // It listens before it has opened its database: where it cannot, it ends, and the connection with it.
                let read = socket.write_all(request.as_bytes()).and_then(|()| socket.read(&mut [0; 16]));
                if read.is_ok_and(|bytes| bytes > 0) {
                    return Ok(());
                }
            }
            if let Some(end) = self.child.try_wait()? {
                return Err(format!("it ends at once: {end}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(format!("{} does not answer", self.address).into())
    }

    /// Processor time that it has taken so far.
    pub(crate) fn processor(&self) -> Result<Duration> {
        Ok(Stat::read(&self.child.id().to_string())?.own)
    }

    /// Memory that it has at the moment, bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the kernel says of a process.
struct Stat {
    parent: String,
    /// Processor time that it has taken so far.
    own: Duration,
    /// And its children that have ended.
    children: Duration,
}

impl Stat {
    fn read(process: &str) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name, in brackets, may hold anything; what counts stands behind it.
        let fields = stat.rsplit_once(')').ok_or("a name in brackets")?.1;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let field = |at: usize| fields.get(at).copied().unwrap_or_default();
        let time = |at: usize| {
            let ticks: u64 = (at..at + 2).map(|at| field(at).parse::<u64>().unwrap_or(0)).sum();
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        };
        Ok(Self { parent: field(1).to_owned(), own: time(11), children: time(13) })
    }
}

/// Processor time that this process has taken so far: the load, and the sandbox.
pub(crate) fn own_processor() -> Result<Duration> {
    Ok(Stat::read("self")?.own)
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn binary() -> PathBuf {
    std::env::var_os("AWCHAT").map_or_else(|| root().join("target/release/awchat"), PathBuf::from)
}

/// The database of a server in this folder.
pub(crate) fn database(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("awchat.db").display())
}

/// A PostgreSQL server of its own, which has on the disk what it says it has, until it is dropped.
#[derive(Debug)]
pub(crate) struct Postgres {
    child: Child,
    /// Its address.
    pub(crate) url: String,
    /// The process that all its others come from.
    main: String,
}

impl Postgres {
    /// Starts one; `None`, and a word about it, where PostgreSQL is not installed.
    pub(crate) fn start() -> Result<Option<Self>> {
        let mut child = Command::new(root().join("scripts/postgres"))
            .args(["sh", "-c", "echo at $AWCHAT_TEST_DATABASE; cat"])
            .env("DURABLE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("its output can be read")?);
        let mut main = String::new();
        for line in out.lines() {
            let line = line?;
            if let Some((_, folder)) = line.rsplit_once(", in ") {
                let about = std::fs::read_to_string(Path::new(folder).join("data/postmaster.pid")).unwrap_or_default();
                main = about.lines().next().unwrap_or_default().to_owned();
            }
            if let Some(url) = line.strip_prefix("at ") {
                // The database that every server has; without a name it would be one called like its user.
                return Ok(Some(Self { child, url: format!("{url}/postgres"), main }));
            }
        }
        child.wait()?;
        eprintln!("NO POSTGRESQL: scripts/postgres does not start it, so nothing is measured there");
        Ok(None)
    }

    /// Processor time that all its processes have taken so far.
    pub(crate) fn processor(&self) -> Result<Duration> {
        let main = Stat::read(&self.main)?;
        let mut all = main.own + main.children;
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            // Those that are no processes, or have just ended, have nothing to say.
            let stat = name.to_str().and_then(|name| Stat::read(name).ok());
            all += stat.filter(|stat| stat.parent == self.main).map_or(Duration::ZERO, |stat| stat.own);
        }
        Ok(all)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It ends with its standard input; if it has ended already, all the better.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A session token for an hour.
pub(crate) fn token(sub: &str) -> Result<String> {
    let sub = id::UserId::parse(sub).ok_or("a user id")?;
    Ok(auth::mint(&Secret::new(SECRET), &sub, 3600, &Clock::system(), serde_json::Map::new()))
}

/// Intercom, without a limit that would decide instead of what is measured.
pub(crate) async fn intercom() -> Result<Sandbox> {
    let settings = sandbox::Settings { rate_limit_per_10s: 1_000_000, ..sandbox::Settings::default() };
    Ok(Sandbox::start(settings).await?)
}
