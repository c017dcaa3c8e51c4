//! Kinds of migration, and the script line of each host for one migration.
//! `e2e/lab/inside/live.sh` has the shell functions that these lines call.

use super::expected::Expected;
use super::tls;
use crate::host_pair::{HostPair, address};
use crate::interposed::lines_with_run;
use e2e_framework::Result;
use e2e_framework::lab::job::shell_quote;

/// A kind of migration. All kinds have a return path, so that the source resumes a guest that the
/// destination does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MigrationKind {
    /// Without cpreg.
    Direct,
    /// Through the relay, without consent. The relay refuses the guest.
    Refused,
    Precopy,
    /// Through the relay, with two channels in addition to the main channel.
    Multifd,
    /// Through the relay, with a switch to postcopy before all RAM is sent.
    Postcopy,
    /// Through `cpreg relay --serve`, to which the destination's firewall redirects the migration.
    Served,
    /// Like [`Self::Served`] without consent. The relay refuses the guest.
    ServedRefused,
    /// With `cpreg run` at the destination, without consent. cpreg refuses the guest.
    RunRefused,
    /// With `cpreg run` at the destination.
    RunPrecopy,
    /// With `cpreg run` at the destination, and two channels in addition to the main channel.
    RunMultifd,
    /// With `cpreg run` at the destination, and a switch to postcopy before all RAM is sent.
    RunPostcopy,
    /// With `cpreg run` at the destination, over TLS between the QEMUs.
    RunTls,
    /// With `cpreg run` at the destination, from a snapshot in a qcow2 disk (`savevm`, `-loadvm`).
    RunSnapshot,
    /// With `cpreg run` at the destination, between QEMUs with `-sandbox on`.
    RunSandbox,
    /// Move like [`Self::RunSandbox`] without consent, which cpreg refuses.
    RunSandboxRefused,
}

impl MigrationKind {
    /// Kinds with the relay, and their control without cpreg.
    pub(crate) const RELAY: [Self; 7] = [
        Self::Direct,
        Self::Refused,
        Self::Precopy,
        Self::Multifd,
        Self::Postcopy,
        Self::Served,
        Self::ServedRefused,
    ];
    /// Kinds with `cpreg run`, and their control without cpreg.
    pub(crate) const RUN: [Self; 9] = [
        Self::Direct,
        Self::RunRefused,
        Self::RunPrecopy,
        Self::RunMultifd,
        Self::RunPostcopy,
        Self::RunTls,
        Self::RunSnapshot,
        Self::RunSandbox,
        Self::RunSandboxRefused,
    ];

