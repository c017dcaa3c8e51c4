//! [`Contents`] of a stream, report, running QEMU, profile or recorded host, for `show` and
//! `diff`.
//!
//! This module does not judge what a value means for a migration; `check` does.

use cpreg::destination::{Destination, DestinationVcpu, ValueOrigin};
use cpreg::register::RegisterId;
use cpreg_hosts::profile::ProfileOrigin;

use crate::show::model::{Container, ReportSummary, Stream};

/// An input of `show` or `diff`, and its CPU state.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Name of the input.
    pub name: String,
    /// Compression of the file.
    pub compression: Option<&'static str>,
    /// File of another program that holds the VM, if it is in one.
    pub container: Option<Container>,
    /// Kind and origin of the input.
    pub origin: Origin,
    /// CPU state of the input, in the form of a destination.
    pub destination: Destination,
    /// Core registers of each vCPU of a stream, which QEMU stores before the register list.
    pub vcpu_states: Vec<VcpuState>,
}

/// Kind and origin of an input.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A migration stream.
    Stream(Stream),
    /// The stream in a report.
    Report {
        /// Properties of the stream.
        stream: Stream,
        /// Properties of the report.
        report: ReportSummary,
        /// Verdict of the check that the report contains.
        verdict: Option<String>,
    },
    /// Registers in a snapshot of another VMM.
    Snapshot,
    /// A running QEMU.
    Running {
        /// Properties of its device state.
        stream: Stream,
        /// Version of the running QEMU.
        version: String,
    },
    /// A profile.
    Profile(Box<ProfileOrigin>),
    /// A recorded host, for guests with one set of features.
    Host(Box<ProfileOrigin>),
}

/// The core registers of a vCPU, which QEMU stores before the register list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuState {
    /// Power state, in words.
    pub power: &'static str,
    /// Exception level or AArch32 mode, in words.
    pub mode: String,
    /// Core registers.
    pub registers: Vec<CoreRegister>,
}

/// One core register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreRegister {
    /// Name of the register.
    pub name: String,
    /// KVM's id; `None` in AArch32 state.
    pub id: Option<RegisterId>,
    /// Value of the register.
    pub value: u64,
}

impl Contents {
    /// Returns the kind of input, in words.
    pub const fn kind(&self) -> &'static str {
        match &self.origin {
            Origin::Stream(_) if self.container.is_some() => "saved VM",
            Origin::Stream(_) => "migration stream",
            Origin::Report { .. } => "report of a migration stream",
            Origin::Running { .. } => "running QEMU",
            Origin::Snapshot => "saved VM",
            Origin::Profile(_) => "profile",
            Origin::Host(_) => match self.destination.value_origin {
                ValueOrigin::EmulatedHost => "recorded host with an emulated CPU",
                ValueOrigin::Reset | ValueOrigin::Guest => "recorded host",
            },
        }
    }

    /// Returns the properties of the stream, if the input is or contains one.
    pub const fn stream(&self) -> Option<&Stream> {
        match &self.origin {
            Origin::Stream(stream)
            | Origin::Report { stream, .. }
            | Origin::Running { stream, .. } => Some(stream),
            Origin::Snapshot | Origin::Profile(_) | Origin::Host(_) => None,
        }
    }

    /// Returns the machine type.
    pub fn machine(&self) -> Option<&str> {
        self.destination.shape.as_ref()?.machine.as_deref()
    }

    /// Returns the vCPUs with their registers and extensions.
    pub fn vcpus(&self) -> &[DestinationVcpu] {
        &self.destination.vcpus
    }
}
