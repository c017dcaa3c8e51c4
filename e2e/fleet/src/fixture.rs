//! [`Fixture`]: what all cases share.

use std::path::PathBuf;

use crate::fleet::Fleet;
use crate::python::Python;

/// Fleet and programs of all cases.
pub(crate) struct Fixture {
    pub(crate) fleet: Fleet,
    pub(crate) python: Python,
    /// Folder with kubectl.
    pub(crate) kubectl: PathBuf,
}
