//! A ticket in Intercom's JSON. A Customer ticket is also a conversation of the same id, and its parts are that
//! conversation's. Internal labels are left out on purpose.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::tolerant::{Id, tolerant, tolerant_list};
use super::{Contacts, Pages, Part, Tags};

/// A ticket, of the API or inside a notification: both carry its newest 500 parts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ticket {
    /// Intercom's id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// The number that people see; not for paths.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_id: Option<Id>,
    /// `Customer`, `Back-office` or `Tracker`.
    #[serde(deserialize_with = "tolerant")]
    pub category: Option<String>,
    /// Whether the contact may see one that is no Customer ticket.
    #[serde(deserialize_with = "tolerant")]
    pub is_shared: Option<bool>,
    /// By name; `_default_title_` and `_default_description_` among them.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_attributes: Option<Map<String, Value>>,
    /// How far it is.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_state: Option<StateOf>,
    /// How contacts are told of it, up to 2.11.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_state_external_label: Option<String>,
    /// Says which attributes contacts may see.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_type: Option<TicketType>,
    /// Whose it is.
    #[serde(deserialize_with = "tolerant")]
    pub contacts: Option<Contacts>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub created_at: Option<i64>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub updated_at: Option<i64>,
    /// Of the inbox: independent of the ticket's state.
    #[serde(deserialize_with = "tolerant")]
    pub open: Option<bool>,
    /// Unix seconds.
    #[serde(deserialize_with = "tolerant")]
    pub snoozed_until: Option<i64>,
    /// Labels; absent in most answers.
    #[serde(deserialize_with = "tolerant")]
    pub tags: Option<Tags>,
    /// The parts: at most the 500 newest.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_parts: Option<TicketParts>,
}

/// The parts of a ticket.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TicketParts {
    /// Oldest first, as a rule.
    #[serde(deserialize_with = "tolerant_list")]
    pub ticket_parts: Vec<Part>,
}

/// A state: the category's name alone (in parts, and up to 2.11), or all of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum StateOf {
    /// The category.
    Category(String),
    /// The state.
    Whole(TicketState),
}

/// One of the workspace's states of tickets; several can share a category.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TicketState {
    /// Intercom's id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// `submitted`, `in_progress`, `waiting_on_customer` or `resolved`.
    #[serde(deserialize_with = "tolerant")]
    pub category: Option<String>,
    /// How contacts are told of it.
    #[serde(deserialize_with = "tolerant")]
    pub external_label: Option<String>,
    /// Not for use any more.
    #[serde(deserialize_with = "tolerant")]
    pub archived: Option<bool>,
    /// The types of tickets that have it.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_types: Option<List<TicketType>>,
}

/// A type of tickets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TicketType {
    /// Intercom's id.
    #[serde(deserialize_with = "tolerant")]
    pub id: Option<Id>,
    /// `Customer`, `Back-office` or `Tracker`.
    #[serde(deserialize_with = "tolerant")]
    pub category: Option<String>,
    /// What tickets of this type are described by.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_type_attributes: Option<List<AttributeDefinition>>,
    /// The states that tickets of this type can have; absent in most answers.
    #[serde(deserialize_with = "tolerant")]
    pub ticket_states: Option<List<TicketState>>,
}

/// An attribute of a type of tickets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AttributeDefinition {
    /// By which a ticket has it.
    #[serde(deserialize_with = "tolerant")]
    pub name: Option<String>,
    /// Whether contacts may see it.
    #[serde(deserialize_with = "tolerant")]
    pub visible_to_contacts: Option<bool>,
}

/// `{"type":"list","data":[…]}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, bound(deserialize = "T: DeserializeOwned"))]
pub struct List<T> {
    /// What it holds.
    #[serde(deserialize_with = "tolerant_list")]
    pub data: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { data: Vec::new() }
    }
}

/// One page of `POST /tickets/search`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TicketList {
    /// Whole tickets, with their parts.
    #[serde(deserialize_with = "tolerant_list")]
    pub tickets: Vec<Ticket>,
    /// Where the next page begins.
    #[serde(deserialize_with = "tolerant")]
    pub pages: Option<Pages>,
}
