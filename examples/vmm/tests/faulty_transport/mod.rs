//! A line that is cut, or loses or damages bytes.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use cpreg_vmm::link::Transport;
use cpreg_vmm::transport::FdTransport;

/// Fault of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TransportFault {
    None,
    /// Cuts the line at the write with this number.
    Cut(usize),
    /// Loses the write with this number.
    Lose(usize),
    /// Flips a bit in the write with this number.
    Damage(usize),
}

pub(crate) struct FaultyTransport {
    wire: FdTransport,
    stream: UnixStream,
    pub(crate) fault: TransportFault,
    pub(crate) writes: usize,
}

impl FaultyTransport {
    pub(crate) fn new(stream: UnixStream, fault: TransportFault) -> Self {
        let wire = FdTransport::new(stream.try_clone().expect("a descriptor"));
        Self {
            wire: wire.expect("a socket"),
            stream,
            fault,
            writes: 0,
        }
    }
}

impl Drop for FaultyTransport {
    /// Closes the line, as the death of the process does.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Transport for FaultyTransport {
    fn read(&mut self, bytes: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.wire.read(bytes, deadline)
    }

    fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let number = self.writes;
        self.writes += 1;
        match self.fault {
            TransportFault::Cut(at) if at == number => {
                self.stream.shutdown(Shutdown::Both)?;
                Err(io::ErrorKind::BrokenPipe.into())
            }
            TransportFault::Lose(at) if at == number => Ok(()),
            TransportFault::Damage(at) if at == number => {
                let mut bytes = bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
                self.wire.write(&bytes, deadline)
            }
            _ => self.wire.write(bytes, deadline),
        }
    }
}

pub(crate) struct BorrowedTransport<'a>(pub(crate) &'a mut FaultyTransport);

impl Transport for BorrowedTransport<'_> {
    fn read(&mut self, bytes: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.0.read(bytes, deadline)
    }

    fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.0.write(bytes, deadline)
    }
}
