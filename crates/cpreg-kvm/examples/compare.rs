//! Compares this machine's KVM with a recorded host made from the machine's own record. The
//! differences show the accuracy of tests on a recorded host.
//!
//! - `record`: the record of the machine, and a record of the recorded host
//! - `write`: the same writes to a VM of each host, one after another, with the errno and the value
//!   read back. The program counts values separately that the recorded host refuses only because
//!   its record has no information.
//! - `load`: a saved VM, planned for the machine and loaded into a VM of each host, with the result
//!   and the values that the VM holds
//! - `time`: a load of 64 vCPUs, a plain loop of the same writes, and a plan; not a comparison
//!
//! Usage: `compare [WRITES [SEED [untimed]]]`. The program fails if it finds a difference.
#![expect(clippy::print_stdout, reason = "the example prints its result")]

mod common;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use common::{Random, ready_vm};
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
    let writes: usize = arguments.next().map_or(Ok(20_000), |word| word.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(1), |word| word.parse())?;
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
    let ordinary = record.guests.keys().copied().filter(|features| {
        let special = [Features::EL1_32BIT, Features::EL2, Features::MTE];
        !special.iter().any(|feature| features.contains(*feature))
    });
    if let Some(features) = ordinary.max_by_key(|features| features.len())
        && is_timed
    {
        measure(&kvm, features)?;
    }
    println!("{differences} differences");
    if differences > 0 {
        return Err("the recorded host differs from the machine".into());
    }
    Ok(())
}

/// Compares two records of one host, without the parts that depend on time. Returns the number of
/// differences.
fn compare_records(one: &HostRecord, other: &HostRecord) -> usize {
    let mut differences = 0;
    let mut compared = 0;
    for (features, guest) in &one.guests {
        let Some(other_guest) = other.guests.get(features) else {
            println!("record {features}: only the machine has it");
            differences += 1;
            continue;
        };
        let registers = guest.registers.len().max(other_guest.registers.len());
        compared += registers;
        for at in 0..registers {
            let (one, other) = (guest.registers.get(at), other_guest.registers.get(at));
            if one.map(RegisterRecord::without_time) != other.map(RegisterRecord::without_time) {
                println!("record {features}: {one:?} is {other:?}");
                differences += 1;
            }
        }
        if guest.writable != other_guest.writable {
            println!("record {features}: other masks");
            differences += 1;
        }
    }
    println!("record: {compared} registers, {differences} differences");
    differences
}

/// Writes random values to random registers of two VMs.
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
        let current = read(one, id);
        let value = random_value(random, id, current.as_ref().ok());
        let results = [write(one, id, &value), write(other, id, &value)];
        let read_back =
            [read(one, id), read(other, id)].map(|read| read.map(|value| without_time(id, value)));
        let is_counter = matches!(RegisterKind::from_id(id), RegisterKind::Counter);
        if results == [Ok(()), Err(Errno::EINVAL)] {
            *refused.entry(id).or_default() += 1;
            if let Ok(current) = &current {
                let _ = write(one, id, current);
            }
            continue;
        }
        if results[0] != results[1] || (read_back[0] != read_back[1] && !is_counter) {
            let (count, example) = tally.entry(id).or_default();
            *count += 1;
            if example.is_empty() {
                let [real, model] = results;
                *example =
                    format!("holds {current:x?}, {value}: {real:?} {model:?}, then {read_back:x?}");
            }
            // Make the states equal again, so that each difference is reported once.
            if let (Ok(value), false) = (&read_back[0], is_counter) {
                let _ = write(other, id, value);
            }
        }
    }
    for (id, (count, example)) in &tally {
        println!("write {features}: {id} {count} times: {example}");
    }
    println!(
        "write {features}: {writes} writes, {} registers differ; refused because the record has no information:",
        tally.len()
    );
    for (id, count) in refused {
        println!("    {id} {count} times");
    }
    Ok(tally.len())
}

/// Saves a VM with some written registers, and loads it into a VM of each host.
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
                let value = random_value(random, id, None);
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
    let (one_saved, other_saved) = (save(real.vcpus())?, save(model.vcpus())?);
    for (number, saved) in saved.vcpus.iter().enumerate() {
        for (id, value) in saved.registers.iter() {
            if RegisterKind::from_id(id) == RegisterKind::Counter {
                continue;
            }
            let get = |vm: &Saved| vm.vcpus.get(number)?.registers.get(id).cloned();
            let (one, other) = (get(&one_saved), get(&other_saved));
            let expected = without_time(id, value.clone());
            let is_as_saved = |loaded: &Option<Value>| {
                loaded.clone().map(|value| without_time(id, value)) == Some(expected.clone())
            };
            if !is_as_saved(&one) || !is_as_saved(&other) {
                println!("load {features}: vCPU {number} {id} was {value}, is {one:?}, {other:?}");
                differences += 1;
            }
        }
    }
    if let Ok(summary) = one {
        println!(
            "load {features}: {} written in {} calls, {differences} differences, {} mismatches",
            summary.written_registers,
            summary.calls,
            summary.mismatches.len()
        );
        for mismatch in summary.mismatches {
            println!("load {features}: mismatch: {mismatch}");
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

/// Measures a load, and a plain loop of the same writes.
fn measure(kvm: &Kvm, features: Features) -> AnyResult<()> {
    const VCPUS: usize = 64;
    const REPETITIONS: usize = 5;
    let saved = save(ready_vm(kvm, features, VCPUS)?.vcpus())?;
    let destination = probe::probe_destination(kvm, features, VCPUS, "this machine")?;
    let mut best = [u128::MAX; 3];
    let mut calls = (0, 0);
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        let plan = plan(&saved, &destination);
        best[0] = best[0].min(start.elapsed().as_micros());
        let vm = kvm.create_vm(features, VCPUS)?;
        let start = Instant::now();
        let summary = load(&plan, vm.vcpus())?;
        best[1] = best[1].min(start.elapsed().as_micros());
        calls = (summary.written_registers, summary.calls);
        let vm = ready_vm(kvm, features, VCPUS)?;
        let writes: Vec<_> = plan
            .vcpus
            .iter()
            .map(cpreg::plan::VcpuPlan::writes)
            .collect();
        let start = Instant::now();
        for (vcpu, writes) in vm.vcpus().iter().zip(&writes) {
            for (id, value) in writes {
                // KVM refuses the vector lengths, because SVE is finalized.
                let _ = write(vcpu, *id, value);
            }
        }
        best[2] = best[2].min(start.elapsed().as_micros());
    }
    let [planned, loaded, plain] = best;
    let plain_writes: usize = saved.vcpus.iter().map(|vcpu| vcpu.registers.len()).sum();
    println!(
        "time {features}: {VCPUS} vCPUs planned in {planned} us, loaded in {loaded} us ({} written, {} calls), a plain loop of {plain_writes} writes takes {plain} us",
        calls.0, calls.1
    );
    Ok(())
}

/// Returns a value of the register's width: random, or the current value with small changes.
fn random_value(random: &mut Random, id: RegisterId, current: Option<&Value>) -> Value {
    let size = id.size_bytes().unwrap_or(8);
    if size > 8 {
        return Value::Bytes((0..size).map(|_| random.next().to_le_bytes()[7]).collect());
    }
    let value = match (random.below(4), current.and_then(Value::as_u64)) {
        (0, Some(current)) => current ^ 1 << random.below(8 * size),
        (1, Some(current)) => current & random.next(),
        (2, Some(current)) => current,
        _ => random.next(),
    };
    Value::U64(if size < 8 {
        value & ((1 << (8 * size)) - 1)
    } else {
        value
    })
}
