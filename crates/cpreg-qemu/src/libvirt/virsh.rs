//! [`Virsh`]: libvirt's command-line client.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};

use super::address::{DomainAddress, LibvirtAddress};
use super::command_line::parse_native;
use crate::error::{Error, ErrorKind};
use crate::qmp::WaitOptions;

/// Message for a failed operation on the process.
const RUN_ERROR: &str = "cannot run virsh";

/// Interval between two checks of the deadline and the interrupt flag.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Description of a domain.
#[derive(Clone, Copy, Debug)]
pub enum DomainXml<'a> {
    /// Domain that libvirt knows, by name, UUID or number.
    Domain(&'a str),
    /// File with the XML of a domain.
    File(&'a Path),
}

/// `virsh` with the libvirt that it connects to.
#[derive(Clone, Debug)]
pub struct Virsh {
    uri: Option<String>,
}

impl Virsh {
    /// Creates a client for the libvirt at `uri`, or for the default of `virsh`.
    pub fn new(uri: Option<String>) -> Self {
        Self { uri }
    }

    /// Returns the XML of a domain; for a running domain, that of its current state.
    ///
    /// # Errors
    /// Returns an error if libvirt cannot be reached, or has no such domain.
    pub fn domain_xml(&self, domain: &str, options: &WaitOptions<'_>) -> Result<String, Error> {
        let arguments = ["dumpxml", "--domain", domain].map(OsString::from);
        self.run(&arguments, options)
    }

    /// Returns the addresses of all running domains of a libvirt, paused ones included.
    ///
    /// # Errors
    /// Returns an error if libvirt cannot be reached.
    pub fn list_running_domains(
        libvirt: &LibvirtAddress,
        options: &WaitOptions<'_>,
    ) -> Result<Vec<DomainAddress>, Error> {
        let arguments = ["list", "--uuid", "--name"].map(OsString::from);
        let list = Self::new(libvirt.uri.clone()).run(&arguments, options)?;
        let domains = parse_list(&list).ok_or(Error::unexpected_reply("virsh list"))?;
        Ok(libvirt.domains(&domains))
    }

    /// Returns the name of the host that libvirt runs on.
    ///
    /// # Errors
    /// Returns an error if libvirt cannot be reached.
    pub fn query_host_name(&self, options: &WaitOptions<'_>) -> Result<String, Error> {
        let name = self.run(&["hostname".into()], options)?;
        Ok(name.trim().to_owned())
    }

    /// Returns the command line with which libvirt would start a domain.
    ///
    /// # Errors
    /// Returns an error if libvirt cannot be reached, or cannot start such a domain.
    pub fn native_command(
        &self,
        xml: DomainXml<'_>,
        options: &WaitOptions<'_>,
    ) -> Result<Vec<OsString>, Error> {
        let (option, value) = match xml {
            DomainXml::Domain(name) => ("--domain", OsStr::new(name)),
            DomainXml::File(path) => ("--xml", path.as_os_str()),
        };
        let arguments = ["domxml-to-native", "qemu-argv", option].map(OsString::from);
        let arguments = [&arguments[..], &[value.to_owned()]].concat();
        parse_native(&self.run(&arguments, options)?)
    }

    /// Makes libvirt pass a QMP command to a domain's QEMU, and returns the reply.
    pub(super) fn monitor_command(
        &self,
        domain: &str,
        command: &str,
        descriptor: Option<BorrowedFd<'_>>,
        options: &WaitOptions<'_>,
    ) -> Result<String, Error> {
        let mut arguments = ["qemu-monitor-command", "--domain", domain]
            .map(OsString::from)
            .to_vec();
        // A duplicate without the flag `FD_CLOEXEC` stays open in `virsh`.
        let inherited = descriptor
            .map(|descriptor| descriptor.try_clone_to_owned())
            .transpose();
        let inherited = inherited.map_err(|error| Error::io(RUN_ERROR, error))?;
        if let Some(descriptor) = &inherited {
            fcntl_setfd(descriptor, FdFlags::empty())
                .map_err(|error| Error::io(RUN_ERROR, error.into()))?;
            let number = descriptor.as_raw_fd().to_string();
            arguments.extend(["--pass-fds".into(), number.into()]);
        }
        arguments.push(command.into());
        self.run(&arguments, options)
    }

    /// Runs `virsh` and returns its standard output.
    fn run(&self, arguments: &[OsString], options: &WaitOptions<'_>) -> Result<String, Error> {
        let mut command = Command::new("virsh");
        command.arg("--quiet");
        if let Some(uri) = &self.uri {
            command.args(["--connect", uri]);
        }
        // The errors are recognised by their English words.
        command.args(arguments).env("LC_ALL", "C");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            let hint = (error.kind() == io::ErrorKind::NotFound)
                .then_some("virsh belongs to libvirt's clients (Debian: libvirt-clients)");
            let program = "virsh".into();
            Error::new(ErrorKind::Start { program })
                .with_source(error)
                .with_hint(hint)
        })?;
        let stdout = child.stdout.take().map(read_in_background);
        let stderr = child.stderr.take().map(read_in_background);
        let status = wait(&mut child, options)?;
        let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
            let bytes = reader
                .and_then(|reader| reader.join().ok())
                .unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (text(stdout), text(stderr));
        if status.success() {
            return Ok(stdout);
        }
        let message = message(&stderr);
        let hint = hint(&message);
        Err(Error::new(ErrorKind::Libvirt(message)).with_hint(hint))
    }
}

