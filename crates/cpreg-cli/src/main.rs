//! The command `cpreg`: arguments in, reports out; nothing else.
//!
//! | module | what lives there |
//! |---|---|
//! | [`arguments`] | the command line |
//! | [`commands`] | one file a command |
//! | [`input`] | files of every kind that can be read, recognised by content |
//! | [`interrupt`] | Ctrl-C while a QEMU runs |
//! | [`destination`] | what DESTINATION names |
//! | [`consents`] | what the user decided, from the command line |
//! | [`tolerance_file`] | entries for the table of tolerances, from files |
//! | [`names`] | registers, fields and numbers as a user types them |
//! | [`contents`], [`general`] | what a file holds, as a report shows it |
//! | [`printer`] | progress, log lines, and why a command failed |
//! | [`failure`] | what went wrong, and the exit status |
//! | `reference` | docs/cli.md, and the test that it is current |
//!
//! What a difference between hosts means is decided in the crate `cpreg`, never here.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod consents;
mod contents;
mod core_registers;
mod destination;
mod failure;
mod input;
mod interrupt;
mod names;
mod printer;
#[cfg(test)]
mod reference;
mod tolerance_file;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};
use failure::{Failure, Status};
use printer::Printer;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` come this way as well.
            let status = if error.use_stderr() {
                Status::Error
            } else {
                Status::Success
            };
            return match error.print() {
                Ok(()) => status.into(),
                Err(_) => Status::Error.into(),
            };
        }
    };
    let mut printer = Printer::default();
    let status =
        run(&arguments, &mut printer).and_then(|status| match printer::finish(&mut printer) {
            // Who stops reading has read enough: what was asked for is done all the same.
            Err(failure) if failure.is_broken_pipe() => Ok(status),
            finished => finished.map(|()| status),
        });
    status
        .unwrap_or_else(|failure| {
            printer::print_failure(&failure);
            Status::Error
        })
        .into()
}

fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Status, Failure> {
    match &arguments.command {
        Command::Show(arguments) => commands::show::run(arguments, printer),
        Command::Check(arguments) => commands::check::run(arguments, printer),
        Command::Rehearse(arguments) => commands::rehearse::run(arguments, printer),
        Command::Convert(arguments) => commands::convert::run(arguments, printer),
        Command::Filter(arguments) => commands::filter::run(arguments, printer),
        #[cfg(target_os = "linux")]
        Command::Relay(arguments) => commands::relay::run(arguments, printer),
        Command::Diff(arguments) => commands::diff::run(arguments, printer),
        Command::Explain(arguments) => commands::explain::run(arguments, printer),
        Command::Tolerances(arguments) => commands::tolerances::run(arguments, printer),
        Command::Probe(arguments) => commands::probe::run(arguments, printer),
        Command::Hosts(arguments) => commands::hosts::run(arguments, printer),
        Command::Report(arguments) => commands::report::run(arguments, printer),
        #[cfg(target_os = "linux")]
        Command::RelayGuard => commands::relay_guard::run(printer),
    }
}
