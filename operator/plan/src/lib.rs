//! Which pods of a pool to add, drain, take back and remove: pure, from what is wanted, what is seen, and the time.

mod plan;

pub use plan::*;
