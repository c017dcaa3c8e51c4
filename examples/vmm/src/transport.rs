//! [`FdTransport`]: byte streams for a migration. TCP, and a serial line between two machines that
//! have no network.
//!
//! Both are a file descriptor that is polled, so that every wait ends at its deadline.

use std::fs::OpenOptions;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::link::Transport;

/// An open byte stream.
#[derive(Debug)]
pub struct FdTransport(OwnedFd);

impl FdTransport {
    /// Takes over a descriptor that can be polled.
    ///
    /// # Errors
    /// Returns an error if it cannot be set to non-blocking mode.
    pub fn new(descriptor: impl Into<OwnedFd>) -> io::Result<Self> {
        let descriptor = descriptor.into();
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self(descriptor))
    }

    /// Connects to `host:port`, or opens the serial line at that path.
    ///
    /// # Errors
    /// Returns an error if that fails. Retries a host that does not listen yet until `timeout`.
    pub fn connect(address: &str, timeout: Duration) -> io::Result<Self> {
        if is_path(address) {
            return Self::serial(Path::new(address));
        }
        let deadline = Instant::now() + timeout;
        loop {
            match TcpStream::connect(address) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Self::new(stream);
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Listens on `host:port` and accepts the first connection, or opens the serial line at that
    /// path.
    ///
    /// # Errors
    /// Returns an error if that fails, or no peer connects in time.
    pub fn listen(address: &str, timeout: Duration) -> io::Result<Self> {
        if is_path(address) {
            return Self::serial(Path::new(address));
        }
        let listener = TcpListener::bind(address)?;
        wait(&listener, PollFlags::IN, Instant::now() + timeout)?;
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        Self::new(stream)
    }

    /// Opens a serial line: raw, 8 bits, at the highest speed that all UARTs support.
    fn serial(path: &Path) -> io::Result<Self> {
        use rustix::termios::{OptionalActions, QueueSelector};
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if rustix::termios::isatty(&file) {
            let mut settings = rustix::termios::tcgetattr(&file)?;
            settings.make_raw();
            settings.set_speed(115_200)?;
            rustix::termios::tcsetattr(&file, OptionalActions::Now, &settings)?;
            rustix::termios::tcflush(&file, QueueSelector::IOFlush)?;
        }
        Self::new(file)
    }
}

fn is_path(address: &str) -> bool {
    address.contains('/')
}

/// Waits until the descriptor can be read or written.
fn wait(descriptor: impl AsFd, flags: PollFlags, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(&descriptor, flags)], Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Transport for FdTransport {
    fn read(&mut self, bytes: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            wait(&self.0, PollFlags::IN, deadline)?;
            match rustix::io::read(&self.0, &mut *bytes) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&self.0, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::AGAIN) => wait(&self.0, PollFlags::OUT, deadline)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
