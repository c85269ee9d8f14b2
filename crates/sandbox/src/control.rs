//! The sandbox's own routes: `/_sandbox/*` for tests and the page, `/operator` for people, `/i/o/*` for attachments.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::core::Core;
use crate::exchange::{Answer, Request};
use crate::faults::Fault;
use crate::operator::{self, Act};
use crate::phones::{PhoneAct, Phones};
use crate::render::{self, Form, Parts};
use crate::world::World;

/// Nothing from elsewhere, nothing inline: what users write cannot become code.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'";

/// Whether a path is the sandbox's own, and not Intercom's API.
pub(crate) fn is_ours(path: &str) -> bool {
    ["/_sandbox/", "/i/o/", "/operator/"].iter().any(|start| path.starts_with(start)) || path == "/operator"
}

pub(crate) async fn answer(core: &Arc<Core>, request: &Request) -> Answer {
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let is_json = request.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/json"));
    if request.method == "POST" && !is_json {
        // A page of another site cannot send JSON here without asking first, and is not answered then.
        return refusal(415, "send application/json");
    }
    match (request.method.as_str(), segments.as_slice()) {
        ("GET", ["operator" | "_sandbox", ..]) => look(core, request, &segments),
        ("GET", ["i", "o", file, _name]) => attachment(core, file, request),
        ("POST", ["_sandbox", "act"]) => act(core, request).await,
        ("POST", ["_sandbox", "faults"]) => match serde_json::from_value::<Fault>(request.body.clone()) {
            Ok(fault) => {
                core.rules().add(fault);
                done(&core.rules().active())
            }
            Err(why) => refusal(400, &why.to_string()),
        },
        ("DELETE", ["_sandbox", "faults"]) => {
            core.rules().clear();
            done(&json!({}))
        }
        ("DELETE", ["_sandbox", "calls"]) => {
            core.forget_calls();
            done(&json!({}))
        }
        ("POST", ["_sandbox", "phones"]) => act_on_phones(core, request),
        ("POST", ["_sandbox", "webhooks"]) => webhooks(core, request).await,
        _ => refusal(404, "no such thing in the sandbox"),
    }
}

fn look(core: &Arc<Core>, request: &Request, segments: &[&str]) -> Answer {
    match segments {
        ["operator"] => page("text/html; charset=utf-8", include_str!("page/page.html")),
        ["operator", "phones"] => page("text/html; charset=utf-8", include_str!("page/phones.html")),
        ["operator", "phones.css"] => page("text/css; charset=utf-8", include_str!("page/phones.css")),
        ["operator", "phones.js"] => page("text/javascript; charset=utf-8", include_str!("page/phones.js")),
        ["operator", "dom.js"] => page("text/javascript; charset=utf-8", include_str!("page/dom.js")),
        ["operator", "page.css"] => page("text/css; charset=utf-8", include_str!("page/page.css")),
        ["operator", "page.js"] => page("text/javascript; charset=utf-8", include_str!("page/page.js")),
        ["_sandbox", "conversations"] => done(&core.change(|world| list(world))),
        ["_sandbox", "conversations", id] => thread(core, id, request),
        ["_sandbox", "tickets", id] => {
            let found = core.change(|world| render::ticket(world, world.conversations.get(*id)?));
            found.map_or_else(|| refusal(404, "no such ticket"), |json| done(&json))
        }
        ["_sandbox", "ticket_types"] => {
            let types = |world: &mut World| {
                world.ticket_types.iter().map(|of| render::ticket_type_detailed(world, of)).collect::<Vec<_>>()
            };
            done(&core.change(types))
        }
        ["_sandbox", "contacts"] => {
            let contacts =
                |world: &mut World| world.contacts.values().map(|c| render::contact(world, c)).collect::<Vec<_>>();
            done(&core.change(contacts))
        }
        ["_sandbox", "phones"] => done(&Phones::new(Arc::clone(&core.network)).overview()),
        ["_sandbox", "sent"] => done(&Phones::new(Arc::clone(&core.network)).sent()),
        ["_sandbox", "service_account"] => done(&Phones::new(Arc::clone(&core.network)).service_account()),
        ["_sandbox", "faults"] => done(&core.rules().active()),
        ["_sandbox", "calls"] => done(&core.calls()),
        ["_sandbox", "violations"] => done(&core.violations()),
        ["_sandbox", "webhooks"] => done(
            &json!({ "url": core.hooks.url(), "disabled": core.hooks.disabled(), "deliveries": core.hooks.deliveries() }),
        ),
        _ => refusal(404, "no such thing in the sandbox"),
    }
}

