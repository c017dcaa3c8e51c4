//! Compares the KVM of this machine with a recorded host made of its own record: for those who test a VMM on a recorded host and want to
//! know how far to trust it.
//!
//! | what is compared | |
//! |---|---|
//! | `record` | the record of the machine, and that of the recorded host |
//! | `write` | the same writes to a VM of each, one after another: what is answered, and what is read afterwards; what the recorded host refuses because its record does not tell is counted and no difference |
//! | `load` | a saved VM, planned for the machine, loaded into a VM of each: what is answered, and what the VM then holds |
//! | `time` | a load of 64 vCPUs, a bare loop of the same writes, and a plan; not a comparison of the two |
//!
//! `compare [WRITES [SEED [untimed]]]`. It fails if there is a difference.
#![expect(clippy::print_stdout, reason = "printing is all that it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use cpreg::destination::Features;
use cpreg::destination::kernel::{RegisterKind, time_dependent_bits};
use cpreg::plan::{Consents, Plan, PlanOutcome};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm as Saved;
use cpreg_hosts::record::{HostRecord, RegisterRecord};
use cpreg_kvm::recorded::RecordedHost;
use cpreg_kvm::value::{read, write};
use cpreg_kvm::{Errno, Host, Kvm, Vcpu, Vm, load, probe, save};

type AnyResult<T> = Result<T, Box<dyn Error>>;

fn main() -> AnyResult<()> {
    let mut arguments = std::env::args().skip(1);
    let writes: usize = arguments.next().map_or(Ok(20_000), |it| it.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(1), |it| it.parse())?;
    let is_timed = arguments.next().is_none_or(|word| word != "untimed");
    let kvm = Kvm::open()?;
    let record = probe(&kvm, |_| {})?;
    println!("{} on {}", record.identity.release, record.identity.cpu);
    let recorded = RecordedHost::new(record.clone());
    let mut differences = compare_records(&record, &probe(&recorded, |_| {})?);
    for features in record.guests.keys().copied() {
        let mut random = Random(seed);
        differences += compare_writes(&kvm, &recorded, features, writes, &mut random)?;
        differences += compare_loads(&kvm, &recorded, features, &mut random)?;
    }
    let most = record.guests.keys().copied().filter(|it| {
        let special = [Features::EL1_32BIT, Features::EL2, Features::MTE];
        !special.iter().any(|feature| it.contains(*feature))
    });
    if let Some(features) = most.max_by_key(|it| it.len())
        && is_timed
    {
        measure(&kvm, features)?;
    }
    println!("{differences} differences");
    if differences > 0 {
        return Err("the recorded host is not like the machine".into());
    }
    Ok(())
}

/// Differences of two records of one host, but for what depends on the moment.
fn compare_records(one: &HostRecord, other: &HostRecord) -> usize {
    let mut differences = 0;
    let mut compared = 0;
    for (features, guest) in &one.guests {
        let Some(again) = other.guests.get(features) else {
            println!("record {features}: only the machine has it");
            differences += 1;
            continue;
        };
        let registers = guest.registers.len().max(again.registers.len());
        compared += registers;
        for at in 0..registers {
            let (one, other) = (guest.registers.get(at), again.registers.get(at));
            if one.map(RegisterRecord::without_time) != other.map(RegisterRecord::without_time) {
                println!("record {features}: {one:?} is {other:?}");
                differences += 1;
            }
        }
        if guest.writable != again.writable {
            println!("record {features}: other masks");
            differences += 1;
        }
    }
    println!("record: {compared} registers, {differences} differences");
    differences
}

