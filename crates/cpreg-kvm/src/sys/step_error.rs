//! Errors of the steps that create a VM.

use crate::errno::{self, Errno};
use crate::error::{Error, ErrorKind};

/// Returns the errno of an error of `kvm-ioctls`.
pub(super) fn errno_of(error: kvm_ioctls::Error) -> Errno {
    errno::from_raw(error.errno())
}

/// Returns the conversion of an error in this step.
pub(super) fn create_error(step: &'static str) -> impl Fn(kvm_ioctls::Error) -> Error {
    move |error| {
        let errno = errno_of(error);
        ErrorKind::Create { step, errno }.into()
    }
}
