//! Fuzz targets for every parser of network input.
//!
//! A [`Target`] is a plain function of bytes that panics when the code under test breaks a promise: not only by a
//! panic of its own, but also where something that was written is not read back the same, where the same bytes cut
//! differently give another result, or where an input makes it hold more memory than its length justifies.
//!
//! The same targets run in two ways:
//! - `src/bin/drive.rs`, on any stable toolchain: the corpus, then seeded mutations of it. Part of the tests.
//! - `fuzz_targets/`, under libFuzzer, which follows coverage: for hours. See README.md.

pub mod meter;
pub mod mutate;
mod random;
mod split;
mod target;
mod targets;

pub use random::Random;
pub use target::{Budget, Failure, Target, find, libfuzzer, quiet_panics};
pub use targets::TARGETS;
