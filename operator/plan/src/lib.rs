//! Which pods of a pool to add, drain, take back and remove: pure, from what is wanted, what is seen, and the time.

#[cfg(test)]
mod fixtures;
mod leave;
mod out;
mod plan;
#[cfg(test)]
mod properties;
mod rollout;
mod sides;
mod victims;
#[cfg(test)]
mod world;

pub use plan::*;
