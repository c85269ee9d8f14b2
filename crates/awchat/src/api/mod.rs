//! The edge: what is parsed on the way in and answered on the way out.

pub mod admission;
pub mod extract;
pub mod respond;
