//! Threads, descriptors and calls that fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;

use super::*;
use crate::process::Process;

/// Incoming VM of a test: the value of PIR_EL1, which the host lacks.
const INCOMING: u64 = 9;
const DUPLICATE: c_int = 1000;

fn descriptor(number: usize) -> c_int {
    FIRST_VCPU + c_int::try_from(number).expect("a number")
}

/// QEMU's copy of the registers of one vCPU.
struct QemuVcpu<'a> {
    interposer: &'a Interposer<FakeKernel>,
    descriptor: c_int,
    values: Vec<(RegisterId, u64)>,
}

impl<'a> QemuVcpu<'a> {
    /// Lists and reads the registers, and writes them back twice.
    fn create(interposer: &'a Interposer<FakeKernel>, number: usize) -> Self {
        Self::create_with(interposer, number, |_| true)
    }

    /// Creates a vCPU that has some of the registers.
    fn create_with(
        interposer: &'a Interposer<FakeKernel>,
        number: usize,
        has_register: impl Fn(RegisterId) -> bool,
    ) -> Self {
        let descriptor = descriptor(number);
        let mut words = vec![1024; 1025];
        let address = words.as_mut_ptr().expose_provenance();
        let listed = call(interposer, descriptor, requests::GET_REG_LIST, address);
        assert_eq!(listed, Answer::Success(0));
        let count = usize::try_from(words[0]).expect("a length");
        let ids = words[1..=count].iter().copied().map(RegisterId::from_raw);
        let mut vcpu = Self {
            interposer,
            descriptor,
            values: Vec::new(),
        };
        let ids = ids.filter(|id| has_register(*id));
        for id in ids.filter(|id| id.size_bytes().is_some_and(|size| size <= 8)) {
            let mut value = 0;
            let get = requests::GET_ONE_REG;
            let read = register_of(interposer, descriptor, get, id, &mut value);
            assert_eq!(read, Answer::Success(0), "{id}");
            vcpu.values.push((id, value));
        }
        for _ in 0..2 {
            assert_eq!(vcpu.write_all(), None);
        }
        vcpu
    }

    /// Writes all registers. Returns the answer that is not a success.
    fn write_all(&self) -> Option<Answer> {
        let answers = self.values.iter().map(|(id, value)| {
            let mut value = *value;
            let set = requests::SET_ONE_REG;
            register_of(self.interposer, self.descriptor, set, *id, &mut value)
        });
        let mut failures = answers.filter(|answer| *answer != Answer::Success(0));
        failures.next()
    }

    fn set(&mut self, id: RegisterId, value: u64) {
        let mut values = self.values.iter_mut();
        let entry = values.find(|(other, _)| *other == id);
        entry.expect("the register is listed").1 = value;
    }

    fn run(&self) -> Answer {
        call(self.interposer, self.descriptor, requests::RUN, 0)
    }
}

