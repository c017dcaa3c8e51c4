//! Where a VM goes.
