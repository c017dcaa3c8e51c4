//! VMs in snapshots of a qcow2 disk: one QEMU saves the VM with `savevm`, another loads it with
//! `-loadvm`.
//!
//! 1. The destination does not load the snapshot as it is.
//! 2. `cpreg convert DISK#NAME PROFILE --in-place` changes the snapshot in the disk image.
//!    `qemu-img check` finds no errors, and the disk has the same content.
//! 3. The destination loads the snapshot, and the guest runs.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cpreg_qemu::qmp::WaitOptions;
use e2e_framework::Result;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::guest::Guests;
use e2e_framework::machine::{RunningMachine, TimersExpired};
use e2e_framework::qemu::Qemu;
use e2e_framework::tool::{self, Tool};
use serde_json::json;

use super::cases::Case;
use super::checks::{assert_no_differences, check_timers};

/// Timeout for one command of QEMU.
const TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(120));
const NAME: &str = "suspend";
const QEMU_IMG: Tool = Tool {
    program: "qemu-img",
    package: "qemu-utils",
};

/// Programs that a case uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Programs<'p> {
    pub(crate) source: &'p Qemu,
    pub(crate) destination: &'p Qemu,
    pub(crate) guests: &'p Guests,
    pub(crate) cpreg: &'p Cpreg,
}

/// Runs the case and returns a summary.
///
/// # Errors
/// Returns an error if a step fails, with the details.
pub(crate) fn run(case: &Case, programs: &Programs<'_>, folder: &Path) -> Result<String> {
    tool::ensure_installed(&[QEMU_IMG])?;
    let disk = folder.join("disk.qcow2");
    let copy = folder.join("copy.qcow2");
    let profile = folder.join("profile");
    let mut create = qemu_img(&["create", "-q", "-f", "qcow2"]);
    tool::run(create.arg(&disk).arg("16M"))?;
    save(case, programs, &disk)?;
    fs::copy(&disk, &copy)?;

    let destination = case.machine.command(programs.destination, programs.guests);
    let refusal = match load(&destination, &disk) {
        Ok(_) => return Err("the destination loads the snapshot as it is".into()),
        Err(error) => error.to_string(),
    };
    let outcome = refusal
        .lines()
        .rfind(|line| line.contains("while loading VM state"))
        .ok_or_else(|| format!("QEMU failed for another reason: {refusal}"))?;
    let outcome = outcome.rsplit("qemu-system-aarch64: ").next();

    programs.cpreg.probe(&destination, &profile)?;
    let vm = format!("{}#{NAME}", disk.display());
    let check = programs.cpreg.check(Path::new(&vm), &profile, &[])?;
    let mut convert = Command::new(programs.cpreg.program());
    convert
        .args(["convert", &vm])
        .arg(&profile)
        .arg("--in-place");
    tool::run(&mut convert)?;
    tool::run(qemu_img(&["check", "-q"]).arg(&disk))?;
    tool::run(qemu_img(&["compare", "-q"]).args([&disk, &copy]))?;

    let mut running = load(&destination, &disk)?;
    let findings = running.findings(&case.machine, false)?;
    check_timers(case, &findings)?;
    let unannounced = check.unannounced_differences(&findings.differences);
    assert_no_differences(unannounced.into_iter())?;
    Ok(format!(
        "as it is: {}; converted in place, the guest runs",
        outcome.unwrap_or_default()
    ))
}

fn qemu_img(arguments: &[&str]) -> Command {
    let mut command = Command::new(QEMU_IMG.program);
    command.args(arguments);
    command
}

/// Returns the options for a disk that no device uses.
fn disk_option(disk: &Path) -> String {
    format!("if=none,id=disk,format=qcow2,file={}", disk.display())
}

/// Starts the machine at the source, waits until the guest has written its registers, and saves it.
fn save(case: &Case, programs: &Programs<'_>, disk: &Path) -> Result<()> {
    let start = Instant::now();
    let command = case.machine.command(programs.source, programs.guests);
    let mut running = RunningMachine::start(&command, &["-drive", &disk_option(disk)])?;
    let ready = running.serial().wait_until_ready(case.machine.vcpus);
    running.with_output(ready)?;
    let line = json!({"command-line": format!("savevm {NAME}")});
    let saved = running
        .qemu()
        .execute("human-monitor-command", line, &TIMEOUT);
    let output = running.with_output(saved.map_err(Into::into))?;
    // The monitor prints only errors.
    if let Some(text) = output.as_str().filter(|text| !text.trim().is_empty()) {
        return Err(format!("savevm: {text}").into());
    }
    if start.elapsed() > Duration::from_secs(case.machine.timer_seconds.into()) * 2 / 3 {
        return Err(TimersExpired.into());
    }
    Ok(())
}

/// Loads the snapshot; the machine is paused then.
fn load(command: &[OsString], disk: &Path) -> Result<RunningMachine> {
    let option = disk_option(disk);
    let mut running = RunningMachine::start(command, &["-S", "-drive", &option, "-loadvm", NAME])?;
    let status = running.qemu().execute("query-status", json!({}), &TIMEOUT);
    running.with_output(status.map_err(Into::into))?;
    Ok(running)
}
