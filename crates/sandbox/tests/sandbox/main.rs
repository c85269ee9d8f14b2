//! The sandbox from outside: over HTTP, and as the tests of the server use it.

mod contacts;
mod conversations;
mod faults;
mod harness;
mod official;
mod openapi;
mod operator;
mod search;
mod ticket_bot;
mod ticket_webhooks;
mod tickets;
mod webhooks;
