//! Processes of this machine: the peer of a monitor, and the VM of KVM that a process has.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Link of the descriptor of a VM in KVM, below `/proc/PID/fd`.
const KVM_VM_LINK: &str = "anon_inode:kvm-vm";

/// Returns the process id of the peer of a monitor socket, if it runs on this machine.
///
/// The peer of a forwarded socket is the process that forwards it, such as `ssh`.
pub(crate) fn peer_pid(monitor: &Path) -> Option<i32> {
    let socket = UnixStream::connect(monitor).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}

/// Returns `true` if a process has a VM in KVM of this machine.
///
/// # Errors
/// Returns an error if this process may not inspect the other.
pub(crate) fn has_kvm_vm(process: u32) -> std::io::Result<bool> {
    let mut files = fs::read_dir(PathBuf::from(format!("/proc/{process}/fd")))?.flatten();
    Ok(files
        .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == KVM_VM_LINK)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_peer_of_an_own_socket_is_this_process_without_a_vm() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("monitor");
        let _listener = UnixListener::bind(&path).expect("a socket");
        let own = std::process::id();
        assert_eq!(peer_pid(&path), i32::try_from(own).ok());
        assert!(!has_kvm_vm(own).expect("this process"));
        assert_eq!(peer_pid(&folder.path().join("none")), None);
    }
}
