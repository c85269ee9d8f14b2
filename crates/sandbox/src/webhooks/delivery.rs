//! Delivering notifications: in order within a conversation, one retry, and whatever the faults say.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use super::{USER_AGENT, envelope, signature};
use crate::core::Core;
use crate::faults::Kind;
use crate::world::Event;

/// Deliveries under way at once, over all conversations.
const MAX_AT_ONCE: usize = 32;
/// How many past deliveries, and sent notifications, are remembered.
const REMEMBERED: usize = 10_000;
/// How long a notification waits to be overtaken.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(1);

/// One attempt to deliver a notification, or the reason there was none.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The notification's id; None for a ping.
    pub id: Option<String>,
    /// Its topic.
    pub topic: String,
    /// 1, or 2 for the retry.
    pub attempt: u32,
    /// The receiver's answer; None when there was none.
    pub status: Option<u16>,
    /// What was special: `dropped`, `forged`, `replayed`, `disabled`.
    pub note: Option<&'static str>,
}

/// The queues.
pub(crate) struct Hooks {
    state: Mutex<State>,
    changed: Notify,
    permits: Semaphore,
}

#[derive(Default)]
struct State {
    url: Option<String>,
    disabled: bool,
    /// Per key what waits; a key is there exactly as long as a task works on it.
    queues: HashMap<String, VecDeque<Notification>>,
    delayed: BTreeMap<u64, Delayed>,
    next_delayed: u64,
    sent: VecDeque<(String, Arc<Value>)>,
    deliveries: VecDeque<Delivery>,
}

#[derive(Clone)]
struct Notification {
    key: String,
    envelope: Arc<Value>,
    attempt: u32,
    note: Option<&'static str>,
}

struct Delayed {
    notification: Notification,
    until_overtaken: bool,
}

impl State {
    /// Queues a notification; returns its key if no task works on it yet.
    fn push(&mut self, notification: Notification) -> Option<String> {
        let key = notification.key.clone();
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.push_back(notification);
            return None;
        }
        self.queues.insert(key.clone(), VecDeque::from([notification]));
        Some(key)
    }
}

impl Hooks {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), permits: Semaphore::new(MAX_AT_ONCE) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send_to(&self, url: String) {
        let mut state = self.state();
        (state.url, state.disabled) = (Some(url), false);
    }

    pub(crate) fn url(&self) -> Option<String> {
        self.state().url.clone()
    }

    pub(crate) fn disabled(&self) -> bool {
        self.state().disabled
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.iter().cloned().collect()
    }

    /// Queues a notification of an event, as far as the faults let it.
    pub(crate) fn announce(&self, core: &Arc<Core>, event: Event, now_ms: i64) {
        if self.url().is_none() {
            return;
        }
        let envelope = envelope(&core.settings.app_id, &event.topic, event.item, now_ms.div_euclid(1000));
        let notification = Notification { key: event.key, envelope: Arc::new(envelope), attempt: 1, note: None };
        let key = notification.key.clone();
        match core.rules().for_webhook(&event.topic) {
            Some(Kind::Drop) => self.record(&notification, None, Some("dropped"), now_ms),
            Some(Kind::Late { ms }) => self.delay(core, notification, Duration::from_millis(ms), false),
            Some(Kind::Reorder) => return self.delay(core, notification, OVERTAKEN_WITHIN, true),
            Some(Kind::Double) => {
                self.enqueue(core, notification.clone());
                self.enqueue(core, notification);
            }
            Some(Kind::NumericIds) => self.enqueue(core, reshaped(notification, &numeric_ids)),
            Some(Kind::Sparse) => self.enqueue(core, reshaped(notification, &without_nulls)),
            Some(Kind::Forge) => {
                self.enqueue(core, forged(&notification));
                self.enqueue(core, notification);
            }
            _ => self.enqueue(core, notification),
        }
        self.release(core, |delayed| delayed.until_overtaken && delayed.notification.key == key);
    }

    /// Forgets everything that waits: the tasks that would have delivered it are gone.
    pub(crate) fn stop(&self) {
        *self.state() = State::default();
        self.changed.notify_waiters();
    }

    fn enqueue(&self, core: &Arc<Core>, notification: Notification) {
        let idle = self.state().push(notification);
        self.work_on(core, idle);
    }

    /// Starts a task for a key that has none.
    fn work_on(&self, core: &Arc<Core>, idle: Option<String>) {
        if let Some(key) = idle {
            let owned = Arc::clone(core);
            core.spawn(async move { owned.hooks.work(&owned, &key).await });
        }
    }

    /// Delivers what waits under a key, until nothing does.
    async fn work(&self, core: &Arc<Core>, key: &str) {
        while let Some(notification) = self.next(key) {
            let Ok(_permit) = self.permits.acquire().await else { return };
            self.deliver(core, notification).await;
        }
        self.changed.notify_waiters();
    }

    fn next(&self, key: &str) -> Option<Notification> {
        let mut state = self.state();
        let next = state.queues.get_mut(key).and_then(VecDeque::pop_front);
        if next.is_none() {
            state.queues.remove(key);
        }
        next
    }

    async fn deliver(&self, core: &Arc<Core>, notification: Notification) {
        let (url, disabled) = {
            let state = self.state();
            (state.url.clone(), state.disabled)
        };
        let Some(url) = url else { return };
        if disabled {
            return self.record(&notification, None, Some("disabled"), core.clock.now_ms());
        }
        let body = notification.envelope.to_string().into_bytes();
        let secret =
            if notification.note == Some("forged") { "an attacker's guess" } else { &core.settings.client_secret };
        let status = post(core, &url, body.clone(), Some(&signature(secret, &body))).await;
        self.record(&notification, status, notification.note, core.clock.now_ms());
        match status {
            Some(200..=299) => {}
            Some(410) => self.state().disabled = true,
            // One retry, then Intercom gives up. Forgers do not retry.
            _ if notification.attempt == 1 && notification.note != Some("forged") => {
                let mut again = Notification { attempt: 2, ..notification };
                Arc::make_mut(&mut again.envelope)["delivery_attempts"] = json!(2);
                self.delay(core, again, core.settings.webhook_retry_after, false);
            }
            _ => {}
        }
    }

    fn record(&self, of: &Notification, status: Option<u16>, note: Option<&'static str>, at_ms: i64) {
        let text = |name: &str| of.envelope[name].as_str().map(str::to_owned);
        let (id, topic) = (text("id"), text("topic").unwrap_or_default());
        let mut state = self.state();
        state.deliveries.push_back(Delivery { at_ms, id, topic, attempt: of.attempt, status, note });
        if of.attempt == 1 && note.is_none() {
            state.sent.push_back((of.key.clone(), Arc::clone(&of.envelope)));
        }
        while state.deliveries.len() > REMEMBERED {
            state.deliveries.pop_front();
        }
        while state.sent.len() > REMEMBERED {
            state.sent.pop_front();
        }
    }

    fn delay(&self, core: &Arc<Core>, notification: Notification, by: Duration, until_overtaken: bool) {
        let mut state = self.state();
        let number = state.next_delayed;
        state.next_delayed += 1;
        state.delayed.insert(number, Delayed { notification, until_overtaken });
        drop(state);
        let owned = Arc::clone(core);
        core.spawn(async move {
            tokio::time::sleep(by).await;
            owned.hooks.release_numbers(&owned, &[number]);
        });
    }

    /// Queues the delayed notifications that fit now.
    fn release(&self, core: &Arc<Core>, fits: impl Fn(&Delayed) -> bool) {
        let fitting = |(number, delayed): (&u64, &Delayed)| fits(delayed).then_some(*number);
        let numbers: Vec<u64> = self.state().delayed.iter().filter_map(fitting).collect();
        self.release_numbers(core, &numbers);
    }

    fn release_numbers(&self, core: &Arc<Core>, numbers: &[u64]) {
        for number in numbers {
            // Out of one place and into the other under one lock: in between, nothing would seem to be waiting.
            let idle = {
                let mut state = self.state();
                let due = state.delayed.remove(number);
                due.and_then(|delayed| state.push(delayed.notification))
            };
            self.work_on(core, idle);
        }
    }

    pub(crate) fn release_all(&self, core: &Arc<Core>) {
        self.release(core, |_| true);
    }

    /// Sends everything sent so far once more, with the same ids.
    pub(crate) fn replay(&self, core: &Arc<Core>) {
        let sent: Vec<(String, Arc<Value>)> = self.state().sent.iter().cloned().collect();
        for (key, envelope) in sent {
            self.enqueue(core, Notification { key, envelope, attempt: 1, note: Some("replayed") });
        }
    }

    /// Waits until nothing is queued or on its way, for one key or for all. What is delayed on purpose does not count.
    pub(crate) async fn settled(&self, key: Option<&str>) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            let busy = {
                let state = self.state();
                key.map_or(!state.queues.is_empty(), |key| state.queues.contains_key(key))
            };
            if !busy {
                return;
            }
            changed.await;
        }
    }
}

