//! [`UnrecordedNamedHost`]: a host by name whose kernel was not recorded, as DESTINATION.
//!
//! A VM is planned at all recorded hosts next to the kernel. The report gives a verdict only if
//! they enclose the kernel and agree.

use std::path::PathBuf;

use cpreg::destination::Features;
use cpreg_hosts::unrecorded_host::UnrecordedHost;
use cpreg_report::unrecorded::UnrecordedKernel;

use super::named_host::{Guest, NamedHost};
use super::resolved_destination::ResolvedDestination;
use crate::failure::{Failure, Status};
use cpreg_report::command::TypedCommand;

/// File for a recording of the destination, in commands that a report proposes.
pub(crate) const RECORDING: &str = "host.json";

/// Host named by the user whose kernel was not recorded.
pub(crate) struct UnrecordedNamedHost {
    kernel: UnrecordedKernel,
    /// `true` if the neighbours enclose the kernel.
    is_enclosed: bool,
    /// Recorded hosts next to the kernel, oldest first; empty if none are.
    neighbours: Vec<NamedHost>,
    /// The user's argument.
    argument: PathBuf,
    /// Features in the argument, if it has any.
    features: Option<Features>,
}

impl UnrecordedNamedHost {
    pub(super) fn new(host: &UnrecordedHost<'_>, argument: &str) -> Self {
        let neighbours = host.neighbours.iter();
        let neighbours =
            neighbours.map(|recorded| NamedHost::neighbour(*recorded, host.features, argument));
        Self {
            kernel: UnrecordedKernel::new(host.name.clone(), host.gap),
            is_enclosed: host.gap.is_enclosed(),
            neighbours: neighbours.collect(),
            argument: argument.into(),
            features: host.features,
        }
    }

    /// Returns the neighbours as possible destinations for a guest.
    pub(super) fn for_guest(&self, guest: Guest<'_>) -> Result<ResolvedDestination, Failure> {
        let mut possible = Vec::new();
        for neighbour in &self.neighbours {
            let mut resolved = neighbour.for_guest(guest)?;
            let alternatives = std::mem::take(&mut resolved.alternatives);
            possible.push(resolved);
            possible.extend(alternatives);
        }
        let mut possible = possible.into_iter();
        Ok(match possible.next() {
            None => ResolvedDestination::without_registers(
                self.kernel.clone(),
                self.argument.clone(),
                self.features,
            ),
            Some(first) => ResolvedDestination {
                unrecorded_kernel: Some(self.kernel.clone()),
                alternatives: possible.collect(),
                ..first
            },
        })
    }

    /// Returns the error for a command that needs one recorded host.
    pub(crate) fn failure(&self) -> Failure {
        let UnrecordedKernel { host, reason, .. } = &self.kernel;
        let failure =
            Failure::new(format!("{host} was not recorded: {reason}")).with_hint(format!(
                "record the host itself: run `cpreg probe kvm -o {RECORDING}` there, and name the \
                 file"
            ));
        let names = self.neighbours.iter().map(|host| &*host.display_name);
        let names: Vec<_> = names.collect();
        if names.is_empty() {
            return failure;
        }
        failure.with_hint(format!(
            "the recorded hosts next to it: {}",
            names.join(", ")
        ))
    }

    /// Returns an error with the status of an unknown verdict, if no VM can have another verdict.
    pub(crate) fn require_possible_verdict(&self, command: &TypedCommand) -> Result<(), Failure> {
        if self.is_enclosed {
            return Ok(());
        }
        let command = command.with_destination(&self.argument, RECORDING);
        let UnrecordedKernel { host, reason, .. } = &self.kernel;
        Err(Failure::new(format!(
            "the verdict on every VM is unknown: which registers {host} has is not known ({reason})"
        ))
        .with_status(Status::Unknown)
        .with_hint(format!(
            "on {host}, run `cpreg probe kvm -o {RECORDING}`; then `{command}`"
        )))
    }
}
