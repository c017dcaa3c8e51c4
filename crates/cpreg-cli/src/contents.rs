//! Content of an input, in the form of [`cpreg_report::contents`].

use cpreg_report::contents::{Contents, Origin, VcpuState};
use cpreg_report::show::model::{self, ByteRange, Device, RamRecordCounts, ReportSummary};
use cpreg_report::text::format_uuid;
use cpreg_stream::GENERAL_REGISTERS;
use cpreg_stream::Stream;

use crate::core_registers;
use crate::destination;
use crate::failure::Failure;
use crate::input::{self, Compression, Content, Input};

/// Returns the content of an input.
pub(crate) fn from_input(input: &Input) -> Result<Contents, Failure> {
    let (origin, destination, vcpu_states) = match &input.content {
        Content::Stream(stream) => {
            let mut destination = destination::from_stream(input.name(), stream)?;
            destination::clear_redacted_values(&mut destination, input);
            (
                stream_origin(input, stream),
                destination,
                vcpu_states(input, stream),
            )
        }
        Content::Registers(state) => (
            Origin::Snapshot,
            destination::from_registers(input.name(), state),
            Vec::new(),
        ),
        Content::Profile(profile) => {
            let profile_origin = Box::new(profile.origin.clone());
            let origin = match input.origin {
                input::Origin::RecordedHost => Origin::Host(profile_origin),
                _ => Origin::Profile(profile_origin),
            };
            (origin, profile.destination.clone(), Vec::new())
        }
        Content::Host(_) => return Err(input.missing_features()),
    };
    Ok(Contents {
        name: input.name(),
        compression: input.compression().map(Compression::name),
        container: input.container(),
        origin,
        destination,
        vcpu_states,
    })
}

/// Returns the origin of a stream.
fn stream_origin(input: &Input, stream: &Stream) -> Origin {
    let stream = describe_stream(stream);
    match &input.origin {
        input::Origin::Report { report, .. } => {
            let verdict = report.check.as_ref();
            let verdict = verdict.and_then(|check| check["verdict"].as_str());
            Origin::Report {
                stream,
                report: ReportSummary {
                    cpreg: report.cpreg.clone(),
                    host: report.host.clone(),
                    redactions: report.redactions.clone(),
                },
                verdict: verdict.map(str::to_owned),
            }
        }
        input::Origin::RunningQemu { version, .. } => Origin::Running {
            stream,
            version: version.clone(),
        },
        _ => Origin::Stream(stream),
    }
}

/// Returns the properties that only a stream has.
fn describe_stream(stream: &Stream) -> model::Stream {
    let byte_range = |range: std::ops::Range<u64>| ByteRange {
        offset: range.start.into(),
        length: (range.end - range.start).into(),
    };
    let configuration = stream.configuration();
    let live = stream.live_sections().iter().map(|section| Device {
        name: section.name.clone(),
        instance: section.instance,
        version: section.version,
    });
    model::Stream {
        open_method: stream.open_method().to_string(),
        length: stream.length().into(),
        run_state: stream.run_state().map(str::to_owned),
        target_page_bits: configuration.and_then(|configuration| configuration.target_page_bits),
        capabilities: configuration
            .map(|configuration| configuration.capabilities.clone())
            .unwrap_or_default(),
        uuid: configuration
            .and_then(|configuration| configuration.uuid)
            .map(format_uuid),
        live_sections: live.collect(),
        package: stream
            .package()
            .map(|package| byte_range(package.range.clone())),
        description: stream.description().map(byte_range),
        is_description_exact: stream.is_described_exactly(),
        ram_records: stream.record_counts().map(|counts| RamRecordCounts {
            zero: counts.zero,
            page: counts.page,
            xbzrle: counts.xbzrle,
            compressed: counts.compress_page,
        }),
    }
}

/// Returns the core registers of each vCPU, which a stream stores in front of the register list.
///
/// A report with redacted core registers has only PSTATE.
fn vcpu_states(input: &Input, stream: &Stream) -> Vec<VcpuState> {
    let parts = input.report().map(|report| &*report.redactions.parts);
    let are_redacted =
        parts.is_some_and(|parts| parts.iter().any(|part| part == GENERAL_REGISTERS));
    let states = stream.cpus().iter().map(|cpu| {
        let fields = cpu.core_fields();
        let mut registers = core_registers::decode(&fields);
        registers.retain(|register| !are_redacted || ["PSTATE", "CPSR"].contains(&&*register.name));
        VcpuState {
            power: core_registers::describe_power_state(cpu.trailing_fields().power_state),
            mode: core_registers::describe_mode(fields.pstate),
            registers,
        }
    });
    states.collect()
}
