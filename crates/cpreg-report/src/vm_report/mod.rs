//! [`VmReport`]: a VM without RAM and secrets as a JSON file, for a bug report.
//!
//! | member | contents |
//! |---|---|
//! | `schema` | `"cpreg.report/2"` |
//! | `cpreg` | version of the cpreg that wrote the report |
//! | `vm` | summary of the stream: machine, vCPUs, RAM, devices, possible writers |
//! | `host` | the machine that wrote the report, if the user requests it |
//! | `hardware` | properties of the VM's own host that no stream holds, if they are known |
//! | `redactions` | things that are redacted in addition to RAM |
//! | `destination` | the destination as a profile, and the source of the knowledge about it |
//! | `check` | report of `check` for the VM and the destination |
//! | `stream` | the stream without RAM, secrets redacted; gzip in base64 |
//!
//! cpreg reads back only `stream`, `hardware` and `redactions.registers`. All other members are for
//! people and for programs that inspect reports. A report contains no time, so reports of the same
//! VM are identical. Other crates redact the stream.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | writing and reading a report |
//! | `model.rs` | members of a report |
//! | `encoding.rs` | the stream as text |
//! | `destination.rs` | the destination without data of a guest |

mod destination;
mod encoding;
mod model;

use std::io::Read;

use cpreg::hardware::HardwareFacts;
use cpreg::register::{RegisterId, parse_hexadecimal};
use cpreg_hosts::hardware::HardwareJson;
use cpreg_hosts::schema;

pub use model::{
    Device, HostPlatform, RamBlock, RedactedDevice, RedactedRegister, Redactions,
    ReportDestination, SCHEMA, StreamSummary, VersionRange, VmReport,
};

use crate::error::Error;
use model::EncodedStream;

/// Returns `true` if a JSON document is a report of any version.
///
/// A truncated document is a report too, if it begins in the form that cpreg writes.
pub fn is_report(json: &[u8]) -> bool {
    schema::has_prefix(json, "cpreg.report/")
}

impl VmReport {
    /// Creates a report of a stream, which the caller must have redacted.
    ///
    /// # Errors
    /// Returns an error if the stream cannot be compressed, which does not happen in memory.
    pub fn new(
        cpreg: &str,
        vm: StreamSummary,
        redactions: Redactions,
        stream: &[u8],
    ) -> Result<Self, Error> {
        Ok(Self {
            schema: SCHEMA.to_owned(),
            cpreg: cpreg.to_owned(),
            vm,
            host: None,
            hardware: None,
            redactions,
            destination: None,
            check: None,
            stream: EncodedStream::new(stream)?,
        })
    }

