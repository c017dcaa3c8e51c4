//! Random sequences of calls, compared with a small model of the filter.
//!
//! The host lists SCTLR_EL1, ID_AA64MMFR3_EL1 and PSCI_VERSION up to 1.1. The incoming VM may also
//! have POR_EL0 and KVM_REG_ARM_VENDOR_HYP_BMAP_2. The model knows the values of the last writes,
//! and which combinations of values block a load. It does not know how the filter finds out.
//!
//! `PROPTEST_CASES=10000000 cargo test --release -p cpreg-vcpu-filter --test model` runs ten
//! million sequences.

use std::collections::BTreeMap;
use std::sync::Arc;

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::plan::Consents;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::HostRecord;
use cpreg_hosts::record::{AtReset, GuestRecord, Identity, RegisterRecord, WriteTrial};
use cpreg_kvm::recorded::RecordedVm;
use cpreg_kvm::{Errno, Host as _, RecordedHost, Vm as _, value};
use cpreg_vcpu_filter::{Candidate, Policy, VcpuUse, VmFilter};
use proptest::prelude::*;

const STORAGE: RegisterId = RegisterId::SCTLR_EL1;
const FEATURES: RegisterId = RegisterId::ID_AA64MMFR3_EL1;
const PSCI: RegisterId = RegisterId::PSCI_VERSION;
const OVERLAYS: RegisterId = RegisterId::POR_EL0;
const SERVICES: RegisterId = RegisterId::VENDOR_HYP_BMAP_2;
const REGISTERS: [RegisterId; 5] = [STORAGE, FEATURES, PSCI, OVERLAYS, SERVICES];

/// Value of each register at reset. A register that the host lacks reads as 0.
const RESET: [u64; 5] = [0x100, S1POE, 0x1_0001, 0, 0];
/// ID_AA64MMFR3_EL1.S1POE: the guest has POR_EL0.
const S1POE: u64 = 1 << 16;
const VCPUS: usize = 2;

/// Call of a VMM about one vCPU.
#[derive(Clone, Copy, Debug)]
enum Call {
    Initialize,
    List,
    Get(RegisterId),
    Set(RegisterId, u64),
    CheckState,
    Run,
}

fn register(id: RegisterId, value: u64) -> RegisterRecord {
    RegisterRecord {
        id,
        at_reset: AtReset::Value(Value::U64(value)),
        differs_by_vcpu: false,
        write_back: 0,
        trials: Vec::new(),
        fields: None,
    }
}

fn host() -> RecordedHost {
    let psci = |value, errno| WriteTrial {
        value,
        errno,
        read_back: if errno == 0 { value } else { RESET[2] },
    };
    let s1poe = cpreg::destination::AcceptedField::new(19, 16, 0b11, Vec::new());
    let registers = vec![
        register(STORAGE, RESET[0]),
        RegisterRecord {
            fields: Some(vec![s1poe.expect("a field")]),
            ..register(FEATURES, RESET[1])
        },
        RegisterRecord {
            trials: vec![
                psci(0x2, 0),
                psci(0x1_0000, 0),
                psci(0x1_0002, 22),
                psci(0x1_0003, 22),
            ],
            ..register(PSCI, RESET[2])
        },
    ];
    let guest = GuestRecord {
        registers,
        writable: None,
    };
    RecordedHost::new(HostRecord {
        identity: Identity::default(),
        capabilities: BTreeMap::new(),
        guests: BTreeMap::from([(Features::NONE, guest)]),
        hardware: HardwareFacts::UNKNOWN,
    })
}

fn policy(accepts_psci: bool) -> Policy {
    let candidates = [OVERLAYS, SERVICES].map(|register| Candidate {
        register,
        features: vec![Features::NONE],
    });
    Policy {
        is_receiving: true,
        candidates: candidates.to_vec(),
        consents: Consents {
            accept: accepts_psci.then_some(PSCI).into_iter().collect(),
            ..Consents::default()
        },
        ..Policy::default()
    }
}

