//! [`Phase`]: progress of a stream, for logs, messages and tests.

use std::fmt;

/// Progress of a stream. Phases follow one another in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Header and configuration, not yet complete.
    Header,
    /// Elements in front of RAM's pages: commands, the list of RAM blocks, early sections.
    Setup,
    /// Live sections: RAM's pages, disks' bitmaps, VFIO devices.
    Ram,
    /// Device state, which is buffered.
    DeviceState,
}

impl Phase {
    /// Returns the phase's name for logs: `header`, `setup`, `ram`, `device-state`.
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
