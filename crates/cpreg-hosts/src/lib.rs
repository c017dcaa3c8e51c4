//! Recorded hosts.
#![forbid(unsafe_code)]
