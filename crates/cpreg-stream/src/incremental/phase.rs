//! [`Phase`]: how far a stream has come, for logs, messages and tests.

use std::fmt;

/// How far a stream has come. Phases follow one another in this order; none is gone back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Nothing but part of the header and of the configuration has come.
    Header,
    /// What stands before RAM's pages: commands, the list of RAM blocks, early sections.
    Setup,
    /// Live sections: RAM's pages, disks' bitmaps, VFIO devices.
    Ram,
    /// What is held back: the device state.
    DeviceState,
}

impl Phase {
    /// Its name in logs: `header`, `setup`, `ram`, `device-state`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Setup => "setup",
            Self::Ram => "ram",
            Self::DeviceState => "device-state",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
