//! The reason of a decision as text, and its remedy as data.

use core::fmt;

use super::fatal_change::write_consequences;
use super::{Action, Decision, Reason};
use crate::register::RegisterId;
use crate::remedy::Remedy;
use crate::tolerance::{Handling, RegisterDifference, Tolerances};

impl Reason {
    /// Returns the reason as text.
    pub fn display<'a>(&'a self, tolerances: &'a Tolerances) -> impl fmt::Display + 'a {
        ReasonDisplay {
            reason: self,
            tolerances,
        }
    }
}

impl Decision {
    /// Returns the remedy of the tolerance, or the general remedy for the reason.
    ///
    /// A decision that does not block the load has a remedy only if its tolerance has one.
    pub fn remedy(&self, tolerances: &Tolerances) -> Option<Remedy> {
        let entry = match &self.reason {
            Reason::NotTolerated(entry)
            | Reason::ValueUnknown(Some(entry))
            | Reason::PerhapsListedAs(entry, _) => tolerances.entries().get(*entry),
            _ => None,
        };
        if let Some(remedy) = entry.and_then(|entry| entry.remedy.clone()) {
            return Some(remedy);
        }
        if !matches!(self.action, Action::Refuse | Action::Undecided) {
            return None;
        }
        match &self.reason {
            Reason::SourceOnly | Reason::OtherValueUnder(_) => {
                Some(Remedy::DestinationWithRegister)
            }
            Reason::ValueNotAccepted => Some(Remedy::DestinationForValue),
            Reason::CounterInUse(_) => Some(Remedy::text(
                "choose a destination with as many event counters; or end the use of the counters \
                 in the guest (perf), and save the VM again",
            )),
            Reason::NotTolerated(_) => match entry?.difference {
                RegisterDifference::SourceOnly => Some(Remedy::DestinationWithRegister),
                RegisterDifference::ValueNotAccepted => Some(Remedy::DestinationForValue),
                RegisterDifference::DestinationOnly | RegisterDifference::OtherId => None,
            },
            Reason::FatalChange(changes) => changes.first().map(|change| Remedy::KeepFields {
                register: self.register,
                field: change.field,
            }),
            Reason::RemovedAtFirstRun => Some(Remedy::SetField {
                register: RegisterId::ID_AA64ISAR2_EL1,
                field: "ATS1A",
                value: 1,
            }),
            Reason::SetNotAccepted => Some(Remedy::SetAcceptedValue),
            Reason::Disagreement | Reason::FieldDisagreement(_) => Some(Remedy::AlignVcpus),
            Reason::UserCondition => Some(Remedy::IgnoreAny),
            _ => None,
        }
    }
}

impl Reason {
    /// Returns the text of a reason that needs no more than its variant; else an empty text.
    const fn fixed_text(&self) -> &'static str {
        match self {
            Self::ValueAccepted => "the destination accepts the value",
            Self::SourceOnly => "the destination does not have this register",
            Self::DestinationOnly => "the VM does not have this register",
            Self::ResetUnknown => {
                "the VM does not have this register, the loader would write an undefined value, \
                 and its reset value is not known"
            }
            Self::ValueNotAccepted => "the destination does not accept this value",
            Self::SetNotAccepted => "the destination does not accept the value that you set",
            Self::DestinationValueUnknown => {
                "the guest would read the destination's value, which is not known"
            }
            Self::ValueUnknown(_) => "not known whether the destination accepts this value",
            Self::RemovedAtFirstRun => {
                "KVM of Linux 7.3 removes PIR_EL1 and PIRE0_EL1 when the guest first runs, because \
                 the guest lacks ID_AA64ISAR2_EL1.ATS1A. QEMU then fails to read both, and can \
                 neither save nor migrate the VM"
            }
            Self::Disagreement => {
                "the vCPUs hold different values in a register with one value for the whole VM"
            }
            Self::UserIgnores => "ignored at your request; the value is lost",
            Self::UserDrops => "hidden from the destination at your request; the value is lost",
            Self::UserSets => "set at your request",
            Self::UserCondition => "your request ignores it only with another value",
            Self::UserAccepts => "adjusted with your consent",
            Self::ExtensionKnown => "the loader knows it",
            Self::ExtensionUnknown => "not known what the loader does with it",
            Self::Tolerated(_)
            | Self::NotTolerated(_)
            | Self::CounterInUse(_)
            | Self::FatalChange(_)
            | Self::Hidden(_)
            | Self::PerhapsHidden(_)
            | Self::FieldDisagreement(_)
            | Self::SameStateAs(_)
            | Self::RecordedUnder(..)
            | Self::ListedAs(..)
            | Self::PerhapsListedAs(..)
            | Self::OtherValueUnder(_)
            | Self::ExtensionIdle(_)
            | Self::ExtensionReplaced(_)
            | Self::ExtensionInUse(_)
            | Self::ExtensionFromDestination(_) => "",
        }
    }
}

