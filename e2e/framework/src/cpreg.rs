//! The command under test, as a user runs it: `probe qemu`, `check --format json`, `rehearse --format json`, `convert`.
//!
//! What is read of `check`'s report:
//!
//! | field (schema `cpreg.check/1`, `docs/json.md`) | what |
//! |---|---|
//! | `verdict` | `loads`, `converts`, `refused`, `unknown` |
//! | `loaders[]` | for each modelled program: `version`, `is_destinations`, `loads` (true, false, null), `says` (its own words) |
//! | `visible_changes[]` | `name` of the register, `field`, `from`, `to`, `vcpus`: what the guest could notice |
//! | `decisions[].name` | the registers that do not go as they are |
//! | `adjustments.proposed[].consent` | what to give to `convert`, to take a change of value |
//! | `extensions[].name`, `.decision` | parts of the CPU's state that are no registers, and whether they stand in the way |

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use serde_json::Value;

use crate::Result;
use crate::paths::repository;
use crate::serial::Difference;
use crate::tool;

/// The command `cpreg`, built from this repository.
#[derive(Debug)]
pub struct Cpreg {
    program: PathBuf,
    /// The members that the reports of `rehearse` had.
    members: Mutex<BTreeSet<String>>,
}

impl Cpreg {
    /// Builds it.
    ///
    /// # Errors
    /// If it does not build.
    pub fn build() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let told = tool::output_of(
            Command::new(cargo)
                .current_dir(repository())
                .args([
                    "build",
                    "--quiet",
                    "--package",
                    "cpreg-cli",
                    "--bin",
                    "cpreg",
                ])
                .args(["--message-format", "json"]),
        )?;
        // Cargo tells where it put the program: the target folder may be anywhere.
        let program = told
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|message| {
                let name = &message["target"]["name"];
                (name == "cpreg").then(|| message["executable"].as_str().map(PathBuf::from))?
            })
            .ok_or("cargo did not tell where the program cpreg is")?;
        Ok(Self {
            program,
            members: Mutex::default(),
        })
    }

    /// The program, for who runs it with words of their own.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Whether the reports of `rehearse`, all together, had the members that are documented.
    ///
    /// # Errors
    /// Which ones are documented and were not seen, or the other way round.
    pub fn members_are_documented(&self) -> Result<()> {
        let found = self.members.lock().map_err(|error| error.to_string())?;
        let documented = documented("cpreg.rehearsal/1")?;
        if *found == documented {
            return Ok(());
        }
        let differ: Vec<_> = found.symmetric_difference(&documented).collect();
        Err(format!("docs/json.md and `rehearse --format json` differ: {differ:?}").into())
    }

    fn run(&self, arguments: &[&OsStr], expected: &[i32]) -> Result<(i32, Output)> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("NO_COLOR", "1");
        let output = command
            .output()
            .map_err(|error| format!("cannot start `{}`: {error}", tool::words(&command)))?;
        match output.status.code() {
            Some(code) if expected.contains(&code) => Ok((code, output)),
            _ => Err(format!(
                "`{}`: {}, expected {expected:?}\n{}{}",
                tool::words(&command),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            )
            .into()),
        }
    }

    /// `cpreg probe qemu -o PROFILE -- COMMAND…`.
    ///
    /// # Errors
    /// If it does not succeed.
    pub fn probe(&self, command: &[OsString], profile: &Path) -> Result<()> {
        let mut arguments: Vec<&OsStr> = ["probe", "qemu", "-o"].map(OsStr::new).to_vec();
        arguments.push(profile.as_os_str());
        arguments.push(OsStr::new("--"));
        arguments.extend(command.iter().map(OsString::as_os_str));
        self.run(&arguments, &[0])?;
        Ok(())
    }

    /// `cpreg check SOURCE PROFILE --format json [OPTIONS]`.
    ///
    /// # Errors
    /// If it gives no report.
    pub fn check(&self, source: &Path, profile: &Path, options: &[String]) -> Result<Check> {
        let mut arguments = vec![OsStr::new("check"), source.as_os_str(), profile.as_os_str()];
        arguments.extend(["--format", "json"].map(OsStr::new));
        arguments.extend(options.iter().map(OsStr::new));
        let (_, output) = self.run(&arguments, &[0, 1, 3])?;
        let report = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("the report of check is no JSON: {error}"))?;
        Ok(Check { report })
    }

    /// Rehearses `source` at the QEMU of this command line.
    ///
    /// # Errors
    /// If the command fails, or its report is none.
    pub fn rehearse(
        &self,
        source: &Path,
        command: &[OsString],
        options: &[String],
    ) -> Result<Rehearsal> {
        let mut arguments: Vec<&OsStr> = vec!["rehearse".as_ref(), source.as_os_str()];
        arguments.extend(["--format", "json"].map(OsStr::new));
        arguments.extend(options.iter().map(OsStr::new));
        arguments.push("--".as_ref());
        arguments.extend(command.iter().map(OsString::as_os_str));
        let (status, output) = self.run(&arguments, &[0, 1, 3])?;
        let report: Value = serde_json::from_slice(&output.stdout)?;
        if let Ok(mut found) = self.members.lock() {
            members(&report, "", &mut found);
        }
        Ok(Rehearsal { report, status })
    }

    /// `cpreg filter --to PROFILE`, as words of a shell, its report in a file. No path in it needs quoting.
    pub fn filter(&self, profile: &Path, report: &Path) -> String {
        format!(
            "{} filter --to {} 2> {}",
            self.program.display(),
            profile.display(),
            report.display()
        )
    }

    /// `cpreg convert SOURCE --to PROFILE -o OUTPUT [OPTIONS]`. Gives whether it did, or refused, and what it said then.
    ///
    /// # Errors
    /// If it neither succeeds nor refuses, or leaves an output although it refuses.
    pub fn convert(
        &self,
        source: &Path,
        profile: &Path,
        output: &Path,
        options: &[String],
    ) -> Result<std::result::Result<(), String>> {
        let mut arguments = vec![OsStr::new("convert"), source.as_os_str()];
        arguments.extend([OsStr::new("--to"), profile.as_os_str()]);
        arguments.extend([OsStr::new("-o"), output.as_os_str()]);
        arguments.extend(options.iter().map(OsStr::new));
        let (code, told) = self.run(&arguments, &[0, 1])?;
        match (code, output.exists()) {
            (0, true) => Ok(Ok(())),
            (0, false) => Err("convert succeeded without an output".into()),
            (_, true) => Err("convert refused, and left an output".into()),
            (_, false) => {
                let mut said = String::from_utf8_lossy(&told.stdout).into_owned();
                said += &String::from_utf8_lossy(&told.stderr);
                Ok(Err(said))
            }
        }
    }
}

