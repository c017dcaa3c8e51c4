//! The report: a VM without RAM and secrets as a JSON file, for whoever shall find out what is wrong with it.
//!
//! | member | what it holds |
//! |---|---|
//! | `schema` | `"cpreg.report/2"` |
//! | `cpreg` | the version that wrote it |
//! | `vm` | about the stream it was made from: machine, vCPUs, RAM blocks, devices, who may have written it |
//! | `host` | the machine that the report was made on, if that was asked for |
//! | `redactions` | what was taken out beside RAM |
//! | `destination` | where the VM was to go, as a profile; what it is known from |
//! | `check` | what `check` answers of the two |
//! | `stream` | the stream itself: without RAM, secrets blanked; packed with gzip, as base64 |
//!
//! Everything but `stream` and `redactions.registers` is for people and programs that look at reports; a report is read back as
//! its stream. The time is not in it: made twice it is the same. What is blanked and how does not live here.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | a report, written and read |
//! | `model.rs` | its members |
//! | `encoding.rs` | the stream as text |
//! | `destination.rs` | the destination, without what is a guest's |

mod destination;
mod encoding;
mod model;

use std::io::Read;

use cpreg::register::{RegisterId, parse_hexadecimal};
use cpreg_hosts::schema;

pub use model::{
    Device, HostPlatform, RamBlock, RedactedDevice, RedactedRegister, Redactions,
    ReportDestination, SCHEMA, StreamSummary, VersionRange, VmReport,
};

use crate::error::Error;
use model::EncodedStream;

/// Returns `true` if a JSON document says that it is a report, of whichever version; also one that is cut off, if it is as we write it.
pub fn is_report(json: &[u8]) -> bool {
    schema::has_prefix(json, "cpreg.report/")
}

impl VmReport {
    /// Makes a report of a stream, which must have been made fit for strangers.
    ///
    /// # Errors
    /// If it cannot be packed, which memory does not bring about.
    pub fn new(
        cpreg: &str,
        vm: StreamSummary,
        blanked: Redactions,
        stream: &[u8],
    ) -> Result<Self, Error> {
        Ok(Self {
            schema: SCHEMA.to_owned(),
            cpreg: cpreg.to_owned(),
            vm,
            host: None,
            redactions: blanked,
            destination: None,
            check: None,
            stream: EncodedStream::new(stream)?,
        })
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it is not JSON, of another schema, or a member is malformed. The stream is not unpacked.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let report: Self = match serde_json::from_slice(bytes) {
            Ok(report) => report,
            Err(error) => {
                // Of another version nothing more is known than that.
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
        Ok(report)
    }

    /// Writes it, for people as well.
    ///
    /// # Errors
    /// If JSON cannot hold it, which no report brings about.
    pub fn to_json(&self) -> Result<String, Error> {
        let mut text = serde_json::to_string_pretty(self).map_err(Error::invalid_json)?;
        text.push('\n');
        Ok(text)
    }

    /// The registers whose values in the stream are not the VM's.
    ///
    /// # Errors
    /// If one is no id.
    pub fn redacted_registers(&self) -> Result<Vec<RegisterId>, Error> {
        let registers = self.redactions.registers.iter().enumerate();
        registers
            .map(|(at, register)| {
                parse_hexadecimal(&register.id)
                    .map(RegisterId::from_raw)
                    .ok_or_else(|| {
                        let what = format!("holds `{}`, which is no id", register.id);
                        Error::invalid_member(format!("redactions.registers[{at}].id"), what)
                    })
            })
            .collect()
    }

    /// The stream, unpacked while it is read. Reading fails if it is not as long as it says.
    ///
    /// # Errors
    /// If it is packed in another way, too long, or no base64.
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
        let blanked = Redactions {
            registers: vec![RedactedRegister {
                id: "0x603000000013c108".to_owned(),
                name: "APIAKEYLO_EL1".to_owned(),
            }],
            ..Redactions::default()
        };
        VmReport::new("0.1.0", StreamSummary::default(), blanked, stream).expect("it packs")
    }

    fn read(report: &VmReport) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut stream = report.stream().map_err(io::Error::other)?;
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn what_is_packed_comes_back() {
        let stream: Vec<u8> = (0..20_000_u32)
            .map(|it| ((it * it) >> 7).to_le_bytes()[0])
            .collect();
        let json = report(&stream).to_json().expect("JSON");
        assert!(is_report(json.as_bytes()));
        assert!(json.lines().all(|line| line.len() < 120));
        let back = VmReport::from_json(json.as_bytes()).expect("a report");
        assert_eq!(read(&back).expect("whole"), stream);
        let ids = back.redacted_registers().expect("ids");
        assert_eq!(ids, [RegisterId::APIAKEYLO_EL1]);
        // Made twice it is the same.
        assert_eq!(report(&stream).to_json().expect("JSON"), json);
    }

    #[test]
    fn a_destination_is_told_of_without_what_a_guest_left_there() {
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
            shape: None,
        };
        let recorded = ProfileOrigin {
            program: "qemu".to_owned(),
            command: vec!["-name".to_owned(), "web-17".to_owned()],
            ..ProfileOrigin::default()
        };
        let json = |keep| {
            let going = ReportDestination::new("seen", recorded.clone(), &destination, keep);
            serde_json::to_string(&going).expect("JSON")
        };
        let told = json(false);
        for kept in ["0x1de7ec7edbadc0de", "0x30d00980", "\"000000\"", "qemu"] {
            assert!(told.contains(kept), "{kept} in {told}");
        }
        for gone in ["5ec2e7", "5e5e5e", "web-17"] {
            assert!(!told.contains(gone), "{gone} in {told}");
        }
        let kept = json(true);
        assert!(kept.contains("0x5ec2e701") && kept.contains("0x5ec2e702"));
        assert!(!kept.contains("0x5ec2e700"));
    }

    #[test]
    fn a_stream_of_another_length_is_not_read() {
        let mut short = report(&[7; 100]);
        short.stream.length = "0x63".to_owned();
        assert!(
            read(&short)
                .expect_err("longer")
                .to_string()
                .contains("longer")
        );
        short.stream.length = "0x65".to_owned();
        assert!(
            read(&short)
                .expect_err("shorter")
                .to_string()
                .contains("shorter")
        );
        for length in [format!("{:#x}", MAX_STREAM_LEN + 1), "64".to_owned()] {
            short.stream.length = length;
            assert!(short.stream().is_err());
        }
        let mut damaged = report(&[7; 100]);
        damaged.stream.data.push("A".to_owned());
        let error = damaged.stream().map(|_| ()).expect_err("no base64");
        assert!(
            error
                .to_string()
                .starts_with("report: stream.data is no base64")
        );
    }

    #[test]
    fn what_is_malformed_is_named() {
        let json = report(b"QEVM").to_json().expect("JSON");
        let bad = json.replace("0x603000000013c108", "c108");
        let error = VmReport::from_json(bad.as_bytes()).expect_err("malformed");
        assert_eq!(
            error.to_string(),
            "report: redactions.registers[0].id holds `c108`, which is no id"
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
