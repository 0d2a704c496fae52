//! Which pods of a pool to add, drain, take back and remove: pure, from what is wanted, what is seen, and the time.

#[cfg(test)]
mod fixtures;
mod leave;
mod out;
mod plan;
mod rollout;
mod sides;
mod victims;

pub use plan::*;
