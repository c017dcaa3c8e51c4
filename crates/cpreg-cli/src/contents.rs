//! What a file holds, as [`cpreg_report::contents`] has it.

use cpreg_report::contents::{Contents, Core, Origin};
use cpreg_report::show::model::{self, Device, FromReport, Place, Records};
use cpreg_report::text::uuid;
use cpreg_stream::GENERAL_REGISTERS;
use cpreg_stream::Stream;

use crate::destination;
use crate::failure::Failure;
use crate::general;
use crate::input::{self, Compression, Content, Input};

/// What is in an input.
pub(crate) fn of(input: &Input) -> Result<Contents, Failure> {
    let (origin, destination, cores) = match &input.content {
        Content::Stream(stream) => {
            let mut destination = destination::of_stream(input.name(), stream)?;
            destination::forget_blanked(&mut destination, input);
            (of_stream(input, stream), destination, cores(input, stream))
        }
        Content::Profile(profile) => {
            let recorded = Box::new(profile.recorded.clone());
            let origin = match input.origin {
                input::Origin::RecordedHost => Origin::Host(recorded),
                _ => Origin::Profile(recorded),
            };
            (origin, profile.destination.clone(), Vec::new())
        }
        Content::Host(_) => return Err(input.lacks_features()),
    };
    Ok(Contents {
        name: input.name(),
        packed: input.compression().map(Compression::name),
        origin,
        destination,
        cores,
    })
}

/// A stream, and what it was in.
fn of_stream(input: &Input, stream: &Stream) -> Origin {
    let stream = about(stream);
    match &input.origin {
        input::Origin::Report { report, .. } => {
            let verdict = report.check.as_ref();
            let verdict = verdict.and_then(|check| check["verdict"].as_str());
            Origin::Report {
                stream,
                report: FromReport {
                    cpreg: report.cpreg.clone(),
                    host: report.host.clone(),
                    blanked: report.blanked.clone(),
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

/// What only a stream has.
fn about(stream: &Stream) -> model::Stream {
    let place = |range: std::ops::Range<u64>| Place {
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
        opened: stream.opened().to_string(),
        length: stream.length().into(),
        run_state: stream.run_state().map(str::to_owned),
        target_page_bits: configuration.and_then(|it| it.target_page_bits),
        capabilities: configuration
            .map(|it| it.capabilities.clone())
            .unwrap_or_default(),
        uuid: configuration.and_then(|it| it.uuid).map(uuid),
        live: live.collect(),
        package: stream.package().map(|package| place(package.range.clone())),
        description: stream.description().map(place),
        described_exactly: stream.is_described_exactly(),
        ram_records: stream.record_counts().map(|counts| Records {
            zero: counts.zero,
            page: counts.page,
            xbzrle: counts.xbzrle,
            compressed: counts.compressed,
        }),
    }
}

/// The core registers that a stream keeps before its list, of each vCPU; of one in a report PSTATE alone, if they are blanked.
fn cores(input: &Input, stream: &Stream) -> Vec<Core> {
    let parts = input.report().map(|report| &*report.blanked.parts);
    let are_blanked = parts.is_some_and(|parts| parts.iter().any(|it| it == GENERAL_REGISTERS));
    let cores = stream.cpus().iter().map(|cpu| {
        let head = cpu.head();
        let mut registers = general::of(&head);
        registers.retain(|register| !are_blanked || ["PSTATE", "CPSR"].contains(&&*register.name));
        Core {
            power: general::power(cpu.tail().power_state),
            mode: general::mode(head.pstate),
            registers,
        }
    });
    cores.collect()
}
