//! Remedies as commands and options of `cpreg` and QEMU, in a form that a user can type.

use std::borrow::Cow;

use cpreg::plan::{Decision, VisibleChange};
use cpreg::register::{RegisterId, Value};
use cpreg::remedy::Remedy;
use cpreg::tolerance::Tolerances;

/// Placeholder for the destination's value in the text of a tolerance.
pub const DESTINATION_PLACEHOLDER: &str = "{destination}";
/// Replacement for [`DESTINATION_PLACEHOLDER`] if the destination's value is not known.
pub const UNKNOWN_VALUE_PLACEHOLDER: &str = "VALUE";

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

/// Returns the advice, with `destination_value` in place of the placeholder.
pub fn advice(remedy: &Remedy, destination_value: &str) -> String {
    let text = match remedy {
        Remedy::MatchPmu => {
            "start the VM at the destination with a PMU (-cpu host,pmu=on), or on the source without \
             one (pmu=off)"
        }
        Remedy::StopOrIgnore => {
            "make the guest stop using what the older QEMU lacks, or use --ignore if the guest can do \
             without it"
        }
        Remedy::DestinationWithRegister => {
            "choose a destination that has the register; or, if the guest can do without it, \
             --ignore REG drops it and loses its value"
        }
        Remedy::DestinationForValue => {
            "choose a destination that accepts the value (the same CPU model, a newer kernel or \
             QEMU); --ignore REG gives the guest the destination's value"
        }
        Remedy::KeepFields { .. } => return remedy.to_string(),
        Remedy::SetAcceptedValue => {
            "set an accepted value, or omit --set; cpreg explain REG shows the meaning of values"
        }
        Remedy::AlignVcpus => {
            "save the VM again; if its vCPUs still disagree, --set REG=VALUE makes them agree"
        }
        Remedy::IgnoreAny => {
            "check whether the value may be lost; --ignore REG without a value drops it"
        }
        Remedy::StartWithCommonPsciVersion => {
            return format!(
                "{remedy}: -cpu host,kvm-psci-version={destination_value} (QEMU 11.0 and later)"
            );
        }
        Remedy::SetField {
            register,
            field,
            value,
        } => return format!("--set {register}.{field}={value}"),
        Remedy::Text(text) => return text.replace(DESTINATION_PLACEHOLDER, destination_value),
        other => return command(other),
    };
    text.to_owned()
}

/// Returns the advice on a decision that blocks the load; `None` if cpreg knows no remedy.
pub fn decision_advice(decision: &Decision, tolerances: &Tolerances) -> Option<String> {
    let remedy = decision.remedy(tolerances)?;
    let value = decision.destination.as_ref().and_then(Value::as_u64);
    let value = value.map_or_else(
        || UNKNOWN_VALUE_PLACEHOLDER.to_owned(),
        |value| {
            let name = decision.register.value_name(value);
            name.map_or_else(|| format!("{value:#x}"), str::to_owned)
        },
    );
    Some(advice(&remedy, &value))
}

/// Returns the effect of a change on the guest, and the remedy that avoids the change.
pub fn describe_change(change: &VisibleChange) -> Cow<'_, str> {
    match &change.remedy {
        None => Cow::Borrowed(&change.description),
        Some(remedy) => Cow::Owned(format!(
            "{}; to avoid that: {}",
            change.description,
            advice(remedy, UNKNOWN_VALUE_PLACEHOLDER)
        )),
    }
}
