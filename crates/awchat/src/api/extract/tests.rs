//! What extractors take and refuse.
