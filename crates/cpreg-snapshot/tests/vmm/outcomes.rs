//! Predictions compared with every recorded restore of a snapshot.
//!
//! `outcomes.jsonl` has the restores by real Firecrackers and Cloud Hypervisors on real kernels.
//! The destinations are recorded hosts.

use std::collections::BTreeMap;
use std::path::Path;

use cpreg::destination::load::{self, IncomingVcpu, SimulatedLoad};
use cpreg::destination::saved_state::SnapshotVersion;
use cpreg::destination::{Destination, Features, Loader};
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Vm;
use cpreg_explain::restore;
use cpreg_hosts::{HostIndex, host};
use cpreg_snapshot::cloud_hypervisor;
use cpreg_snapshot::firecracker;
use serde::Deserialize;

use crate::fixtures::{folder, read, read_text};

/// Recorded restore.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) vmm: String,
    pub(crate) version: String,
    pub(crate) src_kernel: String,
    pub(crate) dst_kernel: String,
    pub(crate) cpu: String,
    pub(crate) vcpus: u32,
    pub(crate) ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    pub(crate) set: String,
    /// Registers that were removed before the restore, in `edited.jsonl`.
    #[serde(default)]
    pub(crate) removed: Vec<String>,
}

/// Lists of registers of a snapshot, in the stored order.
pub(crate) struct Source {
    pub(crate) vm: Vm,
    pub(crate) lists: Vec<Vec<(RegisterId, Value)>>,
    pub(crate) features: Features,
}

impl Outcome {
    pub(crate) fn loader(&self) -> Loader {
        let version = self.version.trim_start_matches('v');
        format!("{}-{version}", self.vmm).parse().expect("a loader")
    }

    pub(crate) fn source(&self) -> Source {
        self.source_of(&self.src_kernel)
    }

    fn source_of(&self, kernel: &str) -> Source {
        let sve = match self.cpu.as_str() {
            "max" => Features::SVE,
            _ => Features::NONE,
        };
        match self.snapshot(kernel) {
            Snapshot::Firecracker(snapshot) => Source {
                vm: snapshot.vm().unwrap(),
                lists: firecracker_lists(&snapshot),
                features: snapshot.features(),
            },
            Snapshot::CloudHypervisor(snapshot) => Source {
                vm: snapshot.vm().unwrap(),
                lists: cloud_hypervisor_lists(&snapshot),
                // Cloud Hypervisor gives its vCPUs a PMU, and SVE if the CPU has it.
                features: Features::PMU | sve,
            },
        }
    }

    fn snapshot(&self, kernel: &str) -> Snapshot {
        let Self {
            vmm,
            version,
            cpu,
            vcpus,
            ..
        } = self;
        let name = format!("{kernel}__{cpu}__v{vcpus}");
        let folder = folder().join(vmm).join(version);
        if vmm == "firecracker" {
            Snapshot::Firecracker(parse_firecracker(&folder.join(name + ".vmstate.xz")))
        } else {
            let bytes = read(&folder.join(name).join("state.json.xz"));
            Snapshot::CloudHypervisor(cloud_hypervisor::Snapshot::parse(bytes).unwrap())
        }
    }

    /// Converts the snapshot and returns the lists of the written file.
    pub(crate) fn convert(&self, planned: &Vm) -> Vec<Vec<(RegisterId, Value)>> {
        match self.snapshot(&self.src_kernel) {
            Snapshot::Firecracker(snapshot) => {
                let bytes = snapshot.convert(planned).unwrap();
                firecracker_lists(&firecracker::Snapshot::parse(bytes).unwrap())
            }
            Snapshot::CloudHypervisor(snapshot) => {
                let bytes = snapshot.convert(planned).unwrap();
                cloud_hypervisor_lists(&cloud_hypervisor::Snapshot::parse(bytes).unwrap())
            }
        }
    }
}

enum Snapshot {
    Firecracker(firecracker::Snapshot),
    CloudHypervisor(cloud_hypervisor::Snapshot),
}

fn firecracker_lists(snapshot: &firecracker::Snapshot) -> Vec<Vec<(RegisterId, Value)>> {
    let vcpus = snapshot.vcpus().iter();
    vcpus.map(|vcpu| vcpu.registers().collect()).collect()
}

fn cloud_hypervisor_lists(snapshot: &cloud_hypervisor::Snapshot) -> Vec<Vec<(RegisterId, Value)>> {
    let vcpus = snapshot.vcpus().iter();
    vcpus.map(|vcpu| vcpu.registers().collect()).collect()
}

pub(crate) fn parse_firecracker(path: &Path) -> firecracker::Snapshot {
    let snapshot = firecracker::Snapshot::parse(read(path));
    snapshot.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn lines(name: &str) -> Vec<Outcome> {
    let text = read_text(&folder().join(name));
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("one outcome a line"))
        .collect()
}