/// Writes whatever comes to mind to whichever register of two VMs.
fn compare_writes(
    kvm: &Kvm,
    recorded: &RecordedHost,
    features: Features,
    writes: usize,
    random: &mut Random,
) -> AnyResult<usize> {
    let (real, model) = (
        ready_vm(kvm, features, 2)?,
        ready_vm(recorded, features, 2)?,
    );
    let mut tally: BTreeMap<RegisterId, (usize, String)> = BTreeMap::new();
    let mut refused: BTreeMap<RegisterId, usize> = BTreeMap::new();
    let list = real.vcpus().first().ok_or("no vCPU")?.list()?;
    for _ in 0..writes {
        let vcpu = random.below(2);
        let (Some(one), Some(other)) = (real.vcpus().get(vcpu), model.vcpus().get(vcpu)) else {
            continue;
        };
        let Some(id) = list.get(random.below(list.len())).copied() else {
            continue;
        };
        let holds = read(one, id);
        let value = random.value(id, holds.as_ref().ok());
        let answers = [write(one, id, &value), write(other, id, &value)];
        let reads =
            [read(one, id), read(other, id)].map(|it| it.map(|value| without_time(id, value)));
        let is_time = matches!(RegisterKind::from_id(id), RegisterKind::Counter);
        if answers == [Ok(()), Err(Errno::EINVAL)] {
            *refused.entry(id).or_default() += 1;
            if let Ok(holds) = &holds {
                let _ = write(one, id, holds);
            }
            continue;
        }
        if answers[0] != answers[1] || (reads[0] != reads[1] && !is_time) {
            let (count, example) = tally.entry(id).or_default();
            *count += 1;
            if example.is_empty() {
                let [real, model] = answers;
                *example =
                    format!("holds {holds:x?}, {value}: {real:?} {model:?}, then {reads:x?}");
            }
            // So that each difference is told by itself.
            if let (Ok(now), false) = (&reads[0], is_time) {
                let _ = write(other, id, now);
            }
        }
    }
    for (id, (count, example)) in &tally {
        println!("write {features}: {id} {count} times: {example}");
    }
    println!(
        "write {features}: {writes} writes, {} registers differ; refused for want of knowledge:",
        tally.len()
    );
    for (id, count) in refused {
        println!("    {id} {count} times");
    }
    Ok(tally.len())
}

/// Saves a VM in which something was written, and loads it into a VM of each.
fn compare_loads(
    kvm: &Kvm,
    recorded: &RecordedHost,
    features: Features,
    random: &mut Random,
) -> AnyResult<usize> {
    let source = ready_vm(kvm, features, 2)?;
    for vcpu in source.vcpus() {
        for id in vcpu.list()? {
            if RegisterKind::from_id(id) == RegisterKind::Storage {
                let value = random.value(id, None);
                let _ = write(vcpu, id, &value);
            }
        }
    }
    let saved = save(source.vcpus())?;
    let destination = probe::probe_destination(kvm, features, 2, "this machine")?;
    let plan = plan(&saved, &destination);
    if plan.outcome() != PlanOutcome::Ready {
        println!(
            "load {features}: the plan for the same host is {:?}",
            plan.outcome()
        );
        return Ok(1);
    }
    let (real, model) = (
        kvm.create_vm(features, 2)?,
        recorded.create_vm(features, 2)?,
    );
    let (one, other) = (load(&plan, real.vcpus()), load(&plan, model.vcpus()));
    let mut differences = 0;
    if one != other {
        println!("load {features}: {one:?} is {other:?}");
        differences += 1;
    }
    if let Err(error) = &one {
        println!("load {features}: {error}");
        return Ok(differences + 1);
    }
    let (one_holds, other_holds) = (save(real.vcpus())?, save(model.vcpus())?);
    for (number, saved) in saved.vcpus.iter().enumerate() {
        for (id, value) in saved.registers.iter() {
            if RegisterKind::from_id(id) == RegisterKind::Counter {
                continue;
            }
            let of = |vm: &Saved| vm.vcpus.get(number)?.registers.get(id).cloned();
            let (one, other) = (of(&one_holds), of(&other_holds));
            let expected = without_time(id, value.clone());
            let is_as_saved = |held: &Option<Value>| {
                held.clone().map(|it| without_time(id, it)) == Some(expected.clone())
            };
            if !is_as_saved(&one) || !is_as_saved(&other) {
                println!("load {features}: vCPU {number} {id} was {value}, is {one:?}, {other:?}");
                differences += 1;
            }
        }
    }
    if let Ok(loaded) = one {
        println!(
            "load {features}: {} written in {} calls, {differences} differences, {} told",
            loaded.written_registers,
            loaded.calls,
            loaded.mismatches.len()
        );
        for difference in loaded.mismatches {
            println!("load {features}: told: {difference}");
        }
    }
    Ok(differences)
}

