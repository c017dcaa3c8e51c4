//! Save images of libvirt: recorded ones, edits, damage, and reads of a large image.

mod common;
mod edits;
mod recorded;
mod robustness;
mod speed;
