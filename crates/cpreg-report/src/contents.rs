//! [`Contents`]: what a stream, a report, a running QEMU, a profile or a recorded host holds, for
//! `show` and `diff`.
//!
//! Nothing here says what a value means for a migration.

use cpreg::destination::{Destination, DestinationVcpu, ValueOrigin};
use cpreg::register::RegisterId;
use cpreg_hosts::profile::ProfileOrigin;

use crate::show::model::{ReportSummary, Stream};

/// Something that was read, and its CPU state.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What it is called.
    pub name: String,
    /// What it was packed with.
    pub compression: Option<&'static str>,
    /// Where it comes from.
    pub origin: Origin,
    /// Its CPU state, as that of a destination.
    pub destination: Destination,
    /// Of each vCPU of a stream, what it keeps before its list of registers.
    pub vcpu_states: Vec<VcpuState>,
}

/// Where contents come from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A migration stream.
    Stream(Stream),
    /// The stream in a report.
    Report {
        /// About the stream.
        stream: Stream,
        /// About the report.
        report: ReportSummary,
        /// The verdict of the check in it.
        verdict: Option<String>,
    },
    /// A running QEMU.
    Running {
        /// About what its devices hold.
        stream: Stream,
        /// Its version.
        version: String,
    },
    /// A profile.
    Profile(Box<ProfileOrigin>),
    /// A recorded host, as it is for a guest.
    Host(Box<ProfileOrigin>),
}

/// The core registers of a vCPU, which QEMU keeps before its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuState {
    /// Whether it is switched on, in words.
    pub power: &'static str,
    /// The exception level or mode that it is in, in words.
    pub mode: String,
    /// The registers.
    pub registers: Vec<CoreRegister>,
}

/// One core register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreRegister {
    /// Its name.
    pub name: String,
    /// KVM's id; none in AArch32 state.
    pub id: Option<RegisterId>,
    /// What it holds.
    pub value: u64,
}

impl Contents {
    /// What kind of file it is, in words.
    pub const fn kind(&self) -> &'static str {
        match &self.origin {
            Origin::Stream(_) => "migration stream",
            Origin::Report { .. } => "report of a migration stream",
            Origin::Running { .. } => "running QEMU",
            Origin::Profile(_) => "profile",
            Origin::Host(_) => match self.destination.value_origin {
                ValueOrigin::EmulatedHost => "recorded host with an emulated CPU",
                ValueOrigin::Reset | ValueOrigin::Guest => "recorded host",
            },
        }
    }

    /// About the stream, if it is or has one.
    pub const fn stream(&self) -> Option<&Stream> {
        match &self.origin {
            Origin::Stream(stream)
            | Origin::Report { stream, .. }
            | Origin::Running { stream, .. } => Some(stream),
            Origin::Profile(_) | Origin::Host(_) => None,
        }
    }

    /// The machine type.
    pub fn machine(&self) -> Option<&str> {
        self.destination.shape.as_ref()?.machine.as_deref()
    }

    /// The vCPUs.
    pub fn vcpus(&self) -> &[DestinationVcpu] {
        &self.destination.vcpus
    }
}
