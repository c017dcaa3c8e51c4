//! The report: a VM without RAM and secrets as a JSON file, for whoever shall find out what is wrong with it.
//!
//! | member | what it holds |
//! |---|---|
//! | `schema` | `"cpreg.report/1"` |
//! | `cpreg` | the version that wrote it |
//! | `vm` | about the stream it was made from: machine, vCPUs, RAM blocks, devices, who may have written it |
//! | `host` | the machine that the report was made on, if that was asked for |
//! | `blanked` | what was taken out beside RAM |
//! | `destination` | where the VM was to go, as a profile; what it is known from |
//! | `check` | what `check` answers of the two |
//! | `stream` | the stream itself: without RAM, secrets blanked; packed with gzip, as base64 |
//!
//! Everything but `stream` and `blanked.registers` is for people and programs that look at reports; a report is read back as
//! its stream. The time is not in it: made twice it is the same. What is blanked and how does not live here.

use std::fmt;
use std::io::{self, Read, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cpreg::destination::{Destination, HostRegister, HostVcpu};
use cpreg::register::{RegisterClass, RegisterId, Value, parse_hexadecimal};
use cpreg::tolerance::condition::RESET_POISON;
use cpreg::vm::Content;
use cpreg_hosts::profile::{self, Recorded};
use cpreg_hosts::{Profile, schema};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.report/1";

/// How the stream is packed.
const PACKING: &str = "gzip, base64";
/// More than any stream without RAM has; 4 vCPUs take 60 KB.
const MOST_BYTES: u64 = 256 << 20;
/// Characters of a line of base64.
const LINE: usize = 96;

/// A VM without RAM and secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    schema: String,
    /// The version of cpreg that wrote it.
    pub cpreg: String,
    /// About the stream that it was made from.
    pub vm: About,
    /// The machine that it was made on.
    #[serde(default)]
    pub host: Option<Host>,
    /// What was taken out.
    pub blanked: Blanked,
    /// Where the VM was to go.
    #[serde(default)]
    pub destination: Option<Going>,
    /// What `check` answers, schema `cpreg.check/1`.
    #[serde(default)]
    pub check: Option<serde_json::Value>,
    stream: Packed,
}

/// About a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// The machine type.
    pub machine: Option<String>,
    /// How many vCPUs.
    pub vcpus: usize,
    /// `kvm`, `tcg` or `hvf`.
    pub accelerator: Option<String>,
    /// What the guest was doing.
    pub run_state: Option<String>,
    /// How the stream was read, in words.
    pub opened: String,
    /// Its length with RAM, `0x…`.
    pub length: String,
    /// Which versions of QEMU can have written it.
    pub written_by: Versions,
    /// The blocks of RAM.
    pub ram: Vec<Ram>,
    /// The devices' sections.
    pub devices: Vec<Device>,
}

/// A range of versions, `major.minor`; an end that nothing tells of is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Versions {
    /// The first.
    pub from: Option<String>,
    /// The last.
    pub until: Option<String>,
}

/// A block of RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ram {
    /// QEMU's name.
    pub name: String,
    /// Bytes, `0x…`.
    pub length: String,
}

/// A device's section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// QEMU's id string.
    pub name: String,
    /// Which of several with that name.
    pub instance: u32,
    /// The version of its format.
    pub version: u32,
    /// Bytes of its payload, `0x…`.
    pub length: String,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its operating system (`linux`).
    pub system: String,
    /// Its architecture (`aarch64`).
    pub architecture: String,
    /// Its kernel's release.
    pub kernel: Option<String>,
}

/// What was taken out beside RAM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blanked {
    /// Registers whose values are not the VM's, on at least one vCPU.
    pub registers: Vec<BlankedRegister>,
    /// Other parts of the CPU state.
    pub parts: Vec<String>,
    /// Devices some of whose bytes are zero instead.
    pub devices: Vec<BlankedDevice>,
    /// Whether there was a UUID.
    pub uuid: bool,
}

/// A register whose value is not the VM's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlankedRegister {
    /// Its id, `0x…` and 16 digits.
    pub id: String,
    /// Its name; not read back.
    pub name: String,
}

/// A device some of whose bytes are zero instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlankedDevice {
    /// QEMU's id string.
    pub name: String,
    /// Which of several with that name.
    pub instance: u32,
    /// How many bytes.
    pub bytes: u64,
}

/// Where a VM was to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Going {
    /// What it is known from, in words.
    pub evidence: String,
    /// The destination itself; values that are a guest's secrets are not there.
    pub profile: profile::Document,
}

impl Going {
    /// What a destination is called in a report: its own name may be a machine's.
    const NAME: &str = "DEST";

