//! Numbers, ids and sets of vCPUs as strings of JSON.
//!
//! | type | in JSON |
//! |---|---|
//! | [`Hex`] | `"0x10003"`, because a JSON number does not hold 64 bits |
//! | [`Id`] | `"0x6030000000140000"`, all 16 digits |
//! | [`Vcpus`] | `"0-3,5"` |

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, parse_hexadecimal};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Implements the JSON form of a newtype with its `Display` and `FromStr`.
macro_rules! as_text {
    ($type:ident, $pattern:literal) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|InvalidScalar(expected)| {
                    de::Error::custom(format_args!("`{text}` is not {expected}"))
                })
            }
        }
    };
}

/// Error of parsing a scalar, with a description of the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidScalar(&'static str);

/// A number of up to 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl FromStr for Hex {
    type Err = InvalidScalar;

    fn from_str(text: &str) -> Result<Self, InvalidScalar> {
        parse_hexadecimal(text)
            .map(Self)
            .ok_or(InvalidScalar("a number of up to 64 bits, `0x…`"))
    }
}

impl From<u64> for Hex {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

as_text!(Hex, "^0x[0-9a-f]{1,16}$");

/// A register's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub RegisterId);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0.raw())
    }
}

impl FromStr for Id {
    type Err = InvalidScalar;

    fn from_str(text: &str) -> Result<Self, InvalidScalar> {
        parse_hexadecimal(text)
            .map(|raw| Self(RegisterId::from_raw(raw)))
            .ok_or(InvalidScalar("a register's id, `0x` and 16 digits"))
    }
}

impl From<RegisterId> for Id {
    fn from(id: RegisterId) -> Self {
        Self(id)
    }
}

as_text!(Id, "^0x[0-9a-f]{16}$");

/// A set of vCPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vcpus(pub VcpuSet);

impl fmt::Display for Vcpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vcpus {
    type Err = InvalidScalar;

    fn from_str(text: &str) -> Result<Self, InvalidScalar> {
        const MAX_VCPUS: usize = 1 << 16;
        let mut vcpus = VcpuSet::default();
        for range in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (first.parse(), last.parse::<usize>()) {
                (Ok(first), Ok(last)) if first <= last && last < MAX_VCPUS => {
                    (first..=last).for_each(|vcpu| vcpus.insert(vcpu));
                }
                _ => return Err(InvalidScalar("a list of vCPUs, `0-3,5`")),
            }
        }
        Ok(Self(vcpus))
    }
}

impl From<VcpuSet> for Vcpus {
    fn from(vcpus: VcpuSet) -> Self {
        Self(vcpus)
    }
}

impl From<&VcpuSet> for Vcpus {
    fn from(vcpus: &VcpuSet) -> Self {
        Self(vcpus.clone())
    }
}

as_text!(Vcpus, "^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_round_trip() {
        let json = r#"["0-3,5","0x6030000000140000","0x10003",""]"#;
        let read: (Vcpus, Id, Hex, Vcpus) = serde_json::from_str(json).expect("scalars");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), json);
        assert_eq!(read.1.0, RegisterId::PSCI_VERSION);
    }

    #[test]
    fn invalid_scalars_are_rejected() {
        let error = |json| serde_json::from_str::<Hex>(json).expect_err("no number");
        assert!(error(r#""10003""#).to_string().contains("`10003` is not"));
        for json in [r#""3-0""#, r#""0,""#, r#""0-99999999""#, r#""-1""#] {
            assert!(serde_json::from_str::<Vcpus>(json).is_err(), "{json}");
        }
    }
}
