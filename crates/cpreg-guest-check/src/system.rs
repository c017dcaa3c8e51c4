//! Calls of Linux that the standard library lacks.

use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Number of values that a child process returns.
pub(crate) const CHILD_VALUES: usize = 8;

/// Values that a child process returns.
pub(crate) type ChildValues = [AtomicU64; CHILD_VALUES];

/// End of a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChildEnd {
    /// Values of the child at its end.
    pub(crate) values: [u64; CHILD_VALUES],
    /// Signal that ended the child.
    pub(crate) signal: Option<i32>,
}

/// Returns AT_HWCAP and AT_HWCAP2.
pub(crate) fn read_hwcaps() -> (u64, u64) {
    // SAFETY: the calls only read the auxiliary vector.
    unsafe {
        (
            libc::getauxval(libc::AT_HWCAP),
            libc::getauxval(libc::AT_HWCAP2),
        )
    }
}

/// Returns CLOCK_MONOTONIC_RAW in nanoseconds.
pub(crate) fn read_raw_clock() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for a write; the clock exists since Linux 2.6.28.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut time) };
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// Set of CPUs on which a thread may run.
#[derive(Clone, Copy)]
pub(crate) struct CpuSet(libc::cpu_set_t);

impl CpuSet {
    /// Returns the CPUs of this thread.
    pub(crate) fn of_thread() -> io::Result<Self> {
        // SAFETY: a set of zeros is a valid, empty set.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: `set` is valid for a write of its size.
        let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
        check(result).map(|_| Self(set))
    }

    /// Returns the numbers of the CPUs.
    pub(crate) fn list(&self) -> Vec<u32> {
        let limit = u32::try_from(libc::CPU_SETSIZE).unwrap_or(0);
        let is_member = |cpu: &u32| {
            // SAFETY: the number is less than CPU_SETSIZE.
            unsafe { libc::CPU_ISSET(*cpu as usize, &self.0) }
        };
        (0..limit).filter(is_member).collect()
    }

    /// Lets this thread run on these CPUs.
    pub(crate) fn apply(&self) -> io::Result<()> {
        // SAFETY: `self.0` is valid for a read of its size.
        let result = unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &raw const self.0) };
        check(result).map(drop)
    }
}

/// Lets this thread run on one CPU.
pub(crate) fn pin(cpu: u32) -> io::Result<()> {
    // SAFETY: a set of zeros is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the number comes from `CpuSet::list`, and so is less than CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu as usize, &mut set) };
    CpuSet(set).apply()
}

/// Sets the vector length of this thread, and returns the length that the kernel set.
pub(crate) fn set_vector_length(bytes: u32) -> io::Result<u32> {
    // SAFETY: the call preserves bits 127:0 of each vector register. Of vector registers, functions
    // keep only the low halves of v8 to v15 across calls (AAPCS64).
    let result = unsafe { libc::prctl(PR_SVE_SET_VL, libc::c_ulong::from(bytes), 0, 0, 0) };
    let length = check(result)? & PR_SVE_VL_LEN_MASK;
    Ok(u32::try_from(length).unwrap_or(0))
}

/// Gives this thread and its children the shortest vectors, which every CPU with SVE has.
///
/// The C library may use SVE to copy memory. Linux ends a process whose vector length the CPU lacks
/// after a move.
pub(crate) fn use_shortest_vectors() {
    // Without SVE, the call fails and nothing is to do.
    let _ = set_vector_length(SHORTEST_VECTOR);
}

/// Shortest vector length, in bytes.
const SHORTEST_VECTOR: u32 = 16;

// The crate libc has no names for them on all versions of Linux.
const PR_SVE_SET_VL: libc::c_int = 50;
const PR_SVE_VL_LEN_MASK: libc::c_int = 0xffff;

/// A page for code.
pub(crate) struct CodePage {
    start: *mut u32,
    len: usize,
}

