//! Execution of patched code, in a child process.

use std::io;
use std::sync::atomic::Ordering;

use crate::instructions::{read_ctr, synchronize, synchronize_context};
use crate::state::{CodeState, StaleCount};
use crate::system::{ChildValues, CodePage, pin, run_in_child};

/// Number of patches of a page.
const PATCHES: u64 = 4000;
/// Number of new pages.
const PAGES: u64 = 1000;
/// Number of patches after which the thread moves to another CPU.
const PATCHES_PER_CPU: u64 = 16;
/// Number of bytes of a function.
const FUNCTION_LEN: usize = 8;
/// Index of the child's value with the number of the error.
const ERROR: usize = 6;

/// Patches and executes code, and counts executions of old code.
///
/// # Errors
/// Returns an error if no child process can be started, or no page can be made executable.
pub(crate) fn observe_code(cpus: &[u32]) -> io::Result<CodeState> {
    let end = run_in_child(|values| {
        if let Err(error) = patch(values, cpus) {
            let number = error.raw_os_error().unwrap_or(libc::EINVAL);
            values[ERROR].store(u64::try_from(number).unwrap_or(1), Ordering::SeqCst);
        }
    })?;
    if end.values[ERROR] != 0 {
        let number = i32::try_from(end.values[ERROR]).unwrap_or(libc::EINVAL);
        return Err(io::Error::from_raw_os_error(number));
    }
    let count = |index: usize| StaleCount {
        rounds: end.values[index],
        stale: end.values[index + 1],
    };
    Ok(CodeState {
        maintained: count(0),
        protected: count(2),
        unmaintained: count(4),
        signal: end.signal,
    })
}

/// Counts a round in the values at `index`.
fn count(values: &ChildValues, index: usize, is_stale: bool) {
    values[index].fetch_add(1, Ordering::SeqCst);
    values[index + 1].fetch_add(u64::from(is_stale), Ordering::SeqCst);
}

fn patch(values: &ChildValues, cpus: &[u32]) -> io::Result<()> {
    let ctr = read_ctr();
    let page = CodePage::new(true)?;
    patch_page(&page, values, 0, cpus, |address| {
        synchronize(address, FUNCTION_LEN, ctr);
    })?;
    for round in 0..PAGES {
        let (value, slot) = low_bits(round);
        let page = CodePage::new(false)?;
        page.write(slot, value);
        page.protect()?;
        count(values, 2, page.call(slot) != u32::from(value));
    }
    patch_page(&page, values, 4, cpus, |_| synchronize_context())
}

/// Patches functions of one page, on all CPUs in turn. The CPU changes between the patch and the
/// execution.
fn patch_page(
    page: &CodePage,
    values: &ChildValues,
    index: usize,
    cpus: &[u32],
    synchronize: impl Fn(usize),
) -> io::Result<()> {
    let mut next = cpus.iter().cycle();
    for round in 0..PATCHES {
        let (value, slot) = low_bits(round);
        page.write(slot, value);
        synchronize(page.address(slot));
        if round % PATCHES_PER_CPU == 0
            && let Some(cpu) = next.next()
        {
            pin(*cpu)?;
            synchronize_context();
        }
        count(values, index, page.call(slot) != u32::from(value));
    }
    Ok(())
}

/// Returns the value and the slot of a round. Each slot has another value in each round.
fn low_bits(round: u64) -> (u16, usize) {
    let value = u16::try_from(round & 0xffff).unwrap_or(0);
    (value, usize::from(value))
}
