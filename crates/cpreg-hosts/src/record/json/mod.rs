//! The file of a recorded host, `cpreg.host/1`: JSON, written with one register a line.
//!
//! | member | what it holds |
//! |---|---|
//! | `schema` | `"cpreg.host/1"` |
//! | `identity` | `release` and `version` (`uname -r`, `-v`), `midr`, `cpu`, `mode`, `emulated` |
//! | `capabilities` | what `KVM_CHECK_EXTENSION` says, by the capability's name; those that are 0 are left out |
//! | `guests` | the sets of vCPU features that were recorded: `features` (`"pmu,sve"`, `"none"`), `has_writable_masks` |
//! | `registers` | what a fresh vCPU has; a line each, and a line more where guests differ |
//! | `writable` | the bits of ID registers that user space may change, for guests of which the kernel tells |
//!
//! | member of a register | what it holds |
//! |---|---|
//! | `id`, `name` | which |
//! | `guests` | the guests of which this is said; all, if it is not there |
//! | `at_reset` | `"0x…"`; `"poison"`: no value; `"counter"`: it runs on. Not there if reading failed |
//! | `errno` | why reading failed |
//! | `differs_by_vcpu` | `true` if another vCPU of the VM held something else |
//! | `write_back` | the errno of writing back what was read, where that failed |
//! | `trials` | values that were tried, each `[value, errno]`, or `[value, errno, reads]` where it then read neither what a success nor what a refusal lets expect |
//!
//! | file | what lives there |
//! |---|---|
//! | `file.rs` | the members |
//! | `read.rs`, `write.rs` | the file as a [`HostRecord`](super::HostRecord), and back |
//!
//! 64-bit numbers are strings, `"0x…"`. Names are for people and are not read back. Unknown members are ignored.
//! What one and the same line says of many guests takes many times its room once it is read, so there are limits ([`MAX_REGISTERS`],
//! [`MAX_TRIALS`]); no recording comes near them.

mod model;
mod read;
mod write;

use schemars::{Schema, SchemaGenerator};

use crate::schema;

pub use model::SCHEMA;
pub use read::{MAX_DOCUMENT_LEN, MAX_REGISTERS, MAX_TRIALS};

/// Whether a JSON document says that it is a recorded host, of whichever version; also one that is cut off, if it is as we write it.
pub fn is_record(json: &[u8]) -> bool {
    schema::has_prefix(json, "cpreg.host/")
}

