//! Conversion of a save image in its file, for the QEMU that libvirt is about to start.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use cpreg::plan::{Action, Verdict};
use cpreg_report::check::CheckFindings;
use cpreg_report::command::quote;
use cpreg_report::text::list_first;
use cpreg_snapshot::libvirt::Domain;

use super::log::Level;
use crate::arguments::{self, HookLibvirt, LoaderArgs};
use crate::commands::convert::convert_in_place;
use crate::destination::qemu::{self, ProbeOptions};
use crate::destination::{self, ResolvedDestination};
use crate::failure::Failure;
use crate::input::Input;
use crate::interrupt;
use crate::printer::Printer;

/// Timeout of each step of a probe, in seconds. libvirt waits for the hook during this time.
const PROBE_TIMEOUT_SECONDS: u64 = 20;
/// Maximum number of registers in a log line.
const MAX_LISTED: usize = 12;

/// Result of a conversion, displayed as a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conversion {
    path: PathBuf,
    verdict: Verdict,
    /// Meaning of the verdict.
    meaning: String,
    /// Names of the registers that the conversion left out or set; `None` if the file is unchanged.
    changed: Option<Vec<String>>,
    /// DESTINATION of the command that explains the verdict.
    destination: String,
}

impl Conversion {
    /// Returns the importance of the log line.
    pub(super) const fn level(&self) -> Level {
        match self.verdict {
            Verdict::Loads | Verdict::Converts => Level::Info,
            Verdict::Refused | Verdict::Unknown => Level::Warning,
        }
    }
}

impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display().to_string();
        let Self {
            meaning,
            destination,
            ..
        } = self;
        match self.verdict {
            Verdict::Loads | Verdict::Converts => match &self.changed {
                Some(names) => write!(
                    f,
                    "converted: {path}: {meaning}; registers left out or set: {}",
                    list(names)
                ),
                None => write!(f, "unchanged: {path}: {meaning}"),
            },
            Verdict::Refused | Verdict::Unknown => write!(
                f,
                "left alone: {path}: {}: {meaning}; next: `cpreg check {} {destination}`",
                self.verdict.name(),
                quote(&path),
            ),
        }
    }
}

/// Returns the first of the names, and the number of the others.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    list_first(names, MAX_LISTED)
}

/// Returns the names of the registers that a plan leaves out or sets, each once.
fn changed_registers(findings: &CheckFindings<'_>) -> Vec<String> {
    let decisions = findings.check.plan.vcpus.iter();
    let changed = decisions
        .flat_map(|vcpu| &vcpu.decisions)
        .filter(|decision| matches!(decision.action, Action::Ignore | Action::Set(_)))
        .map(|decision| decision.register);
    let changed: BTreeSet<_> = changed.collect();
    let naming = findings.value_format.naming;
    let names = changed.iter().map(|it| it.display_in(naming).to_string());
    names.collect()
}

/// Converts the image for the domain's QEMU on this host.
pub(super) fn convert(
    path: &Path,
    domain: &Domain,
    arguments: &HookLibvirt,
    printer: &mut Printer,
) -> Result<Conversion, Failure> {
    let typed = typed_destination(arguments, domain);
    let convert = arguments::Convert {
        source: path.to_owned(),
        destination: PathBuf::from(&typed),
        output: None,
        in_place: true,
        force: false,
        verbosity: arguments::VerbosityArgs::default(),
        from: arguments::FromArgs::default(),
        loader: LoaderArgs { loader: None },
        consents: arguments.consents.clone(),
        inspect: arguments::InspectArgs::default(),
    };
    let resolve = |source: &Input, printer: &Printer| match resolution(arguments, domain) {
        Resolution::Argument(path) => {
            destination::resolve(&path, source, &convert.loader, false, printer)
        }
        Resolution::Emulator => resolve_emulator(domain, &convert.loader, printer),
    };
    convert_in_place(&convert, resolve, printer, |findings, _| {
        Ok(Conversion {
            path: path.to_owned(),
            verdict: findings.verdict(),
            meaning: findings.meaning(),
            changed: findings
                .written
                .is_some()
                .then(|| changed_registers(findings)),
            destination: typed.clone(),
        })
    })
}

/// Source of the destination: the registers that the domain's QEMU loads.
#[derive(Debug, PartialEq, Eq)]
enum Resolution {
    /// DESTINATION of other commands.
    Argument(PathBuf),
    /// The domain's emulator, queried.
    Emulator,
}

