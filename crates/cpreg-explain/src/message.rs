//! [`Symptom`]: statement of one error line, whichever program and version wrote the line.

use alloc::string::String;
use core::fmt;

use cpreg::destination::{Accelerator, VersionRange};
use cpreg::errno::Errno;
use cpreg::register::{Naming, RegisterId};

use crate::front_end::reports::FrontEndReport;

/// QEMU's name of the field with the length of the register list.
pub(crate) const LENGTH_FIELD: &str = "cpreg_vmstate_array_len";

/// Program that writes error lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Emitter(&'static str);

impl Emitter {
    /// `qemu-system-aarch64`, under any installed name.
    pub const QEMU: Self = Self("QEMU");
    /// libvirt, which mostly repeats QEMU's lines.
    pub const LIBVIRT: Self = Self("libvirt");
    /// Firecracker.
    pub const FIRECRACKER: Self = Self("Firecracker");
    /// Cloud Hypervisor.
    pub const CLOUD_HYPERVISOR: Self = Self("Cloud Hypervisor");
    /// crosvm.
    pub const CROSVM: Self = Self("crosvm");
    /// kvmtool.
    pub const KVMTOOL: Self = Self("kvmtool");
    /// gem5.
    pub const GEM5: Self = Self("gem5");
    /// strace.
    pub const STRACE: Self = Self("strace");
    /// Linux, of the host or of the guest.
    pub const LINUX: Self = Self("Linux");
    /// Apple's Virtualization framework.
    pub const VIRTUALIZATION: Self = Self("Apple's Virtualization framework");
    /// Program that the line does not name.
    pub const UNNAMED: Self = Self("another program");

    /// Returns the name of the program.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Returns the front end with this name.
    pub(crate) const fn front_end(name: &'static str) -> Self {
        Self(name)
    }
}

/// Register as named in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRegister {
    /// Register id, or `None` if the name is unknown.
    pub id: Option<RegisterId>,
    /// Name of the register, as the line spells it.
    pub text: String,
    /// Accelerator under which the program uses this form of name, if known.
    pub accelerator: Option<Accelerator>,
}

