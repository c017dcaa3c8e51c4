//! Remedies as commands and options of `cpreg` and QEMU, in a form that a user can type.

use std::borrow::Cow;

use cpreg::destination::loader::Program;
use cpreg::plan::{Decision, VisibleChange};
use cpreg::register::{RegisterId, Value};
use cpreg::remedy::Remedy;
use cpreg::tolerance::Tolerances;

use crate::value::id_digits;

/// Placeholder for a value that is not known, in all texts and in the text of a tolerance.
pub const VALUE_PLACEHOLDER: &str = "VALUE";

/// Program that runs the VM, for advice that names the program's own options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vmm {
    /// Not known: the advice names KVM's control, and QEMU's option as QEMU's.
    #[default]
    Unknown,
    /// QEMU.
    Qemu,
    /// Firecracker.
    Firecracker,
    /// Any other program that uses KVM: the advice names KVM's control only.
    Other,
}

impl Vmm {
    /// Returns the VMM that a loader belongs to.
    pub fn from_program(program: Program) -> Self {
        match program {
            Program::QEMU => Self::Qemu,
            Program::FIRECRACKER => Self::Firecracker,
            _ => Self::Other,
        }
    }
}

/// Facts that the text of an advice depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdviceContext {
    /// VMM that runs the VM.
    pub vmm: Vmm,
    /// Register that the advice is about.
    pub register: Option<RegisterId>,
    /// The destination's value of the register.
    pub destination_value: Option<u64>,
}

impl AdviceContext {
    /// Returns the context of an advice without a register.
    pub const fn new(vmm: Vmm) -> Self {
        Self {
            vmm,
            register: None,
            destination_value: None,
        }
    }

    /// Returns the destination's value as text, or the placeholder.
    fn value(self) -> String {
        self.destination_value.map_or_else(
            || VALUE_PLACEHOLDER.to_owned(),
            |value| {
                let name = self.register.and_then(|id| id.value_name(value));
                name.map_or_else(|| format!("{value:#x}"), str::to_owned)
            },
        )
    }

    /// Returns the destination's value as a number, or the placeholder.
    fn number(self) -> String {
        self.destination_value.map_or_else(
            || VALUE_PLACEHOLDER.to_owned(),
            |value| format!("{value:#x}"),
        )
    }
}

/// Returns the command line. Words in capitals stand for arguments that the user fills in.
pub fn command(remedy: &Remedy) -> String {
    match remedy {
        Remedy::Check { accept: None } => "cpreg check SOURCE DESTINATION".to_owned(),
        Remedy::Check {
            accept: Some(register),
        } => format!("cpreg check SOURCE DESTINATION --accept {register}"),
        Remedy::Compare => "cpreg diff A B".to_owned(),
        Remedy::Convert => "cpreg convert SOURCE DESTINATION -o OUTPUT".to_owned(),
        Remedy::Probe => "cpreg probe qemu -o DESTINATION -- QEMU COMMAND".to_owned(),
        Remedy::Rehearse => "cpreg rehearse SOURCE -- QEMU COMMAND".to_owned(),
        Remedy::Report => "cpreg report SOURCE -o FILE".to_owned(),
        Remedy::Show { register: None } => "cpreg show SOURCE".to_owned(),
        Remedy::Show {
            register: Some(register),
        } => format!("cpreg show SOURCE --register {register}"),
        Remedy::Tolerances => "cpreg tolerances REG".to_owned(),
        other => other.to_string(),
    }
}

/// Returns the purpose of the command; empty if the remedy is not a command.
pub const fn purpose(remedy: &Remedy) -> &'static str {
    match remedy {
        Remedy::Check { accept: None } => {
            "lists the registers that block the load, says which differences are harmless, and \
             predicts the result for each QEMU version. SOURCE: the VM as a stream. DESTINATION: a \
             profile, or a stream of a similar VM, saved on the destination"
        }
        Remedy::Check {
            accept: Some(RegisterId::PSCI_VERSION),
        } => "shows what the guest loses with a lower version, and whether the VM then loads",
        Remedy::Check { accept: Some(_) } => {
            "shows what the guest loses with another value, and whether the VM then loads"
        }
        Remedy::Compare => {
            "compares two hosts register by register, from a QEMU stream or a profile of each host \
             (cpreg reads no snapshots of other programs)"
        }
        Remedy::Convert => {
            "writes the VM so that it loads at the destination, if the verdict of check is `converts`"
        }
        Remedy::Probe => "records the destination without a guest; run it on the destination",
        Remedy::Rehearse => {
            "loads the VM without its RAM into the destination's QEMU and reports the result, devices \
             included; run it on the destination with the VM's command line. With --converted it \
             loads what convert would write"
        }
        Remedy::Report => "writes the VM without RAM and secrets to a small file for a bug report",
        Remedy::Show { register: None } => {
            "shows the VM: machine type, RAM blocks, devices, registers"
        }
        Remedy::Show {
            register: Some(RegisterId::PSCI_VERSION),
        } => "shows the PSCI version of the VM",
        Remedy::Show { register: Some(_) } => "shows the value of this register in the VM",
        Remedy::Tolerances => "shows when and why a difference in this register is harmless",
        _ => "",
    }
}

