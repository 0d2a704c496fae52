//! Stored state without a database.
