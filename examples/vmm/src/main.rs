//! Command `cpreg-vmm`: reads arguments, prints lines that a script can parse. The library does the
//! work.

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
        "failed: cpreg-vmm needs KVM on arm64 Linux, which this machine lacks; `cargo xtask lab migrate` runs it in emulated hosts"
    );
    ExitCode::from(2)
}
