//! Table of results.

use std::time::Duration;

use crate::inputs::MIB;
use crate::measure::Cost;

pub(crate) fn print_header() {
    println!(
        "{:64} {:>9} {:>9} {:>8} {:>9} {:>10}",
        "case", "median", "baseline", "ratio", "memory", "read"
    );
}

pub(crate) fn print_row(case: &str, time: Duration, baseline: Duration, cost: Option<Cost>) {
    let ratio = time.as_secs_f64() / baseline.as_secs_f64();
    // `Debug` rounds to the given precision but does not pad.
    let (time, baseline) = (format!("{time:.1?}"), format!("{baseline:.1?}"));
    let memory = cost.map_or_else(String::new, |cost| {
        format!("{:.1} MiB", mebibytes(cost.peak_memory))
    });
    let read = cost.and_then(|cost| cost.bytes_read);
    let read = read.map_or_else(String::new, |read| format!("{} KiB", read >> 10));
    println!("{case:64} {time:>9} {baseline:>9} {ratio:>8.3} {memory:>9} {read:>10}");
}

#[expect(clippy::cast_precision_loss, reason = "one digit is printed")]
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}
