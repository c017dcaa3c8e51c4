//! [`VmLocationReport`]: the side that has the VM after a migration, the reason, and the next
//! steps.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Side that has the VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmPlace(Cow<'static, str>);

impl VmPlace {
    /// Source: the VM never left the source, or is back.
    pub const SOURCE: Self = Self(Cow::Borrowed("source"));
    /// Destination: the VM has moved.
    pub const DESTINATION: Self = Self(Cow::Borrowed("destination"));
    /// Both sides run the VM, which damages it. The user has to end one of them at once.
    pub const BOTH: Self = Self(Cow::Borrowed("both"));
    /// Lost: no side has all of the VM.
    pub const LOST: Self = Self(Cow::Borrowed("lost"));
    /// Not known from what the guard can observe.
    pub const UNKNOWN: Self = Self(Cow::Borrowed("unknown"));

    /// Returns the word used in reports and JSON.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Location of the VM with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmLocationReport {
    /// Side that has the VM.
    pub place: VmPlace,
    /// `true` if the guest runs at that place; `None` if that is not known.
    pub running: Option<bool>,
    /// Reason for the place, one sentence without a full stop.
    pub reason: String,
    /// Commands that the guard sent to the two QEMUs, in order.
    #[serde(default)]
    pub actions: Vec<String>,
    /// Next steps for the user.
    #[serde(default)]
    pub advice: Vec<String>,
}

impl VmLocationReport {
    /// Creates a report without actions and advice.
    pub fn new(place: VmPlace, running: Option<bool>, reason: impl Into<String>) -> Self {
        Self {
            place,
            running,
            reason: reason.into(),
            actions: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// Adds a next step.
    #[must_use]
    pub fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }
}

impl fmt::Display for VmLocationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            place if *place == VmPlace::SOURCE => "at the source",
            place if *place == VmPlace::DESTINATION => "at the destination",
            place if *place == VmPlace::BOTH => "on both sides",
            place if *place == VmPlace::LOST => "lost",
            _ => return write!(f, "the location of the VM is not known: {}", self.reason),
        };
        let run_state = match self.running {
            Some(true) => ", running",
            Some(false) => ", stopped",
            None => "",
        };
        write!(f, "the VM is {place}{run_state}: {}", self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_and_json() {
        let report = VmLocationReport::new(VmPlace::SOURCE, Some(true), "its migration failed");
        assert_eq!(
            report.to_string(),
            "the VM is at the source, running: its migration failed"
        );
        let json = serde_json::to_string(&report).unwrap();
        assert!(
            json.starts_with(r#"{"place":"source","running":true,"#),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<VmLocationReport>(&json).unwrap(),
            report
        );
        let unknown = VmLocationReport::new(VmPlace::UNKNOWN, None, "neither side answers");
        assert_eq!(
            unknown.to_string(),
            "the location of the VM is not known: neither side answers"
        );
    }
}