    /// Parses a report, without decompressing its stream.
    ///
    /// # Errors
    /// Returns an error if the document is not JSON, has another schema, or a member is invalid.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let report: Self = match serde_json::from_slice(bytes) {
            Ok(report) => report,
            Err(error) => {
                // A report of another version may have any members, so parse only the schema.
                return Err(match schema::parse_name(bytes) {
                    Some(schema) if schema != SCHEMA => Error::schema_mismatch(&schema, SCHEMA),
                    _ => Error::invalid_json(error),
                });
            }
        };
        if report.schema != SCHEMA {
            return Err(Error::schema_mismatch(&report.schema, SCHEMA));
        }
        report.redacted_registers()?;
        report.source_hardware()?;
        Ok(report)
    }

    /// Returns the report as an indented JSON document.
    ///
    /// # Errors
    /// Returns an error if a value has no JSON form; a report always has one.
    pub fn to_json(&self) -> Result<String, Error> {
        let mut text = serde_json::to_string_pretty(self).map_err(Error::invalid_json)?;
        text.push('\n');
        Ok(text)
    }

    /// Returns the registers whose values are redacted in the stream.
    ///
    /// # Errors
    /// Returns an error if an id is invalid.
    pub fn redacted_registers(&self) -> Result<Vec<RegisterId>, Error> {
        let registers = self.redactions.registers.iter().enumerate();
        registers
            .map(|(at, register)| {
                parse_hexadecimal(&register.id)
                    .map(RegisterId::from_raw)
                    .ok_or_else(|| {
                        let problem = format!("is `{}`, which is not a register id", register.id);
                        Error::invalid_member(format!("redactions.registers[{at}].id"), problem)
                    })
            })
            .collect()
    }

    /// Sets the known properties of the VM's own host.
    pub fn set_source_hardware(&mut self, facts: HardwareFacts) {
        self.hardware = HardwareJson::from_facts(facts);
    }

    /// Returns the known properties of the VM's own host.
    ///
    /// # Errors
    /// Returns an error if a property has an impossible value.
    pub fn source_hardware(&self) -> Result<HardwareFacts, Error> {
        let facts = self
            .hardware
            .as_ref()
            .map(|hardware| hardware.to_facts("report"));
        let facts = facts.transpose();
        let facts = facts.map_err(|error| Error::shared_member(&error))?;
        Ok(facts.unwrap_or(HardwareFacts::UNKNOWN))
    }

    /// Returns a reader that decompresses the stream; reading fails if the length differs from
    /// `stream.length`.
    ///
    /// # Errors
    /// Returns an error if the encoding is unknown, the stream is too long, or the data is not
    /// base64.
    pub fn stream(&self) -> Result<impl Read + use<>, Error> {
        self.stream.stream()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use cpreg::destination::{Destination, DestinationRegister, DestinationVcpu};
    use cpreg::register::Value;
    use cpreg::tolerance::condition::RESET_POISON;
    use cpreg::vm::Content;
    use cpreg_hosts::profile::ProfileOrigin;

    use super::encoding::MAX_STREAM_LEN;
    use super::*;
    use crate::error::ErrorKind;

    fn report(stream: &[u8]) -> VmReport {
        let redactions = Redactions {
            registers: vec![RedactedRegister {
                id: "0x603000000013c108".to_owned(),
                name: "APIAKEYLO_EL1".to_owned(),
            }],
            ..Redactions::default()
        };
        VmReport::new("0.1.0", StreamSummary::default(), redactions, stream).expect("compressed")
    }

    fn read(report: &VmReport) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut stream = report.stream().map_err(io::Error::other)?;
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn stream_round_trips() {
        let stream: Vec<u8> = (0..20_000_u32)
            .map(|number| ((number * number) >> 7).to_le_bytes()[0])
            .collect();
        let json = report(&stream).to_json().expect("JSON");
        assert!(is_report(json.as_bytes()));
        assert!(json.lines().all(|line| line.len() < 120));
        let parsed = VmReport::from_json(json.as_bytes()).expect("a report");
        assert_eq!(read(&parsed).expect("the stream"), stream);
        let ids = parsed.redacted_registers().expect("ids");
        assert_eq!(ids, [RegisterId::APIAKEYLO_EL1]);
        // Reports of the same VM are identical.
        assert_eq!(report(&stream).to_json().expect("JSON"), json);
    }

    #[test]
    fn destination_contains_no_data_of_a_guest() {
        let register = |id, value| DestinationRegister {
            id,
            value: Some(Value::U64(value)),
            accepted_values: cpreg::destination::AcceptedValues::ByKind,
        };
        let values = [
            register(RegisterId::APIAKEYLO_EL1, 0x5ec2_e700),
            register(RegisterId::APIAKEYHI_EL1, RESET_POISON),
            register(RegisterId::x(3), 0x5ec2_e701),
            register(RegisterId::VBAR_EL1, 0x5ec2_e702),
            register(RegisterId::SCTLR_EL1, 0x30d0_0980),
        ];
        let extension = cpreg::vm::Extension {
            name: "cpu/vfp".into(),
            content: Content::Bytes(vec![0x5e; 3]),
        };
        let destination = Destination {
            name: "web-17".to_owned(),
            accelerator: None,
            loader: None,
            value_origin: cpreg::destination::ValueOrigin::Guest,
            vcpus: vec![DestinationVcpu::new(values, vec![extension])],
            kernel_version: None,
            hardware: cpreg::hardware::HardwareFacts::UNKNOWN,
            shape: None,
        };
        let origin = ProfileOrigin {
            program: "qemu".to_owned(),
            command: vec!["-name".to_owned(), "web-17".to_owned()],
            ..ProfileOrigin::default()
        };
        let json = |keep_general| {
            let destination =
                ReportDestination::new("a test", origin.clone(), &destination, keep_general);
            serde_json::to_string(&destination).expect("JSON")
        };
        let redacted = json(false);
        for kept in ["0x1de7ec7edbadc0de", "0x30d00980", "\"000000\"", "qemu"] {
            assert!(redacted.contains(kept), "{kept} in {redacted}");
        }
        for secret in ["5ec2e7", "5e5e5e", "web-17"] {
            assert!(!redacted.contains(secret), "{secret} in {redacted}");
        }
        let kept = json(true);
        assert!(kept.contains("0x5ec2e701") && kept.contains("0x5ec2e702"));
        assert!(!kept.contains("0x5ec2e700"));
    }

    #[test]
    fn stream_of_another_length_is_rejected() {
        let mut report_of_100 = report(&[7; 100]);
        report_of_100.stream.length = "0x63".to_owned();
        assert!(
            read(&report_of_100)
                .expect_err("longer")
                .to_string()
                .contains("longer")
        );
        report_of_100.stream.length = "0x65".to_owned();
        assert!(
            read(&report_of_100)
                .expect_err("shorter")
                .to_string()
                .contains("shorter")
        );
        for length in [format!("{:#x}", MAX_STREAM_LEN + 1), "64".to_owned()] {
            report_of_100.stream.length = length;
            assert!(report_of_100.stream().is_err());
        }
        let mut damaged = report(&[7; 100]);
        damaged.stream.data.push("A".to_owned());
        let error = damaged.stream().map(|_| ()).expect_err("not base64");
        assert!(
            error
                .to_string()
                .starts_with("report: stream.data is not base64")
        );
    }

    #[test]
    fn invalid_members_are_named() {
        let json = report(b"QEVM").to_json().expect("JSON");
        let bad = json.replace("0x603000000013c108", "c108");
        let error = VmReport::from_json(bad.as_bytes()).expect_err("invalid");
        assert_eq!(
            error.to_string(),
            "report: redactions.registers[0].id is `c108`, which is not a register id"
        );
        let later = br#"{"schema": "cpreg.report/9", "all": "else"}"#;
        assert!(is_report(later));
        assert!(matches!(
            VmReport::from_json(later),
            Err(error) if error.kind() == ErrorKind::Schema && error.to_string().contains("cpreg.report/9")
        ));
        assert!(!is_report(br#"{"schema": "cpreg.profile/2"}"#));
        assert!(is_report(&json.as_bytes()[..json.len() / 2]));
        assert!(matches!(
            VmReport::from_json(br#"{"schema": "cpreg.report/2"}"#),
            Err(error) if error.kind() == ErrorKind::Json
        ));
    }
}