    /// A destination as a report may tell of it: without its name and command line, and without what a guest left in its
    /// registers. `keep_general` keeps what [`RegisterId::is_guest_pointer`] and general registers hold.
    pub fn new(
        evidence: &str,
        recorded: Recorded,
        destination: &Destination,
        keep_general: bool,
    ) -> Self {
        let vcpu = |vcpu: &HostVcpu| {
            let registers = vcpu.registers().iter().map(|register| {
                let tells = tells_of_a_guest(register, keep_general);
                HostRegister {
                    value: register.value.clone().filter(|_| !tells),
                    ..register.clone()
                }
            });
            let mut extensions = vcpu.extensions.clone();
            for extension in &mut extensions {
                // How long they are is all that is looked at.
                if let Content::Bytes(bytes) = &mut extension.content {
                    bytes.fill(0);
                }
            }
            HostVcpu::new(registers.collect::<Vec<_>>(), extensions)
        };
        let destination = Destination {
            name: Self::NAME.to_owned(),
            vcpus: destination.vcpus.iter().map(vcpu).collect(),
            ..destination.clone()
        };
        let recorded = Recorded {
            command: Vec::new(),
            ..recorded
        };
        Self {
            evidence: evidence.to_owned(),
            profile: profile::Document::from(&Profile {
                recorded,
                destination,
            }),
        }
    }
}

/// Whether a register holds something of a guest, and not what it held at reset.
fn tells_of_a_guest(register: &HostRegister, keep_general: bool) -> bool {
    let id = register.id;
    let is_general = matches!(id.class(), RegisterClass::Core | RegisterClass::Sve)
        && id != RegisterId::SVE_VLS
        || id.is_guest_pointer();
    let value = register.value.as_ref().and_then(Value::as_u64);
    let was_used = !matches!(value, Some(0 | RESET_POISON));
    (id.is_secret() || is_general && !keep_general) && was_used
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Packed {
    packing: String,
    /// Bytes when unpacked, `0x…`.
    length: String,
    data: Vec<String>,
}

/// A file is no report, or not one that this version reads.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReportError {
    /// It is not the JSON that a report is.
    Json(serde_json::Error),
    /// It is of another schema.
    Schema(String),
    /// A member holds what it cannot hold.
    Member {
        /// Where: `stream.data`.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The stream could not be packed.
    Packing(io::Error),
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "not a report: {error}"),
            Self::Schema(schema) => write!(
                f,
                "a report of schema `{schema}`, where this cpreg reads `{SCHEMA}`: read it with the cpreg that wrote it, or a later one"
            ),
            Self::Member { path, what } => write!(f, "report: {path} {what}"),
            Self::Packing(error) => write!(f, "cannot pack the stream: {error}"),
        }
    }
}

impl std::error::Error for ReportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Packing(error) => Some(error),
            _ => None,
        }
    }
}

fn member(path: impl Into<String>, what: impl Into<String>) -> ReportError {
    ReportError::Member {
        path: path.into(),
        what: what.into(),
    }
}

/// Whether a JSON document says that it is a report, of whichever version; also one that is cut off, if it is as we write it.
pub fn is_report(json: &[u8]) -> bool {
    schema::is(json, "cpreg.report/")
}

impl Report {
    /// A report of this stream, which must have been made fit for strangers.
    ///
    /// # Errors
    /// If it cannot be packed, which memory does not bring about.
    pub fn new(
        cpreg: &str,
        vm: About,
        blanked: Blanked,
        stream: &[u8],
    ) -> Result<Self, ReportError> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let packed = encoder
            .write_all(stream)
            .and_then(|()| encoder.finish())
            .map_err(ReportError::Packing)?;
        let text = STANDARD.encode(&packed);
        let lines = text.as_bytes().chunks(LINE);
        Ok(Self {
            schema: SCHEMA.to_owned(),
            cpreg: cpreg.to_owned(),
            vm,
            host: None,
            blanked,
            destination: None,
            check: None,
            stream: Packed {
                packing: PACKING.to_owned(),
                length: format!("{:#x}", stream.len()),
                data: lines
                    .map(|line| String::from_utf8_lossy(line).into_owned())
                    .collect(),
            },
        })
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it is not JSON, of another schema, or a member is malformed. The stream is not unpacked.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReportError> {
        let report: Self = match serde_json::from_slice(bytes) {
            Ok(report) => report,
            Err(error) => {
                // Of another version nothing more is known than that.
                return Err(match schema::of(bytes) {
                    Some(schema) if schema != SCHEMA => ReportError::Schema(schema),
                    _ => ReportError::Json(error),
                });
            }
        };
        if report.schema != SCHEMA {
            return Err(ReportError::Schema(report.schema));
        }
        report.blanked_registers()?;
        Ok(report)
    }