/// Values that the VMM knows of one vCPU.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact")]
struct ModelVcpu {
    /// Values that the VMM read before it wrote another value.
    read: BTreeMap<RegisterId, u64>,
    /// Values that the VMM wrote and had not read.
    written: BTreeMap<RegisterId, u64>,
    /// First register of a pass over the list.
    first: Option<RegisterId>,
    /// `true` if the VMM has the list with the registers that the host lacks.
    has_list: bool,
    /// `true` if values have arrived since the last settled load.
    is_open: bool,
    is_refused: bool,
    has_run: bool,
    storage: u64,
}

impl ModelVcpu {
    fn value(&self, id: RegisterId) -> Option<u64> {
        let value = self.written.get(&id).or_else(|| self.read.get(&id));
        let is_remembered = self.has_list && is_unlisted(id);
        value.copied().or_else(|| is_remembered.then_some(0))
    }

    /// Returns `true` if the VM may have a register that the host lacks. A register of the list
    /// whose value is the first one may have come with it.
    fn may_have(&self, id: RegisterId) -> bool {
        self.has_list || self.written.contains_key(&id)
    }

    fn has_incoming(&self) -> bool {
        !self.has_run && !self.written.is_empty()
    }
}

fn is_unlisted(id: RegisterId) -> bool {
    [OVERLAYS, SERVICES].contains(&id)
}

struct Model {
    accepts_psci: bool,
    vcpus: Vec<ModelVcpu>,
    features: u64,
    psci: u64,
    /// `true` once a vCPU has run. The kernel then keeps the ID registers.
    has_run: bool,
}

impl Model {
    fn new(accepts_psci: bool) -> Self {
        let vcpu = ModelVcpu {
            storage: RESET[0],
            ..ModelVcpu::default()
        };
        Self {
            accepts_psci,
            vcpus: vec![vcpu; VCPUS],
            features: RESET[1],
            psci: RESET[2],
            has_run: false,
        }
    }

    fn kernel(&self, number: usize, id: RegisterId) -> u64 {
        match id {
            FEATURES => self.features,
            PSCI => self.psci,
            _ => self.vcpus[number].storage,
        }
    }

    /// Writes to the kernel. Returns `true` if the kernel accepts the value.
    fn write(&mut self, number: usize, id: RegisterId, value: u64) -> bool {
        match id {
            PSCI if value > RESET[2] => return false,
            PSCI => self.psci = value,
            FEATURES => self.features = value,
            _ => self.vcpus[number].storage = value,
        }
        true
    }

    /// Returns `true` if the incoming values block the load.
    fn is_blocked(&self) -> bool {
        let incoming = || self.vcpus.iter().filter(|vcpu| vcpu.has_incoming());
        // A vCPU that does not know a VM-wide register has the value of another.
        let mut vcpus = self.vcpus.iter();
        let features = vcpus.find_map(|vcpu| vcpu.value(FEATURES));
        let blocks = |vcpu: &ModelVcpu| {
            let written = |id| vcpu.written.get(&id).copied();
            let lacks_overlays = vcpu.value(FEATURES).or(features) == Some(0);
            written(PSCI).is_some_and(|psci| psci > RESET[2]) && !self.accepts_psci
                || vcpu.may_have(OVERLAYS) && !lacks_overlays
                || written(SERVICES).is_some_and(|services| services != 0)
        };
        let disagrees = |value: &dyn Fn(&ModelVcpu) -> Option<u64>| {
            let mut values = incoming().filter_map(value);
            let first = values.next();
            first.is_some_and(|first| values.any(|value| value != first))
        };
        // KVM fixes ID registers at the first run, also those of vCPUs that have not run.
        let is_fixed = |vcpu: &ModelVcpu| {
            let features = vcpu.written.get(&FEATURES);
            self.has_run && features.is_some_and(|features| *features != self.features)
        };
        incoming().any(blocks)
            || incoming().any(is_fixed)
            || disagrees(&|vcpu| vcpu.value(FEATURES))
            || disagrees(&|vcpu| vcpu.value(PSCI))
            || incoming().any(|vcpu| vcpu.may_have(SERVICES))
                && !incoming().all(|vcpu| vcpu.may_have(SERVICES))
    }

