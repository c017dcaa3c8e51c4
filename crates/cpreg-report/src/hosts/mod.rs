//! Report of `hosts`.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | conversion of recorded hosts to the model |
//! | [`model`] | the model, schema `cpreg.hosts/2` |
//! | [`text`] | text of the report |

pub mod model;
pub mod text;

use cpreg_hosts::IndexedHost;

use crate::unrecorded::UnrecordedKernel;
use model::{HostsReport, KernelIdentity, Recording, SCHEMA};

impl HostsReport {
    /// Creates a report of recorded hosts. `unrecorded_kernel` is the kernel that they are next to.
    pub fn new(hosts: &[IndexedHost<'_>], unrecorded_kernel: Option<UnrecordedKernel>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            hosts: hosts.iter().map(model::HostSummary::from).collect(),
            unrecorded_kernel,
        }
    }
}

impl From<&IndexedHost<'_>> for model::HostSummary {
    fn from(host: &IndexedHost<'_>) -> Self {
        let kernel = host.kernel();
        let unless_empty = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let recordings = host.register_counts().into_iter();
        let recordings = recordings.map(|(features, registers)| Recording {
            features: features.names().map(str::to_owned).collect(),
            registers,
        });
        Self {
            name: host.name(),
            kernel: KernelIdentity {
                version: kernel.version.clone(),
                release: kernel.release.clone(),
                build: kernel.build.clone(),
                package: unless_empty(&kernel.package),
            },
            cpu: host.model().to_owned(),
            mode: unless_empty(host.mode()),
            midr: host.midr().into(),
            emulated: host.is_emulated(),
            recordings: recordings.collect(),
        }
    }
}
