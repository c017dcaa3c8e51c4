//! Reports of `relay`: its result, and the events of its log.

pub mod event;
pub mod model;
