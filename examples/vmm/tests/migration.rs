//! Both ends of a migration on any machine: a mock guest, recorded hosts, and a line that fails at
//! every possible place.
//!
//! Invariants: the guest never runs on both sides. Unless the sender reports *unknown*, it runs on
//! exactly one. A guest that runs at the receiver is complete.

#![allow(
    clippy::cast_possible_truncation,
    reason = "all numbers here are small"
)]

mod faulty_transport;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::plan::Consents;
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Vm;
use cpreg_hosts::record::{
    AtReset, Capabilities, GuestRecord, HostRecord, Identity, RegisterRecord, WriteTrial,
};
use cpreg_kvm::recorded::{Fault, RecordedVm};
use cpreg_kvm::{Errno, Host, RecordedHost, Vm as _};
use cpreg_vmm::arrival::{LoadDecision, decide, load};
use cpreg_vmm::link::{Link, Transport};
use cpreg_vmm::migrate::{Failure, Refusal, Source, Target};
use cpreg_vmm::protocol::{DeviceState, PAGE, VcpuState, VmShape};
use cpreg_vmm::receive::{ReceiveOutcome, receive};
use cpreg_vmm::send::{SendOutcome, Step, send};

use self::faulty_transport::{BorrowedTransport, FaultyTransport, TransportFault};

const VCPUS: u16 = 2;
const PAGES: usize = 64;
const PSCI_1_1: u64 = 0x1_0001;
const PSCI_1_3: u64 = 0x1_0003;

/// Returns a host that knows PSCI up to this version.
fn host(psci: u64) -> RecordedHost {
    let register = |id, value| RegisterRecord {
        id,
        at_reset: AtReset::Value(Value::U64(value)),
        differs_by_vcpu: false,
        write_back: 0,
        trials: Vec::new(),
        fields: None,
    };
    let versions = [0x2, 0x1_0000, PSCI_1_1, 0x1_0002, PSCI_1_3];
    let versions = versions.into_iter().filter(|version| *version != psci);
    let trials = versions.map(|value| WriteTrial {
        value,
        errno: if value < psci { 0 } else { Errno::EINVAL.0 },
        read_back: value.min(psci),
    });
    let version = RegisterRecord {
        trials: trials.collect(),
        ..register(RegisterId::PSCI_VERSION, psci)
    };
    // A kernel that reports no writable masks may accept another value. Only a trial decides.
    let identification = RegisterRecord {
        trials: vec![WriteTrial {
            value: 0x12,
            errno: if psci == PSCI_1_3 { 0 } else { Errno::EINVAL.0 },
            read_back: if psci == PSCI_1_3 { 0x12 } else { 0x22 },
        }],
        ..register(RegisterId::ID_AA64ISAR0_EL1, 0x22)
    };
    let mut registers = vec![
        version,
        identification,
        register(RegisterId::TPIDR_EL1, 0),
        register(RegisterId::VBAR_EL1, 0),
    ];
    registers.extend((0..31).map(|number| register(RegisterId::x(number), 0)));
    registers.sort_by_key(|register| register.id);
    let guest = GuestRecord {
        registers,
        writable: None,
    };
    RecordedHost::new(HostRecord {
        identity: Identity::default(),
        capabilities: Capabilities::new(),
        guests: BTreeMap::from([(Features::NONE, guest)]),
        hardware: HardwareFacts::UNKNOWN,
    })
}

/// A mock guest. While it runs, it writes pages at every query.
struct MockSource {
    vm: RecordedVm,
    memory: Vec<[u8; PAGE]>,
    dirty_pages: Vec<u32>,
    turn: u8,
    is_running: bool,
    devices: DeviceState,
}

