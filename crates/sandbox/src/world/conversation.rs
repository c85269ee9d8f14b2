//! A conversation: its opening message, its parts, its state, and what a search knew of it when.

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::{Attachment, Body, Stage, Ticket};

/// How many past states of a conversation a lagging search can fall back on.
const KEPT_REVISIONS: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) title: Option<String>,
    pub(crate) message_id: String,
    pub(crate) delivered_as: &'static str,
    pub(crate) body: Body,
    pub(crate) author: Author,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) redacted: bool,
    pub(crate) contacts: Vec<String>,
    pub(crate) state: State,
    /// Unix seconds.
    pub(crate) snoozed_until: Option<i64>,
    /// Unix seconds.
    pub(crate) waiting_since: Option<i64>,
    pub(crate) read: bool,
    pub(crate) admin_assignee: u64,
    pub(crate) team_assignee: u64,
    pub(crate) tags: Vec<AppliedTag>,
    pub(crate) custom_attributes: Map<String, Value>,
    pub(crate) parts: Vec<Part>,
    pub(crate) statistics: Statistics,
    /// What a search index would have seen, oldest first.
    pub(crate) revisions: VecDeque<Revision>,
    /// How many contact's messages the operator has looked at.
    pub(crate) seen: usize,
    /// What makes it a ticket.
    pub(crate) ticket: Option<Ticket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Closed,
    Snoozed,
}

#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) part_type: String,
    pub(crate) body: Option<Body>,
    pub(crate) author: Author,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) redacted: bool,
    /// The conversation's state after this part.
    pub(crate) state: State,
    pub(crate) assigned_to: Value,
    /// Texts of the answers a `quick_reply` offers.
    pub(crate) options: Vec<String>,
    /// Of a ticket's change of state: from, to.
    pub(crate) ticket_state: Option<(Stage, Stage)>,
    pub(crate) updated_attribute: Option<Value>,
    pub(crate) by_api: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    Contact(String),
    Admin(String),
    Bot,
    /// Any other kind, as it stands in `author.type`.
    Other(String),
}

#[derive(Clone, Debug)]
pub(crate) struct AppliedTag {
    pub(crate) id: String,
    pub(crate) at: i64,
    pub(crate) by: String,
}

/// Unix seconds and counts, as in `statistics`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) first_admin_reply_at: Option<i64>,
    pub(crate) last_admin_reply_at: Option<i64>,
    pub(crate) last_contact_reply_at: Option<i64>,
    pub(crate) first_close_at: Option<i64>,
    pub(crate) last_close_at: Option<i64>,
    pub(crate) last_closed_by: Option<String>,
    pub(crate) last_assignment_at: Option<i64>,
    pub(crate) reopens: u32,
    pub(crate) assignments: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Revision {
    pub(crate) at_ms: i64,
    pub(crate) updated_at: i64,
    pub(crate) state: State,
    /// How many parts there were.
    pub(crate) parts: usize,
    /// The state of the ticket, once it was one.
    pub(crate) ticket_state_id: Option<u64>,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Snoozed => "snoozed",
        }
    }
}

impl Conversation {
    /// Marks a change: `updated_at` moves, and the search index will see it after its lag.
    pub(crate) fn touch(&mut self, now_ms: i64) {
        self.updated_at = now_ms.div_euclid(1000);
        self.revisions.push_back(self.revision(now_ms));
        if self.revisions.len() > KEPT_REVISIONS {
            self.revisions.pop_front();
        }
    }

    /// What there is to know of it now.
    pub(crate) fn revision(&self, at_ms: i64) -> Revision {
        Revision {
            at_ms,
            updated_at: self.updated_at,
            state: self.state,
            parts: self.parts.len(),
            ticket_state_id: self.ticket.as_ref().map(|ticket| ticket.state_id),
        }
    }

    /// What a search `lag_ms` behind knows of the conversation; None while it is too new.
    pub(crate) fn seen_by_search(&self, now_ms: i64, lag_ms: i64) -> Option<Revision> {
        self.revisions.iter().rev().find(|revision| revision.at_ms <= now_ms - lag_ms).copied()
    }

    /// The ids of the teammates who did something in it, each once.
    pub(crate) fn teammates(&self) -> Vec<&String> {
        let mut ids: Vec<&String> = Vec::new();
        for part in &self.parts {
            if let Author::Admin(id) = &part.author
                && !ids.contains(&id)
            {
                ids.push(id);
            }
        }
        ids
    }

    /// Plain texts of what its contacts wrote, in order, the opening message included.
    pub(crate) fn contact_texts(&self) -> Vec<String> {
        let opening = matches!(self.author, Author::Contact(_)).then(|| self.body.text.clone());
        let parts = self.parts.iter().filter(|part| matches!(part.author, Author::Contact(_)));
        opening.into_iter().chain(parts.filter_map(|part| part.body.as_ref().map(|body| body.text.clone()))).collect()
    }
}
