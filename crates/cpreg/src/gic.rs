//! [`Gic`]: the interrupt controller of a host or VM, as far as KVM compares the two;
//! [`GicLimits`]: the fixed fields of ICC_CTLR_EL1.
//!
//! ICC_CTLR_EL1 is state of the GIC and not of a vCPU: no register list has it. KVM takes the value
//! of a VM only if the host's GIC implements it, and QEMU aborts if KVM does not take it.
//!
//! Sources: Linux `arch/arm64/kvm/vgic-sys-reg-v3.c`, `set_gic_ctlr`, the same rule from 5.10 to
//! 7.3; QEMU `hw/intc/arm_gicv3_kvm.c`, which writes the register with `error_abort`.

use core::fmt;

/// Interrupt controller of a host or VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gic {
    /// GICv3 whose CPU interface has these limits.
    V3(GicLimits),
    /// Another interrupt controller.
    Other,
}

/// Fixed fields of ICC_CTLR_EL1: PRIbits, IDbits, SEIS and A3V.
///
/// The guest cannot write these fields. Its reads of the register give the host's fields, whatever
/// value KVM has taken for the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GicLimits(u16);

/// Field of [`GicLimits`].
#[derive(Clone, Copy)]
struct LimitField {
    name: &'static str,
    lsb: u32,
    width: u32,
    /// `true` if KVM takes a smaller number than the host's.
    can_be_less: bool,
}

/// The fields, from the lowest.
const FIELDS: [LimitField; 4] = [
    LimitField::new("PRIbits", 8, 3, true),
    LimitField::new("IDbits", 11, 3, true),
    LimitField::new("SEIS", 14, 1, false),
    LimitField::new("A3V", 15, 1, false),
];

impl LimitField {
    const fn new(name: &'static str, lsb: u32, width: u32, can_be_less: bool) -> Self {
        Self {
            name,
            lsb,
            width,
            can_be_less,
        }
    }

    const fn get(self, limits: GicLimits) -> u16 {
        limits.0 >> self.lsb & ((1 << self.width) - 1)
    }

    /// Returns `true` if KVM takes the field of a VM on this host.
    const fn accepts(self, host: GicLimits, vm: GicLimits) -> bool {
        let (host, vm) = (self.get(host), self.get(vm));
        host == vm || self.can_be_less && vm < host
    }
}

impl GicLimits {
    /// Mask of the fields in ICC_CTLR_EL1.
    pub const MASK: u64 = 0xff00;

    /// Returns the fields in a value of ICC_CTLR_EL1.
    pub const fn from_icc_ctlr(value: u64) -> Self {
        Self((value & Self::MASK) as u16)
    }

    /// Returns the fields at their places in ICC_CTLR_EL1.
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }

    /// Returns `true` if a GIC can have these fields: at least 4 bits of priority, and interrupt
    /// numbers of 16 or 24 bits. The architecture has no others.
    pub const fn is_possible(self) -> bool {
        let [priority, id, ..] = FIELDS;
        priority.get(self) >= 3 && id.get(self) <= 1
    }

    /// Returns the limits that a host needs for vCPUs with these limits.
    ///
    /// Returns `None` without a vCPU, or if no host takes them all because SEIS or A3V differ.
    pub fn required_for(vcpus: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut vcpus = vcpus.into_iter();
        let first = vcpus.next()?;
        vcpus.try_fold(first, |all, vcpu| {
            let bits = FIELDS.into_iter().try_fold(0, |bits, field| {
                let (one, other) = (field.get(all), field.get(vcpu));
                let is_possible = one == other || field.can_be_less;
                is_possible.then(|| bits | one.max(other) << field.lsb)
            });
            bits.map(Self)
        })
    }

    /// Returns `true` if KVM on a host with these limits takes a VM with the limits `vm`.
    pub fn accepts(self, vm: Self) -> bool {
        FIELDS.iter().all(|field| field.accepts(self, vm))
    }

    /// Returns the fields of `vm` that KVM on a host with these limits refuses, formatted as a
    /// list such as `PRIbits 6 above 4, SEIS 1 in place of 0`.
    pub(crate) fn refused_fields(self, vm: Self) -> impl fmt::Display {
        RefusedFields { host: self, vm }
    }
}

