//! The attacks on session tokens, as tables.
