//! The profile: a recorded destination as a JSON file.
//!
//! Members of the document:
//! - `schema`: `"cpreg.profile/2"`
//! - `name`: name in reports
//! - `origin`: the program, its version and package, accelerator, machine, CPU model and command
//!   line
//! - `values`: `"reset"`, `"guest"` or `"emulated-host"`
//! - `hardware`: counter frequency, SVE vector lengths and DCZID_EL0, as far as they are known
//! - `shape`: machine, vCPU count, RAM blocks, devices
//! - `vcpus`: for each vCPU its `registers` (id, name, value, and the other accepted values as
//!   `writable`, `fields`, `one_of` or `subset_of`) and `extensions` (name, and a number or bytes)
//!
//! 64-bit numbers are strings, `"0x…"`. Names of registers are for readers. cpreg ignores them, and
//! ignores unknown members.
//!
//! cpreg also reads `"cpreg.profile/1"`, in which `origin` is `recorded` and the `values` are
//! `"at-reset"`, `"of-a-guest"` and `"of-an-emulated-host"`.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Profile`]: a destination and its origin |
//! | `document.rs` | [`Document`]: the members of the file |

mod document;

use cpreg::destination::Destination;

use crate::error::Error;
use crate::schema;
use document::{PROFILE, is_supported, schema_error};

pub use document::{Document, ProfileOrigin, SCHEMA};

/// A recorded destination.
///
/// ```
/// use cpreg_hosts::Profile;
///
/// # fn main() -> Result<(), cpreg_hosts::Error> {
/// let text = r#"{
///     "schema": "cpreg.profile/2",
///     "name": "a host",
///     "origin": {"program": "qemu", "version": "10.0.13", "accelerator": "kvm"},
///     "values": "reset",
///     "vcpus": []
/// }"#;
/// let profile = Profile::from_json(text.as_bytes())?;
/// assert_eq!(profile.destination.name, "a host");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Profile {
    /// Program and host that were recorded.
    pub origin: ProfileOrigin,
    /// The destination, with its name.
    pub destination: Destination,
}

impl Profile {
    /// Parses the JSON document.
    ///
    /// # Errors
    /// Returns an error if the document is not JSON, has another schema, or has a malformed member.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let document: Document = serde_json::from_slice(bytes).map_err(|error| {
            // For another kind of document, report its schema and not the first missing member.
            match schema::parse_name(bytes) {
                Some(schema) if !is_supported(&schema) => schema_error(&schema),
                _ => PROFILE.json_error(error),
            }
        })?;
        Self::try_from(&document)
    }

    /// Returns the JSON document, formatted for readers.
    ///
    /// # Errors
    /// Returns an error if JSON cannot represent the profile, which does not happen.
    pub fn to_json(&self) -> Result<String, Error> {
        let document = Document::from(self);
        let text = serde_json::to_string_pretty(&document);
        let mut text = text.map_err(|error| PROFILE.json_error(error))?;
        text.push('\n');
        Ok(text)
    }
}

impl From<&Profile> for Document {
    fn from(profile: &Profile) -> Self {
        Self::new(&profile.origin, &profile.destination)
    }
}

impl TryFrom<&Document> for Profile {
    type Error = Error;

