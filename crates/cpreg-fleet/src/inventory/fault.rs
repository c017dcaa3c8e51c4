//! [`Fault`]: why an item of an inventory cannot be used. The rest of the inventory can.

use std::fmt;

/// Fault of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Name of the node, VM or input.
    pub subject: String,
    /// Problem.
    pub problem: Problem,
}

/// Problem of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The input, or the file that an item names, cannot be read or parsed.
    Unreadable(String),
    /// No input has a record of the node.
    NoRecord,
    /// The node runs another kernel than its record is of.
    KernelChanged {
        /// Release in the record.
        recorded: String,
        /// Release that runs.
        running: String,
    },
    /// The record or the labels of the node have expired.
    Expired(String),
    /// Two inputs have different records for one name.
    TwoRecords,
    /// The name does not fit the system that gets the labels.
    Name(String),
    /// The inventory lacks the node of the VM.
    UnknownNode(String),
}

impl Fault {
    /// Returns the fault of an item.
    pub fn new(subject: impl Into<String>, problem: Problem) -> Self {
        Self {
            subject: subject.into(),
            problem,
        }
    }

    /// Returns the kind of the problem, for programs.
    pub const fn kind(&self) -> &'static str {
        match self.problem {
            Problem::Unreadable(_) => "unreadable",
            Problem::NoRecord => "no-record",
            Problem::KernelChanged { .. } => "kernel-changed",
            Problem::Expired(_) => "expired",
            Problem::TwoRecords => "two-records",
            Problem::Name(_) => "name",
            Problem::UnknownNode(_) => "unknown-node",
        }
    }

    /// Returns what the user can do.
    pub const fn hint(&self) -> Option<&'static str> {
        match self.problem {
            Problem::NoRecord | Problem::KernelChanged { .. } | Problem::Expired(_) => {
                Some("run `cpreg probe kvm -o FILE` on the node, and name the file")
            }
            Problem::TwoRecords => Some("give each node a name of its own"),
            Problem::UnknownNode(_) => Some("add the record of the node to the hosts"),
            Problem::Unreadable(_) | Problem::Name(_) => None,
        }
    }
}

/// Formats the problem without the subject.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Unreadable(reason) | Problem::Name(reason) => f.write_str(reason),
            Problem::NoRecord => f.write_str("no input has a record of this node"),
            Problem::KernelChanged { recorded, running } => write!(
                f,
                "the node runs the kernel {running}, and its record is of {recorded}"
            ),
            Problem::Expired(time) => write!(f, "the record expired at {time}"),
            Problem::TwoRecords => f.write_str("two different records have this name"),
            Problem::UnknownNode(node) => {
                write!(f, "its node {node} is not in the inventory")
            }
        }
    }
}