/// Returns the source of the destination: `--to` if given, KVM for a domain of type `kvm`, else the
/// domain's emulator.
fn resolution(arguments: &HookLibvirt, domain: &Domain) -> Resolution {
    match &arguments.to {
        Some(path) => Resolution::Argument(path.clone()),
        None if domain.kind == "kvm" => Resolution::Argument(PathBuf::from("kvm")),
        None => Resolution::Emulator,
    }
}

/// Returns DESTINATION as a user types it in a command about this domain.
pub(super) fn typed_destination(arguments: &HookLibvirt, domain: &Domain) -> String {
    match resolution(arguments, domain) {
        Resolution::Argument(path) => quote(&path.display().to_string()),
        Resolution::Emulator => quote(&format!("libvirt:{}", domain.name)),
    }
}

/// Starts the domain's emulator with the domain's machine and CPU, isolated, and records it.
///
/// The command must not query libvirt for its command line, because libvirt waits for this hook.
fn resolve_emulator(
    domain: &Domain,
    loader: &LoaderArgs,
    printer: &Printer,
) -> Result<ResolvedDestination, Failure> {
    let emulator = domain.emulator.as_deref();
    let emulator = emulator.filter(|path| Path::new(path).is_absolute());
    let (Some(emulator), Some(command)) = (emulator, domain.qemu_command()) else {
        return Err(Failure::new(
            "the XML of the domain does not name its emulator, machine and CPU",
        ));
    };
    // libvirt gives QEMU no default devices either. Their files may be missing.
    let words = command.split(' ').skip(1).chain(["-nodefaults"]);
    let command = [emulator].into_iter().chain(words).map(OsString::from);
    let command: Vec<_> = command.collect();
    let options = ProbeOptions {
        name: Some(format!("libvirt:{}", domain.name)),
        allowed_options: &[],
        // The XML's devices are not in the command, and libvirt checks them.
        has_devices: false,
        wait: interrupt::wait_options(PROBE_TIMEOUT_SECONDS)?,
    };
    let profile = qemu::record(&command, &options, printer)?;
    ResolvedDestination::from_input(&Input::from_probe(Path::new(emulator), profile), loader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversion(verdict: Verdict, changed: Option<&[&str]>) -> String {
        let conversion = Conversion {
            path: "/save/my vm.save".into(),
            verdict,
            meaning: "2 registers block the load".to_owned(),
            changed: changed.map(|it| it.iter().map(|name| (*name).to_owned()).collect()),
            destination: "kvm".to_owned(),
        };
        conversion.to_string()
    }

    #[test]
    fn each_verdict_has_its_line() {
        let path = "/save/my vm.save: ";
        let line = conversion(Verdict::Converts, Some(&["TCR2_EL1", "PIR_EL1"]));
        assert!(line.starts_with(&format!("converted: {path}")), "{line}");
        assert!(
            line.ends_with("registers left out or set: TCR2_EL1, PIR_EL1"),
            "{line}"
        );
        let line = conversion(Verdict::Converts, Some(&["A"; MAX_LISTED + 2]));
        assert!(line.ends_with("A and 2 more"), "{line}");
        let line = conversion(Verdict::Loads, None);
        assert!(line.starts_with(&format!("unchanged: {path}")), "{line}");
        assert_eq!(
            conversion(Verdict::Refused, None),
            "left alone: /save/my vm.save: refused: 2 registers block the load; next: `cpreg check \
             '/save/my vm.save' kvm`"
        );
    }

    #[test]
    fn the_accelerator_decides_about_the_destination() {
        let domain = |kind: &str| {
            let xml = format!("<domain type='{kind}'><name>web</name></domain>");
            Domain::parse(&xml).unwrap()
        };
        let arguments = |to: Option<&str>| HookLibvirt {
            to: to.map(PathBuf::from),
            ..HookLibvirt::default()
        };
        for (kind, to, expected) in [
            ("kvm", None, "kvm"),
            ("qemu", None, "libvirt:web"),
            ("kvm", Some("/etc/cpreg/here.json"), "/etc/cpreg/here.json"),
            ("qemu", Some("here.json"), "here.json"),
        ] {
            let typed = typed_destination(&arguments(to), &domain(kind));
            assert_eq!(typed, expected);
        }
    }
}
