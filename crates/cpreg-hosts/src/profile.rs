//! The profile: a recorded destination as a JSON file.
//!
//! | member | what it holds |
//! |---|---|
//! | `schema` | `"cpreg.profile/1"` |
//! | `name` | what to call it |
//! | `recorded` | the program, its version and package, accelerator, machine, CPU model and command line |
//! | `values` | `"at-reset"`, `"of-a-guest"` or `"of-an-emulated-host"` |
//! | `shape` | machine, vCPU count, RAM blocks, devices |
//! | `vcpus` | for each vCPU: `registers` (id, name, value, and what else is taken: `writable`, `one_of` or `subset_of`) and `extensions` (name, and a number or bytes) |
//!
//! 64-bit numbers are strings, `"0x…"`. Names are for people and are not read back. Unknown members are ignored.

use std::collections::BTreeSet;

use cpreg::destination::{
    Accelerator, Accepts, Destination, HostRegister, HostVcpu, Loader, ValuesAre,
};
use cpreg::register::{RegisterId, Value, parse_hexadecimal};
use cpreg::shape::{Device, RamBlock, Shape};
use cpreg::vm::{Content, Extension};
use serde::{Deserialize, Serialize};

use crate::error::{Document, Error, ErrorKind};
use crate::schema;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.profile/1";

/// A recorded destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    schema: String,
    /// What to call it.
    pub name: String,
    /// Who recorded what.
    pub recorded: Recorded,
    values: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<ShapeFile>,
    vcpus: Vec<VcpuFile>,
}