fn read_in_background(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // The text so far serves if the pipe breaks.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// Parses the lines `UUID NAME` of `virsh list`. Returns `None` if a line has another form.
fn parse_list(text: &str) -> Option<Vec<(&str, &str)>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let domains = lines.map(|line| {
        let (uuid, name) = line.trim().split_once(' ')?;
        let is_uuid = uuid.len() == UUID_LEN && uuid.matches('-').count() == 4;
        is_uuid.then_some((uuid, name.trim_start()))
    });
    domains.collect()
}

/// Length of a UUID as libvirt prints it.
const UUID_LEN: usize = 36;

/// Waits for the end of the process, and ends it after the timeout.
fn wait(child: &mut Child, options: &WaitOptions<'_>) -> Result<ExitStatus, Error> {
    let deadline = Instant::now() + options.timeout;
    loop {
        let status = child
            .try_wait()
            .map_err(|error| Error::io(RUN_ERROR, error))?;
        if let Some(status) = status {
            return Ok(status);
        }
        let kind = if options.is_interrupted() {
            ErrorKind::Interrupted
        } else if Instant::now() >= deadline {
            ErrorKind::TimedOut(options.timeout)
        } else {
            thread::sleep(POLL_INTERVAL);
            continue;
        };
        let _ = child.kill();
        let _ = child.wait();
        return Err(Error::new(kind).with_hint(Some("`virsh list` shows if libvirt answers")));
    }
}

/// Returns the text of an error of `virsh`, in one line.
fn message(stderr: &str) -> String {
    let lines = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let lines = lines.map(|line| line.strip_prefix("error: ").unwrap_or(line));
    let message = lines.collect::<Vec<_>>().join("; ");
    if message.is_empty() {
        return "virsh failed without a message".to_owned();
    }
    message
}

/// Returns the advice for an error of `virsh`.
fn hint(message: &str) -> Option<&'static str> {
    let message = message.to_ascii_lowercase();
    let hints = [
        (
            "failed to get domain",
            "`virsh list --all` lists the domains; libvirt:URI#DOMAIN names a domain of another \
             libvirt, such as libvirt:qemu:///system#DOMAIN",
        ),
        (
            "domain is not running",
            "start the domain, or name its save image, which `virsh managedsave` writes",
        ),
        (
            "failed to connect",
            "check that libvirtd or virtqemud runs, and name its URI, as in \
             libvirt:qemu:///system#DOMAIN",
        ),
        ("authentication", "become root, or join the group libvirt"),
        ("access denied", "become root, or join the group libvirt"),
        (
            "pass-fds",
            "libvirt passes descriptors since version 8.2; use the socket of QEMU's monitor",
        ),
    ];
    let found = hints.iter().find(|(words, _)| message.contains(words));
    found.map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_uuid_and_a_name_on_each_line() {
        const UUID: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";
        let list = format!("{UUID} web\n{UUID} my vm  \n\n");
        assert_eq!(
            parse_list(&list),
            Some(vec![(UUID, "web"), (UUID, "my vm")])
        );
        assert_eq!(parse_list("\n"), Some(Vec::new()));
        for other in ["web", " Id   Name   State", "6695eb01 web"] {
            assert_eq!(parse_list(other), None, "{other}");
        }
    }

    #[test]
    fn an_error_of_virsh_becomes_one_line_with_a_hint() {
        let stderr = "error: failed to get domain 'web'\n\
                      error: Domain not found: no domain with matching name 'web'\n\n";
        let message = message(stderr);
        assert_eq!(
            message,
            "failed to get domain 'web'; Domain not found: no domain with matching name 'web'"
        );
        assert!(hint(&message).unwrap().contains("virsh list --all"));
        assert_eq!(super::message(""), "virsh failed without a message");
        assert_eq!(hint("another error"), None);
    }
}
