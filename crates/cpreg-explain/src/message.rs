//! [`Symptom`]: what one error line of a program says, whichever program and version wrote it.

use alloc::string::String;
use core::fmt;

use cpreg::destination::{Accelerator, VersionRange};
use cpreg::errno::Errno;
use cpreg::register::{Naming, RegisterId};

/// A program that writes error lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Emitter(&'static str);

impl Emitter {
    /// `qemu-system-aarch64`, by whatever name it was installed.
    pub const QEMU: Self = Self("QEMU");
    /// libvirt, which mostly repeats what QEMU said.
    pub const LIBVIRT: Self = Self("libvirt");
    /// Firecracker.
    pub const FIRECRACKER: Self = Self("Firecracker");
    /// Cloud Hypervisor.
    pub const CLOUD_HYPERVISOR: Self = Self("Cloud Hypervisor");

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// A register as a line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRegister {
    /// Which one; `None` if the name is none that is known.
    pub id: Option<RegisterId>,
    /// What the line says.
    pub text: String,
    /// Under which accelerator a program names it so, if that tells.
    pub accelerator: Option<Accelerator>,
}

impl NamedRegister {
    /// The register by this spelling.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let upper = text.to_ascii_lowercase();
        let bare = upper.strip_prefix("register ").unwrap_or(&upper);
        let accelerator = if upper.starts_with("system register 0x") {
            Some(Accelerator::Tcg)
        } else {
            Some(Accelerator::Kvm)
        };
        Self {
            id: RegisterId::parse_in(bare, Naming::Kvm).ok(),
            text: text.into(),
            accelerator,
        }
    }

    /// The register with this id, as a line that has nothing but the id.
    pub fn from_id(id: RegisterId, text: &str) -> Self {
        Self {
            id: Some(id),
            text: text.into(),
            accelerator: Some(Accelerator::Kvm),
        }
    }

    /// How names are meant there.
    pub fn naming(&self) -> Naming {
        match self.accelerator {
            Some(Accelerator::Tcg | Accelerator::Hvf) => Naming::Architectural,
            Some(Accelerator::Kvm) | None => Naming::Kvm,
        }
    }
}

impl fmt::Display for NamedRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "{}", id.display_in(self.naming())),
            None => f.write_str(&self.text),
        }
    }
}

