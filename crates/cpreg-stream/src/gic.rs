//! The section of the interrupt controller: ICC_CTLR_EL1 and GICR_CTLR of a GICv3's vCPUs.
//!
//! The layout is that of QEMU's `hw/intc/arm_gicv3_common.c`, the same from 5.2 to 11.1. Numbers
//! are big-endian:
//!
//! ```text
//! distributor                                            10344 bytes
//! each vCPU      redistributor: level, GICR_CTLR …          96 bytes
//!                icc_ctlr_el1[2]: Secure, Non-secure        16 bytes
//!                rest of the CPU interface                 160 bytes
//!                subsections `arm_gicv3_cpu/...`
//! subsections `arm_gicv3/...`
//! ```
//!
//! KVM's value is the Non-secure one. The number of vCPUs is not in the section.

use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::HardwareFacts;

use crate::cursor::read_bytes;
use crate::element::Section;
use crate::error::Error;
use crate::source::ReadAt;

/// Id string of a GICv3's section.
pub(crate) const GICV3: &str = "arm_gicv3";
/// Id string of a GICv2's section.
const GICV2: &str = "arm_gic";

/// Version of the section, the same from QEMU 5.2 to 11.1.
const VERSION: u32 = 1;
/// Length of the distributor's state.
const DISTRIBUTOR_LEN: usize = 10344;
/// Length of a vCPU's state, without subsections.
const VCPU_LEN: usize = 272;
/// Offset of GICR_CTLR in a vCPU's state.
const GICR_CTLR: usize = 4;
/// GICR_CTLR.EnableLPIs: the vCPU takes LPIs.
const ENABLE_LPIS: u32 = 1;
/// Offset of the Non-secure ICC_CTLR_EL1 in a vCPU's state.
const ICC_CTLR_NS: usize = 104;
/// Marker of a subsection.
const SUBSECTION: u8 = 5;
/// Subsections of a vCPU, and the lengths of their fields.
const VCPU_SUBSECTIONS: [(&str, usize); 4] = [
    ("arm_gicv3_cpu/gicv4", 16),
    ("arm_gicv3_cpu/nmi", 4),
    ("arm_gicv3_cpu/sre_el1", 8),
    ("arm_gicv3_cpu/virt", 240),
];
/// Maximum length of a section that is read: that of 512 vCPUs has less than 310 KiB.
const MAX_LEN: u64 = 1 << 20;

/// State of a GICv3 that belongs to one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GicVcpu {
    limits: GicLimits,
    uses_lpis: bool,
}

/// Returns the interrupt controller of a machine with these sections and number of vCPUs, and its
/// use of LPIs.
///
/// Nothing is known without a section of a known controller, or of a section with another layout.
///
/// # Errors
/// Returns an error if the section cannot be read, or if the vCPUs contradict each other.
pub(crate) fn read(
    source: &dyn ReadAt,
    sections: &[Section],
    vcpu_count: usize,
) -> Result<HardwareFacts, Error> {
    if sections.iter().any(|section| section.name == GICV2) {
        return Ok(HardwareFacts {
            gic: Some(Gic::Other),
            ..HardwareFacts::UNKNOWN
        });
    }
    let section = sections.iter().find(|section| section.name == GICV3);
    let Some(section) = section else {
        return Ok(HardwareFacts::UNKNOWN);
    };
    let length = section.payload.end - section.payload.start;
    let Some(length) = usize::try_from(length).ok().filter(|_| length <= MAX_LEN) else {
        return Ok(HardwareFacts::UNKNOWN);
    };
    let payload = read_bytes(source, section.payload.start, length)?;
    match parse(&payload, section.version) {
        Some(vcpus) if vcpus.len() == vcpu_count => required(&vcpus, section),
        _ => Ok(HardwareFacts::UNKNOWN),
    }
}

/// Returns the GICv3 that takes all vCPUs, and its use of LPIs.
pub(crate) fn required(vcpus: &[GicVcpu], section: &Section) -> Result<HardwareFacts, Error> {
    let limits = GicLimits::required_for(vcpus.iter().map(|vcpu| vcpu.limits));
    let limits = limits.ok_or_else(|| {
        Error::malformed(
            section.payload.start,
            "the vCPUs have different values of ICC_CTLR_EL1.SEIS or A3V",
        )
        .prepend_path(GICV3)
        .with_hint("the stream is damaged: no host has such a GIC")
    })?;
    Ok(HardwareFacts {
        gic: Some(Gic::V3(limits)),
        uses_lpis: Some(vcpus.iter().any(|vcpu| vcpu.uses_lpis)),
        ..HardwareFacts::UNKNOWN
    })
}

/// Returns the state of each vCPU in a GICv3's section; `None` for another layout.
pub(crate) fn parse(payload: &[u8], version: u32) -> Option<Vec<GicVcpu>> {
    if version != VERSION {
        return None;
    }
    let mut vcpus = Vec::new();
    let mut rest = payload.get(DISTRIBUTOR_LEN..)?;
    while !rest.is_empty() && !subsection_name(rest).is_some_and(is_distributor_subsection) {
        let (vcpu, after) = rest.split_at_checked(VCPU_LEN)?;
        let icc_ctlr = vcpu.get(ICC_CTLR_NS..)?.first_chunk()?;
        let gicr_ctlr = vcpu.get(GICR_CTLR..)?.first_chunk()?;
        vcpus.push(GicVcpu {
            limits: GicLimits::from_icc_ctlr(u64::from_be_bytes(*icc_ctlr)),
            uses_lpis: u32::from_be_bytes(*gicr_ctlr) & ENABLE_LPIS != 0,
        });
        rest = skip_vcpu_subsections(after)?;
    }
    (!vcpus.is_empty()).then_some(vcpus)
}

