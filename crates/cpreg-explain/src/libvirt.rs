//! What libvirt puts around QEMU's words, and what it says itself.
//!
//! | words | it means |
//! |---|---|
//! | `QEMU unexpectedly closed the monitor (vm='VM'): …` (to 9.0: `qemu …`) | QEMU ended; its last lines follow |
//! | `process exited while connecting to monitor: …` | likewise, at the start |
//! | `operation failed: job 'migration in' failed: …`, `job 'migration out' failed: …` | what QEMU answered, of one side |
//! | `operation failed: migration out job: unexpectedly failed` | to 8.x: nothing more was known |
//! | `guest CPU doesn't match specification: …` | its own comparison of the guest's CPU |
//!
//! Sources: libvirt's `qemu_monitor.c`, `qemu_migration.c` and `qemu_process.c`; lines in public reports. Times and host names before a line
//! are nobody's words.

use alloc::vec::Vec;

use cpreg::destination::Versions;

use crate::message::{Said, Speaker, Symptom};
use crate::pattern::{Phrase, Rest, owned, scan};

/// What libvirt says in the line, each with where it begins.
pub(crate) fn read(line: &str) -> Vec<(usize, Said)> {
    scan(line, Speaker::LIBVIRT, PHRASES)
}

const PHRASES: &[Phrase] = &[
    Phrase {
        begins: "unexpectedly closed the monitor",
        versions: Versions::ANY,
        read: |rest| Some(monitor_closed(rest)),
    },
    Phrase {
        begins: "process exited while connecting to monitor",
        versions: Versions::ANY,
        read: |rest| Some(monitor_closed(rest)),
    },
    Phrase {
        begins: "job '",
        versions: Versions::ANY,
        read: |rest| job_failed(rest, "' failed"),
    },
    Phrase {
        begins: "operation failed: ",
        versions: Versions::ANY,
        read: |rest| job_failed(rest, " job: unexpectedly failed"),
    },
    Phrase {
        begins: "guest CPU doesn't match specification: ",
        versions: Versions::ANY,
        read: |rest| {
            Some(Symptom::GuestCpu {
                features: owned(rest.line().split(['\'', '"']).next()?),
            })
        },
    },
];

fn monitor_closed(rest: &mut Rest<'_>) -> Symptom {
    let vm = rest
        .eat(" (vm='")
        .and_then(|()| rest.until("')"))
        .map(owned);
    Symptom::MonitorClosed { vm }
}

fn job_failed(rest: &mut Rest<'_>, end: &str) -> Option<Symptom> {
    let job = rest.until(end)?;
    let is_job = job
        .chars()
        .all(|character| character.is_ascii_lowercase() || character == ' ');
    (is_job && !job.is_empty()).then(|| Symptom::JobFailed { job: owned(job) })
}
