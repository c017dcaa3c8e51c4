//! Time of planning for one recorded vCPU, in this process.
//!
//! The baseline is the minimum work of any planner: iterate over the registers of both sides in
//! order, and compare them.

use std::cmp::Ordering;
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use cpreg::destination::{Accelerator, Destination, DestinationVcpu, Loader, ValueOrigin};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, Plan, PlanOutcome};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};
use cpreg_stream::Stream;

use crate::inputs::RUNS;
use e2e_framework::Result;
use e2e_framework::paths::repository;

/// Number of plans between two readings of the clock.
const PLANS_PER_READING: u32 = 200;

/// Cost of one plan.
pub(crate) struct PlanCost {
    /// VM and destination.
    pub(crate) case: String,
    /// Number of registers of the vCPU.
    pub(crate) registers: usize,
    pub(crate) plan: Duration,
    pub(crate) baseline: Duration,
    /// Number of memory allocations of one plan.
    pub(crate) allocations: u64,
}

/// Measures a VM that converts, one that returns to its own host, and two whose plans take several
/// rounds: planning repeats a plan that is not ready, with every adjustment that could help.
pub(crate) fn run(source: &[u8], destination: &[u8]) -> Result<Vec<PlanCost>> {
    let first_vcpu = |stream: &[u8]| -> Result<Vcpu> {
        let mut vcpus = Stream::open(&stream)?.vm()?.vcpus.into_iter();
        Ok(vcpus.next().ok_or("the stream has no vCPU")?)
    };
    let (old, new) = (
        recorded_host("6.12.107-max-all")?,
        recorded_host("7.3.4-max-all")?,
    );
    Ok(vec![
        measure_case(
            "plan: Linux 6.12 to 6.16",
            first_vcpu(source)?,
            &first_vcpu(destination)?,
            ValueOrigin::Guest,
        ),
        measure_case(
            "plan: Linux 6.12 to itself, all features",
            old.clone(),
            &old,
            ValueOrigin::Reset,
        ),
        measure_case(
            "plan: Linux 6.12 to 7.3, all features",
            old.clone(),
            &new,
            ValueOrigin::Reset,
        ),
        measure_case(
            "plan: Linux 7.3 to 6.12, all features",
            new,
            &old,
            ValueOrigin::Reset,
        ),
    ])
}

fn measure_case(
    name: &str,
    vcpu: Vcpu,
    destination_vcpu: &Vcpu,
    value_origin: ValueOrigin,
) -> PlanCost {
    let vm = Vm {
        vcpus: vec![vcpu],
        ..Vm::default()
    };
    let destination = Destination {
        name: String::new(),
        accelerator: Some(Accelerator::Kvm),
        value_origin,
        vcpus: vec![DestinationVcpu::from_vcpu(destination_vcpu)],
        loader: Some(Loader::qemu(10, 0)),
        kernel_version: None,
        hardware: HardwareFacts::UNKNOWN,
        shape: None,
    };
    let tolerances = Tolerances::default();
    let consents = Consents::default();
    let plan = || Plan::new(black_box(&vm), &destination, &tolerances, &consents);
    PlanCost {
        case: format!(
            "{name}, {}",
            match plan().outcome() {
                PlanOutcome::Ready => "ready",
                PlanOutcome::Refused => "refused",
                PlanOutcome::Unknown => "unknown",
            }
        ),
        registers: vm.vcpus[0].registers.len(),
        allocations: allocation_counter::measure(|| drop(plan())).count_total,
        plan: median_time(|| drop(black_box(plan()))),
        baseline: median_time(|| {
            black_box(count_differences(
                black_box(&vm.vcpus[0]),
                &destination.vcpus[0],
            ));
        }),
    }
}

fn median_time(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            (0..PLANS_PER_READING).for_each(|_| work());
            start.elapsed() / PLANS_PER_READING
        })
        .collect();
    times.sort();
    times[RUNS / 2]
}

/// Returns the number of registers that differ.
fn count_differences(vcpu: &Vcpu, host: &DestinationVcpu) -> usize {
    let mut source_registers = vcpu.registers.iter().peekable();
    let mut destination_registers = host.registers().iter().peekable();
    let mut count = 0;
    loop {
        let order = match (source_registers.peek(), destination_registers.peek()) {
            (None, None) => return count,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((id, value)), Some(register)) => {
                let is_equal = *id == register.id && Some(*value) == register.value.as_ref();
                count += usize::from(*id == register.id && !is_equal);
                id.cmp(&register.id)
            }
        };
        count += usize::from(order != Ordering::Equal);
        if order.is_le() {
            source_registers.next();
        }
        if order.is_ge() {
            destination_registers.next();
        }
    }
}

/// Reads a recorded host.
///
/// Each line is `id size value`, from `KVM_GET_REG_LIST` and `KVM_GET_ONE_REG`.
fn recorded_host(name: &str) -> Result<Vcpu> {
    let path = repository().join(format!("tests/fixtures/hosts/{name}.txt"));
    let text = fs::read_to_string(&path)?;
    let mut pairs = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<_> = line.split(' ').collect();
        let &[id, size, value] = words.as_slice() else {
            return Err(format!("{}: `{line}`", path.display()).into());
        };
        let size: usize = size.parse()?;
        let digits = value.strip_prefix("0x").unwrap_or(value);
        let value = if size <= 8 {
            Value::U64(u64::from_str_radix(digits, 16)?)
        } else {
            let digits = format!("{digits:0>width$}", width = 2 * size);
            let pairs = digits.as_bytes().rchunks(2);
            let bytes = pairs.map(|pair| {
                let pair = std::str::from_utf8(pair)?;
                Ok(u8::from_str_radix(pair, 16)?)
            });
            Value::Bytes(bytes.collect::<Result<Vec<_>>>()?.into())
        };
        pairs.push((RegisterId::from_raw(u64::from_str_radix(id, 16)?), value));
    }
    let registers = Registers::from_pairs(pairs).map_err(|_| "a register is recorded twice")?;
    Ok(Vcpu {
        registers,
        ..Vcpu::default()
    })
}
