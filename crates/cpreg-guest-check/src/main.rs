//! Program `cpreg-guest-check`, for inside an arm64 Linux guest.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use cpreg_guest_check::arguments::GuestCheckArgs;
use cpreg_guest_check::run::run;

/// Checks inside an arm64 Linux guest that a move changed nothing that the guest relies on.
///
/// Exit status: 0 nothing found; 1 a difference was found; 2 bad usage or bad input; 3 a check was
/// not possible.
#[derive(Debug, Parser)]
#[command(name = "cpreg-guest-check", version)]
struct Arguments {
    #[command(flatten)]
    guest_check: GuestCheckArgs,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.guest_check, &mut io::stdout()) {
        Ok(result) => result.exit_status().into(),
        Err(error) => {
            // A failure to write to standard error can be reported nowhere.
            let _ = writeln!(io::stderr(), "error: {error}");
            2.into()
        }
    }
}
