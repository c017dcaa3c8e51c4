//! The answer of `hosts`.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | recorded hosts as the model |
//! | [`model`] | the model, schema `cpreg.hosts/1` |
//! | [`text`] | its text |

pub mod model;
pub mod text;

use cpreg_hosts::Host;

use model::{Kernel, Recording, Report, SCHEMA};

impl Report {
    /// Makes a report of recorded hosts.
    pub fn of(hosts: &[Host<'_>]) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            hosts: hosts.iter().map(model::Host::from).collect(),
        }
    }
}

impl From<&Host<'_>> for model::Host {
    fn from(host: &Host<'_>) -> Self {
        let kernel = host.kernel();
        let unless_empty = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
        let recordings = host.recorded().into_iter();
        let recordings = recordings.map(|(features, registers)| Recording {
            features: features.names().map(str::to_owned).collect(),
            registers,
        });
        Self {
            name: host.name(),
            kernel: Kernel {
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
