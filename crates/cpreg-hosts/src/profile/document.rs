//! [`Document`]: the members of a profile, and its conversion to and from a [`Destination`].

use std::collections::BTreeSet;

use cpreg::destination::{
    Accelerator, AcceptedFields, AcceptedValues, Destination, DestinationRegister, DestinationVcpu,
    Loader, ValueOrigin, Version,
};
use cpreg::hardware::{HardwareFact, HardwareFacts, VectorLengths};
use cpreg::register::{RegisterId, Value, parse_hexadecimal};
use cpreg::shape::{DeviceSection, MachineShape, RamBlock};
use cpreg::vm::{Content, Extension};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accepted_field_json::{AcceptedFieldJson, parse_fields};
use crate::error::{DocumentKind, Error, ErrorKind};
use crate::hardware::{HardwareJson, contradictory_fact};

/// Name and version of the schema.
pub const SCHEMA: &str = "cpreg.profile/2";
/// Name and version of the schema before, which is still read.
const OLD_SCHEMA: &str = "cpreg.profile/1";

/// A profile as it is written: the members of the JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// `"cpreg.profile/2"`.
    schema: String,
    /// Name in reports.
    name: String,
    /// Origin of the profile; members that do not apply are empty or absent.
    #[serde(alias = "recorded")]
    origin: ProfileOrigin,
    /// Origin of the values. `"reset"`: read before a guest ran. `"guest"`: left by a guest.
    /// `"emulated-host"`: at reset, of a vCPU that no program had configured, on an emulated CPU.
    values: String,
    /// Properties of the host that no register list holds; absent if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hardware: Option<HardwareJson>,
    /// Shape of the VM at the destination; may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<ShapeJson>,
    /// The vCPUs.
    vcpus: Vec<VcpuJson>,
}

/// Origin of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileOrigin {
    /// The program, as in `--loader`: `"qemu"`.
    pub program: String,
    /// Its version, `major.minor.micro`.
    pub version: String,
    /// Packager's addition to the version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub package: String,
    /// `"kvm"`, `"tcg"`, `"hvf"`; empty if it is not known.
    pub accelerator: String,
    /// Machine type as the program resolves it (never the alias `virt`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// The CPU model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpu: String,
    /// Recorded command, one word per element.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Release of the kernel, if the destination depends on it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel: String,
}

/// Shape of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct ShapeJson {
    /// Machine type, or null.
    machine: Option<String>,
    /// Number of vCPUs.
    vcpus: usize,
    /// RAM blocks.
    ram: Vec<RamBlockJson>,
    /// Device sections.
    devices: Vec<DeviceJson>,
}

/// RAM block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct RamBlockJson {
    /// QEMU's name of the block.
    name: String,
    /// Length in bytes, `"0x…"`.
    length: String,
}

/// Device section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct DeviceJson {
    /// QEMU's id string.
    name: String,
    /// Number among several devices with that name.
    instance: u32,
    /// Version of its format.
    version: u32,
}

/// A vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct VcpuJson {
    /// Its registers, in any order.
    registers: Vec<RegisterJson>,
    /// Parts of its state that are not registers; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<ExtensionJson>,
}

/// A register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct RegisterJson {
    /// The register's id.
    id: String,
    /// Its name; for readers, ignored by cpreg.
    #[serde(default)]
    name: String,
    /// Its value; absent if it is not known. All digits if it is wider than 64 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Bits that user space may change (`KVM_ARM_GET_REG_WRITABLE_MASKS`); absent if not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writable: Option<String>,
    /// Fields of an ID register that accept other values than the one in `value`, if they were
    /// tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<AcceptedFieldJson>>,
    /// All accepted values, if they were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_of: Option<Vec<String>>,
    /// Bits that may be set, in any combination, if they were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subset_of: Option<String>,
}

/// A part of a vCPU's state that is not a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct ExtensionJson {
    /// QEMU's name of the subsection, or `"env.features"`.
    name: String,
    /// Content, if it is one number; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    /// Content as bytes, two digits each; absent if it is one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

