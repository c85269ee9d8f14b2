//! Intercom's REST API.
