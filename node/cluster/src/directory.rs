//! What is known of all members and streams: pure, with time as an argument.
