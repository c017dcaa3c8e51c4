//! Cases in which a careless decision would lose state, promise too much, or not terminate.

mod agreement;
mod consents;
mod fixtures;
mod in_use;
mod linear;
mod loader;
mod other_id;
mod visible;