    fn try_from(document: &Document) -> Result<Self, Error> {
        Ok(Self {
            origin: document.origin().clone(),
            destination: document.destination()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use cpreg::destination::{
        Accelerator, AcceptedField, AcceptedFields, AcceptedValues, DestinationRegister,
        DestinationVcpu, DroppedValues, Loader, ValueOrigin,
    };
    use cpreg::gic::{Gic, GicLimits};
    use cpreg::hardware::{HardwareFacts, PmuEvents, VectorLengths};
    use cpreg::register::{RegisterId, Value};
    use cpreg::shape::{DeviceSection, MachineShape, RamBlock};
    use cpreg::vm::{Content, Extension};

    use super::*;
    use crate::ErrorKind;

    fn fields() -> AcceptedFields {
        let dropped = vec![DroppedValues {
            reads: 0,
            values: 2,
        }];
        let field = AcceptedField::new(19, 16, 1, dropped).expect("a field");
        AcceptedFields::new(Some(0xf), vec![field]).expect("fields")
    }

    fn destination() -> Destination {
        let register = |id: u64, value: Option<Value>| DestinationRegister {
            id: RegisterId::from_raw(id),
            value,
            accepted_values: match id {
                0x6030_0000_0014_0000 => AcceptedValues::OneOf(vec![2, 0x1_0000]),
                0x6030_0000_0016_0003 => AcceptedValues::Subset(3),
                0x6030_0000_0013_c020 => AcceptedValues::Writable(0xff),
                0x6030_0000_0016_0004 => AcceptedValues::Fields(Box::new(fields())),
                0x6030_0000_0016_0005 => AcceptedValues::Fields(Box::default()),
                _ => AcceptedValues::ByKind,
            },
        };
        Destination {
            name: "a host".to_owned(),
            accelerator: Some(Accelerator::Tcg),
            loader: Some(Loader::qemu(10, 0)),
            value_origin: ValueOrigin::Reset,
            vcpus: vec![DestinationVcpu::new(
                [
                    register(0x6030_0000_0013_c103, Some(Value::U64(u64::MAX))),
                    register(0x6030_0000_0014_0000, None),
                    register(0x6030_0000_0016_0003, Some(Value::U64(0))),
                    register(0x6030_0000_0013_c020, Some(Value::U64(0x11))),
                    register(0x6030_0000_0016_0004, Some(Value::U64(0))),
                    register(0x6030_0000_0016_0005, Some(Value::U64(0))),
                    register(
                        0x6040_0000_0010_0054,
                        Some(Value::Bytes(vec![0xcd; 16].into())),
                    ),
                ],
                vec![
                    Extension {
                        name: Extension::WFXT_TIMER.into(),
                        content: Content::Number(u64::MAX),
                    },
                    Extension {
                        name: "cpu/vfp".into(),
                        content: Content::Bytes(vec![0, 0xab]),
                    },
                ],
            )],
            kernel_version: None,
            hardware: HardwareFacts {
                counter_frequency: Some(25_000_000),
                vector_lengths: Some(VectorLengths::from_bits(3)),
                dczid: Some(4),
                is_emulated: false,
                gic: Some(Gic::V3(GicLimits::from_icc_ctlr(0x8400))),
                gmid: Some(6),
                pmu_events: Some(PmuEvents {
                    pmceid0: 0x7fff_0f1f,
                    pmceid1: 0xf2_ae7f,
                }),
                gicd_iidr: Some(0x4b00_343b),
                uses_lpis: None,
            },
            shape: Some(MachineShape {
                machine: Some("virt-10.0".to_owned()),
                vcpu_count: 1,
                ram: vec![RamBlock {
                    name: "mach-virt.ram".to_owned(),
                    length: 1 << 26,
                }],
                devices: vec![DeviceSection {
                    name: "arm_gicv3".to_owned(),
                    instance: 0,
                    version: 1,
                }],
            }),
        }
    }

    #[test]
    fn a_profile_round_trips() {
        let origin = ProfileOrigin {
            program: "qemu".to_owned(),
            version: "10.0.13".to_owned(),
            accelerator: "tcg".to_owned(),
            ..ProfileOrigin::default()
        };
        let profile = Profile {
            origin,
            destination: destination(),
        };
        let json = profile.to_json().expect("JSON");
        let after = Profile::from_json(json.as_bytes()).expect("a profile");
        assert_eq!(format!("{profile:?}"), format!("{after:?}"));
    }

    #[test]
    fn documents_of_the_first_version_are_read() {
        for (old, origin) in [
            ("at-reset", ValueOrigin::Reset),
            ("of-a-guest", ValueOrigin::Guest),
            ("of-an-emulated-host", ValueOrigin::EmulatedHost),
        ] {
            let profile = Profile {
                origin: ProfileOrigin {
                    accelerator: "tcg".to_owned(),
                    ..ProfileOrigin::default()
                },
                destination: Destination {
                    value_origin: origin,
                    loader: None,
                    ..destination()
                },
            };
            let json = profile.to_json().expect("JSON");
            let values = format!("\"values\": \"{old}\"");
            let old = json
                .replacen("cpreg.profile/2", "cpreg.profile/1", 1)
                .replacen("\"origin\"", "\"recorded\"", 1);
            let old = old
                .lines()
                .map(|line| {
                    if line.contains("\"values\"") {
                        format!("{values},")
                    } else {
                        line.to_owned()
                    }
                })
                .collect::<Vec<_>>()
                .join("\n");
            let read = Profile::from_json(old.as_bytes()).expect("a profile");
            assert_eq!(format!("{profile:?}"), format!("{read:?}"));
        }
    }

    /// Writes a profile with these vCPUs, whose only register is `id`, and reads its facts.
    fn reread_facts(
        hardware: HardwareFacts,
        id: RegisterId,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<HardwareFacts, Error> {
        let vcpus = values.into_iter().map(|value| {
            let register = DestinationRegister {
                id,
                value: Some(value),
                accepted_values: AcceptedValues::ByKind,
            };
            DestinationVcpu::new([register], Vec::new())
        });
        let profile = Profile {
            origin: ProfileOrigin::default(),
            destination: Destination {
                vcpus: vcpus.collect(),
                hardware,
                ..destination()
            },
        };
        let json = profile.to_json().expect("JSON");
        Profile::from_json(json.as_bytes()).map(|profile| profile.destination.hardware)
    }

    /// Returns the facts of a profile in which each vCPU has this KVM_REG_ARM64_SVE_VLS.
    fn facts_with(member: Option<u16>, registers: &[u64]) -> Result<HardwareFacts, Error> {
        let values = registers.iter().map(|bits| {
            let mut bytes = vec![0; 64];
            bytes[..8].copy_from_slice(&bits.to_le_bytes());
            Value::Bytes(bytes.into())
        });
        let hardware = HardwareFacts {
            vector_lengths: member.map(VectorLengths::from_bits),
            ..HardwareFacts::UNKNOWN
        };
        reread_facts(hardware, RegisterId::SVE_VLS, values)
    }

    #[test]
    fn a_fact_that_contradicts_a_listed_register_is_an_error() {
        let facts = |dczid| {
            let hardware = HardwareFacts {
                dczid: Some(dczid),
                ..HardwareFacts::UNKNOWN
            };
            reread_facts(hardware, RegisterId::DCZID_EL0, [Value::U64(4)])
        };
        assert!(facts(4).is_ok());
        let error = facts(5).expect_err("a contradiction");
        assert_eq!(error.path(), Some("hardware.dczid"));
        assert_eq!(
            error.to_string(),
            "profile: hardware.dczid is 0x5, but vcpus[0].registers: DCZID_EL0 is 0x4; one of them \
             is wrong"
        );
    }

    #[test]
    fn the_register_gives_the_vector_lengths() {
        let lengths = |member, registers| {
            let facts = facts_with(member, registers).expect("no contradiction");
            facts.vector_lengths.map(VectorLengths::bits)
        };
        assert_eq!(lengths(None, &[3]), Some(3));
        assert_eq!(lengths(Some(3), &[3]), Some(3));
        assert_eq!(lengths(Some(3), &[]), Some(3));
        assert_eq!(lengths(None, &[]), None);
        // Only the lengths of all vCPUs are those of the VM.
        assert_eq!(lengths(None, &[3, 0xf, 5]), Some(1));
    }

    #[test]
    fn contradictory_and_impossible_lengths_are_errors() {
        let error = facts_with(Some(3), &[3, 1]).expect_err("a contradiction");
        assert_eq!(
            error.to_string(),
            "profile: hardware.vector_lengths is 0x3, but vcpus[1].registers: \
             KVM_REG_ARM64_SVE_VLS is 0x1; one of them is wrong"
        );
        assert_eq!(error.path(), Some("hardware.vector_lengths"));
        let error = facts_with(None, &[2]).expect_err("no length of 128 bits");
        assert_eq!(
            error.to_string(),
            "profile: vcpus[0].registers: KVM_REG_ARM64_SVE_VLS: invalid value `0x02`"
        );
    }

    #[test]
    fn errors_name_the_malformed_member() {
        let profile = Profile {
            origin: ProfileOrigin::default(),
            destination: destination(),
        };
        let json = profile.to_json().expect("JSON");
        let bad = json.replacen("0xffffffffffffffff", "fff", 1);
        let error = Profile::from_json(bad.as_bytes()).expect_err("malformed");
        assert_eq!(
            error.to_string(),
            "profile: vcpus[0].registers[1].value: invalid value `fff`"
        );
        let twice = json.replacen("0x6030000000140000", "0x603000000013c103", 1);
        let error = Profile::from_json(twice.as_bytes()).expect_err("one id twice");
        assert_eq!(
            error.to_string(),
            "profile: vcpus[0].registers[2].id repeats TCR2_EL1"
        );
        let other = json.replacen("cpreg.profile/2", "cpreg.profile/9", 1);
        let error = Profile::from_json(other.as_bytes()).expect_err("a later version");
        assert_eq!(
            error.to_string(),
            "the profile has schema `cpreg.profile/9`; this cpreg reads `cpreg.profile/2`"
        );
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert_eq!(error.hint(), Some("record the destination again"));
        let another = Profile::from_json(br#"{"schema": "cpreg.check/2", "verdict": "loads"}"#);
        assert_eq!(
            another.expect_err("no profile").to_string(),
            "a document of schema `cpreg.check/2` is not a profile (`cpreg.profile/2`), recorded host or report"
        );
        let error = Profile::from_json(b"{}").expect_err("nothing in it");
        assert_eq!(error.kind(), ErrorKind::Json);
    }
}
