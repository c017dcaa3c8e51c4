//! What a guest says on its serial port (`e2e/lab/guest/aarch64.s` has the list), read as it comes and taken apart.
//!
//! It must be read at all times: QEMU writes to the socket a byte at a time, some 300 of them fill it, and a QEMU that cannot
//! write stands still, its monitor too. So a thread reads, whatever the test is doing.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How long a guest may take for one step of its own; with four of them on two cores it is a matter of a second or two.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// The serial port of a running guest.
#[derive(Debug)]
pub struct Serial {
    socket: UnixStream,
    chunks: Receiver<Vec<u8>>,
    /// All that came, for reports of failures.
    transcript: String,
    /// How much of `said` has been looked at.
    parsed_len: usize,
}

/// One register that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The vCPU that has it.
    pub vcpu: u32,
    /// The architectural name; `X7`, `V3`, `P2`, `SP`, `VL`, `RAM`, `CNTVCT_EL0` for what is no system register.
    pub register: String,
    /// What it held before; `None`: there was no such register.
    pub expected: Option<u64>,
    /// What it holds now; `None`: there is no such register.
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

/// What a guest found after it had been moved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The registers that differ.
    pub differences: Vec<Difference>,
    /// Timer interrupts that came: vCPU and `V` or `P`.
    pub timers: Vec<(u32, char)>,
    /// Timers that had fired before the guest looked: they prove nothing about the destination.
    pub expired_timers: Vec<(u32, char)>,
    /// How far a guest that counts has counted: vCPU and count.
    pub counts: Vec<(u32, u64)>,
    /// Values of registers, if they were asked for: vCPU, name, value.
    pub values: Vec<(u32, String, Option<u64>)>,
}

impl Serial {
    /// Takes over the connection.
    ///
    /// # Errors
    /// If the socket cannot be used.
    pub fn new(socket: UnixStream) -> Result<Self> {
        let mut reader = socket.try_clone()?;
        let (sender, coming) = mpsc::channel();
        // Ends when QEMU closes its side, or when nobody is interested any more.
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
            chunks: coming,
            transcript: String::new(),
            parsed_len: 0,
        })
    }

    /// Everything the guest has said.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Sends the guest a byte.
    ///
    /// # Errors
    /// If QEMU has gone.
    pub fn send(&mut self, byte: u8) -> Result<()> {
        Ok(self.socket.write_all(&[byte])?)
    }

    /// Waits until the guest is ready to be moved.
    ///
    /// # Errors
    /// If the guest says something else, or nothing in time.
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
                return Err(format!("the guest says: {line}").into());
            }
        }
        Err("the guest did not get ready in time".into())
    }

    /// Reads what the guest finds after it has been moved, to its end. If its timers have not come after `timers` it is told
    /// that they will not.
    ///
    /// # Errors
    /// If the guest says what makes no sense, or nothing in time.
    pub fn findings(&mut self, timers: Duration) -> Result<Findings> {
        let mut findings = Findings::default();
        let start = Instant::now();
        let mut told = false;
        loop {
            let patience = if told { timers + STEP_TIMEOUT } else { timers };
            let Some(line) = self.next_line(start + patience)? else {
                if told {
                    return Err("the guest did not come to its end in time".into());
                }
                told = true;
                self.send(b'T')?;
                continue;
            };
            if let Some(count) = line.strip_prefix("DONE ") {
                let count: usize = count.parse()?;
                let heard = findings.differences.len();
                if count == heard {
                    return Ok(findings);
                }
                return Err(format!("the guest counts {count} differences, told {heard}").into());
            }
            if line.starts_with("PANIC") {
                return Err(format!("the guest says: {line}").into());
            }
            findings
                .parse_line(&line)
                .ok_or_else(|| format!("the guest says what is not understood: {line:?}"))?;
        }
    }

    /// The next whole line, or nothing if none comes before the deadline.
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
            let patience = deadline.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(patience) {
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
    /// Takes one line in; nothing if it is none that a guest says.
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
            ("VALUE", [register, is]) => {
                self.values.push((vcpu, (*register).to_owned(), value(is)?));
            }
            ("COUNT", [count]) => self.counts.push((vcpu, value(count)??)),
            ("TIMER", [which]) => self.timers.push((vcpu, which.chars().next()?)),
            // That one is missing among those that came says the same.
            ("NOTIMER", [_]) => {}
            ("EXPIRED", [which]) => self.expired_timers.push((vcpu, which.chars().next()?)),
            _ => return None,
        }
        Some(())
    }
}

/// A value as guests write it.
#[expect(
    clippy::option_option,
    reason = "outer: understood or not; inner: there is such a register or not"
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
    fn what_guests_say() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let mut serial = Serial::new(ours).unwrap();
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
    fn what_guests_should_not_say() {
        for said in ["DONE 1\n", "PANIC 0 96000000 40080000\n", "DIFF 0 X\n"] {
            let (ours, mut guest) = UnixStream::pair().unwrap();
            guest.write_all(said.as_bytes()).unwrap();
            let mut serial = Serial::new(ours).unwrap();
            assert!(serial.findings(STEP_TIMEOUT).is_err(), "{said}");
        }
    }
}
