//! Target machine of a recorded stream: the command line of a QEMU whose machine has the stream's
//! shape.

use std::ffi::OsString;
use std::path::Path;

use cpreg_stream::Section;

use super::random::Random;
use super::sources::Source;

/// A machine that waits for a stream.
pub(crate) struct TargetMachine {
    machine: String,
    /// CPU model of QEMU.
    pub(crate) cpu: &'static str,
    vcpus: usize,
    /// Memory in MiB.
    ram: u64,
}

/// CPU models of 64-bit Arm, with the first series that emulates them.
const MODELS: [(&str, (u16, u16)); 7] = [
    ("cortex-a57", (5, 2)),
    ("cortex-a72", (5, 2)),
    ("max", (5, 2)),
    ("neoverse-n1", (7, 2)),
    ("cortex-a76", (7, 2)),
    ("neoverse-v1", (10, 0)),
    ("neoverse-n2", (10, 0)),
];

/// Percentage of cases whose CPU differs from the source's.
const OTHER_CPU_PERCENT: usize = 15;

/// Parses the first and second number of `10.0`.
pub(crate) fn parse_version(version: &str) -> Option<(u16, u16)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

impl TargetMachine {
    /// Returns the machine for a stream in a QEMU of this series: the stream's machine type and CPU
    /// model, or substitutes if the QEMU lacks them.
    pub(crate) fn for_source(source: &Source, series: &str) -> Option<Self> {
        let stream = &source.stream;
        let version = parse_version(series)?;
        let machine_type = stream.machine()?;
        let required = machine_type.strip_prefix("virt-").and_then(parse_version)?;
        let mut machine = if required <= version {
            machine_type.to_owned()
        } else {
            format!("virt-{series}")
        };
        if source.name.contains("el2-el3") {
            machine += ",virtualization=on,secure=on";
        }
        let is_gicv3 = |section: &Section| section.name == "arm_gicv3";
        if stream.sections().iter().any(is_gicv3) {
            machine += ",gic-version=3";
        }
        let ram = stream.ram_blocks().iter().map(|block| block.length).max()?;
        let named_model = |(model, since): &(&'static str, (u16, u16))| {
            let (_, short_name) = model.split_once('-').unwrap_or(("", model));
            let spellings = ["-", "_"].map(|separator| format!("{separator}{short_name}"));
            (spellings
                .iter()
                .any(|spelling| source.name.contains(spelling))
                && *since <= version)
                .then_some(*model)
        };
        let cpu = if source.name.contains("a15") {
            "cortex-a15"
        } else {
            MODELS.iter().find_map(named_model).unwrap_or("cortex-a57")
        };
        Some(Self {
            machine,
            cpu,
            vcpus: stream.cpus().len(),
            ram: ram >> 20,
        })
    }

    /// Returns `true` if the QEMU has the stream's machine type, so that it accepts the whole
    /// stream.
    pub(crate) fn has_machine_of(&self, source: &Source) -> bool {
        let machine = self.machine.split(',').next();
        source.stream.machine() == machine
    }

    /// Replaces the CPU model in some cases.
    pub(crate) fn with_random_cpu(mut self, random: &mut Random, series: &str) -> Self {
        if self.cpu != "cortex-a15" && random.chance(OTHER_CPU_PERCENT) {
            let model_in_series = |(model, since): &(&'static str, (u16, u16))| {
                (Some(*since) <= parse_version(series)).then_some(*model)
            };
            let models: Vec<_> = MODELS.iter().filter_map(model_in_series).collect();
            self.cpu = random.choose(&models).copied().unwrap_or(self.cpu);
        }
        self
    }

    /// Returns the command line.
    pub(crate) fn command(&self, program: &Path) -> Vec<OsString> {
        let mut command = vec![program.as_os_str().to_owned()];
        command.extend(self.arguments().split(' ').map(OsString::from));
        command
    }

    /// Returns the command line without the program.
    pub(crate) fn arguments(&self) -> String {
        let Self {
            machine,
            cpu,
            vcpus,
            ram,
        } = self;
        format!(
            "-nodefaults -display none -machine {machine} -cpu {cpu} -smp {vcpus} -m {ram} -accel tcg"
        )
    }
}
