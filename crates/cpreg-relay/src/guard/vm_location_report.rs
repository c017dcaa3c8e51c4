//! [`Whereabouts`]: on which side the VM is when all is over, why, and what is left to do.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The side of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmPlace(Cow<'static, str>);

impl VmPlace {
    /// It never left, or is back.
    pub const SOURCE: Self = Self(Cow::Borrowed("source"));
    /// It has moved.
    pub const DESTINATION: Self = Self(Cow::Borrowed("destination"));
    /// It runs on both sides, which damages it: one has to be ended at once.
    pub const BOTH: Self = Self(Cow::Borrowed("both"));
    /// It is lost: no side holds all of it.
    pub const LOST: Self = Self(Cow::Borrowed("lost"));
    /// What can be seen does not tell.
    pub const UNKNOWN: Self = Self(Cow::Borrowed("unknown"));

    /// The word in reports and in JSON.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the VM is, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmLocationReport {
    /// The side.
    pub place: VmPlace,
    /// Whether the guest runs there; nothing if that is not known.
    pub running: Option<bool>,
    /// How it came to that, one sentence without a full stop.
    pub reason: String,
    /// What the guard told the two QEMUs, in order.
    #[serde(default)]
    pub actions: Vec<String>,
    /// What is left for the user to do.
    #[serde(default)]
    pub advice: Vec<String>,
}

impl VmLocationReport {
    /// On this side, for this reason.
    pub fn new(place: VmPlace, running: Option<bool>, why: impl Into<String>) -> Self {
        Self {
            place,
            running,
            reason: why.into(),
            actions: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// Adds what is left to do.
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
            _ => "not known",
        };
        let doing = match self.running {
            Some(true) => ", running",
            Some(false) => ", stopped",
            None => "",
        };
        write!(f, "the VM is {place}{doing}: {}", self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words_and_as_json() {
        let at = VmLocationReport::new(VmPlace::SOURCE, Some(true), "its migration failed");
        assert_eq!(
            at.to_string(),
            "the VM is at the source, running: its migration failed"
        );
        let json = serde_json::to_string(&at).unwrap();
        assert!(
            json.starts_with(r#"{"place":"source","running":true,"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<VmLocationReport>(&json).unwrap(), at);
        let unknown = VmLocationReport::new(VmPlace::UNKNOWN, None, "nobody answers");
        assert_eq!(unknown.to_string(), "the VM is not known: nobody answers");
    }
}