/// A report of `check`.
#[derive(Debug)]
pub struct Check {
    report: Value,
}

/// The paths of a document's members. What `check` says is another schema's.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = match path {
                    "" => name.clone(),
                    _ => format!("{path}.{name}"),
                };
                if path != "check" {
                    members(value, &path, found);
                }
                found.insert(path);
            }
        }
        Value::Array(array) => {
            let path = format!("{path}[]");
            for value in array {
                members(value, &path, found);
            }
        }
        _ => {}
    }
}

/// The members that docs/json.md lists for a schema.
fn documented(schema: &str) -> Result<BTreeSet<String>> {
    let path = repository().join("docs/json.md");
    let text = std::fs::read_to_string(path)?;
    let heading = format!("## `{schema}`");
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("## "));
    let cells = lines.filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    Ok(cells.map(|(member, _)| member.to_owned()).collect())
}

/// The report of `rehearse` (schema `cpreg.rehearsal/1`).
#[derive(Debug)]
pub struct Rehearsal {
    report: Value,
    status: i32,
}

impl Rehearsal {
    /// Whether a list of the report has an entry with this member.
    ///
    /// # Errors
    /// If not, with the list.
    pub fn names(&self, list: &str, member: &str, wanted: &str) -> Result<()> {
        let entries = self.report[list].as_array();
        let mut entries = entries.into_iter().flatten();
        if entries.any(|entry| entry[member] == wanted) {
            return Ok(());
        }
        Err(format!("{wanted} is not among {list}: {:#}", self.report[list]).into())
    }

