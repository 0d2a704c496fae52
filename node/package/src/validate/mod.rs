//! A reader of media playlists and a checker of the rules of draft-pantos-hls-rfc8216bis, written apart from
//! the code that makes playlists. Tests feed it what a client saw; it says what is wrong.

mod check;
mod parse;

pub use check::{Ask, Checker};
pub use parse::{Invalid, Listed, ListedPart, Playlist, Report, ServerControl, parse};
