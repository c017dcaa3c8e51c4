//! [`Commands`]: commands of QEMU for a snapshot, as arguments that a caller can print or run.

use super::snapshot::Snapshot;

/// Commands for a snapshot, each as a program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// Makes a copy of the disk as it was in the snapshot, without the VM's state. A VM boots from
    /// the copy as after a power cut.
    pub disk_without_state: Vec<String>,
    /// Options that QEMU needs, beside those of the VM, to load the state.
    pub load_options: Vec<String>,
}

impl Commands {
    /// Makes the commands for a snapshot of the image `file`. `machine` is the machine type in the
    /// state, `copy` the name of the copy.
    pub fn new(snapshot: &Snapshot, file: &str, copy: &str, machine: Option<&str>) -> Self {
        let strings = |words: &[&str]| words.iter().map(|word| String::from(*word)).collect();
        // A comma in an option's value is doubled.
        let id = format!("snapshot.id={}", snapshot.id().replace(',', ",,"));
        let mut load_options: Vec<String> = Vec::new();
        if let Some(machine) = machine {
            load_options.extend(["-machine".into(), machine.into()]);
        }
        load_options.extend(["-loadvm".into(), snapshot.name().into()]);
        Self {
            disk_without_state: strings(&[
                "qemu-img", "convert", "-O", "qcow2", "-l", &id, file, copy,
            ]),
            load_options,
        }
    }
}
