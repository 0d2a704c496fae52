//! The media server of a Sluice cluster: config -> build -> run -> drain.

pub mod cli;
pub mod config;
pub mod exit;
pub mod http;
pub mod listen;
pub mod logging;
pub mod process;
