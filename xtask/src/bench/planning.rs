//! How long a plan takes: one vCPU of a recorded host, in this process.
//!
//! The baseline is the least that any planner must do: to go through the registers of both sides, each in its order, and
//! compare them.

use std::cmp::Ordering;
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use cpreg::destination::{Accelerator, Destination, HostVcpu, Loader, ValuesAre};
use cpreg::plan::{Consents, Plan};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};

use super::RUNS;
use crate::{Result, repository};

/// How often a plan is made between two looks at the clock.
const PLANS: u32 = 200;

/// What making one plan takes.
pub(super) struct Planning {
    /// Which VM goes where.
    pub(super) case: String,
    /// Registers of the vCPU.
    pub(super) registers: usize,
    pub(super) plan: Duration,
    pub(super) baseline: Duration,
}

/// Measures all cases.
pub(super) fn run() -> Result<Vec<Planning>> {
    let mut rows = Vec::new();
    for (from, to) in [
        ("6.12.107-max-all", "6.12.107-max-all"),
        ("6.12.107-max-all", "7.3.4-max-all"),
        ("7.3.4-max-all", "6.12.107-max-all"),
    ] {
        let vm = Vm {
            vcpus: vec![recorded_host(from)?],
        };
        let destination = Destination {
            name: to.to_owned(),
            accelerator: Some(Accelerator::Kvm),
            values: ValuesAre::AtReset,
            vcpus: vec![HostVcpu::of(&recorded_host(to)?)],
            loader: Some(Loader::qemu(10, 0)),
            shape: None,
        };
        let tolerances = Tolerances::default();
        let consents = Consents::default();
        let kernel = |name: &str| name.split('-').next().unwrap_or_default().to_owned();
        rows.push(Planning {
            case: format!("plan: Linux {} to {}", kernel(from), kernel(to)),
            registers: vm.vcpus[0].registers.len(),
            plan: middle(|| {
                black_box(Plan::new(
                    black_box(&vm),
                    &destination,
                    &tolerances,
                    &consents,
                ));
            }),
            baseline: middle(|| {
                black_box(differences(black_box(&vm.vcpus[0]), &destination.vcpus[0]));
            }),
        });
    }
    Ok(rows)
}

fn middle(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            (0..PLANS).for_each(|_| work());
            start.elapsed() / PLANS
        })
        .collect();
    times.sort();
    times[RUNS / 2]
}

/// In how many registers the two differ.
fn differences(vcpu: &Vcpu, host: &HostVcpu) -> usize {
    let mut ours = vcpu.registers.iter().peekable();
    let mut theirs = host.registers().iter().peekable();
    let mut count = 0;
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (None, None) => return count,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((id, value)), Some(register)) => {
                let equal = *id == register.id && Some(*value) == register.value.as_ref();
                count += usize::from(*id == register.id && !equal);
                id.cmp(&register.id)
            }
        };
        count += usize::from(order != Ordering::Equal);
        if order.is_le() {
            ours.next();
        }
        if order.is_ge() {
            theirs.next();
        }
    }
}

/// `id size value` a line, as `KVM_GET_REG_LIST` and `KVM_GET_ONE_REG` gave them.
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
            Value::Small(u64::from_str_radix(digits, 16)?)
        } else {
            let digits = format!("{digits:0>width$}", width = 2 * size);
            let pairs = digits.as_bytes().rchunks(2);
            let bytes = pairs.map(|pair| {
                let pair = std::str::from_utf8(pair)?;
                Ok(u8::from_str_radix(pair, 16)?)
            });
            Value::Wide(bytes.collect::<Result<_>>()?)
        };
        pairs.push((RegisterId::from_raw(u64::from_str_radix(id, 16)?), value));
    }
    let registers = Registers::from_pairs(pairs).map_err(|_| "a register is recorded twice")?;
    Ok(Vcpu {
        registers,
        extensions: Vec::new(),
    })
}
