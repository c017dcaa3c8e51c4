//! Two connected emulated hosts, booted together, each with its own job.
//!
//! The connection is a network of two hosts if both kernels have a network driver available.
//! Otherwise the connection is a second serial line. QEMU's `virt` offers a second PL011 on request
//! (9.1 and later), whose device every kernel names `/dev/ttyAMA1`. The jobs decide how to use the
//! connection.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use e2e_framework::Result;
use e2e_framework::lab::boot::{EmulatedHost, Wire};
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::{self, Kernel};

/// Serial port of each host that is connected to the other host.
pub(crate) const SERIAL_PORT: &str = "/dev/ttyAMA1";

/// Two connected hosts.
#[derive(Clone, Debug)]
pub(crate) struct HostPair<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) cpu: &'a Cpu,
    pub(crate) kernels: [&'a Kernel; 2],
    /// `true` if the hosts are connected by a serial line instead of a network.
    pub(crate) serial: bool,
    /// Folder below `results` for the output of the hosts.
    pub(crate) results: &'a str,
}

/// Fetches the two kernels of these versions, or of the default ones.
///
/// # Errors
/// Returns an error if a kernel cannot be fetched, or the user named another number of kernels.
pub(crate) fn fetch_two_kernels(
    lab: &Lab,
    versions: &[String],
    default: [&str; 2],
) -> Result<[Kernel; 2]> {
    let mut names: Vec<_> = versions.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(default);
    }
    let kernels = lab.with_make_lock(|| kernels::fetch_versions(&lab.folder, &names))?;
    let two: std::result::Result<[Kernel; 2], _> = kernels.try_into();
    two.map_err(|_| "expected two kernels: --kernel VERSION --kernel VERSION".into())
}

impl HostPair<'_> {
    /// Returns `true` if these kernels need the serial line.
    pub(crate) fn needs_serial(kernels: [&Kernel; 2]) -> bool {
        !kernels.iter().all(|kernel| kernel.has_network())
    }

    /// Boots both hosts and runs their jobs, which may take `time` in addition to the boot.
    ///
    /// # Errors
    /// Returns an error if a host does not boot or does not shut down.
    pub(crate) fn run(&self, jobs: &[Job; 2], time: Duration) -> Result<()> {
        // The path of a socket is limited to about a hundred characters, and the path of the lab
        // folder may be longer.
        let sockets = tempfile::Builder::new().prefix("cpreg-lab-").tempdir()?;
        let socket = sockets.path().join("wire");
        let wire = |is_listener| {
            let socket = socket.clone();
            if self.serial {
                Wire::Serial {
                    socket,
                    is_listener,
                }
            } else {
                Wire::Network {
                    socket,
                    is_listener,
                }
            }
        };
        let start = |number: usize| {
            let mut host = EmulatedHost::new(self.kernels[number], self.cpu);
            host.wire = Some(wire(number == 1));
            host.timeout += time;
            host.run(self.lab, &jobs[number], &self.results_of(number))
        };
        thread::scope(|scope| {
            let second = scope.spawn(|| start(1));
            let first = start(0);
            let second = second
                .join()
                .unwrap_or_else(|_| Err("a thread panicked".into()));
            first.and(second)
        })
    }

    /// Returns the folder with the results of a host.
    pub(crate) fn results_of(&self, number: usize) -> PathBuf {
        let [first, second] = self.kernels.map(|kernel| &kernel.version);
        let version = self.kernels[number].version.as_str();
        let name = format!("{first}__{second}__{}__{number}_{version}", self.cpu);
        self.lab
            .folder
            .join("results")
            .join(self.results)
            .join(name)
    }

    /// Returns the beginning of a host's script.
    pub(crate) fn setup_script(&self, number: usize) -> String {
        if self.serial {
            // A kernel without the second port must report that instead of waiting for it.
            format!(
                "[ -c {SERIAL_PORT} ] || {{ echo 'no {SERIAL_PORT} here' > /out/error; exit 2; }}\n"
            )
        } else {
            format!(
                "ifconfig eth0 {} netmask 255.255.255.0 up\n",
                address(number)
            )
        }
    }
}

/// Returns the address of a host in the network of the pair.
pub(crate) const fn address(number: usize) -> &'static str {
    if number == 0 { "10.0.0.1" } else { "10.0.0.2" }
}
