//! The JSON of `show` for a recorded host, schema `cpreg.show-host/1`; documented in docs/json.md. 64-bit values are strings, `"0x…"`.

use cpreg::destination::Features;
use cpreg::register::Value;
use cpreg_hosts::HostRecord;
use cpreg_hosts::history::AtReset;
use cpreg_hosts::record::Register;
use serde::Serialize;

use super::{Counts, ShownGuest, ShownHost, Takes};
use crate::field::{FieldReport, all_fields, meaning};
use crate::value::{Printing, id_digits};

/// The schema's name and version.
const SCHEMA: &str = "cpreg.show-host/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: HostReport<'a>,
    capabilities: Vec<CapabilityReport<'a>>,
    guests: Vec<GuestReport>,
    guest: Option<OneGuest>,
}

/// Who a host is, here and where two are compared.
#[derive(Serialize)]
pub struct HostReport<'a> {
    name: String,
    release: &'a str,
    version: &'a str,
    cpu: &'a str,
    mode: Option<&'a str>,
    midr: String,
    emulated: bool,
}

#[derive(Serialize)]
struct CapabilityReport<'a> {
    name: &'a str,
    number: i32,
}

#[derive(Serialize)]
struct GuestReport {
    features: Vec<&'static str>,
    registers: usize,
    values: usize,
    poison: usize,
    counters: usize,
    unreadable: usize,
    writable: Option<usize>,
    tried: usize,
}

#[derive(Serialize)]
struct OneGuest {
    features: Vec<&'static str>,
    registers: Vec<RegisterReport>,
    not_listed: Vec<NotListed>,
}

#[derive(Serialize)]
struct RegisterReport {
    id: String,
    name: String,
    at_reset: AtResetReport,
    differs_by_vcpu: bool,
    write_back: u16,
    writable: Option<String>,
    takes: Option<TakesReport>,
    trials: Vec<TrialReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldReport>,
}

/// What a register held.
#[derive(Serialize)]
pub struct AtResetReport {
    is: &'static str,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<bool>,
    meaning: Option<String>,
    errno: Option<u16>,
}

/// The values that are taken, where all that count were tried.
#[derive(Serialize)]
pub struct TakesReport {
    one_of: Option<Vec<String>>,
    subset_of: Option<String>,
}

#[derive(Serialize)]
struct TrialReport {
    value: String,
    errno: u16,
    reads: String,
}

#[derive(Serialize)]
struct NotListed {
    id: String,
    name: String,
}

fn hexadecimal(value: u64) -> String {
    format!("{value:#x}")
}

pub fn names(features: Features) -> Vec<&'static str> {
    features.names().collect()
}

/// The answer as one JSON document.
///
/// # Errors
/// If JSON cannot hold it, which no answer brings about.
pub fn report(shown: &ShownHost<'_>) -> serde_json::Result<String> {
    let record = shown.record;
    let capabilities = record.capabilities.iter();
    let document = Document {
        schema: SCHEMA,
        host: HostReport::of(record),
        capabilities: capabilities
            .map(|(name, number)| CapabilityReport {
                name,
                number: *number,
            })
            .collect(),
        guests: record
            .guests
            .iter()
            .map(|(features, guest)| GuestReport::of(*features, Counts::of(guest)))
            .collect(),
        guest: shown
            .guest
            .as_ref()
            .map(|guest| OneGuest::of(guest, shown.printing)),
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

impl<'a> HostReport<'a> {
    pub fn of(record: &'a HostRecord) -> Self {
        let identity = &record.identity;
        Self {
            name: identity.name(),
            release: &identity.release,
            version: &identity.version,
            cpu: &identity.cpu,
            mode: Some(&*identity.mode).filter(|mode| !mode.is_empty()),
            midr: hexadecimal(identity.midr),
            emulated: identity.emulated,
        }
    }
}

impl GuestReport {
    fn of(features: Features, counts: Counts) -> Self {
        Self {
            features: names(features),
            registers: counts.registers,
            values: counts.values,
            poison: counts.poison,
            counters: counts.counters,
            unreadable: counts.unreadable,
            writable: counts.writable,
            tried: counts.tried,
        }
    }
}

impl OneGuest {
    fn of(guest: &ShownGuest<'_>, printing: Printing) -> Self {
        let registers = guest.registers();
        let missing = guest.missing();
        Self {
            features: names(guest.features),
            registers: registers
                .map(|register| RegisterReport::of(guest, register, printing))
                .collect(),
            not_listed: missing
                .map(|id| NotListed {
                    id: id_digits(id),
                    name: printing.name(id),
                })
                .collect(),
        }
    }
}

impl RegisterReport {
    fn of(guest: &ShownGuest<'_>, register: &Register, printing: Printing) -> Self {
        let id = register.id;
        let value = match &register.at_reset {
            AtReset::Value(Value::Small(value)) => Some(*value),
            _ => None,
        };
        let fields = value.filter(|_| guest.fields || !guest.wanted.is_empty());
        let fields = fields
            .map(|value| all_fields(id, value))
            .unwrap_or_default();
        Self {
            id: id_digits(id),
            name: printing.name(id),
            at_reset: AtResetReport::of(register, printing),
            differs_by_vcpu: register.differs_by_vcpu,
            write_back: register.write_back,
            writable: guest.writable(id).map(hexadecimal),
            takes: guest.takes(id).map(|takes| TakesReport::of(&takes)),
            trials: register
                .trials
                .iter()
                .map(|trial| TrialReport {
                    value: hexadecimal(trial.value),
                    errno: trial.errno,
                    reads: hexadecimal(trial.reads),
                })
                .collect(),
            fields: fields
                .into_iter()
                .map(|field| FieldReport::from(&field))
                .collect(),
        }
    }
}

impl AtResetReport {
    pub fn of(register: &Register, printing: Printing) -> Self {
        let mut report = Self {
            is: "value",
            value: None,
            secret: None,
            meaning: None,
            errno: None,
        };
        match &register.at_reset {
            AtReset::Value(value) => {
                report.value = printing.value(register.id, value);
                report.secret = report.value.is_none().then_some(true);
                report.meaning = meaning(register.id, value).filter(|_| report.value.is_some());
            }
            AtReset::Poison => report.is = "poison",
            AtReset::Counts => report.is = "counts",
            AtReset::Unreadable(errno) => {
                report.is = "unreadable";
                report.errno = Some(*errno);
            }
        }
        report
    }
}

impl TakesReport {
    pub fn of(takes: &Takes) -> Self {
        match takes {
            Takes::OneOf(values) => Self {
                one_of: Some(values.iter().copied().map(hexadecimal).collect()),
                subset_of: None,
            },
            Takes::Bits(bits) => Self {
                one_of: None,
                subset_of: Some(hexadecimal(*bits)),
            },
        }
    }
}
