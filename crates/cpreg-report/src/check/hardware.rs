//! Texts about properties of the hosts that no register list holds.

use cpreg::gic::GicLimits;
use cpreg::hardware::{HardwareFact, HardwareFacts, VectorLengths};
use cpreg::plan::{HardwareAction, HardwareDecision, TagBlock, ZeroingBlock};

use crate::command::{Step, TypedCommand};

/// Name of a new record of the destination in commands.
pub(super) const RECORD: &str = "destination.json";
/// Advice on a difference that no conversion resolves.
const KEEP_HARDWARE_ADVICE: &str =
    "choose a destination with the source's value, or shut the guest down and start it there";
/// Advice on a GIC that KVM refuses.
const GIC_ADVICE: &str = "choose a destination whose GIC has at least these PRIbits and IDbits, and \
                          the same SEIS and A3V; or shut the guest down and start it there";
/// Advice that gives the properties of the VM's own host.
const SOURCE_ADVICE: &str = "--from HOST names the source's host: a recorded host, its file, or a \
                             profile";
/// Advice that gives the properties of the destination.
const DESTINATION_ADVICE: &str = "`cpreg probe kvm -o FILE` on the destination records them; FILE \
                                  is then the destination";

/// Returns the value of a property in words.
pub(crate) fn describe_value(fact: HardwareFact, value: Option<u64>) -> String {
    let Some(value) = value else {
        return "not known".to_owned();
    };
    match fact {
        HardwareFact::CounterFrequency => format!("{value} Hz"),
        HardwareFact::VectorLengths => describe_lengths(value),
        HardwareFact::ZeroingBlock => ZeroingBlock(value).to_string(),
        HardwareFact::GicLimits => GicLimits::from_icc_ctlr(value).to_string(),
        HardwareFact::TagBlock => TagBlock(value).to_string(),
        _ => format!("{value:#x}"),
    }
}

/// Returns the vector lengths in words, such as `128, 256, 512 bits`.
fn describe_lengths(bits: u64) -> String {
    let Ok(bits) = u16::try_from(bits) else {
        return format!("{bits:#x}");
    };
    let lengths = VectorLengths::from_bits(bits);
    // All lengths up to a maximum.
    if bits.count_ones() > 2
        && bits & bits.wrapping_add(1) == 0
        && let Some(max) = lengths.max_bits()
    {
        return format!("128, 256, … {max} bits");
    }
    let numbers = (0..u16::BITS).filter(|bit| bits >> bit & 1 == 1);
    let numbers: Vec<_> = numbers.map(|bit| ((bit + 1) * 128).to_string()).collect();
    format!("{} bits", numbers.join(", "))
}

/// Returns the known properties, each with its value in words.
pub(crate) fn describe_facts(facts: HardwareFacts) -> Vec<String> {
    let all = HardwareFact::ALL.into_iter();
    let known = all.filter_map(|fact| Some((fact, facts.get(fact)?)));
    known
        .map(|(fact, value)| format!("{} {}", fact.name(), describe_value(fact, Some(value))))
        .collect()
}

/// Returns the names of these properties without their registers, each once, with commas between
/// them.
pub(super) fn names<'a>(decisions: impl IntoIterator<Item = &'a HardwareDecision>) -> String {
    let mut names: Vec<_> = decisions
        .into_iter()
        .map(|decision| decision.fact.short_name())
        .collect();
    names.dedup();
    names.join(", ")
}

/// Returns the advice on a decision; `None` if there is nothing to do.
pub(crate) fn advice(decision: &HardwareDecision) -> Option<String> {
    match decision.action {
        HardwareAction::Refuse if decision.fact == HardwareFact::GicLimits => {
            Some(GIC_ADVICE.to_owned())
        }
        HardwareAction::Refuse => Some(KEEP_HARDWARE_ADVICE.to_owned()),
        HardwareAction::Undecided | HardwareAction::Assume => {
            let sides = [
                decision.lacks_source().then_some(SOURCE_ADVICE),
                decision.lacks_destination().then_some(DESTINATION_ADVICE),
            ];
            let sides: Vec<_> = sides.into_iter().flatten().collect();
            (!sides.is_empty()).then(|| sides.join("; "))
        }
        _ => None,
    }
}

/// Returns the steps that give the properties on which a verdict depends.
pub(super) fn steps(undecided: &[&HardwareDecision], command: &TypedCommand) -> Vec<Step> {
    let lacking = |lacks: fn(&HardwareDecision) -> bool| {
        names(undecided.iter().copied().filter(|decision| lacks(decision)))
    };
    let mut steps = Vec::new();
    let source_properties = lacking(HardwareDecision::lacks_source);
    if !source_properties.is_empty() {
        steps.push(Step::new(
            format!(
                "name the host that the VM ran on, for its {source_properties}: HOST is a \
                 recorded host (`cpreg hosts`), a file of `cpreg probe kvm`, or a profile"
            ),
            [command.with_options(&["--from", "HOST"].map(str::to_owned))],
        ));
    }
    let destination_properties = lacking(HardwareDecision::lacks_destination);
    if !destination_properties.is_empty() {
        steps.push(Step::new(
            format!("record the destination, for its {destination_properties}, and check again"),
            [
                format!("cpreg probe kvm -o {RECORD}"),
                command.check(&command.source, RECORD),
            ],
        ));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units() {
        let lengths = |bits| describe_value(HardwareFact::VectorLengths, Some(bits));
        assert_eq!(lengths(1), "128 bits");
        assert_eq!(lengths(3), "128, 256 bits");
        assert_eq!(lengths(0b1011), "128, 256, 512 bits");
        assert_eq!(lengths(0xffff), "128, 256, … 2048 bits");
        assert_eq!(lengths(0xf), "128, 256, … 512 bits");
        assert_eq!(
            describe_value(HardwareFact::CounterFrequency, Some(24_000_000)),
            "24000000 Hz"
        );
        assert_eq!(
            describe_value(HardwareFact::ZeroingBlock, Some(4)),
            "64 bytes"
        );
        assert_eq!(
            describe_value(HardwareFact::ZeroingBlock, Some(0x14)),
            "64 bytes (prohibited)"
        );
        assert_eq!(
            describe_value(HardwareFact::ZeroingBlock, None),
            "not known"
        );
        assert_eq!(describe_value(HardwareFact::TagBlock, Some(6)), "256 bytes");
        assert_eq!(
            describe_value(HardwareFact::PmuEvents0, Some(0x7fff_0f1f)),
            "0x7fff0f1f"
        );
        assert_eq!(
            describe_value(HardwareFact::GicLimits, Some(0x8c00)),
            "0x8c00 (PRIbits 4, IDbits 1, SEIS 0, A3V 1)"
        );
    }
}
