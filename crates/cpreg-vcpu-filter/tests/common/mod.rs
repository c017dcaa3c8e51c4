//! QEMU's calls during a start with `-incoming` and a load, against a recorded host.
//!
//! QEMU lists and reads the registers of a vCPU when it creates it, and writes all of them back
//! twice. It then writes each vCPU's registers with the incoming values, and all vCPUs' registers
//! once more after the load.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use cpreg::destination::Features;
use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::plan::Consents;
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};
use cpreg_hosts::HostIndex;
use cpreg_kvm::recorded::{RecordedHost, RecordedVm};
use cpreg_kvm::{Errno, Host as _, Vcpu as _, Vm as _};
use cpreg_stream::Stream;
use cpreg_vcpu_filter::{Candidate, Event, GuestList, Policy, Refusal, VcpuUse, VmFilter};

/// Result of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The VM runs.
    Runs,
    /// QEMU refuses the VM, because its list lacks these registers.
    QemuRefuses(Vec<RegisterId>),
    /// The filter refuses the VM at this step.
    FilterRefuses(Step, Refusal),
}

/// Step of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write of a vCPU's incoming values.
    Load,
    /// Write of all values after the load.
    PostInit,
    /// First run.
    Run,
}

/// QEMU process on a recorded host.
pub(crate) struct Qemu {
    pub(crate) filter: VmFilter,
    pub(crate) vm: RecordedVm,
    values: Vec<BTreeMap<RegisterId, Value>>,
}

impl Qemu {
    /// Starts QEMU with this many vCPUs, up to the point where it waits for the VM.
    pub(crate) fn start(
        host: &RecordedHost,
        features: Features,
        vcpus: usize,
        policy: Policy,
    ) -> Self {
        let vm = host.create_vm(features, vcpus).expect("a VM");
        let mut qemu = Self {
            filter: VmFilter::new(Arc::new(policy)),
            vm,
            values: vec![BTreeMap::new(); vcpus],
        };
        for number in 0..vcpus {
            qemu.create_vcpu(number, features);
        }
        for _ in 0..2 {
            for number in 0..vcpus {
                qemu.write_all(number).expect("own values");
                let vcpu = &qemu.vm.vcpus()[number];
                qemu.filter.check_state(number, vcpu).expect("own values");
            }
        }
        qemu
    }

    fn create_vcpu(&mut self, number: usize, features: Features) {
        let vcpu = &self.vm.vcpus()[number];
        if features.contains(Features::SVE) {
            vcpu.finalize_sve().expect("SVE");
        }
        let initialized = self.filter.initialize(number, VcpuUse::Guest, vcpu);
        initialized.expect("the settings");
        let list = self.filter.list(number, vcpu).expect("a list");
        for id in list.into_iter().filter(|id| Program::QEMU.has_in_list(*id)) {
            let mut bytes = vec![0; id.size_bytes().expect("a size")];
            self.filter
                .get(number, vcpu, id, &mut bytes)
                .unwrap_or_else(|errno| panic!("{id}: {errno}"));
            self.values[number].insert(id, Value::from_le_bytes(&bytes));
        }
    }

    /// Returns the registers of QEMU's list.
    pub(crate) fn list(&self, number: usize) -> impl Iterator<Item = RegisterId> {
        self.values[number].keys().copied()
    }

    /// Returns the VM as QEMU saves it: the values that it has read.
    pub(crate) fn saved_vm(&self) -> Vm {
        let vcpus = self.values.iter().map(|values| {
            let values = values.iter().map(|(id, value)| (*id, value.clone()));
            Vcpu {
                registers: Registers::from_pairs(values).expect("no id twice"),
                ..Vcpu::default()
            }
        });
        Vm {
            vcpus: vcpus.collect(),
            ..Vm::default()
        }
    }

    fn write_all(&mut self, number: usize) -> Result<(), Errno> {
        let vcpu = &self.vm.vcpus()[number];
        for (id, value) in &self.values[number] {
            self.filter.set(number, vcpu, *id, &bytes(*id, value))?;
        }
        Ok(())
    }

