//! The media server of a Sluice cluster: config -> build -> run -> drain.

pub mod apps;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod drain;
pub mod exit;
pub mod http;
pub mod import;
pub mod lifecycle;
pub mod listen;
pub mod logging;
mod operator;
pub mod packaging;
pub mod process;
mod rtc;
pub mod run;
pub mod streams;
