//! The simulated Intercom: what is true there, and everything that can happen to a request.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::World;
use super::sending::Chat;
use crate::chat::view::{self, Seen, Snapshot};
use crate::id::{ContactId, ConversationId};
use crate::intercom::conversations::Created;
use crate::intercom::{CallError, NotApplied};
use crate::model::{Author, AuthorKind, Message, State};
use crate::store::outbound::{Kind, Outbound};

/// The longest wait for the answer to a read.
const READ_TIMEOUT_MS: i64 = 5_000;

/// What is true.
#[derive(Default)]
pub(super) struct Intercom {
    pub(super) conversations: BTreeMap<ConversationId, Truth>,
    ids: u64,
}

/// One conversation as it is.
pub(super) struct Truth {
    pub(super) snapshot: Snapshot,
    /// Of each message of ours: its id, the row it was sent for, and which of all requests it was.
    pub(super) ours: Vec<(String, String, u64)>,
    /// `updated_at`, as far as the search's index has come.
    indexed_at: Option<i64>,
}

/// What happens to a request that writes.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Done,
    Refused,
    Throttled,
    Unreachable,
    Dropped,
    AnswerLost,
    Reset { applied_after_ms: Option<i64> },
    Late { by_ms: i64 },
    Failed { applied_after_ms: Option<i64> },
}

impl World {
    fn fate(&self) -> Fate {
        let time = &self.time;
        if !self.is_stormy() {
            return Fate::Done;
        }
        let latest_ms =
            if self.options.beyond_the_promise { 4 * self.options.settle_ms } else { self.options.latest_ms() };
        // An answered failure has had its effect within a second, by clocks that agree.
        let soon_ms = if self.options.clocks_differ { 1 } else { 900 };
        match time.between(0, 100) {
            0..=2 => Fate::Refused,
            3..=5 => Fate::Throttled,
            6 => Fate::Unreachable,
            7..=9 => Fate::Dropped,
            10..=14 => Fate::AnswerLost,
            15 => Fate::Reset { applied_after_ms: None },
            16..=17 => Fate::Reset { applied_after_ms: Some(time.between(0, latest_ms)) },
            18..=22 => Fate::Late { by_ms: time.between(0, latest_ms) },
            23..=25 => Fate::Failed { applied_after_ms: None },
            26..=28 => Fate::Failed { applied_after_ms: Some(time.between(0, soon_ms)) },
            _ => Fate::Done,
        }
    }

    fn apply_later(self: &Rc<Self>, row: &Outbound, contact: &ContactId, request: u64, after_ms: i64) {
        let (world, row, contact) = (Rc::clone(self), row.clone(), contact.clone());
        self.time.spawn(None, async move {
            world.time.sleep(after_ms).await;
            world.applied(&row, &contact, request);
        });
    }

    /// A message of ours has its effect.
    fn applied(self: &Rc<Self>, row: &Outbound, contact: &ContactId, request: u64) -> Option<Snapshot> {
        let now_s = self.intercom_s();
        let mut intercom = self.intercom.borrow_mut();
        intercom.ids += 2;
        let (message_id, part_id) = ((intercom.ids + 500_000).to_string(), intercom.ids.to_string());
        let id = match &row.conversation {
            Some(id) => id.clone(),
            None => ConversationId::parse(&(intercom.ids + 1).to_string())?,
        };
        let answer = match row.kind {
            Kind::Reply | Kind::TicketReply => {
                let truth = intercom.conversations.get_mut(&id)?;
                let was_open = truth.snapshot.state == Some(State::Open);
                (truth.snapshot.state, truth.snapshot.snoozed_until) = (Some(State::Open), None);
                let part_type = if was_open { "comment" } else { "open" };
                let part = part(&part_id, part_type, AuthorKind::User, &row.body, now_s);
                let truth = changed(truth, Some(part.clone()), now_s);
                if truth.ours.iter().any(|(_, _, before)| *before > request) {
                    self.violate_unless_late(format!("{} came after a later message of {id}", row.id));
                }
                truth.ours.push((part_id, row.id.clone(), request));
                Snapshot { messages: vec![part], ..truth.snapshot.clone() }
            }
            Kind::Create => {
                let created =
                    Created { conversation_id: id.clone(), message_id: Some(message_id), created_at: Some(now_s) };
                let opened = view::opened(created, contact, None, &row.body, now_s);
                let mut truth = Truth {
                    snapshot: opened.clone(),
                    ours: vec![(part_id.clone(), row.id.clone(), request)],
                    indexed_at: None,
                };
                truth.snapshot.messages[0].message.id = part_id;
                intercom.conversations.insert(id.clone(), truth);
                opened
            }
        };
        drop(intercom);
        self.log(|| format!("intercom applied {} of request {request} in {id}", row.id));
        self.figures.borrow_mut().applied += 1;
        self.tell_of(&id, None);
        Some(answer)
    }

