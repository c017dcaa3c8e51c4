//! Exit status of the commands of `fleet`.

use crate::failure::Status;

/// Returns the exit status: a VM without a way precedes what is not known.
pub(super) const fn exit_status(is_refused: bool, is_incomplete: bool) -> Status {
    if is_refused {
        Status::Refused
    } else if is_incomplete {
        Status::Unknown
    } else {
        Status::Success
    }
}