    /// Returns the name of the kind in arguments and file names.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Refused => "refused",
            Self::Precopy => "precopy",
            Self::Multifd => "multifd",
            Self::Postcopy => "postcopy",
            Self::Served => "served",
            Self::ServedRefused => "served-refused",
            Self::RunRefused => "run-refused",
            Self::RunPrecopy => "run-precopy",
            Self::RunMultifd => "run-multifd",
            Self::RunPostcopy => "run-postcopy",
            Self::RunTls => "run-tls",
            Self::RunSnapshot => "run-snapshot",
            Self::RunSandbox => "run-sandbox",
            Self::RunSandboxRefused => "run-sandbox-refused",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        let all = || Self::RELAY.into_iter().chain(Self::RUN);
        let kind = all().find(|kind| kind.name() == name);
        kind.ok_or_else(|| {
            let mut names: Vec<_> = all().map(Self::name).collect();
            names.dedup();
            let names = names.join(", ");
            format!("unknown case {name}; expected one of {names}").into()
        })
    }

    /// Returns the description of the kind for people.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Direct => "without cpreg, it stays",
            Self::Refused => "through the relay, without consent: it stays",
            Self::Precopy => "through the relay",
            Self::Multifd => "through the relay, multifd",
            Self::Postcopy => "through the relay, postcopy",
            Self::Served => "through relay --serve",
            Self::ServedRefused => "through relay --serve, without consent: it stays",
            Self::RunRefused => "with cpreg run, without consent: it stays",
            Self::RunPrecopy => "with cpreg run",
            Self::RunMultifd => "with cpreg run, multifd",
            Self::RunPostcopy => "with cpreg run, postcopy",
            Self::RunTls => "with cpreg run, over TLS",
            Self::RunSnapshot => "with cpreg run, from a snapshot",
            Self::RunSandbox => "with cpreg run, sandboxed",
            Self::RunSandboxRefused => "with cpreg run, sandboxed, without consent: it stays",
        }
    }

    /// Returns `true` if the kind is meaningful for this source and destination.
    pub(crate) fn is_applicable(self, expected: &Expected) -> bool {
        match self {
            Self::Direct => expected.failure.is_some(),
            Self::Refused | Self::ServedRefused | Self::RunRefused | Self::RunSandboxRefused => {
                !expected.blockers.is_empty()
            }
            _ => true,
        }
    }

    /// Returns `true` if the guest must stay at the source.
    pub(crate) const fn should_stay(self) -> bool {
        matches!(
            self,
            Self::Direct
                | Self::Refused
                | Self::ServedRefused
                | Self::RunRefused
                | Self::RunSandboxRefused
        )
    }

    /// Returns `true` if cpreg relays the migration.
    pub(crate) const fn uses_relay(self) -> bool {
        matches!(
            self,
            Self::Refused | Self::Precopy | Self::Multifd | Self::Postcopy
        ) || self.is_served()
    }

    /// Returns `true` if the firewall redirects the migration to the relay.
    pub(crate) const fn is_served(self) -> bool {
        matches!(self, Self::Served | Self::ServedRefused)
    }

    /// Returns `true` if `cpreg run` starts the destination's QEMU.
    pub(crate) const fn uses_run(self) -> bool {
        !self.uses_relay() && !matches!(self, Self::Direct)
    }

    pub(crate) const fn is_postcopy(self) -> bool {
        matches!(self, Self::Postcopy | Self::RunPostcopy)
    }

    /// Returns the additional arguments of a QEMU, if the kind needs some.
    fn qemu_arguments(self, is_source: bool) -> Option<String> {
        match self {
            Self::RunTls => {
                let endpoint = if is_source { "client" } else { "server" };
                let folder = tls::FOLDER;
                Some(format!(
                    "-object tls-creds-x509,id=tls,dir=/job/{folder},endpoint={endpoint}"
                ))
            }
            // The sandbox of libvirt's domains.
            Self::RunSandbox | Self::RunSandboxRefused => Some(
                "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Returns the migration capabilities and parameters of both QEMUs, as JSON.
    fn qmp_setup(self) -> (String, &'static str) {
        let mut capabilities = vec!["return-path"];
        let parameters = match self {
            Self::Multifd | Self::RunMultifd => {
                capabilities.push("multifd");
                "\"downtime-limit\":3000,\"multifd-channels\":2"
            }
            Self::Postcopy | Self::RunPostcopy => {
                capabilities.push("postcopy-ram");
                // The precopy must not finish before the switch to postcopy.
                "\"downtime-limit\":1,\"max-bandwidth\":4194304"
            }
            Self::RunTls => {
                "\"downtime-limit\":3000,\"tls-creds\":\"tls\",\"tls-hostname\":\"destination\""
            }
            // The guest dirties memory faster than an emulated network sends it. With this limit
            // QEMU stops the guest although much RAM is left to send.
            _ => "\"downtime-limit\":3000",
        };
        let capabilities: Vec<_> = capabilities
            .into_iter()
            .map(|name| format!("{{\"capability\":\"{name}\",\"state\":true}}"))
            .collect();
        (capabilities.join(","), parameters)
    }
}

/// One migration.
#[derive(Clone, Debug)]
pub(crate) struct MigrationCase {
    pub(crate) kind: MigrationKind,
    /// Number of the source host.
    pub(crate) source_host: usize,
    /// Port of the destination. Each case has its own, so that no source reaches the listener of
    /// another case.
    pub(crate) port: u16,
    pub(crate) expected: Expected,
}

impl MigrationCase {
    /// Returns the name in file names. The two hosts leave `NAME-source.*` and
    /// `NAME-destination.*`.
    pub(crate) fn name(&self) -> String {
        format!("{}-from-{}", self.kind.name(), self.source_host)
    }

    /// Returns the script lines of a host for this case.
    pub(crate) fn lines(&self, number: usize, hosts: &HostPair<'_>, series: &str) -> String {
        let is_source = number == self.source_host;
        let (mut function, end) = if is_source {
            ("send", "source")
        } else {
            ("receive", "destination")
        };
        let (capabilities, parameters) = self.kind.qmp_setup();
        let mut setup = format!(
            " {} {}",
            shell_quote(&capabilities),
            shell_quote(parameters)
        );
        if self.kind == MigrationKind::RunSnapshot {
            function = if is_source {
                "send_snapshot"
            } else {
                "receive_snapshot"
            };
            setup.clear();
        }
        let mut line = format!(
            "{function} {series} {}-{end} {} {}{setup}",
            self.name(),
            address(1 - number),
            self.port,
        );
        if is_source && self.kind.is_postcopy() {
            line += " now";
        }
        if !is_source && self.kind.is_served() {
            line = format!(
                "serve {}{}\n{line}\nend_serve",
                self.name(),
                self.reviewed_consents()
            );
        } else if !is_source && self.kind.uses_relay() {
            line += &self.relay_arguments(hosts, series);
        }
        line += "\n";
        if let Some(arguments) = self.kind.qemu_arguments(is_source) {
            line = format!("arguments='{arguments}'\n{line}arguments=\n");
        }
        if !is_source && self.kind.uses_run() {
            line = lines_with_run(self.consent_options(), &line);
        }
        line
    }

    /// Returns the options for cpreg's consent.
    fn consent_options(&self) -> &[String] {
        if self.kind.should_stay() {
            &[]
        } else {
            &self.expected.consent
        }
    }

    /// Returns the options for cpreg's consent without severities, which `--serve` does not take.
    fn reviewed_consents(&self) -> String {
        if self.kind.should_stay() {
            return String::new();
        }
        let registers = self.expected.blockers.iter();
        registers
            .map(|register| [" --accept ", register].concat())
            .collect()
    }

    fn relay_arguments(&self, hosts: &HostPair<'_>, series: &str) -> String {
        let cpu = hosts.cpu;
        let [source, destination] =
            [self.source_host, 1 - self.source_host].map(|end| &hosts.kernels[end].version);
        let to = if self.kind == MigrationKind::Postcopy {
            // A guest that is refused during postcopy is lost. With two recorded hosts the
            // relay can decide before postcopy begins.
            let features = cpu.guest_features();
            format!("linux-{destination}/{cpu} --from linux-{source}/{cpu}/{features}")
        } else {
            "kvm".to_owned()
        };
        let mut words = format!(" --to {to} --loader qemu-{series} --log-format json");
        for option in self.consent_options() {
            words += " ";
            words += option;
        }
        words
    }
}
