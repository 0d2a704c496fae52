//! FFmpeg in process.