fn is_distributor_subsection(name: &[u8]) -> bool {
    name.starts_with(b"arm_gicv3/")
}

/// Returns the bytes after the subsections of a vCPU; `None` for an unknown subsection.
fn skip_vcpu_subsections(mut rest: &[u8]) -> Option<&[u8]> {
    while let Some(name) = subsection_name(rest).filter(|name| name.starts_with(b"arm_gicv3_cpu/"))
    {
        let mut known = VCPU_SUBSECTIONS.iter();
        let (_, length) = known.find(|(known, _)| known.as_bytes() == name)?;
        // Marker, length of the name, name, version, fields.
        rest = rest.get(1 + 1 + name.len() + 4 + length..)?;
    }
    Some(rest)
}

/// Returns the name of the subsection at the beginning of `bytes`, if it is one.
fn subsection_name(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [SUBSECTION, length, rest @ ..] => rest.get(..usize::from(*length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subsection(name: &str, length: usize) -> Vec<u8> {
        let mut bytes = vec![SUBSECTION, u8::try_from(name.len()).expect("a short name")];
        bytes.extend(name.as_bytes());
        bytes.extend([0, 0, 0, 1]);
        bytes.resize(bytes.len() + length, 0xff);
        bytes
    }

    /// Returns a section with these values, and these subsections of each vCPU.
    fn payload(values: &[u64], subsections: &[(&str, usize)]) -> Vec<u8> {
        let mut payload = vec![0xff; DISTRIBUTOR_LEN];
        for value in values {
            let mut vcpu = vec![0xff; VCPU_LEN];
            vcpu[ICC_CTLR_NS..ICC_CTLR_NS + 8].copy_from_slice(&value.to_be_bytes());
            payload.extend(vcpu);
            for (name, length) in subsections {
                payload.extend(subsection(name, *length));
            }
        }
        payload
    }

    fn bits(payload: &[u8]) -> Option<Vec<u64>> {
        let vcpus = parse(payload, VERSION)?;
        Some(vcpus.into_iter().map(|vcpu| vcpu.limits.bits()).collect())
    }

    /// Reads a section of this name for a machine with two vCPUs.
    fn read_section(name: &str, payload: &[u8]) -> Result<HardwareFacts, Error> {
        let range = 0..payload.len() as u64;
        let section = Section {
            kind: crate::element::SectionKind::Full,
            id: 1,
            name: name.to_owned(),
            instance: 0,
            version: VERSION,
            range: range.clone(),
            payload: range,
        };
        read(&payload, &[section], 2)
    }

    #[test]
    fn sections_give_the_controller() {
        let limits = |bits| Some(Gic::V3(GicLimits::from_icc_ctlr(bits)));
        let both = payload(&[0x8400, 0x8500], &[]);
        let gic = |name, payload: &[u8]| read_section(name, payload).expect("a section").gic;
        assert_eq!(gic("arm_gicv3", &both), limits(0x8500));
        assert_eq!(gic("arm_gic", &[1, 2, 3]), Some(Gic::Other));
        assert_eq!(gic("arm_gicv3_its", &both), None);
        // Not as many vCPUs as the machine.
        assert_eq!(gic("arm_gicv3", &payload(&[0x8400], &[])), None);
        let error = read_section("arm_gicv3", &payload(&[0x8400, 0xc400], &[]));
        let error = error.expect_err("two values of SEIS");
        assert!(
            error.to_string().starts_with("arm_gicv3 at byte 0x0: "),
            "{error}"
        );
    }

    #[test]
    fn one_vcpu_with_lpis_is_enough() {
        let mut bytes = payload(&[0x8400, 0x8400], &[]);
        for (vcpu, is_enabled) in [(0, false), (1, true)] {
            let start = DISTRIBUTOR_LEN + vcpu * VCPU_LEN + GICR_CTLR;
            // RWP, and EnableLPIs.
            let value = 1_u32 << 3 | u32::from(is_enabled);
            bytes[start..start + 4].copy_from_slice(&value.to_be_bytes());
        }
        let uses_lpis = |bytes: &[u8]| read_section("arm_gicv3", bytes).expect("a GIC").uses_lpis;
        assert_eq!(uses_lpis(&bytes), Some(true));
        bytes[DISTRIBUTOR_LEN + VCPU_LEN + GICR_CTLR + 3] = 8;
        assert_eq!(uses_lpis(&bytes), Some(false));
    }

    #[test]
    fn subsections_are_skipped() {
        let values = [0x8402, 0x8503, 0x8400];
        for subsections in [&[][..], &VCPU_SUBSECTIONS[..], &VCPU_SUBSECTIONS[2..3]] {
            let mut bytes = payload(&values, subsections);
            let expected = Some(vec![0x8400, 0x8500, 0x8400]);
            assert_eq!(bits(&bytes), expected);
            bytes.extend(subsection("arm_gicv3/gicd_no_migration_shift_bug", 1));
            bytes.extend(subsection("arm_gicv3/gicd_nmi", 128));
            assert_eq!(bits(&bytes), expected);
        }
    }

    #[test]
    fn other_layouts_are_not_known() {
        let bytes = payload(&[0x8400, 0x8400], &[]);
        assert_eq!(parse(&bytes, VERSION + 1), None);
        for length in [0, DISTRIBUTOR_LEN - 1, DISTRIBUTOR_LEN, bytes.len() - 1] {
            assert_eq!(bits(&bytes[..length]), None, "{length}");
        }
        assert_eq!(bits(&payload(&[0x8400], &[("arm_gicv3_cpu/new", 8)])), None);
        assert_eq!(bits(&payload(&[0x8400], &[("arm_gicv3_cpu/nmi", 8)])), None);
    }
}
