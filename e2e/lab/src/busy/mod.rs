//! `cargo xtask lab busy-guest`: moves a guest in use among hosts, and has it check itself.
//!
//! | module | content |
//! |---|---|
//! | [`inputs`] | kernel and initramfs of the guest |
//! | [`outcome`] | output of the guest |
//!
//! The guest is Debian's kernel with processes, or with `--granule` a program of the lab. It boots
//! on the first host, and then lives on all hosts in turn. Each move is a saved stream with RAM.

pub(crate) mod inputs;
pub(crate) mod outcome;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use cpreg_stream::{ReadAt as _, Stream};
use e2e_framework::Result;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::guest::Granule;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::{self, Kernel};
use e2e_framework::lab::roots::SERIES;

use self::inputs::GuestInputs;
use self::outcome::BusyOutcome;
use crate::interposed::RunPrograms;
use crate::options::cpus_or_default;

/// Default kernels of the hosts. The guest boots on the oldest one, so that it uses no feature that
/// another host lacks.
const KERNELS: [&str; 3] = ["6.1.176", "6.12.107", "7.3.4"];
/// Default CPU models of the hosts.
const CPUS: [&str; 2] = ["neoverse-n1", "max"];
/// Default kernel of the guest.
const GUEST_KERNEL: &str = "6.12.107";
/// Consents in the order of trying: none, or all changes up to a severity.
const CONSENTS: [&str; 3] = ["none", "low", "medium"];
/// Timeout for one boot of a host with a guest that boots or is moved.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// Move a guest with Debian's kernel and running processes, and have it check itself
#[derive(Debug, Args)]
pub(crate) struct BusyArgs {
    /// Kernels of the hosts, the first of which boots the guest (repeatable; default: 6.1.176,
    /// 6.12.107, 7.3.4). With a single kernel the guest boots and is not moved
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// CPU model of the hosts (repeatable; default: neoverse-n1 and max)
    #[arg(long = "cpu", value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    cpus: Vec<Cpu>,
    /// QEMU series
    #[arg(long = "qemu", value_name = "SERIES", value_parser = SERIES, default_value = "10.0")]
    series: String,
    /// Kernel of the guest
    #[arg(long, value_name = "VERSION", default_value = GUEST_KERNEL)]
    guest_kernel: String,
    /// Boot a guest of the lab with translation granules of this size in KiB, instead of Linux
    #[arg(long, value_name = "KIB", conflicts_with = "guest_kernel")]
    granule: Option<Granule>,
    /// Convert each stream with `cpreg convert`, instead of loading it with `cpreg run`
    #[arg(long, conflicts_with = "onto")]
    convert: bool,
    /// Load the guest without cpreg on hosts of the first kernel with this CPU (repeatable), where
    /// guest-check must find a difference
    #[arg(long, value_name = "MODEL[+MODE]", value_parser = Cpu::parse)]
    onto: Vec<Cpu>,
    /// Boot the guest again, even if it is stored
    #[arg(long)]
    rerun: bool,
    /// Folder for the device states of all saved streams, without RAM
    #[arg(long, value_name = "FOLDER")]
    states: Option<PathBuf>,
}

/// Runs `cargo xtask lab busy-guest`.
///
/// # Errors
/// Returns an error if a host or the guest does not boot, a move fails, or `guest-check` finds
/// something (with `--onto`: nothing).
pub(crate) fn run(lab: &Lab, arguments: &BusyArgs) -> Result<()> {
    let versions: Vec<_> = arguments.kernels.iter().map(String::as_str).collect();
    let versions = if versions.is_empty() {
        KERNELS.to_vec()
    } else {
        versions
    };
    let kernels = lab.with_make_lock(|| kernels::fetch_versions(&lab.folder, &versions))?;
    let mover = Mover {
        lab,
        arguments,
        inputs: match arguments.granule {
            Some(granule) => GuestInputs::of_granule(lab, granule)?,
            None => GuestInputs::of_linux(lab, &arguments.guest_kernel)?,
        },
        cpreg: Cpreg::build()?,
        programs: RunPrograms::build(lab)?,
    };
    lab.prepare(true)?;
    for cpu in cpus_or_default(&arguments.cpus, &CPUS)? {
        mover.live_on(&kernels, &cpu)?;
    }
    Ok(())
}

/// Returns a way through all hosts that has each ordered pair once, from the first host.
fn all_pairs(hosts: usize) -> Vec<usize> {
    let mut way = Vec::new();
    for first in 0..hosts {
        way.push(first);
        for other in first + 2..hosts {
            way.extend([other, first]);
        }
    }
    way.extend((0..hosts.saturating_sub(1)).rev());
    way
}

