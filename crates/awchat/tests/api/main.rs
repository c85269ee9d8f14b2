//! The API's tests: black box, over HTTP, with the sandbox as Intercom. One binary.
//!
//! Every answer is checked against `api/openapi.yaml`, and every request to Intercom against Intercom's own
//! description, by the harness: no test asks for it.

#![expect(clippy::disallowed_methods, reason = "tests live in real time, and own what they spawn")]

mod child;
mod clients;
mod conversations;
mod delivery;
mod edge;
mod files;
mod harness;
mod health;
mod identity;
mod killed;
mod outage;
mod poll;
mod process;
mod sending;
mod sweep;
mod uploads;
mod webhooks;
