//! Output of a guest on its serial port, read continuously and parsed. `e2e/lab/guest/aarch64.s`
//! has the list of lines.
//!
//! A thread reads the port all the time, independently of the test. QEMU writes to the socket one
//! byte at a time, and about 300 writes fill the socket. A QEMU that cannot write blocks, and its
//! monitor blocks with it.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// Timeout for one step of a guest. On two cores, a step of four guests takes a second or two.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// The serial port of a running guest.
#[derive(Debug)]
pub struct Serial {
    socket: UnixStream,
    chunks: Receiver<Vec<u8>>,
    /// All output so far, for error messages.
    transcript: String,
    /// Length of the parsed part of `transcript`.
    parsed_len: usize,
}

/// A register whose value differs from the value before the move.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Number of the vCPU.
    pub vcpu: u32,
    /// Architectural name, or `X7`, `V3`, `P2`, `SP`, `VL`, `RAM`, `CNTVCT_EL0` for other state.
    pub register: String,
    /// Value before the move; `None` if the register was undefined.
    pub expected: Option<u64>,
    /// Value after the move; `None` if the register is undefined.
    pub found: Option<u64>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: Option<u64>| {
            value.map_or_else(|| "undefined".to_owned(), |value| format!("{value:#x}"))
        };
        write!(
            f,
            "{} of vCPU {}: {} -> {}",
            self.register,
            self.vcpu,
            value(self.expected),
            value(self.found)
        )
    }
}

/// Findings of a guest after a move.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Registers whose values differ.
    pub differences: Vec<Difference>,
    /// Timer interrupts that the guest has taken: number of the vCPU, and `V` or `P`.
    pub timers: Vec<(u32, char)>,
    /// Timers that had fired when the guest first checked them: number of the vCPU, and `V` or `P`.
    /// Such timers prove nothing about the destination.
    pub expired_timers: Vec<(u32, char)>,
    /// Counter values of a counting guest: number of the vCPU, and count.
    pub counts: Vec<(u32, u64)>,
    /// Values of registers, if requested: number of the vCPU, name, value.
    pub values: Vec<(u32, String, Option<u64>)>,
}

impl Serial {
    /// Takes over the connection.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be used.
    pub fn new(socket: UnixStream) -> Result<Self> {
        let mut reader = socket.try_clone()?;
        let (sender, chunks) = mpsc::channel();
        // The thread ends when QEMU closes its side, or when the receiver is dropped.
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut chunk) {
                if sender.send(chunk[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            socket,
            chunks,
            transcript: String::new(),
            parsed_len: 0,
        })
    }

    /// Returns all output of the guest so far.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Sends the guest a byte.
    ///
    /// # Errors
    /// Returns an error if QEMU has exited.
    pub fn send(&mut self, byte: u8) -> Result<()> {
        Ok(self.socket.write_all(&[byte])?)
    }