    /// Something changed: the index will know one day, and webhooks go out.
    fn tell_of(self: &Rc<Self>, id: &ConversationId, about: Option<&str>) {
        let (world, of) = (Rc::clone(self), id.clone());
        let mut intercom = self.intercom.borrow_mut();
        let Some(truth) = intercom.conversations.get_mut(&of) else { return };
        let updated_at = truth.snapshot.updated_at;
        let mut hint = truth.snapshot.clone();
        let source = hint.messages.first().filter(|seen| seen.is_source && hint.messages.len() > 1).cloned();
        let newest = match about {
            Some(about) => hint.messages.iter().find(|seen| seen.message.id == about).cloned(),
            None => hint.messages.pop(),
        };
        // A webhook's words have no formatting.
        let plain = |mut seen: Seen| {
            seen.message.html = view::html_of_plain(&seen.message.body);
            seen
        };
        hint.messages = source.into_iter().chain(newest).map(plain).collect();
        hint.messages.dedup_by(|one, other| one.message.id == other.message.id);
        drop(intercom);
        let lag_ms = self.time.between(0, 25_000);
        self.time.spawn(None, async move {
            world.time.sleep(lag_ms).await;
            if let Some(truth) = world.intercom.borrow_mut().conversations.get_mut(&of) {
                truth.indexed_at = truth.indexed_at.max(Some(updated_at));
            }
        });
        let name = format!("w{:05}", self.time.count());
        let (lost, doubled) = (self.storm(100_000), self.storm(200_000));
        self.figures.borrow_mut().faults += u64::from(lost) + u64::from(doubled);
        for _ in 0..if lost { 0 } else { 1 + u8::from(doubled) } {
            self.deliver(name.clone(), hint.clone());
        }
    }

    fn deliver(self: &Rc<Self>, name: String, hint: Snapshot) {
        let delay_ms = match self.time.between(0, 100) {
            0..=4 => self.time.between(0, 120_000),
            5..=24 => self.time.between(0, 10_000),
            25..=44 => self.time.between(0, 100),
            _ => self.time.between(20, 800),
        };
        let world = Rc::clone(self);
        self.time.spawn(None, async move {
            world.time.sleep(delay_ms).await;
            for _ in 0..2 {
                let node = world.some_node();
                if world.receive_at(node, &name, &hint).await {
                    return;
                }
                // Intercom tries once more, after a minute.
                world.time.sleep(60_000).await;
            }
        });
    }

    /// An operator, or the user by another channel, does something.
    pub(super) fn happens(self: &Rc<Self>, id: &ConversationId, act: &Act) {
        let now_s = self.intercom_s();
        let mut intercom = self.intercom.borrow_mut();
        intercom.ids += 1;
        let part_id = intercom.ids.to_string();
        let Some(truth) = intercom.conversations.get_mut(id) else { return };
        let mut about = None;
        let new = match act {
            Act::Says(text) => Some(part(&part_id, "comment", AuthorKind::Operator, text, now_s)),
            Act::Mails(text) => {
                Some(Seen { from_api: false, ..part(&part_id, "comment", AuthorKind::User, text, now_s) })
            }
            Act::Turns(state) => {
                truth.snapshot.state = Some(*state);
                truth.snapshot.snoozed_until = (*state == State::Snoozed).then_some(now_s + 3_600);
                None
            }
            Act::TakesBack(nth) => {
                let sayings = truth.snapshot.messages.iter_mut();
                let mut sayings: Vec<_> =
                    sayings.filter(|seen| seen.message.author.kind == AuthorKind::Operator).collect();
                let count = sayings.len().max(1);
                let Some(seen) = sayings.get_mut(nth % count) else { return };
                (seen.message.redacted, seen.message.body, seen.message.html) = (true, String::new(), String::new());
                about = Some(seen.message.id.clone());
                None
            }
        };
        changed(truth, new, now_s);
        drop(intercom);
        self.log(|| format!("at intercom, in {id}: {act:?}"));
        self.tell_of(id, about.as_deref());
    }

