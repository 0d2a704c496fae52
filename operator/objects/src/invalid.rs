//! What is wrong with a spec.

use std::fmt;

/// A field of a spec that nothing can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// The field: `spec.podTemplate.volumes[0]`.
    pub field: String,
    /// A sentence with the way out.
    pub problem: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// Collects what is wrong, all of it at once. At most [`Problems::MOST`] are kept: a person reads them in a condition.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Invalid>);

impl Problems {
    const MOST: usize = 32;

    pub(crate) fn say(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        if self.0.len() < Problems::MOST {
            self.0.push(Invalid { field: field.into(), problem: problem.into() });
        }
    }

    pub(crate) fn unless(&mut self, good: bool, field: &str, problem: &str) {
        if !good {
            self.say(field, problem);
        }
    }

    pub(crate) fn none(self) -> Result<(), Vec<Invalid>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}