/// The document, for error messages.
pub(super) const PROFILE: DocumentKind = DocumentKind {
    name: "profile",
    schema: SCHEMA,
    version_hint: "record the destination again",
};

impl Document {
    /// Returns the document for a destination.
    pub(super) fn new(origin: &ProfileOrigin, destination: &Destination) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            name: destination.name.clone(),
            origin: origin.clone(),
            values: match destination.value_origin {
                ValueOrigin::Reset => RESET,
                ValueOrigin::Guest => GUEST,
                ValueOrigin::EmulatedHost => EMULATED_HOST,
            }
            .to_owned(),
            hardware: HardwareJson::from_facts(destination.hardware),
            shape: destination.shape.as_ref().map(ShapeJson::from_shape),
            vcpus: destination.vcpus.iter().map(VcpuJson::from_vcpu).collect(),
        }
    }

    /// Returns the origin of the profile.
    pub(super) const fn origin(&self) -> &ProfileOrigin {
        &self.origin
    }

    /// Returns the recorded destination.
    ///
    /// # Errors
    /// Returns an error if the document has another schema, or a member is malformed.
    pub(super) fn destination(&self) -> Result<Destination, Error> {
        if !is_supported(&self.schema) {
            return Err(schema_error(&self.schema));
        }
        let value_origin = match &*self.values {
            RESET | OLD_RESET => ValueOrigin::Reset,
            GUEST | OLD_GUEST => ValueOrigin::Guest,
            EMULATED_HOST | OLD_EMULATED_HOST => ValueOrigin::EmulatedHost,
            other => return Err(PROFILE.member_error("values", other)),
        };
        let accelerator = Accelerator::from_name(&self.origin.accelerator);
        if accelerator.is_none() && !self.origin.accelerator.is_empty() {
            return Err(PROFILE.member_error("origin.accelerator", &self.origin.accelerator));
        }
        let loader = format!("{}-{}", self.origin.program, self.origin.version);
        let vcpus = self.vcpus.iter().enumerate();
        let vcpus: Vec<_> = vcpus
            .map(|(number, vcpu)| vcpu.to_destination_vcpu(number))
            .collect::<Result<_, _>>()?;
        Ok(Destination {
            name: self.name.clone(),
            accelerator,
            loader: loader.parse::<Loader>().ok(),
            value_origin,
            hardware: self.hardware_facts(&vcpus)?,
            vcpus,
            kernel_version: Version::from_kernel_release(&self.origin.kernel),
            shape: self.shape.as_ref().map(ShapeJson::to_shape).transpose()?,
        })
    }

    /// Returns the facts in the member `hardware` and in KVM_REG_ARM64_SVE_VLS.
    ///
    /// # Errors
    /// Returns an error if a fact has an impossible value, or contradicts a register.
    fn hardware_facts(&self, vcpus: &[DestinationVcpu]) -> Result<HardwareFacts, Error> {
        let facts = self
            .hardware
            .as_ref()
            .map(|hardware| hardware.to_facts(PROFILE.name));
        let mut facts = facts.transpose()?.unwrap_or_default();
        let stated = facts.vector_lengths;
        for (number, vcpu) in vcpus.iter().enumerate() {
            if let Some((fact, register, value)) = vcpu.find_contradiction(facts) {
                let path = format!("vcpus[{number}].registers: {register}");
                let stated = facts.get(fact).unwrap_or_default();
                return Err(contradictory_fact(PROFILE.name, fact, stated, &path, value));
            }
            let register = vcpu.get(RegisterId::SVE_VLS);
            let Some(value) = register.and_then(|register| register.value.as_ref()) else {
                continue;
            };
            let path = format!("vcpus[{number}].registers: KVM_REG_ARM64_SVE_VLS");
            let lengths = VectorLengths::from_value(value)
                .ok_or_else(|| PROFILE.member_error(&*path, &value.to_string()))?;
            if let Some(stated) = stated
                && stated != lengths
            {
                return Err(contradictory_fact(
                    PROFILE.name,
                    HardwareFact::VectorLengths,
                    stated.bits().into(),
                    &path,
                    lengths.bits().into(),
                ));
            }
            let known = facts.vector_lengths.unwrap_or(lengths);
            facts.vector_lengths = Some(known.intersection(lengths));
        }
        Ok(facts)
    }
}

