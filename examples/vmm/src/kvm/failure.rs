//! Failures of ioctls, by the step that failed.

use crate::migrate::Failure;

/// Returns a function that names the failed step of an ioctl error.
pub(super) fn step_failure(step: &'static str) -> impl Fn(kvm_ioctls::Error) -> Failure {
    move |error| Failure::new(step, error)
}
