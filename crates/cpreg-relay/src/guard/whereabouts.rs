//! [`Whereabouts`]: on which side the VM is when all is over, why, and what is left to do.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The side of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(Cow<'static, str>);

impl Place {
    /// It never left, or is back.
    pub const SOURCE: Self = Self(Cow::Borrowed("source"));
    /// It has moved.
    pub const DESTINATION: Self = Self(Cow::Borrowed("destination"));
    /// It runs on both sides, which damages it: one has to be ended at once.
    pub const BOTH: Self = Self(Cow::Borrowed("both"));
    /// It is lost: no side holds all of it.
    pub const NOWHERE: Self = Self(Cow::Borrowed("nowhere"));
    /// What can be seen does not tell.
    pub const UNKNOWN: Self = Self(Cow::Borrowed("unknown"));

    /// The word in reports and in JSON.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the VM is, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The side.
    pub place: Place,
    /// Whether the guest runs there; nothing if that is not known.
    pub running: Option<bool>,
    /// How it came to that, one sentence without a full stop.
    pub why: String,
    /// What the guard told the two QEMUs, in order.
    #[serde(default)]
    pub done: Vec<String>,
    /// What is left for the user to do.
    #[serde(default)]
    pub advice: Vec<String>,
}

impl Whereabouts {
    /// On this side, for this reason.
    pub fn new(place: Place, running: Option<bool>, why: impl Into<String>) -> Self {
        Self {
            place,
            running,
            why: why.into(),
            done: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// Adds what is left to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            place if *place == Place::SOURCE => "at the source",
            place if *place == Place::DESTINATION => "at the destination",
            place if *place == Place::BOTH => "on both sides",
            place if *place == Place::NOWHERE => "lost",
            _ => "not known",
        };
        let doing = match self.running {
            Some(true) => ", running",
            Some(false) => ", stopped",
            None => "",
        };
        write!(f, "the VM is {place}{doing}: {}", self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words_and_as_json() {
        let at = Whereabouts::new(Place::SOURCE, Some(true), "its migration failed");
        assert_eq!(
            at.to_string(),
            "the VM is at the source, running: its migration failed"
        );
        let json = serde_json::to_string(&at).unwrap();
        assert!(
            json.starts_with(r#"{"place":"source","running":true,"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Whereabouts>(&json).unwrap(), at);
        let unknown = Whereabouts::new(Place::UNKNOWN, None, "nobody answers");
        assert_eq!(unknown.to_string(), "the VM is not known: nobody answers");
    }
}
