//! The exported functions, and the start of the library.
#![expect(unsafe_code, reason = "functions of the C library")]

use std::ffi::{c_int, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use cpreg_vcpu_filter::Policy;

use crate::interposer::{Answer, INTERNAL_ERROR};
use crate::next::{self, NextCalls};
use crate::process::Process;
use crate::{log, requests};

/// Variable with the policy.
const POLICY_VARIABLE: &str = "CPREG_INTERPOSE";
/// Value of the variable that switches the library off.
const OFF: &str = "off";
/// Variable that switches the library on for a fake KVM, on machines other than arm64.
const FAKE_KVM_VARIABLE: &str = "CPREG_INTERPOSE_FAKE_KVM";

/// Exit status of a process whose VM must not run, or whose policy is broken.
const EXIT_REFUSED: c_int = 1;

/// Without a policy all calls pass.
static PROCESS: Process<NextCalls> = Process::new();

/// Function that the dynamic linker calls when it has loaded the library.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    next::resolve();
    if catch_unwind(read_policy).is_err() {
        end("the library cannot start");
    }
}

/// Reads the policy. A broken policy ends the process before the VMM starts.
fn read_policy() {
    let Some(text) = std::env::var_os(POLICY_VARIABLE) else {
        return;
    };
    if text.is_empty() || text == OFF {
        return;
    }
    let policy = text
        .to_str()
        .map(|text| Policy::from_json(text, std::env::args_os()));
    match policy {
        Some(Ok(mut policy)) if has_arm64_registers() => {
            // The policy in a libvirt domain has no facts of a host, because it moves with the VM.
            let release = policy.host.kernel_release.take();
            policy.host.kernel_release = release.or_else(kernel_release);
            PROCESS.set_policy(policy);
            next::call_in_child(forget);
        }
        Some(Ok(_)) => {}
        Some(Err(error)) => end(format_args!("{POLICY_VARIABLE}: {error}")),
        None => end(format_args!("{POLICY_VARIABLE} is not UTF-8")),
    }
}

/// Returns `true` if KVM's registers are those of arm64.
fn has_arm64_registers() -> bool {
    cfg!(target_arch = "aarch64") || std::env::var_os(FAKE_KVM_VARIABLE).is_some()
}

/// Begins anew in the child of a `fork`.
extern "C" fn forget() {
    PROCESS.forget();
}

/// Returns the release of the running kernel (`uname -r`).
fn kernel_release() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(text.trim_end().to_owned())
}

/// Ends the process without running its exit handlers, which may wait for vCPUs.
fn end(message: impl std::fmt::Display) -> ! {
    log::print(message);
    // SAFETY: The function has no conditions.
    unsafe { libc::_exit(EXIT_REFUSED) }
}

/// Replaces the C library's `ioctl`.
///
/// # Safety
/// As for `ioctl(2)`: the argument must be valid for the request.
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // The kernel ignores the upper half, into which some VMMs extend the sign.
    let number = u32::try_from(request & 0xffff_ffff).unwrap_or(0);
    let interposer = PROCESS.for_request(number);
    let interposer = interposer.filter(|interposer| !interposer.passes(descriptor, number));
    let Some(interposer) = interposer else {
        // SAFETY: The call is as it came.
        return unsafe { next::ioctl(descriptor, request, argument) };
    };
    let errno = next::errno();
    let handle = AssertUnwindSafe(|| {
        // SAFETY: The argument is valid for the request.
        unsafe { interposer.ioctl(descriptor, number, argument) }
    });
    match catch_unwind(handle) {
        Ok(Answer::Success(result)) => {
            next::set_errno(errno);
            result
        }
        Ok(Answer::Failure(errno)) => {
            next::set_errno(errno);
            -1
        }
        Ok(Answer::End(message)) => end(message),
        Err(_) if number == requests::RUN => end(INTERNAL_ERROR),
        result => {
            if result.is_err() {
                log::print("internal error; the call passes to the kernel as it came");
            }
            next::set_errno(errno);
            // SAFETY: The call is as it came.
            unsafe { next::ioctl(descriptor, request, argument) }
        }
    }
}

/// Replaces the C library's `close`.
///
/// # Safety
/// As for `close(2)`: the descriptor must belong to the caller.
#[unsafe(no_mangle)]
unsafe extern "C" fn close(descriptor: c_int) -> c_int {
    if let Some(interposer) = PROCESS.current() {
        let forget = AssertUnwindSafe(|| interposer.close(descriptor));
        if catch_unwind(forget).is_err() {
            log::print("internal error; the descriptor is closed");
        }
    }
    // SAFETY: The caller closes a descriptor of its own.
    unsafe { next::close(descriptor) }
}
