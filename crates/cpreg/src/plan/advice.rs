//! What is said about a decision: why, in words, and what to do about it, as data.

use core::fmt;

use super::{Action, Decision, Reason};
use crate::remedy::Remedy;
use crate::tolerance::{Handling, RegisterDifference, Tolerances};

impl Reason {
    /// The reason in words.
    pub fn display<'a>(&'a self, tolerances: &'a Tolerances) -> impl fmt::Display + 'a {
        ReasonDisplay {
            reason: self,
            tolerances,
        }
    }
}

impl Decision {
    /// Returns what to do about it: what the table says, or what can be done about every register with that reason. A decision that
    /// does not stand in the way needs nothing.
    pub fn remedy(&self, tolerances: &Tolerances) -> Option<Remedy> {
        let entry = match &self.reason {
            Reason::NotTolerated(entry) | Reason::ValueUnknown(Some(entry)) => {
                tolerances.entries().get(*entry)
            }
            _ => None,
        };
        if let Some(remedy) = entry.and_then(|entry| entry.remedy.clone()) {
            return Some(remedy);
        }
        if !matches!(self.action, Action::Refuse | Action::Undecided) {
            return None;
        }
        match &self.reason {
            Reason::OnlyInInput => Some(Remedy::DestinationWithRegister),
            Reason::ValueNotTaken => Some(Remedy::DestinationForValue),
            Reason::NotTolerated(_) => match entry?.difference {
                RegisterDifference::OnlyInInput => Some(Remedy::DestinationWithRegister),
                RegisterDifference::ValueNotTaken => Some(Remedy::DestinationForValue),
                RegisterDifference::OnlyAtDestination => None,
            },
            Reason::SetNotTaken => Some(Remedy::SetAcceptedValue),
            Reason::Disagreement | Reason::FieldDisagreement(_) => Some(Remedy::AlignVcpus),
            Reason::UserCondition => Some(Remedy::IgnoreAny),
            _ => None,
        }
    }
}

struct ReasonDisplay<'a> {
    reason: &'a Reason,
    tolerances: &'a Tolerances,
}

impl fmt::Display for ReasonDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::ValueTaken => f.write_str("the destination takes it"),
            Reason::Tolerated(entry) | Reason::NotTolerated(entry) => {
                let Some(entry) = self.tolerances.entries().get(*entry) else {
                    return f.write_str("a tolerance");
                };
                // An entry that refuses has no condition: its reason is why it does.
                if matches!(self.reason, Reason::Tolerated(_)) || entry.handling == Handling::Refuse
                {
                    f.write_str(&entry.reason)
                } else {
                    write!(f, "tolerated only when this holds: {}", entry.reason)
                }
            }
            Reason::OnlyInInput => f.write_str("the destination does not have this register"),
            Reason::OnlyAtDestination => f.write_str("the VM does not have this register"),
            Reason::ResetUnknown => f.write_str(
                "the VM does not have this register, the loader would write something undefined, \
                 and its reset value is not known",
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
                "the VM's {}.{} of 0 hides it at the destination ({}), and the loader fails to \
                 write it",
                hides.id_register, hides.field, hides.first_version
            ),
            Reason::PerhapsHidden(hides) => write!(
                f,
                "the VM's {}.{} of 0 hides it on kernels since {}, and nothing tells whether the \
                 destination's is one",
                hides.id_register, hides.field, hides.first_version
            ),
            Reason::Disagreement => {
                f.write_str("the vCPUs hold different values in a register that the VM has once")
            }
            Reason::FieldDisagreement(field) => write!(
                f,
                "the vCPUs hold different values in {field}, which the VM has once at the \
                 destination"
            ),
            Reason::UserIgnores => f.write_str("ignored at your request; the value is lost"),
            Reason::UserDrops => {
                f.write_str("hidden from the destination at your request; the value is lost")
            }
            Reason::UserSets => f.write_str("set at your request"),
            Reason::UserCondition => {
                f.write_str("you said to ignore it only if it holds another value")
            }
            Reason::UserAccepts => f.write_str("adjusted with your consent"),
            Reason::SameStateAs(register) => write!(f, "shows the same as {register}"),
            Reason::ExtensionKnown => f.write_str("the loader knows it"),
            Reason::ExtensionIdle(why)
            | Reason::ExtensionInUse(why)
            | Reason::ExtensionFromDestination(why) => f.write_str(why),
            Reason::ExtensionUnknown => f.write_str("nothing tells what the loader does with it"),
        }
    }
}
