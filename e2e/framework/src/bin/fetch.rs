//! Prepares a machine for the end-to-end tests: installs the programs that tests start, and fetches
//! QEMUs.
#![forbid(unsafe_code)]
// The command prints for the user.
#![expect(clippy::print_stdout)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e_framework::lab::toolchain;
use e2e_framework::tool::{self, Tool};
use e2e_framework::{Result, debian, guest, qemu};

/// Fetch the inputs of the end-to-end tests
#[derive(Debug, Parser)]
#[command(name = "e2e-fetch", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    target: FetchTarget,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum FetchTarget {
    /// Install the programs that tests start (needs Debian and root)
    Tools,
    /// Fetch the QEMUs of the live tests into the lab folder
    Qemus,
}

/// Programs that compress save images of libvirt.
const COMPRESSORS: [Tool; 4] = [
    Tool {
        program: "gzip",
        package: "gzip",
    },
    Tool {
        program: "bzip2",
        package: "bzip2",
    },
    Tool {
        program: "lzop",
        package: "lzop",
    },
    Tool {
        program: "zstd",
        package: "zstd",
    },
];

/// Compiler for the output of `cpreg tolerances --export qemu`.
const GCC: Tool = Tool {
    program: "gcc",
    package: "gcc",
};

/// Shells for which `cpreg completions` has scripts, the formatter of man pages, and the program
/// that checks systemd's units.
const SHELLS: [Tool; 5] = [
    Tool {
        program: "bash",
        package: "bash",
    },
    Tool {
        program: "zsh",
        package: "zsh",
    },
    Tool {
        program: "fish",
        package: "fish",
    },
    Tool {
        program: "mandoc",
        package: "mandoc",
    },
    Tool {
        program: "systemd-analyze",
        package: "systemd",
    },
];

fn main() -> ExitCode {
    e2e_framework::exit_code(run(Arguments::parse().target).map(|()| true))
}

fn run(target: FetchTarget) -> Result<()> {
    match target {
        FetchTarget::Tools => {
            let tools = [
                &[GCC],
                &SHELLS[..],
                &toolchain::TOOLS,
                &guest::TOOLS,
                &debian::TOOLS,
                &COMPRESSORS,
                &tool::BROWSER,
            ];
            tool::ensure_installed(&tools.concat())
        }
        FetchTarget::Qemus => {
            for qemu in qemu::ensure()? {
                println!("{}\n  {}", qemu.version, qemu.program().display());
            }
            Ok(())
        }
    }
}
