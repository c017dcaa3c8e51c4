//! KVM's rule for ID registers, by release. Generated from data/id-fields.tsv by
//! `cargo xtask gen-id-fields`: do not edit.
//!
//! KVM's rule for values of ID registers, by release. From arch/arm64/kernel/cpufeature.c (types),
//! arch/arm64/kvm/sys_regs.c (KVM's own types, special rules) and arch/arm64/tools/sysreg
//! (positions) of Linux 5.10.223, 6.1.176, 6.12.107, 7.2.12, 7.3.4 as in Debian's linux-source
//! packages, by cargo xtask gen-id-fields.

use super::id_rule::ReleaseRule::{self, Current, Types};
use super::id_rule::SpecialRule;
use super::id_rule::{FieldRule, exact, higher, higher_or_zero, lower, signed};
use crate::destination::Version;

/// Examined releases, oldest first. Other tables refer to them by index.
#[rustfmt::skip]
pub(super) static RELEASES: &[(Version, ReleaseRule)] = &[
    (Version::new(5, 10), Current),
    (Version::new(6, 1), Current),
    (Version::new(6, 12), Types),
    (Version::new(7, 2), Types),
    (Version::new(7, 3), Types),
];

/// Special rules, with the first and the last release that has each.
#[rustfmt::skip]
pub(super) static SPECIAL_RULES: &[(SpecialRule, u8, u8)] = &[
    (SpecialRule::Aarch32DebugVersionMinimum, 2, 4),
    (SpecialRule::Aarch32IgnoresWrites, 1, 4),
    (SpecialRule::Aarch32ImpdefPmuDropped, 2, 4),
    (SpecialRule::Aarch32PmuMinimum, 2, 4),
    (SpecialRule::Csv2AndCsv3Writable, 1, 1),
    (SpecialRule::Csv2Writable, 0, 0),
    (SpecialRule::DebugVersionMinimum, 2, 4),
    (SpecialRule::DoubleLockDropped, 3, 4),
    (SpecialRule::ExceptionLevelsRequired, 3, 4),
    (SpecialRule::ImpdefPmuDropped, 2, 4),
    (SpecialRule::MpamDropped, 2, 4),
    (SpecialRule::MpamFracDropped, 2, 4),
    (SpecialRule::MteFracDropped, 3, 4),
    (SpecialRule::NvDropped, 3, 4),
];