    fn intercom_s(&self) -> i64 {
        self.time.now_ms().div_euclid(1000)
    }

    fn violate_unless_late(&self, what: String) {
        if !self.options.beyond_the_promise {
            self.violate(what);
        }
    }
}

/// What people do at Intercom.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Says(String),
    Mails(String),
    Turns(State),
    TakesBack(usize),
}

fn changed(truth: &mut Truth, new: Option<Seen>, now_s: i64) -> &mut Truth {
    truth.snapshot.messages.extend(new);
    truth.snapshot.updated_at = now_s;
    truth
}

fn part(id: &str, part_type: &str, kind: AuthorKind, text: &str, created_at: i64) -> Seen {
    let html = match kind {
        AuthorKind::User => view::html_of_plain(text),
        _ => format!("<p><b>{text}</b></p>"),
    };
    Seen {
        message: Message {
            id: id.to_owned(),
            author: Author { kind, name: None, avatar_url: None },
            body: text.to_owned(),
            html,
            attachments: Vec::new(),
            created_at,
            redacted: false,
        },
        part_type: part_type.to_owned(),
        from_api: kind == AuthorKind::User,
        is_source: false,
        author_contact: None,
        updated_at: created_at,
    }
}

impl Chat {
    /// Whether the circuit is closed.
    pub(super) fn gate(&self) -> Result<(), CallError> {
        let open = || CallError::NotApplied { reason: NotApplied::CircuitOpen, retry_after: None };
        if self.world.storm(10_000) { Err(open()) } else { Ok(()) }
    }

    /// Sends a message: the conversation as the answer shows it.
    pub(super) async fn write(&self, row: &Outbound, contact: &ContactId) -> Result<Snapshot, CallError> {
        let (world, time) = (&self.world, &self.world.time);
        let request = time.count();
        world.watch_request(row);
        let fate = world.fate();
        world.log(|| format!("node {} sends {} as request {request}: {fate:?}", self.node, row.id));
        world.figures.borrow_mut().faults += u64::from(!matches!(fate, Fate::Done));
        let (there_ms, back_ms) = (time.between(5, 300), time.between(5, 300));
        let timeout_ms = world.options.timeout_ms;
        let not_applied = |reason| Err(CallError::NotApplied { reason, retry_after: None });
        let nothing = Err(CallError::Ambiguous { answered: false });
        match fate {
            Fate::Done | Fate::AnswerLost => {
                let answer = Rc::new(super::time::Promise::default());
                let (at, row, contact, kept) = (Rc::clone(world), row.clone(), contact.clone(), Rc::clone(&answer));
                time.spawn(None, async move {
                    at.time.sleep(there_ms).await;
                    kept.keep(&at.time, at.applied(&row, &contact, request));
                });
                let is_done = matches!(fate, Fate::Done);
                if !is_done {
                    time.sleep(timeout_ms).await;
                    return nothing;
                }
                let answer = answer.wait(time, timeout_ms).await.flatten();
                let date_ms = world.intercom_s() * 1000;
                time.sleep(back_ms).await;
                self.learn(time.now_ms() - there_ms - back_ms, date_ms);
                answer.ok_or(CallError::Rejected { status: 404, code: String::new() })
            }
            Fate::Refused => {
                time.sleep(there_ms + back_ms).await;
                Err(CallError::Rejected { status: 422, code: String::new() })
            }
            Fate::Throttled => {
                time.sleep(there_ms + back_ms).await;
                not_applied(NotApplied::Throttled)
            }
            Fate::Unreachable => {
                time.sleep(2_000).await;
                not_applied(NotApplied::Unreachable)
            }
            Fate::Dropped => {
                time.sleep(timeout_ms).await;
                nothing
            }
            Fate::Reset { applied_after_ms } => {
                if let Some(after_ms) = applied_after_ms {
                    world.apply_later(row, contact, request, there_ms + after_ms);
                }
                time.sleep(there_ms).await;
                nothing
            }
            Fate::Late { by_ms } => {
                world.apply_later(row, contact, request, timeout_ms + by_ms);
                time.sleep(timeout_ms).await;
                nothing
            }
            Fate::Failed { applied_after_ms } => {
                if let Some(after_ms) = applied_after_ms {
                    world.apply_later(row, contact, request, there_ms + after_ms);
                }
                time.sleep(there_ms + 1).await;
                Err(CallError::Ambiguous { answered: true })
            }
        }
    }

