//! List of the compared runs: commands and their inputs.

use std::path::{Path, PathBuf};

/// Default destinations, with five kernels and two CPU models.
pub(crate) const HOSTS: [&str; 5] = [
    "linux-5.10.223/neoverse-n1",
    "linux-6.1.176/max",
    "linux-6.12.107/neoverse-n1",
    "linux-6.16.12/neoverse-n1",
    "linux-7.3.4/max",
];

/// Name of the file that `convert` writes, in the folder of its run.
pub(crate) const OUTPUT: &str = "output.stream";

/// Registers for `explain`, of every kind that it treats differently.
const REGISTERS: [&str; 12] = [
    "TCR2_EL1",
    "PIR_EL1",
    "KVM_REG_ARM_PSCI_VERSION",
    "KVM_REG_ARM_VENDOR_HYP_BMAP_2",
    "ID_AA64PFR0_EL1",
    "MIDR_EL1",
    "CNTP_CTL_EL0",
    "OSLSR_EL1",
    "PMCR_EL0",
    "S3_0_C2_C0_3",
    "0x603000000013c103",
    "no such register",
];

/// One run of the command.
#[derive(Debug)]
pub(crate) struct Run(Vec<String>);

impl Run {
    fn new(words: &[&str]) -> Self {
        Self(words.iter().map(|word| (*word).to_owned()).collect())
    }

    /// Returns `true` if the run prints JSON.
    pub(crate) fn prints_json(&self) -> bool {
        self.0.iter().any(|word| word == "json")
    }

    /// Returns the arguments after the program's name.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.0
    }
}

/// Returns every run on these inputs.
pub(crate) fn all(streams: &[PathBuf], logs: &[PathBuf], hosts: &[String]) -> Vec<Run> {
    let mut runs = vec![Run::new(&["hosts"]), Run::new(&["tolerances"])];
    for export in ["qemu", "firecracker", "json"] {
        runs.push(Run::new(&["tolerances", "--export", export]));
    }
    for stream in streams {
        add_stream_runs(&path_text(stream), hosts, &mut runs);
    }
    for pair in streams.windows(2) {
        add_text_and_json(
            &["diff", &path_text(&pair[0]), &path_text(&pair[1])],
            &mut runs,
        );
    }
    for host in hosts {
        add_text_and_json(&["hosts", host], &mut runs);
        add_text_and_json(&["show", host], &mut runs);
    }
    for pair in hosts.windows(2) {
        add_text_and_json(&["diff", &pair[0], &pair[1]], &mut runs);
    }
    for register in REGISTERS {
        add_text_and_json(&["explain", "--register", register], &mut runs);
        add_text_and_json(&["explain", register], &mut runs);
    }
    for log in logs {
        add_text_and_json(&["explain", "--file", &path_text(log)], &mut runs);
    }
    runs
}

/// Returns the runs whose cost is compared, on one unpacked stream.
pub(crate) fn cost_runs(stream: &Path, host: &str) -> Vec<Run> {
    let stream = &path_text(stream);
    let accept = ["convert", "--accept", "medium", "-o", OUTPUT];
    [
        &["show", stream][..],
        &["show", "--format", "json", stream],
        &["check", stream, host],
        &["check", "--format", "json", stream, host],
        &["diff", stream, host],
        &[&accept[..], &[stream, host]].concat(),
    ]
    .map(Run::new)
    .into()
}

fn add_stream_runs(stream: &str, hosts: &[String], runs: &mut Vec<Run>) {
    add_text_and_json(&["show", stream], runs);
    for host in hosts {
        runs.push(Run::new(&["check", stream, host]));
        runs.push(Run::new(&["check", "--format", "json", stream, host]));
        let convert = ["convert", stream, host, "-o", OUTPUT];
        runs.push(Run::new(&convert));
        runs.push(Run::new(&[&convert[..], &["--accept", "high"]].concat()));
    }
}

/// Adds a run with text output and one with JSON output.
fn add_text_and_json(words: &[&str], runs: &mut Vec<Run>) {
    runs.push(Run::new(words));
    runs.push(Run::new(&[words, &["--format", "json"]].concat()));
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
