//! Files: what users upload, where it is kept, and who may have it.

pub mod check;
