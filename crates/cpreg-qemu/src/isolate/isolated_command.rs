//! [`IsolatedCommand`]: a command line whose QEMU touches nothing outside itself, with its changes.

use std::ffi::OsString;

/// Command line whose QEMU touches nothing outside itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolatedCommand {
    /// Words to run, with `-S`; the caller adds a monitor and `-incoming`.
    pub command: Vec<OsString>,
    /// Changes, in the order of the command line; additions last.
    pub changes: Vec<OptionChange>,
    /// Parts that loading the stream cannot verify, because the real devices are absent.
    pub unverified: Vec<UnverifiedPart>,
    /// Reason why a needed namespace could not be created.
    pub namespace_error: Option<String>,
}

/// Change of a part of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionChange {
    /// Words that were given; empty for an addition.
    pub before: Vec<OsString>,
    /// Words of the isolated command; empty for a removal.
    pub after: Vec<OsString>,
    /// Reason, as a clause: "no display may be opened".
    pub reason: &'static str,
}

/// Part of the VM that the load does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedPart {
    /// Description: "the device `vfio-pci`".
    pub description: String,
    /// Sections of the stream that no device accepts, by the end of their names.
    ///
    /// The caller leaves them out ([`Self::should_skip_section`]). Empty if everything is loaded,
    /// although not with the real device.
    pub sections: Vec<String>,
    /// RAM blocks of the stream that this QEMU lacks, by the end of their names.
    pub ram_blocks: Vec<String>,
    /// Reason, as a clause.
    pub reason: &'static str,
}

impl UnverifiedPart {
    /// Returns `true` if a section must be left out: `0000:00:01.0/virtio-net` for `virtio-net`.
    pub fn should_skip_section(&self, section: &str) -> bool {
        matches_name_end(&self.sections, section)
    }

    /// Returns `true` if a RAM block must be left out.
    pub fn should_skip_ram_block(&self, block: &str) -> bool {
        matches_name_end(&self.ram_blocks, block)
    }
}

fn matches_name_end(ends: &[String], name: &str) -> bool {
    ends.iter().any(|end| {
        name.strip_suffix(end.as_str())
            .is_some_and(|front| front.is_empty() || front.ends_with('/'))
    })
}
