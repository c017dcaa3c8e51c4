use cpreg::destination::counters::LostCounter;
use cpreg::destination::kernel::find_feature_gate;
use cpreg::plan::Reason;
use cpreg::register::RegisterId;
use cpreg::vm::Content;

use super::*;

#[test]
fn reasons_of_the_core_are_listed() {
    let gate = find_feature_gate(RegisterId::TCR2_EL1).expect("a gate");
    let text = || Cow::Borrowed("");
    let reasons = [
        Reason::ValueAccepted,
        Reason::Tolerated(0),
        Reason::NotTolerated(0),
        Reason::SourceOnly,
        Reason::DestinationOnly,
        Reason::ResetUnknown,
        Reason::ValueNotAccepted,
        Reason::CounterInUse(LostCounter {
            counter: 4,
            kept_count: 4,
        }),
        Reason::SetNotAccepted,
        Reason::FatalChange(Vec::new()),
        Reason::DestinationValueUnknown,
        Reason::ValueUnknown(None),
        Reason::Hidden(gate),
        Reason::PerhapsHidden(gate),
        Reason::RemovedAtFirstRun,
        Reason::Disagreement,
        Reason::FieldDisagreement("N"),
        Reason::UserIgnores,
        Reason::UserDrops,
        Reason::UserSets,
        Reason::UserCondition,
        Reason::UserAccepts,
        Reason::SameStateAs(RegisterId::MIDR_EL1),
        Reason::RecordedUnder(0, RegisterId::MIDR_EL1),
        Reason::ListedAs(0, RegisterId::MIDR_EL1),
        Reason::PerhapsListedAs(0, RegisterId::MIDR_EL1),
        Reason::OtherValueUnder(RegisterId::MIDR_EL1),
        Reason::ExtensionKnown,
        Reason::ExtensionIdle(text()),
        Reason::ExtensionReplaced(text()),
        Reason::ExtensionInUse(text()),
        Reason::ExtensionFromDestination(text()),
        Reason::ExtensionUnknown,
    ];
    let codes = reasons.each_ref().map(ReasonCode::from);
    assert_eq!(codes.each_ref().map(ReasonCode::name), ReasonCode::NAMES);
}

#[test]
fn hardware_actions_of_the_core_are_listed() {
    let actions = [
        HardwareAction::Keep,
        HardwareAction::Change,
        HardwareAction::Assume,
        HardwareAction::Refuse,
        HardwareAction::Undecided,
    ];
    let actions = actions.map(HardwareDecision::from);
    let actions = actions.each_ref().map(HardwareDecision::name);
    assert_eq!(actions, HardwareDecision::NAMES);
}

#[test]
fn loads_without_cpreg_are_listed() {
    let loads = [
        plan::UnchangedLoad::Loads,
        plan::UnchangedLoad::LosesRegisters,
        plan::UnchangedLoad::Fails,
        plan::UnchangedLoad::Unknown,
    ];
    let loads = loads.map(UnchangedLoad::from);
    assert_eq!(
        loads.each_ref().map(UnchangedLoad::name),
        UnchangedLoad::NAMES
    );
}

#[test]
fn names_of_the_core_are_listed() {
    let verdicts = [
        plan::Verdict::Loads,
        plan::Verdict::Converts,
        plan::Verdict::Refused,
        plan::Verdict::Unknown,
    ];
    let verdicts = verdicts.map(Verdict::from);
    assert_eq!(verdicts.each_ref().map(Verdict::name), Verdict::NAMES);

    let actions = [
        Action::Copy,
        Action::Set(0.into()),
        Action::Ignore,
        Action::KeepAtReset,
        Action::Refuse,
        Action::Undecided,
    ];
    let decisions = actions.each_ref().map(Decision::from);
    assert_eq!(decisions.each_ref().map(Decision::name), Decision::NAMES);
    let actions = [
        ExtensionAction::Copy,
        ExtensionAction::Set(Content::Number(0)),
        ExtensionAction::Ignore,
        ExtensionAction::KeepAtReset,
        ExtensionAction::Refuse,
        ExtensionAction::Undecided,
    ];
    assert_eq!(actions.each_ref().map(Decision::from), decisions);

    let device = ShapePart::Device {
        name: String::new(),
        instance: 0,
    };
    let parts = [
        ShapePart::Accelerator,
        ShapePart::MachineType,
        ShapePart::VcpuCount,
        ShapePart::RamBlock(String::new()),
        device,
    ];
    let parts = parts.each_ref().map(ShapePartKind::from);
    assert_eq!(
        parts.each_ref().map(ShapePartKind::name),
        ShapePartKind::NAMES
    );

    let confidences = [
        destination::Confidence::Proven,
        destination::Confidence::Inferred,
        destination::Confidence::Unknown,
    ];
    let confidences = confidences.map(Confidence::from);
    assert_eq!(
        confidences.each_ref().map(Confidence::name),
        Confidence::NAMES
    );

    let severities = [
        cpreg::severity::Severity::Low,
        cpreg::severity::Severity::Medium,
        cpreg::severity::Severity::High,
        cpreg::severity::Severity::Fatal,
    ];
    let severities = severities.map(Severity::from);
    assert_eq!(severities.each_ref().map(Severity::name), Severity::NAMES);

    let accelerators = [
        destination::Accelerator::Kvm,
        destination::Accelerator::Tcg,
        destination::Accelerator::Hvf,
    ];
    let accelerators = accelerators.map(Accelerator::from);
    assert_eq!(
        accelerators.each_ref().map(Accelerator::name),
        Accelerator::NAMES
    );

    let differences = [
        tolerance::RegisterDifference::SourceOnly,
        tolerance::RegisterDifference::DestinationOnly,
        tolerance::RegisterDifference::ValueNotAccepted,
        tolerance::RegisterDifference::OtherId,
    ];
    let differences = differences.map(Difference::from);
    assert_eq!(
        differences.each_ref().map(Difference::name),
        Difference::NAMES
    );

    let handlings = [
        Handling::Ignore,
        Handling::KeepAtReset,
        Handling::Set(0),
        Handling::SetToNearest,
        Handling::Rename(RegisterId::MIDR_EL1),
        Handling::Refuse,
    ];
    let handlings = handlings.map(ToleranceHandling::from);
    assert_eq!(
        handlings.each_ref().map(ToleranceHandling::name),
        ToleranceHandling::NAMES
    );
}