/// Returns a value without the bits that time changes.
fn without_time(id: RegisterId, value: Value) -> Value {
    match value {
        Value::U64(value) => Value::U64(value & !time_dependent_bits(id)),
        wide @ Value::Bytes(_) => wide,
    }
}

fn plan(saved: &Saved, destination: &cpreg::destination::Destination) -> Plan {
    let (tolerances, consents) = (Tolerances::default(), Consents::default());
    Plan::new(saved, destination, &tolerances, &consents)
}

/// How long a load takes, beside a bare loop of the same writes.
fn measure(kvm: &Kvm, features: Features) -> AnyResult<()> {
    const VCPUS: usize = 64;
    const TIMES: usize = 5;
    let saved = save(ready_vm(kvm, features, VCPUS)?.vcpus())?;
    let destination = probe::probe_destination(kvm, features, VCPUS, "this machine")?;
    let mut best = [u128::MAX; 3];
    let mut calls = (0, 0);
    for _ in 0..TIMES {
        let began = Instant::now();
        let plan = plan(&saved, &destination);
        best[0] = best[0].min(began.elapsed().as_micros());
        let vm = kvm.create_vm(features, VCPUS)?;
        let began = Instant::now();
        let loaded = load(&plan, vm.vcpus())?;
        best[1] = best[1].min(began.elapsed().as_micros());
        calls = (loaded.written_registers, loaded.calls);
        let vm = ready_vm(kvm, features, VCPUS)?;
        let writes: Vec<_> = plan
            .vcpus
            .iter()
            .map(cpreg::plan::VcpuPlan::writes)
            .collect();
        let began = Instant::now();
        for (vcpu, writes) in vm.vcpus().iter().zip(&writes) {
            for (id, value) in writes {
                // The vector lengths are refused: SVE is finalized.
                let _ = write(vcpu, *id, value);
            }
        }
        best[2] = best[2].min(began.elapsed().as_micros());
    }
    let [planned, loaded, bare] = best;
    let bare_writes: usize = saved.vcpus.iter().map(|vcpu| vcpu.registers.len()).sum();
    println!(
        "time {features}: {VCPUS} vCPUs planned in {planned} us, loaded in {loaded} us ({} written, {} calls), a bare loop of {bare_writes} writes takes {bare} us",
        calls.0, calls.1
    );
    Ok(())
}

/// A VM whose registers can all be read.
fn ready_vm<H: Host>(host: &H, features: Features, vcpus: usize) -> AnyResult<H::Vm> {
    let vm = host.create_vm(features, vcpus)?;
    if features.contains(Features::SVE) {
        for vcpu in vm.vcpus() {
            vcpu.finalize_sve()?;
        }
    }
    Ok(vm)
}

/// `xorshift64*`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % end.max(1)
    }

    /// A value that the register has room for: anything, or what it holds with little changed.
    fn value(&mut self, id: RegisterId, holds: Option<&Value>) -> Value {
        let size = id.size_bytes().unwrap_or(8);
        if size > 8 {
            return Value::Bytes((0..size).map(|_| self.next().to_le_bytes()[7]).collect());
        }
        let value = match (self.below(4), holds.and_then(Value::as_u64)) {
            (0, Some(holds)) => holds ^ 1 << self.below(8 * size),
            (1, Some(holds)) => holds & self.next(),
            (2, Some(holds)) => holds,
            _ => self.next(),
        };
        Value::U64(if size < 8 {
            value & ((1 << (8 * size)) - 1)
        } else {
            value
        })
    }
}
