//! Text of `report`: Markdown for an issue tracker.
//!
//! The text contains no name of the input, of the destination or of this machine.

use cpreg::cpu_model;
use cpreg::register::parse_hexadecimal;

use crate::check::{self, CheckFindings};
use crate::printer::{Printer, Verbosity};
use crate::text::{format_length, pluralize};
use crate::vm_report::{VersionRange, VmReport};

/// CPU of the VM, read from the stream in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuSummary {
    /// MIDR_EL1 of the first vCPU; `None` if the register list lacks the register.
    pub midr: Option<u64>,
    /// Number of registers of each vCPU.
    pub register_counts: Vec<usize>,
}

/// Prints the whole text. `attached` is the name of the report file that the issue has as
/// attachment.
pub fn print(
    printer: &mut Printer,
    report: &VmReport,
    cpus: &CpuSummary,
    findings: Option<&CheckFindings<'_>>,
    attached: Option<&str>,
) {
    printer.line("### An arm64 VM, without RAM and secrets");
    printer.line("");
    printer.line("| | |");
    printer.line("|---|---|");
    let vm = &report.vm;
    let machine = vm.machine.as_deref().unwrap_or("unknown machine");
    let accelerator = vm.accelerator.as_deref().unwrap_or("unknown accelerator");
    let guest = vm.run_state.as_deref().unwrap_or("in an unknown state");
    let vcpus = pluralize(vm.vcpus, "vCPU");
    print_row(
        printer,
        "VM",
        &format!("{machine}, {vcpus}, {accelerator}, guest {guest}"),
    );
    print_row(printer, "CPU", &describe_cpu(cpus));
    print_row(printer, "written by", &describe_versions(&vm.written_by));
    let ram = vm.ram.iter().map(|block| {
        let bytes = parse_hexadecimal(&block.length);
        format!(
            "{} {}",
            block.name,
            bytes.map_or_else(String::new, format_length)
        )
    });
    print_row(printer, "RAM", &ram.collect::<Vec<_>>().join(", "));
    print_row(printer, "devices", &describe_devices(report));
    print_row(
        printer,
        "stream",
        &format!(
            "{} bytes, read {}",
            parse_hexadecimal(&vm.length).unwrap_or_default(),
            vm.open_method
        ),
    );
    if let Some(host) = &report.host {
        let kernel = host.kernel.as_deref().unwrap_or("of unknown release");
        let text = format!("{} {kernel}, {}", host.system, host.architecture);
        print_row(printer, "host", &text);
    }
    print_row(printer, "redacted", &describe_redactions(report));
    print_row(
        printer,
        "still in the file",
        "names of RAM blocks and devices, MAC addresses of virtio network cards",
    );
    print_row(printer, "cpreg", &report.cpreg);
    printer.line("");
    if let Some(findings) = findings {
        printer.line("~~~text");
        // The text is for an issue, so its width does not depend on this terminal.
        let mut text = Printer::default();
        check::text::print_without_copied(&mut text, findings, Verbosity::Verbose);
        printer.append(&text.into_text());
        printer.line("~~~");
        printer.line("");
    }
    match attached {
        Some(name) => printer.line(format_args!(
            "Attached: `{name}`. `cpreg show`, `check`, `diff` and `rehearse` read it like a \
            stream."
        )),
        None => printer.line(
            "`cpreg report -o report.json` with the same arguments writes the file to attach.",
        ),
    }
}

/// Prints a row of the table, with `|` escaped.
fn print_row(printer: &mut Printer, label: &str, text: &str) {
    printer.line(format_args!("| {label} | {} |", text.replace('|', "\\|")));
}

/// Returns the CPU of the first vCPU, and the number of registers of each vCPU.
fn describe_cpu(cpus: &CpuSummary) -> String {
    let midr = cpus.midr.map_or_else(
        || "MIDR_EL1 not listed".to_owned(),
        |value| match cpu_model::describe_midr(value) {
            Some(name) => format!("MIDR_EL1 {value:#x} ({name})"),
            None => format!("MIDR_EL1 {value:#x}"),
        },
    );
    let mut counts = cpus.register_counts.clone();
    counts.dedup();
    let counts: Vec<_> = counts.iter().map(ToString::to_string).collect();
    format!("{midr}, {} registers per vCPU", counts.join(", "))
}

fn describe_versions(versions: &VersionRange) -> String {
    match (&versions.since, &versions.until) {
        (Some(since), Some(until)) if since == until => format!("QEMU {since}"),
        (Some(since), Some(until)) => format!("QEMU {since} to {until}"),
        (Some(since), None) => format!("QEMU {since} or later"),
        (None, Some(until)) => format!("QEMU {until} or earlier"),
        (None, None) => "unknown".to_owned(),
    }
}

/// Returns the devices of the report, each name once.
fn describe_devices(report: &VmReport) -> String {
    let mut names: Vec<(&str, usize)> = Vec::new();
    for device in &report.vm.devices {
        match names.iter_mut().find(|(name, _)| *name == device.name) {
            Some((_, count)) => *count += 1,
            None => names.push((&device.name, 1)),
        }
    }
    let names = names.into_iter().map(|(name, count)| match count {
        1 => name.to_owned(),
        count => format!("{name} ×{count}"),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Returns the redacted parts in one line, with all pointer-authentication keys as one item.
fn describe_redactions(report: &VmReport) -> String {
    let redactions = &report.redactions;
    let ids = report.redacted_registers().unwrap_or_default();
    let has_keys = ids.iter().any(|id| id.is_secret());
    let keys = has_keys.then(|| "pointer-authentication keys".to_owned());
    let registers = ids.iter().zip(&redactions.registers);
    let registers = registers.filter(|(id, _)| !id.is_secret());
    let registers = registers.map(|(_, register)| register.name.clone());
    let devices = redactions.devices.iter().map(|device| device.name.clone());
    let uuid = redactions.uuid.then(|| "UUID".to_owned());
    let all = ["RAM".to_owned()].into_iter().chain(keys);
    let all = all.chain(redactions.parts.iter().cloned()).chain(registers);
    all.chain(devices)
        .chain(uuid)
        .collect::<Vec<_>>()
        .join(", ")
}
