//! Cost of a VMM's calls with `libcpreg_interpose.so`, in front of a fake KVM.
//!
//! `fake-vmm` measures each kind of call in its own process. The baseline is the same process
//! without the library.

use std::env;
use std::path::Path;
use std::process::Command;

use e2e_framework::paths::repository;
use e2e_framework::{Result, tool};

use crate::inputs::{RUNS, SOURCE};

/// Recorded host of the fake KVM.
const HOST: &str = "linux-6.16.12/neoverse-n1/pmu";
/// Number of calls of each kind in one process.
const CALLS: &str = "200000";
/// Number of vCPUs of the VM.
const VCPUS: &str = "16";

/// Kinds of calls: member of `fake-vmm`'s output, and case of the table.
const KINDS: [(&str, &str); 6] = [
    ("other", "a call that is not KVM's"),
    ("own_write", "a register write before the incoming state"),
    ("load", "a register write of the incoming state"),
    (
        "plan",
        "the first write after the load: the plan for the VM",
    ),
    ("post_init", "a register write after the load"),
    ("run", "KVM_RUN after the first"),
];

/// Measures the calls, and prints a row for each kind.
pub(crate) fn run() -> Result<()> {
    let mut build = Command::new("cargo");
    build.args([
        "build",
        "--release",
        "-p",
        "cpreg-interpose",
        "-p",
        "e2e-fake-kvm",
    ]);
    tool::run(build.current_dir(repository()))?;
    let program = env::current_exe()?;
    let folder = program.parent().ok_or("the program has no folder")?;
    let inputs = tempfile::tempdir()?;
    let values = inputs.path().join("values");
    let stream = repository().join(format!("tests/fixtures/streams/{SOURCE}.stream.xz"));
    let vmm = folder.join("fake-vmm");
    let prepare = |arguments: &[&str]| -> Result<String> {
        let output = Command::new(&vmm).args(arguments).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let path = stream.to_str().ok_or("the path is not UTF-8")?;
    std::fs::write(&values, prepare(&["values", path, VCPUS])?)?;
    let policy = prepare(&["policy", HOST])?;

    let fake = folder.join("libe2e_fake_kvm.so").display().to_string();
    let library = folder.join("libcpreg_interpose.so").display().to_string();
    let both = format!("{library}:{fake}");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        with.push(measure(&vmm, &values, &both, &policy)?);
        without.push(measure(&vmm, &values, &fake, &policy)?);
    }
    println!(
        "{:<52}{:>10}{:>10}{:>12}",
        "call", "median", "baseline", "difference"
    );
    for (member, case) in KINDS {
        let median = |runs: &[serde_json::Value]| {
            let mut times: Vec<_> = runs.iter().filter_map(|run| run[member].as_f64()).collect();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (median, baseline) = (median(&with), median(&without));
        println!(
            "{case:<52}{median:>8.1}ns{baseline:>8.1}ns{:>10.1}ns",
            median - baseline
        );
    }
    Ok(())
}

/// Returns nanoseconds per call of each kind, of one process.
fn measure(vmm: &Path, values: &Path, preload: &str, policy: &str) -> Result<serde_json::Value> {
    let mut command = Command::new(vmm);
    command.arg("cost").arg(values).arg(CALLS);
    command
        .env("LD_PRELOAD", preload)
        .env("CPREG_INTERPOSE", policy)
        .env("CPREG_INTERPOSE_FAKE_KVM", "1")
        .env("FAKE_KVM_HOST", HOST)
        .env("FAKE_KVM_VCPUS", VCPUS);
    let output = command.output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("fake-vmm: {}: {text}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
