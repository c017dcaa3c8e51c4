//! Lines that libvirt prints: its additions to QEMU's lines, and lines of its own.
//!
//! - `QEMU unexpectedly closed the monitor (vm='VM'): …` (up to 9.0: `qemu …`): QEMU exited. Its
//!   last lines follow.
//! - `process exited while connecting to monitor: …`: QEMU exited at its start. Its last lines
//!   follow.
//! - `operation failed: job 'migration in' failed: …`, `job 'migration out' failed: …`: the error
//!   that QEMU reported on one side.
//! - `operation failed: migration out job: unexpectedly failed`: up to 8.x, nothing more was known.
//! - `guest CPU doesn't match specification: …`: libvirt's own comparison of the guest's CPU.
//!
//! Sources: libvirt's `qemu_monitor.c`, `qemu_migration.c` and `qemu_process.c`, and lines in
//! public reports. The parser ignores times and host names in front of a line.

use alloc::vec::Vec;

use crate::message::{Emitter, Statement, Symptom};
use crate::pattern::{Cursor, Pattern, scan, to_name};

/// Parses the statements of libvirt in a line, each with its byte offset.
pub(crate) fn parse(line: &str) -> Vec<(usize, Statement)> {
    scan(line, Emitter::LIBVIRT, PATTERNS)
}

const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("unexpectedly closed the monitor", |rest| {
        Some(monitor_closed(rest))
    }),
    Pattern::for_any_version("process exited while connecting to monitor", |rest| {
        Some(monitor_closed(rest))
    }),
    Pattern::for_any_version("job '", |rest| job_failed(rest, "' failed")),
    Pattern::for_any_version("operation failed: ", |rest| {
        job_failed(rest, " job: unexpectedly failed")
    }),
    Pattern::for_any_version("guest CPU doesn't match specification: ", |rest| {
        Some(Symptom::GuestCpu {
            features: to_name(rest.rest_of_line().split(['\'', '"']).next()?),
        })
    }),
];

fn monitor_closed(rest: &mut Cursor<'_>) -> Symptom {
    let vm = rest
        .expect(" (vm='")
        .and_then(|()| rest.take_until("')"))
        .map(to_name);
    Symptom::MonitorClosed { vm }
}

fn job_failed(rest: &mut Cursor<'_>, end: &str) -> Option<Symptom> {
    let job = rest.take_until(end)?;
    let is_job = job
        .chars()
        .all(|character| character.is_ascii_lowercase() || character == ' ');
    (is_job && !job.is_empty()).then(|| Symptom::JobFailed { job: to_name(job) })
}
