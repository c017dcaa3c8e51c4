//! Lines on standard error.

use std::io::Write as _;

use cpreg_vcpu_filter::Event;

/// Prefix of each message.
const PREFIX: &str = "cpreg:";

/// Prints a message. A failure to print changes nothing.
pub(crate) fn print(message: impl std::fmt::Display) {
    // One write keeps the lines of a message together.
    let text = format!("{PREFIX} {message}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints an event.
pub(crate) fn print_event(event: &Event) {
    match event {
        Event::Refused(refusal) => print(refusal),
        Event::Loaded {
            vcpu,
            ignored,
            changed,
        } => {
            let names = |registers: &[(cpreg::register::RegisterId, cpreg::register::Value)]| {
                let names = registers.iter().map(|(id, _)| id.to_string());
                names.collect::<Vec<_>>().join(", ")
            };
            print(format_args!(
                "vCPU {vcpu}: the incoming VM loads; ignored: {}; changed: {}",
                names(ignored),
                names(changed)
            ));
            if !ignored.is_empty() {
                print(
                    "the ignored registers leave with the VM again: its next destination needs \
                     `cpreg run`, `cpreg relay` or `cpreg convert`",
                );
            }
        }
        Event::SettingRefused {
            vcpu,
            register,
            errno,
        } => print(format_args!(
            "vCPU {vcpu}: the setting of {register} was refused ({errno}); the VM does not run \
             without it. Remove the setting from the baseline"
        )),
        Event::SettingOverwritten {
            vcpu,
            register,
            value,
        } => print(format_args!(
            "vCPU {vcpu}: the VMM replaced the setting of {register} by {value:#x}"
        )),
        _ => {}
    }
}
