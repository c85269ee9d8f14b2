//! Those who write and read: users' apps with and without keys, patient ones and others, operators, pollers.

use std::rc::Rc;

use super::intercom::Act;
use super::ledger::Shown;
use super::sending::Answer;
use super::{EPOCH_MS, STORM_MS, World};
use crate::chat::contacts::Profile;
use crate::chat::draft::{Draft, Opening, Wish};
use crate::chat::requests::Outcome;
use crate::id::{ContactId, ConversationId, UserId};
use crate::model::{Head, Message, State, Topic};

const USERS: u32 = 2;

/// The user's contact at Intercom.
pub(super) fn contact(user: &UserId) -> ContactId {
    ContactId::parse(&format!("contact-{user}")).expect("letters, digits and a dash")
}

/// How a user's app behaves.
#[derive(Clone, Copy)]
struct App {
    has_keys: bool,
    /// Asks until it is told 201.
    is_patient: bool,
}

impl World {
    pub(super) fn spawn_people(self: &Rc<Self>) {
        for name in 0..USERS {
            let user = UserId::parse(&format!("user-{name}")).expect("letters, digits and a dash");
            let world = Rc::clone(self);
            self.time.spawn(None, async move { world.live(user).await });
        }
    }

    async fn live(self: Rc<Self>, user: UserId) {
        let time = &self.time;
        let app = App { has_keys: time.chance(700_000), is_patient: time.chance(700_000) };
        for _ in 0..time.between(1, 3) {
            time.sleep(time.between(0, 5_000)).await;
            let Some(conversation) = self.begin_conversation(&user, app).await else { continue };
            for _ in 0..2 {
                self.spawn_poller(&user, &conversation);
            }
            self.spawn_operator(&conversation);
            for device in 0..2 {
                let (world, user, conversation) = (Rc::clone(&self), user.clone(), conversation.clone());
                // Without keys, the same words from two devices are the same message.
                let says_ok = app.has_keys || device == 0;
                time.spawn(None, async move { world.write_now_and_then(user, conversation, app, says_ok).await });
            }
        }
    }

    async fn begin_conversation(self: &Rc<Self>, user: &UserId, app: App) -> Option<ConversationId> {
        let number = self.time.count();
        let mut draft = self.draft(user, None, app, self.words(number));
        if self.time.chance(200_000) {
            draft.opening.topic = Some(Topic { main: "refund".to_owned(), sub: None });
            draft.opening.source_hidden = true;
            draft.body = "Topic: refund".to_owned();
        }
        let Some(Outcome::Sent { row, .. }) = self.say(draft, app, number).await else { return None };
        self.outbound(&row)?.conversation
    }

    async fn write_now_and_then(self: Rc<Self>, user: UserId, conversation: ConversationId, app: App, says_ok: bool) {
        let time = &self.time;
        for _ in 0..time.between(2, 7) {
            time.sleep(time.between(0, 15_000)).await;
            if !self.is_stormy() {
                return;
            }
            let number = time.count();
            let words = if says_ok { self.words(number) } else { format!("message {number}") };
            let draft = self.draft(&user, Some(&conversation), app, words);
            self.say(draft, app, number).await;
        }
    }

    fn words(&self, number: u64) -> String {
        if self.time.chance(300_000) { "ok".to_owned() } else { format!("message {number}") }
    }

    fn draft(&self, user: &UserId, conversation: Option<&ConversationId>, app: App, body: String) -> Draft {
        Draft {
            user: user.clone(),
            profile: Profile::default(),
            conversation: conversation.cloned(),
            wish: Wish::Talk,
            key: app.has_keys.then(|| format!("k{}", self.time.count())),
            body,
            opening: Opening::default(),
        }
    }

    /// Sends one message as an app does: the same request again until there is an answer that ends it.
    async fn say(self: &Rc<Self>, draft: Draft, app: App, number: u64) -> Option<Outcome> {
        let time = &self.time;
        self.figures.borrow_mut().messages += 1;
        let mut is_doubtful = false;
        loop {
            if app.has_keys && self.storm(100_000) {
                // Tapped twice.
                let (world, draft) = (Rc::clone(self), draft.clone());
                time.spawn(None, async move { drop(world.ask(&draft, 60_000).await) });
            }
            let longest_ms = if self.storm(50_000) { time.between(50, 12_000) } else { 60_000 };
            let answer = self.ask(&draft, longest_ms).await;
            self.log(|| format!("message {number} ({:?}, {:?}): {answer:?}", draft.key, draft.body));
            match answer {
                Answer::Outcome(outcome @ Outcome::Sent { .. }) => {
                    self.acknowledged(number, &outcome, is_doubtful);
                    return Some(outcome);
                }
                Answer::Outcome(Outcome::Unavailable { retry_after_s }) => {
                    if !app.is_patient && time.chance(500_000) {
                        return None;
                    }
                    let wait_ms = retry_after_s.min(40).cast_signed() * 1_000;
                    time.sleep(wait_ms + time.between(0, 2_000)).await;
                }
                Answer::Outcome(Outcome::Refused | Outcome::NotFound | Outcome::NoSuchFile | Outcome::Erased) => {
                    return None;
                }
                Answer::Outcome(Outcome::Mismatch) => {
                    self.violate("a key was taken for another payload's".to_owned());
                    return None;
                }
                // Without a key nobody can tell whether it is the same message.
                Answer::Broken | Answer::Outcome(Outcome::Failed) if !app.has_keys && time.chance(500_000) => {
                    return None;
                }
                Answer::Broken | Answer::Conflict | Answer::Outcome(Outcome::Failed) => {
                    is_doubtful = true;
                    if draft.key.is_none() {
                        self.ledger.borrow_mut().doubtful.insert(draft.body.clone());
                    }
                    time.sleep(time.between(100, 4_000)).await;
                }
            }
        }
    }