pub(crate) fn destination(index: &HostIndex, outcome: &Outcome, features: Features) -> Destination {
    let name = format!(
        "{}{}/{}",
        host::HOST_NAME_PREFIX,
        outcome.dst_kernel,
        outcome.cpu
    );
    let named = index.resolve(&name).expect("a recorded host");
    let loader = outcome.loader();
    let destination = named.host.destination(features, loader.program);
    let mut destination = destination.unwrap_or_else(|error| panic!("{error}"));
    destination.loader = Some(loader);
    destination
}

pub(crate) fn simulate(
    loader: Loader,
    lists: &[Vec<(RegisterId, Value)>],
    destination: &Destination,
) -> SimulatedLoad {
    let borrowed: Vec<Vec<_>> = lists
        .iter()
        .map(|list| list.iter().map(|(id, value)| (*id, value)).collect())
        .collect();
    let vcpus: Vec<_> = borrowed
        .iter()
        .map(|registers| IncomingVcpu {
            registers,
            extensions: &[],
        })
        .collect();
    load::simulate_lists(loader, &vcpus, destination)
}

/// Predicts a restore: `Some(true)` if it succeeds, and the error if known.
fn predict(index: &HostIndex, outcome: &Outcome) -> (Option<bool>, Option<String>) {
    let loader = outcome.loader();
    if let Some((_, release)) = outcome.src_kernel.split_once("-from-v") {
        let release: Loader = format!("firecracker-{release}").parse().unwrap();
        let saved = SnapshotVersion::from_release(release.version).expect("a release");
        let own = SnapshotVersion::from_release(loader.version).expect("a release");
        let error = restore::version_error(loader.version, saved);
        return (Some(own.loads(saved)), error);
    }
    let kernel = outcome.src_kernel.trim_end_matches("-edited");
    let mut source = outcome.source_of(kernel);
    if outcome.set == "xched" {
        let edits = lines("edited.jsonl.xz");
        let edit = edits.iter().find(|edit| {
            edit.vmm == outcome.vmm
                && edit.src_kernel == kernel
                && edit.dst_kernel == outcome.dst_kernel
                && edit.cpu == outcome.cpu
        });
        let removed = &edit.expect("a recorded edit").removed;
        for list in &mut source.lists {
            list.retain(|(id, _)| !removed.contains(&format!("{:#018x}", id.raw())));
        }
    }
    let destination = destination(index, outcome, source.features);
    let load = simulate(loader, &source.lists, &destination);
    let error = restore::predicted_error(loader, &load);
    // The guests of this set left the queue of their random number generator alone.
    if outcome.set == "xf" && load.loads == Some(true) {
        return (Some(false), Some("NORESPONSE".to_owned()));
    }
    (load.loads, error)
}

#[derive(Default)]
struct Tally {
    correct: usize,
    unknown: usize,
    without_words: usize,
}

#[test]
#[expect(clippy::print_stdout, reason = "prints the table with --nocapture")]
fn every_recorded_restore_is_predicted() {
    let index = HostIndex::built_in().unwrap();
    let mut tallies: BTreeMap<(String, String), Tally> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut total = 0;
    for outcome in lines("outcomes.jsonl.xz") {
        total += 1;
        let key = (
            format!("{} {}", outcome.vmm, outcome.version),
            outcome.set.clone(),
        );
        let tally = tallies.entry(key).or_default();
        let (loads, error) = predict(&index, &outcome);
        let name = format!(
            "{} {} {} -> {} {} v{} {}",
            outcome.vmm,
            outcome.version,
            outcome.src_kernel,
            outcome.dst_kernel,
            outcome.cpu,
            outcome.vcpus,
            outcome.set
        );
        match loads {
            None => {
                println!("unknown: {name} {}", outcome.error);
                tally.unknown += 1;
            }
            Some(loads) if loads != outcome.ok => {
                wrong.push(format!(
                    "{name}: predicted {error:?}, was {}",
                    outcome.error
                ));
            }
            Some(_) => {
                tally.correct += 1;
                match error {
                    Some(error) if outcome.error.contains(&error) => {}
                    Some(error) => {
                        wrong.push(format!("{name}: predicted {error}, was {}", outcome.error));
                    }
                    None if !outcome.ok => tally.without_words += 1,
                    None => {}
                }
            }
        }
    }
    println!("| program | set | correct | unknown | words unknown |\n|---|---|---|---|---|");
    let (mut unknown, mut without_words) = (0, 0);
    for ((program, set), tally) in &tallies {
        println!(
            "| {program} | {set} | {} | {} | {} |",
            tally.correct, tally.unknown, tally.without_words
        );
        unknown += tally.unknown;
        without_words += tally.without_words;
    }
    assert!(wrong.is_empty(), "{} of {total}: {wrong:#?}", wrong.len());
    assert_eq!(total, 580);
    assert_eq!((unknown, without_words), (0, 0));
}
