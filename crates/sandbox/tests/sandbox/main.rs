//! The sandbox from outside: over HTTP, and as the tests of the server use it.

mod contacts;
mod conversations;
mod faults;
mod fcm;
mod google;
mod harness;
mod official;
mod openapi;
mod operator;
mod screens;
mod search;
mod sender;
mod telegram;
mod ticket_bot;
mod ticket_webhooks;
mod tickets;
mod webhooks;