    /// Loads the VM and runs its vCPUs.
    pub(crate) fn load(&mut self, incoming: &Vm) -> Outcome {
        for (number, vcpu) in incoming.vcpus.iter().enumerate() {
            let ids = vcpu.registers.iter().map(|(id, _)| id);
            let unknown: Vec<_> = ids
                .filter(|id| !self.values[number].contains_key(id))
                .collect();
            if !unknown.is_empty() {
                return Outcome::QemuRefuses(unknown);
            }
            let registers = vcpu.registers.iter();
            let registers = registers.map(|(id, value)| (id, value.clone()));
            self.values[number].extend(registers);
            if self.write_all(number).is_err() {
                return self.refused(Step::Load);
            }
        }
        for number in 0..incoming.vcpus.len() {
            let written = self.write_all(number);
            let vcpu = &self.vm.vcpus()[number];
            let checked = written.and_then(|()| self.filter.check_state(number, vcpu));
            if checked.is_err() {
                return self.refused(Step::PostInit);
            }
        }
        for number in 0..incoming.vcpus.len() {
            let vcpu = &self.vm.vcpus()[number];
            if self.filter.check_run(number, vcpu).is_err() {
                return self.refused(Step::Run);
            }
            self.vm.mark_run();
        }
        Outcome::Runs
    }

    fn refused(&mut self, step: Step) -> Outcome {
        let events = self.filter.take_events();
        let mut refusals = events.into_iter().filter_map(|event| match event {
            Event::Refused(refusal) => Some(refusal),
            _ => None,
        });
        let refusal = refusals.next().expect("a refusal is reported");
        assert_eq!(refusals.next(), None, "a refusal is reported once");
        Outcome::FilterRefuses(step, refusal)
    }

    /// Reads a register as QEMU does when it saves the VM.
    pub(crate) fn read(&mut self, number: usize, id: RegisterId) -> Option<u64> {
        let mut bytes = vec![0; id.size_bytes()?];
        let vcpu = &self.vm.vcpus()[number];
        self.filter.get(number, vcpu, id, &mut bytes).ok()?;
        Value::from_le_bytes(&bytes).as_u64()
    }
}

/// Returns the bytes of a register's value, as the VMM passes them.
pub(crate) fn bytes(id: RegisterId, value: &Value) -> Vec<u8> {
    match value {
        Value::U64(value) => value.to_le_bytes()[..id.size_bytes().expect("a size")].to_vec(),
        Value::Bytes(bytes) => bytes.to_vec(),
    }
}

/// Returns a recorded host.
pub(crate) fn recorded_host(index: &HostIndex, name: &str) -> RecordedHost {
    RecordedHost::new(index.resolve(name).expect("a recorded host").host.record())
}

/// Returns the policy of a process that receives a VM on this host.
pub(crate) fn receiving_policy(
    index: &HostIndex,
    host: &RecordedHost,
    features: Features,
) -> Policy {
    static CANDIDATES: OnceLock<Vec<Candidate>> = OnceLock::new();
    let candidates = CANDIDATES.get_or_init(|| {
        let hosts = index.hosts().into_iter();
        let lists = hosts.flat_map(|host| GuestList::from_record(&host.record()));
        Candidate::from_hosts(lists, &Tolerances::default(), &Consents::default())
    });
    let mut policy = Policy {
        is_receiving: true,
        candidates: candidates.clone(),
        ..Policy::default()
    };
    let record = host.record();
    let destination = record.destination(features, Program::QEMU);
    policy.host.kernel_release = Some(record.identity.release.clone());
    policy.host.hardware = destination.expect("recorded features").hardware;
    policy.host.hardware.is_emulated = record.identity.emulated;
    policy
}

/// Returns the recorded streams of QEMU under KVM: name and VM without QEMU's extensions.
pub(crate) fn recorded_vms() -> Vec<(String, Vm)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/streams/kvm");
    let mut vms = Vec::new();
    for entry in folder.read_dir().expect("the recorded streams") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_suffix(".stream.xz")) else {
            continue;
        };
        let mut stream = Vec::new();
        let packed = File::open(&path).expect("a readable file");
        let mut unpacked = lzma_rust2::XzReader::new(packed, true);
        std::io::Read::read_to_end(&mut unpacked, &mut stream).expect("xz");
        let stream = Stream::open(&stream).expect("a stream");
        let mut vm = stream.vm().expect("a VM");
        for vcpu in &mut vm.vcpus {
            vcpu.extensions.clear();
        }
        vms.push((name.to_owned(), vm));
    }
    vms.sort_by(|(one, _), (other, _)| one.cmp(other));
    vms
}

/// Returns the features of a guest.
pub(crate) fn features(vm: &Vm) -> Features {
    let vcpus = vm.vcpus.iter().map(|vcpu| &vcpu.registers);
    GuestFeatures::from_vcpus(vcpus).features
}
