//! [`IsolatedCommand`]: a command line that touches nothing outside its QEMU, and what became other in it.

use std::ffi::OsString;

/// A command line that touches nothing outside its QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolatedCommand {
    /// The words to run, with `-S`; a monitor and `-incoming` are the caller's to add.
    pub command: Vec<OsString>,
    /// What is not as it was given, in the order of the command line; additions last.
    pub changes: Vec<OptionChange>,
    /// What loading the stream cannot tell, for want of the real thing.
    pub unverified: Vec<UnverifiedPart>,
    /// Why there is no namespace, where one was wanted.
    pub namespace_error: Option<String>,
}

/// A part of the command line that is not as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionChange {
    /// The words that were given; none if something was added.
    pub before: Vec<OsString>,
    /// The words now; none if it is left out.
    pub after: Vec<OsString>,
    /// Why, as half a sentence: "no display may be opened".
    pub reason: &'static str,
}

/// A part of the VM that is not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedPart {
    /// What it is: "the device `step_vfio-pci`".
    pub description: String,
    /// Sections of the stream that nothing takes here and that must be left out of it, by the end of their names
    /// ([`Self::should_skip_section`]). None if everything is loaded, and only not with the real thing.
    pub sections: Vec<String>,
    /// RAM blocks of the stream that are not there, by the end of their names in the same way.
    pub ram_blocks: Vec<String>,
    /// Why, as half a sentence.
    pub reason: &'static str,
}

impl UnverifiedPart {
    /// Whether a section of the stream is to be left out: `0000:00:01.0/virtio-net` for `virtio-net`.
    pub fn should_skip_section(&self, section: &str) -> bool {
        matches_name_end(&self.sections, section)
    }

    /// Whether a RAM block of the stream is to be left out.
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
