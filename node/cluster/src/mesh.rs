//! Each node tells every other its own state.
