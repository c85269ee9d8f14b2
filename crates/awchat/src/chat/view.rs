//! Intercom's JSON to our messages and state: pure.
