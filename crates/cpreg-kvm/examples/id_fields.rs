//! Compares cpreg's predictions about ID registers with this machine's KVM.
//!
//! The predictions are those of the machine's record in the checked-in history, for each recorded
//! set of vCPU features. The program writes to every ID register and CTR_EL0:
//!
//! - the edges of each field, one field at a time: 0, 1, the recorded value and the highest
//!   accepted one with their neighbours, the greatest value, and the greatest and least signed
//!   values
//! - random combinations of several fields
//!
//! A prediction is right if KVM takes or refuses the value as predicted, and a taken value reads
//! back as predicted. "Not known" counts as wrong.
//!
//! Usage: `id_fields [COMBINATIONS [SEED]]`, with the number of combinations for each set of
//! features. The program fails if a prediction is wrong.
#![expect(clippy::print_stdout, reason = "the example prints its result")]

mod common;

use std::collections::BTreeSet;
use std::error::Error;

use common::{Random, ready_vm};
use cpreg::destination::accept::{Acceptance, Acceptor};
use cpreg::destination::kernel::RegisterKind;
use cpreg::destination::{
    Accelerator, AcceptedField, AcceptedValues, DestinationRegister, DestinationVcpu, Features,
    ValueOrigin,
};
use cpreg::register::{Field, RegisterId, Value};
use cpreg_hosts::HostIndex;
use cpreg_kvm::value::{read, write};
use cpreg_kvm::{Host, Kvm, Vm};

type AnyResult<T> = Result<T, Box<dyn Error>>;

/// Maximum number of wrong predictions printed.
const MAX_PRINTED: usize = 20;

fn main() -> AnyResult<()> {
    let mut arguments = std::env::args().skip(1);
    let combinations: usize = arguments.next().map_or(Ok(2_000), |word| word.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(1), |word| word.parse())?;
    let kvm = Kvm::open()?;
    let name = kvm.identity().name();
    let history = HostIndex::built_in()?;
    let record = history.resolve(&name)?.host.record();
    let mut total = Tally::default();
    for (features, guest) in &record.guests {
        let vcpu = guest.to_destination_vcpu();
        let mut comparison = Comparison::new(&kvm, *features, &vcpu)?;
        comparison.try_edges()?;
        let edges = comparison.tally.writes;
        comparison.try_combinations(combinations, &mut Random(seed))?;
        let tally = comparison.tally;
        println!(
            "{name}/{features}: {edges} edges, {} combinations: {} taken, {} refused, {} wrong, {} not known",
            tally.writes - edges,
            tally.taken,
            tally.writes - tally.taken,
            tally.wrong,
            tally.unknown
        );
        total.add(&tally);
    }
    println!(
        "{name}: {} writes, {} wrong, {} not known",
        total.writes, total.wrong, total.unknown
    );
    if total.wrong + total.unknown > 0 || total.writes == 0 {
        return Err("a prediction differs from KVM".into());
    }
    Ok(())
}

/// Counts of writes and of their predictions.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    writes: usize,
    taken: usize,
    wrong: usize,
    unknown: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.taken += other.taken;
        self.wrong += other.wrong;
        self.unknown += other.unknown;
    }
}

/// Comparison of one guest of the host with its record.
struct Comparison<'a> {
    kvm: &'a Kvm,
    features: Features,
    destination: &'a DestinationVcpu,
    vm: <Kvm as Host>::Vm,
    tally: Tally,
}

impl<'a> Comparison<'a> {
    fn new(kvm: &'a Kvm, features: Features, destination: &'a DestinationVcpu) -> AnyResult<Self> {
        Ok(Self {
            kvm,
            features,
            destination,
            vm: ready_vm(kvm, features, 1)?,
            tally: Tally::default(),
        })
    }

    /// Returns the ID registers with their recorded values.
    fn registers(&self) -> Vec<(&'a DestinationRegister, u64)> {
        let registers = self.destination.registers().iter();
        let registers = registers.filter(|register| {
            matches!(
                RegisterKind::from_id(register.id),
                RegisterKind::Identification | RegisterKind::CacheType
            )
        });
        registers
            .filter_map(|register| Some((register, register.value.as_ref()?.as_u64()?)))
            .collect()
    }

    fn try_edges(&mut self) -> AnyResult<()> {
        for (register, own) in self.registers() {
            for field in all_fields(register.id) {
                for value in edges(field, own, accepted_field(register, field)) {
                    let value = field.insert(own, value).ok_or("an edge fits its field")?;
                    self.try_value(register, own, value)?;
                }
            }
        }
        Ok(())
    }

