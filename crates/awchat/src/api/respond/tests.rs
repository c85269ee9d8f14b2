//! What every answer carries.
