//! `cargo xtask lab run`: runs a command of this workspace in one emulated host, for experiments.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::options::{DEFAULT_CPU, KernelArgs};
use clap::Args;
use e2e_framework::Result;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::{Job, shell_quote};

/// Run a command of this workspace in one emulated host
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    kernels: KernelArgs,
    /// CPU model
    #[arg(long, value_name = "MODEL[+MODE]", value_parser = Cpu::parse, default_value = DEFAULT_CPU)]
    cpu: Cpu,
    /// Package whose programs are available (repeatable; default: cpreg-cli)
    #[arg(long = "package", value_name = "NAME")]
    packages: Vec<String>,
    /// File for the folder in which the command runs (repeatable)
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Make the arm64 QEMUs available in /roots
    #[arg(long)]
    qemu: bool,
    /// Folder for the files that the command leaves in /out
    #[arg(short = 'o', long = "output", value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs `cargo xtask lab run`.
///
/// # Errors
/// Returns an error if the host does not boot, or the command does not succeed.
pub(crate) fn run(lab: &Lab, arguments: &RunArgs) -> Result<()> {
    let kernel = &arguments.kernels.get_one(lab)?;
    let mut packages: Vec<_> = arguments.packages.iter().map(String::as_str).collect();
    if packages.is_empty() {
        packages.push("cpreg-cli");
    }
    let programs_folder = lab.build_programs(&packages)?;
    lab.prepare(arguments.qemu)?;

    let mut script = String::from("cd /job\n");
    for word in &arguments.command {
        write!(script, "{} ", shell_quote(word))?;
    }
    script += "> /out/stdout 2> /out/stderr\n";
    let mut job = Job {
        script,
        programs: programs_in(&programs_folder)?,
        needs_roots: arguments.qemu,
        ..Job::default()
    };
    for path in &arguments.files {
        let name = path.file_name().ok_or("a file without a name")?;
        let name = name.to_string_lossy().into_owned();
        job.files.push((name, path.clone()));
    }
    let host = EmulatedHost::new(kernel, &arguments.cpu);
    let results = arguments.folder.clone();
    let results = results.unwrap_or_else(|| lab.folder.join("results/run").join(host.name()));
    if arguments.folder.is_some() && results.exists() {
        return Err(format!("{} exists already", results.display()).into());
    }
    let start = std::time::Instant::now();
    host.run(lab, &job, &results)?;
    for name in ["stdout", "stderr"] {
        let output = fs::read(results.join(name)).unwrap_or_default();
        print!("{}", String::from_utf8_lossy(&output));
    }
    let status = fs::read_to_string(results.join("status"))?;
    eprintln!(
        "{}: exit status {}, {:.1?}; results in {}",
        host.name(),
        status.trim(),
        start.elapsed(),
        results.display()
    );
    if status.trim() == "0" {
        Ok(())
    } else {
        Err(format!("the command ended with {}", status.trim()).into())
    }
}

/// Returns the programs in an output folder of cargo.
fn programs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let has_no_extension = !name.to_string_lossy().contains('.');
        if entry.file_type()?.is_file() && has_no_extension {
            programs.push(entry.path());
        }
    }
    Ok(programs)
}
