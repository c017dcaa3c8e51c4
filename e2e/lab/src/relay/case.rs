//! Kinds of migration, and the script line of each host for one migration.
//! `e2e/lab/inside/live.sh` has the shell functions that these lines call.

use std::fmt::Write as _;

use super::expected::Expected;
use crate::host_pair::{HostPair, address};
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
}

impl MigrationKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Direct,
        Self::Refused,
        Self::Precopy,
        Self::Multifd,
        Self::Postcopy,
    ];

    /// Returns the name of the kind in arguments and file names.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Refused => "refused",
            Self::Precopy => "precopy",
            Self::Multifd => "multifd",
            Self::Postcopy => "postcopy",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
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
        }
    }

    /// Returns `true` if the kind is meaningful for this source and destination.
    pub(crate) fn is_applicable(self, expected: &Expected) -> bool {
        match self {
            Self::Direct => expected.failure.is_some(),
            Self::Refused => !expected.blockers.is_empty(),
            _ => true,
        }
    }

    /// Returns `true` if the guest must stay at the source.
    pub(crate) const fn should_stay(self) -> bool {
        matches!(self, Self::Direct | Self::Refused)
    }

    /// Returns the migration capabilities and parameters of both QEMUs, as JSON.
    fn qmp_setup(self) -> (String, &'static str) {
        let mut capabilities = vec!["return-path"];
        let parameters = match self {
            Self::Multifd => {
                capabilities.push("multifd");
                "\"downtime-limit\":3000,\"multifd-channels\":2"
            }
            Self::Postcopy => {
                capabilities.push("postcopy-ram");
                // The precopy must not finish before the switch to postcopy.
                "\"downtime-limit\":1,\"max-bandwidth\":4194304"
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

    /// Returns the script line of a host for this case.
    pub(crate) fn line(&self, number: usize, hosts: &HostPair<'_>, series: &str) -> String {
        let (function, end) = if number == self.source_host {
            ("send", "source")
        } else {
            ("receive", "destination")
        };
        let (capabilities, parameters) = self.kind.qmp_setup();
        let mut line = format!(
            "{function} {series} {}-{end} {} {} {} {}",
            self.name(),
            address(1 - number),
            self.port,
            shell_quote(&capabilities),
            shell_quote(parameters),
        );
        if number == self.source_host && self.kind == MigrationKind::Postcopy {
            line += " now";
        }
        if number != self.source_host && self.kind != MigrationKind::Direct {
            let cpu = hosts.cpu;
            let [source, destination] =
                [self.source_host, number].map(|end| &hosts.kernels[end].version);
            let to = if self.kind == MigrationKind::Postcopy {
                // A guest that is refused during postcopy is lost. With two recorded hosts the
                // relay can decide before postcopy begins.
                let features = features(&cpu.to_string());
                format!("linux-{destination}/{cpu} --from linux-{source}/{cpu}/{features}")
            } else {
                "kvm".to_owned()
            };
            let _ = write!(line, " --to {to} --loader qemu-{series} --log-format json");
            if let (false, Some(severity)) = (self.kind.should_stay(), self.expected.consent) {
                let _ = write!(line, " --accept {severity}");
            }
        }
        line + "\n"
    }
}

/// Returns the features that QEMU's `-cpu host` gives to a guest on this model.
fn features(cpu: &str) -> &'static str {
    match cpu.split('+').next() {
        Some("max") => "pmu,sve,ptrauth",
        Some("neoverse-v1" | "neoverse-n2") => "pmu,sve",
        _ => "pmu",
    }
}