/// The latest change first.
fn list(world: &World) -> Vec<Value> {
    let mut all: Vec<Value> = world.conversations.keys().filter_map(|id| operator::overview(world, id)).collect();
    all.sort_by_key(|one| std::cmp::Reverse((one["updated_at"].as_i64(), one["id"].as_str().map(str::to_owned))));
    all
}

/// The overview, and the whole conversation as the API would show it in plain text. `?view=true` marks it as seen.
fn thread(core: &Arc<Core>, id: &str, request: &Request) -> Answer {
    let viewed = request.query_value("view").as_deref() == Some("true");
    let found = core.change(|world| {
        if viewed && let Some(conversation) = world.conversations.get_mut(id) {
            conversation.seen = conversation.contact_texts().len();
        }
        let mut json = operator::overview(world, id)?;
        let conversation = world.conversations.get(id)?;
        json["conversation"] = render::conversation(world, conversation, Form::Plain, &Parts::Recent);
        json["contact_texts"] = json!(conversation.contact_texts());
        json["moves"] = operator::moves(conversation);
        Some(json)
    });
    found.map_or_else(|| refusal(404, "no such conversation"), |json| done(&json))
}

async fn act(core: &Arc<Core>, request: &Request) -> Answer {
    let act = match serde_json::from_value::<Act>(request.body.clone()) {
        Ok(act) => act,
        Err(why) => return refusal(400, &why.to_string()),
    };
    match core.change(|world| operator::perform(world, act)) {
        Ok(id) => done(&id),
        Err(why) => refusal(404, &why),
    }
}

fn act_on_phones(core: &Arc<Core>, request: &Request) -> Answer {
    let act = match serde_json::from_value::<PhoneAct>(request.body.clone()) {
        Ok(act) => act,
        Err(why) => return refusal(400, &why.to_string()),
    };
    match Phones::new(Arc::clone(&core.network)).perform(act) {
        Ok(()) => done(&json!({})),
        Err(why) => refusal(400, why),
    }
}

/// `{"url"}` sets the receiver; `{"do":"replay"|"release"|"settle"}` sends all again, sends what is delayed, waits for the rest.
async fn webhooks(core: &Arc<Core>, request: &Request) -> Answer {
    if let Some(url) = request.text("url") {
        core.hooks.send_to(url.to_owned());
    }
    match request.text("do") {
        Some("replay") => core.hooks.replay(core),
        Some("release") => core.hooks.release_all(core),
        Some("settle") | None => {}
        Some(_) => return refusal(400, "do must be replay, release or settle"),
    }
    if request.text("do").is_some() {
        core.hooks.settled(None).await;
    }
    done(&json!({ "url": core.hooks.url(), "disabled": core.hooks.disabled() }))
}

fn attachment(core: &Arc<Core>, file: &str, request: &Request) -> Answer {
    let expires = request.query_value("expires").and_then(|text| text.parse().ok()).unwrap_or(0);
    let signature = request.query_value("signature").unwrap_or_default();
    let found = core.change(|world| world.files.fetch(file, expires, &signature, world.now()));
    found.map_or_else(|| refusal(403, "expired"), |(kind, bytes)| Answer::bytes(200, &kind, bytes))
}

fn page(content_type: &str, text: &'static str) -> Answer {
    Answer::bytes(200, content_type, text.as_bytes()).with("content-security-policy", PAGE_POLICY)
}

fn done<T: Serialize + ?Sized>(body: &T) -> Answer {
    Answer::json(200, &serde_json::to_value(body).unwrap_or_default()).with("cache-control", "no-store")
}

fn refusal(status: u16, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": message }))
}
