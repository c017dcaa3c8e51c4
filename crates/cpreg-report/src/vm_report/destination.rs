//! [`ReportDestination`], a destination without private data.

use cpreg::destination::{Destination, DestinationRegister, DestinationVcpu};
use cpreg::register::{RegisterClass, RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;
use cpreg::vm::Content;
use cpreg_hosts::Profile;
use cpreg_hosts::profile::{self, ProfileOrigin};

use super::model::ReportDestination;

impl ReportDestination {
    /// Name of every destination in a report. The real name may identify a machine.
    const PLACEHOLDER_NAME: &str = "DESTINATION";

    /// Creates a destination without its name and command line, and without data of a guest in its
    /// registers.
    ///
    /// `keep_general` keeps the values of core and vector registers, and of those for which
    /// [`RegisterId::is_guest_pointer`] returns `true`.
    pub fn new(
        provenance: &str,
        origin: ProfileOrigin,
        destination: &Destination,
        keep_general: bool,
    ) -> Self {
        let vcpu = |vcpu: &DestinationVcpu| {
            let registers = vcpu.registers().iter().map(|register| {
                let is_private = is_guest_data(register, keep_general);
                DestinationRegister {
                    value: register.value.clone().filter(|_| !is_private),
                    ..register.clone()
                }
            });
            let mut extensions = vcpu.extensions.clone();
            for extension in &mut extensions {
                // `check` uses only the length of the content.
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
        let origin = ProfileOrigin {
            command: Vec::new(),
            ..origin
        };
        Self {
            provenance: provenance.to_owned(),
            profile: profile::Document::from(&Profile {
                origin,
                destination,
            }),
        }
    }
}

/// Returns `true` if a register may contain data of a guest.
fn is_guest_data(register: &DestinationRegister, keep_general: bool) -> bool {
    let id = register.id;
    let is_general = matches!(id.class(), RegisterClass::Core | RegisterClass::Sve)
        && id != RegisterId::SVE_VLS
        || id.is_guest_pointer();
    let value = register.value.as_ref().and_then(Value::as_u64);
    let was_used = !matches!(value, Some(0 | RESET_POISON));
    (id.is_secret() || is_general && !keep_general) && was_used
}
