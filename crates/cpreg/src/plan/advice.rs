//! What is said about a decision: why, and what to do. Data, rendered by whoever reports.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;

use super::{Decision, Reason};
use crate::register::Value;
use crate::tolerance::{Handling, Tolerances};

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
