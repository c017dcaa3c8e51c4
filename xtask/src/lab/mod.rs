//! The lab: real Debian arm64 kernels with real KVM, under an emulating QEMU. `cargo xtask lab`; lab/README.md is its manual.
//!
//! | module | what lives there |
//! |---|---|
//! | [`kernels`] | which kernels there are; fetching them |
//! | [`image`] | a vmlinuz made into what boots |
//! | [`modules`] | the modules of a network card |
//! | [`toolchain`] | arm64 programs |
//! | [`cpio`] | a writer of cpio archives |
//! | [`initramfs`] | what every host boots with |
//! | [`roots`] | the arm64 QEMUs |
//! | [`disk`] | the disks, and how results come back |
//! | [`cpu`] | CPU models and modes |
//! | [`job`] | what a host is to do |
//! | [`boot`] | one boot of a host |
//! | [`record`] | `lab record`: `cpreg probe kvm` on many hosts |
//! | [`run`](mod@run) | `lab run`: a command of the workspace in one host |
//! | [`matrix`] | `lab matrix`: what moves between which kernels |
//! | [`load`] | `lab load`: saved states into QEMUs |
//! | [`migrate`] | `lab migrate`: the example VMM's guest between each two hosts |
//! | [`migrate_table`] | what came of that, as kept |
//! | [`wired`] | two hosts in one boot of both, connected |
//! | [`pair`] | the moves of that guest between them |
//! | [`relay`] | `lab relay`: live migrations between the QEMUs of two hosts, with `cpreg relay` between them |
//! | [`judge`] | how a move went |
//! | [`compare`] | `lab compare`: a kernel of one's own against recorded ones |
//! | [`mod@test`] | `lab test`: what CI runs |
//! | [`options`] | the arguments of these commands |
//!
//! What is in the lab folder is made by the module that uses it, once, under names with versions.

mod boot;
mod compare;
mod cpio;
mod cpu;
mod disk;
mod image;
mod initramfs;
mod job;
mod judge;
mod kernels;
mod load;
mod matrix;
mod migrate;
mod migrate_table;
mod modules;
mod options;
mod pair;
mod record;
mod relay;
mod roots;
mod run;
mod test;
mod toolchain;
mod wired;

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::{Result, qemus};

const USAGE: &str = "\
Usage: cargo xtask lab COMMAND       (lab/README.md is the manual)

  kernels                            fetch Debian's arm64 kernels, and list them
  record [--kernel VERSION]... [--kernel-image FILE] [--cpu MODEL]... -o FOLDER
                                     what each kernel is on each CPU: `cpreg probe kvm`, one file each
  run --kernel VERSION [--cpu MODEL] [--package NAME]... [--file FILE]... [--qemu] [-o FOLDER]
      -- COMMAND...
                                     a command of this workspace inside
  load [--kernel VERSION]... [--cpu MODEL] [--qemu 10.0|11.1]... STREAM...
                                     streams of the lab's guest into real QEMUs under KVM
  migrate [--kernel VERSION]... [--cpu MODEL]... [--again] [-o FOLDER]
          [--accept SEVERITY]... [--vcpus N] [--serial] [--itself] [--back]
                                     the example VMM's guest, live, from each kernel to each other; with options of the second line
                                     moves are looked at, and not kept
  relay [--kernel VERSION]... [--cpu MODEL]... [--case NAME]... [--qemu 10.0|11.1]
                                     a guest of QEMU under KVM, live over the network, through `cpreg relay`
  compare --kernel-image FILE [--cpu MODEL]... [--to linux-VERSION]... [--features NAMES]
                                     what a kernel of your own changes of KVM's interface
  matrix [--kernel VERSION]... [--cpu MODEL]... [--qemu 10.0|11.1]... [--to-streams] [-o FOLDER]
                                     which guests of QEMU under KVM move between which kernels, alone and with cpreg
  test                               what CI runs: three kernels, two CPU models
  clippy                             the lints of code that only an arm64 compiler sees
";

/// How many emulated hosts run at a time.
const AT_A_TIME: usize = 2;

