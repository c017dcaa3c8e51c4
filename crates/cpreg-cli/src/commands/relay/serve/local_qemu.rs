//! [`LocalQemu`]: the QEMU that listens at a migration's address. [`ProfileCache`]: profiles of
//! such QEMUs.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cpreg_hosts::Profile;
use cpreg_relay::serve::find_listening_process;

use crate::arguments::DEFAULT_TIMEOUT_SECONDS;
use crate::destination::qemu::{self, ProbeOptions};
use crate::failure::Failure;
use crate::interrupt;
use crate::local_process::has_kvm_vm;

/// QEMU of this host that waits for a migration.
#[derive(Debug)]
pub(super) struct LocalQemu {
    /// Path of the program, as this process sees it.
    program: PathBuf,
    /// Command line, with the program.
    command: Vec<OsString>,
    /// `true` if its VM runs in KVM.
    pub(super) uses_kvm: bool,
}

impl LocalQemu {
    /// Finds the QEMU that listens at an address.
    ///
    /// # Errors
    /// Returns an error if no QEMU listens there, or this process may not inspect it.
    pub(super) fn find(address: SocketAddr) -> Result<Self, Failure> {
        let failure = || Failure::new(format!("cannot find the QEMU that listens at {address}"));
        let process = find_listening_process(address)
            .map_err(|error| failure().with_cause(error))?
            .ok_or_else(|| {
                failure().with_hint(
                    "run the relay as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, in \
                     the network and process namespaces of QEMU",
                )
            })?;
        let qemu = Self::open(process).map_err(|error| failure().with_cause(error))?;
        if !qemu.is_qemu() {
            return Err(failure().with_hint(format!(
                "{} listens there, which is not a QEMU",
                qemu.program.display()
            )));
        }
        Ok(qemu)
    }

    /// Returns `true` if the program has a name of QEMU, such as `qemu-system-aarch64` or
    /// `qemu-kvm`. The relay starts no other program.
    fn is_qemu(&self) -> bool {
        let name = self.program.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name.starts_with("qemu-system-") || name.starts_with("qemu-kvm"))
    }

    fn open(process: u32) -> std::io::Result<Self> {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let words = fs::read(folder.join("cmdline"))?;
        let words = words.strip_suffix(&[0]).unwrap_or(&words);
        let mut command: Vec<_> = words
            .split(|byte| *byte == 0)
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect();
        let program = fs::read_link(folder.join("exe"))?;
        // The first word may be a relative path, or not a path at all.
        if let Some(first) = command.first_mut() {
            first.clone_from(&program.clone().into_os_string());
        }
        Ok(Self {
            program,
            command,
            uses_kvm: has_kvm_vm(process)?,
        })
    }

    /// Returns the name of the VM: `-name guest=web` or `-name web`.
    pub(super) fn vm_name(&self) -> Option<String> {
        let mut words = self.command.iter().map(|word| word.to_string_lossy());
        words.find(|word| word == "-name" || word == "--name")?;
        let value = words.next()?;
        let parts: Vec<&str> = value.split(',').collect();
        let named = parts.iter().find_map(|part| part.strip_prefix("guest="));
        let name = named.or_else(|| parts.first().copied().filter(|part| !part.contains('=')))?;
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// Profiles of QEMUs, by isolated command line and program.
#[derive(Debug, Default)]
pub(super) struct ProfileCache(Mutex<HashMap<Key, Entry>>);

/// Everything that decides the registers of a QEMU. An isolated command line names no disks and
/// sockets.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    command: Vec<OsString>,
    /// Device, inode, and time of the last change (seconds, nanoseconds) of the program's file. An
    /// upgrade replaces the file.
    program: (u64, u64, i64, i64),
}

/// Profile; `None` until it is recorded. Its lock makes other migrations wait for the recording.
type Entry = Arc<Mutex<Option<Profile>>>;

impl ProfileCache {
    /// Returns the profile of a QEMU. Records it if the cache lacks the same command line.
    ///
    /// # Errors
    /// Returns an error if the command line cannot be isolated, or the QEMU cannot be recorded.
    pub(super) fn profile(&self, qemu: &LocalQemu) -> Result<Profile, Failure> {
        let isolated = qemu::isolate_command(&qemu.command, &[])?;
        let metadata = fs::metadata(&qemu.program).map_err(|error| {
            Failure::new(format!("cannot read {}", qemu.program.display())).with_cause(error)
        })?;
        let key = Key {
            command: without_identity(&isolated.command),
            program: (
                metadata.dev(),
                metadata.ino(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            ),
        };
        let entry = {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            entries.entry(key).or_default().clone()
        };
        let mut entry = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = &*entry {
            return Ok(profile.clone());
        }
        let options = ProbeOptions {
            name: None,
            allowed_options: &[],
            has_devices: true,
            wait: interrupt::wait_options(DEFAULT_TIMEOUT_SECONDS)?,
        };
        let profile = qemu::record_isolated(&isolated, &options)?;
        Ok(entry.insert(profile).clone())
    }
}

/// Returns a command line without the options that only identify a VM.
fn without_identity(command: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::with_capacity(command.len());
    let mut words = command.iter();
    while let Some(word) = words.next() {
        if word == "-name" || word == "-uuid" {
            words.next();
        } else {
            kept.push(word.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qemu(command: &str) -> LocalQemu {
        LocalQemu {
            program: PathBuf::from("qemu"),
            command: command.split(' ').map(OsString::from).collect(),
            uses_kvm: false,
        }
    }

    #[test]
    fn the_name_of_the_vm_is_that_of_libvirt() {
        for (command, name) in [
            ("qemu -name guest=web,debug-threads=on -S", Some("web")),
            ("qemu -name debug-threads=on,guest=web", Some("web")),
            ("qemu -S -name web", Some("web")),
            ("qemu -name debug-threads=on", None),
            ("qemu -name", None),
            ("qemu -S", None),
        ] {
            assert_eq!(qemu(command).vm_name().as_deref(), name, "{command}");
        }
    }

    #[test]
    fn the_name_and_the_uuid_do_not_separate_profiles() {
        let command = |text: &str| qemu(text).command;
        let one = command("qemu -name guest=a -m 128 -uuid 1 -cpu max");
        let other = command("qemu -name guest=b -m 128 -uuid 2 -cpu max");
        assert_eq!(without_identity(&one), without_identity(&other));
        assert_eq!(without_identity(&one), command("qemu -m 128 -cpu max"));
    }

    #[test]
    fn another_program_is_not_started() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let failure = LocalQemu::find(listener.local_addr().unwrap()).unwrap_err();
        assert!(failure.hints()[0].contains("not a QEMU"), "{failure}");

        let qemu = LocalQemu::open(std::process::id()).unwrap();
        assert_eq!(qemu.command[0], std::env::current_exe().unwrap());
        assert!(!qemu.uses_kvm);
        for (program, is_qemu) in [
            ("/usr/bin/qemu-system-aarch64", true),
            ("/usr/libexec/qemu-kvm", true),
            ("/usr/bin/qemu-nbd", false),
            ("/usr/sbin/sshd", false),
        ] {
            let mut other = super::tests::qemu("qemu");
            other.program = PathBuf::from(program);
            assert_eq!(other.is_qemu(), is_qemu, "{program}");
        }
    }
}
