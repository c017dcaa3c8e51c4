//! [`Services`]: commands for systemd before and after the files change.

use std::process::Command;

use super::changes::{Changes, Removal};
use super::files::HOOK;
use super::host_tools::{HostTools, Systemd};
use super::tree::Tree;
use crate::arguments::InstallPart;
use crate::failure::Failure;
use crate::printer::Printer;

const SOCKET: &str = "cpreg-relay.socket";
const SERVICE: &str = "cpreg-relay.service";

/// Commands of an installation or a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Services {
    /// Commands before files are removed.
    before: Vec<Vec<&'static str>>,
    /// Commands after the files have changed.
    after: Vec<Vec<&'static str>>,
    /// Advice that no command carries out.
    advice: Option<&'static str>,
}

/// Advice for a host without a service of libvirt.
const RESTART_LIBVIRT: &str =
    "send SIGHUP to libvirtd or virtqemud, or restart it: only then libvirt looks for hooks";

impl Services {
    /// Returns the commands that start the services of changed files.
    pub(super) fn for_changes(changes: &Changes<'_>, tools: &HostTools, is_live: bool) -> Self {
        let mut services = Self::default();
        if changes.concern(InstallPart::Relay) {
            services.after = vec![
                vec!["systemctl", "daemon-reload"],
                vec!["systemctl", "restart", SOCKET],
            ];
        }
        // libvirt looks for hooks only when it starts or reloads. Its VMs continue.
        if changes.creates(HOOK) {
            let has_systemd = tools.systemd == Systemd::Running || !is_live;
            if tools.libvirt_units.is_empty() || !has_systemd {
                services.advice = Some(RESTART_LIBVIRT);
            } else {
                let units = tools.libvirt_units.iter();
                let reload = units.map(|unit| vec!["systemctl", "try-reload-or-restart", unit]);
                services.after.extend(reload);
            }
        }
        services
    }

    /// Returns the commands that stop the services of removed files.
    pub(super) fn for_removal(removal: &Removal) -> Self {
        if !removal.has_relay() {
            return Self::default();
        }
        Self {
            before: vec![vec!["systemctl", "stop", SOCKET, SERVICE]],
            after: vec![vec!["systemctl", "daemon-reload"]],
            advice: None,
        }
    }

    /// Prints the commands before a removal.
    pub(super) fn print_before(&self, tree: &Tree, printer: &mut Printer) {
        print_all(&self.before, tree, printer);
    }

    /// Prints the commands after a change of files, and the advice.
    pub(super) fn print_after(&self, tree: &Tree, printer: &mut Printer) {
        print_all(&self.after, tree, printer);
        if let Some(advice) = self.advice {
            printer.line(format_args!("to do: {advice}"));
        }
    }

    /// Runs the commands before a removal. A failure is only a note, because the service may not
    /// run.
    pub(super) fn stop(&self, tree: &Tree, printer: &Printer) {
        if let Err(failure) = run_all(&self.before, tree) {
            let causes = failure.causes().join(": ");
            printer.note(format_args!("{failure}: {causes}"));
        }
    }

    /// Runs the commands after a change of files.
    pub(super) fn run(&self, tree: &Tree) -> Result<(), Failure> {
        run_all(&self.after, tree)
    }
}

fn print_all(commands: &[Vec<&'static str>], tree: &Tree, printer: &mut Printer) {
    let verb = if tree.is_live() {
        "run"
    } else {
        "run on the host"
    };
    for command in commands {
        printer.line(format_args!("{verb}: {}", command.join(" ")));
    }
}

fn run_all(commands: &[Vec<&'static str>], tree: &Tree) -> Result<(), Failure> {
    if !tree.is_live() {
        return Ok(());
    }
    for command in commands {
        let words = command.join(" ");
        let failure = || Failure::new(format!("`{words}` failed"));
        let output = Command::new(command[0])
            .args(&command[1..])
            .output()
            .map_err(|error| failure().with_cause(error))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(failure()
                .with_cause(std::io::Error::other(message))
                .with_hint(
                    "the files are written; `cpreg install libvirt --remove` removes them",
                ));
        }
    }
    Ok(())
}