    /// Compares it with a load of the whole stream: whether it loaded, and QEMU's words.
    ///
    /// # Errors
    /// What differs.
    pub fn compare(&self, loads: bool, said: &str, verdict: &str) -> Result<()> {
        let expected = if loads { "loaded" } else { "failed" };
        let status = match verdict {
            "loads" | "converts" => 0,
            "refused" => 1,
            _ => 3,
        };
        let words = lines(&self.report["said"]);
        // What QEMU says at its start, before anything arrives, is not about the VM.
        let is_early = |line: &&str| line.contains("warning: Machine type");
        let real: Vec<_> = said.lines().skip_while(is_early).collect();
        if self.report["outcome"] == expected
            && self.report["verdict"] == verdict
            && self.status == status
            && words == real
        {
            return Ok(());
        }
        Err(format!(
            "the whole stream: {expected}, so {verdict} (status {status})\n{said}\nrehearsed: \
             {}, {} (status {})\n{}\ndeviations: {:#}",
            self.report["outcome"],
            self.report["verdict"],
            self.status,
            words.join("\n"),
            self.report["deviations"],
        )
        .into())
    }
}

impl Check {
    /// The verdict.
    pub fn verdict(&self) -> &str {
        self.report["verdict"].as_str().unwrap_or("(none)")
    }

    /// Compares the prediction for the loader of this series with what happened.
    ///
    /// # Errors
    /// If nothing is predicted, or something else, or in other words.
    pub fn compare_loader(&self, series: &str, loads: bool, said: &str) -> Result<()> {
        let loaders = self.report["loaders"].as_array();
        let loader = loaders
            .into_iter()
            .flatten()
            .find(|loader| loader["is_destinations"] == true)
            .ok_or("no prediction for the destination's own loader")?;
        let version = loader["version"].as_str().unwrap_or_default();
        if version != series && !version.starts_with(&format!("{series}.")) {
            return Err(format!("probed QEMU {series}, check takes it for {version}").into());
        }
        if loader["loads"] != loads {
            return Err(format!(
                "predicted for QEMU {series}: loads {}; it really is {loads}. It said:\n{said}",
                loader["loads"]
            )
            .into());
        }
        for line in lines(&loader["says"]) {
            if !said.contains(line) {
                return Err(format!(
                    "predicted for QEMU {series}: {line:?}; it really said:\n{said}"
                )
                .into());
            }
        }
        Ok(())
    }

    /// Whether the decisions are about registers, by name.
    pub fn names_registers(&self) -> bool {
        let decisions = self.report["decisions"].as_array();
        let mut decisions = decisions.into_iter().flatten();
        decisions.any(|decision| decision["name"].is_string())
    }

    /// What the user can say to have it converted all the same: the proposed changes of values, `--ignore` for each other
    /// register where the advice says that, `--hide` for each extension that stands in the way.
    pub fn consents(&self) -> Vec<String> {
        let mut options: Vec<[&str; 2]> = Vec::new();
        let proposed = self.report["adjustments"]["proposed"].as_array();
        for adjustment in proposed.into_iter().flatten() {
            let consent = adjustment["consent"].as_str().unwrap_or_default();
            if let Some((option, value)) = consent.split_once(' ') {
                options.push([option, value]);
            }
        }
        let decisions = self.report["decisions"].as_array();
        for decision in decisions.into_iter().flatten() {
            let advice = decision["advice"].as_str().unwrap_or_default();
            let name = decision["name"].as_str().unwrap_or_default();
            let adjustable = options.contains(&["--accept", name]);
            if decision["decision"] == "refuse" && advice.contains("--ignore") && !adjustable {
                options.push(["--ignore", name]);
            }
        }
        let extensions = self.report["extensions"].as_array();
        for extension in extensions.into_iter().flatten() {
            if extension["decision"] == "refuse" {
                options.push(["--hide", extension["name"].as_str().unwrap_or_default()]);
            }
        }
        options.sort_unstable();
        options.dedup();
        options.into_iter().flatten().map(str::to_owned).collect()
    }

