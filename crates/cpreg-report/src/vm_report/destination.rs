//! [`ReportDestination`]: a destination as a report may tell of it.

use cpreg::destination::{Destination, DestinationRegister, DestinationVcpu};
use cpreg::register::{RegisterClass, RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;
use cpreg::vm::Content;
use cpreg_hosts::Profile;
use cpreg_hosts::profile::{self, ProfileOrigin};

use super::model::ReportDestination;

impl ReportDestination {
    /// What a destination is called in a report: its own name may be a machine's.
    const PLACEHOLDER_NAME: &str = "DESTINATION";

    /// A destination as a report may tell of it: without its name and command line, and without what a guest left in its
    /// registers. `keep_general` keeps what [`RegisterId::is_guest_pointer`] and general registers hold.
    pub fn new(
        evidence: &str,
        recorded: ProfileOrigin,
        destination: &Destination,
        keep_general: bool,
    ) -> Self {
        let vcpu = |vcpu: &DestinationVcpu| {
            let registers = vcpu.registers().iter().map(|register| {
                let tells = is_guest_data(register, keep_general);
                DestinationRegister {
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
            DestinationVcpu::new(registers.collect::<Vec<_>>(), extensions)
        };
        let destination = Destination {
            name: Self::PLACEHOLDER_NAME.to_owned(),
            vcpus: destination.vcpus.iter().map(vcpu).collect(),
            ..destination.clone()
        };
        let recorded = ProfileOrigin {
            command: Vec::new(),
            ..recorded
        };
        Self {
            provenance: evidence.to_owned(),
            profile: profile::Document::from(&Profile {
                origin: recorded,
                destination,
            }),
        }
    }
}

/// Whether a register holds something of a guest, and not what it held at reset.
fn is_guest_data(register: &DestinationRegister, keep_general: bool) -> bool {
    let id = register.id;
    let is_general = matches!(id.class(), RegisterClass::Core | RegisterClass::Sve)
        && id != RegisterId::SVE_VLS
        || id.is_guest_pointer();
    let value = register.value.as_ref().and_then(Value::as_u64);
    let was_used = !matches!(value, Some(0 | RESET_POISON));
    (id.is_secret() || is_general && !keep_general) && was_used
}
