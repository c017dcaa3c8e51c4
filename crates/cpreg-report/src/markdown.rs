//! The text of `report`: Markdown for an issue tracker. Names are few, and none is the input's, the destination's or this machine's.

use cpreg::register::{RegisterId, parse_hexadecimal};

use crate::check::{self, CheckFindings};
use crate::printer::Printer;
use crate::text::{format_length, pluralize};
use crate::vm_report::{VersionRange, VmReport};

/// What the VM's vCPUs have, by the stream in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuSummary {
    /// MIDR_EL1 of the first, if it is listed.
    pub midr: Option<u64>,
    /// How many registers each lists.
    pub register_counts: Vec<usize>,
}

/// Prints the whole text. `attached`: the name of the file that the report is in.
pub fn print(
    printer: &mut Printer,
    report: &VmReport,
    cpus: &CpuSummary,
    answer: Option<&CheckFindings<'_>>,
    attached: Option<&str>,
) {
    printer.line("### An arm64 VM, without RAM and secrets");
    printer.line("");
    printer.line("| | |");
    printer.line("|---|---|");
    let vm = &report.vm;
    let machine = vm.machine.as_deref().unwrap_or("machine unknown");
    let accelerator = vm.accelerator.as_deref().unwrap_or("accelerator unknown");
    let guest = vm.run_state.as_deref().unwrap_or("in an unknown state");
    let vcpus = pluralize(vm.vcpus, "vCPU");
    print_row(
        printer,
        "VM",
        &format!("{machine}, {vcpus}, {accelerator}, guest {guest}"),
    );
    print_row(printer, "CPU", &describe_cpu(cpus));
    print_row(printer, "written by", &versions(&vm.written_by));
    let ram = vm.ram.iter().map(|block| {
        let bytes = parse_hexadecimal(&block.length);
        format!(
            "{} {}",
            block.name,
            bytes.map_or_else(String::new, format_length)
        )
    });
    print_row(printer, "RAM", &ram.collect::<Vec<_>>().join(", "));
    print_row(printer, "devices", &devices(report));
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
    if let Some(answer) = answer {
        printer.line("~~~text");
        check::text::print(printer, answer, false);
        printer.line("~~~");
        printer.line("");
    }
    match attached {
        Some(name) => printer.line(format_args!(
            "Attached: `{name}`. `cpreg show`, `check`, `diff` and `rehearse` read it like the \
             stream."
        )),
        None => printer.line(
            "`cpreg report -o report.json` with the same arguments writes the file to attach.",
        ),
    }
}

/// A row of the table. What ends a cell is escaped.
fn print_row(printer: &mut Printer, what: &str, text: &str) {
    printer.line(format_args!("| {what} | {} |", text.replace('|', "\\|")));
}

/// Which CPU the first vCPU shows, and how many registers each has.
fn describe_cpu(cpus: &CpuSummary) -> String {
    let midr = cpus.midr.map_or_else(
        || "MIDR_EL1 not listed".to_owned(),
        |value| match RegisterId::MIDR_EL1.value_name(value) {
            Some(name) => format!("MIDR_EL1 {value:#x} ({name})"),
            None => format!("MIDR_EL1 {value:#x}"),
        },
    );
    let mut counts = cpus.register_counts.clone();
    counts.dedup();
    let counts: Vec<_> = counts.iter().map(ToString::to_string).collect();
    format!("{midr}, {} registers each", counts.join(", "))
}

fn versions(versions: &VersionRange) -> String {
    match (&versions.since, &versions.until) {
        (Some(from), Some(until)) if from == until => format!("QEMU {from}"),
        (Some(from), Some(until)) => format!("QEMU {from} to {until}"),
        (Some(from), None) => format!("QEMU {from} or later"),
        (None, Some(until)) => format!("QEMU {until} or earlier"),
        (None, None) => "unknown".to_owned(),
    }
}

/// Devices but for those of vCPUs, each name once.
fn devices(report: &VmReport) -> String {
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

/// What is not in the report, in a line: keys by their kind, not one by one.
fn describe_redactions(report: &VmReport) -> String {
    let blanked = &report.redactions;
    let ids = report.redacted_registers().unwrap_or_default();
    let has_keys = ids.iter().any(|id| id.is_secret());
    let keys = has_keys.then(|| "pointer-authentication keys".to_owned());
    let registers = ids.iter().zip(&blanked.registers);
    let registers = registers.filter(|(id, _)| !id.is_secret());
    let registers = registers.map(|(_, register)| register.name.clone());
    let devices = blanked.devices.iter().map(|it| it.name.clone());
    let uuid = blanked.uuid.then(|| "UUID".to_owned());
    let all = ["RAM".to_owned()].into_iter().chain(keys);
    let all = all.chain(blanked.parts.iter().cloned()).chain(registers);
    all.chain(devices)
        .chain(uuid)
        .collect::<Vec<_>>()
        .join(", ")
}
