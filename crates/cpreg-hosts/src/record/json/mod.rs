//! The file of a recorded host, `cpreg.host/2`: JSON with one register per line.
//!
//! Members of the document:
//! - `schema`: `"cpreg.host/2"`
//! - `identity`: `release` and `version` (`uname -r`, `-v`), `midr`, `cpu`, `mode`, `emulated`, and
//!   `cpus`: the kinds of CPU with `midr`, `revidr`, `ctr` and `count`
//! - `capabilities`: results of `KVM_CHECK_EXTENSION` other than 0, by the capability's name
//! - `hardware`: `counter_frequency_hz`, `dczid`, `vector_lengths`, `icc_ctlr_el1`, `gmid_el1`,
//!   `pmceid_el0`, `gicd_iidr`; unknown facts are absent
//! - `guests`: the recorded sets of vCPU features, with `features` (`"pmu,sve"`, `"none"`) and
//!   `has_writable_masks`
//! - `registers`: registers of a fresh vCPU; one line for each different content of a register
//!   among the guests
//! - `writable`: bits of ID registers that user space may change, for guests with
//!   `has_writable_masks`
//!
//! Members of a register:
//! - `id`, `name`
//! - `guests`: guests that the line describes; absent for all guests
//! - `at_reset`: `"0x…"`; `"poison"` for no value; `"counter"` for a running counter; absent if the
//!   read failed
//! - `errno`: errno of the failed read
//! - `differs_by_vcpu`: `true` if another vCPU of the VM has another value
//! - `write_back`: errno of writing back the value that was read, if that failed
//! - `trials`: values that were written, each `[value, errno]` or `[value, errno, read_back]`.
//!   `read_back` is absent if it is the written value after a success or `at_reset` after a failure
//! - `fields`: fields of an ID register that accept more than their value at reset; absent if the
//!   fields were not tried
//!
//! Members of a field:
//! - `bits`: most and least significant bit
//! - `kept`: set of values that the register keeps; bit `n` stands for value `n`
//! - `dropped`: sets of values that KVM accepts and replaces, each with the value that the field
//!   then has
//!
//! | file | content |
//! |---|---|
//! | `model.rs` | the members |
//! | `read.rs`, `write.rs` | the file to and from a [`HostRecord`](super::HostRecord) |
//!
//! 64-bit numbers are strings, `"0x…"`. Names are for readers. cpreg ignores them, and ignores
//! unknown members. One line can describe many guests and take more memory than its length
//! suggests. [`MAX_REGISTERS`] and [`MAX_TRIALS`] therefore bound the memory. No recording comes
//! near these limits.
//!
//! cpreg also reads `cpreg.host/1`, in which `has_writable_masks` is `tells_writable` and a running
//! counter is `"counts"`.

mod model;
mod read;
mod write;

use schemars::{Schema, SchemaGenerator};

use crate::schema;

pub use model::SCHEMA;
pub use read::{MAX_DOCUMENT_LEN, MAX_REGISTERS, MAX_TRIALS};

