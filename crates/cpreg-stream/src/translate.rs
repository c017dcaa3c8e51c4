//! Conversion from the stream to the model: registers, extensions, shape, accelerator, and the host
//! that wrote the stream.
//!
//! The crate `cpreg` gives ids and values their meaning.

use std::borrow::Cow;

use cpreg::destination::hvf;
use cpreg::destination::{Accelerator, Destination, DestinationVcpu, ValueOrigin};
use cpreg::hardware::HardwareFacts;
use cpreg::register::{RegisterId, Value};
use cpreg::shape::{DeviceSection, MachineShape, RamBlock};
use cpreg::vm::{Content, Extension, Registers, Vcpu, Vm};

use crate::cpu::Cpu;
use crate::error::Error;
use crate::stream::Stream;

impl Stream {
    /// Returns the VM's CPU state.
    ///
    /// The extensions of a vCPU are all subsections of its `cpu` section, and `env.features` if it
    /// is not 0. A subsection inside another one is a separate extension.
    ///
    /// # Errors
    /// None for a stream that could be opened, because its registers are distinct.
    pub fn vm(&self) -> Result<Vm, Error> {
        let vcpus = self
            .cpus()
            .iter()
            .map(Cpu::vcpu)
            .collect::<Result<_, _>>()?;
        Ok(Vm {
            vcpus,
            source_hardware: self.hardware(),
        })
    }

    /// Returns the VM's shape.
    pub fn shape(&self) -> MachineShape {
        MachineShape {
            machine: self.machine().map(str::to_owned),
            vcpu_count: self.cpus().len(),
            ram: self
                .ram_blocks()
                .iter()
                .map(|block| RamBlock {
                    name: block.name.clone(),
                    length: block.length,
                })
                .collect(),
            devices: self
                .sections()
                .iter()
                .map(|section| DeviceSection {
                    name: section.name.clone(),
                    instance: section.instance,
                    version: section.version,
                })
                .collect(),
        }
    }

    /// Returns the host that wrote the stream, as far as the stream shows.
    ///
    /// The field `loader` is `None`, because the stream does not identify the loader of that host.
    ///
    /// # Errors
    /// Those of [`Self::vm`].
    pub fn destination(&self, name: String) -> Result<Destination, Error> {
        // One vCPU at a time, because the whole VM takes as much memory as the destination.
        let vcpu = |cpu: &Cpu| Ok(DestinationVcpu::from_vcpu(&cpu.vcpu()?));
        let vcpus = self.cpus().iter().map(vcpu).collect::<Result<_, _>>()?;
        Ok(Destination {
            accelerator: self.accelerator(),
            loader: None,
            value_origin: if self.is_prelaunch() {
                ValueOrigin::Reset
            } else {
                ValueOrigin::Guest
            },
            vcpus,
            kernel_version: None,
            hardware: self.hardware(),
            shape: Some(self.shape()),
            name,
        })
    }

    /// Returns the properties of the VM's host that the stream shows.
    ///
    /// The limits of the GIC are those of the VM. The host may have more bits than a VM that came
    /// from another host.
    fn hardware(&self) -> HardwareFacts {
        HardwareFacts {
            gic: self.gic(),
            ..self.gic_facts
        }
    }

    /// Returns the accelerator that ran the guest.
    ///
    /// `None` if the registers do not identify it, as in an edited list.
    pub fn accelerator(&self) -> Option<Accelerator> {
        let registers = self.cpus().iter().flat_map(Cpu::registers);
        Accelerator::from_registers(registers.map(|(id, _)| id))
    }
}

impl Cpu {
    /// Returns the vCPU's state, as in [`Stream::vm`].
    ///
    /// # Errors
    /// Those of [`Stream::vm`].
    pub fn vcpu(&self) -> Result<Vcpu, Error> {
        let pairs = self.registers().map(|(id, value)| (id, Value::U64(value)));
        let registers = Registers::from_pairs(pairs).map_err(|duplicate| {
            let id: RegisterId = duplicate.0;
            Error::malformed(
                self.section().payload.start,
                format!("register {:#018x} is listed twice", id.raw()),
            )
            .prepend_path(&format!("cpu[{}]", self.section().instance))
        })?;
        let mut extensions = Vec::new();
        let features = self.trailing_fields().features;
        if features != 0 {
            extensions.push(Extension {
                name: Cow::Borrowed(Extension::FEATURES),
                content: Content::Number(features),
            });
        }
        let is_sorted = self.registers().is_sorted_by_key(|(id, _)| id);
        let ids = || self.registers().map(|(id, _)| id).collect::<Vec<_>>();
        if !is_sorted && hvf::is_unsorted_order(&ids()) {
            extensions.push(Extension {
                name: Cow::Borrowed(Extension::HVF_ORDER),
                content: Content::Number(1),
            });
        }
        for subsection in self.all_subsections() {
            let bytes = self.content(subsection);
            let content = match <[u8; 8]>::try_from(bytes) {
                Ok(number) if subsection.name == Extension::WFXT_TIMER => {
                    Content::Number(u64::from_be_bytes(number))
                }
                _ => Content::Bytes(bytes.to_vec()),
            };
            extensions.push(Extension {
                name: Cow::Owned(subsection.name.clone()),
                content,
            });
        }
        Ok(Vcpu {
            registers,
            extensions,
            pstate: Some(self.core_fields().pstate.into()),
            is_halted: None,
        })
    }
}
