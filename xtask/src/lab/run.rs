//! `cargo xtask lab run`: a command of this workspace in one emulated host, to look at something.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::Lab;
use super::boot::Host;
use super::cpu::Cpu;
use super::job::{Job, quoted};
use super::options::Options;
use super::record::chosen;
use crate::Result;

/// `cargo xtask lab run`.
///
/// # Errors
/// If the host does not boot, or the command does not succeed.
pub(super) fn run(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(
        arguments,
        &[
            "--kernel",
            "--kernel-image",
            "--cpu",
            "--package",
            "--file",
            "-o",
        ],
        &["--qemu"],
    )?;
    if options.words.is_empty() {
        return Err(
            "run wants -- COMMAND: cargo xtask lab run --kernel 6.12.107 -- cpreg hosts".into(),
        );
    }
    if options.all("--kernel").len() + options.all("--kernel-image").len() != 1 {
        return Err("run wants one --kernel VERSION or --kernel-image FILE".into());
    }
    let kernels = chosen(lab, &options)?;
    let kernel = kernels.first().ok_or("no kernel")?;
    let cpu = Cpu::parse(options.last("--cpu").unwrap_or("neoverse-n1"))?;
    let mut packages = options.all("--package");
    if packages.is_empty() {
        packages.push("cpreg-cli");
    }
    let built = lab.programs(&packages)?;
    lab.prepare(options.has("--qemu"))?;

    let mut script = String::from("cd /job\n");
    for word in &options.words {
        write!(script, "{} ", quoted(word))?;
    }
    script += "> /out/stdout 2> /out/stderr\n";
    let mut job = Job {
        script,
        programs: programs(&built)?,
        needs_roots: options.has("--qemu"),
        ..Job::default()
    };
    for file in options.all("--file") {
        let path = PathBuf::from(file);
        let name = path.file_name().ok_or("a file without a name")?;
        job.files.push((name.to_string_lossy().into_owned(), path));
    }
    let host = Host::new(kernel, &cpu);
    let results = options.last("-o").map_or_else(
        || lab.folder.join("results/run").join(host.name()),
        PathBuf::from,
    );
    if options.last("-o").is_some() && results.exists() {
        return Err(format!("{} is there already", results.display()).into());
    }
    let start = std::time::Instant::now();
    host.run(lab, &job, &results)?;
    for name in ["stdout", "stderr"] {
        let said = fs::read(results.join(name)).unwrap_or_default();
        print!("{}", String::from_utf8_lossy(&said));
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

/// The programs in a folder that cargo built into.
fn programs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let plain = !name.to_string_lossy().contains('.');
        if entry.file_type()?.is_file() && plain {
            programs.push(entry.path());
        }
    }
    Ok(programs)
}
