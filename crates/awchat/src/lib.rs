//! AW Chat: support chat in a company's own app, with its operators in Intercom.
//!
//! `ARCHITECTURE.md` is the map.

pub mod api;
pub mod app;
pub mod auth;
pub mod breaker;
pub mod chat;
pub mod clock;
pub mod config;
#[cfg(feature = "dev")]
pub mod dev;
pub mod error;
pub mod export;
pub mod files;
pub mod id;
pub mod intercom;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod push;
pub mod server;
pub mod shared;
pub mod store;
pub mod traces;
pub mod worker;
