//! Decision about the activity that failed, from all lines of a failure.

use super::vgic;
use crate::failure::LoadFailure;
use crate::message::{Access, Emitter, LoadInput, Symptom};
use crate::situation::Situation;

/// Returns the activity that failed.
///
/// A start that failed is no migration, so the function looks for a sign of a load first.
pub(super) fn find(failure: &LoadFailure) -> Situation {
    let has = |is_match: fn(&Symptom) -> bool| failure.symptoms().any(is_match);
    if has(|it| matches!(it, Symptom::PostcopyPaused)) {
        return Situation::Postcopy;
    }
    if has(|it| matches!(it, Symptom::MigrationBlocked { .. })) {
        return Situation::Migration;
    }
    if has(|it| {
        matches!(
            it,
            Symptom::GuestAccess { .. } | Symptom::CoresDiffer { .. }
        )
    }) {
        return Situation::Guest;
    }
    if has(is_restore) {
        return Situation::Restore;
    }
    if has(is_save) {
        return Situation::Save;
    }
    let report = front_end(failure);
    let is_migration_job =
        |it: &Symptom| matches!(it, Symptom::JobFailed { job } if job.contains("migration"));
    if failure.symptoms().any(is_migration_job) {
        return Situation::Migration;
    }
    if failure.symptoms().any(is_load) {
        return match report {
            Some(situation @ (Situation::Migration | Situation::Restore)) => situation,
            _ if failure.has_emitter(Emitter::FIRECRACKER) => Situation::Restore,
            _ => Situation::Load,
        };
    }
    if has(|it| matches!(it, Symptom::DeviceStart { .. })) {
        return Situation::Start;
    }
    if has(|it| matches!(it, Symptom::VcpuInit { .. })) {
        return if failure.has_emitter(Emitter::QEMU) {
            Situation::Start
        } else {
            Situation::Restore
        };
    }
    let attribute = failure.symptoms().find_map(|it| match it {
        Symptom::DeviceAttribute {
            access,
            group,
            attribute,
            ..
        } => Some(vgic::attribute(*access, *group, *attribute).situation),
        _ => None,
    });
    if let Some(situation) = attribute {
        return situation;
    }
    if has(|it| {
        matches!(
            it,
            Symptom::ValueNotAccepted { .. } | Symptom::UnknownToKvm { .. }
        )
    }) {
        if failure.has_emitter(Emitter::FIRECRACKER) {
            return Situation::Restore;
        }
        return report.unwrap_or(Situation::StartOrLoad);
    }
    if has(|it| matches!(it, Symptom::PutFailed { .. })) {
        return match report {
            Some(Situation::StartOrLoad) | None => Situation::Start,
            Some(situation) => situation,
        };
    }
    if has(|it| matches!(it, Symptom::MonitorClosed { is_start: true, .. })) {
        return Situation::Start;
    }
    report.unwrap_or(Situation::Unknown)
}

/// Returns the activity that a front end names.
fn front_end(failure: &LoadFailure) -> Option<Situation> {
    failure.symptoms().find_map(|symptom| match symptom {
        Symptom::FrontEnd { report } => Some(report.situation),
        _ => None,
    })
}

fn is_restore(symptom: &Symptom) -> bool {
    matches!(
        symptom,
        Symptom::SnapshotVersion { .. }
            | Symptom::CounterFrequency { .. }
            | Symptom::SnapshotMissing { .. }
            | Symptom::VirtualizationRestore
            | Symptom::LoadFailed {
                input: LoadInput::Snapshot,
                ..
            }
    )
}

fn is_save(symptom: &Symptom) -> bool {
    match symptom {
        Symptom::UnnamedRegister {
            access: Access::Read,
            ..
        } => true,
        Symptom::Aborted { function, .. } => function.ends_with("pre_save"),
        _ => false,
    }
}

/// Returns `true` if only a load makes the statement.
fn is_load(symptom: &Symptom) -> bool {
    match symptom {
        Symptom::Aborted { function, .. } => function.contains("load"),
        symptom => matches!(
            symptom,
            Symptom::TooManyRegisters { .. }
                | Symptom::FieldFailed { .. }
                | Symptom::SourceOnly { .. }
                | Symptom::DestinationOnly { .. }
                | Symptom::UnnamedRegister { .. }
                | Symptom::SectionFailed { .. }
                | Symptom::HookFailed { .. }
                | Symptom::UnknownSubsection { .. }
                | Symptom::UnknownSection { .. }
                | Symptom::SectionVersion { .. }
                | Symptom::MissingFooter { .. }
                | Symptom::LoadFailed { .. }
                | Symptom::RamSize { .. }
                | Symptom::RamPageSize { .. }
                | Symptom::UnknownRamBlock { .. }
                | Symptom::MachineType { .. }
                | Symptom::Capability { .. }
                | Symptom::TargetPageBits { .. }
                | Symptom::VirtioFeatures { .. }
                | Symptom::PciConfig { .. }
                | Symptom::NotAStream
                | Symptom::VcpuNotRestored
                | Symptom::GicNotRestored { .. }
                | Symptom::GuestCpu { .. }
        ),
    }
}
