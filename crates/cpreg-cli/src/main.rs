//! Command `cpreg`: parses arguments, runs a command, prints its report.
//!
//! | module | content |
//! |---|---|
//! | [`arguments`] | command line |
//! | [`commands`] | commands, one file each |
//! | [`input`] | readable files of every kind, recognised by content |
//! | [`interrupt`] | Ctrl-C while a QEMU runs |
//! | [`destination`] | resolution of DESTINATION |
//! | [`fleet_hosts`] | hosts of the commands about many hosts |
//! | [`local_process`] | the process at the other end of a monitor |
//! | [`local_facts`] | properties of this machine that its guests see |
//! | [`source_host`] | the host that a VM ran on: `--from` |
//! | [`completion`] | completion of arguments in a shell |
//! | [`consents`] | the user's consents, from the command line |
//! | [`tolerances`] | the table of tolerances, with the entries of the operator's files |
//! | [`tolerance_file`], [`default_tolerances`] | the entries of a file; the default files |
//! | [`names`] | registers, fields, values and numbers as a user types them |
//! | [`suggestion`] | names that a user may mean |
//! | [`contents`], [`core_registers`] | content of a file, as a report shows it |
//! | [`plan_settings`] | tolerances and consents for plans of many VMs |
//! | [`platform`] | the machine that runs this program |
//! | [`printer`] | log lines and error messages |
//! | [`progress`] | progress on a terminal |
//! | [`failure`] | error type and exit status |
//! | [`error_output`] | form and place of an error: text, JSON |
//! | [`first_steps`] | text of `cpreg` without arguments |
//! | `reference` | docs/cli.md, and the test that it is current |
//!
//! The crate `cpreg`, not this one, decides the effect of a difference between hosts.
#![forbid(unsafe_code)]

mod arguments;
mod command_line;
mod commands;
mod completion;
mod consents;
mod contents;
mod core_registers;
mod default_tolerances;
mod destination;
mod error_output;
mod failure;
mod first_steps;
mod fleet_hosts;
mod input;
mod interrupt;
mod journal;
mod local_facts;
mod local_process;
mod names;
mod plan_settings;
mod platform;
mod printer;
mod progress;
#[cfg(test)]
mod reference;
mod small_file;
mod source_host;
mod suggestion;
mod tolerance_file;
mod tolerances;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};
use error_output::ErrorOutput;
use failure::{Failure, Status};
use printer::Printer;

fn main() -> ExitCode {
    completion::complete();
    // As clap does for a missing command: standard error and exit status 2.
    if std::env::args_os().len() <= 1 {
        printer::print_usage(&first_steps::text());
        return Status::Error.into();
    }
    let error_output = ErrorOutput::from_words(std::env::args_os().skip(1));
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return print_clap_message(&error, error_output).into(),
    };
    printer::set_color(arguments.color);
    let is_on_stderr = matches!(arguments.command, Command::Filter(_));
    let mut printer = Printer::with_width(printer::report_width(is_on_stderr));
    let status =
        run(&arguments, &mut printer).and_then(|status| match printer::finish(&mut printer) {
            // Ignore `EPIPE` on standard output; the command is complete.
            Err(failure) if failure.is_broken_pipe() => Ok(status),
            finished => finished.map(|()| status),
        });
    status
        .unwrap_or_else(|failure| {
            error_output.print(&failure);
            failure.status()
        })
        .into()
}

/// Prints a message of clap: an error in the command line, `--help` or `--version`.
fn print_clap_message(message: &clap::Error, error_output: ErrorOutput) -> Status {
    if message.use_stderr() {
        let hint = command_line::missing_argument_hint(message);
        if error_output.has_text() {
            // A failure to write to standard error can be reported nowhere.
            let _ = message.print();
            hint.into_iter().for_each(printer::print_hint);
        }
        let failure = error_output::usage_failure(&message.render().to_string());
        let failure = hint.into_iter().fold(failure, Failure::with_hint);
        error_output.print_document(&failure);
        return Status::Error;
    }
    match message.print() {
        // Ignore `EPIPE` on standard output, as for reports.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            error_output.print(&printer::output_failure("standard output", error));
            Status::Error
        }
        _ => Status::Success,
    }
}

fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Status, Failure> {
    match &arguments.command {
        Command::Show(arguments) => commands::show::run(arguments, printer),
        Command::Check(arguments) => commands::check::run(arguments, printer),
        Command::Matrix(arguments) => commands::matrix::run(arguments, printer),
        Command::Classes(arguments) => commands::classes::run(arguments, printer),
        Command::Key(arguments) => commands::key::run(arguments, printer),
        Command::Fleet(arguments) => commands::fleet::run(arguments, printer),
        Command::Rehearse(arguments) => commands::rehearse::run(arguments, printer),
        Command::Convert(arguments) => commands::convert::run(arguments, printer),
        Command::Filter(arguments) => commands::filter::run(arguments, printer),
        #[cfg(target_os = "linux")]
        Command::Relay(arguments) => commands::relay::run(arguments, printer),
        #[cfg(target_os = "linux")]
        Command::Run(arguments) => commands::run::run(arguments, printer),
        #[cfg(target_os = "linux")]
        Command::Install(arguments) => commands::install::run(arguments, printer),
        #[cfg(target_os = "linux")]
        Command::Hook(arguments) => commands::hook::run(arguments, printer),
        Command::Baseline(arguments) => commands::baseline::run(arguments, printer),
        Command::Diff(arguments) => commands::diff::run(arguments, printer),
        Command::Explain(arguments) => commands::explain::run(arguments, printer),
        Command::Tolerances(arguments) => commands::tolerances::run(arguments, printer),
        Command::Probe(arguments) => commands::probe::run(arguments, printer),
        Command::Hosts(arguments) => commands::hosts::run(arguments, printer),
        Command::Report(arguments) => commands::report::run(arguments, printer),
        #[cfg(target_os = "linux")]
        Command::GuestCheck(arguments) => commands::guest_check::run(arguments, printer),
        Command::Completions(arguments) => commands::completions::run(arguments, printer),
        Command::ManPages(arguments) => commands::man_pages::run(arguments, printer),
        #[cfg(target_os = "linux")]
        Command::RelayGuard => commands::relay_guard::run(printer),
    }
}