    /// Refuses the incoming VM.
    fn refuse(&mut self) {
        for vcpu in &mut self.vcpus {
            vcpu.is_refused |= vcpu.has_incoming();
        }
    }

    /// Settles a load. Returns `true` if it succeeds.
    fn settle(&mut self, number: usize) -> bool {
        if self.is_blocked() {
            self.refuse();
            return false;
        }
        let mut vcpus = self.vcpus.iter();
        let shared_psci = vcpus.find_map(|vcpu| vcpu.value(PSCI));
        let vcpu = &mut self.vcpus[number];
        if vcpu.has_incoming() {
            if let Some(psci) = vcpu.written.get(&PSCI) {
                self.psci = (*psci).min(RESET[2]);
            } else if vcpu.value(PSCI).is_none() && shared_psci > Some(RESET[2]) {
                self.psci = RESET[2];
            }
            if let Some(features) = vcpu.written.get(&FEATURES) {
                self.features = *features;
            }
        }
        vcpu.is_open = false;
        true
    }

    /// Returns the length of the list. A vCPU that has loaded or run lists the host's registers.
    fn list(&mut self, number: usize) -> usize {
        let vcpu = &mut self.vcpus[number];
        let is_loaded = vcpu.has_incoming() && !vcpu.is_open && !vcpu.is_refused;
        if is_loaded || vcpu.has_run {
            return REGISTERS.into_iter().filter(|id| !is_unlisted(*id)).count();
        }
        vcpu.has_list = true;
        REGISTERS.len()
    }

    /// Returns the value of a read, or `None` if it fails.
    fn get(&mut self, number: usize, id: RegisterId) -> Option<u64> {
        if is_unlisted(id) {
            let vcpu = &self.vcpus[number];
            return vcpu.value(id).filter(|_| vcpu.has_list);
        }
        let value = self.kernel(number, id);
        let vcpu = &mut self.vcpus[number];
        if !vcpu.has_run && vcpu.written.is_empty() {
            vcpu.read.insert(id, value);
        }
        Some(value)
    }

    /// Returns `true` if a write succeeds.
    fn set(&mut self, number: usize, id: RegisterId, value: u64) -> bool {
        let vcpu = &mut self.vcpus[number];
        if vcpu.has_run {
            if is_unlisted(id) {
                if vcpu.has_list {
                    vcpu.written.insert(id, value);
                }
                return vcpu.has_list;
            }
            return self.write(number, id, value);
        }
        if vcpu.is_refused {
            return false;
        }
        let first = *vcpu.first.get_or_insert(id);
        let is_known = vcpu.value(id) == Some(value);
        if first == id && vcpu.is_open && is_known && !self.settle(number) {
            return false;
        }
        if !is_known && !is_unlisted(id) && !self.vcpus[number].read.contains_key(&id) {
            let own = self.kernel(number, id);
            self.vcpus[number].read.insert(id, own);
        }
        let vcpu = &mut self.vcpus[number];
        if vcpu.value(id) != Some(value) {
            vcpu.written.insert(id, value);
            vcpu.is_open = true;
            if id == SERVICES && value != 0 {
                vcpu.is_refused = true;
                return false;
            }
        }
        if !is_unlisted(id) {
            let is_settled = !self.vcpus[number].is_open && self.vcpus[number].has_incoming();
            let value = if is_settled && id == PSCI {
                value.min(RESET[2])
            } else {
                value
            };
            self.write(number, id, value);
        }
        true
    }

    /// Returns `true` if the vCPU may run.
    fn run(&mut self, number: usize) -> bool {
        if self.vcpus[number].has_run {
            return true;
        }
        if self.vcpus.iter().any(|vcpu| vcpu.is_refused) {
            return false;
        }
        let mut vcpus = self.vcpus.iter();
        if vcpus.any(ModelVcpu::has_incoming) && !self.settle(number) {
            return false;
        }
        self.vcpus[number].has_run = true;
        self.has_run = true;
        true
    }

    fn initialize(&mut self, number: usize) {
        let vcpu = &mut self.vcpus[number];
        *vcpu = ModelVcpu {
            has_list: vcpu.has_list,
            storage: vcpu.storage,
            ..ModelVcpu::default()
        };
    }
}

