//! [`Situation`] of a failure, and the place of the VM after it.

/// Activity that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Situation {
    /// Start of a VM without any saved state.
    Start,
    /// Live migration.
    Migration,
    /// Live migration with postcopy, after the switchover.
    Postcopy,
    /// Load of a saved VM.
    Restore,
    /// Load of a stream: a live migration, or a saved VM.
    Load,
    /// Start or load; the lines do not tell.
    StartOrLoad,
    /// Save of a VM.
    Save,
    /// Run of a guest.
    Guest,
    /// Any other activity.
    Unknown,
}

impl Situation {
    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Migration => "migration",
            Self::Postcopy => "postcopy",
            Self::Restore => "restore",
            Self::Load => "load",
            Self::StartOrLoad => "start-or-load",
            Self::Save => "save",
            Self::Guest => "guest",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the place and state of the VM after the failure, or `None` if the lines do not tell.
    pub const fn vm_state(self) -> Option<&'static str> {
        Some(match self {
            Self::Start => {
                "the VM is not running. Nothing was migrated or loaded, and its disks are unchanged"
            }
            Self::Migration => {
                "the VM continues to run at the source, unless postcopy had begun; \
                 `virsh domstate VM` there, or `info status` in QEMU's monitor, shows it"
            }
            Self::Postcopy => {
                "the VM is paused, with a part of its RAM on each side: keep both QEMU processes"
            }
            Self::Restore => "the VM is not running. Its saved state and its disks are unchanged",
            Self::Load => {
                "after a live migration the VM continues to run at the source (`virsh domstate VM` \
                 there shows it); a saved VM is not running, and its file is unchanged"
            }
            Self::StartOrLoad => {
                "a VM that was started is not running; a VM that was migrated continues to run at \
                 the source"
            }
            Self::Save => "the VM is where it was: its state was not saved",
            Self::Guest | Self::Unknown => return None,
        })
    }
}
