//! The outside world.
pub mod openapi;
