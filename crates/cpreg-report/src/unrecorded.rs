//! [`UnrecordedKernel`]: the kernel of a named host, if it was not recorded.

use std::borrow::Cow;
use std::fmt;

use cpreg_hosts::unrecorded_host::Gap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::name_macro::names;

names! {
    /// Relation of an unrecorded kernel to the recorded ones.
    KernelRelation {
        /// Other releases of the same series were recorded.
        SAME_SERIES = "same-series",
        /// An older and a newer series were recorded.
        BETWEEN_SERIES = "between-series",
        /// All recorded kernels are older, or all are newer.
        OUTSIDE_SERIES = "outside-series",
        /// The distribution backports changes, so the version means nothing.
        BACKPORTS = "backports",
    }
}

impl From<Gap> for KernelRelation {
    fn from(gap: Gap) -> Self {
        match gap {
            Gap::SameSeries => Self::SAME_SERIES,
            Gap::BetweenSeries => Self::BETWEEN_SERIES,
            Gap::OutsideSeries => Self::OUTSIDE_SERIES,
            Gap::Backports(_) => Self::BACKPORTS,
        }
    }
}

/// Kernel of a named host that was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct UnrecordedKernel {
    /// Name of the host, without features.
    pub host: String,
    /// `"same-series"`, `"between-series"`, `"outside-series"` or `"backports"`.
    pub relation: KernelRelation,
    /// Reason why no single recorded kernel stands for this one, in words.
    pub reason: String,
}

impl UnrecordedKernel {
    /// Returns the kernel of a host with this relation to the recorded kernels.
    pub fn new(host: impl Into<String>, gap: Gap) -> Self {
        let host = host.into();
        let reason = match gap {
            Gap::SameSeries => "the recorded releases of its series differ".to_owned(),
            Gap::BetweenSeries => "its kernel is between two recorded ones".to_owned(),
            Gap::OutsideSeries => {
                "its kernel is older or newer than all recorded ones with its CPU".to_owned()
            }
            Gap::Backports(distribution) => format!(
                "{distribution} backports changes of KVM, and the version of its kernel does not \
                 tell the registers"
            ),
        };
        Self {
            host,
            relation: gap.into(),
            reason,
        }
    }

    /// Returns `true` if the recorded neighbours of the kernel enclose it.
    pub(crate) fn is_enclosed(&self) -> bool {
        [KernelRelation::SAME_SERIES, KernelRelation::BETWEEN_SERIES].contains(&self.relation)
    }

    /// Returns the fact that is not known, in words.
    pub(crate) fn missing_fact(&self) -> String {
        format!("which registers {} has ({})", self.host, self.reason)
    }
}