impl MockSource {
    fn new(host: &RecordedHost) -> Self {
        let vm = host
            .create_vm(Features::NONE, usize::from(VCPUS))
            .expect("recorded features");
        for (number, vcpu) in vm.vcpus().iter().enumerate() {
            let value = 0xdead_0000 + number as u64;
            let set = cpreg_kvm::Vcpu::set(vcpu, RegisterId::TPIDR_EL1, &value.to_le_bytes());
            set.expect("an accepted value");
        }
        let mut memory = vec![[0; PAGE]; PAGES];
        for (number, page) in memory.iter_mut().enumerate().step_by(2) {
            page.fill(number as u8);
        }
        Self {
            vm,
            memory,
            dirty_pages: Vec::new(),
            turn: 0,
            is_running: true,
            devices: DeviceState {
                gic: vec![(1, 8, 0x243b)],
                vcpus: vec![VcpuState::default(); usize::from(VCPUS)],
            },
        }
    }

    fn dirty_next_page(&mut self) {
        assert!(self.is_running);
        self.turn += 1;
        for number in [0, 3, usize::from(self.turn) % PAGES] {
            // Page 0 becomes zero again.
            self.memory[number].fill(if number == 0 { 0 } else { self.turn });
            self.dirty_pages.push(number as u32);
        }
    }
}

impl Source for MockSource {
    fn shape(&self) -> VmShape {
        VmShape {
            vcpus: VCPUS,
            features: Features::NONE,
            memory: (PAGES * PAGE) as u64,
        }
    }