    /// The differences that no visible change announced.
    pub fn unannounced<'a>(&self, differences: &'a [Difference]) -> Vec<&'a Difference> {
        let list = |name: &str| self.report[name].as_array().into_iter().flatten();
        differences
            .iter()
            .filter(|difference| {
                // A register that the guest had not got is none of its state: that it is there now is told as a decision.
                let gained = difference.expected.is_none()
                    && list("decisions").any(|decision| {
                        decision["source"].is_null() && is_about(decision, difference)
                    });
                // What is announced field by field has its whole value among the decisions.
                let other_value = list("decisions").any(|decision| {
                    let becomes = number(&decision["becomes"]);
                    is_about(decision, difference)
                        && becomes.is_some()
                        && becomes != difference.found
                });
                let announced = list("visible_changes").any(|change| announces(change, difference));
                !gained && (other_value || !announced)
            })
            .collect()
    }
}

/// Whether a visible change is about what the guest found.
fn announces(change: &Value, difference: &Difference) -> bool {
    // A change of one field says nothing about the others; one of the whole register must have the value right.
    let whole = change["field"].is_null();
    let same_value = match (number(&change["to"]), difference.found) {
        (Some(to), Some(found)) if whole => to == found,
        _ => true,
    };
    is_about(change, difference) && same_value || announces_feature(change, difference)
}

/// The fields of PSTATE that guests look at, and the register that says whether the vCPU has them. They are no registers
/// of any list: their values are in PSTATE itself, and where a CPU has not got one its instruction is undefined.
const PSTATE_FIELDS: [(&str, &str); 4] = [
    ("PAN", "ID_AA64MMFR1_EL1"),
    ("UAO", "ID_AA64MMFR2_EL1"),
    ("DIT", "ID_AA64PFR0_EL1"),
    ("SSBS", "ID_AA64PFR1_EL1"),
];

/// Whether a visible change is about the feature that a field of PSTATE came or went with.
fn announces_feature(change: &Value, difference: &Difference) -> bool {
    let came_or_went = difference.expected.is_none() != difference.found.is_none();
    let feature = PSTATE_FIELDS
        .iter()
        .find(|(field, _)| *field == difference.register);
    let vcpus = change["vcpus"].as_str().unwrap_or_default();
    came_or_went
        && feature.is_some_and(|(_, register)| change["name"] == *register)
        && has(vcpus, difference.vcpu)
}

/// Whether an entry of a report is about the register and the vCPU of a difference.
fn is_about(entry: &Value, difference: &Difference) -> bool {
    let name = entry["name"].as_str().unwrap_or_default();
    let vcpus = entry["vcpus"].as_str().unwrap_or_default();
    // An AArch32 register and its AArch64 view are one and the same: PMCR and PMCR_EL0.
    let register = &difference.register;
    let same = name == register
        || name
            .strip_prefix(register.as_str())
            .is_some_and(|suffix| ["_EL0", "_EL1"].contains(&suffix));
    same && has(vcpus, difference.vcpu)
}

/// Whether `0-3,5` has this number in it.
fn has(vcpus: &str, vcpu: u32) -> bool {
    vcpus.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&vcpu),
            _ => false,
        }
    })
}

fn number(value: &Value) -> Option<u64> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok()
}

