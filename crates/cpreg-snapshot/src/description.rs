//! [`Description`]: the properties of a saved VM that its file holds beside the VM's state.

use crate::error::{Error, ErrorKind};

/// VM in the list of a [`Container`](crate::Container).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
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
    /// Further facts for the user of `cpreg show`.
    pub notes: Vec<Note>,
}

/// Fact about a saved VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Sentence.
    Text(String),
    /// Options of QEMU that load the state, beside those of the VM.
    LoadOptions(Vec<String>),
    /// Command that makes a copy of the disk without the state.
    DiskWithoutState(Vec<String>),
}

/// Returns the index of the VM with this name, or of the only VM.
pub(crate) fn choose(vms: &[ListedVm], name: Option<&str>) -> Result<usize, Error> {
    let no_vm = |message: String| Error::new(ErrorKind::NoVm, message);
    match (name, vms) {
        (_, []) => Err(no_vm("no saved VM is in the file".to_owned())),
        (Some(name), vms) => vms.iter().position(|vm| vm.name == name).ok_or_else(|| {
            no_vm(format!("no VM of the file is called {name}"))
                .with_hint(format!("VMs in the file: {}", join_names(vms)))
        }),
        (None, [_]) => Ok(0),
        (None, vms) => Err(several_vms(vms)),
    }
}

/// Returns the error for a file with several VMs, of which the user named none.
pub(crate) fn several_vms(vms: &[ListedVm]) -> Error {
    let message = format!("the file holds {} VMs", vms.len());
    Error::new(ErrorKind::NoVm, message).with_hint(format!(
        "name one of them as FILE#NAME: {}",
        join_names(vms)
    ))
}

fn join_names(vms: &[ListedVm]) -> String {
    let names: Vec<_> = vms.iter().map(|vm| vm.name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_chosen_by_name_or_alone() {
        let vm = |name: &str| ListedVm {
            name: name.to_owned(),
            description: String::new(),
        };
        let two = [vm("first"), vm("second")];
        assert_eq!(choose(&two, Some("second")).unwrap(), 1);
        assert_eq!(choose(&two[..1], None).unwrap(), 0);
        let error = choose(&two, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoVm);
        assert!(error.hint().unwrap().ends_with("first, second"), "{error}");
        assert!(choose(&two, Some("third")).is_err());
        assert!(choose(&[], None).is_err());
    }
}