/// Converts a stream with the smallest sufficient consent, and returns its name.
fn convert(
    cpreg: &Cpreg,
    stream: &Path,
    destination: &str,
    series: &str,
    output: &Path,
) -> Result<&'static str> {
    let mut last = String::new();
    for consent in CONSENTS {
        match fs::remove_file(output) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut options = vec!["--loader".to_owned(), format!("qemu-{series}")];
        if consent != "none" {
            options.extend(["--accept", consent].map(str::to_owned));
        }
        match cpreg.convert(stream, Path::new(destination), output, &options)? {
            Ok(()) => return Ok(consent),
            Err(refusal) => last = refusal,
        }
    }
    Err(last.into())
}

/// Returns a host with the timeout for a guest.
fn host_on<'a>(kernel: &'a Kernel, cpu: &'a Cpu) -> EmulatedHost<'a> {
    let mut host = EmulatedHost::new(kernel, cpu);
    host.timeout = TIMEOUT;
    host
}

struct Mover<'a> {
    lab: &'a Lab,
    arguments: &'a BusyArgs,
    inputs: GuestInputs,
    cpreg: Cpreg,
    programs: RunPrograms,
}

impl Mover<'_> {
    /// Boots a guest, and moves it among all hosts.
    fn live_on(&self, kernels: &[Kernel], cpu: &Cpu) -> Result<()> {
        let first = kernels.first().ok_or("no kernel")?;
        let mut stream = self.boot(first, cpu)?;
        for other in &self.arguments.onto {
            self.move_onto(first, other, &stream)?;
        }
        if !self.arguments.onto.is_empty() {
            return Ok(());
        }
        let way = all_pairs(kernels.len());
        for (index, pair) in way.windows(2).enumerate() {
            let [source, destination] = [&kernels[pair[0]], &kernels[pair[1]]];
            let moved = self.move_between([source, destination], cpu, &stream, index)?;
            // The first stream stays for later runs.
            if index > 0 {
                fs::remove_file(&stream)?;
            }
            stream = moved;
        }
        if way.len() > 1 {
            fs::remove_file(&stream)?;
        }
        Ok(())
    }

    /// Returns the stream of a guest that has booted on this kernel.
    fn boot(&self, kernel: &Kernel, cpu: &Cpu) -> Result<PathBuf> {
        let host = host_on(kernel, cpu);
        let series = &self.arguments.series;
        let name = format!("{}__qemu-{series}__{}", host.name(), self.inputs.name());
        let path = self.lab.folder.join("busy").join(format!("{name}.stream"));
        if path.exists() && !self.arguments.rerun {
            println!("boots   {}, QEMU {series} (stored)", host.name());
            return Ok(path);
        }
        let mut job = self.inputs.job();
        writeln!(job.script, "boot {series} boot")?;
        let results = self.results("boot", &host);
        let start = Instant::now();
        host.run(self.lab, &job, &results)?;
        let outcome = BusyOutcome::read(&results, "boot")?;
        let context = |error| format!("{}: {error}", host.name());
        outcome.ensure_booted().map_err(context)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let saved = results.join("boot.stream");
        fs::rename(&saved, &path).map_err(|error| context(format!("no stream: {error}").into()))?;
        println!(
            "boots   {}, QEMU {series} ({:.0?})",
            host.name(),
            start.elapsed()
        );
        self.keep_state(&path, &self.state_name(kernel, cpu), &outcome)?;
        Ok(path)
    }

    /// Moves the guest to another kernel with cpreg, and returns the stream that it is saved to.
    fn move_between(
        &self,
        [source, destination]: [&Kernel; 2],
        cpu: &Cpu,
        stream: &Path,
        index: usize,
    ) -> Result<PathBuf> {
        let series = &self.arguments.series;
        let host = host_on(destination, cpu);
        let label = format!("{} -> {}, {cpu}", source.version, destination.version);
        let mut job = self.inputs.job();
        let mut consent = None;
        let [from, name] =
            [source, destination].map(|kernel| format!("linux-{}/{cpu}", kernel.version));
        let from = format!("{from}/{}", cpu.guest_features());
        let expected = self.expected_checks([stream, Path::new(&from)], &name)?;
        if self.arguments.convert {
            let converted = self.lab.folder.join("busy/converted.stream");
            consent = Some(
                convert(&self.cpreg, stream, &name, series, &converted)
                    .map_err(|refusal| format!("{label}: {refusal}"))?,
            );
            job.files.push(("vm.stream".to_owned(), converted));
            writeln!(job.script, "move {series} moved /job/vm.stream")?;
        } else {
            self.programs.add_to(&mut job);
            job.files.push(("vm.stream".to_owned(), stream.to_owned()));
            writeln!(
                job.script,
                "move_with_consent {series} moved /job/vm.stream"
            )?;
        }
        let start = Instant::now();
        let (outcome, saved) = self.load(&host, &job, &format!("move-{index}"))?;
        let context = |error| format!("{label}: {error}");
        let found = outcome.ensure_unchanged(&expected).map_err(context)?;
        let consent = match consent {
            Some(consent) => consent.to_owned(),
            None => fs::read_to_string(
                self.results(&format!("move-{index}"), &host)
                    .join("consent"),
            )?,
        };
        let consent = consent.trim();
        let predicted = match &*found {
            [] => String::new(),
            names => format!("; as predicted, guest-check finds {}", names.join(", ")),
        };
        println!(
            "moves   {label}, QEMU {series}, consent: {consent}{predicted} ({:.0?})",
            start.elapsed()
        );
        let folder = self.lab.folder.join("busy");
        let kept = folder.join(format!("moved-{index}__{}.stream", host.name()));
        fs::rename(&saved, &kept).map_err(|error| context(format!("no stream: {error}").into()))?;
        let name = format!("{}__moved-{index}", self.state_name(destination, cpu));
        self.keep_state(&kept, &name, &outcome)?;
        Ok(kept)
    }

    /// Returns the checks in which `guest-check` may find a difference, because cpreg predicts a
    /// change that the guest can notice.
    ///
    /// `sources` are the stream, and the recorded host that it comes from. After a move with `cpreg
    /// run` a stream can still have the registers of an earlier host.
    fn expected_checks(&self, sources: [&Path; 2], destination: &str) -> Result<Vec<&'static str>> {
        for source in sources {
            let report = self.cpreg.check(source, Path::new(destination), &[])?;
            if report.has_visible_change("CTR_EL0") {
                return Ok(vec!["cache-type"]);
            }
        }
        Ok(Vec::new())
    }

    /// Loads the guest without cpreg on a host with other hardware.
    fn move_onto(&self, kernel: &Kernel, cpu: &Cpu, stream: &Path) -> Result<()> {
        let series = &self.arguments.series;
        let host = host_on(kernel, cpu);
        let mut job = self.inputs.job();
        job.files.push(("vm.stream".to_owned(), stream.to_owned()));
        writeln!(job.script, "move {series} moved /job/vm.stream")?;
        let start = Instant::now();
        let (outcome, _) = self.load(&host, &job, "onto")?;
        let found = outcome.found_checks();
        let found = found.map_err(|error| format!("{}: {error}", host.name()))?;
        println!(
            "finds   {}: {} ({:.0?})",
            host.name(),
            found.join(", "),
            start.elapsed()
        );
        for line in outcome
            .checks
            .iter()
            .filter(|line| line.starts_with("found "))
        {
            println!("        {line}");
        }
        Ok(())
    }

    /// Runs a job that loads a guest. Returns its outcome, and the stream that it is saved to.
    fn load(
        &self,
        host: &EmulatedHost<'_>,
        job: &Job,
        name: &str,
    ) -> Result<(BusyOutcome, PathBuf)> {
        let results = self.results(name, host);
        host.run(self.lab, job, &results)?;
        Ok((
            BusyOutcome::read(&results, "moved")?,
            results.join("moved.stream"),
        ))
    }

    /// Returns the name of the device state of a guest on this host.
    fn state_name(&self, kernel: &Kernel, cpu: &Cpu) -> String {
        let series = &self.arguments.series;
        let name = format!("{}__q{series}__{cpu}", kernel.version);
        match self.arguments.granule {
            Some(granule) => format!("{name}__granule-{granule}"),
            None => name,
        }
    }

    fn results(&self, step: &str, host: &EmulatedHost<'_>) -> PathBuf {
        let folder = self.lab.folder.join("results/busy-guest");
        folder.join(format!("{step}__{}", host.name()))
    }

    /// Writes the device state of a stream, and the boot log of its guest, to the folder that the
    /// user named.
    fn keep_state(&self, stream: &Path, name: &str, outcome: &BusyOutcome) -> Result<()> {
        let Some(folder) = &self.arguments.states else {
            return Ok(());
        };
        fs::create_dir_all(folder)?;
        let source = File::open(stream)?;
        let edit = Stream::open(&source)?.without_ram(&[])?;
        let state = edit.apply_to(&source);
        let length = usize::try_from(state.length()?)?;
        let mut bytes = vec![0; length];
        state.read_exact_at(&mut bytes, 0)?;
        fs::write(folder.join(format!("{name}.stream")), bytes)?;
        if !outcome.boot_log.is_empty() {
            let log = outcome.boot_log.join("\n") + "\n";
            fs::write(folder.join(format!("{name}.log")), log)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_has_each_ordered_pair_once() {
        assert_eq!(all_pairs(1), [0]);
        assert_eq!(all_pairs(2), [0, 1, 0]);
        for hosts in 2..6 {
            let way = all_pairs(hosts);
            let mut pairs: Vec<_> = way.windows(2).map(|pair| (pair[0], pair[1])).collect();
            pairs.sort_unstable();
            let each = (0..hosts).flat_map(|from| (0..hosts).map(move |to| (from, to)));
            let expected: Vec<_> = each.filter(|(from, to)| from != to).collect();
            assert_eq!(pairs, expected, "{way:?}");
        }
    }
}
