//! What is said about a decision: why, and what to do. Data, rendered by whoever reports.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use core::fmt;

use super::Decision;
use crate::destination::kernel::Hides;
use crate::register::{RegisterId, Value};
use crate::tolerance::{Handling, Tolerances};

/// Why a decision was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The destination has the register and takes the value.
    Taken,
    /// The entry of that number in the table of tolerances holds.
    Tolerated(usize),
    /// The entry of that number is about it, and does not hold.
    NotTolerated(usize),
    /// Only in the input, and no entry is about it.
    OnlyInInput,
    /// Only at the destination.
    OnlyAtDestination,
    /// Only at the destination, and its reset value must be written but is not known.
    ResetUnknown,
    /// The destination does not take the value.
    ValueNotTaken,
    /// The destination does not take the value that the user set.
    SetNotTaken,
    /// Nothing tells whether the destination takes the value; the entry of that number has advice.
    ValueUnknown(Option<usize>),
    /// Another register's value hides it at the destination, so the loader's write would fail.
    Hidden(&'static Hides),
    /// Another register's value may hide it at the destination.
    PerhapsHidden(&'static Hides),
    /// The vCPUs disagree on a register that they share.
    Disagreement,
    /// The vCPUs disagree on this field, which the VM has once, of a register that each has.
    FieldDisagreement(&'static str),
    /// The user said to ignore it.
    UserIgnores,
    /// The user said to hide it from the destination.
    UserHides,
    /// The user said to set it.
    UserSets,
    /// The user said to ignore it if it holds a given value, and it does not.
    UserCondition,
    /// The user accepted an adjustment.
    UserAccepts,
    /// The same decision as for the register that shows the same state.
    AsFor(RegisterId),
    /// The loader knows this extension.
    ExtensionKnown,
    /// The loader does not know this extension, and it says nothing that would be lost.
    ExtensionIdle(Cow<'static, str>),
    /// The loader does not know this extension, and it is in use.
    ExtensionInUse(Cow<'static, str>),
    /// The loader takes this over from the input, where it must be the destination's own.
    ExtensionIsHosts(Cow<'static, str>),
    /// Nothing tells what the loader does with this extension.
    ExtensionUnknown,
}

impl Reason {
    /// The reason in words.
    pub fn display<'a>(&'a self, tolerances: &'a Tolerances) -> impl fmt::Display + 'a {
        Words {
            reason: self,
            tolerances,
        }
    }

    /// What to do about it, if the table has something to say; [`Decision::advice`] is that for people.
    fn advice<'a>(&self, tolerances: &'a Tolerances) -> Option<&'a str> {
        match self {
            Self::NotTolerated(entry) | Self::ValueUnknown(Some(entry)) => tolerances
                .entries()
                .get(*entry)
                .map(|entry| &*entry.advice)
                .filter(|advice| !advice.is_empty()),
            _ => None,
        }
    }

    /// The number of the table's entry behind it.
    pub const fn tolerance(&self) -> Option<usize> {
        match self {
            Self::Tolerated(entry) | Self::NotTolerated(entry) => Some(*entry),
            _ => None,
        }
    }
}

impl Decision {
    /// What to do about it, if the table has something to say: the entry's advice, with the destination's value, or VALUE where that is not
    /// known, in its place.
    pub fn advice(&self, tolerances: &Tolerances) -> Option<String> {
        let advice = self.reason.advice(tolerances)?;
        let host = self.host.as_ref().and_then(Value::as_u64);
        let host = host.map_or_else(
            || "VALUE".to_owned(),
            |value| {
                let name = self.register.value_name(value);
                name.map_or_else(|| format!("{value:#x}"), str::to_owned)
            },
        );
        Some(advice.replace("{host}", &host))
    }
}

struct Words<'a> {
    reason: &'a Reason,
    tolerances: &'a Tolerances,
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Taken => f.write_str("the destination takes it"),
            Reason::Tolerated(entry) | Reason::NotTolerated(entry) => {
                let Some(entry) = self.tolerances.entries().get(*entry) else {
                    return f.write_str("a tolerance");
                };
                // An entry that refuses has no condition: its reason is why it does.
                if matches!(self.reason, Reason::Tolerated(_))
                    || entry.handling == Handling::Refuse
                {
                    f.write_str(&entry.reason)
                } else {
                    write!(f, "tolerated only when this holds: {}", entry.reason)
                }
            }
            Reason::OnlyInInput => f.write_str("the destination does not have this register"),
            Reason::OnlyAtDestination => f.write_str("the VM does not have this register"),
            Reason::ResetUnknown => f.write_str(
                "the VM does not have this register, the loader would write something undefined, and its reset value is not known",
            ),
            Reason::ValueNotTaken => f.write_str("the destination does not take this value"),
            Reason::SetNotTaken => {
                f.write_str("the destination does not take the value that you set")
            }
            Reason::ValueUnknown(_) => {
                f.write_str("nothing tells whether the destination takes this value")
            }
            Reason::Hidden(hides) => write!(
                f,
                "the VM's {}.{} of 0 hides it at the destination ({}), and the loader fails to write it",
                hides.by, hides.field, hides.since
            ),
            Reason::PerhapsHidden(hides) => write!(
                f,
                "the VM's {}.{} of 0 hides it on kernels since {}, and nothing tells whether the destination's is one",
                hides.by, hides.field, hides.since
            ),
            Reason::Disagreement => {
                f.write_str("the vCPUs hold different values in a register that the VM has once")
            }
            Reason::FieldDisagreement(field) => write!(
                f,
                "the vCPUs hold different values in {field}, which the VM has once at the destination"
            ),
            Reason::UserIgnores => f.write_str("ignored at your request; the value is lost"),
            Reason::UserHides => {
                f.write_str("hidden from the destination at your request; the value is lost")
            }
            Reason::UserSets => f.write_str("set at your request"),
            Reason::UserCondition => {
                f.write_str("you said to ignore it only if it holds another value")
            }
            Reason::UserAccepts => f.write_str("adjusted with your consent"),
            Reason::AsFor(register) => write!(f, "shows the same as {register}"),
            Reason::ExtensionKnown => f.write_str("the loader knows it"),
            Reason::ExtensionIdle(why)
            | Reason::ExtensionInUse(why)
            | Reason::ExtensionIsHosts(why) => f.write_str(why),
            Reason::ExtensionUnknown => {
                f.write_str("nothing tells what the loader does with it")
            }
        }
    }
}
