//! Two emulated hosts that are connected: one boot of both, each with a job of its own.
//!
//! The connection is a network of two, where both kernels have a driver at hand, else a second serial line: QEMU's `virt` has a second PL011 if it is asked
//! for one (9.1 and later), `/dev/ttyAMA1` to every kernel. What goes over it is the jobs' business.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use e2e_framework::Result;
use e2e_framework::lab::boot::{EmulatedHost, Wire};
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::Kernel;

/// The second serial port of the machine.
pub(crate) const SERIAL: &str = "/dev/ttyAMA1";

/// Two hosts.
#[derive(Clone, Debug)]
pub(crate) struct HostPair<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) cpu: &'a Cpu,
    pub(crate) kernels: [&'a Kernel; 2],
    pub(crate) serial: bool,
    /// The folder below `results` where what they said stays.
    pub(crate) results: &'a str,
}

impl HostPair<'_> {
    /// Whether a pair of kernels needs the serial line.
    pub(crate) fn needs_serial(kernels: [&Kernel; 2]) -> bool {
        !kernels.iter().all(|kernel| kernel.has_network())
    }

    /// Boots both, and has each do its job, which may take `time` beyond the boot.
    ///
    /// # Errors
    /// If a host does not boot or not end.
    pub(crate) fn run(&self, jobs: &[Job; 2], time: Duration) -> Result<()> {
        // A socket's path has a hundred characters; the lab folder's may have more.
        let sockets = tempfile::Builder::new().prefix("cpreg-lab-").tempdir()?;
        let socket = sockets.path().join("wire");
        let wire = |listens| {
            let socket = socket.clone();
            if self.serial {
                Wire::Serial {
                    socket,
                    is_listener: listens,
                }
            } else {
                Wire::Network {
                    socket,
                    is_listener: listens,
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
                .unwrap_or_else(|_| Err("a thread died".into()));
            first.and(second)
        })
    }

    /// Where what a host brought back is.
    pub(crate) fn results_of(&self, number: usize) -> PathBuf {
        let [first, second] = self.kernels.map(|kernel| &kernel.version);
        let end = self.kernels[number].version.as_str();
        let name = format!("{first}__{second}__{}__{number}_{end}", self.cpu);
        self.lab
            .folder
            .join("results")
            .join(self.results)
            .join(name)
    }

    /// What a host's script begins with.
    pub(crate) fn setup_script(&self, number: usize) -> String {
        if self.serial {
            // A kernel that does not see the second port must say so, and not wait for it.
            format!("[ -c {SERIAL} ] || {{ echo 'no {SERIAL} here' > /out/said; exit 2; }}\n")
        } else {
            format!(
                "ifconfig eth0 {} netmask 255.255.255.0 up\n",
                address(number)
            )
        }
    }
}

/// A host's address in the network of two.
pub(crate) const fn address(number: usize) -> &'static str {
    if number == 0 { "10.0.0.1" } else { "10.0.0.2" }
}
