//! Remedies in the words of the command `cpreg` and of QEMU: command lines and options that can be typed.

use std::borrow::Cow;

use cpreg::plan::{Decision, VisibleChange};
use cpreg::register::{RegisterId, Value};
use cpreg::remedy::Remedy;
use cpreg::tolerance::Tolerances;

/// Stands in an entry's text for the destination's value.
pub const DESTINATION_PLACEHOLDER: &str = "{destination}";
/// Stands for the destination's value where that is not known.
pub const UNKNOWN_VALUE_PLACEHOLDER: &str = "VALUE";

/// Returns the command line, capitals for what is to be filled in.
pub fn command(remedy: &Remedy) -> String {
    match remedy {
        Remedy::Check { accept: None } => "cpreg check SOURCE DESTINATION".to_owned(),
        Remedy::Check {
            accept: Some(register),
        } => format!("cpreg check SOURCE DESTINATION --accept {register}"),
        Remedy::Compare => "cpreg diff A B".to_owned(),
        Remedy::Convert => "cpreg convert SOURCE --to DESTINATION -o OUTPUT".to_owned(),
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

/// Returns what the command tells; nothing for what is no command.
pub const fn purpose(remedy: &Remedy) -> &'static str {
    match remedy {
        Remedy::Check { accept: None } => {
            "names every register that stands in the way, whether it is harmless, and what each QEMU would do. SOURCE: the VM as a stream. \
             DESTINATION: a stream that a VM of this kind saved there, or a profile"
        }
        Remedy::Check {
            accept: Some(RegisterId::PSCI_VERSION),
        } => {
            "tells what a lower version would take from the guest, and whether the VM would load \
             with it"
        }
        Remedy::Check { accept: Some(_) } => {
            "tells what another value would take from the guest, and whether the VM would load \
             with it"
        }
        Remedy::Compare => {
            "compares two hosts by a stream or profile of each, register by register (of QEMU; \
             cpreg reads no other program's snapshots)"
        }
        Remedy::Convert => "writes the VM so that it loads there, if check says that it converts",
        Remedy::Probe => "records the destination, there, without a guest",
        Remedy::Rehearse => {
            "has the QEMU there load the VM without its RAM, and says what it makes of it, devices included; run it on the destination, \
             with the VM's command line. --converted tries what convert would write"
        }
        Remedy::Report => "writes the VM without RAM and secrets, as a small file for who can help",
        Remedy::Show { register: None } => {
            "shows what the VM holds: machine type, RAM blocks, devices, registers"
        }
        Remedy::Show {
            register: Some(RegisterId::PSCI_VERSION),
        } => "shows which version the VM was given",
        Remedy::Show { register: Some(_) } => "shows what the VM holds in this register",
        Remedy::Tolerances => "prints why and when a difference in this register is harmless",
        _ => "",
    }
}

/// Returns what to do, with this word for the destination's value.
pub fn advice(remedy: &Remedy, host: &str) -> String {
    let text = match remedy {
        Remedy::MatchPmu => {
            "give the VM at the destination a PMU (-cpu host,pmu=on), or take it away on the \
             source (pmu=off)"
        }
        Remedy::StopOrIgnore => {
            "the guest uses what the older QEMU has not got: let it stop doing so, or say \
             --ignore if it can do without"
        }
        Remedy::DestinationWithRegister => {
            "choose a destination that has it; or, if the guest can do without, --ignore REG \
             leaves it out and loses what it holds"
        }
        Remedy::DestinationForValue => {
            "choose a destination that takes it (the same CPU model, a newer kernel or QEMU); \
             --ignore REG leaves the destination's own value to the guest"
        }
        Remedy::SetAcceptedValue => {
            "set one that it takes, or leave --set out; cpreg explain REG tells what the values \
             mean"
        }
        Remedy::AlignVcpus => {
            "save the VM again; if they still disagree, --set REG=VALUE makes them agree"
        }
        Remedy::IgnoreAny => {
            "see whether what it holds may be lost; --ignore REG without a value loses it"
        }
        Remedy::StartWithCommonPsciVersion => {
            return format!("{remedy}: -cpu host,kvm-psci-version={host} (QEMU 11.0 and later)");
        }
        Remedy::SetField {
            register,
            field,
            value,
        } => return format!("--set {register}.{field}={value}"),
        Remedy::Text(text) => return text.replace(DESTINATION_PLACEHOLDER, host),
        other => return command(other),
    };
    text.to_owned()
}

/// Returns what to do about a decision that stands in the way.
pub fn decision_advice(decision: &Decision, tolerances: &Tolerances) -> Option<String> {
    let remedy = decision.remedy(tolerances)?;
    let host = decision.destination.as_ref().and_then(Value::as_u64);
    let host = host.map_or_else(
        || UNKNOWN_VALUE_PLACEHOLDER.to_owned(),
        |value| {
            let name = decision.register.value_name(value);
            name.map_or_else(|| format!("{value:#x}"), str::to_owned)
        },
    );
    Some(advice(&remedy, &host))
}

/// Returns what a change means for the guest, and what spares it that.
pub fn describe_change(change: &VisibleChange) -> Cow<'_, str> {
    match &change.remedy {
        None => Cow::Borrowed(&change.description),
        Some(remedy) => Cow::Owned(format!(
            "{}; {} keeps them",
            change.description,
            advice(remedy, UNKNOWN_VALUE_PLACEHOLDER)
        )),
    }
}
