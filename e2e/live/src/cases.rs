//! List of live cases: the machine, the QEMU that saves it, and the QEMU that loads it.
//!
//! A new case needs only an entry in this list.

use std::fmt;

use e2e_framework::guest::TIMER_SECONDS;
use e2e_framework::machine::{Devices, Format, Gic, Machine};

/// Kind of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaseKind {
    /// One QEMU saves the VM. Another QEMU first loads it unchanged, which usually fails, and then
    /// converted.
    Move,
    /// The same QEMU saves and loads the VM, and no register may differ. This shows that the guest
    /// finds no difference where there is none.
    Stay,
    /// Like [`CaseKind::Stay`], with one register and one timer changed in the stream. The guest
    /// must notice both.
    Notice,
    /// The test removes a register from a saved stream. QEMU loads the register as zero, and a
    /// rehearsal must notice.
    RegisterLoss,
    /// The same QEMU rehearses the VM while it runs, through its monitor. The guest then continues.
    LiveRehearsal,
    /// The same QEMU rehearses a VM that was saved with a virtio ring in use; see [`super::rings`].
    VirtioRings,
    /// `cpreg filter` converts between two QEMUs, once while one QEMU saves the VM, once while the
    /// other loads it. Both times it also refuses a VM: the guest then continues at the source, and
    /// no guest runs at the destination.
    Filter,
    /// The same QEMU rehearses a VM of 8 GiB with a disk; see [`e2e_framework::large_vm`].
    LargeVm,
    /// One QEMU saves the VM in a snapshot of a disk, another loads it; see [`super::snapshots`].
    Snapshot,
}

/// One live case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) kind: CaseKind,
    /// Series of the QEMU that saves the VM.
    pub(crate) source: &'static str,
    /// Series of the QEMU that loads the VM.
    pub(crate) destination: &'static str,
    pub(crate) machine: Machine,
}

impl Case {
    /// Returns `true` if the destination loads the stream as it is.
    ///
    /// Different series load each other's streams in one case only, for 32-bit CPUs: QEMU 11.1 has
    /// every register of 10.0, and accepts that some are missing.
    pub(crate) fn can_load_unchanged(&self) -> bool {
        self.source == self.destination
            || (self.machine.cpu == "cortex-a15"
                && (self.source, self.destination) == ("10.0", "11.1"))
    }

    /// Returns `true` if the user must consent, because the guest loses state in use or sees other
    /// features.
    ///
    /// `max` has whatever features a QEMU emulates. The other models are fixed, but 5.2 gives them
    /// four event counters where later series give six, and the guest uses all.
    pub(crate) fn needs_consent(&self) -> bool {
        self.source != self.destination && (self.machine.cpu == "max" || self.destination == "5.2")
    }
}

