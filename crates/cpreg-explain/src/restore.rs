//! Predicted messages of Firecracker and Cloud Hypervisor for a snapshot that does not load.
//!
//! [`cpreg::destination::load`] simulates the load. This module adds only the messages of each
//! release. [`crate::firecracker::parse`] and [`crate::cloud_hypervisor::parse`] are the inverse.
//!
//! | event | Firecracker | Cloud Hypervisor |
//! |---|---|---|
//! | a register is refused | the register in decimal; see below | errno |
//! | another counter frequency | – | both frequencies, since v53 (read, not recorded) |
//! | another snapshot version | the version, or a failure of the decoder | – |
//!
//! Since 1.13 Firecracker names the register in hexadecimal, with the value.
//!
//! Sources: recorded messages of Firecracker 1.10.1, 1.14.4 and 1.16.1, and of Cloud Hypervisor
//! v53.0.

use alloc::format;
use alloc::string::{String, ToString};

use cpreg::destination::load::{LoadEvent, SimulatedLoad};
use cpreg::destination::loader::Program;
use cpreg::destination::saved_state::SnapshotVersion;
use cpreg::destination::{Loader, Version};
use cpreg::errno::Errno;
use cpreg::register::{RegisterClass, RegisterId, Value};

/// First release of Firecracker that names the refused value.
const FIRST_WITH_VALUE: Version = Version::new(1, 13);

/// Returns the error that the loader reports for the simulated load, or `None` if the load succeeds
/// or the error is not known.
pub fn predicted_error(loader: Loader, load: &SimulatedLoad) -> Option<String> {
    let event = load.events.last()?;
    let (id, value, errno) = match event {
        LoadEvent::WriteFailed {
            id, value, errno, ..
        } => (id, value, errno),
        LoadEvent::CounterFrequency { saved, host } => {
            return Some(counter_frequency_error(*saved, *host));
        }
        _ => return None,
    };
    match loader.program {
        Program::FIRECRACKER => Some(firecracker_error(loader.version, *id, value, *errno)),
        Program::CLOUD_HYPERVISOR => Some(cloud_hypervisor_error(*id, *errno)),
        _ => None,
    }
}

/// Returns the innermost error of Cloud Hypervisor for another counter frequency.
fn counter_frequency_error(saved: u32, host: u32) -> String {
    format!(
        "Saved counter frequency ({saved} Hz) != host ({host} Hz); refusing to advance guest counter"
    )
}

fn firecracker_error(version: Version, id: RegisterId, value: &Value, errno: Errno) -> String {
    let register = if version >= FIRST_WITH_VALUE {
        format!("{:#x} to value {}", id.raw(), padded_hex(id, value))
    } else {
        id.raw().to_string()
    };
    format!(
        "Load snapshot error: Failed to restore from snapshot: Failed to build microVM from \
         snapshot: Failed to restore vCPUs: Failed to run action on vcpu: Failed to restore the \
         state of the vcpu: Failed to set register {register}: {}",
        with_number(errno)
    )
}

/// Formats all digits of a register's value.
fn padded_hex(id: RegisterId, value: &Value) -> String {
    let digits = 2 * id.size_bytes().unwrap_or(8);
    match value {
        Value::U64(number) => format!("0x{number:0digits$x}"),
        Value::Bytes(bytes) => {
            let bytes = bytes.iter().rev().map(|byte| format!("{byte:02x}"));
            bytes.fold(String::from("0x"), |text, byte| text + &byte)
        }
    }
}

fn cloud_hypervisor_error(id: RegisterId, errno: Errno) -> String {
    let access = match id.class() {
        RegisterClass::Core => "SetAarchCoreRegister",
        RegisterClass::Sve => "SetExtendedRegister",
        _ => "SetSysRegister",
    };
    format!(
        "[\"Error from API\",\"The VM could not be restored\",\"Error from CPU manager\",\"Error \
         creating vCPU\",\"Could not set the vCPU state {access}({})\"]",
        with_number(errno)
    )
}

/// Formats an error as Rust's standard library does.
fn with_number(errno: Errno) -> String {
    format!("{errno} (os error {})", errno.0)
}

/// Returns the error of a release of Firecracker for a snapshot of another version, or `None` if
/// the release loads the version or the error is not known.
///
/// A release decodes the file before it compares versions, or after. So some errors do not name the
/// version.
pub fn version_error(release: Version, saved: SnapshotVersion) -> Option<String> {
    let own = SnapshotVersion::from_release(release)?;
    if own.loads(saved) {
        return None;
    }
    let is_bitcode = saved.major >= 9;
    let reason = match (own.major, saved.major) {
        (9.., _) if !is_bitcode => {
            "An error occurred during bitcode serialization: bitcode error".to_string()
        }
        (8, _) if is_bitcode => {
            "An error occured during bincode decoding: LimitExceeded".to_string()
        }
        (8, _) => format!("Invalid data version: {saved}"),
        (4, 6 | 8) => "An error occured with serialization/deserialization: io error: failed to \
                       fill whole buffer"
            .to_string(),
        (4, _) if is_bitcode => "An error occured with serialization/deserialization: the size \
                                 limit has been reached"
            .to_string(),
        _ => return None,
    };
    Some(format!(
        "Load snapshot error: Failed to restore from snapshot: Failed to get snapshot state from \
         file: Failed to load snapshot state from file: {reason}"
    ))
}
