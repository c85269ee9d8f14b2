//! How the workspace is set up for tickets: its types and its states, several of one category among them.

use super::ticket::{Category, DESCRIPTION, Stage, TITLE, TicketAttribute, TicketState, TicketType};

const SUBMITTED: u64 = 4_517_893;
const IN_PROGRESS: u64 = 4_517_894;
const WAITING_ON_CUSTOMER: u64 = 4_517_895;
const RESOLVED: u64 = 4_517_896;
const WAITING_ON_BANK: u64 = 4_517_902;
const DUPLICATE: u64 = 4_517_903;
const NO_LONGER_USED: u64 = 4_517_888;

/// (name, data type, whether contacts see it).
type Field = (&'static str, &'static str, bool);

/// What teammates read differs from what contacts read, and one state is out of use.
pub(super) fn states() -> Vec<TicketState> {
    let state = |id, stage, internal_label, external_label| TicketState {
        id,
        stage,
        internal_label,
        external_label,
        archived: false,
    };
    vec![
        state(SUBMITTED, Stage::Submitted, "New, untriaged", "Submitted"),
        TicketState { archived: true, ..state(NO_LONGER_USED, Stage::InProgress, "Level 2 (old)", "With level 2") },
        state(IN_PROGRESS, Stage::InProgress, "Agent working", "In progress"),
        state(WAITING_ON_BANK, Stage::InProgress, "Chargeback desk", "Waiting on bank"),
        state(WAITING_ON_CUSTOMER, Stage::WaitingOnCustomer, "Ball is with the customer", "Waiting on you"),
        state(RESOLVED, Stage::Resolved, "Done", "Resolved"),
        state(DUPLICATE, Stage::Resolved, "Done: duplicate", "Merged with another request"),
    ]
}

/// Two for customers, of which one has fewer states; one for the back office; one to track many.
pub(super) fn types() -> Vec<TicketType> {
    let every = vec![SUBMITTED, NO_LONGER_USED, IN_PROGRESS, WAITING_ON_BANK, WAITING_ON_CUSTOMER, RESOLVED, DUPLICATE];
    let few = vec![SUBMITTED, IN_PROGRESS, WAITING_ON_CUSTOMER, RESOLVED];
    let made = |id, name, description, icon, category, fields: &[Field], states: &[u64]| TicketType {
        id,
        name,
        description,
        icon,
        category,
        attributes: attributes(id, fields),
        states: states.to_vec(),
    };
    vec![
        made(
            2_979_330,
            "Payment problem",
            "Money that is late, missing or wrong.",
            "🎟",
            Category::Customer,
            &[("Transaction", "string", true), ("Amount", "decimal", true), ("Fraud score", "integer", false)],
            &every,
        ),
        made(
            2_979_331,
            "Account request",
            "Changes of an account.",
            "🪪",
            Category::Customer,
            &[("Urgent", "boolean", true), ("Root cause", "string", false)],
            &few,
        ),
        made(
            2_979_332,
            "Ledger check",
            "Among teammates.",
            "📒",
            Category::BackOffice,
            &[("Ledger", "string", false)],
            &few,
        ),
        made(2_979_333, "Incident", "One cause of many tickets.", "🔥", Category::Tracker, &[], &few),
    ]
}

/// The two that every type has, and the given ones. Their ids differ from type to type.
fn attributes(type_id: u64, fields: &[Field]) -> Vec<TicketAttribute> {
    let first = 8_514_183 + (type_id - 2_979_330) * 20;
    let defaults = [(TITLE, "string", true), (DESCRIPTION, "string", true)];
    let all = defaults.iter().chain(fields).zip(first..);
    all.map(|(&(name, data_type, visible_to_contacts), id)| TicketAttribute {
        id,
        name,
        data_type,
        visible_to_contacts,
    })
    .collect()
}
