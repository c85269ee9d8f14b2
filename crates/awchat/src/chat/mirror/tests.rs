//! The mirror's decisions as tables, and its law: any order of events gives the same mirror.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::{ContactId, ConversationId, UserId};
use crate::model::Author;
use crate::store::outbound::{Kind, Told};

const T: i64 = 1_800_000_000;

fn conversation() -> Conversation {
    Conversation {
        id: ConversationId::parse("7").expect("an id"),
        user: UserId::parse("ada").expect("an id"),
        state: State::Open,
        snoozed_until: None,
        rated: false,
        rated_here: false,
        is_ticket: false,
        topic: None,
        source_hidden: false,
        created_at: T,
        updated_at: T,
        truth_ms: 0,
        hidden: false,
        whole_at: 0,
        whole_ms: 0,
        active_ms: T * 1000,
        last_position: T,
        read_position: 0,
        unread: 0,
        revision: 1,
    }
}

fn seen(id: &str, kind: AuthorKind, body: &str, created_at: i64) -> Seen {
    Seen {
        message: Message {
            id: id.to_owned(),
            author: Author { kind, name: None, avatar_url: None },
            body: body.to_owned(),
            html: view::html_of_plain(body),
            attachments: Vec::new(),
            created_at,
            redacted: false,
        },
        part_type: "comment".to_owned(),
        from_api: true,
        is_source: false,
        author_contact: ContactId::parse("c1").filter(|_| kind == AuthorKind::User),
        updated_at: created_at,
    }
}

fn snapshot(messages: Vec<Seen>) -> Snapshot {
    Snapshot {
        id: ConversationId::parse("7").expect("an id"),
        contacts: Vec::new(),
        users: Vec::new(),
        state: Some(State::Open),
        snoozed_until: None,
        created_at: T,
        updated_at: T,
        rated_by_tag: None,
        is_ticket: false,
        title: None,
        messages,
        total_parts: None,
        ticket: None,
    }
}

fn row(id: &str, body: &str, state: Journal) -> Outbound {
    Outbound {
        id: id.to_owned(),
        user: UserId::parse("ada").expect("an id"),
        conversation: ConversationId::parse("7"),
        kind: Kind::Reply,
        route: String::new(),
        key: None,
        fingerprint: String::new(),
        content: content(body),
        body: body.to_owned(),
        payload: "{}".to_owned(),
        state,
        attempts: 1,
        ambiguous: state != Journal::Sending,
        told: Told::Nothing,
        attempt_ms: T * 1000,
        settle_until_ms: 0,
        part_id: None,
        response: None,
        created_ms: T * 1000,
    }
}

fn answer(of: Option<&str>) -> Origin {
    Origin::Answer { asked_ms: T * 1000, of: of.map(str::to_owned) }
}

fn binds(plan: &Plan) -> Vec<(&str, Option<&str>, bool)> {
    plan.put.iter().map(|put| (put.message.id.as_str(), put.binds.as_deref(), put.hidden)).collect()
}

#[test]
fn two_messages_with_the_same_words_each_find_their_own_row() {
    let rows = [row("a", "ok", Journal::Unknown), row("b", "ok", Journal::Sending)];
    let both = snapshot(vec![seen("1", AuthorKind::User, "ok", T), seen("2", AuthorKind::User, "ok", T + 1)]);
    let plan = plan(&conversation(), &[], &rows, &both, &answer(None));
    assert_eq!(binds(&plan), [("1", Some("a"), false), ("2", Some("b"), false)]);
}

#[test]
fn an_answer_binds_its_row_whatever_intercom_made_of_the_words() {
    let rows = [row("a", "first", Journal::Unknown), row("b", "see  <b>", Journal::Sending)];
    let mine = snapshot(vec![seen("9", AuthorKind::User, "see", T)]);
    let plan = plan(&conversation(), &[], &rows, &mine, &answer(Some("b")));
    assert_eq!(binds(&plan), [("9", Some("b"), false)]);
    assert_eq!(plan.put[0].message.body, "see  <b>", "a user's message is shown as written");
}

#[test]
fn what_came_before_the_message_was_written_is_not_the_message() {
    let rows = [row("a", "ok", Journal::Unknown)];
    let old = snapshot(vec![seen("1", AuthorKind::User, "ok", T - 60)]);
    assert_eq!(binds(&plan(&conversation(), &[], &rows, &old, &answer(None))), [("1", None, false)]);
}

