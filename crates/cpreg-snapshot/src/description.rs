//! [`Description`]: the properties of a saved VM that its file holds beside the VM's state.

/// VM in the list of a [`Container`](crate::Container).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVm {
    /// Name of the VM or of its snapshot.
    pub name: String,
    /// Short description, such as the time of the snapshot; may be empty.
    pub description: String,
}

/// Callback for the progress of a write: the number of bytes written, and the total number.
pub type Progress<'p> = &'p mut dyn FnMut(u64, u64);

/// Properties of a saved VM that the file holds beside the VM's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Kind of the file (`save image of libvirt, compressed with gzip`).
    pub container: String,
    /// Name of the VM or of its snapshot.
    pub name: Option<String>,
    /// Machine type (`virt-10.0`).
    pub machine: Option<String>,
    /// CPU model (`host`, `neoverse-n1`).
    pub cpu: Option<String>,
    /// Number of vCPUs.
    pub vcpus: Option<u32>,
    /// Length of the guest's memory in bytes.
    pub memory: Option<u64>,
    /// `true` if the program that restores the VM lets it run at once.
    pub resumes: Option<bool>,
    /// Command that starts a VMM with this machine and CPU, without devices.
    pub command: Option<String>,
    /// Further facts, one sentence each, for the user of `cpreg show`.
    pub notes: Vec<String>,
}