/// Filter and VM under test.
struct Subject {
    filter: VmFilter,
    vm: RecordedVm,
}

impl Subject {
    fn get(&mut self, number: usize, id: RegisterId) -> Option<u64> {
        let mut bytes = [0; 8];
        let vcpu = &self.vm.vcpus()[number];
        let result = self.filter.get(number, vcpu, id, &mut bytes);
        result.ok().map(|()| u64::from_le_bytes(bytes))
    }

    fn set(&mut self, number: usize, id: RegisterId, value: u64) -> Result<(), Errno> {
        let vcpu = &self.vm.vcpus()[number];
        self.filter.set(number, vcpu, id, &value.to_le_bytes())
    }
}

/// Makes a call to both. Returns the results of the model and the filter as text.
fn step(model: &mut Model, subject: &mut Subject, number: usize, call: Call) -> [String; 2] {
    let texts =
        |model: bool, filter: Result<(), Errno>| [model, filter.is_ok()].map(|ok| ok.to_string());
    let vcpu = &subject.vm.vcpus()[number];
    match call {
        Call::Initialize => {
            model.initialize(number);
            let filter = &mut subject.filter;
            texts(true, filter.initialize(number, VcpuUse::Guest, vcpu))
        }
        Call::List => {
            let expected = model.list(number);
            let list = subject.filter.list(number, vcpu).expect("a list");
            [expected, list.len()].map(|length| length.to_string())
        }
        Call::Get(id) => {
            let values = [model.get(number, id), subject.get(number, id)];
            values.map(|value| format!("{value:x?}"))
        }
        // KVM fixes ID registers at the first run.
        Call::Set(FEATURES, _) if model.has_run => texts(true, Ok(())),
        Call::Set(id, value) => texts(model.set(number, id, value), subject.set(number, id, value)),
        Call::CheckState => {
            let vcpu_model = &model.vcpus[number];
            let expected = if vcpu_model.is_refused {
                false
            } else {
                vcpu_model.has_run || !vcpu_model.is_open || model.settle(number)
            };
            texts(expected, subject.filter.check_state(number, vcpu))
        }
        Call::Run => {
            let result = subject.filter.check_run(number, vcpu);
            if result.is_ok() {
                subject.vm.mark_run();
            }
            texts(model.run(number), result)
        }
    }
}

fn calls() -> impl Strategy<Value = Vec<(usize, Call)>> {
    let values = |id| -> Vec<u64> {
        match id {
            STORAGE => vec![RESET[0], 0x200],
            FEATURES => vec![0, S1POE],
            PSCI => vec![0x2, 0x1_0001, 0x1_0002],
            _ => vec![0, 1],
        }
    };
    let register = || prop::sample::select(REGISTERS.to_vec());
    let set = register().prop_flat_map(move |id| {
        prop::sample::select(values(id)).prop_map(move |value| Call::Set(id, value))
    });
    let call = prop_oneof![
        1 => Just(Call::Initialize),
        2 => Just(Call::List),
        4 => register().prop_map(Call::Get),
        8 => set,
        2 => Just(Call::CheckState),
        1 => Just(Call::Run),
    ];
    prop::collection::vec((0..VCPUS, call), 1..40)
}

proptest! {
    #[test]
    fn the_filter_agrees_with_the_model(accepts_psci: bool, calls in calls()) {
        let vm = host().create_vm(Features::NONE, VCPUS).expect("a VM");
        let mut subject = Subject { filter: VmFilter::new(Arc::new(policy(accepts_psci))), vm };
        let mut model = Model::new(accepts_psci);
        for (number, call) in calls {
            let [expected, found] = step(&mut model, &mut subject, number, call);
            prop_assert_eq!(expected, found, "vCPU {}: {:x?}", number, call);
            for vcpu in 0..VCPUS {
                for id in [STORAGE, FEATURES, PSCI] {
                    let found = value::read(&subject.vm.vcpus()[vcpu], id);
                    prop_assert_eq!(Ok(Value::U64(model.kernel(vcpu, id))), found, "{}", id);
                }
            }
        }
    }
}
