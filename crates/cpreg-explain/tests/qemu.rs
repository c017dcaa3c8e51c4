//! QEMU's lines in both directions: recorded lines are parsed, the lines of
//! [`predict::predicted_lines`] are parsed back, and any other line is accepted without a panic.

use std::io::Read as _;
use std::path::Path;

use cpreg::destination::load::{LoadEvent, LoadStep, SimulatedLoad};
use cpreg::destination::{Accelerator, Confidence, Loader};
use cpreg::register::{RegisterId, Value};
use cpreg_explain::qemu::{self, predict};
use cpreg_explain::{Errno, LoadFailure, Symptom, explain};
use proptest::prelude::*;

fn registers() -> Vec<RegisterId> {
    vec![
        RegisterId::TCR2_EL1,
        RegisterId::PSCI_VERSION,
        RegisterId::VENDOR_HYP_BMAP_2,
        RegisterId::ccsidr(3),
        RegisterId::sysreg(3, 0, 15, 1, 4),
        RegisterId::sysreg(2, 0, 1, 1, 4),
        RegisterId::from_raw(0x6030_0000_0014_0009),
    ]
}

fn tcg_registers() -> Vec<RegisterId> {
    [
        0x4020_0000_200e_0298,
        0x4030_0000_200f_0720,
        0x6030_0000_0013_c030,
    ]
    .map(RegisterId::from_raw)
    .to_vec()
}

fn symptoms(lines: &[String]) -> Vec<Symptom> {
    let statements = lines.iter().flat_map(|line| qemu::parse(line));
    statements.map(|statement| statement.symptom).collect()
}

/// Returns `true` if a symptom is the one of an event, with any spelling of the register.
fn is_same_event(symptom: &Symptom, event: &LoadEvent) -> bool {
    let is_same =
        |register: &cpreg_explain::NamedRegister, id: &RegisterId| register.id == Some(*id);
    match (symptom, event) {
        (
            Symptom::TooManyRegisters {
                incoming: a,
                local: b,
            },
            LoadEvent::TooManyRegisters {
                incoming, listed, ..
            },
        ) => (usize::try_from(*a), usize::try_from(*b)) == (Ok(*incoming), Ok(*listed)),
        (Symptom::SourceOnly { register }, LoadEvent::SourceOnly { id, .. })
        | (Symptom::DestinationOnly { register }, LoadEvent::DestinationOnly { id, .. })
        | (Symptom::UnknownToKvm { register, .. }, LoadEvent::RegisterHidden { id, .. }) => {
            is_same(register, id)
        }
        (
            Symptom::ValueNotAccepted {
                register,
                value: parsed_value,
                current: parsed_current,
                error,
            },
            LoadEvent::ValueNotAccepted {
                id, value, current, ..
            },
        ) => {
            is_same(register, id)
                && *parsed_value == value.as_u64()
                && *parsed_current == current.as_ref().and_then(Value::as_u64)
                && (*error == Some(Errno::EINVAL)) == current.is_some()
        }
        (Symptom::SectionFailed { device, instance }, LoadEvent::SectionFailed { vcpu }) => {
            device == "cpu" && instance.and_then(|it| usize::try_from(it).ok()) == Some(*vcpu)
        }
        (Symptom::PutFailed { stage, error }, LoadEvent::PutFailed) => {
            stage == "init" && *error == Some(Errno::EINVAL)
        }
        (
            Symptom::DeviceAttribute {
                group,
                attribute,
                error,
                ..
            },
            LoadEvent::AbortOnGic,
        ) => (*group, *attribute, *error) == (6, 0xc664, Some(Errno::EINVAL)),
        (Symptom::LoadFailed { .. }, LoadEvent::LoadFailed { .. })
        | (Symptom::Aborted { .. }, LoadEvent::AbortOnSubsection { .. }) => true,
        _ => false,
    }
}

fn events(id: RegisterId) -> Vec<LoadEvent> {
    let mut events = vec![
        LoadEvent::TooManyRegisters {
            vcpu: 0,
            incoming: 258,
            listed: 256,
        },
        LoadEvent::SourceOnly { vcpu: 0, id },
        LoadEvent::DestinationOnly { vcpu: 0, id },
        LoadEvent::ValueNotAccepted {
            vcpu: 0,
            id,
            value: Value::from(0x1_0003_u64),
            current: Some(Value::from(0x1_0001_u64)),
        },
        LoadEvent::ValueNotAccepted {
            vcpu: 0,
            id,
            value: Value::from(u64::MAX),
            current: None,
        },
        LoadEvent::RegisterHidden { vcpu: 0, id },
        LoadEvent::SectionFailed { vcpu: 17 },
        LoadEvent::PutFailed,
        LoadEvent::AbortOnGic,
        LoadEvent::AbortOnSubsection {
            vcpu: 0,
            name: "cpu/wfxt-timer".into(),
        },
    ];
    for step in [
        LoadStep::Fields,
        LoadStep::Registers,
        LoadStep::Extension("cpu/wfxt-timer".into()),
    ] {
        events.push(LoadEvent::LoadFailed { vcpu: 3, step });
    }
    events
}

