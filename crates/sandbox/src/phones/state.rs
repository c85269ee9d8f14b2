//! What FCM and Telegram remember: plain data, changed only under one lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::google::Google;
use super::held::Gate;
use super::outcome::{Outcome, To, fcm_error, telegram_error};
use super::screen::Phone;
use super::telegram::Telegram;
use crate::exchange::{Answer, Reply};

/// How many messages are remembered.
const REMEMBERED: usize = 50_000;

/// One of the services that notices go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Google's OAuth2: `/token`.
    Google,
    /// Firebase Cloud Messaging: `/v1/projects/…`.
    Fcm,
    /// Telegram's Bot API: `/bot…`.
    Telegram,
}

impl Service {
    /// Whose address that is; None: nobody's of these.
    pub(crate) fn at(path: &str) -> Option<Self> {
        match path {
            "/token" => Some(Self::Google),
            path if path.starts_with("/v1/projects/") => Some(Self::Fcm),
            path if path.starts_with("/bot") => Some(Self::Telegram),
            _ => None,
        }
    }

    /// An error of the service as a whole. Its gateways answer in HTML, or not in their own words.
    pub(crate) fn failure(self, status: u16) -> Answer {
        match self {
            Self::Telegram => telegram_error(status, reason(status)),
            Self::Google | Self::Fcm => {
                fcm_error(status, &reason(status).to_uppercase().replace(' ', "_"), reason(status), &[])
            }
        }
    }

    /// 429, with the seconds to wait.
    pub(crate) fn rate_limited(self, seconds: i64) -> Answer {
        let outcome = match self {
            Self::Telegram => Outcome::TooManyRequests { retry_after_s: u32::try_from(seconds).unwrap_or(1) },
            Self::Google | Self::Fcm => Outcome::QuotaExceeded { retry_after: Some(seconds.to_string()) },
        };
        outcome.fcm().or_else(|| outcome.telegram()).expect("both are answers")
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

/// A message that somebody wanted sent, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// When it arrived, in Unix milliseconds.
    pub at_ms: i64,
    /// Whom it was for.
    pub to: To,
    /// The request's body.
    pub body: Value,
    /// What was answered; None: nothing. A fault on the way may have kept it from arriving.
    pub status: Option<u16>,
    /// FCM's `errorCode` or Telegram's `description`, when an error was answered.
    pub error: Option<String>,
    /// Whether it reached the phone or chat, whatever was answered.
    pub delivered: bool,
}

/// How many requests each service got; those to a service that is down are among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests for an access token.
    pub google: u64,
    /// Requests to FCM.
    pub fcm: u64,
    /// Requests to the Bot API.
    pub telegram: u64,
}

struct Script {
    outcome: Outcome,
    left: u32,
}

pub(crate) struct State {
    pub(crate) google: Google,
    pub(crate) telegram: Telegram,
    pub(crate) phones: BTreeMap<String, Phone>,
    pub(crate) down: BTreeSet<Service>,
    pub(crate) counts: Counts,
    pub(crate) sent: VecDeque<Sent>,
    /// What the services let pass, but its sender can hardly have meant.
    pub(crate) violations: Vec<String>,
    pub(crate) gates: BTreeMap<To, Arc<Gate>>,
    scripts: BTreeMap<To, VecDeque<Script>>,
}

impl State {
    pub(crate) fn new(settings: &crate::Settings, base_url: &str) -> Self {
        Self {
            google: Google::new(&settings.fcm_project, base_url),
            telegram: Telegram::new(&settings.telegram_bot_token),
            phones: BTreeMap::new(),
            down: BTreeSet::new(),
            counts: Counts::default(),
            sent: VecDeque::new(),
            violations: Vec::new(),
            gates: BTreeMap::new(),
            scripts: BTreeMap::new(),
        }
    }

    pub(crate) fn count(&mut self, service: Service) {
        match service {
            Service::Google => self.counts.google += 1,
            Service::Fcm => self.counts.fcm += 1,
            Service::Telegram => self.counts.telegram += 1,
        }
    }

    /// The phone of that token. All phones are there; some are gone.
    pub(crate) fn phone(&mut self, token: &str) -> &mut Phone {
        self.phones.entry(token.to_owned()).or_insert_with(Phone::new)
    }

    /// Says what becomes of the next messages to somebody, after those that something was said about already.
    pub(crate) fn script(&mut self, to: To, outcome: Outcome, times: u32) {
        self.scripts.entry(to).or_default().push_back(Script { outcome, left: times });
    }

    pub(crate) fn forget_scripts(&mut self) {
        self.scripts.clear();
    }

    /// What was said about the next message to somebody, if anything was.
    pub(crate) fn scripted(&mut self, to: &To) -> Option<Outcome> {
        let scripts = self.scripts.get_mut(to)?;
        scripts.retain(|script| script.left > 0);
        let next = scripts.front_mut()?;
        next.left -= u32::from(next.left < u32::MAX);
        Some(next.outcome.clone())
    }

    /// The answer of an outcome, noted; `accepted` is the body of a 200.
    pub(crate) fn reply(&mut self, to: To, body: Value, outcome: &Outcome, accepted: &Value, now_ms: i64) -> Reply {
        let answer = match outcome {
            Outcome::Delivered => Answer::json(200, accepted),
            Outcome::Error { status, .. } => to.service().failure(*status),
            Outcome::Reset { .. } | Outcome::Hang { .. } => {
                self.note(to, body, None, outcome.delivers(), now_ms);
                let ms = if let Outcome::Hang { ms, .. } = outcome { *ms } else { 0 };
                return Reply::broken_after(ms);
            }
            error => error.fcm().or_else(|| error.telegram()).expect("what is no answer was dealt with"),
        };
        let gate = self.gates.get(&to).cloned();
        self.note(to, body, Some(&answer), outcome.delivers(), now_ms);
        Reply::held(answer, gate)
    }

    /// Remembers a message.
    pub(crate) fn note(&mut self, to: To, body: Value, answer: Option<&Answer>, delivered: bool, now_ms: i64) {
        let (status, error) = (answer.map(|answer| answer.status), answer.and_then(error_of));
        self.sent.push_back(Sent { at_ms: now_ms, to, body, status, error, delivered });
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
    }
}

/// FCM's `errorCode`, or else its `status`; Telegram's `description`.
fn error_of(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let details = body["error"]["details"].as_array().into_iter().flatten();
    let code = details.into_iter().find_map(|detail| detail["errorCode"].as_str());
    let found = code.or_else(|| body["error"]["status"].as_str()).or_else(|| body["description"].as_str());
    found.map(str::to_owned)
}
