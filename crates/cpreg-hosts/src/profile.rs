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
use std::fmt;

use cpreg::destination::{
    Accelerator, Accepts, Destination, HostRegister, HostVcpu, Loader, ValuesAre,
};
use cpreg::register::{RegisterId, Value, parse_hexadecimal};
use cpreg::shape::{Device, RamBlock, Shape};
use cpreg::vm::{Content, Extension};
use serde::{Deserialize, Serialize};

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

/// A file is no profile, or not one that this version reads.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProfileError {
    /// It is not the JSON that a profile is.
    Json(serde_json::Error),
    /// It is of another schema.
    Schema(String),
    /// A member holds what it cannot hold.
    Member {
        /// Where: `vcpus[0].registers[3].value`.
        path: String,
        /// What stands there.
        text: String,
    },
    /// A register is listed a second time.
    Twice {
        /// Where the second one stands.
        path: String,
        /// Which.
        id: RegisterId,
    },
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "not a profile: {error}"),
            Self::Schema(schema) if !schema.starts_with("cpreg.profile/") => write!(
                f,
                "a document of schema `{schema}`, which is no profile (`{SCHEMA}`), recorded host or report"
            ),
            Self::Schema(schema) => write!(
                f,
                "a profile of schema `{schema}`, where this cpreg reads `{SCHEMA}`: record the destination again"
            ),
            Self::Member { path, text } => {
                write!(f, "profile: {path} holds `{text}`, which it cannot")
            }
            Self::Twice { path, id } => {
                write!(f, "profile: {path} lists {id} a second time")
            }
        }
    }
}

/// What every document of cpreg begins with.
#[derive(Deserialize)]
struct Head {
    schema: String,
}

impl std::error::Error for ProfileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            _ => None,
        }
    }
}

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
    pub fn from_json(bytes: &[u8]) -> Result<Self, ProfileError> {
        let profile: Self = serde_json::from_slice(bytes).map_err(|error| {
            // Of another schema's document it is better said whose it is than which member it lacks.
            match serde_json::from_slice(bytes) {
                Ok(Head { schema }) if schema != SCHEMA => ProfileError::Schema(schema),
                _ => ProfileError::Json(error),
            }
        })?;
        if profile.schema != SCHEMA {
            return Err(ProfileError::Schema(profile.schema));
        }
        profile.to_destination()?;
        Ok(profile)
    }

    /// Writes it, for people as well.
    ///
    /// # Errors
    /// If JSON cannot hold it, which no profile brings about.
    pub fn to_json(&self) -> Result<String, ProfileError> {
        let mut text = serde_json::to_string_pretty(self).map_err(ProfileError::Json)?;
        text.push('\n');
        Ok(text)
    }

    /// The destination that was recorded.
    ///
    /// # Errors
    /// If a member is malformed.
    pub fn to_destination(&self) -> Result<Destination, ProfileError> {
        let bad = |path: &str, text: &str| ProfileError::Member {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let values = match &*self.values {
            AT_RESET => ValuesAre::AtReset,
            OF_A_GUEST => ValuesAre::OfAGuest,
            OF_AN_EMULATED_HOST => ValuesAre::OfAnEmulatedHost,
            other => return Err(bad("values", other)),
        };
        let accelerator = Accelerator::from_name(&self.recorded.accelerator);
        if accelerator.is_none() && !self.recorded.accelerator.is_empty() {
            return Err(bad("recorded.accelerator", &self.recorded.accelerator));
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

const AT_RESET: &str = "at-reset";
const OF_A_GUEST: &str = "of-a-guest";
const OF_AN_EMULATED_HOST: &str = "of-an-emulated-host";

fn hexadecimal(path: impl FnOnce() -> String, text: &str) -> Result<u64, ProfileError> {
    parse_hexadecimal(text).ok_or_else(|| ProfileError::Member {
        path: path(),
        text: text.to_owned(),
    })
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

    fn to_shape(&self) -> Result<Shape, ProfileError> {
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

    fn to_host(&self, vcpu: usize) -> Result<HostVcpu, ProfileError> {
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
                return Err(ProfileError::Twice {
                    path: path(at, "id"),
                    id,
                });
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
                    return Err(ProfileError::Member {
                        path: path(),
                        text: extension.name.clone(),
                    });
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
    fn accepts(&self, path: impl Fn(&str) -> String) -> Result<Accepts, ProfileError> {
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
            _ => Err(ProfileError::Member {
                path: path("writable"),
                text: "more than one of writable, one_of and subset_of".to_owned(),
            }),
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
fn value(path: impl Fn() -> String, text: &str) -> Result<Value, ProfileError> {
    if text.len() <= "0x".len() + 16 {
        return hexadecimal(path, text).map(Value::Small);
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut bytes = bytes_of(path, digits)?;
    bytes.reverse();
    Ok(Value::Wide(bytes.into()))
}

fn bytes_of(path: impl FnOnce() -> String, digits: &str) -> Result<Vec<u8>, ProfileError> {
    hex::decode(digits).map_err(|_| ProfileError::Member {
        path: path(),
        text: digits.to_owned(),
    })
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
        assert!(matches!(
            Profile::from_json(other.as_bytes()),
            Err(ProfileError::Schema(_))
        ));
        let another = Profile::from_json(br#"{"schema": "cpreg.check/1", "verdict": "loads"}"#);
        assert_eq!(
            another.expect_err("no profile").to_string(),
            "a document of schema `cpreg.check/1`, which is no profile (`cpreg.profile/1`), recorded host or report"
        );
        assert!(matches!(
            Profile::from_json(b"{}"),
            Err(ProfileError::Json(_))
        ));
    }
}
