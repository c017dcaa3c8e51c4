//! Cases in which a careless decision would lose state, promise too much, or never end.

mod agreement;
mod consents;
mod fixtures;
mod linear;
mod loader;
mod visible;
