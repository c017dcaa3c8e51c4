//! [`Group`] of registers that a text lists under one heading.

use cpreg::destination::kernel::RegisterKind;
use cpreg::register::{RegisterClass, RegisterId};

/// Group of registers under one heading. The text lists groups in the order of the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Firmware,
    Identification,
    System,
    PerformanceMonitors,
    AArch32,
    Vectors,
    Other,
}

impl Group {
    pub(crate) fn from_id(id: RegisterId) -> Self {
        match id.class() {
            RegisterClass::Firmware | RegisterClass::FirmwareBitmap => return Self::Firmware,
            RegisterClass::Coprocessor => return Self::AArch32,
            RegisterClass::Sve => return Self::Vectors,
            RegisterClass::Unknown => return Self::Other,
            _ => {}
        }
        if id.is_pmu() {
            return Self::PerformanceMonitors;
        }
        match RegisterKind::from_id(id) {
            RegisterKind::Identification
            | RegisterKind::Implementation
            | RegisterKind::CacheType
            | RegisterKind::CacheLevels
            | RegisterKind::CacheSize(_) => Self::Identification,
            _ if id == RegisterId::MPIDR_EL1 => Self::Identification,
            _ => Self::System,
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Identification => "identification and caches",
            Self::System => "system registers",
            Self::PerformanceMonitors => "performance monitors",
            Self::AArch32 => "AArch32 registers",
            Self::Vectors => "SVE",
            Self::Other => "ids of unknown class",
        }
    }
}
