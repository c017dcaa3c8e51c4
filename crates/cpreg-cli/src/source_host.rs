//! [`SourceHost`]: the host that a VM ran on, named with `--from`.
//!
//! A stream does not hold everything that the guest saw of its host, such as the frequency of the
//! system counter. A recorded host, its file, or a profile has these properties.

use std::path::Path;

use cpreg::cpu_model;
use cpreg::destination::{Accelerator, Destination};
use cpreg::gic::Gic;
use cpreg::hardware::{HardwareFact, HardwareFacts};
use cpreg::register::RegisterId;
use cpreg::vm::Vm;
use cpreg_hosts::HostRecord;

use crate::arguments::FromArgs;
use crate::destination::hosts::{self, HostOrFile};
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::printer::Printer;

/// Host that a VM ran on.
pub(crate) struct SourceHost {
    /// Name in messages.
    name: String,
    /// MIDR_EL1 of the host, if known.
    midr: Option<u64>,
    accelerator: Option<Accelerator>,
    hardware: HardwareFacts,
}

impl SourceHost {
    /// Opens the host named with `--from`, if there is one.
    pub(crate) fn open(arguments: &FromArgs, printer: &Printer) -> Result<Option<Self>, Failure> {
        let from = arguments.from.as_deref();
        from.map(|path| Self::find(path, printer)).transpose()
    }

    fn find(path: &Path, printer: &Printer) -> Result<Self, Failure> {
        match hosts::open(path, false, printer)? {
            HostOrFile::Host(host) => Ok(Self::from_record(&host.display_name, &host.record)),
            HostOrFile::Unrecorded(host) => Err(host
                .failure()
                .with_context(format!("--from {}", path.display()))),
            HostOrFile::File(input) => match &input.content {
                Content::Profile(profile) => Ok(Self {
                    name: input.name(),
                    ..Self::from_destination(&profile.destination)
                }),
                Content::Stream(_) | Content::Registers(_) | Content::Host(_) => Err(Failure::new(
                    format!(
                        "--from {}: a stream does not hold the properties of its host",
                        path.display()
                    ),
                )
                .with_hint(
                    "name the host that the VM ran on: a recorded host (`cpreg hosts` lists them), \
                     a file of `cpreg probe kvm`, or a profile",
                )),
            },
        }
    }

    /// Returns a recorded host, with its name in messages.
    pub(crate) fn from_record(name: &str, record: &HostRecord) -> Self {
        Self {
            name: name.to_owned(),
            midr: Some(record.identity.midr),
            accelerator: Some(Accelerator::Kvm),
            hardware: record.source_hardware(),
        }
    }

    /// Returns the host in a profile.
    pub(crate) fn from_destination(host: &Destination) -> Self {
        let vcpu = host.vcpus.first();
        Self {
            name: host.name.clone(),
            midr: vcpu.and_then(|vcpu| vcpu.value(RegisterId::MIDR_EL1)),
            accelerator: host.accelerator,
            hardware: host.source_hardware(),
        }
    }

    /// Returns the known properties of the host.
    pub(crate) const fn hardware(&self) -> HardwareFacts {
        self.hardware
    }

    /// Returns the properties of the VM's host: those of this host, and those that the VM's file
    /// holds.
    ///
    /// # Errors
    /// Returns an error if the VM ran on another host.
    pub(crate) fn hardware_for(
        &self,
        source: &Input,
        vm: &Vm,
        accelerator: Option<Accelerator>,
    ) -> Result<HardwareFacts, Failure> {
        let contradiction = |property: &str, of_vm: String, of_host: String| {
            Failure::new(format!(
                "{} cannot have run on {} (--from): its {property} is {of_vm}, and the host's is \
                 {of_host}",
                source.name(),
                self.name
            ))
            .with_hint("name the host that the VM ran on, or omit --from")
        };
        if let Some((of_vm, of_host)) = accelerator.zip(self.accelerator)
            && of_vm != of_host
        {
            return Err(contradiction(
                "accelerator",
                of_vm.to_string(),
                of_host.to_string(),
            ));
        }
        let vcpu = vm.vcpus.first();
        let midr = vcpu.and_then(|vcpu| vcpu.registers.get_u64(RegisterId::MIDR_EL1));
        if let Some((of_vm, of_host)) = midr.zip(self.midr)
            && of_vm != of_host
        {
            return Err(contradiction(
                "MIDR_EL1",
                describe_midr(of_vm),
                describe_midr(of_host),
            ));
        }
        let of_vm = vm.source_hardware;
        // The GIC of a VM can have fewer bits than that of its host.
        let compared = [
            HardwareFact::CounterFrequency,
            HardwareFact::ZeroingBlock,
            HardwareFact::TagBlock,
            HardwareFact::GicRevision,
            HardwareFact::VectorLengths,
        ];
        for fact in compared {
            if let Some((of_vm, of_host)) = of_vm.get(fact).zip(self.hardware.get(fact))
                && of_vm != of_host
            {
                let hexadecimal = |value: u64| format!("{value:#x}");
                let decimal = |value: u64| value.to_string();
                let (property, values) = match fact {
                    HardwareFact::CounterFrequency => {
                        ("counter frequency (Hz)", [of_vm, of_host].map(decimal))
                    }
                    HardwareFact::VectorLengths => {
                        let values = [of_vm, of_host].map(hexadecimal);
                        ("set of SVE vector lengths", values)
                    }
                    _ => (fact.register(), [of_vm, of_host].map(hexadecimal)),
                };
                let [of_vm, of_host] = values;
                return Err(contradiction(property, of_vm, of_host));
            }
        }
        if let Some((Gic::V3(of_vm), Gic::V3(of_host))) = of_vm.gic.zip(self.hardware.gic)
            && !of_host.accepts(of_vm)
        {
            return Err(contradiction(
                "ICC_CTLR_EL1",
                of_vm.to_string(),
                of_host.to_string(),
            ));
        }
        // The GIC of a VM that came from another host can have fewer bits than that of this host.
        Ok(of_vm.or(self.hardware))
    }
}

fn describe_midr(midr: u64) -> String {
    match cpu_model::describe_midr(midr) {
        Some(name) => format!("{midr:#x} ({name})"),
        None => format!("{midr:#x}"),
    }
}