/// Returns the JSON Schema of the file.
pub fn json_schema(generator: SchemaGenerator) -> Schema {
    generator.into_root_schema_for::<model::HostDocument>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cpreg::destination::Features;
    use cpreg::register::{RegisterId, Value};
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::record::testing::{any_record, sorted};
    use crate::record::{AtReset, GuestRecord, HostRecord, Identity, RegisterRecord, WriteTrial};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_recorded_comes_back(record in any_record()) {
            let json = record.to_json().expect("JSON");
            prop_assert!(is_record(json.as_bytes()));
            let back = HostRecord::from_json(json.as_bytes()).expect("a recorded host");
            prop_assert_eq!(&back, &record);
            prop_assert_eq!(back.to_json().expect("JSON"), json);
        }

        /// Damaged files give an error or a record, and nothing else.
        #[test]
        fn damage_is_no_panic(record in any_record(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut json = record.to_json().expect("JSON").into_bytes();
            let at = at.index(json.len());
            json[at] = with;
            let _ = HostRecord::from_json(&json);
            // The last bytes are `}` and a line's end, which may be missing.
            json.truncate(at.min(json.len() - 2));
            prop_assert!(HostRecord::from_json(&json).is_err());
        }
    }

    /// One register for two guests, and one for one of them.
    fn made() -> String {
        let register = |id, at_reset| RegisterRecord {
            id,
            at_reset,
            differs_by_vcpu: false,
            write_back: 0,
            trials: vec![WriteTrial {
                value: 1,
                errno: 22,
                read_back: 5,
            }],
        };
        let value = AtReset::Value(Value::U64(5));
        let guest = |more: Option<RegisterRecord>| GuestRecord {
            registers: sorted(
                [register(RegisterId::SCTLR_EL1, value.clone())]
                    .into_iter()
                    .chain(more),
            ),
            writable: Some(BTreeMap::from([(RegisterId::ID_AA64PFR0_EL1, 0xf)])),
        };
        let pmcr = register(RegisterId::PMCR_EL0, AtReset::Poison);
        let record = HostRecord {
            identity: Identity {
                emulated: true,
                ..Identity::default()
            },
            capabilities: BTreeMap::from([("KVM_CAP_ARM_PMU_V3".to_owned(), 1)]),
            guests: BTreeMap::from([
                (Features::NONE, guest(None)),
                (Features::PMU, guest(Some(pmcr))),
            ]),
        };
        record.to_json().expect("JSON")
    }

    #[test]
    fn what_guests_share_stands_there_once() {
        assert_eq!(
            made(),
            r#"{"schema":"cpreg.host/1",
"identity":{"release":"","version":"","midr":"0x0","cpu":"","mode":"","emulated":true},
"capabilities":{"KVM_CAP_ARM_PMU_V3":1},
"guests":[
{"features":"none","has_writable_masks":true},
{"features":"pmu","has_writable_masks":true}],
"registers":[
{"id":"0x603000000013c080","name":"SCTLR_EL1","at_reset":"0x5","trials":[["0x1",22]]},
{"id":"0x603000000013dce0","name":"PMCR_EL0","at_reset":"poison","trials":[["0x1",22,"0x5"]],"guests":["pmu"]}],
"writable":[
{"id":"0x603000000013c020","name":"ID_AA64PFR0_EL1","bits":"0xf"}]}
"#
        );
    }

    #[test]
    fn what_is_malformed_is_named() {
        let error = |from: &str, to: &str| {
            let json = made().replacen(from, to, 1);
            assert_ne!(json, made(), "{from}");
            let error = HostRecord::from_json(json.as_bytes()).expect_err("malformed");
            error.to_string()
        };
        let cannot = |path: &str, text: &str| {
            format!("recorded host: {path} holds `{text}`, which it cannot")
        };
        assert_eq!(
            error("\"0x5\"", "\"5\""),
            cannot("registers[0].at_reset", "5")
        );
        assert_eq!(
            error("\"at_reset\":\"0x5\",", ""),
            cannot("registers[0].at_reset", "")
        );
        assert_eq!(
            error("[[\"0x1\",22]]", "[[\"0x1\",22],[\"0x11\",0,\"y\"]]"),
            cannot("registers[0].trials[1]", "y")
        );
        assert_eq!(
            error(",\"0x5\"]]", "]]"),
            cannot("registers[1].trials[0]", "0x1")
        );
        assert_eq!(
            error("[\"pmu\"]", "[\"sve\"]"),
            cannot("registers[1].guests[0]", "sve")
        );
        assert_eq!(
            error("\"features\":\"pmu\"", "\"features\":\"avx\""),
            cannot("guests[1].features", "avx")
        );
        assert_eq!(
            error(
                "pmu\",\"has_writable_masks\":true",
                "pmu\",\"has_writable_masks\":false"
            ),
            cannot("writable[0].guests", "pmu")
        );
        assert_eq!(
            error("0x603000000013dce0", "0x603000000013c080"),
            "recorded host: registers[1] says a second time what SCTLR_EL1 for guests with the features pmu is"
        );
        assert_eq!(
            error("\"features\":\"pmu\"", "\"features\":\"none\""),
            "recorded host: guests[1].features says a second time what none is"
        );
        let later = made().replacen("host/1", "host/9", 1);
        let later = HostRecord::from_json(later.as_bytes()).expect_err("a later version");
        assert_eq!(
            later.to_string(),
            "a recorded host of schema `cpreg.host/9`, where this cpreg reads `cpreg.host/1`"
        );
        assert!(
            later
                .hint()
                .is_some_and(|hint| hint.starts_with("record the host again"))
        );
        assert!(
            HostRecord::from_json(b"{}")
                .expect_err("nothing in it")
                .to_string()
                .starts_with("not a recorded host: missing field `schema`")
        );
        assert!(is_record(&made().as_bytes()[..40]));
        assert!(!is_record(br#"{"schema": "cpreg.profile/1"}"#));
    }

    /// A small file cannot become a large thing.
    #[test]
    fn one_line_for_many_guests_is_bounded() {
        let mut trials = "[\"0x1\",0],".repeat(MAX_TRIALS / 2 + 1);
        trials.pop();
        let json = made().replacen("[\"0x1\",22]", &trials, 1);
        assert!((json.len() as u64) < MAX_DOCUMENT_LEN);
        let error = HostRecord::from_json(json.as_bytes()).expect_err("too much");
        assert_eq!(
            (error.kind(), error.path()),
            (ErrorKind::TooLarge, Some("registers[0]"))
        );
        assert_eq!(
            error.to_string(),
            format!("recorded host: with registers[0] there are more than {MAX_TRIALS} trials")
        );
    }
}