    /// Writes it, for people as well.
    ///
    /// # Errors
    /// If JSON cannot hold it, which no report brings about.
    pub fn to_json(&self) -> Result<String, ReportError> {
        let mut text = serde_json::to_string_pretty(self).map_err(ReportError::Json)?;
        text.push('\n');
        Ok(text)
    }

    /// The registers whose values in the stream are not the VM's.
    ///
    /// # Errors
    /// If one is no id.
    pub fn blanked_registers(&self) -> Result<Vec<RegisterId>, ReportError> {
        let registers = self.blanked.registers.iter().enumerate();
        registers
            .map(|(at, register)| {
                parse_hexadecimal(&register.id)
                    .map(RegisterId::from_raw)
                    .ok_or_else(|| {
                        let what = format!("holds `{}`, which is no id", register.id);
                        member(format!("blanked.registers[{at}].id"), what)
                    })
            })
            .collect()
    }

    /// The stream, unpacked while it is read. Reading fails if it is not as long as it says.
    ///
    /// # Errors
    /// If it is packed in another way, too long, or no base64.
    pub fn stream(&self) -> Result<impl Read + use<>, ReportError> {
        let stream = &self.stream;
        if stream.packing != PACKING {
            let what = format!(
                "holds `{}`, where this cpreg reads `{PACKING}`",
                stream.packing
            );
            return Err(member("stream.packing", what));
        }
        let length = parse_hexadecimal(&stream.length).ok_or_else(|| {
            let what = format!("holds `{}`, which is no length", stream.length);
            member("stream.length", what)
        })?;
        if length > MOST_BYTES {
            let what = format!("holds {length:#x}, and {MOST_BYTES:#x} is the most");
            return Err(member("stream.length", what));
        }
        let packed = STANDARD.decode(stream.data.concat()).map_err(|_| {
            member(
                "stream.data",
                "is no base64: it is damaged or not all there",
            )
        })?;
        Ok(Exactly {
            inside: GzDecoder::new(io::Cursor::new(packed)),
            left: length,
        })
    }
}

/// Reads so many bytes, and fails if there are fewer or more.
struct Exactly<R> {
    inside: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inside.read(buffer)?;
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        match self.left.checked_sub(count as u64) {
            None => wrong("the stream in the report is longer than it says"),
            Some(left) if count == 0 && left != 0 => {
                wrong("the stream in the report is shorter than it says")
            }
            Some(left) => {
                self.left = left;
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(stream: &[u8]) -> Report {
        let blanked = Blanked {
            registers: vec![BlankedRegister {
                id: "0x603000000013c108".to_owned(),
                name: "APIAKEYLO_EL1".to_owned(),
            }],
            ..Blanked::default()
        };
        Report::new("0.1.0", About::default(), blanked, stream).expect("it packs")
    }

    fn read(report: &Report) -> io::Result<Vec<u8>> {
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
        let back = Report::from_json(json.as_bytes()).expect("a report");
        assert_eq!(read(&back).expect("whole"), stream);
        let ids = back.blanked_registers().expect("ids");
        assert_eq!(ids, [RegisterId::APIAKEYLO_EL1]);
        // Made twice it is the same.
        assert_eq!(report(&stream).to_json().expect("JSON"), json);
    }

    #[test]
    fn a_destination_is_told_of_without_what_a_guest_left_there() {
        let register = |id, value| HostRegister {
            id,
            value: Some(Value::Small(value)),
            accepts: cpreg::destination::Accepts::ByKind,
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
            values: cpreg::destination::ValuesAre::OfAGuest,
            vcpus: vec![HostVcpu::new(values, vec![extension])],
            shape: None,
        };
        let recorded = Recorded {
            program: "qemu".to_owned(),
            command: vec!["-name".to_owned(), "web-17".to_owned()],
            ..Recorded::default()
        };
        let json = |keep| {
            let going = Going::new("seen", recorded.clone(), &destination, keep);
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
        for length in [format!("{:#x}", MOST_BYTES + 1), "64".to_owned()] {
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
        let error = Report::from_json(bad.as_bytes()).expect_err("malformed");
        assert_eq!(
            error.to_string(),
            "report: blanked.registers[0].id holds `c108`, which is no id"
        );
        let later = br#"{"schema": "cpreg.report/9", "all": "else"}"#;
        assert!(is_report(later));
        assert!(matches!(
            Report::from_json(later),
            Err(ReportError::Schema(schema)) if schema == "cpreg.report/9"
        ));
        assert!(!is_report(br#"{"schema": "cpreg.profile/1"}"#));
        assert!(is_report(&json.as_bytes()[..json.len() / 2]));
        assert!(matches!(
            Report::from_json(br#"{"schema": "cpreg.report/1"}"#),
            Err(ReportError::Json(_))
        ));
    }
}