impl Case {
    /// Returns the family of the case. A sample has one case of each.
    pub(crate) fn family(&self) -> String {
        let Machine {
            devices, format, ..
        } = self.machine;
        match (self.kind, devices, format) {
            (CaseKind::Move, Devices::None, Format::Plain) => {
                format!("{} {}", self.source, self.destination)
            }
            (CaseKind::Move, _, _) => format!("{devices:?} {format:?}"),
            (CaseKind::Stay, _, _) => format!("stay {}", self.source),
            (CaseKind::Snapshot, _, _) => format!("snapshot {}", self.source),
            (kind, _, _) => format!("{kind:?}"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        match self.kind {
            CaseKind::Move => write!(f, "{}-to-{}", self.source, self.destination)?,
            CaseKind::Filter => write!(f, "filter-{}-to-{}", self.source, self.destination)?,
            CaseKind::Stay => write!(f, "stay-{}", self.source)?,
            CaseKind::Notice => write!(f, "notice-{}", self.source)?,
            CaseKind::LiveRehearsal => write!(f, "running-{}", self.source)?,
            CaseKind::RegisterLoss => write!(f, "lost-{}", self.source)?,
            CaseKind::VirtioRings => write!(f, "rings-{}", self.source)?,
            CaseKind::LargeVm => write!(f, "large-{}", self.source)?,
            CaseKind::Snapshot => {
                write!(f, "snapshot-{}-to-{}", self.source, self.destination)?;
            }
        }
        let gic = match machine.gic {
            Gic::V2 => "gicv2",
            Gic::V3 => "gicv3",
        };
        write!(
            f,
            "/{}/{}/smp{}/{gic}",
            machine.machine_type, machine.cpu, machine.vcpus
        )?;
        match machine.devices {
            Devices::None => Ok(()),
            Devices::Mmio => write!(f, "/virtio-mmio"),
            Devices::Pci => write!(f, "/virtio-pci"),
        }?;
        match machine.format {
            Format::Plain => Ok(()),
            Format::Xbzrle => write!(f, "/xbzrle"),
            Format::MappedRam => write!(f, "/mapped-ram"),
        }
    }
}

const CPUS: [&str; 5] = [
    "cortex-a57",
    "cortex-a72",
    "neoverse-n1",
    "max",
    "cortex-a15",
];

/// Numbers of vCPUs, with interrupt controllers. The reduced set takes these pairs in turn.
const SHAPES: [(u32, Gic); 4] = [(1, Gic::V2), (4, Gic::V3), (4, Gic::V2), (1, Gic::V3)];

/// Pairs of series, with a machine type that both have.
pub(crate) const PAIRS: [(&str, &str, &str); 12] = [
    ("7.2", "10.0", "virt-7.2"),
    ("10.0", "7.2", "virt-7.2"),
    ("7.2", "11.1", "virt-7.2"),
    ("11.1", "7.2", "virt-7.2"),
    ("10.0", "11.1", "virt-10.0"),
    ("11.1", "10.0", "virt-10.0"),
    ("5.2", "7.2", "virt-5.2"),
    ("7.2", "5.2", "virt-5.2"),
    ("5.2", "10.0", "virt-5.2"),
    ("10.0", "5.2", "virt-5.2"),
    ("5.2", "11.1", "virt-5.2"),
    ("11.1", "5.2", "virt-5.2"),
];

/// Pairs whose QEMUs do not accept each other's idle virtio-pci devices, whatever CPU state the
/// stream has.
///
/// 11.1.3 to 10.0.13 fails with "VQ 0 vring.num 1024 exceeds allocated max 256". For 5.2 and 11.1,
/// the PCI configuration spaces of virt-5.2 differ ("Bad config data: i=0x34").
const PCI_INCOMPATIBLE_PAIRS: [(&str, &str); 3] =
    [("10.0", "11.1"), ("5.2", "11.1"), ("11.1", "5.2")];

/// Returns `true` if the destination lacks a part of the source's interrupt controller, whatever
/// CPU state the stream has.
///
/// `max` has non-maskable interrupts from 10.0 on. A GICv3 then saves `arm_gicv3_cpu/nmi`, which
/// 7.2 and 5.2 do not know.
fn has_incompatible_gic(from: &str, to: &str, machine: &Machine) -> bool {
    machine.cpu == "max"
        && machine.gic == Gic::V3
        && ["10.0", "11.1"].contains(&from)
        && ["5.2", "7.2"].contains(&to)
}

const fn machine(machine_type: &'static str, cpu: &'static str, shape: (u32, Gic)) -> Machine {
    Machine {
        machine_type,
        cpu,
        vcpus: shape.0,
        gic: shape.1,
        devices: Devices::None,
        format: Format::Plain,
        timer_seconds: TIMER_SECONDS[0],
    }
}

/// Returns all cases, or the reduced set.
///
/// The reduced set has every pair with every CPU model, but each with only one number of vCPUs and
/// one interrupt controller.
pub(crate) fn cases(full: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    // These cases take longest, so they start first.
    for cpu in ["cortex-a57", "cortex-a15"] {
        cases.push(Case {
            kind: CaseKind::Notice,
            source: "10.0",
            destination: "10.0",
            machine: machine("virt-10.0", cpu, (1, Gic::V3)),
        });
    }
    for (pair, (from, to, virt)) in PAIRS.into_iter().enumerate() {
        let mut machines = machines_by_model(pair, full);
        // This machine needs no consent.
        let plain = machine(virt, "cortex-a57", (2, Gic::V3));
        if ![from, to].contains(&"5.2") {
            cases.push(Case {
                kind: CaseKind::Filter,
                source: from,
                destination: to,
                machine: plain,
            });
        }
        machines.extend(machines_with_other_streams(pair, full));
        cases.extend(machines.into_iter().map(|machine| Case {
            kind: CaseKind::Move,
            source: from,
            destination: to,
            machine,
        }));
    }
    for (number, series) in ["5.2", "7.2", "10.0", "11.1"].into_iter().enumerate() {
        cases.extend(single_qemu_cases(number, series, full));
    }
    cases.extend(snapshot_cases(full));
    cases
}

/// Returns the moves of a VM in a snapshot.
fn snapshot_cases(full: bool) -> impl Iterator<Item = Case> {
    // QEMU 5.2 needs consents, which the case does not give.
    let pairs = PAIRS
        .into_iter()
        .filter(|(from, to, _)| ![from, to].contains(&&"5.2"));
    let pairs = pairs.filter(move |(from, to, _)| {
        full || [from, to].contains(&&"7.2") && [from, to].contains(&&"10.0")
    });
    pairs.map(|(source, destination, virt)| Case {
        kind: CaseKind::Snapshot,
        source,
        destination,
        machine: machine(virt, "cortex-a57", (2, Gic::V3)),
    })
}

/// Returns the machines with the CPU models that both QEMUs of a pair have.
fn machines_by_model(pair: usize, full: bool) -> Vec<Machine> {
    let (from, to, virt) = PAIRS[pair];
    let mut machines = Vec::new();
    for (model, cpu) in CPUS.into_iter().enumerate() {
        // QEMU 5.2 has no Neoverse N1.
        if cpu == "neoverse-n1" && [from, to].contains(&"5.2") {
            continue;
        }
        for (number, shape) in SHAPES.into_iter().enumerate() {
            let machine = machine(virt, cpu, shape);
            let is_selected = full || number == (pair + model) % SHAPES.len();
            if is_selected && !has_incompatible_gic(from, to, &machine) {
                machines.push(machine);
            }
        }
    }
    machines
}

/// Returns machines whose streams have other devices or another format. The CPU state is the same,
/// so one model suffices.
fn machines_with_other_streams(pair: usize, full: bool) -> Vec<Machine> {
    let (from, to, virt) = PAIRS[pair];
    let plain = machine(virt, "cortex-a57", (2, Gic::V3));
    let mut machines = vec![Machine {
        devices: Devices::Mmio,
        ..plain
    }];
    if !PCI_INCOMPATIBLE_PAIRS.contains(&(from, to)) {
        machines.push(Machine {
            devices: Devices::Pci,
            ..plain
        });
    }
    if full || pair.is_multiple_of(2) {
        machines.push(Machine {
            format: Format::Xbzrle,
            ..plain
        });
    }
    // `mapped-ram` exists since QEMU 9.0.
    if virt == "virt-10.0" {
        machines.push(Machine {
            format: Format::MappedRam,
            ..plain
        });
    }
    machines
}

/// Returns the cases with a single QEMU.
fn single_qemu_cases(number: usize, series: &'static str, full: bool) -> Vec<Case> {
    let virt = if series == "5.2" {
        "virt-5.2"
    } else {
        "virt-7.2"
    };
    let case = |kind, machine| Case {
        kind,
        source: series,
        destination: series,
        machine,
    };
    let mut cases = Vec::new();
    for (model, cpu) in CPUS.into_iter().enumerate() {
        let exists = !(series == "5.2" && cpu == "neoverse-n1");
        // Further 64-bit models show nothing new about the guest.
        let is_selected = full || ["max", "cortex-a15"].contains(&cpu);
        if exists && is_selected {
            let shape = SHAPES[(number + model) % SHAPES.len()];
            cases.push(case(CaseKind::Stay, machine(virt, cpu, shape)));
        }
    }
    let a57 = |shape| machine(virt, "cortex-a57", shape);
    for devices in [Devices::Mmio, Devices::Pci] {
        let machine = Machine {
            devices,
            ..a57((1, Gic::V2))
        };
        cases.push(case(CaseKind::VirtioRings, machine));
    }
    cases.push(case(CaseKind::RegisterLoss, a57((1, Gic::V3))));
    let machine = Machine {
        devices: Devices::Pci,
        ..a57((2, Gic::V3))
    };
    cases.push(case(CaseKind::LiveRehearsal, machine));
    cases.push(case(CaseKind::LargeVm, a57((1, Gic::V2))));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::sample;
    use std::collections::BTreeSet;

    #[test]
    fn the_full_set_has_unique_names_and_includes_the_reduced_one() {
        let names = |full| -> Vec<_> { cases(full).iter().map(Case::to_string).collect() };
        let (reduced, full) = (names(false), names(true));
        let unique: BTreeSet<_> = full.iter().collect();
        assert_eq!(unique.len(), full.len());
        for name in &reduced {
            assert!(unique.contains(name), "{name}");
        }
    }

    #[test]
    fn the_sample_has_every_kind_model_and_qemu() {
        let all = cases(false);
        let sample = sample(&all, Case::family);
        let sampled: Vec<_> = all
            .iter()
            .filter(|case| sample.contains(&case.to_string()))
            .collect();
        let kinds = |cases: &mut dyn Iterator<Item = &Case>| -> BTreeSet<String> {
            cases.map(|case| format!("{:?}", case.kind)).collect()
        };
        assert_eq!(kinds(&mut sampled.iter().copied()), kinds(&mut all.iter()));
        for cpu in CPUS {
            assert!(sampled.iter().any(|case| case.machine.cpu == cpu), "{cpu}");
        }
        for (from, to, _) in PAIRS {
            let is_sampled = sampled
                .iter()
                .any(|case| (case.source, case.destination) == (from, to));
            assert!(is_sampled, "{from} to {to}");
        }
        assert!(sampled.len() < all.len() / 3, "{}", sampled.len());
    }

    #[test]
    fn the_reduced_set_has_every_pair_model_and_shape() {
        let reduced = cases(false);
        for (from, to, _) in PAIRS {
            for cpu in CPUS.into_iter().filter(|cpu| *cpu != "neoverse-n1") {
                let found = reduced.iter().any(|case| {
                    (case.source, case.destination, case.machine.cpu) == (from, to, cpu)
                });
                assert!(found, "{from} to {to}, {cpu}");
            }
        }
        for shape in SHAPES {
            for cpu in CPUS {
                let found = reduced.iter().any(|case| {
                    case.machine.cpu == cpu && (case.machine.vcpus, case.machine.gic) == shape
                });
                assert!(found, "{shape:?} with {cpu}");
            }
        }
    }
}
