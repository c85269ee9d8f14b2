//! The server as a process of its own whose every printed line is kept.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use sandbox::Sandbox;
use serde_json::Value;

use crate::database::Database;
use crate::harness::{Settings, all_settings};

/// A running `awchat serve`; it ends with this value, whatever becomes of the test.
pub(crate) struct Process {
    /// Where it listens, such as `127.0.0.1:41234`.
    pub(crate) address: String,
    child: Child,
    printed: Vec<JoinHandle<String>>,
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
    _database: Database,
}

impl Process {
    /// Starts a server before `sandbox` on a free port, with a database of its own.
    pub(crate) async fn start(settings: Settings<'_>, sandbox: &Sandbox) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the database");
        let database = Database::new(folder.path()).await;
        let settings = all_settings(settings, sandbox, &database);
        let mut child = Command::new(env!("CARGO_BIN_EXE_awchat"))
            .arg("serve")
            .current_dir(folder.path())
            .env_clear()
            .envs(settings.iter().rev().cloned())
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let (tell, told) = channel();
        let stdout = collect(child.stdout.take().expect("piped"), tell.clone());
        let stderr = collect(child.stderr.take().expect("piped"), tell);
        let printed = vec![stdout, stderr];
        let mut process = Self { address: String::new(), child, printed, folder, settings, _database: database };
        process.address = listening(&told);
        process
    }

    /// Where it keeps what it keeps.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What one of its settings says.
    pub(crate) fn setting(&self, name: &str) -> &str {
        let (_, value) = self.settings.iter().find(|(own, _)| own == name).expect("it is set");
        value
    }

    /// Another command of the same program, with the same settings; what it prints.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_awchat"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(self.settings.iter().rev().cloned())
            .output()
            .expect("the command runs")
    }

    /// Ends the server; everything it has printed.
    pub(crate) fn end(mut self) -> String {
        self.stop()
    }

    /// Ends the server and keeps its folder; everything it has printed.
    pub(crate) fn stop(&mut self) -> String {
        self.kill();
        self.printed.drain(..).map(|printed| printed.join().expect("its output can be read")).collect()
    }

    fn kill(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads everything, so that the process never waits for its reader; each line is told as well, as long as somebody
/// listens.
fn collect(output: impl Read + Send + 'static, tell: Sender<String>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut all = String::new();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            all.push_str(&line);
            all.push('\n');
            let _ = tell.send(line);
        }
        all
    })
}

fn listening(lines: &Receiver<String>) -> String {
    let mut seen = String::new();
    loop {
        let line = lines.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("no server listens: {seen}"));
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(address) = event["address"].as_str() {
            return address.to_owned();
        }
        seen.push_str(&line);
    }
}
