//! `cpreg hook libvirt DOMAIN OPERATION SUBOPERATION EXTRA`: acts on an event of libvirt, which
//! calls the command through a script in `/etc/libvirt/hooks/qemu.d`.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | the events, and the end of each |
//! | `migration.rs` | decision about an incoming migration |
//! | `host_facts.rs` | what this host proves about it |
//! | `restore.rs` | decision about the save image of a VM that libvirt restores |
//! | `open_images.rs` | the save images that libvirt has open |
//! | `conversion.rs` | conversion of an image in its file |
//! | `log.rs` | log lines |
//!
//! libvirt waits for the command, so the command must not call libvirt. A failed hook makes libvirt
//! abort the operation, and libvirt reads a new XML from a hook's standard output. For this reason
//! the command prints nothing there, only a proven refusal ends with status 1, and the script
//! ignores all other statuses.

mod conversion;
mod host_facts;
mod log;
mod migration;
mod open_images;
mod restore;

use std::io::Read as _;
use std::path::Path;

use cpreg_snapshot::libvirt::Domain;

use self::host_facts::HostFacts;
use self::log::{Level, Log};
use self::restore::{RestoreDecision, RestoredVm};
use crate::arguments::{self, HookLibvirt, HookProgram};
use crate::consents;
use crate::failure::{Failure, Status};
use crate::printer::{Printer, log_line};

/// Maximum length of a domain's XML in bytes. libvirt's own limit for it is 4 MiB.
const MAX_XML_LEN: u64 = 16 << 20;

pub(crate) fn run(arguments: &arguments::Hook, printer: &mut Printer) -> Result<Status, Failure> {
    match &arguments.program {
        HookProgram::Libvirt(arguments) => run_libvirt(arguments, printer),
    }
}

/// Event of libvirt on which the hook acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// libvirt is about to receive a VM.
    MigrateBegin,
    /// libvirt is about to load a save image.
    RestoreBegin,
}

impl Event {
    /// Returns the event of libvirt's words; `None` for one on which the hook does not act.
    fn from_words(operation: &str, suboperation: &str) -> Option<Self> {
        match (operation, suboperation) {
            ("migrate", "begin") => Some(Self::MigrateBegin),
            ("restore", "begin") => Some(Self::RestoreBegin),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::MigrateBegin => "migrate begin",
            Self::RestoreBegin => "restore begin",
        }
    }
}

fn run_libvirt(arguments: &HookLibvirt, printer: &mut Printer) -> Result<Status, Failure> {
    let usage = consents::reject_unreviewed(&arguments.consents, "hook");
    let Some(event) = Event::from_words(&arguments.operation, &arguments.suboperation) else {
        return usage.map(|()| Status::Success);
    };
    let log = Log::open(arguments.log.as_deref(), &arguments.domain, event.name())?;
    if let Err(failure) = usage {
        // libvirt discards standard error, because the script ignores bad usage.
        log.left_alone(failure_line(&failure));
        return Err(failure);
    }
    let result = match event {
        Event::MigrateBegin => check_migration(&log),
        Event::RestoreBegin => prepare_restore(arguments, &log, printer),
    };
    result.or_else(|failure| {
        log.left_alone(failure_line(&failure));
        Ok(Status::Success)
    })
}

/// Refuses a VM that cannot run here. The user of `virsh migrate` sees standard error.
fn check_migration(log: &Log) -> Result<Status, Failure> {
    let domain = read_domain()?;
    let facts = HostFacts::query(&domain);
    let refusals = migration::find_refusals(&domain, &facts);
    for refusal in &refusals {
        log.line(Level::Warning, format_args!("refused: {refusal}"));
        log_line(format_args!("cpreg: {}: {refusal}", domain.name));
    }
    if refusals.is_empty() {
        return Ok(Status::Success);
    }
    Ok(Status::Refused)
}

/// Converts the save image that libvirt is about to load, if it does not load as it is.
fn prepare_restore(
    arguments: &HookLibvirt,
    log: &Log,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let domain = read_domain()?;
    let images = open_images::find();
    let restored = RestoredVm {
        name: &domain.name,
        uuid: domain.uuid.as_deref(),
    };
    match restore::decide(&restored, &images) {
        RestoreDecision::Convert(path) => {
            let conversion = conversion::convert(path, &domain, arguments, printer)?;
            log.line(conversion.level(), conversion);
        }
        RestoreDecision::Leave(reason) => {
            let destination = conversion::typed_destination(arguments, &domain);
            log.line(Level::Warning, reason.describe(&destination));
        }
    }
    Ok(Status::Success)
}

/// Reads the XML of the domain from standard input.
fn read_domain() -> Result<Domain, Failure> {
    let mut xml = String::new();
    let mut input = std::io::stdin().lock().take(MAX_XML_LEN);
    input
        .read_to_string(&mut xml)
        .map_err(|error| Failure::io("read", Path::new("standard input"), error))?;
    Domain::parse(&xml).map_err(|error| {
        Failure::new("cannot use the XML of the domain, on standard input").with_hinted_cause(error)
    })
}

/// Returns an error in one line, with its causes and hints.
fn failure_line(failure: &Failure) -> String {
    let causes = failure.causes().into_iter();
    let text = causes.fold(failure.to_string(), |text, cause| {
        format!("{text}: {cause}")
    });
    let hints = failure.hints().iter();
    hints.fold(text, |text, hint| format!("{text}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_acts_on_two_events() {
        for (words, event) in [
            (("migrate", "begin"), Some(Event::MigrateBegin)),
            (("restore", "begin"), Some(Event::RestoreBegin)),
            (("migrate", "end"), None),
            (("start", "begin"), None),
            (("prepare", "begin"), None),
            (("release", "end"), None),
            (("reconnect", "begin"), None),
        ] {
            assert_eq!(Event::from_words(words.0, words.1), event, "{words:?}");
        }
    }

    #[test]
    fn an_error_is_one_line() {
        let failure = Failure::new("cannot convert web.save")
            .with_cause(std::io::Error::other("no space"))
            .with_hint("free some space");
        assert_eq!(
            failure_line(&failure),
            "cannot convert web.save: no space; free some space"
        );
    }
}