/// The lab folder, and what is made in it when somebody first wants it.
#[derive(Debug)]
struct Lab {
    folder: PathBuf,
    /// Held as long as something is fetched or made.
    lock: File,
    emulator: OnceLock<PathBuf>,
    initramfs: OnceLock<PathBuf>,
    roots: OnceLock<PathBuf>,
}

impl Lab {
    fn open() -> Result<Self> {
        let folder = crate::lab();
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        // Paths go into apt's configuration and into QEMU's command line.
        let folder = fs::canonicalize(&folder)?;
        let lock = File::create(folder.join("lab.lock"))?;
        disk::ready()?;
        Ok(Self {
            folder,
            lock,
            emulator: OnceLock::new(),
            initramfs: OnceLock::new(),
            roots: OnceLock::new(),
        })
    }

    /// Makes something while no other task makes anything.
    fn alone<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        rustix::fs::flock(&self.lock, rustix::fs::FlockOperation::LockExclusive)?;
        let made = make();
        rustix::fs::flock(&self.lock, rustix::fs::FlockOperation::Unlock)?;
        made
    }

    fn once(
        &self,
        place: &OnceLock<PathBuf>,
        make: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<PathBuf> {
        if let Some(path) = place.get() {
            return Ok(path.clone());
        }
        let path = self.alone(make)?;
        Ok(place.get_or_init(|| path).clone())
    }

    /// The QEMU that emulates the hosts.
    fn emulator(&self) -> Result<PathBuf> {
        self.once(&self.emulator, || {
            Ok(qemus::ensure_series("11.1")?.program())
        })
    }

    /// What every host boots with.
    fn initramfs(&self) -> Result<PathBuf> {
        self.once(&self.initramfs, || initramfs::make(&self.folder))
    }

    /// The disk with the arm64 QEMUs.
    fn roots(&self) -> Result<PathBuf> {
        self.once(&self.roots, || roots::ensure(&self.folder))
    }

    /// Fetches and makes all that boots need, so that nothing of it happens, and counts, within one.
    fn prepare(&self, roots: bool) -> Result<()> {
        self.emulator()?;
        self.initramfs()?;
        if roots {
            self.roots()?;
        }
        Ok(())
    }

    /// arm64 programs of these packages. Gives the folder that they are in.
    fn programs(&self, packages: &[&str]) -> Result<PathBuf> {
        self.programs_and_examples(packages, &[])
    }

    /// arm64 programs of these packages, and these of their examples, which are in `examples` in the folder.
    fn programs_and_examples(&self, packages: &[&str], examples: &[&str]) -> Result<PathBuf> {
        let toolchain = self.alone(|| toolchain::Toolchain::ensure(&self.folder))?;
        toolchain.build(packages, examples)
    }
}

/// Fetches what `lab test` needs. Nothing is built.
///
/// # Errors
/// If something cannot be fetched.
pub(crate) fn fetch() -> Result<()> {
    let lab = Lab::open()?;
    lab.prepare(false)?;
    lab.alone(|| test::kernels(&lab).map(drop))?;
    lab.alone(|| toolchain::Toolchain::ensure(&lab.folder).map(drop))
}

/// Programs that `lab test` needs of the machine.
pub(crate) const TOOLS: [crate::tools::Tool; 2] = toolchain::TOOLS;

/// `cargo xtask lab`.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (command, rest) = arguments.split_first().unwrap_or((&"help", &[]));
    if ["help", "--help", "-h"].contains(command) {
        print!("{USAGE}");
        return Ok(());
    }
    let lab = Lab::open()?;
    match *command {
        "kernels" => lab.alone(|| kernels::run(&lab.folder)),
        "record" => record::run(&lab, rest),
        "run" => run::run(&lab, rest),
        "load" => load::run(&lab, rest),
        "migrate" => migrate::run(&lab, rest),
        "relay" => relay::run(&lab, rest),
        "compare" => compare::run(&lab, rest),
        "matrix" => matrix::run(&lab, rest),
        "clippy" => toolchain::clippy(&lab),
        "test" => test::run(&lab),
        _ => Err(format!("no command {command} in the lab\n\n{USAGE}").into()),
    }
}