    /// A conversation as it is while the question is out.
    pub(super) async fn conversation(&self, id: &ConversationId) -> Result<Option<Snapshot>, CallError> {
        self.read(|intercom| intercom.conversations.get(id).map(|truth| truth.snapshot.clone())).await
    }

    /// The contact's conversations, as far as the index has come.
    pub(super) async fn search_of_contact(&self, contact: &ContactId) -> Result<Vec<Snapshot>, CallError> {
        self.read(|intercom| {
            let indexed = intercom.conversations.values().filter(|truth| truth.indexed_at.is_some());
            indexed.map(|truth| truth.snapshot.clone()).filter(|snapshot| snapshot.contacts.contains(contact)).collect()
        })
        .await
    }

    /// What changed since then, as far as the index has come.
    pub(super) async fn search_updated_since(&self, unix_s: i64) -> Result<Vec<(ConversationId, i64)>, CallError> {
        self.read(|intercom| {
            let all = intercom.conversations.iter();
            let indexed = all.filter_map(|(id, truth)| Some((id.clone(), truth.indexed_at?)));
            indexed.filter(|(_, updated_at)| *updated_at >= unix_s).collect()
        })
        .await
    }

    /// An answer has come in, to a question of then, dated so.
    fn learn(&self, sent_ms: i64, date_ms: i64) {
        self.memory.offset.borrow_mut().learn(sent_ms, self.world.time.now_ms(), date_ms);
    }

    /// What Intercom's clock showed at the earliest: nothing sets the clock that ticks were read from.
    pub(super) fn intercom_ms(&self, ticks_ms: i64) -> i64 {
        self.memory.offset.borrow().time_at(ticks_ms).unwrap_or(ticks_ms)
    }

    pub(super) fn behind_ms(&self) -> i64 {
        (self.now_ms() - self.intercom_ms(self.world.time.now_ms())).max(0)
    }

    async fn read<T>(&self, read: impl FnOnce(&Intercom) -> T) -> Result<T, CallError> {
        let time = &self.world.time;
        if self.world.storm(20_000) {
            time.sleep(READ_TIMEOUT_MS).await;
            return Err(CallError::Ambiguous { answered: false });
        }
        if self.world.storm(20_000) {
            time.sleep(20).await;
            return Err(CallError::NotApplied { reason: NotApplied::Throttled, retry_after: None });
        }
        let sent_ms = time.now_ms();
        time.sleep(time.between(5, 200)).await;
        let read = read(&self.world.intercom.borrow());
        let date_ms = self.world.intercom_s() * 1000;
        let slow = self.world.storm(50_000);
        time.sleep(if slow { time.between(0, READ_TIMEOUT_MS) } else { time.between(5, 200) }).await;
        self.learn(sent_ms, date_ms);
        self.world.stumble(self.node);
        Ok(read)
    }
}

impl super::Options {
    /// How late a request is applied at most: within the promise, less what clocks differ by.
    fn latest_ms(&self) -> i64 {
        self.settle_ms - if self.clocks_differ { 2 * super::CLOCKS_DIFFER_MS } else { 100 }
    }
}
