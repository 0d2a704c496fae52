//! Who else is there.