/// Loads a VM into this many vCPUs, each in its thread. Returns the answers to the first run.
fn load_in_threads(vcpus: usize, change: impl Fn(usize, &mut QemuVcpu<'_>) + Sync) -> Vec<Answer> {
    let interposer = start(FakeKernel::new(vcpus), policy(true));
    let barrier = Barrier::new(vcpus);
    let load = |number| {
        let mut vcpu = QemuVcpu::create(&interposer, number);
        barrier.wait();
        vcpu.set(RegisterId::PIR_EL1, INCOMING);
        change(number, &mut vcpu);
        let is_loaded = vcpu.write_all().is_none();
        barrier.wait();
        if is_loaded {
            let _ = vcpu.write_all();
        }
        barrier.wait();
        vcpu.run()
    };
    thread::scope(|scope| {
        let load = &load;
        let threads: Vec<_> = (0..vcpus)
            .map(|number| scope.spawn(move || load(number)))
            .collect();
        let answers = threads.into_iter().map(thread::ScopedJoinHandle::join);
        answers.map(|answer| answer.expect("no panic")).collect()
    })
}

#[test]
fn eight_vcpus_load_at_once() {
    let answers = load_in_threads(8, |_, _| {});
    assert_eq!(answers, [Answer::Pass; 8]);
}

#[test]
fn no_vcpu_runs_if_one_is_refused() {
    let answers = load_in_threads(8, |number, vcpu| {
        if number == 5 {
            // The guest has PIR_EL1, and the host lacks it.
            vcpu.set(RegisterId::ID_AA64MMFR3_EL1, 0xf00);
        }
    });
    assert_eq!(answers, [Answer::End(REFUSED); 8]);
}

#[test]
fn a_vm_with_512_vcpus_loads() {
    const VCPUS: usize = 512;
    let interposer = start(FakeKernel::new(VCPUS), policy(true));
    let kept = [
        RegisterId::PIR_EL1,
        RegisterId::SCTLR_EL1,
        RegisterId::ID_AA64MMFR3_EL1,
    ];
    let create = |number| {
        let mut vcpu = QemuVcpu::create_with(&interposer, number, |id| kept.contains(&id));
        vcpu.set(RegisterId::PIR_EL1, INCOMING);
        vcpu
    };
    let vcpus: Vec<_> = (0..VCPUS).map(create).collect();
    for _ in 0..2 {
        for vcpu in &vcpus {
            assert_eq!(vcpu.write_all(), None);
        }
    }
    for vcpu in &vcpus {
        assert_eq!(vcpu.run(), Answer::Pass);
    }
}

#[test]
fn a_failed_write_is_repeated_and_loads() {
    let interposer = interposer(true);
    let mut vcpu = QemuVcpu::create(&interposer, 0);
    vcpu.set(RegisterId::PIR_EL1, INCOMING);
    vcpu.set(RegisterId::SCTLR_EL1, 0x30d0_0980);
    interposer
        .calls
        .set_fault(Fault::Errno(requests::SET_ONE_REG, libc::EIO));
    assert_eq!(vcpu.write_all(), Some(Answer::Failure(libc::EIO)));
    assert_eq!(vcpu.write_all(), None);
    assert_eq!(vcpu.write_all(), None);
    assert_eq!(vcpu.run(), Answer::Pass);
    let mut bytes = [0; 8];
    let vcpu = &interposer.calls.vm.vcpus()[0];
    vcpu.get(RegisterId::SCTLR_EL1, &mut bytes)
        .expect("a value");
    assert_eq!(u64::from_le_bytes(bytes), 0x30d0_0980);
}

#[test]
fn a_failed_list_or_initialisation_changes_nothing() {
    let interposer = interposer(true);
    let mut words = vec![1024; 1025];
    for request in [requests::GET_REG_LIST, requests::ARM_VCPU_INIT] {
        interposer
            .calls
            .set_fault(Fault::Errno(request, libc::ENOMEM));
        let address = words.as_mut_ptr().expose_provenance();
        let answer = call(&interposer, FIRST_VCPU, request, address);
        assert_eq!(answer, Answer::Failure(libc::ENOMEM));
    }
    assert_eq!(words[0], 1024);
    assert_eq!(QemuVcpu::create(&interposer, 0).run(), Answer::Pass);
}

#[test]
fn no_vcpu_runs_after_a_panic() {
    let interposer = interposer(true);
    let mut vcpu = QemuVcpu::create(&interposer, 0);
    vcpu.set(RegisterId::SCTLR_EL1, 0x30d0_0980);
    interposer
        .calls
        .set_fault(Fault::Panic(requests::SET_ONE_REG));
    let written = catch_unwind(AssertUnwindSafe(|| vcpu.write_all()));
    assert!(written.is_err());
    assert_eq!(vcpu.run(), Answer::End(INTERNAL_ERROR));
}

#[test]
fn a_duplicate_is_the_same_vcpu() {
    let mut kernel = FakeKernel::new(2);
    kernel.links = Some(BTreeMap::from([(DUPLICATE, "anon_inode:kvm-vcpu:1")]));
    let interposer = start(kernel, policy(true));
    let original = QemuVcpu::create(&interposer, 1);
    let mut duplicate = QemuVcpu {
        descriptor: DUPLICATE,
        values: original.values.clone(),
        ..original
    };
    duplicate.set(RegisterId::PIR_EL1, INCOMING);
    assert_eq!(duplicate.write_all(), None);
    let read = |descriptor| {
        let mut value = 0;
        let get = requests::GET_ONE_REG;
        register_of(
            &interposer,
            descriptor,
            get,
            RegisterId::PIR_EL1,
            &mut value,
        );
        value
    };
    assert_eq!(read(descriptor(1)), INCOMING);
    // The duplicate stays after the original is closed.
    interposer.close(descriptor(1));
    assert_eq!(read(DUPLICATE), INCOMING);
    // A new vCPU reuses the number of the closed descriptor.
    let created = call(&interposer, VM, requests::CREATE_VCPU, 1);
    assert_eq!(created, Answer::Success(descriptor(1)));
    assert_eq!(read(descriptor(1)), INCOMING);
}

#[test]
fn a_vcpu_of_an_unknown_vm_does_not_run() {
    let run = |links, policy| {
        let mut kernel = FakeKernel::new(1);
        kernel.links = links;
        let interposer = start(kernel, policy);
        call(&interposer, DUPLICATE, requests::RUN, 0)
    };
    let links = |link| Some(BTreeMap::from([(DUPLICATE, link)]));
    let unknown = Answer::End(UNKNOWN_VCPU);
    assert_eq!(run(links("anon_inode:kvm-vcpu:7"), policy(true)), unknown);
    assert_eq!(run(None, policy(true)), unknown);
    assert_eq!(run(links("/dev/null"), policy(true)), Answer::Pass);
    assert_eq!(run(None, policy(false)), Answer::Pass);
}

/// QEMU's trial VM asks for no PSCI, and a guest for PSCI 0.2.
#[test]
fn a_refused_setting_ends_the_start_of_a_guest_only() {
    let setting = cpreg::plan::SetConsent {
        register: RegisterId::PSCI_VERSION,
        mask: u64::MAX,
        value: 0x1_0009,
    };
    let policy = Policy {
        born_with: vec![setting],
        ..policy(false)
    };
    let interposer = start(FakeKernel::new(1), policy);
    let initialize = |features: u32| {
        let mut argument = [u32::MAX, features, 0, 0, 0, 0, 0, 0];
        let address = argument.as_mut_ptr().expose_provenance();
        call(&interposer, FIRST_VCPU, requests::ARM_VCPU_INIT, address)
    };
    assert_eq!(initialize(0b1000), Answer::Success(0));
    let run = call(&interposer, FIRST_VCPU, requests::RUN, 0);
    assert_eq!(run, Answer::End(REFUSED));
    assert_eq!(initialize(0b1100), Answer::End(REFUSED_SETTINGS));
}

#[test]
fn a_process_has_an_interposer_from_its_first_vm_to_a_fork() {
    static PROCESS: Process<FakeKernel> = Process::new();
    assert!(PROCESS.for_request(requests::CREATE_VM).is_none());
    PROCESS.set_policy(policy(true));
    assert!(PROCESS.for_request(requests::RUN).is_none());
    assert!(PROCESS.current().is_none());
    let first = PROCESS
        .for_request(requests::CREATE_VM)
        .expect("an interposer");
    let same = PROCESS.for_request(requests::RUN).expect("an interposer");
    assert!(std::ptr::eq(first, same));
    // The child knows nothing of the parent's VM, and may make its own.
    PROCESS.forget();
    assert!(PROCESS.for_request(requests::RUN).is_none());
    let own = PROCESS
        .for_request(requests::CREATE_VM)
        .expect("an interposer");
    assert!(!std::ptr::eq(first, own));
}
