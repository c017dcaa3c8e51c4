//! [`Going`]: a destination as a report may tell of it.

use cpreg::destination::{Destination, HostRegister, HostVcpu};
use cpreg::register::{RegisterClass, RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;
use cpreg::vm::Content;
use cpreg_hosts::Profile;
use cpreg_hosts::profile::{self, Recorded};

use super::model::Going;

impl Going {
    /// What a destination is called in a report: its own name may be a machine's.
    const NAME: &str = "DEST";

    /// A destination as a report may tell of it: without its name and command line, and without what a guest left in its
    /// registers. `keep_general` keeps what [`RegisterId::is_guest_pointer`] and general registers hold.
    pub fn new(
        evidence: &str,
        recorded: Recorded,
        destination: &Destination,
        keep_general: bool,
    ) -> Self {
        let vcpu = |vcpu: &HostVcpu| {
            let registers = vcpu.registers().iter().map(|register| {
                let tells = tells_of_a_guest(register, keep_general);
                HostRegister {
                    value: register.value.clone().filter(|_| !tells),
                    ..register.clone()
                }
            });
            let mut extensions = vcpu.extensions.clone();
            for extension in &mut extensions {
                // How long they are is all that is looked at.
                if let Content::Bytes(bytes) = &mut extension.content {
                    bytes.fill(0);
                }
            }
            HostVcpu::new(registers.collect::<Vec<_>>(), extensions)
        };
        let destination = Destination {
            name: Self::NAME.to_owned(),
            vcpus: destination.vcpus.iter().map(vcpu).collect(),
            ..destination.clone()
        };
        let recorded = Recorded {
            command: Vec::new(),
            ..recorded
        };
        Self {
            evidence: evidence.to_owned(),
            profile: profile::Document::from(&Profile {
                recorded,
                destination,
            }),
        }
    }
}

/// Whether a register holds something of a guest, and not what it held at reset.
fn tells_of_a_guest(register: &HostRegister, keep_general: bool) -> bool {
    let id = register.id;
    let is_general = matches!(id.class(), RegisterClass::Core | RegisterClass::Sve)
        && id != RegisterId::SVE_VLS
        || id.is_guest_pointer();
    let value = register.value.as_ref().and_then(Value::as_u64);
    let was_used = !matches!(value, Some(0 | RESET_POISON));
    (id.is_secret() || is_general && !keep_general) && was_used
}
