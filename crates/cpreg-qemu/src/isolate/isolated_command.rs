//! [`IsolatedCommand`]: a command line whose QEMU touches nothing outside itself, with its changes.

use std::ffi::OsString;

/// Command line whose QEMU touches nothing outside itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IsolatedCommand {
    /// Words to run, including `-S`; the caller adds a monitor and `-incoming`.
    pub command: Vec<OsString>,
    /// Changes, in the order of the command line; additions last.
    pub changes: Vec<OptionChange>,
    /// Parts of the VM that loading the stream cannot verify, because the real devices are absent.
    pub unverified: Vec<UnverifiedPart>,
    /// Reason why no network namespace could be created, if one was needed.
    pub namespace_error: Option<String>,
}

/// Change of a part of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionChange {
    /// Words of the given command line; empty for an addition.
    pub before: Vec<OsString>,
    /// Words of the isolated command; empty for a removal.
    pub after: Vec<OsString>,
    /// Reason for the change, as a clause: "no display may be opened".
    pub reason: &'static str,
}

/// Part of the VM that the load cannot verify.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnverifiedPart {
    /// Description of the part: "the device `vfio-pci`".
    pub description: String,
    /// Sections of the stream that no device accepts, by the suffix of their names.
    ///
    /// The caller leaves these sections out ([`Self::should_skip_section`]). Empty if all sections
    /// are loaded, although not into the real device.
    pub sections: Vec<String>,
    /// RAM blocks of the stream that this QEMU lacks, by the suffix of their names.
    pub ram_blocks: Vec<String>,
    /// Reason why the part cannot be verified, as a clause.
    pub reason: &'static str,
}

impl UnverifiedPart {
    /// Returns `true` if the caller must leave a section out: `0000:00:01.0/virtio-net` for
    /// `virtio-net`.
    pub fn should_skip_section(&self, section: &str) -> bool {
        matches_name_end(&self.sections, section)
    }

    /// Returns `true` if the caller must leave a RAM block out.
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