#[test]
fn a_rating_is_taken_away_by_an_answer_alone_and_never_the_users_own() {
    let answer = Origin::Answer { asked_ms: T * 1000, of: None };
    let of_sending = Origin::Answer { asked_ms: T * 1000, of: Some("row".to_owned()) };
    for (rated, rated_here, tagged, origin, expected) in [
        (false, false, true, &Origin::Webhook, Some(true)),
        (false, false, true, &answer, Some(true)),
        (true, false, false, &Origin::Webhook, None),
        (true, false, false, &of_sending, None),
        (true, false, false, &answer, Some(false)),
        (true, true, false, &answer, None),
        (true, true, true, &answer, None),
    ] {
        let before = Conversation { rated, rated_here, ..conversation() };
        let seen = Snapshot { rated_by_tag: Some(tagged), ..snapshot(Vec::new()) };
        assert_eq!(plan(&before, &[], &[], &seen, origin).rated, expected, "{rated} {rated_here} {tagged} {origin:?}");
    }
}

#[test]
fn an_operator_who_repeats_the_users_words_is_not_the_user() {
    let rows = [row("a", "ok", Journal::Unknown)];
    let echo = snapshot(vec![seen("1", AuthorKind::Operator, "ok", T)]);
    assert_eq!(binds(&plan(&conversation(), &[], &rows, &echo, &answer(None))), [("1", None, false)]);
}

#[test]
fn a_late_application_of_a_message_given_up_is_that_message() {
    let rows = [row("a", "ok", Journal::Abandoned)];
    let late = snapshot(vec![seen("1", AuthorKind::User, "ok", T + 50)]);
    assert_eq!(binds(&plan(&conversation(), &[], &rows, &late, &answer(None))), [("1", Some("a"), false)]);
}

#[test]
fn a_second_application_of_a_message_sent_twice_is_hidden() {
    let sent = Outbound { part_id: Some("1".to_owned()), attempts: 2, ..row("a", "ok", Journal::Sent) };
    let known = [Known {
        id: "1".to_owned(),
        fingerprint: fingerprint(&seen("1", AuthorKind::User, "ok", T).message),
        redacted: false,
        opening: false,
        polished: true,
    }];
    let both = snapshot(vec![seen("1", AuthorKind::User, "ok", T), seen("2", AuthorKind::User, "ok", T + 40)]);
    assert_eq!(
        binds(&plan(&conversation(), &known, std::slice::from_ref(&sent), &both, &answer(None))),
        [("2", None, true)]
    );
    // Both come at once: after an outage, say.
    let unknown = Outbound { attempts: 2, ..row("a", "ok", Journal::Unknown) };
    assert_eq!(
        binds(&plan(&conversation(), &[], std::slice::from_ref(&unknown), &both, &answer(None))),
        [("1", Some("a"), false), ("2", None, true)]
    );
    // Sent once, the same words again are another message, typed elsewhere.
    let once = Outbound { attempts: 1, ..sent };
    assert_eq!(
        binds(&plan(&conversation(), &known, std::slice::from_ref(&once), &both, &answer(None))),
        [("2", None, false)]
    );
}

#[test]
fn a_webhook_adds_and_takes_back_but_does_not_rewrite() {
    let known =
        [Known { id: "1".into(), fingerprint: "other words".into(), redacted: false, opening: false, polished: true }];
    let old = snapshot(vec![seen("1", AuthorKind::Operator, "hello", T)]);
    assert!(plan(&conversation(), &known, &[], &old, &Origin::Webhook).put.is_empty());
    assert_eq!(plan(&conversation(), &known, &[], &old, &answer(None)).put.len(), 1);
    let mut taken_back = old;
    taken_back.messages[0].message.redacted = true;
    assert_eq!(plan(&conversation(), &known, &[], &taken_back, &Origin::Webhook).put.len(), 1);
    let known = [Known { redacted: true, ..known[0].clone() }];
    let again = snapshot(vec![seen("1", AuthorKind::Operator, "hello", T)]);
    assert!(plan(&conversation(), &known, &[], &again, &answer(None)).put.is_empty(), "taken back stays taken back");
}

