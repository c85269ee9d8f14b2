//! FCM HTTP v1: `POST /v1/projects/{project}/messages:send`.

use serde_json::json;

use super::google::Bearer;
use super::message::{self, Accepted, Refused};
use super::outcome::{Outcome, To, fcm_error, invalid, malformed, unauthenticated};
use super::screen::{Phone, Registration};
use super::state::State;
use crate::exchange::{Answer, Reply, Request};

/// Does what a request asks, if it may.
pub(crate) fn answer(state: &mut State, request: &Request, now_ms: i64) -> Reply {
    match allowed(state, request, now_ms) {
        Err(refused) => refused.into(),
        Ok(()) => send(state, request, now_ms),
    }
}

/// Whether the address and the bearer token are right.
fn allowed(state: &State, request: &Request, now_ms: i64) -> Result<(), Answer> {
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (&["v1", "projects", project, "messages:send"], "POST") = (segments.as_slice(), request.method.as_str()) else {
        return Err(Answer::bytes(
            404,
            "text/html; charset=UTF-8",
            "<html><title>Error 404 (Not Found)!!1</title></html>",
        ));
    };
    let Some(token) = request.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer ")) else {
        return Err(unauthenticated("CREDENTIALS_MISSING"));
    };
    match state.google.bearer(token, now_ms) {
        Bearer::Unknown => Err(unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED")),
        Bearer::Expired => Err(unauthenticated("ACCESS_TOKEN_EXPIRED")),
        Bearer::Holds if project != state.google.project => {
            Err(Outcome::NoSuchProject.fcm().expect("one of FCM's errors"))
        }
        Bearer::Holds => Ok(()),
    }
}

fn send(state: &mut State, request: &Request, now_ms: i64) -> Reply {
    if request.body.is_null() {
        let why = "Invalid JSON payload received. Unexpected token.";
        return fcm_error(400, "INVALID_ARGUMENT", why, &[]).into();
    }
    let Accepted { validate_only, message } = match message::accept(&request.body) {
        Ok(accepted) => accepted,
        Err(refused) => {
            let to = To::Phone(request.body["message"]["token"].as_str().unwrap_or_default().to_owned());
            let answer = match refused {
                Refused::Form(violations) => malformed(&violations),
                Refused::Content(violation) => invalid(violation),
            };
            state.note(to, request.body.clone(), Some(&answer), false, now_ms);
            return answer.into();
        }
    };
    let name = format!("projects/{}/messages/", state.google.project);
    let Some(token) = message["token"].as_str() else {
        // A topic that nobody has subscribed to, as nobody can here.
        return Answer::json(200, &json!({ "name": format!("{name}{}", rand::random::<u32>()) })).into();
    };
    if validate_only {
        return Answer::json(200, &json!({ "name": format!("{name}fake_message_id") })).into();
    }
    let to = To::from(token);
    let outcome = state.scripted(&to).unwrap_or_else(|| usual(state, token, now_ms));
    if outcome.delivers() {
        state.phone(token).receive(&message, now_ms);
    }
    let accepted = json!({ "name": format!("{name}0:{}%{:016x}", now_ms * 1000, rand::random::<u64>()) });
    state.reply(to, request.body.clone(), &outcome, &accepted, now_ms)
}

/// What becomes of a message when nothing else was said.
fn usual(state: &mut State, token: &str, now_ms: i64) -> Outcome {
    if !message::is_token(token) {
        return Outcome::InvalidToken;
    }
    let phone: &mut Phone = state.phone(token);
    match phone.registration {
        Registration::Gone => Outcome::Unregistered,
        Registration::Foreign => Outcome::SenderIdMismatch,
        Registration::Installed if phone.pace.take(now_ms).is_err() => Outcome::QuotaExceeded { retry_after: None },
        Registration::Installed => Outcome::Delivered,
    }
}