struct ReasonDisplay<'a> {
    reason: &'a Reason,
    tolerances: &'a Tolerances,
}

impl ReasonDisplay<'_> {
    fn write_entry_reason(&self, f: &mut fmt::Formatter<'_>, entry: usize) -> fmt::Result {
        match self.tolerances.entries().get(entry) {
            Some(entry) => write!(f, " ({})", entry.reason),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ReasonDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Tolerated(entry) | Reason::NotTolerated(entry) => {
                let Some(entry) = self.tolerances.entries().get(*entry) else {
                    return f.write_str("a tolerance");
                };
                // The reason of an entry that refuses is the reason for the refusal. Such an entry
                // has no condition.
                if matches!(self.reason, Reason::Tolerated(_)) || entry.handling == Handling::Refuse
                {
                    f.write_str(&entry.reason)
                } else {
                    write!(f, "tolerated only under this condition: {}", entry.reason)
                }
            }
            Reason::CounterInUse(lost) => write!(
                f,
                "KVM silently limits PMCR_EL0.N to the host's {} event counters, and the guest \
                 uses counter {}: its next access to that counter is undefined",
                lost.kept_count, lost.counter
            ),
            Reason::FatalChange(changes) => write_consequences(f, changes),
            Reason::Hidden(gate) => write!(
                f,
                "the VM's {}.{} is {}, which hides it at the destination ({}), and the loader fails \
                 to write it",
                gate.id_register,
                gate.field,
                gate.low_values(),
                gate.first_version
            ),
            Reason::PerhapsHidden(gate) => write!(
                f,
                "the VM's {}.{} is {}, which hides it on kernels since {}; not known whether the \
                 destination's kernel is that new",
                gate.id_register,
                gate.field,
                gate.low_values(),
                gate.first_version
            ),
            Reason::FieldDisagreement(field) => write!(
                f,
                "the vCPUs hold different values in {field}, which has one value for the whole VM \
                 at the destination"
            ),
            Reason::SameStateAs(register) => write!(f, "shows the same state as {register}"),
            Reason::RecordedUnder(entry, id) => {
                write!(f, "the VM lists it as {id}")?;
                self.write_entry_reason(f, *entry)
            }
            Reason::ListedAs(entry, id) => {
                write!(f, "the destination lists it as {id}")?;
                self.write_entry_reason(f, *entry)
            }
            Reason::PerhapsListedAs(entry, id) => {
                write!(
                    f,
                    "not known which register it is: the destination may list it as {id}, and the \
                     lists do not prove which accelerator wrote them"
                )?;
                self.write_entry_reason(f, *entry)
            }
            Reason::OtherValueUnder(id) => write!(
                f,
                "the destination lists it as {id}, and the VM has another value under that id"
            ),
            Reason::ExtensionIdle(explanation)
            | Reason::ExtensionReplaced(explanation)
            | Reason::ExtensionInUse(explanation)
            | Reason::ExtensionFromDestination(explanation) => f.write_str(explanation),
            _ => f.write_str(self.reason.fixed_text()),
        }
    }
}