#[test]
fn the_state_follows_intercoms_time_and_an_answer_breaks_the_tie() {
    let closed_at = |updated_at| Snapshot { state: Some(State::Closed), updated_at, ..snapshot(Vec::new()) };
    let closes = Some((State::Closed, None));
    let before = Conversation { truth_ms: T * 1000, ..conversation() };
    for (updated_at, origin, state, ask) in [
        (T + 1, Origin::Webhook, closes, true),
        (T, Origin::Webhook, None, true),
        (T - 1, Origin::Webhook, None, false),
        (T + 1, answer(None), closes, false),
        (T, answer(None), closes, false),
        (T, Origin::Answer { asked_ms: T * 1000 - 1, of: None }, None, false),
        (T - 1, answer(None), None, false),
    ] {
        let plan = plan(&before, &[], &[], &closed_at(updated_at), &origin);
        assert_eq!((plan.state, plan.ask), (state, ask), "{updated_at} {origin:?}");
    }
}

#[test]
fn only_what_is_not_our_own_doing_makes_us_ask() {
    let rows = [row("a", "ok", Journal::Sending)];
    let own = snapshot(vec![seen("1", AuthorKind::User, "ok", T)]);
    assert!(!plan(&conversation(), &[], &rows, &own, &Origin::Webhook).ask);
    let operators = snapshot(vec![seen("2", AuthorKind::Operator, "hello", T)]);
    assert!(plan(&conversation(), &[], &rows, &operators, &Origin::Webhook).ask);
}

/// What happens at Intercom, one thing a second.
#[derive(Clone, Debug)]
enum Act {
    Say(u8),
    TakeBack(u8),
    Turn(State),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => any::<u8>().prop_map(Act::Say),
        1 => any::<u8>().prop_map(Act::TakeBack),
        1 => prop_oneof![Just(State::Open), Just(State::Closed), Just(State::Snoozed)].prop_map(Act::Turn),
    ]
}

/// The conversation after each act: the last is the truth, the others are what webhooks carried.
fn history(acts: &[Act]) -> Vec<Snapshot> {
    let mut now = snapshot(Vec::new());
    let mut moments = Vec::new();
    for (act, at) in acts.iter().zip(T + 1..) {
        now.updated_at = at;
        match act {
            Act::Say(words) => {
                let id = (100 + now.messages.len()).to_string();
                now.messages.push(seen(&id, AuthorKind::Operator, &words.to_string(), at));
            }
            Act::TakeBack(which) => {
                if let Some(seen) = now.messages.get_mut(usize::from(*which) % 5) {
                    seen.message.redacted = true;
                    seen.message.body.clear();
                    seen.message.html.clear();
                }
            }
            Act::Turn(state) => now.state = Some(*state),
        }
        moments.push(now.clone());
    }
    moments
}

/// The mirror as a map, written as the store writes it.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    conversation: Conversation,
    messages: BTreeMap<String, (String, bool)>,
}

fn apply(kept: &mut Kept, snapshot: &Snapshot, origin: &Origin) {
    let known: Vec<Known> = kept
        .messages
        .iter()
        .map(|(id, (fingerprint, redacted))| Known {
            id: id.clone(),
            fingerprint: fingerprint.clone(),
            redacted: *redacted,
            opening: false,
            polished: true,
        })
        .collect();
    let plan = plan(&kept.conversation, &known, &[], snapshot, origin);
    for put in plan.put {
        kept.messages.insert(put.message.id, (put.fingerprint, put.message.redacted));
    }
    let now = &mut kept.conversation;
    (now.state, now.snoozed_until) = plan.state.unwrap_or((now.state, now.snoozed_until));
    (now.updated_at, now.truth_ms) = (plan.updated_at, plan.truth_ms);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_then_the_truth_is_the_mirror_built_anew(
        acts in prop::collection::vec(act(), 1..12),
        order in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..24),
    ) {
        let moments = history(&acts);
        let truth = moments.last().expect("at least one act");
        let fresh = Kept { conversation: conversation(), messages: BTreeMap::new() };
        let mut shuffled = fresh.clone();
        for (index, of_ticket) in order {
            // Doubled, out of order, some never: only the newest parts, as a webhook has them.
            let mut hint = index.get(&moments).clone();
            hint.messages = hint.messages.split_off(hint.messages.len().saturating_sub(2));
            if of_ticket {
                // As the ticket that it is: without its state and times.
                (hint.state, hint.updated_at) = (None, 0);
            }
            apply(&mut shuffled, &hint, &Origin::Webhook);
        }
        apply(&mut shuffled, truth, &Origin::Answer { asked_ms: (T + 100) * 1000, of: None });
        let mut rebuilt = fresh;
        apply(&mut rebuilt, truth, &Origin::Answer { asked_ms: (T + 100) * 1000, of: None });
        prop_assert_eq!(shuffled, rebuilt);
    }
}