/// Returns the advice for the VMM in use.
pub fn advice(remedy: &Remedy, context: AdviceContext) -> String {
    let text = match remedy {
        Remedy::MatchPmu => match context.vmm {
            Vmm::Qemu => {
                "start the VM at the destination with a PMU (`-cpu host,pmu=on`), or on the source \
                 without one (`-cpu host,pmu=off`)"
            }
            Vmm::Unknown => {
                "give the VM a PMU on both hosts, or on neither (KVM_ARM_VCPU_PMU_V3; QEMU: \
                 `-cpu host,pmu=on` or `-cpu host,pmu=off`)"
            }
            Vmm::Firecracker | Vmm::Other => {
                "give the VM a PMU on both hosts, or on neither (KVM_ARM_VCPU_PMU_V3)"
            }
        },
        Remedy::StopOrIgnore => {
            "make the guest stop using what the older QEMU lacks, or use --ignore if the guest can do \
             without it"
        }
        Remedy::DestinationWithRegister => {
            "choose a destination that has the register; or, if the guest can do without it, \
             --ignore REG drops it and loses its value"
        }
        Remedy::DestinationForValue if matches!(context.vmm, Vmm::Qemu | Vmm::Unknown) => {
            "choose a destination that accepts the value (the same CPU model, a newer kernel or \
             QEMU); --ignore REG gives the guest the destination's value"
        }
        Remedy::DestinationForValue => {
            "choose a destination that accepts the value (the same CPU model, a newer kernel); \
             --ignore REG gives the guest the destination's value"
        }
        Remedy::KeepFields { .. } => return remedy.to_string(),
        Remedy::SetAcceptedValue => {
            "set an accepted value, or omit --set; `cpreg explain REG` shows the meaning of values"
        }
        Remedy::AlignVcpus => {
            "save the VM again; if its vCPUs still disagree, --set REG=VALUE makes them agree"
        }
        Remedy::IgnoreAny => {
            "check whether the value may be lost; --ignore REG without a value drops it"
        }
        Remedy::StartWithCommonPsciVersion => return psci_advice(context),
        Remedy::SetField {
            register,
            field,
            value,
        } => return format!("--set {register}.{field}={value}"),
        Remedy::Text(text) => return text.replace(VALUE_PLACEHOLDER, &context.value()),
        other => return command(other),
    };
    text.to_owned()
}

/// Returns the advice to start the VM with a PSCI version of all hosts.
///
/// Firecracker writes `reg_modifiers` of a CPU template with KVM_SET_ONE_REG before the guest runs
/// (its docs/cpu_templates/cpu-templates.md).
fn psci_advice(context: AdviceContext) -> String {
    let remedy = Remedy::StartWithCommonPsciVersion;
    let (value, number) = (context.value(), context.number());
    let id = id_digits(RegisterId::PSCI_VERSION);
    let qemu = format!("`-cpu host,kvm-psci-version={value}`");
    let register = format!("KVM_REG_ARM_PSCI_VERSION ({id}) = {number}");
    match context.vmm {
        Vmm::Qemu => format!("{remedy}: {qemu} (QEMU 11.0 and later)"),
        Vmm::Firecracker => format!("{remedy}: a CPU template whose reg_modifiers set {register}"),
        Vmm::Unknown => format!(
            "{remedy}: write {register} before the guest first runs (QEMU 11.0 and later: {qemu})"
        ),
        Vmm::Other => format!("{remedy}: write {register} before the guest first runs"),
    }
}

/// Returns the advice on a decision that blocks the load; `None` if cpreg knows no remedy.
pub fn decision_advice(decision: &Decision, tolerances: &Tolerances, vmm: Vmm) -> Option<String> {
    let remedy = decision.remedy(tolerances)?;
    let context = AdviceContext {
        vmm,
        register: Some(decision.register),
        destination_value: decision.destination.as_ref().and_then(Value::as_u64),
    };
    Some(advice(&remedy, context))
}

/// Returns the effect of a change on the guest, and the remedy that avoids the change.
pub fn describe_change(change: &VisibleChange, vmm: Vmm) -> Cow<'_, str> {
    match &change.remedy {
        None => Cow::Borrowed(&change.description),
        Some(remedy) => Cow::Owned(format!(
            "{}; to avoid that: {}",
            change.description,
            advice(remedy, AdviceContext::new(vmm))
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psci(vmm: Vmm) -> String {
        psci_advice(AdviceContext {
            vmm,
            register: Some(RegisterId::PSCI_VERSION),
            destination_value: Some(0x1_0001),
        })
    }

    #[test]
    fn options_of_qemu_are_for_qemu() {
        assert!(psci(Vmm::Qemu).contains("`-cpu host,kvm-psci-version=1.1`"));
        let unknown = psci(Vmm::Unknown);
        assert!(unknown.contains("(0x6030000000140000) = 0x10001"));
        assert!(unknown.contains("QEMU 11.0 and later: `-cpu"));
        assert!(psci(Vmm::Firecracker).contains("reg_modifiers"));
        for vmm in [Vmm::Firecracker, Vmm::Other] {
            for remedy in [
                Remedy::StartWithCommonPsciVersion,
                Remedy::MatchPmu,
                Remedy::DestinationForValue,
            ] {
                let text = advice(&remedy, AdviceContext::new(vmm));
                assert!(!text.contains("QEMU") && !text.contains("-cpu"), "{text}");
            }
        }
    }

    #[test]
    fn one_placeholder_stands_for_an_unknown_value() {
        let remedy = Remedy::text("set it to VALUE");
        let mut context = AdviceContext::new(Vmm::Unknown);
        assert_eq!(advice(&remedy, context), "set it to VALUE");
        context.destination_value = Some(2);
        assert_eq!(advice(&remedy, context), "set it to 0x2");
    }
}