    /// Waits until the guest is ready to be moved.
    ///
    /// # Errors
    /// Returns an error if the guest prints an unexpected line, or no line in time.
    pub fn wait_until_ready(&mut self, vcpus: u32) -> Result<()> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        while let Some(line) = self.next_line(deadline)? {
            if let Some(rest) = line.strip_prefix("READY ") {
                let count: u32 = rest.split(' ').next().unwrap_or_default().parse()?;
                if count == vcpus {
                    return Ok(());
                }
                return Err(format!("the guest sees {count} vCPUs, not {vcpus}").into());
            }
            if line.starts_with("PANIC") {
                return Err(format!("output of the guest: {line}").into());
            }
        }
        Err("timeout while waiting for the guest's READY line".into())
    }

    /// Reads the findings of a moved guest, up to the end. If its timers have not fired after
    /// `timers`, tells the guest not to wait for them.
    ///
    /// # Errors
    /// Returns an error if the guest prints an unexpected line, or no line in time.
    pub fn findings(&mut self, timers: Duration) -> Result<Findings> {
        let mut findings = Findings::default();
        let start = Instant::now();
        let mut has_given_up_timers = false;
        loop {
            let timeout = if has_given_up_timers {
                timers + STEP_TIMEOUT
            } else {
                timers
            };
            let Some(line) = self.next_line(start + timeout)? else {
                if has_given_up_timers {
                    return Err("timeout while waiting for the guest's DONE line".into());
                }
                has_given_up_timers = true;
                self.send(b'T')?;
                continue;
            };
            if let Some(count) = line.strip_prefix("DONE ") {
                let count: usize = count.parse()?;
                let received = findings.differences.len();
                if count == received {
                    return Ok(findings);
                }
                return Err(format!(
                    "the guest reports {count} differences, but {received} were received"
                )
                .into());
            }
            if line.starts_with("PANIC") {
                return Err(format!("output of the guest: {line}").into());
            }
            findings
                .parse_line(&line)
                .ok_or_else(|| format!("unexpected line of the guest: {line:?}"))?;
        }
    }

    /// Returns the next whole line, or `None` at the deadline.
    fn next_line(&mut self, deadline: Instant) -> Result<Option<String>> {
        loop {
            if let Some(length) = self.transcript[self.parsed_len..].find('\n') {
                let line = self.transcript[self.parsed_len..self.parsed_len + length]
                    .trim()
                    .to_owned();
                self.parsed_len += length + 1;
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            let timeout = deadline.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(timeout) {
                Ok(chunk) => self.transcript += &String::from_utf8_lossy(&chunk),
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the serial port was closed".into());
                }
            }
        }
    }
}

impl Findings {
    /// Parses one line. Returns `None` if it is not a line of a guest.
    fn parse_line(&mut self, line: &str) -> Option<()> {
        let words: Vec<_> = line.split(' ').collect();
        let (kind, rest) = words.split_first()?;
        let vcpu = rest.first()?.parse().ok()?;
        match (*kind, &rest[1..]) {
            ("DIFF", [register, expected, found]) => self.differences.push(Difference {
                vcpu,
                register: (*register).to_owned(),
                expected: value(expected)?,
                found: value(found)?,
            }),
            ("VALUE", [register, word]) => {
                self.values
                    .push((vcpu, (*register).to_owned(), value(word)?));
            }
            ("COUNT", [count]) => self.counts.push((vcpu, value(count)??)),
            ("TIMER", [timer]) => self.timers.push((vcpu, timer.chars().next()?)),
            // The absence of a TIMER line has the same meaning.
            ("NOTIMER", [_]) => {}
            ("EXPIRED", [timer]) => self.expired_timers.push((vcpu, timer.chars().next()?)),
            _ => return None,
        }
        Some(())
    }
}

/// Parses a value as guests write it.
#[expect(
    clippy::option_option,
    reason = "outer: valid or not; inner: defined register or not"
)]
fn value(word: &str) -> Option<Option<u64>> {
    if word == "UNDEF" {
        return Some(None);
    }
    u64::from_str_radix(word, 16).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_lines_are_parsed() {
        let (test_end, mut guest) = UnixStream::pair().unwrap();
        let mut serial = Serial::new(test_end).unwrap();
        guest.write_all(b"READY 2 GICv3\r\n").unwrap();
        serial.wait_until_ready(2).unwrap();
        guest
            .write_all(
                b"DIFF 1 TCR2_EL1 0000000000000002 UNDEF\nEXPIRED 0 P\nTIMER 0 V\nNOTIMER 1 V\n\
                  DONE 1\n",
            )
            .unwrap();
        let findings = serial.findings(STEP_TIMEOUT).unwrap();
        assert_eq!(
            findings.differences[0].to_string(),
            "TCR2_EL1 of vCPU 1: 0x2 -> undefined"
        );
        assert_eq!(findings.timers, [(0, 'V')]);
        assert_eq!(findings.expired_timers, [(0, 'P')]);
    }

    #[test]
    fn unexpected_guest_lines_are_errors() {
        for output in ["DONE 1\n", "PANIC 0 96000000 40080000\n", "DIFF 0 X\n"] {
            let (test_end, mut guest) = UnixStream::pair().unwrap();
            guest.write_all(output.as_bytes()).unwrap();
            let mut serial = Serial::new(test_end).unwrap();
            assert!(serial.findings(STEP_TIMEOUT).is_err(), "{output}");
        }
    }
}
