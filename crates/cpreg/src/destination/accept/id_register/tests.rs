//! Tests of KVM's rule for ID registers.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::destination::Accelerator;
use crate::register::Value;

const IS_ACCEPTED: Option<bool> = Some(true);
const IS_REFUSED: Option<bool> = Some(false);

/// Host with one register besides ID_AA64PFR0_EL1.
#[derive(Clone, Copy)]
struct Host {
    release: Option<(u16, u16)>,
    origin: ValueOrigin,
    pfr0: u64,
}

const HOST: Host = Host {
    release: Some((7, 3)),
    origin: ValueOrigin::Reset,
    pfr0: 0x22,
};

impl Host {
    fn release(self, major: u16, minor: u16) -> Self {
        let release = Some((major, minor));
        Self { release, ..self }
    }

    fn acceptor(self) -> Acceptor {
        Acceptor {
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            kernel_version: self
                .release
                .map(|(major, minor)| Version::new(major, minor)),
            value_origin: Some(self.origin),
        }
    }

    fn vcpu(self, id: RegisterId, own: u64, mask: Option<u64>) -> DestinationVcpu {
        let register = |id, value, mask: Option<u64>| DestinationRegister {
            id,
            value: Some(Value::U64(value)),
            accepted_values: mask.map_or(AcceptedValues::ByKind, AcceptedValues::Writable),
        };
        let registers = [
            register(RegisterId::ID_AA64PFR0_EL1, self.pfr0, mask.map(|_| 0)),
            register(id, own, mask),
        ];
        DestinationVcpu::new(registers, Vec::new())
    }

    fn accepts(self, id: RegisterId, own: u64, mask: Option<u64>, value: u64) -> Option<bool> {
        let vcpu = self.vcpu(id, own, mask);
        let register = vcpu.get(id).expect("the register");
        let value = Value::U64(value);
        self.acceptor().evaluate(&vcpu, register, &value).as_bool()
    }
}

#[test]
fn the_mask_and_the_type_decide() {
    let pfr0 = |value| HOST.accepts(RegisterId::ID_AA64PFR0_EL1, 0x11_0011, Some(!0), value);
    // 0xf of a signed field is less than 0, not more.
    assert_eq!(pfr0(0xff_0011), IS_ACCEPTED);
    assert_eq!(pfr0(0x21_0011), IS_REFUSED);
    let fixed = |value| HOST.accepts(RegisterId::ID_AA64PFR0_EL1, 0x11, Some(!0 << 16), value);
    assert_eq!(fixed(0x10), IS_REFUSED);
    let tgran = |value| HOST.accepts(RegisterId::ID_AA64MMFR0_EL1, 2 << 32, Some(!0), value);
    assert_eq!(tgran(1 << 32), IS_ACCEPTED);
    assert_eq!(tgran(0), IS_REFUSED);
    let spec_sei = |value| HOST.accepts(RegisterId::ID_AA64MMFR1_EL1, 0, Some(!0), value);
    assert_eq!(spec_sei(1 << 24), IS_ACCEPTED);
    // A field that no release knows cannot change, whatever the mask says.
    assert_eq!(spec_sei(1 << 52), IS_REFUSED);
}

/// KVM drops the field if it equals the CPU's, which no recording shows.
#[test]
fn dropped_fields_are_unknown() {
    let nv =
        |host: Host, value| host.accepts(RegisterId::ID_AA64MMFR2_EL1, 0x10, Some(0xff), value);
    assert_eq!(nv(HOST, 0x200_0010), None);
    assert_eq!(nv(HOST, 0x200_0020), IS_REFUSED);
    assert_eq!(nv(HOST.release(6, 12), 0x200_0010), IS_REFUSED);
    assert_eq!(nv(HOST.release(6, 16), 0x200_0010), None);
    let mpam = |value| HOST.accepts(RegisterId::ID_AA64PFR0_EL1, 0x11, Some(!0), value);
    assert_eq!(mpam(0x11 | 1 << 40), None);
    let mte = |value| {
        let own = PFR1_MTE_FRAC | PFR1_MTE2;
        HOST.accepts(RegisterId::ID_AA64PFR1_EL1, own, Some(0), value)
    };
    assert_eq!(mte(PFR1_MTE2), IS_ACCEPTED);
    assert_eq!(mte(PFR1_MTE2 | 1 << 40), IS_REFUSED);
}

#[test]
fn debug_before_armv8_is_refused() {
    let debug = |value| HOST.accepts(RegisterId::ID_DFR0_EL1, 0x600_000a, Some(!0), value);
    assert_eq!(debug(0), IS_REFUSED);
    assert_eq!(debug(0x600_0006), IS_ACCEPTED);
    assert_eq!(debug(0x300_000a), IS_ACCEPTED);
    assert_eq!(debug(0x100_000a), IS_REFUSED);
    assert_eq!(debug(0xa), IS_ACCEPTED);
    assert_eq!(debug(0xf00_000a), IS_ACCEPTED);
    let debug = |value| HOST.accepts(RegisterId::ID_AA64DFR0_EL1, 0x608, Some(!0), value);
    assert_eq!(debug(0x606), IS_ACCEPTED);
    assert_eq!(debug(0x605), IS_REFUSED);
    assert_eq!(debug(0xf08), IS_ACCEPTED);
    assert_eq!(debug(0x708), IS_REFUSED);
}

