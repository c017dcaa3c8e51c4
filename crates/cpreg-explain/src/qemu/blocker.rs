//! Refusals to migrate a VM at all, which QEMU and libvirt print at the source, and a postcopy
//! migration that stopped in the middle.
//!
//! Sources: QEMU's `migration/migration.c`, `migration/savevm.c`, `target/arm/kvm.c`
//! (`kvm_arm_enable_mte`), `hw/intc/arm_gicv3_kvm.c`, `hw/intc/arm_gicv3_its_kvm.c` and
//! `hw/intc/arm_gic_kvm.c`.

use crate::message::{BlockerReason, Symptom};
use crate::pattern::{Cursor, Pattern, to_name};

/// Patterns of refusals.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("Live migration disabled due to MTE enabled", |_| {
        Some(blocked(BlockerReason::Mte))
    }),
    Pattern::for_any_version("State blocked by non-migratable device '", |rest| {
        let device = to_name(rest.take_until("'")?);
        Some(blocked(BlockerReason::Device(device)))
    }),
    Pattern::for_any_version(
        "This operating system kernel does not support vGIC",
        parse_vgic,
    ),
    Pattern::for_any_version("vITS migration is not supported by this kernel", |_| {
        Some(blocked(BlockerReason::InterruptController))
    }),
    Pattern::for_any_version("Detected IO failure for postcopy. Migration paused", |_| {
        Some(Symptom::PostcopyPaused)
    }),
];

/// Parses `v3 migration` or `v2 migration`.
fn parse_vgic(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let version = rest.take_until(" ")?;
    let is_version = matches!(version, "v2" | "v3");
    rest.expect("migration")?;
    is_version.then(|| blocked(BlockerReason::InterruptController))
}

const fn blocked(reason: BlockerReason) -> Symptom {
    Symptom::MigrationBlocked { reason }
}
