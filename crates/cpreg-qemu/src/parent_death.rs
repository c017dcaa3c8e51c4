//! The end of a started QEMU together with cpreg, even if cpreg is killed (SIGKILL).

use std::process::Command;

/// Lets the kernel kill the process of `command` when the thread that spawns it ends.
///
/// Only Linux has such a signal (`PR_SET_PDEATHSIG`). It ends only the started program: QEMU
/// itself, or a launcher of the command line, such as `sudo`.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the request is made between fork and exec")]
pub(crate) fn end_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;

    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

    let parent = getpid();
    // SAFETY: Between fork and exec, the closure makes two system calls. It allocates nothing and
    // takes no lock.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() == Some(parent) {
                Ok(())
            } else {
                // The parent was killed before the request.
                Err(rustix::io::Errno::SRCH.into())
            }
        });
    }
}

/// Does nothing: this system has no such signal.
#[cfg(not(target_os = "linux"))]
pub(crate) const fn end_with_parent(_: &mut Command) {}
