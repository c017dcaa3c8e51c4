//! [`Refusal`]: the registers that block the load of an incoming VM, with reasons and remedies.

use std::fmt;

use cpreg::errno::Errno;
use cpreg::plan::{Action, Decision, HardwareAction, PlanOutcome};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;

use crate::judgement::Judgement;

/// Refusal of an incoming VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Registers that block the load, ascending.
    pub registers: Vec<BlockingRegister>,
    /// Properties of the hosts that block the load, as text.
    pub hardware: Vec<String>,
}

/// Register that blocks the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockingRegister {
    /// Numbers of the vCPUs.
    pub vcpus: Vec<usize>,
    /// Id of the register.
    pub register: RegisterId,
    /// The VM's value.
    pub source: Option<Value>,
    /// The host's value, if the host has the register and the value is known.
    pub destination: Option<Value>,
    /// `true` if the host has the register.
    pub is_listed: bool,
    /// Reason, as text.
    pub reason: String,
    /// Remedy, as text.
    pub remedy: Option<String>,
}

impl Refusal {
    /// Returns the refusal by a plan that is not ready.
    pub(crate) fn from_plan(judgement: &Judgement, tolerances: &Tolerances) -> Self {
        let is_blocking =
            |decision: &Decision| matches!(decision.action, Action::Refuse | Action::Undecided);
        let registers = blocking_registers(judgement, tolerances, is_blocking);
        let hardware = judgement.plan.hardware.iter().filter(|decision| {
            matches!(
                decision.action,
                HardwareAction::Refuse | HardwareAction::Undecided
            )
        });
        Self {
            registers,
            hardware: hardware
                .map(|decision| format!("{}: {decision}", decision.fact.name()))
                .collect(),
        }
    }

    /// Adds the registers of a plan that block the load, whatever registers arrive later.
    pub(crate) fn add_final(&mut self, judgement: &Judgement, tolerances: &Tolerances) {
        let known: Vec<_> = self.registers.iter().map(|known| known.register).collect();
        let is_new = |decision: &Decision| {
            decision.is_final_refusal(tolerances) && !known.contains(&decision.register)
        };
        let new = blocking_registers(judgement, tolerances, is_new);
        self.registers.extend(new);
        self.registers.sort_by_key(|blocking| blocking.register);
    }

    /// Returns the refusal of a value that the plan loads and the kernel does not accept.
    pub(crate) fn from_kernel(
        number: usize,
        register: RegisterId,
        value: &Value,
        errno: Errno,
    ) -> Self {
        Self {
            registers: vec![BlockingRegister {
                vcpus: vec![number],
                register,
                source: Some(value.clone()),
                destination: None,
                is_listed: true,
                reason: cpreg_kvm::errno::describe_write_error(errno, register).to_owned(),
                remedy: None,
            }],
            hardware: Vec::new(),
        }
    }
}

/// Returns the registers of a plan whose decisions block the load, ascending.
fn blocking_registers(
    judgement: &Judgement,
    tolerances: &Tolerances,
    is_blocking: impl Fn(&Decision) -> bool,
) -> Vec<BlockingRegister> {
    let Judgement { numbers, plan, .. } = judgement;
    let decisions = plan.decisions().into_iter();
    let blocking = decisions.filter(|(_, decision)| is_blocking(decision));
    let registers = blocking.map(|(vcpus, decision)| BlockingRegister {
        vcpus: vcpus
            .iter()
            .filter_map(|index| numbers.get(index).copied())
            .collect(),
        register: decision.register,
        source: decision.source.clone(),
        destination: decision.destination.clone(),
        is_listed: decision.is_listed,
        reason: decision.reason.display(tolerances).to_string(),
        remedy: remedy(judgement, decision, tolerances),
    });
    registers.collect()
}

/// Returns the remedy for a decision: the consent that would unblock the load, or the remedy of the
/// decision.
fn remedy(judgement: &Judgement, decision: &Decision, tolerances: &Tolerances) -> Option<String> {
    let plan = &judgement.plan;
    let mut proposed = plan.proposed_adjustments.iter();
    let adjustment = proposed.find(|adjustment| adjustment.register == decision.register);
    match adjustment {
        Some(adjustment) if plan.outcome_with_proposed == PlanOutcome::Ready => Some(format!(
            "--accept {} loads {:#x} (severity {})",
            decision.register,
            adjustment.to,
            adjustment.severity.name()
        )),
        _ => decision.remedy(tolerances).map(|remedy| remedy.to_string()),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.registers.len() + self.hardware.len();
        let (noun, verb) = match count {
            1 => ("difference", "blocks"),
            _ => ("differences", "block"),
        };
        write!(f, "refused: {count} {noun} {verb} the load of the VM")?;
        for register in &self.registers {
            write!(f, "\n  {register}")?;
        }
        for text in &self.hardware {
            write!(f, "\n  {text}")?;
        }
        Ok(())
    }
}

impl fmt::Display for BlockingRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>, absent: &str| {
            value.as_ref().map_or_else(
                || absent.to_owned(),
                |value| display_value(self.register, value),
            )
        };
        let absent = if self.is_listed { "not known" } else { "none" };
        write!(
            f,
            "{} (vCPU {}): the VM has {}, this host has {}: {}",
            self.register,
            ranges(&self.vcpus),
            text(&self.source, "none"),
            text(&self.destination, absent),
            self.reason
        )?;
        match &self.remedy {
            Some(remedy) => write!(f, "; remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

/// Returns the value as text, without the guest's secrets.
fn display_value(id: RegisterId, value: &Value) -> String {
    if id.is_secret() {
        "(secret)".to_owned()
    } else {
        value.to_string()
    }
}

/// Formats ascending numbers as ranges: `0-3, 5`.
pub(crate) fn ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let texts = ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_both_values_and_hides_secrets() {
        let register = |register| BlockingRegister {
            vcpus: vec![0, 1, 2, 4],
            register,
            source: Some(Value::U64(0x1234)),
            destination: None,
            is_listed: false,
            reason: "a reason".to_owned(),
            remedy: Some("a remedy".to_owned()),
        };
        let refusal = Refusal {
            registers: vec![
                register(RegisterId::TCR2_EL1),
                register(RegisterId::APIAKEYLO_EL1),
            ],
            hardware: Vec::new(),
        };
        let text = refusal.to_string();
        let mut lines = text.lines().skip(1);
        assert_eq!(
            lines.next(),
            Some(
                "  TCR2_EL1 (vCPU 0-2, 4): the VM has 0x1234, this host has none: a reason; \
                 remedy: a remedy"
            )
        );
        assert!(lines.next().is_some_and(|line| !line.contains("1234")));
    }
}