/// Posts raw bytes to the receiver; None when no answer came in time.
pub(crate) async fn post(core: &Core, url: &str, body: Vec<u8>, signature: Option<&str>) -> Option<u16> {
    let request = core.client.post(url).header("content-type", "application/json").header("user-agent", USER_AGENT);
    let request = match signature {
        Some(signature) => request.header("x-hub-signature", signature),
        None => request,
    };
    let answer = request.timeout(core.settings.webhook_timeout).body(body).send().await;
    answer.ok().map(|answer| answer.status().as_u16())
}

/// What an attacker who knows the address, but not the secret, might send.
fn forged(notification: &Notification) -> Notification {
    const LURE: &str = "Your account is locked: https://evil.example/login";
    let mut envelope = Value::clone(&notification.envelope);
    envelope["id"] = json!(format!("notif_{}", crate::http::uuid()));
    let item = &mut envelope["data"]["item"];
    if item["conversation_parts"]["conversation_parts"].get(0).is_some() {
        item["conversation_parts"]["conversation_parts"][0]["body"] = json!(LURE);
        item["conversation_parts"]["conversation_parts"][0]["id"] = json!("99999999999");
    } else if item["ticket_part"].is_object() {
        item["ticket_part"]["body"] = json!(LURE);
        item["ticket_part"]["id"] = json!("99999999999");
    } else if let Some(attributes) = item.get_mut("ticket_attributes") {
        attributes["_default_title_"] = json!(LURE);
    } else {
        item["source"]["body"] = json!(LURE);
    }
    Notification { envelope: Arc::new(envelope), note: Some("forged"), ..notification.clone() }
}

fn reshaped(mut notification: Notification, change: &dyn Fn(&mut Value)) -> Notification {
    change(&mut Arc::make_mut(&mut notification.envelope)["data"]["item"]);
    notification
}

/// Some payloads have ids as numbers: those of digits become so here.
fn numeric_ids(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(numeric_ids),
        Value::Object(members) => {
            for (name, value) in members {
                let number = value.as_str().filter(|_| name == "id").and_then(|text| text.parse::<u64>().ok());
                match number {
                    Some(number) => *value = json!(number),
                    None => numeric_ids(value),
                }
            }
        }
        _ => {}
    }
}

/// Some payloads leave out what is null.
fn without_nulls(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(without_nulls);
        }
        _ => {}
    }
}