impl CodePage {
    /// Maps a new page that is writable, and executable if `is_executable`.
    pub(crate) fn new(is_executable: bool) -> io::Result<Self> {
        let execute = if is_executable { libc::PROT_EXEC } else { 0 };
        // SAFETY: a new anonymous mapping replaces no memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                PAGE_LEN,
                libc::PROT_READ | libc::PROT_WRITE | execute,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            len: PAGE_LEN,
        })
    }

    /// Returns the address of a function.
    pub(crate) fn address(&self, slot: usize) -> usize {
        self.start as usize + slot % SLOTS * SLOT_LEN
    }

    /// Writes a function that returns `value`. The page must be writable.
    pub(crate) fn write(&self, slot: usize, value: u16) {
        let movz_w0 = 0x5280_0000 | u32::from(value) << 5;
        let start = self.address(slot) as *mut u32;
        // SAFETY: the address of a slot is aligned to 64 bytes, and the slot is in the page.
        unsafe {
            start.write_volatile(movz_w0);
            start.add(1).write_volatile(RET);
        }
    }

    /// Makes the page readable and executable only.
    pub(crate) fn protect(&self) -> io::Result<()> {
        // SAFETY: the page belongs to this object, and holds no data of Rust.
        let result = unsafe {
            libc::mprotect(
                self.start.cast(),
                self.len,
                libc::PROT_READ | libc::PROT_EXEC,
            )
        };
        check(result).map(drop)
    }

    /// Calls a function that [`Self::write`] wrote. The page must be executable.
    ///
    /// A CPU that needs other cache maintenance may execute old memory of the page. So the caller
    /// is a child process.
    pub(crate) fn call(&self, slot: usize) -> u32 {
        // SAFETY: the slot holds a function of this type. Otherwise the child process, which holds
        // no other state, ends by a signal or returns another value.
        unsafe {
            let function: extern "C" fn() -> u32 = mem::transmute(self.address(slot));
            function()
        }
    }
}

impl Drop for CodePage {
    fn drop(&mut self) {
        // SAFETY: the page belongs to this object.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// Number of bytes of a [`CodePage`]: the greatest page of Linux.
const PAGE_LEN: usize = 65536;
/// Number of bytes between two functions.
const SLOT_LEN: usize = 64;
/// Number of functions in the part of a page that is used.
const SLOTS: usize = 64;
/// `ret`.
const RET: u32 = 0xd65f_03c0;

/// Runs `work` in a child process, so that a signal ends only the child.
///
/// `work` must not allocate memory, because another thread may hold the allocator's lock.
///
/// # Errors
/// Returns an error if Linux starts no child, or `work` panics.
pub(crate) fn run_in_child(work: impl FnOnce(&ChildValues)) -> io::Result<ChildEnd> {
    // SAFETY: a new anonymous mapping replaces no memory.
    let shared = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<ChildValues>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if shared == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping has the size of the values, is aligned to a page, and holds zeros.
    let values = unsafe { &*shared.cast::<ChildValues>() };
    // SAFETY: the child runs only `work`, which does not allocate, and ends here without
    // destructors of the parent's values.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // A panic must not unwind into the code of the parent.
        let result = panic::catch_unwind(AssertUnwindSafe(|| work(values)));
        let status = if result.is_ok() { 0 } else { STATUS_PANIC };
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(status) };
    }
    let result = check(child).and_then(wait_for_end);
    let end = result.map(|signal| ChildEnd {
        values: values.each_ref().map(|value| value.load(Ordering::SeqCst)),
        signal,
    });
    // SAFETY: the mapping is not used after this line.
    unsafe { libc::munmap(shared, size_of::<ChildValues>()) };
    end
}

/// Exit status of a child process that panicked.
const STATUS_PANIC: libc::c_int = 101;

/// Waits for the end of a child process, and returns the signal that ended it.
fn wait_for_end(child: libc::pid_t) -> io::Result<Option<i32>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for a write.
        match check(unsafe { libc::waitpid(child, &raw mut status, 0) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) != 0 {
        return Err(io::Error::other("a child process panicked"));
    }
    Ok(libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)))
}

static IS_END_REQUESTED: AtomicBool = AtomicBool::new(false);
/// Signals that end the watch.
const END_SIGNALS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

extern "C" fn request_end(_signal: libc::c_int) {
    IS_END_REQUESTED.store(true, Ordering::SeqCst);
    release_end_signals();
}

/// Makes the first SIGTERM or SIGINT end the watch instead of the program.
pub(crate) fn catch_end_signals() {
    for signal in END_SIGNALS {
        let handler = request_end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler only stores to an atomic variable, and calls `signal`, which is
        // async-signal-safe.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Makes SIGTERM and SIGINT end the program.
pub(crate) fn release_end_signals() {
    for signal in END_SIGNALS {
        // SAFETY: the default action runs no code of this program.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Returns `true` if SIGTERM or SIGINT arrived.
pub(crate) fn is_end_requested() -> bool {
    IS_END_REQUESTED.load(Ordering::SeqCst)
}

/// Returns the error of a call that returned -1.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