/// Where a profile comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The program, as in `--vmm` (`qemu`).
    pub program: String,
    /// Its version, `major.minor.micro`.
    pub version: String,
    /// The packager's addition to the version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub package: String,
    /// `kvm`, `tcg` or `hvf`.
    pub accelerator: String,
    /// The machine type, as the program resolves it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// The CPU model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpu: String,
    /// The command that was recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The kernel's release, where the kernel counts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ShapeFile {
    machine: Option<String>,
    vcpus: usize,
    ram: Vec<RamFile>,
    devices: Vec<DeviceFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RamFile {
    name: String,
    length: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DeviceFile {
    name: String,
    instance: u32,
    version: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct VcpuFile {
    registers: Vec<RegisterFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<ExtensionFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RegisterFile {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// The bits that may differ from the value, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writable: Option<String>,
    /// All values that are taken, where they were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_of: Option<Vec<String>>,
    /// The bits that may be set, where they were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subset_of: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ExtensionFile {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

/// The document, as its errors name it.
const DOCUMENT: Document = Document {
    name: "profile",
    schema: SCHEMA,
    other_version: "record the destination again",
};

impl Profile {
    /// Records a destination.
    pub fn new(recorded: Recorded, destination: &Destination) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            name: destination.name.clone(),
            recorded,
            values: match destination.values {
                ValuesAre::AtReset => AT_RESET,
                ValuesAre::OfAGuest => OF_A_GUEST,
                ValuesAre::OfAnEmulatedHost => OF_AN_EMULATED_HOST,
            }
            .to_owned(),
            shape: destination.shape.as_ref().map(ShapeFile::of),
            vcpus: destination.vcpus.iter().map(VcpuFile::of).collect(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it is not JSON, of another schema, or a member is malformed.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let profile: Self = serde_json::from_slice(bytes).map_err(|error| {
            // It is better said that a document is of another kind than which member it lacks.
            match schema::of(bytes) {
                Some(schema) if schema != SCHEMA => other_schema(&schema),
                _ => DOCUMENT.not_json(error),
            }
        })?;
        if profile.schema != SCHEMA {
            return Err(other_schema(&profile.schema));
        }
        profile.to_destination()?;
        Ok(profile)
    }

    /// Writes it, for people as well.
    ///
    /// # Errors
    /// If JSON cannot hold it, which no profile brings about.
    pub fn to_json(&self) -> Result<String, Error> {
        let mut text =
            serde_json::to_string_pretty(self).map_err(|error| DOCUMENT.not_json(error))?;
        text.push('\n');
        Ok(text)
    }

    /// The destination that was recorded.
    ///
    /// # Errors
    /// If a member is malformed.
    pub fn to_destination(&self) -> Result<Destination, Error> {
        let values = match &*self.values {
            AT_RESET => ValuesAre::AtReset,
            OF_A_GUEST => ValuesAre::OfAGuest,
            OF_AN_EMULATED_HOST => ValuesAre::OfAnEmulatedHost,
            other => return Err(DOCUMENT.member("values", other)),
        };
        let accelerator = Accelerator::from_name(&self.recorded.accelerator);
        if accelerator.is_none() && !self.recorded.accelerator.is_empty() {
            return Err(DOCUMENT.member("recorded.accelerator", &self.recorded.accelerator));
        }
        let loader = format!("{}-{}", self.recorded.program, self.recorded.version);
        let vcpus = self.vcpus.iter().enumerate();
        Ok(Destination {
            name: self.name.clone(),
            accelerator,
            loader: loader.parse::<Loader>().ok(),
            values,
            vcpus: vcpus
                .map(|(number, vcpu)| vcpu.to_host(number))
                .collect::<Result<_, _>>()?,
            shape: self.shape.as_ref().map(ShapeFile::to_shape).transpose()?,
        })
    }
}

/// Returns the error for another version of a profile, or another document of cpreg.
fn other_schema(schema: &str) -> Error {
    if schema.starts_with("cpreg.profile/") {
        return DOCUMENT.other_schema(schema);
    }
    let message = format!(
        "a document of schema `{schema}`, which is no profile (`{SCHEMA}`), recorded host or report"
    );
    Error::new(ErrorKind::Schema, message)
}

const AT_RESET: &str = "at-reset";
const OF_A_GUEST: &str = "of-a-guest";
const OF_AN_EMULATED_HOST: &str = "of-an-emulated-host";

fn hexadecimal(path: impl FnOnce() -> String, text: &str) -> Result<u64, Error> {
    parse_hexadecimal(text).ok_or_else(|| DOCUMENT.member(path(), text))
}

impl ShapeFile {
    fn of(shape: &Shape) -> Self {
        Self {
            machine: shape.machine.clone(),
            vcpus: shape.vcpus,
            ram: shape
                .ram
                .iter()
                .map(|block| RamFile {
                    name: block.name.clone(),
                    length: format!("{:#x}", block.length),
                })
                .collect(),
            devices: shape
                .devices
                .iter()
                .map(|device| DeviceFile {
                    name: device.name.clone(),
                    instance: device.instance,
                    version: device.version,
                })
                .collect(),
        }
    }

    fn to_shape(&self) -> Result<Shape, Error> {
        let ram = self.ram.iter().enumerate().map(|(number, block)| {
            let length = hexadecimal(|| format!("shape.ram[{number}].length"), &block.length)?;
            Ok(RamBlock {
                name: block.name.clone(),
                length,
            })
        });
        Ok(Shape {
            machine: self.machine.clone(),
            vcpus: self.vcpus,
            ram: ram.collect::<Result<_, _>>()?,
            devices: self
                .devices
                .iter()
                .map(|device| Device {
                    name: device.name.clone(),
                    instance: device.instance,
                    version: device.version,
                })
                .collect(),
        })
    }
}

impl VcpuFile {
    fn of(vcpu: &HostVcpu) -> Self {
        let registers = vcpu.registers().iter().map(|register| RegisterFile {
            id: format!("{:#018x}", register.id.raw()),
            name: register.id.to_string(),
            value: register.value.as_ref().map(text_of),
            writable: match register.accepts {
                Accepts::Writable(mask) => Some(format!("{mask:#x}")),
                _ => None,
            },
            one_of: match &register.accepts {
                Accepts::OneOf(values) => {
                    Some(values.iter().map(|value| format!("{value:#x}")).collect())
                }
                _ => None,
            },
            subset_of: match register.accepts {
                Accepts::Subset(bits) => Some(format!("{bits:#x}")),
                _ => None,
            },
        });
        let extensions = vcpu.extensions.iter().map(|extension| {
            let (number, bytes) = match &extension.content {
                Content::Number(number) => (Some(format!("{number:#x}")), None),
                Content::Bytes(bytes) => (None, Some(hex::encode(bytes))),
            };
            ExtensionFile {
                name: extension.name.clone().into_owned(),
                number,
                bytes,
            }
        });
        Self {
            registers: registers.collect(),
            extensions: extensions.collect(),
        }
    }

    fn to_host(&self, vcpu: usize) -> Result<HostVcpu, Error> {
        let path = |at: usize, member: &str| format!("vcpus[{vcpu}].registers[{at}].{member}");
        let mut registers = Vec::with_capacity(self.registers.len());
        let mut seen = BTreeSet::new();
        for (at, register) in self.registers.iter().enumerate() {
            let value = match &register.value {
                Some(text) => Some(value(|| path(at, "value"), text)?),
                None => None,
            };
            let id = RegisterId::from_raw(hexadecimal(|| path(at, "id"), &register.id)?);
            if !seen.insert(id) {
                let path = path(at, "id");
                let message = format!("profile: {path} lists {id} a second time");
                return Err(Error::new(ErrorKind::Duplicate, message).at(path));
            }
            let accepts = register.accepts(|member| path(at, member))?;
            registers.push(HostRegister { id, value, accepts });
        }
        let mut extensions = Vec::with_capacity(self.extensions.len());
        for (at, extension) in self.extensions.iter().enumerate() {
            let path = || format!("vcpus[{vcpu}].extensions[{at}]");
            let content = match (&extension.number, &extension.bytes) {
                (Some(number), None) => Content::Number(hexadecimal(path, number)?),
                (None, Some(bytes)) => Content::Bytes(bytes_of(path, bytes)?),
                _ => {
                    return Err(DOCUMENT.member(path(), &extension.name));
                }
            };
            extensions.push(Extension {
                name: extension.name.clone().into(),
                content,
            });
        }
        Ok(HostVcpu::new(registers, extensions))
    }
}

impl RegisterFile {
    /// What is taken beyond the value; `path` gives a member's.
    fn accepts(&self, path: impl Fn(&str) -> String) -> Result<Accepts, Error> {
        match (&self.writable, &self.one_of, &self.subset_of) {
            (None, None, None) => Ok(Accepts::ByKind),
            (Some(mask), None, None) => {
                hexadecimal(|| path("writable"), mask).map(Accepts::Writable)
            }
            (None, Some(values), None) => {
                let values = values
                    .iter()
                    .map(|value| hexadecimal(|| path("one_of"), value));
                values.collect::<Result<_, _>>().map(Accepts::OneOf)
            }
            (None, None, Some(bits)) => {
                hexadecimal(|| path("subset_of"), bits).map(Accepts::Subset)
            }
            _ => Err(DOCUMENT.member(
                path("writable"),
                "more than one of writable, one_of and subset_of",
            )),
        }
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Small(value) => format!("{value:#x}"),
        Value::Wide(bytes) => {
            let most_significant_first: Vec<u8> = bytes.iter().rev().copied().collect();
            format!("0x{}", hex::encode(most_significant_first))
        }
    }
}

/// A register's value: at most 64 bits as a number, wider ones as all of their bytes, most significant first.
fn value(path: impl Fn() -> String, text: &str) -> Result<Value, Error> {
    if text.len() <= "0x".len() + 16 {
        return hexadecimal(path, text).map(Value::Small);
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut bytes = bytes_of(path, digits)?;
    bytes.reverse();
    Ok(Value::Wide(bytes.into()))
}

fn bytes_of(path: impl FnOnce() -> String, digits: &str) -> Result<Vec<u8>, Error> {
    hex::decode(digits).map_err(|_| DOCUMENT.member(path(), digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination() -> Destination {
        let register = |id: u64, value: Option<Value>| HostRegister {
            id: RegisterId::from_raw(id),
            value,
            accepts: match id {
                0x6030_0000_0014_0000 => Accepts::OneOf(vec![2, 0x1_0000]),
                0x6030_0000_0016_0003 => Accepts::Subset(3),
                0x6030_0000_0013_c020 => Accepts::Writable(0xff),
                _ => Accepts::ByKind,
            },
        };
        Destination {
            name: "a host".to_owned(),
            accelerator: Some(Accelerator::Tcg),
            loader: Some(Loader::qemu(10, 0)),
            values: ValuesAre::AtReset,
            vcpus: vec![HostVcpu::new(
                [
                    register(0x6030_0000_0013_c103, Some(Value::Small(u64::MAX))),
                    register(0x6030_0000_0014_0000, None),
                    register(0x6030_0000_0016_0003, Some(Value::Small(0))),
                    register(0x6030_0000_0013_c020, Some(Value::Small(0x11))),
                    register(
                        0x6040_0000_0010_0054,
                        Some(Value::Wide(vec![0xcd; 16].into())),
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
            shape: Some(Shape {
                machine: Some("virt-10.0".to_owned()),
                vcpus: 1,
                ram: vec![RamBlock {
                    name: "mach-virt.ram".to_owned(),
                    length: 1 << 26,
                }],
                devices: vec![Device {
                    name: "arm_gicv3".to_owned(),
                    instance: 0,
                    version: 1,
                }],
            }),
        }
    }

    #[test]
    fn what_is_recorded_comes_back() {
        let before = destination();
        let recorded = Recorded {
            program: "qemu".to_owned(),
            version: "10.0.13".to_owned(),
            accelerator: "tcg".to_owned(),
            ..Recorded::default()
        };
        let json = Profile::new(recorded, &before).to_json().expect("JSON");
        let after = Profile::from_json(json.as_bytes())
            .expect("a profile")
            .to_destination()
            .expect("whole");
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }

    #[test]
    fn what_is_malformed_is_named() {
        let json = Profile::new(Recorded::default(), &destination())
            .to_json()
            .expect("JSON");
        let bad = json.replacen("0xffffffffffffffff", "fff", 1);
        let error = Profile::from_json(bad.as_bytes()).expect_err("malformed");
        assert_eq!(
            error.to_string(),
            "profile: vcpus[0].registers[1].value holds `fff`, which it cannot"
        );
        let twice = json.replacen("0x6030000000140000", "0x603000000013c103", 1);
        let error = Profile::from_json(twice.as_bytes()).expect_err("one id twice");
        assert_eq!(
            error.to_string(),
            "profile: vcpus[0].registers[2].id lists TCR2_EL1 a second time"
        );
        let other = json.replacen("cpreg.profile/1", "cpreg.profile/9", 1);
        let error = Profile::from_json(other.as_bytes()).expect_err("a later version");
        assert_eq!(
            error.to_string(),
            "a profile of schema `cpreg.profile/9`, where this cpreg reads `cpreg.profile/1`"
        );
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert_eq!(error.hint(), Some("record the destination again"));
        let another = Profile::from_json(br#"{"schema": "cpreg.check/1", "verdict": "loads"}"#);
        assert_eq!(
            another.expect_err("no profile").to_string(),
            "a document of schema `cpreg.check/1`, which is no profile (`cpreg.profile/1`), recorded host or report"
        );
        let error = Profile::from_json(b"{}").expect_err("nothing in it");
        assert_eq!(error.kind(), ErrorKind::Json);
    }
}
