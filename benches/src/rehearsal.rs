//! Cost of a rehearsal of a VM of 8 GiB, with each QEMU of the live tests, compared with QEMU's own
//! start.
//!
//! The baseline starts the same QEMU, waits until its monitor answers, and ends it.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use cpreg_qemu::process::QemuProcess;
use cpreg_qemu::qmp::WaitOptions;

use crate::inputs::RUNS;
use crate::measure::{self, Cost};
use e2e_framework::large_vm::LargeVm;
use e2e_framework::{Result, qemu};

/// Costs with one QEMU.
pub(crate) struct RehearsalCost {
    pub(crate) case: String,
    pub(crate) rehearsal: Cost,
    pub(crate) start: Cost,
}

/// Measures a rehearsal and a start of every QEMU.
pub(crate) fn run(cpreg: &str, folder: &Path) -> Result<Vec<RehearsalCost>> {
    let mut rows = Vec::new();
    for qemu in qemu::ensure()? {
        let folder = folder.join(qemu.series);
        std::fs::create_dir(&folder)?;
        let options =
            "-nodefaults -display none -machine virt-5.2 -cpu cortex-a57 -m 64 -accel tcg";
        let mut command = vec![qemu.program().into_os_string()];
        command.extend(options.split(' ').map(OsString::from));
        let large = LargeVm::make(command, &folder)?;
        let words = |command: &[OsString]| -> Vec<String> {
            let words = command
                .iter()
                .map(|word| word.to_string_lossy().into_owned());
            words.collect()
        };
        let this_program = env::current_exe()?.display().to_string();
        let stream = large.stream.display().to_string();
        let rehearse = [cpreg, "rehearse", &stream, "--"].map(str::to_owned);
        let rehearse = [rehearse.to_vec(), words(&large.command)].concat();
        let start = [this_program, "start-qemu".to_owned()];
        let start = [start.to_vec(), words(&large.command)].concat();
        let run = |command: &[String]| {
            let command: Vec<_> = command.iter().map(String::as_str).collect();
            measure::run(&folder, &command)
        };
        let (rehearsal, start) =
            measure::run_alternating(RUNS, || Ok(()), || run(&rehearse), || run(&start))?;
        rows.push(RehearsalCost {
            case: format!("rehearse 8 GiB of RAM, QEMU {}", qemu.series),
            rehearsal,
            start,
        });
    }
    Ok(rows)
}

/// Runs `start-qemu COMMAND…`: starts a QEMU as a rehearsal does, and ends it.
pub(crate) fn start_qemu(command: &[&str]) -> Result<()> {
    let command: Vec<OsString> = command.iter().map(OsString::from).collect();
    let additions = ["-S", "-incoming", "defer"].map(OsString::from);
    let options = WaitOptions::with_timeout(Duration::from_secs(60));
    QemuProcess::start(&command, &additions, &options)?.quit()?;
    Ok(())
}