/// Fields that KVM compares, by register id; most significant first.
#[rustfmt::skip]
pub(super) static FIELDS: &[(u64, &[FieldRule])] = &[
    (0x6030_0000_0013_c008, &[lower(27, 24, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c009, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c00a, &[lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c00c, &[signed(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), signed(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c00d, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c00e, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c00f, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c010, &[lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c011, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c012, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c013, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c014, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c015, &[lower(27, 24, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c016, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), higher(3, 0, 2, 4)]),
    (0x6030_0000_0013_c017, &[lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c018, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c019, &[lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c01a, &[lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c01c, &[lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c01d, &[signed(3, 0, 2, 4)]),
    (0x6030_0000_0013_c01e, &[lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c020, &[lower(63, 60, 2, 4), lower(59, 56, 2, 4), lower(51, 48, 2, 4), lower(47, 44, 2, 4), lower(43, 40, 2, 4), lower(39, 36, 2, 4), lower(35, 32, 2, 4), lower(31, 28, 2, 4), lower(27, 24, 2, 4), signed(23, 20, 2, 4), signed(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c021, &[lower(59, 56, 3, 4), lower(47, 44, 3, 4), signed(43, 40, 3, 4), lower(27, 24, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c022, &[lower(35, 32, 2, 4), lower(15, 12, 3, 4), lower(11, 8, 3, 4), lower(7, 4, 3, 4)]),
    (0x6030_0000_0013_c024, &[lower(59, 56, 2, 4), lower(55, 52, 2, 4), lower(51, 48, 3, 4), lower(47, 44, 2, 4), lower(43, 40, 2, 4), lower(35, 32, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 3, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c025, &[exact(63, 63, 0x0, 2, 4), exact(61, 61, 0x0, 3, 4), exact(60, 60, 0x0, 2, 4), exact(59, 56, 0x0, 2, 4), exact(55, 52, 0x0, 2, 4), exact(48, 48, 0x0, 2, 4), exact(47, 44, 0x0, 2, 4), exact(43, 43, 0x0, 2, 4), exact(42, 42, 0x0, 2, 4), exact(41, 41, 0x0, 2, 4), exact(40, 40, 0x0, 2, 4), exact(39, 36, 0x0, 2, 4), exact(35, 35, 0x0, 2, 4), exact(34, 34, 0x0, 2, 4), exact(33, 33, 0x0, 2, 4), exact(32, 32, 0x0, 2, 4), exact(30, 30, 0x0, 2, 4), exact(29, 29, 0x0, 2, 4), exact(28, 28, 0x0, 2, 4), exact(25, 25, 0x0, 3, 4), exact(24, 24, 0x0, 3, 4), exact(23, 23, 0x0, 3, 4), exact(16, 16, 0x0, 3, 4), exact(0, 0, 0x0, 3, 4)]),
    (0x6030_0000_0013_c027, &[exact(31, 31, 0x0, 2, 4), exact(30, 30, 0x0, 2, 4), exact(29, 29, 0x0, 2, 4), exact(28, 28, 0x0, 2, 4), exact(27, 27, 0x0, 3, 4), exact(26, 26, 0x0, 3, 4), exact(15, 15, 0x0, 3, 4), exact(1, 1, 0x0, 2, 4), exact(0, 0, 0x0, 2, 4)]),
    (0x6030_0000_0013_c028, &[signed(39, 36, 2, 4), lower(35, 32, 2, 4), lower(31, 28, 2, 4), lower(23, 20, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c030, &[lower(63, 60, 2, 4), lower(59, 56, 2, 4), lower(55, 52, 2, 4), lower(51, 48, 2, 4), lower(47, 44, 2, 4), lower(43, 40, 2, 4), lower(39, 36, 2, 4), lower(35, 32, 2, 4), lower(31, 28, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4)]),
    (0x6030_0000_0013_c031, &[lower(63, 60, 3, 4), lower(59, 56, 2, 4), lower(55, 52, 2, 4), lower(51, 48, 2, 4), lower(47, 44, 2, 4), lower(43, 40, 2, 4), lower(39, 36, 2, 4), lower(35, 32, 2, 4), lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), exact(11, 8, 0x0, 2, 4), exact(7, 4, 0x0, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c032, &[lower(63, 60, 3, 4), lower(59, 56, 2, 4), lower(55, 52, 2, 4), lower(51, 48, 2, 4), lower(31, 28, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), exact(15, 12, 0x0, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c033, &[lower(31, 28, 3, 4), lower(27, 24, 3, 4), lower(19, 16, 3, 4), lower(7, 4, 2, 4)]),
    (0x6030_0000_0013_c038, &[lower(63, 60, 2, 4), lower(59, 56, 2, 4), lower(47, 44, 2, 4), exact(43, 40, 0x1, 2, 4), exact(39, 36, 0x1, 2, 4), exact(35, 32, 0x1, 2, 4), signed(31, 28, 2, 4), signed(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c039, &[lower(63, 60, 2, 4), lower(55, 52, 2, 4), lower(47, 44, 2, 4), lower(43, 40, 2, 4), lower(39, 36, 2, 4), lower(35, 32, 2, 4), lower(31, 28, 2, 4), higher(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c03a, &[lower(63, 60, 2, 4), lower(59, 56, 2, 4), lower(55, 52, 2, 4), lower(51, 48, 2, 4), lower(43, 40, 2, 4), lower(39, 36, 2, 4), lower(35, 32, 2, 4), lower(31, 28, 2, 4), lower(27, 24, 2, 4), lower(23, 20, 2, 4), lower(19, 16, 2, 4), lower(15, 12, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 2, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c03b, &[lower(19, 16, 2, 4), lower(11, 8, 2, 4), lower(7, 4, 3, 4), lower(3, 0, 2, 4)]),
    (0x6030_0000_0013_c03c, &[signed(27, 24, 2, 4), lower(23, 20, 3, 4)]),
    (0x6030_0000_0013_d801, &[exact(31, 31, 0x1, 2, 4), lower(29, 29, 2, 4), lower(28, 28, 2, 4), higher_or_zero(27, 24, 2, 4), higher_or_zero(23, 20, 2, 4), lower(19, 16, 2, 4), exact(15, 14, 0x2, 2, 4), lower(3, 0, 2, 4)]),
];
