//! [`HostFacts`]: facts about this host that decide about an incoming domain.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cpreg::destination::Features;
use cpreg_kvm::{Host, Kvm};
use cpreg_snapshot::libvirt::Domain;

/// Timeout for an emulator to list its machine types.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval in which the end of an emulator is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum length of the list in bytes. QEMU's list has 8 KiB.
const MAX_LIST_LEN: u64 = 1 << 20;
/// GIC versions that a domain can name.
const GIC_VERSIONS: [u8; 2] = [2, 3];

/// Facts about this host; `None` if they are not known or do not concern the domain.
#[derive(Clone, Debug)]
pub(super) struct HostFacts {
    pub(super) emulator: Option<EmulatorFacts>,
    pub(super) kvm: Option<KvmFacts>,
}

/// Emulator of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EmulatorFacts {
    pub(super) path: String,
    /// Names of its machine types, with aliases.
    pub(super) machines: BTreeSet<String>,
    /// Newest versioned machine type of the board `virt`.
    pub(super) newest: Option<String>,
}

/// KVM of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KvmFacts {
    /// vCPU features that KVM can give to a guest.
    pub(super) features: Features,
    /// GIC versions that KVM refuses to create.
    pub(super) impossible_gics: Vec<u8>,
}

impl HostFacts {
    /// Queries the domain's emulator and, if the domain runs under KVM, KVM.
    pub(super) fn query(domain: &Domain) -> Self {
        let emulator = domain.emulator.as_deref().and_then(query_emulator);
        let kvm = (domain.kind == "kvm").then(Kvm::open);
        let kvm = kvm.and_then(Result::ok);
        Self {
            emulator,
            kvm: kvm.as_ref().map(query_kvm),
        }
    }
}

fn query_kvm(kvm: &Kvm) -> KvmFacts {
    let gics = GIC_VERSIONS.into_iter();
    KvmFacts {
        features: cpreg_kvm::probe::available_features(&kvm.capabilities()),
        impossible_gics: gics.filter(|version| kvm.refuses_gic(*version)).collect(),
    }
}

/// Returns the machine types of an emulator; `None` if it does not list any.
fn query_emulator(path: &str) -> Option<EmulatorFacts> {
    if !Path::new(path).is_absolute() {
        return None;
    }
    let mut child = Command::new(path)
        .args(["-machine", "help"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // A separate thread reads, so that a full pipe does not block the emulator.
    let stdout = child.stdout.take()?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.take(MAX_LIST_LEN).read_to_string(&mut text);
        read.is_ok().then_some(text)
    });
    if !has_succeeded(&mut child) {
        return None;
    }
    parse_machines(path, &reader.join().ok()??)
}

/// Waits for the end of a process. Returns `false` if it fails, or does not end in time.
fn has_succeeded(child: &mut Child) -> bool {
    let deadline = Instant::now() + LIST_TIMEOUT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// Parses QEMU's list of machine types. Returns `None` for a list without the board `virt`.
///
/// Each line begins with a name. The line of the alias `virt` ends with `(alias of virt-10.0)`.
fn parse_machines(path: &str, list: &str) -> Option<EmulatorFacts> {
    // The first line is a title.
    let lines = || list.lines().skip(1);
    let machines = lines().filter_map(|line| line.split_whitespace().next());
    let machines: BTreeSet<_> = machines.map(str::to_owned).collect();
    let newest = lines().find_map(|line| {
        let rest = line.strip_prefix("virt ")?;
        let (_, alias) = rest.rsplit_once("(alias of ")?;
        Some(alias.trim_end_matches(')').to_owned())
    });
    machines.contains("virt").then(|| EmulatorFacts {
        path: path.to_owned(),
        machines,
        newest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of QEMU 10.0.
    const LIST: &str = "Supported machines are:\n\
        sbsa-ref             QEMU 'SBSA Reference' ARM Virtual Machine\n\
        virt-2.6             QEMU 2.6 ARM Virtual Machine\n\
        virt                 QEMU 10.0 ARM Virtual Machine (alias of virt-10.0)\n\
        virt-10.0            QEMU 10.0 ARM Virtual Machine\n\
        none                 empty machine\n";

    #[test]
    fn machine_types_are_parsed() {
        let facts = parse_machines("/usr/bin/qemu", LIST).unwrap();
        assert_eq!(facts.machines.len(), 5);
        assert!(facts.machines.contains("virt-10.0") && facts.machines.contains("virt-2.6"));
        assert_eq!(facts.newest.as_deref(), Some("virt-10.0"));
    }

    #[test]
    fn another_list_proves_nothing() {
        for list in [
            "",
            "Supported machines are:\n",
            "usage: tool\nvirtual text\n",
        ] {
            assert_eq!(parse_machines("/usr/bin/qemu", list), None, "{list}");
        }
    }

    #[test]
    fn an_emulator_that_fails_proves_nothing() {
        for path in [
            "/bin/false",
            "/nonexistent",
            "qemu-system-aarch64",
            "/bin/true",
        ] {
            assert_eq!(query_emulator(path), None, "{path}");
        }
    }
}