    /// One request to some node.
    async fn ask(self: &Rc<Self>, draft: &Draft, longest_ms: i64) -> Answer {
        self.ledger.borrow_mut().asks(draft);
        let node = self.some_node();
        self.time.sleep(self.time.between(1, 50)).await;
        let answer = if self.is_up(node) { self.connect(node, draft, longest_ms).await } else { Some(Answer::Broken) };
        // A client that hangs up, or hears that it is still at work, has asked all the same: the node goes on.
        let Some(answer) = answer else { return Answer::Broken };
        if matches!(answer, Answer::Conflict) {
            return answer;
        }
        let is_told = matches!(answer, Answer::Outcome(Outcome::Unavailable { .. }));
        self.log(|| format!("a client of {:?} hears {answer:?} from node {node}", draft.key));
        self.ledger.borrow_mut().hears(draft, is_told);
        answer
    }

    /// `None`: the client hangs up.
    async fn connect(self: &Rc<Self>, node: usize, draft: &Draft, longest_ms: i64) -> Option<Answer> {
        let connection = Rc::new(super::Promise::default());
        self.nodes.borrow_mut()[node].connections.push(Rc::clone(&connection));
        let (chat, draft, end) = (self.chat(node), draft.clone(), Rc::clone(&connection));
        self.time.spawn(Some(node), async move {
            let answer = chat.submit(draft).await;
            end.keep(&chat.world.time, answer);
        });
        connection.wait(&self.time, longest_ms).await
    }

    fn spawn_operator(self: &Rc<Self>, conversation: &ConversationId) {
        let (world, id) = (Rc::clone(self), conversation.clone());
        self.time.spawn(None, async move {
            loop {
                world.time.sleep(world.time.between(500, 25_000)).await;
                if !world.is_stormy() {
                    return;
                }
                let number = world.time.count();
                let act = match world.time.between(0, 20) {
                    0 => Act::TakesBack(usize::try_from(number).expect("a small number")),
                    1 => Act::Mails(format!("mail {number}")),
                    2 => Act::Turns(State::Snoozed),
                    3 => Act::Turns(State::Open),
                    4..=6 => Act::Turns(State::Closed),
                    _ => Act::Says(format!("answer {number}")),
                };
                world.figures.borrow_mut().operator_messages += u64::from(matches!(act, Act::Says(_)));
                world.happens(&id, &act);
            }
        });
    }

    fn spawn_poller(self: &Rc<Self>, user: &UserId, conversation: &ConversationId) {
        let (world, user, id) = (Rc::clone(self), user.clone(), conversation.clone());
        let poller = {
            let mut ledger = self.ledger.borrow_mut();
            ledger.shown.push(Shown { conversation: id.clone(), messages: std::collections::BTreeMap::new() });
            ledger.shown.len() - 1
        };
        self.time.spawn(None, async move {
            let mut since = 0;
            loop {
                let calm = world.time.now_ms() > EPOCH_MS + STORM_MS;
                world.time.sleep(if calm { 60_000 } else { world.time.between(3_000, 12_000) }).await;
                let node = world.some_node();
                if world.is_up(node) {
                    let (messages, latest) = world.poll(node, &user, &id, since).await;
                    if !messages.is_empty() {
                        let ids: Vec<_> = messages.iter().map(|message| &message.id).collect();
                        world.log(|| format!("poller {poller} beyond {since} at {latest}: {ids:?}"));
                    }
                    world.show(poller, messages);
                    since = latest;
                }
            }
        });
    }

    /// As the product answers a poll: one node from its memory, several from the database.
    async fn poll(self: &Rc<Self>, node: usize, user: &UserId, id: &ConversationId, since: i64) -> (Vec<Message>, i64) {
        self.figures.borrow_mut().polls += 1;
        let chat = self.chat(node);
        let place = chat.memory.heads.place(id);
        let in_memory = place.head().filter(|_| self.options.nodes == 1);
        let Some(head) = in_memory.or_else(|| self.database.borrow().conversations.get(id).map(Head::from)) else {
            return (Vec::new(), since);
        };
        place.set(head.clone());
        self.time.sleep(self.time.between(0, 5)).await;
        assert_eq!(head.user, *user, "a conversation has one owner");
        if head.position <= since {
            return (Vec::new(), head.position);
        }
        let database = self.database.borrow();
        let all = database.messages.iter().filter(|((of, _), kept)| of == id && !kept.hidden);
        let mut new: Vec<_> =
            all.map(|(_, kept)| kept).filter(|kept| kept.position > since && kept.position <= head.position).collect();
        new.sort_by_key(|kept| kept.position);
        (new.into_iter().map(|kept| kept.message.clone()).collect(), head.position)
    }
}
