//! The table of harmless differences.
