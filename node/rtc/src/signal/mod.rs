//! Ant Media Server's WebSocket signalling.
