//! What cpreg makes of each pair: once as it is, once with each kind of consent. It runs on this machine, before anything boots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use e2e_framework::Result;
use e2e_framework::tool;

/// What the user consents to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Consent {
    Nothing,
    /// `--accept low`.
    Low,
    /// All that is proposed: `--accept high`.
    All,
}

impl Consent {
    pub(crate) const EACH: [Self; 3] = [Self::Nothing, Self::Low, Self::All];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Low => &["--accept", "low"],
            Self::All => &["--accept", "high"],
        }
    }

    /// Its name in results and file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Low => "low",
            Self::All => "all",
        }
    }
}

/// What came of `cpreg convert`.
#[derive(Clone, Debug)]
pub(crate) struct Converted {
    /// `loads`, `converts`, `refused` or `unknown`.
    pub(crate) verdict: String,
    /// What stands in the way, a line for each register or extension: name, both values, why.
    pub(crate) reasons: Vec<String>,
    /// The new stream, if there is one.
    pub(crate) stream: Option<PathBuf>,
}

/// Converts `source` for `destination`, a name or file that cpreg takes, whose QEMU is of that series.
///
/// # Errors
/// If cpreg says neither yes nor no.
pub(crate) fn convert(
    cpreg: &Path,
    source: &Path,
    destination: &str,
    series: &str,
    consent: Consent,
    output: &Path,
) -> Result<Converted> {
    let mut command = Command::new(cpreg);
    command
        .arg("convert")
        .arg(source)
        .args(["--to", destination, "--vmm", &format!("qemu-{series}")])
        .args(consent.arguments())
        .args(["--format", "json", "--force", "-o"])
        .arg(output);
    let done = command
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", tool::words(&command)))?;
    let said: Value = serde_json::from_slice(&done.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&done.stderr);
        format!("`{}`: {}", tool::words(&command), said.trim_end())
    })?;
    let verdict = said["verdict"].as_str().unwrap_or_default().to_owned();
    let written = ["loads", "converts"].contains(&verdict.as_str());
    if written != done.status.success() || (written && !fs::exists(output)?) {
        return Err(format!(
            "`{}`: {verdict}, and {}",
            tool::words(&command),
            done.status
        )
        .into());
    }
    Ok(Converted {
        verdict,
        reasons: reasons(&said),
        stream: written.then(|| output.to_owned()),
    })
}

/// What a report says stands in the way.
fn reasons(report: &Value) -> Vec<String> {
    let mut reasons = Vec::new();
    for list in ["decisions", "extensions"] {
        for decision in report[list].as_array().into_iter().flatten() {
            let text = |name: &str| decision[name].as_str().unwrap_or("-");
            if ["refuse", "unknown"].contains(&text("decision")) {
                reasons.push(format!(
                    "{} {}, there {}: {}",
                    text("name"),
                    text("source"),
                    text("host"),
                    text("reason")
                ));
            }
        }
    }
    for difference in report["shape"].as_array().into_iter().flatten() {
        reasons.push(difference.to_string());
    }
    reasons
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reasons_are_what_is_not_taken() {
        let report = json!({"decisions": [
            {"name": "A", "source": "0x1", "host": "0x2", "decision": "copy", "reason": "fine"},
            {"name": "B", "source": "0x1", "host": null, "decision": "refuse", "reason": "not there"},
        ], "extensions": [], "shape": []});
        assert_eq!(reasons(&report), ["B 0x1, there -: not there"]);
    }
}
