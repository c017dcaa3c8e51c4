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

use crate::message::{Emitter, Symptom};
use crate::pattern::{Cursor, Pattern, PatternTable, to_name};

/// Table of libvirt's patterns.
pub(crate) const TABLE: PatternTable = PatternTable {
    emitter: Emitter::LIBVIRT,
    patterns: PATTERNS,
};

const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("unexpectedly closed the monitor", |rest| {
        Some(parse_closed_monitor(rest, false))
    }),
    Pattern::for_any_version("process exited while connecting to monitor", |rest| {
        Some(parse_closed_monitor(rest, true))
    }),
    Pattern::for_any_version("job '", |rest| parse_failed_job(rest, "' failed")),
    Pattern::for_any_version("operation failed: ", |rest| {
        parse_failed_job(rest, " job: unexpectedly failed")
    }),
    Pattern::for_any_version("guest CPU doesn't match specification: ", parse_guest_cpu),
    // YAML doubles the quote.
    Pattern::for_any_version("guest CPU doesn''t match specification: ", parse_guest_cpu),
];

fn parse_guest_cpu(rest: &mut Cursor<'_>) -> Option<Symptom> {
    Some(Symptom::GuestCpu {
        features: to_name(rest.rest_of_line().split(['\'', '"']).next()?),
    })
}

fn parse_closed_monitor(rest: &mut Cursor<'_>, is_start: bool) -> Symptom {
    let vm = rest
        .expect(" (vm='")
        .and_then(|()| rest.take_until("')"))
        .map(to_name);
    Symptom::MonitorClosed { vm, is_start }
}

fn parse_failed_job(rest: &mut Cursor<'_>, end: &str) -> Option<Symptom> {
    // Other programs have jobs too, and print the same words.
    const JOBS: [&str; 6] = [
        "migration in",
        "migration out",
        "save",
        "restore",
        "dump",
        "snapshot",
    ];
    let job = rest.take_until(end)?;
    JOBS.contains(&job)
        .then(|| Symptom::JobFailed { job: to_name(job) })
}
