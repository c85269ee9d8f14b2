//! The API's tests: black box, over HTTP, with the sandbox as Intercom. One binary.
//!
//! Every answer is checked against `api/openapi.yaml`, and every request to Intercom against Intercom's own
//! description, by the harness: no test asks for it.

#![expect(clippy::disallowed_methods, reason = "tests live in real time, and own what they spawn")]

mod admin;
mod backup;
mod child;
mod clients;
mod cluster;
mod config;
mod conversations;
mod database;
mod delivery;
mod devices;
mod docs;
mod edge;
mod events;
mod export;
mod feedback;
mod files;
mod growth;
mod harness;
mod health;
mod identity;
mod killed;
mod metrics;
mod nodes;
mod outage;
mod poll;
mod privacy;
mod process;
mod push;
mod push_answers;
mod push_load;
mod redis;
mod sending;
mod sweep;
mod ticket_messages;
mod tickets;
mod traces;
mod uploads;
mod webhooks;
mod widget;
