//! The functions that the exported ones replace.
#![expect(unsafe_code, reason = "dlsym returns pointers to functions")]

use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::kernel::Calls;

type Ioctl = unsafe extern "C" fn(c_int, c_ulong, *mut c_void) -> c_int;
type Close = unsafe extern "C" fn(c_int) -> c_int;

static NEXT_IOCTL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static NEXT_CLOSE: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Finds the functions. Runs once, before the program's own code.
pub(crate) fn resolve() {
    let find = |name: &CStr| {
        // SAFETY: The name ends with a zero byte.
        unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
    };
    NEXT_IOCTL.store(find(c"ioctl"), Ordering::Release);
    NEXT_CLOSE.store(find(c"close"), Ordering::Release);
}

/// Calls the next `ioctl`, or the kernel before [`resolve`].
///
/// # Safety
/// The argument must be valid for the request.
pub(crate) unsafe fn ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let next = NEXT_IOCTL.load(Ordering::Acquire);
    if next.is_null() {
        // SAFETY: The caller fulfils the condition. The result of an ioctl fits an int.
        let result = unsafe { libc::syscall(libc::SYS_ioctl, descriptor, request, argument) };
        return c_int::try_from(result).unwrap_or(-1);
    }
    // SAFETY: The pointer is that of the C library's `ioctl`, or of another library's that replaces
    // it. On arm64 and x86-64 Linux a function receives a variable argument as any other.
    unsafe {
        let next: Ioctl = std::mem::transmute(next);
        next(descriptor, request, argument)
    }
}

/// Calls the next `close`, or the kernel before [`resolve`].
///
/// # Safety
/// The descriptor must belong to the caller.
pub(crate) unsafe fn close(descriptor: c_int) -> c_int {
    let next = NEXT_CLOSE.load(Ordering::Acquire);
    if next.is_null() {
        // SAFETY: The caller fulfils the condition.
        let result = unsafe { libc::syscall(libc::SYS_close, descriptor) };
        return c_int::try_from(result).unwrap_or(-1);
    }
    // SAFETY: The pointer is that of a `close`.
    unsafe {
        let next: Close = std::mem::transmute(next);
        next(descriptor)
    }
}

/// Returns the errno of the last failed call of this thread.
pub(crate) fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sets the errno of this thread.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: The C library returns the address of this thread's errno.
    unsafe { *libc::__errno_location() = errno };
}

/// Registers a function that `fork` calls in the child.
pub(crate) fn call_in_child(function: unsafe extern "C" fn()) {
    // SAFETY: The function takes no lock and allocates nothing, and is never unloaded.
    unsafe { libc::pthread_atfork(None, None, Some(function)) };
}

/// Calls through [`ioctl`].
#[derive(Default)]
pub(crate) struct NextCalls;

impl Calls for NextCalls {
    unsafe fn ioctl(
        &self,
        descriptor: c_int,
        request: u32,
        argument: *mut c_void,
    ) -> Result<c_int, c_int> {
        // SAFETY: The caller fulfils the condition.
        let result = unsafe { ioctl(descriptor, c_ulong::from(request), argument) };
        if result < 0 { Err(errno()) } else { Ok(result) }
    }
}
