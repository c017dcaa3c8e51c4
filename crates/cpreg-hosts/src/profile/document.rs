//! [`Document`]: a profile as it is written, and its translation to and from a [`Destination`].

use std::collections::BTreeSet;

use cpreg::destination::{
    Accelerator, Accepts, Destination, HostRegister, HostVcpu, Loader, ValuesAre,
};
use cpreg::register::{RegisterId, Value, parse_hexadecimal};
use cpreg::shape::{Device, RamBlock, Shape};
use cpreg::vm::{Content, Extension};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{DocumentKind, Error, ErrorKind};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.profile/1";

/// A profile as it is written: the members of the JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// `"cpreg.profile/1"`.
    schema: String,
    /// Name in reports.
    name: String,
    /// Origin of the profile; members that do not apply are empty or absent.
    recorded: Recorded,
    /// `"at-reset"`: read before a guest ran; `"of-a-guest"`: a guest left them; `"of-an-emulated-host"`: at reset, of a vCPU that no program had configured, on an emulated CPU.
    values: String,
    /// The outline of the VM there; may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<ShapeFile>,
    /// The vCPUs.
    vcpus: Vec<VcpuFile>,
}

/// Where a profile comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recorded {
    /// The program, as in `--vmm`: `"qemu"`.
    pub program: String,
    /// Its version, `major.minor.micro`.
    pub version: String,
    /// The packager's addition to the version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub package: String,
    /// `"kvm"`, `"tcg"`, `"hvf"`, or empty if that is not known.
    pub accelerator: String,
    /// The machine type as the program resolves it (`virt` is never kept).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// The CPU model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpu: String,
    /// The command that was recorded, word by word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The kernel's release, where the kernel counts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel: String,
}

/// Outline of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct ShapeFile {
    /// Machine type, or null.
    machine: Option<String>,
    /// Number of vCPUs.
    vcpus: usize,
    /// Blocks of RAM.
    ram: Vec<RamFile>,
    /// Device sections.
    devices: Vec<DeviceFile>,
}

/// Block of RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct RamFile {
    /// QEMU's name of the block.
    name: String,
    /// Length in bytes, `"0x…"`.
    length: String,
}

/// Device section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct DeviceFile {
    /// QEMU's id string.
    name: String,
    /// Number among several with that name.
    instance: u32,
    /// Version of its format.
    version: u32,
}

/// A vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct VcpuFile {
    /// Its registers, in any order.
    registers: Vec<RegisterFile>,
    /// Parts of its state that are no registers; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<ExtensionFile>,
}

/// A register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct RegisterFile {
    /// The register's id.
    id: String,
    /// Its name; for people, not read back.
    #[serde(default)]
    name: String,
    /// Its value; absent if it is not known. Wider than 64 bits: all its digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Bits that may differ from it (`KVM_ARM_GET_REG_WRITABLE_MASKS`); absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writable: Option<String>,
    /// All values that are taken, where they were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_of: Option<Vec<String>>,
    /// Bits that may be set, in any combination, where they were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subset_of: Option<String>,
}

/// A part of a vCPU's state that is no register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct ExtensionFile {
    /// QEMU's name of the subsection, or `"env.features"`.
    name: String,
    /// Content, if it is one number; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    /// Content as bytes, two digits each; absent if it is one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

/// The document, as its errors name it.
pub(super) const PROFILE: DocumentKind = DocumentKind {
    name: "profile",
    schema: SCHEMA,
    other_version: "record the destination again",
};

impl Document {
    /// Returns the document for a destination.
    pub(super) fn new(recorded: &Recorded, destination: &Destination) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            name: destination.name.clone(),
            recorded: recorded.clone(),
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

    /// Returns where the profile comes from.
    pub(super) const fn recorded(&self) -> &Recorded {
        &self.recorded
    }

    /// Returns the destination that was recorded.
    ///
    /// # Errors
    /// If the document has another schema, or a member is malformed.
    pub(super) fn destination(&self) -> Result<Destination, Error> {
        if self.schema != SCHEMA {
            return Err(other_schema(&self.schema));
        }
        let values = match &*self.values {
            AT_RESET => ValuesAre::AtReset,
            OF_A_GUEST => ValuesAre::OfAGuest,
            OF_AN_EMULATED_HOST => ValuesAre::OfAnEmulatedHost,
            other => return Err(PROFILE.member("values", other)),
        };
        let accelerator = Accelerator::from_name(&self.recorded.accelerator);
        if accelerator.is_none() && !self.recorded.accelerator.is_empty() {
            return Err(PROFILE.member("recorded.accelerator", &self.recorded.accelerator));
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
pub(super) fn other_schema(schema: &str) -> Error {
    if schema.starts_with("cpreg.profile/") {
        return PROFILE.other_schema(schema);
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
    parse_hexadecimal(text).ok_or_else(|| PROFILE.member(path(), text))
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
                    return Err(PROFILE.member(path(), &extension.name));
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
            _ => Err(PROFILE.member(
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
    hex::decode(digits).map_err(|_| PROFILE.member(path(), digits))
}
