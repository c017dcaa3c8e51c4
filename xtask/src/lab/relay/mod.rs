//! `cargo xtask lab relay`: a guest of QEMU under KVM moves live from one emulated host to another with a different kernel, over the network between them:
//! as it is, which fails today, and through `cpreg relay`.
//!
//! | module | what lives there |
//! |---|---|
//! | [`case`](mod@case) | the kinds of migration, and what each end does in one |
//! | [`expected`] | what the [matrix](super::matrix) found of a source and a destination |
//! | [`judge`](mod@judge) | what became of a migration, by what QEMU, guest and cpreg said at both ends |
//!
//! The relay runs at the destination, which it asks what it is (`--to kvm`); with postcopy, both hosts
//! are given by their recorded names. Nothing is expected here that the matrix does not say: it has QEMU's words
//! where the guest does not move as it is, what must be consented to, and which registers the guest then finds changed.

mod case;
mod expected;
mod judge;

use std::path::Path;
use std::time::{Duration, Instant};

use self::case::Case;
pub(super) use self::case::Kind;
use self::expected::Expected;
use self::judge::judge;
use super::Lab;
use super::cpu::Cpu;
use super::job::Job;
use super::kernels::{self, Kernel};
use super::matrix::loads;
use super::options::Options;
use super::roots::SERIES;
use super::wired::Wired;
use crate::guest::Guest;
use crate::{Result, repository};

/// An old kernel, whose lists QEMU 10.0 takes nowhere else, and a new one.
const KERNELS: [&str; 2] = ["6.12.107", "7.3.4"];

const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// The last QEMU without rules of its own for lists that are not its host's.
pub(super) const QEMU: &str = "10.0";

/// How long one migration may take, under an emulator on a busy machine.
const TIME: Duration = Duration::from_secs(120);

/// What was shown, and how it went.
pub(super) type Shown = (String, Result<String>);

/// `cargo xtask lab relay`.
///
/// # Errors
/// If a guest ends elsewhere or otherwise than is expected.
pub(super) fn run(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments, &["--kernel", "--cpu", "--case", "--qemu"], &[])?;
    let mut names = options.all("--kernel");
    if names.is_empty() {
        names.extend(KERNELS);
    }
    let cpus = match options.all("--cpu") {
        none if none.is_empty() => CPUS.to_vec(),
        some => some,
    };
    let cpus: Result<Vec<_>> = cpus.into_iter().map(Cpu::parse).collect();
    let series = options.last("--qemu").unwrap_or(QEMU);
    if !SERIES.contains(&series) {
        return Err(format!("no QEMU {series} in the lab: {}", SERIES.join(", ")).into());
    }
    let kinds = match options.all("--case") {
        none if none.is_empty() => Kind::EACH.to_vec(),
        some => some.into_iter().map(Kind::parse).collect::<Result<_>>()?,
    };
    let kernels = lab.alone(|| kernels::named(&lab.folder, &names))?;
    let [first, second] = kernels.as_slice() else {
        return Err("relay wants two kernels: --kernel VERSION --kernel VERSION".into());
    };
    let programs = lab.programs(&["cpreg-cli"])?;
    lab.prepare(true)?;
    let mut failed = Vec::new();
    // One pair after the other: each is two hosts.
    for cpu in &cpus? {
        let start = Instant::now();
        let pair = Pair {
            hosts: Wired {
                lab,
                cpu,
                kernels: [first, second],
                serial: false,
                results: "relay",
            },
            program: &programs.join("cpreg"),
            series,
        };
        for (name, outcome) in pair.run(&kinds)? {
            match outcome {
                Ok(figures) => println!("ok      {name}: {figures}"),
                Err(error) => {
                    println!("FAILED  {name}\n{error}");
                    failed.push(name);
                }
            }
        }
        println!("{cpu}: {:.1?}", start.elapsed());
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join(", ").into())
    }
}

/// Two hosts, a QEMU that both have, and cpreg.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) hosts: Wired<'a>,
    /// cpreg for arm64.
    pub(super) program: &'a Path,
    /// QEMU's series.
    pub(super) series: &'a str,
}

impl Pair<'_> {
    /// Boots both, and has a guest migrate in each of these kinds in both directions, where the kind has anything to show.
    ///
    /// # Errors
    /// If the two have no network, the matrix says nothing of them, or one does not boot or not end.
    pub(super) fn run(&self, kinds: &[Kind]) -> Result<Vec<Shown>> {
        if let Some(kernel) = self
            .hosts
            .kernels
            .into_iter()
            .find(|kernel| !kernel.has_network())
        {
            return Err(format!(
                "{}: no network driver at hand: its modules have left Debian's suites; take another kernel",
                kernel.version
            )
            .into());
        }
        let mut cases = Vec::new();
        for from in [0, 1] {
            let ends = [self.hosts.kernels[from], self.hosts.kernels[1 - from]];
            let expected = self.expected(ends)?;
            for kind in kinds {
                if kind.shows(&expected) {
                    cases.push(Case {
                        kind: *kind,
                        from,
                        port: 4000 + u16::try_from(cases.len())?,
                        expected: expected.clone(),
                    });
                }
            }
        }
        let time = TIME.saturating_mul(u32::try_from(cases.len())?);
        let jobs = [self.job(0, &cases)?, self.job(1, &cases)?];
        self.hosts.run(&jobs, time)?;
        Ok(cases.iter().map(|case| self.shown(case)).collect())
    }

    fn expected(&self, ends: [&Kernel; 2]) -> Result<Expected> {
        let [from, to] = ends.map(|kernel| kernel.version.as_str());
        let cpu = self.hosts.cpu.to_string();
        Expected::read(
            &repository().join("docs/kvm-matrix"),
            &cpu,
            from,
            to,
            self.series,
        )
    }

    fn job(&self, number: usize, cases: &[Case]) -> Result<Job> {
        let mut job = loads::job(self.hosts.lab, Guest::Live)?;
        job.script += ". /job/live.sh\n";
        job.script += &self.hosts.ready(number);
        for case in cases {
            job.script += &case.line(number, self);
        }
        job.programs.push(self.program.to_owned());
        job.files.push((
            "live.sh".to_owned(),
            repository().join("lab/inside/live.sh"),
        ));
        Ok(job)
    }

    fn shown(&self, case: &Case) -> Shown {
        let [from, to] = [case.from, 1 - case.from].map(|end| &self.hosts.kernels[end].version);
        let name = format!(
            "QEMU {} {from} -> {to} on {}: {}",
            self.series,
            self.hosts.cpu,
            case.kind.in_words()
        );
        let results = [case.from, 1 - case.from].map(|end| self.hosts.results_of(end));
        let outcome = judge(case, [&results[0], &results[1]]);
        let outcome = outcome.map_err(|error| {
            format!(
                "  {error}\n  (all that was said: {}/{}-*, {}/{}-*)",
                results[0].display(),
                case.name(),
                results[1].display(),
                case.name()
            )
            .into()
        });
        (name, outcome)
    }
}
