//! Two emulated hosts, and the migrations between their QEMUs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::case::{MigrationCase, MigrationKind};
use super::evaluate::evaluate;
use super::expected::Expected;
use super::{disk_image, tls};
use crate::host_pair::HostPair;
use crate::interposed::RunPrograms;
use crate::matrix::loads;
use e2e_framework::Result;
use e2e_framework::guest::Guest;
use e2e_framework::lab::firewall;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::Kernel;
use e2e_framework::paths::repository;

/// Timeout for one migration, under an emulator on a busy machine.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);

/// Rules that `cpreg install libvirt` installs.
const RULES: &str = "crates/cpreg-cli/src/commands/install/files/relay.nft";

/// Port of the first case. The firewall redirects only ports of libvirt, which begin here.
const FIRST_PORT: u16 = 49152;

/// Name and outcome of a case.
pub(crate) type CaseResult = (String, Result<String>);

/// Two hosts, a QEMU that both have, and cpreg.
#[derive(Debug)]
pub(crate) struct MigrationRunner<'a> {
    pub(crate) hosts: HostPair<'a>,
    pub(crate) programs: &'a RunPrograms,
    /// Series of QEMU.
    pub(crate) series: &'a str,
}

impl MigrationRunner<'_> {
    /// Boots both hosts, and runs the meaningful kinds of migration in both directions.
    ///
    /// # Errors
    /// Returns an error if a host has no network, does not boot or does not shut down, or the
    /// matrix has no line for the pair.
    pub(crate) fn run(&self, kinds: &[MigrationKind]) -> Result<Vec<CaseResult>> {
        if let Some(kernel) = self
            .hosts
            .kernels
            .into_iter()
            .find(|kernel| !kernel.has_network())
        {
            return Err(format!(
                "{}: no network driver available, because its modules have left Debian's suites; \
                 use another kernel",
                kernel.version
            )
            .into());
        }
        let mut cases = Vec::new();
        for from in [0, 1] {
            let source_and_destination = [self.hosts.kernels[from], self.hosts.kernels[1 - from]];
            let expected = self.read_expected(source_and_destination)?;
            for kind in kinds {
                if kind.is_applicable(&expected) {
                    cases.push(MigrationCase {
                        kind: *kind,
                        source_host: from,
                        port: FIRST_PORT + u16::try_from(cases.len())?,
                        expected: expected.clone(),
                    });
                }
            }
        }
        let time = MIGRATION_TIMEOUT.saturating_mul(u32::try_from(cases.len())?);
        // Both hosts need certificates of one authority.
        let certificates = if cases.iter().any(|case| case.kind == MigrationKind::RunTls) {
            tls::certificates(self.hosts.lab)?
        } else {
            Vec::new()
        };
        let jobs = [
            self.job(0, &cases, &certificates)?,
            self.job(1, &cases, &certificates)?,
        ];
        self.hosts.run(&jobs, time)?;
        Ok(cases.iter().map(|case| self.evaluate_case(case)).collect())
    }

    fn read_expected(&self, source_and_destination: [&Kernel; 2]) -> Result<Expected> {
        let [from, to] = source_and_destination.map(|kernel| kernel.version.as_str());
        let cpu = self.hosts.cpu.to_string();
        Expected::read(
            &repository().join("docs/kvm-matrix"),
            &cpu,
            from,
            to,
            self.series,
        )
    }

    fn job(
        &self,
        number: usize,
        cases: &[MigrationCase],
        certificates: &[(String, PathBuf)],
    ) -> Result<Job> {
        let mut job = loads::job(self.hosts.lab, Guest::Live)?;
        job.script += ". /job/live.sh\n";
        job.script += &self.hosts.setup_script(number);
        if cases.iter().any(|case| case.kind.is_served()) {
            firewall::add_to(&mut job, self.hosts.lab, self.hosts.kernels[number])?;
            job.files
                .push(("relay.nft".to_owned(), repository().join(RULES)));
        }
        for case in cases {
            job.script += &case.lines(number, &self.hosts, self.series);
        }
        self.programs.add_to(&mut job);
        let has_kind = |kind| cases.iter().any(|case| case.kind == kind);
        if !certificates.is_empty() {
            for (name, path) in certificates {
                job.files
                    .push((format!("{}/{name}", tls::FOLDER), path.clone()));
            }
            // The certificates are valid from now on.
            job.script = format!("date -s @{} > /dev/null\n{}", tls::now(), job.script);
        }
        if has_kind(MigrationKind::RunSnapshot) {
            let path = self.hosts.lab.folder.join("empty.qcow2");
            fs::write(&path, disk_image::empty_qcow2())?;
            job.files.push(("empty.qcow2".to_owned(), path));
        }
        job.files.push((
            "live.sh".to_owned(),
            repository().join("e2e/lab/inside/live.sh"),
        ));
        Ok(job)
    }

    fn evaluate_case(&self, case: &MigrationCase) -> CaseResult {
        let [from, to] =
            [case.source_host, 1 - case.source_host].map(|end| &self.hosts.kernels[end].version);
        let name = format!(
            "QEMU {} {from} -> {to} on {}: {}",
            self.series,
            self.hosts.cpu,
            case.kind.description()
        );
        let results =
            [case.source_host, 1 - case.source_host].map(|end| self.hosts.results_of(end));
        let outcome = evaluate(case, [&results[0], &results[1]]);
        let outcome = outcome.map_err(|error| {
            format!(
                "  {error}\n  (output: {}/{}-*, {}/{}-*)",
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