/// Returns `true` if a JSON document is a recorded host of any version.
///
/// Recognises a truncated document too if cpreg wrote the document.
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

    use cpreg::destination::{AcceptedField, DroppedValues, Features};
    use cpreg::hardware::{HardwareFacts, VectorLengths};
    use cpreg::register::{RegisterId, Value};
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::record::testing::{any_record, sorted};
    use crate::record::{AtReset, GuestRecord, HostRecord, Identity, RegisterRecord, WriteTrial};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_record_round_trips(record in any_record()) {
            let json = record.to_json().expect("JSON");
            prop_assert!(is_record(json.as_bytes()));
            let parsed = HostRecord::from_json(json.as_bytes()).expect("a recorded host");
            prop_assert_eq!(&parsed, &record);
            prop_assert_eq!(parsed.to_json().expect("JSON"), json);
        }

        /// Damaged files result in an error or a record.
        #[test]
        fn damage_causes_no_panic(record in any_record(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut json = record.to_json().expect("JSON").into_bytes();
            let at = at.index(json.len());
            json[at] = byte;
            let _ = HostRecord::from_json(&json);
            // A document without its final newline is complete. Cut at the last `}` or before it.
            json.truncate(at.min(json.len() - 2));
            prop_assert!(HostRecord::from_json(&json).is_err());
        }
    }

    /// Returns a record of two guests: SCTLR_EL1 is in both, PMCR_EL0 only in the one with a PMU.
    fn example() -> String {
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
            fields: None,
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
        let dropped = vec![DroppedValues {
            reads: 0,
            values: 2,
        }];
        let field = AcceptedField::new(43, 40, 1, dropped).expect("a field");
        let pmcr = RegisterRecord {
            fields: Some(vec![field]),
            ..register(RegisterId::PMCR_EL0, AtReset::Poison)
        };
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
            hardware: HardwareFacts {
                counter_frequency: Some(24_000_000),
                ..HardwareFacts::UNKNOWN
            },
        };
        record.to_json().expect("JSON")
    }

    #[test]
    fn shared_registers_are_written_once() {
        assert_eq!(
            example(),
            r#"{"schema":"cpreg.host/2",
"identity":{"release":"","version":"","midr":"0x0","cpu":"","mode":"","emulated":true},
"capabilities":{"KVM_CAP_ARM_PMU_V3":1},
"hardware":{"counter_frequency_hz":24000000},
"guests":[
{"features":"none","has_writable_masks":true},
{"features":"pmu","has_writable_masks":true}],
"registers":[
{"id":"0x603000000013c080","name":"SCTLR_EL1","at_reset":"0x5","trials":[["0x1",22]]},
{"id":"0x603000000013dce0","name":"PMCR_EL0","at_reset":"poison","trials":[["0x1",22,"0x5"]],"fields":[{"bits":[43,40],"kept":"0x1","dropped":[["0x2",0]]}],"guests":["pmu"]}],
"writable":[
{"id":"0x603000000013c020","name":"ID_AA64PFR0_EL1","bits":"0xf"}]}
"#
        );
    }

    #[test]
    fn documents_of_the_first_version_are_read() {
        let json = example().replacen("\"poison\"", "\"counter\"", 1);
        let old = json
            .replace("cpreg.host/2", "cpreg.host/1")
            .replace("has_writable_masks", "tells_writable")
            .replace("\"counter\"", "\"counts\"");
        assert_ne!(old, json);
        let [new, old] = [json, old].map(|json| HostRecord::from_json(json.as_bytes()));
        assert_eq!(old.expect("a recorded host"), new.expect("a recorded host"));
    }

    #[test]
    fn errors_name_the_malformed_member() {
        let error = |from: &str, to: &str| {
            let json = example().replacen(from, to, 1);
            assert_ne!(json, example(), "{from}");
            let error = HostRecord::from_json(json.as_bytes()).expect_err("malformed");
            error.to_string()
        };
        let invalid =
            |path: &str, text: &str| format!("recorded host: {path}: invalid value `{text}`");
        assert_eq!(
            error("\"0x5\"", "\"5\""),
            invalid("registers[0].at_reset", "5")
        );
        assert_eq!(
            error("\"at_reset\":\"0x5\",", ""),
            invalid("registers[0].at_reset", "")
        );
        assert_eq!(
            error("[[\"0x1\",22]]", "[[\"0x1\",22],[\"0x11\",0,\"y\"]]"),
            invalid("registers[0].trials[1]", "y")
        );
        assert_eq!(
            error(",\"0x5\"]]", "]]"),
            invalid("registers[1].trials[0]", "0x1")
        );
        assert_eq!(
            error("[43,40]", "[40,43]"),
            invalid("registers[1].fields[0]", "0x1")
        );
        assert_eq!(
            error("24000000", "0"),
            invalid("hardware.counter_frequency_hz", "0") + ": a counter has 1 to 4294967295 Hz"
        );
        assert_eq!(
            error("[\"pmu\"]", "[\"sve\"]"),
            invalid("registers[1].guests[0]", "sve")
        );
        assert_eq!(
            error("\"features\":\"pmu\"", "\"features\":\"avx\""),
            invalid("guests[1].features", "avx")
        );
        assert_eq!(
            error(
                "pmu\",\"has_writable_masks\":true",
                "pmu\",\"has_writable_masks\":false"
            ),
            invalid("writable[0].guests", "pmu")
        );
        assert_eq!(
            error("0x603000000013dce0", "0x603000000013c080"),
            "recorded host: registers[1] repeats SCTLR_EL1 for guests with the features pmu"
        );
        assert_eq!(
            error("\"features\":\"pmu\"", "\"features\":\"none\""),
            "recorded host: guests[1].features repeats none"
        );
        let later = example().replacen("host/2", "host/9", 1);
        let later = HostRecord::from_json(later.as_bytes()).expect_err("a later version");
        assert_eq!(
            later.to_string(),
            "the recorded host has schema `cpreg.host/9`; this cpreg reads `cpreg.host/2`"
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
        assert!(is_record(&example().as_bytes()[..40]));
        assert!(!is_record(br#"{"schema": "cpreg.profile/2"}"#));
    }

    #[test]
    fn kinds_of_cpu_round_trip() {
        let cpus = r#","cpus":[{"midr":"0x411fd050","revidr":"0x0","ctr":"0x84448004","count":4},{"midr":"0x414fd0b1","revidr":"0x0","ctr":"0x8444c004","count":2}]"#;
        let json = example().replacen("true}", &format!("true{cpus}}}"), 1);
        let record = HostRecord::from_json(json.as_bytes()).expect("a recorded host");
        let kinds = &record.identity.cpus;
        assert_eq!((kinds[0].midr, kinds[1].count), (0x411f_d050, 2));
        assert_eq!(record.to_json().expect("JSON"), json);
        let malformed = json.replacen("0x84448004", "84448004", 1);
        let error = HostRecord::from_json(malformed.as_bytes()).expect_err("malformed");
        assert_eq!(error.path(), Some("identity.cpus[0].ctr"));
    }

    #[test]
    fn contradictory_vector_lengths_are_errors() {
        let json = |bits: u64| {
            let member = "\"counter_frequency_hz\":24000000";
            let lengths = format!("{member},\"vector_lengths\":\"0x3\"");
            let register = format!(
                "{{\"id\":\"{:#x}\",\"at_reset\":\"{bits:#x}\"}},\n",
                RegisterId::SVE_VLS.raw()
            );
            let json = example().replacen(member, &lengths, 1);
            json.replacen(
                "\"registers\":[\n",
                &format!("\"registers\":[\n{register}"),
                1,
            )
        };
        let facts = HostRecord::from_json(json(3).as_bytes()).expect("no contradiction");
        assert_eq!(
            facts.hardware.vector_lengths.map(VectorLengths::bits),
            Some(3)
        );
        let error = HostRecord::from_json(json(1).as_bytes()).expect_err("a contradiction");
        assert_eq!(
            error.to_string(),
            "recorded host: hardware.vector_lengths is 0x3, but registers: KVM_REG_ARM64_SVE_VLS is \
             0x1; one of them is wrong"
        );
    }

    /// A small file cannot use much memory.
    #[test]
    fn one_line_for_many_guests_is_bounded() {
        let mut trials = "[\"0x1\",0],".repeat(MAX_TRIALS / 2 + 1);
        trials.pop();
        let json = example().replacen("[\"0x1\",22]", &trials, 1);
        assert!((json.len() as u64) < MAX_DOCUMENT_LEN);
        let error = HostRecord::from_json(json.as_bytes()).expect_err("too much");
        assert_eq!(
            (error.kind(), error.path()),
            (ErrorKind::TooLarge, Some("registers[0]"))
        );
        assert_eq!(
            error.to_string(),
            format!("recorded host: registers[0] exceeds the limit of {MAX_TRIALS} trials")
        );
    }
}