    fn stop(&mut self) -> Result<(), Failure> {
        if self.is_running {
            self.dirty_next_page();
        }
        self.is_running = false;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Failure> {
        self.is_running = true;
        Ok(())
    }

    fn registers(&mut self) -> Result<Vm, Failure> {
        assert!(!self.is_running, "registers of a guest that runs");
        cpreg_kvm::save(self.vm.vcpus()).map_err(Failure::from)
    }

    fn devices(&mut self) -> Result<DeviceState, Failure> {
        assert!(!self.is_running, "devices of a guest that runs");
        Ok(self.devices.clone())
    }

    fn start_dirty_tracking(&mut self) -> Result<(), Failure> {
        self.dirty_pages.clear();
        Ok(())
    }

    fn stop_dirty_tracking(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn dirty_pages(&mut self) -> Result<Vec<u32>, Failure> {
        if self.is_running {
            self.dirty_next_page();
        }
        let mut written = std::mem::take(&mut self.dirty_pages);
        written.sort_unstable();
        written.dedup();
        Ok(written)
    }

    fn page(&self, number: u32, content: &mut [u8; PAGE]) -> Result<(), Failure> {
        *content = self.memory[number as usize];
        Ok(())
    }
}

/// A recorded host at which a guest arrives.
struct MockTarget {
    host: RecordedHost,
    /// Host of the real VM, which may fail where the throwaway VM did not.
    load_host: RecordedHost,
    consents: Consents,
    vm: Option<RecordedVm>,
    memory: Vec<[u8; PAGE]>,
    decision: Option<LoadDecision>,
    is_loaded: bool,
    can_run: bool,
    is_running: bool,
}

impl MockTarget {
    fn new(host: RecordedHost) -> Self {
        Self {
            load_host: host.clone(),
            host,
            consents: Consents::default(),
            vm: None,
            memory: Vec::new(),
            decision: None,
            is_loaded: false,
            can_run: true,
            is_running: false,
        }
    }
}

impl Target for MockTarget {
    fn create(&mut self, shape: &VmShape) -> Result<(), Refusal> {
        let vm = self
            .load_host
            .create_vm(shape.features, usize::from(shape.vcpus));
        self.vm = Some(vm.map_err(Failure::from)?);
        self.memory = vec![[0; PAGE]; (shape.memory / PAGE as u64) as usize];
        Ok(())
    }

    fn preflight(&mut self, vm: &Vm, _: &DeviceState) -> Result<Vec<String>, Refusal> {
        let decision = decide(&self.host, Features::NONE, vm, &self.consents)?;
        let notes = decision.notes.clone();
        self.decision = Some(decision);
        Ok(notes)
    }

    fn write(&mut self, number: u32, content: Option<&[u8; PAGE]>) -> Result<(), Failure> {
        let page = self.memory.get_mut(number as usize);
        let page = page.ok_or_else(|| Failure("no such page".into()))?;
        *page = *content.unwrap_or(&[0; PAGE]);
        Ok(())
    }

    fn load(&mut self, vm: &Vm, _: &DeviceState) -> Result<(), Refusal> {
        let target = self.vm.as_ref().expect("a created VM");
        let decision = self.decision.as_ref().expect("a preflight");
        load(decision, vm, &self.consents, target.vcpus())?;
        self.is_loaded = true;
        Ok(())
    }

    fn run(&mut self) -> Result<(), Failure> {
        assert!(self.is_loaded, "the VM is not loaded completely");
        if !self.can_run {
            return Err(Failure("no threads".into()));
        }
        self.is_running = true;
        Ok(())
    }
}

struct MigrationEnds {
    sent: SendOutcome,
    received: ReceiveOutcome,
    source: MockSource,
    target: MockTarget,
    /// Number of writes of each end.
    writes: [usize; 2],
}

/// Moves the guest, each end on a thread of its own.
fn migrate(
    source: MockSource,
    target: MockTarget,
    at_source: TransportFault,
    at_target: TransportFault,
) -> MigrationEnds {
    // Both ends wait in vain for lost bytes. Nothing else takes long, except on a busy machine.
    let causes_timeout =
        |fault| matches!(fault, TransportFault::Lose(_) | TransportFault::Damage(_));
    let timeout = if causes_timeout(at_source) || causes_timeout(at_target) {
        Duration::from_millis(300)
    } else {
        Duration::from_secs(60)
    };
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let sender = thread::spawn(move || {
        let mut source = source;
        let mut line = FaultyTransport::new(near, TransportFault::None);
        line.fault = at_source;
        match Link::open(BorrowedTransport(&mut line), 7, timeout) {
            Ok(mut link) => {
                let sent = send(&mut source, &mut link, |_| {});
                drop(link);
                (sent, source, line.writes)
            }
            Err(error) => (SendOutcome::Failed(error.into()), source, line.writes),
        }
    });
    let mut target = target;
    let mut line = FaultyTransport::new(far, at_target);
    let received = match Link::accept(BorrowedTransport(&mut line), timeout, timeout) {
        Ok(mut link) => receive(&mut target, &mut link),
        Err(error) => ReceiveOutcome::Failed(error.into()),
    };
    let writes = line.writes;
    drop(line);
    let (sent, source, sender_writes) = sender.join().expect("no panic");
    let end = MigrationEnds {
        sent,
        received,
        source,
        target,
        writes: [sender_writes, writes],
    };
    check(&end);
    end
}

/// Checks the invariants.
fn check(end: &MigrationEnds) {
    let (at_source, at_target) = (end.source.is_running, end.target.is_running);
    assert!(
        !(at_source && at_target),
        "the guest runs on both sides: {:?}",
        end.sent
    );
    match &end.sent {
        SendOutcome::Moved(_) => assert!(at_target),
        SendOutcome::Refused(_) | SendOutcome::Failed(_) => assert!(at_source, "{:?}", end.sent),
        SendOutcome::Lost(..) => panic!("{:?}", end.sent),
        SendOutcome::Unknown(_) => assert!(!at_source),
    }
    assert_eq!(at_target, end.received == ReceiveOutcome::Running);
    if at_target {
        assert!(end.target.is_loaded);
        assert!(end.target.memory == end.source.memory, "memory differs");
        let saved = |vm: &RecordedVm| cpreg_kvm::save(vm.vcpus()).expect("readable registers");
        let target = end.target.vm.as_ref().expect("a created VM");
        assert_eq!(saved(target), saved(&end.source.vm));
    }
}

#[test]
fn a_guest_moves_completely() {
    let (source, target) = (
        MockSource::new(&host(PSCI_1_3)),
        MockTarget::new(host(PSCI_1_3)),
    );
    let end = migrate(source, target, TransportFault::None, TransportFault::None);
    let SendOutcome::Moved(statistics) = end.sent else {
        panic!("{:?}", end.sent);
    };
    assert!(statistics.pages >= PAGES / 2 - 1, "{statistics:?}");
    assert!(statistics.final_pages > 0, "{statistics:?}");
}

#[test]
fn a_line_that_is_cut_anywhere_leaves_one_guest() {
    let run = |at_source, at_target| {
        let (source, target) = (
            MockSource::new(&host(PSCI_1_3)),
            MockTarget::new(host(PSCI_1_3)),
        );
        migrate(source, target, at_source, at_target)
    };
    let [source_writes, target_writes] = run(TransportFault::None, TransportFault::None).writes;
    assert!(source_writes > 10 && target_writes > 5);
    let mut unknown = 0;
    for number in 0..source_writes {
        let end = run(TransportFault::Cut(number), TransportFault::None);
        unknown += usize::from(matches!(end.sent, SendOutcome::Unknown(_)));
    }
    for number in 0..target_writes {
        let end = run(TransportFault::None, TransportFault::Cut(number));
        unknown += usize::from(matches!(end.sent, SendOutcome::Unknown(_)));
    }
    // The cut at `run`, and the one at `running`.
    assert_eq!(unknown, 2);
}

#[test]
fn lost_and_damaged_packets_leave_one_guest() {
    let run = |at_source, at_target| {
        let (source, target) = (
            MockSource::new(&host(PSCI_1_3)),
            MockTarget::new(host(PSCI_1_3)),
        );
        migrate(source, target, at_source, at_target)
    };
    let [source_writes, target_writes] = run(TransportFault::None, TransportFault::None).writes;
    for fault in [TransportFault::Lose, TransportFault::Damage] {
        thread::scope(|scope| {
            for number in 1..source_writes {
                scope.spawn(move || {
                    let end = run(fault(number), TransportFault::None);
                    assert!(!matches!(end.sent, SendOutcome::Moved(_)), "{number}");
                });
            }
            for number in 1..target_writes {
                scope.spawn(move || {
                    let end = run(TransportFault::None, fault(number));
                    assert!(!matches!(end.sent, SendOutcome::Moved(_)), "{number}");
                });
            }
        });
    }
}

#[test]
fn a_refusal_precedes_every_write() {
    let (source, target) = (
        MockSource::new(&host(PSCI_1_3)),
        MockTarget::new(host(PSCI_1_1)),
    );
    let end = migrate(source, target, TransportFault::None, TransportFault::None);
    let SendOutcome::Refused(reasons) = &end.sent else {
        panic!("{:?}", end.sent);
    };
    let reasons = reasons.join("\n");
    assert!(reasons.contains("PSCI_VERSION"), "{reasons}");
    assert!(reasons.contains("--accept"), "{reasons}");
    let target = end.target.vm.expect("a created VM");
    assert!(target.calls().writes.is_empty());
    assert!(end.target.memory.iter().flatten().all(|byte| *byte == 0));
}

#[test]
fn an_accepted_adjustment_unblocks_the_move() {
    let mut target = MockTarget::new(host(PSCI_1_1));
    target.consents.accept.push(RegisterId::PSCI_VERSION);
    let source = MockSource::new(&host(PSCI_1_3));
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let timeout = Duration::from_secs(60);
    let sender = thread::spawn(move || {
        let mut source = source;
        let line = FaultyTransport::new(near, TransportFault::None);
        let mut link = Link::open(line, 1, timeout).expect("an open link");
        let mut noticed = Vec::new();
        let sent = send(&mut source, &mut link, |step| {
            if let Step::Ready(notes) = step {
                noticed = notes.to_vec();
            }
        });
        (sent, noticed)
    });
    let line = FaultyTransport::new(far, TransportFault::None);
    let mut link = Link::accept(line, timeout, timeout).expect("an open link");
    assert_eq!(receive(&mut target, &mut link), ReceiveOutcome::Running);
    let (sent, noticed) = sender.join().expect("no panic");
    assert!(matches!(sent, SendOutcome::Moved(_)), "{sent:?}");
    assert!(noticed.join("\n").contains("PSCI_VERSION"), "{noticed:?}");
}

#[test]
fn values_known_only_to_the_kernel_are_tried() {
    let mut before = host(PSCI_1_1).record().clone();
    for register in &mut before
        .guests
        .get_mut(&Features::NONE)
        .expect("recorded features")
        .registers
    {
        if register.id == RegisterId::ID_AA64ISAR0_EL1 {
            register.at_reset = AtReset::Value(Value::U64(0x12));
            register.trials.clear();
        }
    }
    let before = RecordedHost::new(before);
    let (source, target) = (MockSource::new(&before), MockTarget::new(host(PSCI_1_3)));
    let end = migrate(source, target, TransportFault::None, TransportFault::None);
    assert!(matches!(end.sent, SendOutcome::Moved(_)), "{:?}", end.sent);
    // This host does not accept the value.
    let (source, target) = (MockSource::new(&before), MockTarget::new(host(PSCI_1_1)));
    let end = migrate(source, target, TransportFault::None, TransportFault::None);
    let SendOutcome::Refused(reasons) = &end.sent else {
        panic!("{:?}", end.sent);
    };
    let reasons = reasons.join("\n");
    assert!(reasons.contains("ID_AA64ISAR0_EL1"), "{reasons}");
    assert!(reasons.contains("does not accept"), "{reasons}");
}

#[test]
fn a_kernel_that_refuses_halfway_runs_nothing() {
    for fault in [
        Fault::Register(RegisterId::VBAR_EL1, Errno::EINVAL),
        Fault::Write(0, Errno::EBUSY),
        Fault::Write(40, Errno::EPERM),
    ] {
        // The throwaway VM accepts the write; the real VM does not.
        let mut target = MockTarget::new(host(PSCI_1_3));
        target.load_host = host(PSCI_1_3).with_fault(fault);
        let source = MockSource::new(&host(PSCI_1_3));
        let end = migrate(source, target, TransportFault::None, TransportFault::None);
        assert!(
            matches!(end.sent, SendOutcome::Refused(_)),
            "{:?}",
            end.sent
        );
        // The throwaway VM does not accept the write either.
        let target = MockTarget::new(host(PSCI_1_3).with_fault(fault));
        let source = MockSource::new(&host(PSCI_1_3));
        let end = migrate(source, target, TransportFault::None, TransportFault::None);
        assert!(
            matches!(end.sent, SendOutcome::Refused(_)),
            "{:?}",
            end.sent
        );
        assert!(end.target.memory.iter().flatten().all(|byte| *byte == 0));
    }
}

#[test]
fn a_receiver_that_cannot_run_the_guest_returns_it() {
    let mut target = MockTarget::new(host(PSCI_1_3));
    target.can_run = false;
    let source = MockSource::new(&host(PSCI_1_3));
    let end = migrate(source, target, TransportFault::None, TransportFault::None);
    assert!(matches!(end.sent, SendOutcome::Failed(_)), "{:?}", end.sent);
    assert!(end.source.is_running);
}

#[test]
fn garbage_before_a_session_is_skipped() {
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    let timeout = Duration::from_secs(60);
    let sender = thread::spawn(move || {
        let mut line = FaultyTransport::new(near, TransportFault::None);
        let mut garbage = b"cpvm\x01\x02".to_vec();
        garbage.extend((0..9000_u32).map(|number| ((number * number) >> 3) as u8));
        let deadline = Instant::now() + timeout;
        line.write(&garbage, deadline).expect("a write");
        let mut link = Link::open(line, 3, timeout).expect("an open link");
        link.send(&[5; 10_000]).expect("a sent message");
    });
    let line = FaultyTransport::new(far, TransportFault::None);
    let mut link = Link::accept(line, timeout, timeout).expect("an open link");
    assert_eq!(link.receive().expect("a message"), [5; 10_000]);
    sender.join().expect("no panic");
}
