//! The kinds of migration, and what each end does in one, as a line of shell (the functions are in `e2e/lab/inside/live.sh`).

use std::fmt::Write as _;

use super::expected::Expected;
use crate::host_pair::{HostPair, address};
use e2e_framework::Result;
use e2e_framework::lab::job::shell_quote;

/// A kind of migration. All have a return path, so that a source whose guest is not taken goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MigrationKind {
    /// Without cpreg.
    Direct,
    /// Through the relay, with nothing consented to.
    Refused,
    Precopy,
    /// With two channels besides the main one.
    Multifd,
    /// The guest goes over before its RAM.
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

    /// Its name in arguments and file names.
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
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no case {name}: {names}").into()
        })
    }

    /// What is shown, for people.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Direct => "without cpreg, it stays",
            Self::Refused => "through the relay, without consent: it stays",
            Self::Precopy => "through the relay",
            Self::Multifd => "through the relay, multifd",
            Self::Postcopy => "through the relay, postcopy",
        }
    }

    /// Whether there is anything to show with that source and destination.
    pub(crate) fn is_applicable(self, expected: &Expected) -> bool {
        match self {
            Self::Direct => expected.failure.is_some(),
            Self::Refused => !expected.blockers.is_empty(),
            _ => true,
        }
    }

    /// Whether the guest is to stay where it is.
    pub(crate) const fn should_stay(self) -> bool {
        matches!(self, Self::Direct | Self::Refused)
    }

    /// QMP's capabilities and parameters, at both ends.
    fn qmp_setup(self) -> (String, &'static str) {
        let mut capabilities = vec!["return-path"];
        let parameters = match self {
            Self::Multifd => {
                capabilities.push("multifd");
                "\"downtime-limit\":3000,\"multifd-channels\":2"
            }
            Self::Postcopy => {
                capabilities.push("postcopy-ram");
                // The guest must not be there before anybody says postcopy.
                "\"downtime-limit\":1,\"max-bandwidth\":4194304"
            }
            // The guest is faster than an emulated network: it stands still for the rest.
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
    /// Which host the guest starts at.
    pub(crate) source_host: usize,
    /// Where the destination listens. Each has its own: nobody reaches who listens for another one.
    pub(crate) port: u16,
    pub(crate) expected: Expected,
}

impl MigrationCase {
    /// Its name in files: what the two ends leave is `NAME-source.*` and `NAME-destination.*`.
    pub(crate) fn name(&self) -> String {
        format!("{}-from-{}", self.kind.name(), self.source_host)
    }

    /// What a host does in it.
    pub(crate) fn line(&self, number: usize, hosts: &HostPair<'_>, series: &str) -> String {
        let (does, end) = if number == self.source_host {
            ("send", "source")
        } else {
            ("receive", "destination")
        };
        let (capabilities, parameters) = self.kind.qmp_setup();
        let mut line = format!(
            "{does} {series} {}-{end} {} {} {} {}",
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
                // Nobody goes on with a guest that is refused in the middle of it: what is certain must be so before it begins, of two recorded hosts.
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

/// The features that QEMU's `-cpu host` gives to a guest on that model.
fn features(cpu: &str) -> &'static str {
    match cpu.split('+').next() {
        Some("max") => "pmu,sve,ptrauth",
        Some("neoverse-v1" | "neoverse-n2") => "pmu,sve",
        _ => "pmu",
    }
}
