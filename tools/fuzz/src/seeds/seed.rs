//! Type of a seed.

/// An input for a fuzz target.
pub(super) type Seed = Vec<u8>;
