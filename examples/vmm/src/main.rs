//! The command `cpreg-vmm`: arguments in, lines that a script can read out. What it does lives in the library.

mod arguments;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod commands;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod output;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    run(arguments::Arguments::parse())
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
fn run(arguments: arguments::Arguments) -> ExitCode {
    commands::run(arguments)
}

#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
fn run(_: arguments::Arguments) -> ExitCode {
    use std::io::Write;
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(
        stderr,
        "failed: cpreg-vmm needs KVM on Linux on arm64, and this is another machine; `cargo xtask lab migrate` runs it in emulated hosts"
    );
    ExitCode::from(2)
}