#[test]
fn predicted_lines_are_parsed_back() {
    let mut lines_read = 0;
    for (accelerator, ids) in [
        (Accelerator::Kvm, registers()),
        (Accelerator::Tcg, tcg_registers()),
    ] {
        for (loader, id) in Loader::MODELLED
            .into_iter()
            .flat_map(|loader| ids.iter().map(move |id| (loader, *id)))
        {
            for event in events(id) {
                let load = SimulatedLoad {
                    loads: Some(false),
                    confidence: Confidence::Proven,
                    events: vec![event.clone()],
                    is_complete: true,
                    lost_registers: Vec::new(),
                };
                let lines = predict::predicted_lines(loader, accelerator, &load);
                let read = symptoms(&lines);
                // Of the aborts only that of 10.0 has a known message.
                if lines.is_empty() {
                    assert!(
                        matches!(event, LoadEvent::AbortOnSubsection { .. }),
                        "{event:?}"
                    );
                    continue;
                }
                lines_read += lines.len();
                assert!(
                    read.iter().any(|symptom| is_same_event(symptom, &event)),
                    "{loader} {accelerator:?}: {event:?}\n{lines:#?}\n{read:#?}"
                );
                if let LoadEvent::LoadFailed { vcpu, step } = &event {
                    check_load_failure(&read, loader, *vcpu, step);
                }
            }
        }
    }
    assert!(lines_read > 500, "only {lines_read} lines");
}

/// Checks the statements of the last line about the failed step.
fn check_load_failure(read: &[Symptom], loader: Loader, vcpu: usize, step: &LoadStep) {
    let error = read.iter().find_map(|symptom| match symptom {
        Symptom::LoadFailed { error, .. } => *error,
        _ => None,
    });
    if loader.version < Loader::qemu(11, 0).version {
        let expected = match step {
            LoadStep::Fields => Errno::EINVAL,
            LoadStep::Registers => Errno::EPERM,
            LoadStep::Extension(_) => Errno::ENOENT,
        };
        assert_eq!(error, Some(expected));
        return;
    }
    let section = Symptom::SectionFailed {
        device: "cpu".to_owned(),
        instance: u32::try_from(vcpu).ok(),
    };
    assert!(read.contains(&section), "{read:#?}");
    let reason = match step {
        LoadStep::Extension(name) => Symptom::UnknownSubsection {
            name: name.clone().into_owned(),
            section: "cpu".to_owned(),
        },
        _ => Symptom::HookFailed {
            section: "cpu".to_owned(),
            is_pre_load: false,
        },
    };
    assert!(read.contains(&reason), "{read:#?}");
}

/// Parses every recorded line of real QEMUs, except deprecation warnings.
#[test]
fn every_recorded_line_is_known() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/recorded/outcomes.jsonl.xz");
    let file = std::fs::File::open(path).expect("the fixture is checked in");
    let mut text = String::new();
    lzma_rust2::XzReader::new(file, true)
        .read_to_string(&mut text)
        .expect("the fixture is a complete xz file");
    let mut lines = 0;
    let mut registers = 0;
    for outcome in text.lines() {
        let outcome: serde_json::Value = serde_json::from_str(outcome).expect("JSON");
        for line in outcome["says"].as_array().expect("a list") {
            let line = line.as_str().expect("text");
            let statements = qemu::parse(line);
            assert!(
                !statements.is_empty() || line.contains("is deprecated"),
                "unknown: {line}"
            );
            for statement in &statements {
                if let Some(register) = statement.symptom.register() {
                    assert!(register.id.is_some(), "no register: {line}");
                    registers += 1;
                }
            }
            lines += 1;
        }
    }
    assert!(lines > 2000, "only {lines} lines");
    assert!(registers > 1000, "only {registers} registers");
}

proptest! {
    /// Parses any line, including lines that begin like known ones.
    #[test]
    fn any_line_is_accepted(line in any_line()) {
        let statements = qemu::parse(&line);
        let _ = qemu::looks_like_an_error(&line);
        let explanation = explain(&LoadFailure::from_line(&line, statements));
        prop_assert!(!explanation.meaning.is_empty());
    }
}

/// Generates words of QEMU, numbers, punctuation and any other text in any order.
fn any_line() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "Invalid value ",
        " expecting positive value <= ",
        "Failed to load ",
        "cpu:cpreg_vmstate_array_len",
        "handle_cpreg_only_in_incoming_stream: ",
        " in the incoming stream",
        "handle_cpreg_missing_in_incoming_stream: ",
        " expected by the destination",
        "Could not set register ",
        "system register op0:3 op1:0 crn:2 crm:0 op2:3",
        "system register 0x",
        "fw reg ",
        ": unknown to KVM",
        " to ",
        "(is ",
        ": ",
        "Failed to put registers after init",
        "error while loading state for instance 0x",
        " of device '",
        "'",
        "load of migration failed",
        "Error -",
        " while loading VM state",
        "post load hook failed for: ",
        "VM subsection '",
        "' in '",
        " does not exist",
        "savevm: unsupported version ",
        " for '",
        ": Assertion `",
        "' failed",
        "Assertion failed: (",
        "Size mismatch: ",
        " != ",
        "Features 0x",
        " unsupported. Allowed features: ",
        "_DEVICE_ATTR failed: Group ",
        " attr ",
        "Invalid argument",
        "(os error ",
        "unexpectedly closed the monitor (vm='",
        "job '",
        "\\n",
        "&#10;",
        "-9223372036854775808",
        "99999999999999999999",
        "ä",
    ])
    .prop_map(str::to_owned);
    let part = prop_oneof![4 => known, 1 => "[0-9a-fx:-]{0,20}", 1 => ".{0,12}"];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}