impl NamedRegister {
    /// Parses the name of a register, as a line spells it.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        let bare = lower.strip_prefix("register ").unwrap_or(&lower);
        let accelerator = if lower.starts_with("system register 0x") {
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

    /// Returns the register of a line that states only the id.
    pub fn from_id(id: RegisterId, text: &str) -> Self {
        Self {
            id: Some(id),
            text: text.into(),
            accelerator: Some(Accelerator::Kvm),
        }
    }

    /// Returns the naming convention under the register's accelerator.
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

/// Statement of a line, or of a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symptom {
    /// The register list in the input is longer than the loader's. The loader compares only the
    /// lengths.
    TooManyRegisters {
        /// Number of registers in the input; negative only in a damaged stream.
        incoming: i64,
        /// Number of registers in the loader's list.
        local: i64,
    },
    /// A field of a section could not be read.
    FieldFailed {
        /// QEMU's name of the section or of the structure in it: `cpu`.
        section: String,
        /// Name of the field: `cpreg_vmstate_array_len`.
        field: String,
    },
    /// Only the source has the register, which fails the load.
    SourceOnly {
        /// Register that only the source has.
        register: NamedRegister,
    },
    /// Only the destination has the register, which is a warning.
    DestinationOnly {
        /// Register that only the destination has.
        register: NamedRegister,
    },
    /// A register's value was refused.
    ValueNotAccepted {
        /// Register with the refused value.
        register: NamedRegister,
        /// Written value, if the line has a value of up to 64 bits.
        value: Option<u64>,
        /// Current value of the register, if the line has a value of up to 64 bits.
        current: Option<u64>,
        /// Error, if the line has it.
        error: Option<Errno>,
    },
    /// A register could not be written because KVM lacks or hides it.
    UnknownToKvm {
        /// Register that KVM lacks or hides.
        register: NamedRegister,
        /// Value to write, if the line has a value of up to 64 bits.
        value: Option<u64>,
    },
    /// A register could not be written or read, and the program does not name the register.
    UnnamedRegister {
        /// Access that failed.
        access: Access,
        /// Error of the access.
        error: Option<Errno>,
    },
    /// Writing all registers to KVM failed.
    PutFailed {
        /// Stage named in the line, which precedes the write. `init` is also the stage that follows
        /// a load.
        stage: String,
        /// Error of the write.
        error: Option<Errno>,
    },
    /// A section did not load.
    SectionFailed {
        /// QEMU's name of the device; `cpu` for a vCPU.
        device: String,
        /// Instance of the device.
        instance: Option<u32>,
    },
    /// A hook of a section failed: the hook that precedes the section, or the hook that follows it.
    HookFailed {
        /// Section or structure to which the hook belongs.
        section: String,
        /// `true` for the hook that QEMU calls before it reads the section.
        is_pre_load: bool,
    },
    /// The destination does not know a subsection.
    UnknownSubsection {
        /// Name of the subsection, `cpu/wfxt-timer`.
        name: String,
        /// Section that contains the subsection.
        section: String,
    },
    /// The destination has no device for a section.
    UnknownSection {
        /// QEMU's name of the device.
        device: String,
        /// Instance of the device; `None` if the line has no instance.
        instance: Option<u32>,
    },
    /// A section has a newer format than the destination supports.
    SectionVersion {
        /// QEMU's name of the device.
        device: String,
        /// Format version of the section in the input.
        incoming: Option<u32>,
        /// Newest format version that the destination supports.
        local: Option<u32>,
    },
    /// A section did not end at its footer.
    MissingFooter {
        /// Name of the device, if the line has it.
        device: Option<String>,
    },
    /// The program aborted.
    Aborted {
        /// Function that aborted.
        function: String,
        /// Failed assertion.
        assertion: String,
    },
    /// The load failed.
    LoadFailed {
        /// Kind of the input.
        input: LoadInput,
        /// Error with which the load ended, if the line has it.
        error: Option<Errno>,
    },
    /// A block of RAM has different lengths in the input and at the destination.
    RamSize {
        /// QEMU's name of the block.
        block: String,
        /// Length of the block in the input, in bytes.
        incoming: u64,
        /// Length of the block at the destination, in bytes.
        local: u64,
    },
    /// A block of RAM has different page sizes on both sides, which postcopy does not allow.
    RamPageSize {
        /// QEMU's name of the block.
        block: String,
        /// Page size of the block in the input, in bytes.
        incoming: u64,
        /// Page size of the block at the destination, in bytes.
        local: u64,
    },
    /// The destination has no block of RAM with this name.
    UnknownRamBlock {
        /// QEMU's name of the block.
        block: String,
    },
    /// The machine types differ.
    MachineType {
        /// Machine type in the input.
        incoming: String,
        /// Machine type at the destination.
        local: String,
    },
    /// A capability of the migration is set on one side only.
    Capability {
        /// Name of the capability.
        name: String,
    },
    /// The pages of the two machines have different lengths.
    TargetPageBits {
        /// Binary logarithm of the page length in the input.
        incoming: u32,
        /// Binary logarithm of the page length at the destination.
        local: u32,
    },
    /// The source refuses to migrate the VM.
    MigrationBlocked {
        /// Reason of the refusal.
        reason: BlockerReason,
    },
    /// A postcopy migration lost its connection after the switchover.
    PostcopyPaused,
    /// The guest uses features of a virtio device that the destination's device lacks.
    VirtioFeatures {
        /// Bits of the features that the guest has negotiated.
        incoming: u64,
        /// Bits of the features that the destination's device has.
        allowed: u64,
    },
    /// A PCI device's configuration differs in a read-only part.
    PciConfig {
        /// Byte offset of the difference in the configuration space; `None` if the line has no
        /// offset.
        offset: Option<u64>,
    },
    /// KVM refused a part of a device's state. On arm64 the device is the interrupt controller.
    DeviceAttribute {
        /// Direction of the access.
        access: AttributeAccess,
        /// Attribute group.
        group: u32,
        /// Attribute within the group.
        attribute: u64,
        /// Error of the write.
        error: Option<Errno>,
    },
    /// The input is not a migration stream, or has an unsupported version.
    NotAStream,
    /// The requested PSCI version is not supported.
    NoSuchPsci {
        /// Requested version, `1.1`.
        version: String,
    },
    /// A hint about the PSCI version on the source.
    PsciHint,
    /// A vCPU could not be initialized, so the load did not begin.
    VcpuInit {
        /// Error of the initialization.
        error: Option<Errno>,
    },
    /// A vCPU's state could not be restored. The rest of the line may have the reason.
    VcpuNotRestored,
    /// The interrupt controller's state could not be restored.
    GicNotRestored {
        /// Error of the write.
        error: Option<Errno>,
    },
    /// The snapshot is of another version of the program.
    SnapshotVersion {
        /// Version of the snapshot.
        version: String,
    },
    /// The host's counter frequency differs from the snapshot's.
    CounterFrequency {
        /// Frequency in the snapshot, in Hz.
        saved: u64,
        /// Frequency of the host, in Hz.
        host: u64,
    },
    /// libvirt: QEMU exited.
    MonitorClosed {
        /// Name of the VM, if the line has it.
        vm: Option<String>,
        /// `true` if libvirt had just started QEMU.
        is_start: bool,
    },
    /// libvirt: a job failed.
    JobFailed {
        /// Name of the job.
        job: String,
    },
    /// libvirt: the guest's CPU differs from the CPU with which the guest was started.
    GuestCpu {
        /// Differing features.
        features: String,
    },
    /// A program of any kind names a register, outside the messages of the known loaders.
    RegisterMention {
        /// Register that the line names.
        register: NamedRegister,
        /// Value of the register, if the line has a value of up to 64 bits.
        value: Option<u64>,
        /// Error of the access, if the line has it.
        error: Option<Errno>,
    },
    /// KVM refused a device of the VM at its start.
    DeviceStart {
        /// Device that KVM refused.
        device: StartDevice,
        /// Error, if the line has it.
        error: Option<Errno>,
    },
    /// The disk has no saved state of the requested name.
    SnapshotMissing {
        /// Name of the saved state.
        name: String,
    },
    /// KVM reports that a guest accessed a register that KVM does not emulate.
    GuestAccess {
        /// Register that the guest accessed.
        register: NamedRegister,
    },
    /// A kernel reports that the cores of its machine differ in a register.
    CoresDiffer {
        /// Register that differs.
        register: NamedRegister,
    },
    /// A front end reports a failure, and the reason stands elsewhere.
    FrontEnd {
        /// Report of the front end.
        report: &'static FrontEndReport,
    },
    /// Apple's Virtualization framework does not restore a saved VM.
    VirtualizationRestore,
    /// An option of QEMU's command line, which is no failure.
    Setting(Setting),
}

/// Device that KVM implements and checks when the VM starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartDevice {
    /// Interrupt controller.
    InterruptController,
    /// PMU of the vCPUs.
    Pmu,
}