impl fmt::Display for GicLimits {
    /// Formats the value and its fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} (", self.0)?;
        for (number, field) in FIELDS.into_iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}", field.name, field.get(*self))?;
        }
        f.write_str(")")
    }
}

struct RefusedFields {
    host: GicLimits,
    vm: GicLimits,
}

impl fmt::Display for RefusedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = FIELDS
            .into_iter()
            .filter(|field| !field.accepts(self.host, self.vm));
        for (number, field) in refused.enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let relation = if field.can_be_less {
                "above"
            } else {
                "in place of"
            };
            let (vm, host) = (field.get(self.vm), field.get(self.host));
            write!(f, "{separator}{} {vm} {relation} {host}", field.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn limits(priority: u64, id: u64, seis: u64, a3v: u64) -> GicLimits {
        GicLimits::from_icc_ctlr(priority << 8 | id << 11 | seis << 14 | a3v << 15)
    }

    #[test]
    fn kvm_takes_fewer_bits_and_no_other_flags() {
        let host = limits(5, 1, 0, 1);
        for (vm, refused) in [
            (limits(5, 1, 0, 1), ""),
            (limits(0, 0, 0, 1), ""),
            (limits(4, 1, 0, 1), ""),
            (limits(6, 1, 0, 1), "PRIbits 6 above 5"),
            (limits(7, 0, 0, 1), "PRIbits 7 above 5"),
            (limits(5, 2, 0, 1), "IDbits 2 above 1"),
            (limits(5, 7, 0, 1), "IDbits 7 above 1"),
            (limits(5, 1, 1, 1), "SEIS 1 in place of 0"),
            (limits(5, 1, 0, 0), "A3V 0 in place of 1"),
            (
                limits(7, 7, 1, 0),
                "PRIbits 7 above 5, IDbits 7 above 1, SEIS 1 in place of 0, A3V 0 in place of 1",
            ),
        ] {
            assert_eq!(host.accepts(vm), refused.is_empty(), "{vm}");
            assert_eq!(host.refused_fields(vm).to_string(), refused);
        }
        let (with_seis, without_a3v) = (limits(4, 0, 1, 1), limits(4, 0, 0, 0));
        assert!(!with_seis.accepts(limits(4, 0, 0, 1)));
        assert!(!without_a3v.accepts(limits(4, 0, 0, 1)));
    }

    /// The guest writes EOImode and CBPR, and KVM never shows ExtRange and RSS.
    #[test]
    fn other_fields_are_no_limits() {
        let value = GicLimits::from_icc_ctlr(0xffff_ffff_ffff_00ff | 0x8400);
        assert_eq!(value, limits(4, 0, 0, 1));
        assert_eq!(value.bits(), 0x8400);
        assert_eq!(
            value.to_string(),
            "0x8400 (PRIbits 4, IDbits 0, SEIS 0, A3V 1)"
        );
    }

    #[test]
    fn a_host_needs_the_most_bits_of_all_vcpus() {
        let required = |vcpus: &[GicLimits]| GicLimits::required_for(vcpus.iter().copied());
        assert_eq!(required(&[]), None);
        assert_eq!(required(&[limits(4, 0, 1, 0)]), Some(limits(4, 0, 1, 0)));
        assert_eq!(
            required(&[limits(4, 1, 1, 1), limits(6, 0, 1, 1), limits(5, 0, 1, 1)]),
            Some(limits(6, 1, 1, 1))
        );
        assert_eq!(required(&[limits(4, 0, 0, 1), limits(4, 0, 1, 1)]), None);
        assert_eq!(required(&[limits(4, 0, 0, 1), limits(4, 0, 0, 0)]), None);
    }

    #[test]
    fn impossible_numbers_of_bits_are_recognised() {
        for (limits, is_possible) in [
            (limits(2, 0, 0, 0), false),
            (limits(3, 0, 1, 1), true),
            (limits(7, 1, 0, 0), true),
            (limits(7, 2, 0, 0), false),
        ] {
            assert_eq!(limits.is_possible(), is_possible, "{limits}");
        }
    }
}