    /// Tries random values of some fields of one register, about half of them accepted ones.
    fn try_combinations(&mut self, count: usize, random: &mut Random) -> AnyResult<()> {
        let registers = self.registers();
        let mut tried = 0;
        while tried < count {
            let Some((register, own)) = registers.get(random.below(registers.len())).copied()
            else {
                return Ok(());
            };
            let fields = all_fields(register.id);
            // All changes of most combinations are accepted ones, since one refusal decides.
            let takes_only_accepted = random.below(3) > 0;
            let mut value = own;
            for _ in 0..=random.below(fields.len()) {
                let Some(field) = fields.get(random.below(fields.len())) else {
                    continue;
                };
                let accepted = accepted_field(register, *field).map_or(0, all_accepted);
                let random_value = random.next() & (u64::MAX >> (64 - field.width()));
                let is_accepted = field.width() <= 6 && accepted >> random_value & 1 == 1;
                if is_accepted || !takes_only_accepted {
                    value = field.insert(value, random_value).unwrap_or(value);
                }
            }
            // A register that accepts no change has no accepted combination.
            if value != own {
                tried += 1;
                self.try_value(register, own, value)?;
            }
        }
        Ok(())
    }

    /// Writes a value and compares the result with the prediction.
    fn try_value(&mut self, register: &DestinationRegister, own: u64, value: u64) -> AnyResult<()> {
        let id = register.id;
        let acceptor = Acceptor {
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            kernel_version: None,
            value_origin: Some(ValueOrigin::Reset),
        };
        let predicted = acceptor.evaluate(self.destination, register, &Value::U64(value));
        let predicted_read = register.replaced_value(value).unwrap_or(value);
        let vcpu = self.vm.vcpus().first().ok_or("no vCPU")?;
        let written = write(vcpu, id, &Value::U64(value));
        let after = read(vcpu, id);
        self.tally.writes += 1;
        self.tally.taken += usize::from(written.is_ok());
        let is_right = match predicted {
            Acceptance::Taken(_) => {
                written.is_ok() && after.as_ref().ok() == Some(&Value::U64(predicted_read))
            }
            Acceptance::Refused(_) => {
                written.is_err() && after.as_ref().ok() == Some(&Value::U64(own))
            }
            Acceptance::Unknown => false,
        };
        if !is_right {
            if self.tally.wrong + self.tally.unknown < MAX_PRINTED {
                println!(
                    "{}: {id} {own:#x} <- {value:#x}: predicted {predicted:?} reads {predicted_read:#x}, KVM {written:?} reads {after:x?}",
                    self.features
                );
            }
            if predicted == Acceptance::Unknown {
                self.tally.unknown += 1;
            } else {
                self.tally.wrong += 1;
            }
        }
        let is_restored = written.is_err() || write(vcpu, id, &Value::U64(own)).is_ok();
        if !is_restored || read(vcpu, id) != Ok(Value::U64(own)) {
            self.vm = ready_vm(self.kvm, self.features, 1)?;
        }
        Ok(())
    }
}

/// Returns the fields of a register by name, and the bits of no field one by one.
fn all_fields(id: RegisterId) -> Vec<Field> {
    let named = id.fields().iter().copied();
    let mut fields: Vec<_> = named.filter(|field| !field.is_alternative()).collect();
    let covered = fields.iter().fold(0, |mask, field| mask | field.mask());
    let free = (0..64).filter(|bit| covered >> bit & 1 == 0);
    fields.extend(free.filter_map(|bit| Field::bits(bit, bit)));
    fields
}

/// Returns the recorded values of a field, if the record has them.
fn accepted_field(register: &DestinationRegister, field: Field) -> Option<&AcceptedField> {
    let AcceptedValues::Fields(fields) = &register.accepted_values else {
        return None;
    };
    let mut fields = fields.fields().iter();
    fields.find(|accepted| (accepted.msb(), accepted.lsb()) == (field.msb(), field.lsb()))
}

/// Returns the set of values that a field accepts, kept or not.
fn all_accepted(field: &AcceptedField) -> u64 {
    let dropped = field.dropped().iter();
    dropped.fold(field.kept(), |all, group| all | group.values)
}

/// Returns the values of a field at which the prediction may change.
fn edges(field: Field, own: u64, accepted: Option<&AcceptedField>) -> BTreeSet<u64> {
    let max = u64::MAX >> (64 - field.width());
    let own = field.extract(own);
    let signed_max = max >> 1;
    let mut edges = BTreeSet::from([0, 1, max, signed_max, signed_max + 1, own]);
    edges.extend([own.wrapping_sub(1), own.wrapping_add(1)]);
    let accepted = accepted.map_or(0, all_accepted);
    for limit in [accepted, accepted & (u64::MAX >> (63 - signed_max.min(63)))] {
        if let Some(limit) = limit.checked_ilog2() {
            let limit = u64::from(limit);
            edges.extend([limit.wrapping_sub(1), limit, limit + 1]);
        }
    }
    edges.retain(|value| *value <= max);
    edges
}
