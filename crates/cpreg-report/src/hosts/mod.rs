//! The answer of `hosts`, as text and as JSON (`cpreg.hosts/1`).

use cpreg::destination::Features;
use cpreg_hosts::{Host, history};
use serde::Serialize;

use crate::printer::{Printer, style, styled};
use crate::text::counted;

/// The schema's name and version.
const SCHEMA: &str = "cpreg.hosts/1";

/// Prints the hosts under their kernels. `in_detail`: also how many registers each lists.
pub fn text(printer: &mut Printer, hosts: &[Host<'_>], in_detail: bool) {
    let mut kernel = None;
    for host in hosts {
        let own = host.kernel();
        if kernel != Some(own) {
            if kernel.is_some() {
                printer.line("");
            }
            kernel = Some(own);
            printer.line(format_args!(
                "{}  {}{}",
                styled(style::NAME, format_args!("linux-{}", own.version)),
                own.release,
                package(own)
            ));
        }
        let recorded = host.recorded();
        let sets = recorded.iter().map(|(features, registers)| {
            if in_detail {
                format!("{features} ({registers})")
            } else {
                features.to_string()
            }
        });
        let sets: Vec<_> = sets.collect();
        printer.line(format_args!(
            "  {}  {}",
            styled(style::NAME, format_args!("{:<16}", host.cpu())),
            sets.join("  ")
        ));
    }
    printer.line("");
    let registers = if in_detail {
        " and, in brackets, how many registers KVM lists for it"
    } else {
        ""
    };
    printer.line(format_args!(
        "{}; beside each the vCPU features of the guests that were recorded{registers}",
        counted(hosts.len(), "host")
    ));
    printer.line(format_args!(
        "{}: {}: right about the kernels, no proof of a real machine's values",
        styled(style::ASIDE, "scope"),
        history::SOURCE
    ));
}

/// The distribution's package, if the kernel says it.
fn package(kernel: &history::Kernel) -> String {
    if kernel.package.is_empty() {
        String::new()
    } else {
        format!(" (package {})", kernel.package)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    hosts: Vec<HostEntry<'a>>,
}

#[derive(Serialize)]
struct HostEntry<'a> {
    name: String,
    kernel: Kernel<'a>,
    cpu: &'a str,
    mode: Option<&'a str>,
    midr: String,
    emulated: bool,
    recordings: Vec<Recording>,
}

#[derive(Serialize)]
struct Kernel<'a> {
    version: &'a str,
    release: &'a str,
    build: &'a str,
    package: Option<&'a str>,
}

#[derive(Serialize)]
struct Recording {
    features: Vec<&'static str>,
    registers: usize,
}

impl<'a> HostEntry<'a> {
    fn of(host: &Host<'a>) -> Self {
        let kernel = host.kernel();
        let recording = |(features, registers): (Features, usize)| Recording {
            features: features.names().collect(),
            registers,
        };
        Self {
            name: host.name(),
            kernel: Kernel {
                version: &kernel.version,
                release: &kernel.release,
                build: &kernel.build,
                package: Some(&*kernel.package).filter(|it| !it.is_empty()),
            },
            cpu: host.model(),
            mode: Some(host.mode()).filter(|mode| !mode.is_empty()),
            midr: format!("{:#x}", host.midr()),
            emulated: host.is_emulated(),
            recordings: host.recorded().into_iter().map(recording).collect(),
        }
    }
}

/// The hosts as JSON.
///
/// # Errors
/// If JSON cannot hold it, which no answer brings about.
pub fn json(hosts: &[Host<'_>]) -> Result<String, serde_json::Error> {
    let document = Document {
        schema: SCHEMA,
        hosts: hosts.iter().map(HostEntry::of).collect(),
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}
