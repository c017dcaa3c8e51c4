//! Domains of libvirt: their monitor, their XML, and their QEMU's command line, through `virsh`.
//!
//! | file | content |
//! |---|---|
//! | `address` | [`DomainAddress`]: `libvirt:[URI#]DOMAIN`; [`LibvirtAddress`]: `libvirt:[URI#]` |
//! | `virsh` | [`Virsh`]: the program, with its time limit and errors |
//! | `monitor` | [`DomainMonitor`]: QMP commands for a running domain's QEMU |
//! | `command_line` | the words of the command line that libvirt prints |
//!
//! libvirt holds the only connection to the monitor of its QEMU. It passes commands and file
//! descriptors on (`virsh qemu-monitor-command --pass-fds`, libvirt 8.2 and later), and marks the
//! domain as tainted (`custom-monitor`).

mod address;
mod command_line;
mod monitor;
mod virsh;

pub use address::{DomainAddress, LibvirtAddress};
pub use monitor::DomainMonitor;
pub use virsh::{DomainXml, Virsh};
