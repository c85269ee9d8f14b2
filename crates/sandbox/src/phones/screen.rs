//! What a phone does with what reaches it: shows it, replaces it, or misses it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::message::seconds;
use super::pace::Pace;

/// How many collapse keys FCM keeps messages of, for a phone that cannot be reached.
const MAX_COLLAPSE_KEYS: usize = 4;
/// How many other messages it keeps; one more, and it forgets them all.
const MAX_KEPT: usize = 100;
const MAX_TTL_S: u64 = 2_419_200;
/// What FCM lets through to one phone.
const PER_MINUTE: i64 = 240;

/// A notification as it stands on a phone's screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// When it came up, in Unix milliseconds.
    pub at_ms: i64,
    /// The first line.
    pub title: String,
    /// The text.
    pub body: String,
    /// What a newer one of the same name replaces.
    pub tag: Option<String>,
    /// What the app is told when it is tapped.
    pub data: BTreeMap<String, String>,
}

/// The kind of a phone. They replace notifications, and count on the app's icon, in their own ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// Replaces by `tag`; the icon's number is `notification_count`.
    #[default]
    Android,
    /// Replaces by `apns-collapse-id`; the icon's number is `badge`.
    Iphone,
}

/// How things are between FCM and the app on a phone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// The app is there.
    #[default]
    Installed,
    /// The app is gone: UNREGISTERED.
    Gone,
    /// The app is another project's: SENDER_ID_MISMATCH.
    Foreign,
}

/// A phone, by its token.
#[derive(Clone, Debug)]
pub(crate) struct Phone {
    pub(crate) platform: Platform,
    pub(crate) registration: Registration,
    pub(crate) online: bool,
    pub(crate) screen: Vec<Shown>,
    pub(crate) badge: Option<i64>,
    pub(crate) pace: Pace,
    kept: Vec<Kept>,
}

/// A message that waits for the phone.
#[derive(Clone, Debug)]
struct Kept {
    until_ms: i64,
    collapse: Option<String>,
    message: Value,
}

impl Phone {
    pub(crate) fn new() -> Self {
        Self {
            platform: Platform::default(),
            registration: Registration::default(),
            online: true,
            screen: Vec::new(),
            badge: None,
            pace: Pace::new(PER_MINUTE, 60_000, 60_000 - 60_000 / PER_MINUTE),
            kept: Vec::new(),
        }
    }

    /// A message for the phone: it comes up, or waits.
    pub(crate) fn receive(&mut self, message: &Value, now_ms: i64) {
        if self.online {
            self.show(message, now_ms);
            return;
        }
        let until_ms = self.lives_until(message, now_ms);
        if until_ms <= now_ms {
            return;
        }
        let collapse = self.collapse_key(message).map(str::to_owned);
        if collapse.is_some() {
            self.kept.retain(|kept| kept.collapse != collapse);
        }
        self.kept.push(Kept { until_ms, collapse, message: message.clone() });
        self.forget_too_many();
    }

    /// The phone can be reached again: what still holds comes up.
    pub(crate) fn come_online(&mut self, now_ms: i64) {
        self.online = true;
        for kept in std::mem::take(&mut self.kept) {
            if kept.until_ms > now_ms {
                self.show(&kept.message, now_ms);
            }
        }
    }

    fn forget_too_many(&mut self) {
        let collapsing = self.kept.iter().filter(|kept| kept.collapse.is_some()).count();
        if collapsing > MAX_COLLAPSE_KEYS
            && let Some(oldest) = self.kept.iter().position(|kept| kept.collapse.is_some())
        {
            self.kept.remove(oldest);
        }
        if self.kept.len() - collapsing.min(self.kept.len()) > MAX_KEPT {
            self.kept.retain(|kept| kept.collapse.is_some());
        }
    }

    fn lives_until(&self, message: &Value, now_ms: i64) -> i64 {
        let ms = |s: u64| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1000);
        match self.platform {
            Platform::Android => {
                let ttl = message["android"]["ttl"].as_str().and_then(seconds).unwrap_or(MAX_TTL_S);
                now_ms.saturating_add(ms(ttl))
            }
            Platform::Iphone => {
                let expiration = apns_header(message, "apns-expiration").and_then(|text| text.parse().ok());
                expiration.map_or_else(|| now_ms.saturating_add(ms(MAX_TTL_S)), ms)
            }
        }
    }

    fn collapse_key<'a>(&self, message: &'a Value) -> Option<&'a str> {
        match self.platform {
            Platform::Android => message["android"]["collapse_key"].as_str(),
            Platform::Iphone => apns_header(message, "apns-collapse-id"),
        }
    }

    fn show(&mut self, message: &Value, now_ms: i64) {
        let (android, aps) = (&message["android"]["notification"], &message["apns"]["payload"]["aps"]);
        let count = match self.platform {
            Platform::Android => &android["notification_count"],
            Platform::Iphone => &aps["badge"],
        };
        self.badge = count.as_i64().or(self.badge);
        let Some(shown) = self.notification(message, now_ms) else { return };
        if shown.tag.is_some() {
            self.screen.retain(|old| old.tag != shown.tag);
        }
        self.screen.push(shown);
    }

    /// None for a message that only the app itself would see.
    fn notification(&self, message: &Value, now_ms: i64) -> Option<Shown> {
        let (android, aps) = (&message["android"]["notification"], &message["apns"]["payload"]["aps"]);
        let bare = json!({ "body": aps["alert"] });
        let alert = if aps["alert"].is_string() { &bare } else { &aps["alert"] };
        let (own, tag) = match self.platform {
            Platform::Android => (android, android["tag"].as_str()),
            Platform::Iphone => (alert, apns_header(message, "apns-collapse-id")),
        };
        let field = |name: &str| own[name].as_str().or_else(|| message["notification"][name].as_str());
        let (title, body) = (field("title"), field("body"));
        title.or(body)?;
        let both = [&message["data"], &message["android"]["data"]];
        let data = both.into_iter().filter_map(Value::as_object).flatten();
        Some(Shown {
            at_ms: now_ms,
            title: title.unwrap_or_default().to_owned(),
            body: body.unwrap_or_default().to_owned(),
            tag: tag.map(str::to_owned),
            data: data.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect(),
        })
    }
}

fn apns_header<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    let headers = message["apns"]["headers"].as_object()?;
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
}
