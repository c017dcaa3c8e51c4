//! Measurement of the kernel's clock: against the counter, and against the real-time clock.
//!
//! The kernel computes all its clocks from the counter, with the frequency that it read at boot. So
//! a program cannot see a wrong rate by these clocks. CNTFRQ_EL0 now, and the real-time clock, are
//! independent of that frequency.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::instructions::read_counter;
use crate::state::{FrequencyMeasurement, RateMeasurement};
use crate::system::read_raw_clock;

/// Interval of the first measurement; each further one is twice as long.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);
/// Number of measurements of the frequency at most.
const MAX_MEASUREMENTS: u32 = 6;
/// Number of readings of a pair of clocks; the closest one counts.
const READINGS: usize = 32;
/// Uncertainty at which a measurement is precise enough, as a part of the frequency.
const PRECISE_PART: u64 = 2000;

/// Least number of seconds of the real-time clock of a measurement.
const MIN_RTC_SECONDS: u64 = 3;
/// Greatest number of changes of the real-time clock's seconds of a measurement.
const MAX_EDGES: usize = 120;
/// Uncertainty at which the measured rate is precise enough, in millionths.
const PRECISE_RATE: u64 = 8000;
/// Interval of looks at the real-time clock.
const RTC_INTERVAL: Duration = Duration::from_millis(1);
/// Timeout for a measurement with the real-time clock, in nanoseconds of the guest's clock.
const RTC_TIMEOUT: u64 = 180_000_000_000;
/// File with the real-time clock's seconds.
const RTC_FILE: &str = "/sys/class/rtc/rtc0/since_epoch";

/// A value of the counter, and the kernel's clock in nanoseconds at the same time.
struct ClockPair {
    counter: u64,
    /// Number of ticks by which the counter may be later than the clock.
    ticks: u64,
    nanoseconds: u64,
}

impl ClockPair {
    /// Reads both, again and again, and returns the closest pair.
    fn read() -> Self {
        let read = || {
            let first = read_counter();
            let nanoseconds = read_raw_clock();
            let last = read_counter();
            Self {
                counter: first,
                ticks: last.saturating_sub(first),
                nanoseconds,
            }
        };
        let mut closest = read();
        for _ in 1..READINGS {
            let pair = read();
            if pair.ticks < closest.ticks {
                closest = pair;
            }
        }
        closest
    }
}

/// Measures with which frequency the kernel computes time from the counter.
pub(crate) fn measure_frequency() -> Option<FrequencyMeasurement> {
    let start = ClockPair::read();
    let mut interval = FIRST_INTERVAL;
    let mut measured = None;
    for _ in 0..MAX_MEASUREMENTS {
        thread::sleep(interval);
        let end = ClockPair::read();
        let nanoseconds = end.nanoseconds.saturating_sub(start.nanoseconds);
        let per_second = |ticks: u64| {
            let product = u128::from(ticks) * 1_000_000_000;
            product
                .checked_div(u128::from(nanoseconds))
                .and_then(|hertz| u64::try_from(hertz).ok())
        };
        let measurement = FrequencyMeasurement {
            hertz: per_second(end.counter.saturating_sub(start.counter))?,
            uncertainty: per_second(start.ticks + end.ticks)? + 1,
        };
        measured = Some(measurement);
        if measurement.uncertainty < measurement.hertz / PRECISE_PART {
            break;
        }
        interval *= 2;
    }
    measured
}

/// A change of the real-time clock's seconds.
struct Edge {
    seconds: u64,
    /// Time before which the clock did not have these seconds.
    earliest: u64,
    /// Time after which the clock had them.
    latest: u64,
    /// Time before the read that returned them. The clock did not yet have more seconds.
    begin: u64,
}

/// Measures the kernel's clock against the real-time clock.
///
/// # Errors
/// Returns the reason if the guest has no such clock, or the clock does not run.
pub(crate) fn measure_rate() -> Result<RateMeasurement, RateError> {
    let begin = read_raw_clock();
    let seconds = read_rtc().ok_or(RateError::NoClock)?;
    let deadline = begin + RTC_TIMEOUT;
    let mut edges = vec![find_edge(seconds + 1, begin, deadline)?];
    let mut best: Option<RateMeasurement> = None;
    // On a busy machine some changes are seen late. Two that are seen at once are precise.
    while edges.len() < MAX_EDGES && best.is_none_or(|it| it.uncertainty > PRECISE_RATE) {
        let Some(last) = edges.last() else {
            break;
        };
        let edge = match find_edge(last.seconds + 1, last.begin, deadline) {
            Ok(edge) => edge,
            Err(_) if best.is_some() => break,
            Err(error) => return Err(error),
        };
        let earlier = edges
            .iter()
            .filter(|earlier| edge.seconds - earlier.seconds >= MIN_RTC_SECONDS);
        let measured = earlier.map(|earlier| compare_edges(earlier, &edge));
        best = best
            .into_iter()
            .chain(measured)
            .min_by_key(|it| it.uncertainty);
        edges.push(edge);
    }
    best.ok_or(RateError::Timeout)
}

/// Returns the rate of the kernel's clock between two changes of the real-time clock.
fn compare_edges(first: &Edge, last: &Edge) -> RateMeasurement {
    let rtc = last.seconds - first.seconds;
    let shortest = last.earliest.saturating_sub(first.latest);
    let longest = last.latest.saturating_sub(first.earliest);
    // Nanoseconds for a second, in thousands.
    RateMeasurement {
        millionths: shortest.midpoint(longest) / rtc / 1000,
        uncertainty: (longest - shortest) / 2 / rtc / 1000 + 1,
    }
}

/// Reason why the rate was not measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateError {
    /// The guest has no real-time clock.
    NoClock,
    /// The real-time clock does not run, or is slower than the guest's clock by far.
    Timeout,
}

/// Waits until the real-time clock has these seconds or more. At `earliest` it had less.
fn find_edge(seconds: u64, mut earliest: u64, deadline: u64) -> Result<Edge, RateError> {
    loop {
        let begin = read_raw_clock();
        let read = read_rtc().ok_or(RateError::NoClock)?;
        let latest = read_raw_clock();
        if read >= seconds {
            return Ok(Edge {
                seconds: read,
                earliest,
                latest,
                begin,
            });
        }
        if latest > deadline {
            return Err(RateError::Timeout);
        }
        // The clock did not have the seconds when this read began.
        earliest = begin;
        thread::sleep(RTC_INTERVAL);
    }
}

fn read_rtc() -> Option<u64> {
    fs::read_to_string(RTC_FILE).ok()?.trim().parse().ok()
}