/// Returns `true` if this cpreg reads profiles of the schema.
pub(super) fn is_supported(schema: &str) -> bool {
    [SCHEMA, OLD_SCHEMA].contains(&schema)
}

/// Returns the error for another version of a profile, or another kind of document.
pub(super) fn schema_error(schema: &str) -> Error {
    if schema.starts_with("cpreg.profile/") {
        return PROFILE.schema_error(schema);
    }
    let message = format!(
        "a document of schema `{schema}` is not a profile (`{SCHEMA}`), recorded host or report"
    );
    Error::new(ErrorKind::Schema, message)
}

const RESET: &str = "reset";
const GUEST: &str = "guest";
const EMULATED_HOST: &str = "emulated-host";
/// Names of the same origins in [`OLD_SCHEMA`].
const OLD_RESET: &str = "at-reset";
const OLD_GUEST: &str = "of-a-guest";
const OLD_EMULATED_HOST: &str = "of-an-emulated-host";

fn parse_number(path: impl FnOnce() -> String, text: &str) -> Result<u64, Error> {
    parse_hexadecimal(text).ok_or_else(|| PROFILE.member_error(path(), text))
}

impl ShapeJson {
    fn from_shape(shape: &MachineShape) -> Self {
        Self {
            machine: shape.machine.clone(),
            vcpus: shape.vcpu_count,
            ram: shape
                .ram
                .iter()
                .map(|block| RamBlockJson {
                    name: block.name.clone(),
                    length: format!("{:#x}", block.length),
                })
                .collect(),
            devices: shape
                .devices
                .iter()
                .map(|device| DeviceJson {
                    name: device.name.clone(),
                    instance: device.instance,
                    version: device.version,
                })
                .collect(),
        }
    }

    fn to_shape(&self) -> Result<MachineShape, Error> {
        let ram = self.ram.iter().enumerate().map(|(number, block)| {
            let length = parse_number(|| format!("shape.ram[{number}].length"), &block.length)?;
            Ok(RamBlock {
                name: block.name.clone(),
                length,
            })
        });
        Ok(MachineShape {
            machine: self.machine.clone(),
            vcpu_count: self.vcpus,
            ram: ram.collect::<Result<_, _>>()?,
            devices: self
                .devices
                .iter()
                .map(|device| DeviceSection {
                    name: device.name.clone(),
                    instance: device.instance,
                    version: device.version,
                })
                .collect(),
        })
    }
}

