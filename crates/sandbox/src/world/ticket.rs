//! A ticket: what a conversation is besides, once it has a type and a state. Customer tickets stay conversations, under the same id.

use serde_json::{Map, Value};

use super::{Author, Conversation, World};

/// The attributes every type has.
pub(crate) const TITLE: &str = "_default_title_";
pub(crate) const DESCRIPTION: &str = "_default_description_";

#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    /// The number people read: `ticket_id`, never to be used in a path.
    pub(crate) number: String,
    pub(crate) type_id: u64,
    pub(crate) state_id: u64,
    pub(crate) previous_state_id: Option<u64>,
    /// By name; what is not set is not here.
    pub(crate) attributes: Map<String, Value>,
    pub(crate) shared: bool,
    /// When the bot means to take it up again, in Unix milliseconds.
    pub(crate) reopens_at_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    Customer,
    BackOffice,
    Tracker,
}

/// A state's category: what a timeline knows of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Submitted,
    InProgress,
    WaitingOnCustomer,
    Resolved,
}

#[derive(Clone, Debug)]
pub(crate) struct TicketType {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) icon: &'static str,
    pub(crate) category: Category,
    pub(crate) attributes: Vec<TicketAttribute>,
    /// The ids of its states, in their order.
    pub(crate) states: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct TicketAttribute {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) data_type: &'static str,
    pub(crate) visible_to_contacts: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct TicketState {
    pub(crate) id: u64,
    pub(crate) stage: Stage,
    pub(crate) internal_label: &'static str,
    pub(crate) external_label: &'static str,
    pub(crate) archived: bool,
}

/// Who moves a ticket to another state; the part's type ends in it.
#[derive(Clone, Debug)]
pub(crate) enum Mover {
    Admin(String),
    Contact(String),
    Workflow,
    /// The bot that reopens: its parts say `by_admin` nevertheless, as seen.
    Bot,
}

impl Category {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Customer => "Customer",
            Self::BackOffice => "Back-office",
            Self::Tracker => "Tracker",
        }
    }

    /// What a search calls it.
    pub(crate) fn search_term(self) -> &'static str {
        match self {
            Self::Customer => "request",
            Self::BackOffice => "task",
            Self::Tracker => "tracker",
        }
    }
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::InProgress => "in_progress",
            Self::WaitingOnCustomer => "waiting_on_customer",
            Self::Resolved => "resolved",
        }
    }
}

impl Mover {
    pub(crate) fn part_type(&self) -> &'static str {
        match self {
            Self::Admin(_) | Self::Bot => "ticket_state_updated_by_admin",
            Self::Contact(_) => "ticket_state_updated_by_user",
            Self::Workflow => "ticket_state_updated_by_workflow",
        }
    }

    pub(crate) fn author(&self) -> Author {
        match self {
            Self::Admin(id) => Author::Admin(id.clone()),
            Self::Contact(id) => Author::Contact(id.clone()),
            Self::Workflow | Self::Bot => Author::Bot,
        }
    }
}

impl Ticket {
    pub(crate) fn text(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).and_then(Value::as_str).unwrap_or_default()
    }
}

impl TicketType {
    pub(crate) fn attribute(&self, name: &str) -> Option<&TicketAttribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

impl World {
    pub(crate) fn ticket_type(&self, id: u64) -> Option<&TicketType> {
        self.ticket_types.iter().find(|of| of.id == id)
    }

    pub(crate) fn ticket_state(&self, id: u64) -> Option<&TicketState> {
        self.ticket_states.iter().find(|state| state.id == id)
    }

    /// The states a ticket of that type can be moved to, in their order.
    pub(crate) fn states_of(&self, type_id: u64) -> impl Iterator<Item = &TicketState> {
        let ids = self.ticket_type(type_id).map(|of| of.states.as_slice()).unwrap_or_default();
        ids.iter().filter_map(|id| self.ticket_state(*id)).filter(|state| !state.archived)
    }

    /// The first state of that category a ticket of that type can have.
    pub(crate) fn first_state(&self, type_id: u64, stage: Stage) -> Option<u64> {
        self.states_of(type_id).find(|state| state.stage == stage).map(|state| state.id)
    }

    pub(crate) fn stage(&self, ticket: &Ticket) -> Stage {
        self.ticket_state(ticket.state_id).map_or(Stage::Submitted, |state| state.stage)
    }

    pub(crate) fn category(&self, ticket: &Ticket) -> Category {
        self.ticket_type(ticket.type_id).map_or(Category::Customer, |of| of.category)
    }

    /// Whether it can be met as a conversation: all but the tickets of teammates among themselves.
    pub(crate) fn is_talk(&self, conversation: &Conversation) -> bool {
        conversation.ticket.as_ref().is_none_or(|ticket| self.category(ticket) == Category::Customer)
    }
}