/// The lines of a text, or of a list of texts.
fn lines(value: &Value) -> Vec<&str> {
    let texts: Vec<&Value> = value
        .as_array()
        .map_or_else(|| vec![value], |list| list.iter().collect());
    texts
        .into_iter()
        .filter_map(Value::as_str)
        .flat_map(str::lines)
        .filter(|line| !line.trim().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check() -> Check {
        Check {
            report: json!({
                "verdict": "refused",
                "loaders": [
                    {"version": "11.1", "is_destinations": false, "loads": true, "says": []},
                    {"version": "10.0", "is_destinations": true, "loads": false, "says": ["Operation not permitted"]},
                ],
                "decisions": [
                    {"name": "DBGCLAIMCLR_EL1", "vcpus": "0", "decision": "refuse", "source": "0xe6", "advice": "say --ignore"},
                    {"name": "FPMR", "vcpus": "0-1", "decision": "keep-at-reset", "source": null, "advice": null},
                    {"name": "ID_DFR0_EL1", "vcpus": "0-2", "decision": "set", "source": "0x06010066", "becomes": "0x05010066"},
                ],
                "extensions": [
                    {"name": "cpu/fpmr", "decision": "refuse"},
                    {"name": "cpu/vfp", "decision": "copy"},
                ],
                "adjustments": {"proposed": [
                    {"consent": "--accept TCR2_EL1"},
                    {"consent": "--accept ID_AA64MMFR3_EL1"},
                    {"consent": "--accept TCR2_EL1"},
                ]},
                "visible_changes": [
                    {"name": "TCR2_EL1", "field": null, "from": "0x2", "to": null, "vcpus": "0"},
                    {"name": "ID_AA64PFR1_EL1", "field": "SSBS", "from": "0x2", "to": "0x0", "vcpus": "0-3"},
                    {"name": "PMCR_EL0", "field": null, "from": "0x1", "to": "0x2", "vcpus": "0-3"},
                    {"name": "ID_DFR0_EL1", "field": "PerfMon", "from": "0x6", "to": "0x5", "vcpus": "0,2"},
                ],
            }),
        }
    }

    #[test]
    fn predictions_are_compared_with_what_happened() {
        let check = check();
        let said = "qemu-system-aarch64: load of migration failed: Operation not permitted";
        check.compare_loader("10.0", false, said).unwrap();
        assert!(check.compare_loader("10.0", true, said).is_err());
        assert!(
            check
                .compare_loader("10.0", false, "something else")
                .is_err()
        );
        assert!(check.compare_loader("1.1", false, said).is_err());
    }

    #[test]
    fn each_consent_is_given_once() {
        let options = check().consents();
        let expected = [
            ["--accept", "ID_AA64MMFR3_EL1"],
            ["--accept", "TCR2_EL1"],
            ["--hide", "cpu/fpmr"],
            ["--ignore", "DBGCLAIMCLR_EL1"],
        ]
        .concat();
        assert_eq!(options, expected);
    }

    #[test]
    fn only_announced_differences_are_in_order() {
        let difference = |vcpu, register: &str, found| Difference {
            vcpu,
            register: register.to_owned(),
            expected: Some(1),
            found,
        };
        let differences = [
            difference(0, "TCR2_EL1", None),
            difference(1, "TCR2_EL1", None),
            difference(3, "PMCR_EL0", Some(2)),
            difference(3, "PMCR_EL0", Some(3)),
            difference(0, "ID_DFR0_EL1", Some(0x0501_0066)),
            difference(2, "ID_DFR0_EL1", Some(0x0501_0099)),
            difference(0, "VBAR_EL1", Some(0)),
            Difference {
                vcpu: 1,
                register: "FPMR".to_owned(),
                expected: None,
                found: Some(0),
            },
            difference(1, "SSBS", None),
            difference(1, "SSBS", Some(0)),
        ];
        let unannounced = check();
        let unannounced = unannounced.unannounced(&differences);
        assert_eq!(unannounced, [1, 3, 5, 6, 9].map(|at| &differences[at]));
    }
}