impl VcpuJson {
    fn from_vcpu(vcpu: &DestinationVcpu) -> Self {
        let registers = vcpu.registers().iter().map(|register| RegisterJson {
            id: format!("{:#018x}", register.id.raw()),
            name: register.id.to_string(),
            value: register.value.as_ref().map(format_value),
            writable: match &register.accepted_values {
                AcceptedValues::Writable(mask) => Some(format!("{mask:#x}")),
                AcceptedValues::Fields(fields) => fields.writable.map(|mask| format!("{mask:#x}")),
                _ => None,
            },
            fields: match &register.accepted_values {
                AcceptedValues::Fields(fields) => {
                    let fields = fields.fields().iter();
                    Some(fields.map(AcceptedFieldJson::from_field).collect())
                }
                _ => None,
            },
            one_of: match &register.accepted_values {
                AcceptedValues::OneOf(values) => {
                    Some(values.iter().map(|value| format!("{value:#x}")).collect())
                }
                _ => None,
            },
            subset_of: match register.accepted_values {
                AcceptedValues::Subset(bits) => Some(format!("{bits:#x}")),
                _ => None,
            },
        });
        let extensions = vcpu.extensions.iter().map(|extension| {
            let (number, bytes) = match &extension.content {
                Content::Number(number) => (Some(format!("{number:#x}")), None),
                Content::Bytes(bytes) => (None, Some(hex::encode(bytes))),
            };
            ExtensionJson {
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

    fn to_destination_vcpu(&self, vcpu: usize) -> Result<DestinationVcpu, Error> {
        let path = |at: usize, member: &str| format!("vcpus[{vcpu}].registers[{at}].{member}");
        let mut registers = Vec::with_capacity(self.registers.len());
        let mut ids = BTreeSet::new();
        for (at, register) in self.registers.iter().enumerate() {
            let value = match &register.value {
                Some(text) => Some(parse_value(|| path(at, "value"), text)?),
                None => None,
            };
            let id = RegisterId::from_raw(parse_number(|| path(at, "id"), &register.id)?);
            if !ids.insert(id) {
                let path = path(at, "id");
                let message = format!("profile: {path} repeats {id}");
                return Err(Error::new(ErrorKind::Duplicate, message).with_path(path));
            }
            let accepted_values = register.parse_accepted_values(|member| path(at, member))?;
            registers.push(DestinationRegister {
                id,
                value,
                accepted_values,
            });
        }
        let mut extensions = Vec::with_capacity(self.extensions.len());
        for (at, extension) in self.extensions.iter().enumerate() {
            let path = || format!("vcpus[{vcpu}].extensions[{at}]");
            let content = match (&extension.number, &extension.bytes) {
                (Some(number), None) => Content::Number(parse_number(path, number)?),
                (None, Some(bytes)) => Content::Bytes(parse_bytes(path, bytes)?),
                _ => {
                    return Err(PROFILE.member_error(path(), &extension.name));
                }
            };
            extensions.push(Extension {
                name: extension.name.clone().into(),
                content,
            });
        }
        Ok(DestinationVcpu::new(registers, extensions))
    }
}

impl RegisterJson {
    /// Parses the values that are accepted in addition to `value`; `path` returns a member's path.
    fn parse_accepted_values(
        &self,
        path: impl Fn(&str) -> String,
    ) -> Result<AcceptedValues, Error> {
        if let Some(fields) = &self.fields
            && self.one_of.is_none()
            && self.subset_of.is_none()
        {
            let fields =
                parse_fields(PROFILE, fields, |number| path(&format!("fields[{number}]")))?;
            let mask = self.writable.as_ref();
            let mask = mask.map(|mask| parse_number(|| path("writable"), mask));
            let fields = AcceptedFields::new(mask.transpose()?, fields);
            return fields
                .map(|fields| AcceptedValues::Fields(Box::new(fields)))
                .ok_or_else(|| PROFILE.member_error(path("fields"), "fields that share bits"));
        }
        match (&self.writable, &self.one_of, &self.subset_of) {
            (None, None, None) => Ok(AcceptedValues::ByKind),
            (Some(mask), None, None) if self.fields.is_none() => {
                parse_number(|| path("writable"), mask).map(AcceptedValues::Writable)
            }
            (None, Some(values), None) if self.fields.is_none() => {
                let values = values
                    .iter()
                    .map(|value| parse_number(|| path("one_of"), value));
                values.collect::<Result<_, _>>().map(AcceptedValues::OneOf)
            }
            (None, None, Some(bits)) if self.fields.is_none() => {
                parse_number(|| path("subset_of"), bits).map(AcceptedValues::Subset)
            }
            _ => Err(PROFILE.member_error(
                path("writable"),
                "more than one of writable or fields, one_of and subset_of",
            )),
        }
    }
}

fn format_value(value: &Value) -> String {
    match value {
        Value::U64(value) => format!("{value:#x}"),
        Value::Bytes(bytes) => {
            let most_significant_first: Vec<u8> = bytes.iter().rev().copied().collect();
            format!("0x{}", hex::encode(most_significant_first))
        }
    }
}

/// Parses a register's value.
///
/// Up to 64 bits are a number; a wider value has all of its bytes, most significant first.
fn parse_value(path: impl Fn() -> String, text: &str) -> Result<Value, Error> {
    if text.len() <= "0x".len() + 16 {
        return parse_number(path, text).map(Value::U64);
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut bytes = parse_bytes(path, digits)?;
    bytes.reverse();
    Ok(Value::Bytes(bytes.into()))
}

fn parse_bytes(path: impl FnOnce() -> String, digits: &str) -> Result<Vec<u8>, Error> {
    hex::decode(digits).map_err(|_| PROFILE.member_error(path(), digits))
}
