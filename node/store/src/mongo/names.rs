//! Which database an app has.
//!
//! AMS names it after the app, in lower case, so two apps of different case would share one. Here the first
//! keeps that name, and the second gets one with a hash. Which app has which is written down
//! in the collection `AppDatabase`, whose `_id` is the database's name without the prefix.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};

/// The longest name that a database may have, in bytes.
const LONGEST: usize = 63;

/// Those of MongoDB itself, and those of AMS that belong to no app.
const TAKEN: [&str; 5] = ["admin", "clusterdb", "config", "local", "serverdb"];

/// The names that the database of an app may have, without the prefix; the first that no other app has is its.
pub(super) fn candidates(prefix: &str, app: &str) -> Vec<String> {
    let plain = app.to_ascii_lowercase();
    let hash: String = Sha256::digest(app).iter().take(6).map(|b| format!("{b:02x}")).collect();
    let room = LONGEST - prefix.len();
    let cut: String = plain.chars().take(room - hash.len() - 1).collect();
    let hashed = format!("{cut}-{hash}");
    if plain.len() > room || TAKEN.contains(&plain.as_str()) { vec![hashed] } else { vec![plain, hashed] }
}

/// What is known already: by app the name of its database.
#[derive(Debug, Default)]
pub(super) struct Names(RwLock<HashMap<String, Arc<str>>>);

impl Names {
    pub(super) fn get(&self, app: &str) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(app).cloned()
    }

    pub(super) fn put(&self, app: &str, database: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(app.to_owned(), database.into());
    }

    /// The server may have lost what it had.
    pub(super) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_choice_is_that_of_ams() {
        let names = candidates("", "LiveApp");
        assert_eq!(names[0], "liveapp");
        assert_ne!(names[1], candidates("", "LIVEAPP")[1], "names that differ by case only");
    }

    #[test]
    fn names_that_are_taken_or_too_long_are_hashed() {
        for app in ["admin", "Config", &"x".repeat(100)] {
            let names = candidates("some_prefix_", app);
            assert_eq!(names.len(), 1);
            assert!(names[0].len() + "some_prefix_".len() <= 63 && names[0].contains('-'), "{names:?}");
        }
        assert_ne!(candidates("", &"x".repeat(99)), candidates("", &"x".repeat(100)));
        assert_eq!(candidates(&"p".repeat(30), &"y".repeat(33))[0], "y".repeat(33));
    }
}