/// What a line, or a part of one, says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symptom {
    /// The list in the input is longer than the loader's own, which is all that it looks at.
    TooManyRegisters {
        /// Registers in the input, as read: less than zero only in a damaged stream.
        incoming: i64,
        /// Registers that the loader has.
        local: i64,
    },
    /// A field of a section could not be read.
    FieldFailed {
        /// QEMU's name of the section or of the structure in it: `cpu`.
        section: String,
        /// The field: `cpreg_vmstate_array_len`.
        field: String,
    },
    /// A register is only in the input, and that fails the load.
    OnlyInInput {
        /// Which one.
        register: NamedRegister,
    },
    /// A register is only at the destination: a warning.
    OnlyAtDestination {
        /// Which one.
        register: NamedRegister,
    },
    /// A register's value was refused.
    ValueNotTaken {
        /// Which one.
        register: NamedRegister,
        /// The value that was written, if it was said and fits.
        value: Option<u64>,
        /// What the register holds, likewise.
        current: Option<u64>,
        /// The error, if it was said.
        error: Option<Errno>,
    },
    /// A register could not be written because KVM has not got it, or hides it by now.
    UnknownToKvm {
        /// Which one.
        register: NamedRegister,
        /// The value that was to be written, if it was said and fits.
        value: Option<u64>,
    },
    /// Some system register could not be written or read; the program does not say which.
    UnnamedRegister {
        /// What was being done with it.
        access: Access,
        /// The error.
        error: Option<Errno>,
    },
    /// Writing all registers to KVM failed.
    PutFailed {
        /// After what: `init`, which is also after a load.
        stage: String,
        /// The error.
        error: Option<Errno>,
    },
    /// A section did not load.
    SectionFailed {
        /// QEMU's name of the device; `cpu` for a vCPU.
        device: String,
        /// Which of several.
        instance: Option<u32>,
    },
    /// What a section does before or after it is read failed.
    HookFailed {
        /// The section or structure.
        section: String,
        /// Before it is read.
        is_pre_load: bool,
    },
    /// A subsection that the destination does not know.
    UnknownSubsection {
        /// Its name, `cpu/wfxt-timer`.
        name: String,
        /// The section that it stands in.
        section: String,
    },
    /// A section that the destination has no device for.
    UnknownSection {
        /// QEMU's name of the device.
        device: String,
        /// Which of several.
        instance: Option<u32>,
    },
    /// A section in a newer format than the destination knows.
    SectionVersion {
        /// QEMU's name of the device.
        device: String,
        /// The format in the input.
        incoming: Option<u32>,
        /// The newest one that is known.
        local: Option<u32>,
    },
    /// A section did not end where it should.
    MissingFooter {
        /// The device, if it was said.
        device: Option<String>,
    },
    /// The program ended itself.
    Aborted {
        /// In which function.
        function: String,
        /// What did not hold.
        assertion: String,
    },
    /// The end of a load that failed.
    LoadFailed {
        /// Why, in general.
        error: Option<Errno>,
    },
    /// A block of RAM has another length.
    RamSize {
        /// QEMU's name of the block.
        block: String,
        /// Bytes in the input.
        incoming: u64,
        /// Bytes at the destination.
        local: u64,
    },
    /// A block of RAM has pages of another size, which postcopy does not allow.
    RamPageSize {
        /// QEMU's name of the block.
        block: String,
        /// Bytes in the input.
        incoming: u64,
        /// Bytes at the destination.
        local: u64,
    },
    /// The destination has no such block of RAM.
    UnknownRamBlock {
        /// QEMU's name of the block.
        block: String,
    },
    /// The machine types differ.
    MachineType {
        /// In the input.
        incoming: String,
        /// At the destination.
        local: String,
    },
    /// A capability of the migration is set on one side only.
    Capability {
        /// Its name.
        name: String,
    },
    /// The guest uses features of a virtio device that the destination's has not got.
    VirtioFeatures {
        /// The features that the guest has agreed on.
        incoming: u64,
        /// Those that the destination can do.
        allowed: u64,
    },
    /// A PCI device's configuration differs where it must not.
    PciConfig {
        /// At which byte.
        offset: Option<u64>,
    },
    /// KVM refused a part of a device's state, on arm64 the interrupt controller's.
    DeviceAttribute {
        /// The group of attributes.
        group: u32,
        /// The attribute.
        attribute: u64,
        /// The error.
        error: Option<Errno>,
    },
    /// It is no migration stream, or none of a version that can be read.
    NotAStream,
    /// The PSCI version that was asked for is not there.
    NoSuchPsci {
        /// Which one, `1.1`.
        version: String,
    },
    /// A hint about the PSCI version on the source.
    PsciHint,
    /// A vCPU could not be set up, before anything was loaded.
    VcpuInit {
        /// The error.
        error: Option<Errno>,
    },
    /// A vCPU's state could not be restored; what follows in the line says why, if anything does.
    VcpuNotRestored,
    /// The interrupt controller's state could not be restored.
    GicNotRestored {
        /// The error.
        error: Option<Errno>,
    },
    /// A snapshot of another version of the program.
    SnapshotVersion {
        /// Which one.
        version: String,
    },
    /// libvirt: QEMU ended.
    MonitorClosed {
        /// The VM, if it was said.
        vm: Option<String>,
    },
    /// libvirt: a job ended with an error.
    JobFailed {
        /// Which job.
        job: String,
    },
    /// libvirt: the guest's CPU is not what it was started with.
    GuestCpu {
        /// The features.
        features: String,
    },
}

/// What was being done with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Writing a system register, to restore.
    WriteSystem,
    /// Writing a core register, to restore.
    WriteCore,
    /// Writing a register wider than 64 bits, to restore.
    WriteWide,
    /// Reading, to save.
    Read,
}

impl Symptom {
    /// Whether nothing more is said about a load after it.
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::LoadFailed { .. }
                | Self::PutFailed { .. }
                | Self::Aborted { .. }
                | Self::VcpuInit { .. }
                | Self::GicNotRestored { .. }
                | Self::SnapshotVersion { .. }
                | Self::GuestCpu { .. }
                | Self::NotAStream
        )
    }

    /// Whether it only repeats or hands on what another program said.
    pub const fn is_forwarded(&self) -> bool {
        matches!(
            self,
            Self::MonitorClosed { .. } | Self::JobFailed { .. } | Self::VcpuNotRestored
        )
    }

    /// Whether a load goes on after it.
    pub const fn is_warning(&self) -> bool {
        matches!(self, Self::OnlyAtDestination { .. })
    }

    /// The register that it names.
    pub const fn register(&self) -> Option<&NamedRegister> {
        match self {
            Self::OnlyInInput { register }
            | Self::OnlyAtDestination { register }
            | Self::ValueNotTaken { register, .. }
            | Self::UnknownToKvm { register, .. } => Some(register),
            _ => None,
        }
    }
}

/// A symptom, and who puts it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What is said.
    pub symptom: Symptom,
    /// Who says it.
    pub emitter: Emitter,
    /// Which versions of it.
    pub versions: VersionRange,
}