#[test]
fn exception_levels_stay_since_6_16() {
    let levels =
        |host: Host, value| host.accepts(RegisterId::ID_AA64PFR0_EL1, 0x22, Some(!0), value);
    assert_eq!(levels(HOST, 0x11), IS_ACCEPTED);
    assert_eq!(levels(HOST, 0x02), IS_REFUSED);
    assert_eq!(levels(HOST.release(6, 16), 0x20), IS_REFUSED);
    assert_eq!(levels(HOST.release(6, 12), 0x20), IS_ACCEPTED);
    let unknown = Host {
        release: None,
        ..HOST
    };
    assert_eq!(levels(unknown, 0x20), None);
    assert_eq!(levels(unknown, 0x21), IS_ACCEPTED);
    assert_eq!(levels(unknown, 0x23), IS_REFUSED);
}

/// Before v6.5, a register keeps its value, except CSV2 and CSV3.
#[test]
fn old_kernels_accept_the_current_value() {
    let old = HOST.release(6, 1);
    let isar0 = |host: Host| host.accepts(RegisterId::ID_AA64ISAR0_EL1, 0x10, None, 0);
    assert_eq!(isar0(old), IS_REFUSED);
    assert_eq!(isar0(HOST), None);
    let raised = |host: Host| host.accepts(RegisterId::ID_AA64ISAR0_EL1, 0x10, None, 0x20);
    assert_eq!(raised(HOST), IS_REFUSED);
    assert_eq!(raised(old), IS_REFUSED);
    let pfr0 = |host: Host, own: u64, value: u64| {
        host.accepts(RegisterId::ID_AA64PFR0_EL1, own << 56, None, value << 56)
    };
    assert_eq!(pfr0(old, 0x11, 0x00), IS_ACCEPTED);
    assert_eq!(pfr0(old, 0x11, 0x21), IS_REFUSED);
    assert_eq!(pfr0(old, 0x10, 0x11), IS_REFUSED);
    assert_eq!(pfr0(HOST.release(5, 10), 0x11, 0x10), IS_ACCEPTED);
    assert_eq!(pfr0(HOST.release(5, 10), 0x11, 0x01), IS_REFUSED);
    let guest = Host {
        origin: ValueOrigin::Guest,
        ..old
    };
    assert_eq!(pfr0(guest, 0x10, 0x11), None);
}

/// A guest may have had less than the limit.
#[test]
fn values_of_a_guest_are_no_limit() {
    let guest = Host {
        origin: ValueOrigin::Guest,
        ..HOST
    };
    let isar0 = |value| guest.accepts(RegisterId::ID_AA64ISAR0_EL1, 0x10, Some(!0), value);
    assert_eq!(isar0(0), IS_ACCEPTED);
    assert_eq!(isar0(0x20), None);
    let fixed = |value| guest.accepts(RegisterId::ID_AA64ISAR0_EL1, 0x10, Some(0), value);
    assert_eq!(fixed(0), IS_REFUSED);
}

#[test]
fn aarch32_registers_ignore_writes_without_32_bit_el0() {
    let id = RegisterId::ID_DFR0_EL1;
    let host = Host { pfr0: 0x11, ..HOST };
    for mask in [None, Some(0)] {
        assert_eq!(host.accepts(id, 0, mask, 0x400_0006), IS_ACCEPTED);
        assert_eq!(host.release(6, 1).accepts(id, 0, mask, 1), IS_ACCEPTED);
        assert_eq!(HOST.accepts(id, 0, mask, 0x400_0006), IS_REFUSED);
        assert_eq!(
            host.accepts(RegisterId::ID_AFR0_EL1, 0, mask, 1),
            IS_REFUSED
        );
    }
    assert_eq!(host.release(5, 10).accepts(id, 0, None, 1), IS_REFUSED);
    let replaced = |host: Host, value| {
        let vcpu = host.vcpu(id, 0, Some(0));
        let register = vcpu.get(id).unwrap();
        host.acceptor().replaced_value(&vcpu, register, value)
    };
    assert_eq!(replaced(host, 0x400_0006), Some(0));
    assert_eq!(replaced(host, 0), None);
    assert_eq!(replaced(HOST, 0x400_0006), None);
    let debug = RegisterId::ID_AA64DFR0_EL1;
    let vcpu = HOST.vcpu(debug, 0x608, Some(!0));
    let register = vcpu.get(debug).unwrap();
    let replaced = HOST.acceptor().replaced_value(&vcpu, register, 0xf06);
    assert_eq!(replaced, Some(0x006));
}

/// A field's type is the same in all releases that have the field.
#[test]
fn releases_differ_in_no_type() {
    for (id, rules) in FIELDS {
        let bits: Vec<_> = rules.iter().map(|rule| rule.mask()).collect();
        assert!(bits.is_sorted_by(|a, b| a > b && a & b == 0), "{id:#x}");
    }
    assert!(FIELDS.is_sorted_by_key(|(id, _)| *id));
    assert!(RELEASES.is_sorted_by_key(|(version, _)| *version));
    assert!(FIELDS.len() > 35);
}

proptest! {
    /// Without the release, an answer is that of every release.
    #[test]
    fn an_unknown_release_is_cautious(
        register in 0..FIELDS.len(), own: u64, change: u64, mask: u64, release in 0..RELEASES.len(),
        is_guest: bool,
    ) {
        let id = RegisterId::from_raw(FIELDS[register].0);
        let (version, rule) = RELEASES[release];
        prop_assume!(rule == ReleaseRule::Types);
        let origin = if is_guest { ValueOrigin::Guest } else { ValueOrigin::Reset };
        let unknown = Host { release: None, origin, ..HOST };
        let value = own ^ change & 0xf << (change % 16 * 4);
        let answer = unknown.accepts(id, own, Some(mask), value);
        let known = unknown.release(version.major, version.minor);
        prop_assert!(answer.is_none() || answer == known.accepts(id, own, Some(mask), value));
    }
}