/// Kind of a load's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadInput {
    /// Stream of a migration or of a saved VM.
    Stream,
    /// Snapshot in a disk image.
    Snapshot,
}

/// Direction of an access to a device's attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttributeAccess {
    /// `KVM_GET_DEVICE_ATTR`.
    Get,
    /// `KVM_SET_DEVICE_ATTR`.
    Set,
}

/// Reason of a source to refuse a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockerReason {
    /// The VM has MTE under KVM.
    Mte,
    /// A device cannot be migrated.
    Device(String),
    /// The kernel cannot save the interrupt controller.
    InterruptController,
}

/// Option of QEMU's command line that decides the list of registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Accelerator.
    Accelerator(Accelerator),
    /// CPU model.
    CpuModel(String),
}

/// Settings that a log states before or within a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Accelerator, if a line states it.
    pub accelerator: Option<Accelerator>,
    /// CPU model, if a line states it.
    pub cpu_model: Option<String>,
}

impl Settings {
    /// Replaces the setting of the same kind.
    pub fn insert(&mut self, setting: &Setting) {
        match setting {
            Setting::Accelerator(accelerator) => self.accelerator = Some(*accelerator),
            Setting::CpuModel(model) => self.cpu_model = Some(model.clone()),
        }
    }
}

/// Access to a register, with the purpose of the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Write of a system register, for a restore.
    WriteSystem,
    /// Write of a core register, for a restore.
    WriteCore,
    /// Write of a register wider than 64 bits, for a restore.
    WriteWide,
    /// Read of any register, for a save.
    Read,
}

impl Symptom {
    /// Returns `true` if the symptom ends a load, so that no further statement about the load
    /// follows.
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::LoadFailed { .. }
                | Self::PutFailed { .. }
                | Self::Aborted { .. }
                | Self::VcpuInit { .. }
                | Self::GicNotRestored { .. }
                | Self::SnapshotVersion { .. }
                | Self::CounterFrequency { .. }
                | Self::GuestCpu { .. }
                | Self::MigrationBlocked { .. }
                | Self::PostcopyPaused
                | Self::DeviceStart { .. }
                | Self::SnapshotMissing { .. }
                | Self::VirtualizationRestore
                | Self::GuestAccess { .. }
                | Self::CoresDiffer { .. }
                | Self::NotAStream
        )
    }

    /// Returns `true` if the line only introduces or repeats a statement, often one of another
    /// program.
    pub const fn is_forwarded(&self) -> bool {
        matches!(
            self,
            Self::MonitorClosed { .. }
                | Self::JobFailed { .. }
                | Self::VcpuNotRestored
                | Self::FrontEnd { .. }
        )
    }

    /// Returns `true` if the load continues after the symptom.
    pub const fn is_warning(&self) -> bool {
        matches!(self, Self::DestinationOnly { .. })
    }

    /// Returns the register that the line names; `None` if it names none.
    pub const fn register(&self) -> Option<&NamedRegister> {
        match self {
            Self::SourceOnly { register }
            | Self::DestinationOnly { register }
            | Self::ValueNotAccepted { register, .. }
            | Self::UnknownToKvm { register, .. }
            | Self::RegisterMention { register, .. }
            | Self::GuestAccess { register }
            | Self::CoresDiffer { register } => Some(register),
            _ => None,
        }
    }
}

/// Symptom, with the program and the versions that print it in the form of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statement {
    /// Symptom.
    pub symptom: Symptom,
    /// Program that prints the line.
    pub emitter: Emitter,
    /// Versions of the program that print the line in this form.
    pub versions: VersionRange,
}
