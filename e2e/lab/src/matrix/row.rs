//! [`PairRow`]: a line of the data, with the members that the document needs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::convert::Consent;

/// A line of the data, with the members that the document needs.
pub(crate) struct PairRow<'a> {
    pub(crate) cpu: &'a str,
    pub(crate) source: &'a str,
    pub(crate) destination: &'a str,
    pub(crate) qemu: &'a str,
    pub(crate) runs_as_is: bool,
    pub(crate) cpreg: &'a Value,
    pub(crate) as_is: &'a Value,
    /// Loads through `cpreg run`, by consent; null in lines of before that column.
    pub(crate) run: &'a Value,
}

impl<'a> PairRow<'a> {
    pub(crate) fn read(line: &'a Value) -> Option<Self> {
        Some(Self {
            cpu: line["cpu"].as_str()?,
            source: line["source"].as_str()?,
            destination: line["destination"].as_str()?,
            qemu: line["qemu"].as_str()?,
            runs_as_is: line["as_is"]["runs"].as_bool()?,
            cpreg: &line["cpreg"],
            as_is: &line["as_is"],
            run: &line["run"],
        })
    }

    pub(crate) fn verdict(&self, consent: Consent) -> &str {
        self.cpreg[consent.name()]["verdict"]
            .as_str()
            .unwrap_or_default()
    }

    /// Returns `true` if the guest runs after the conversion; `None` if cpreg wrote no stream.
    pub(crate) fn runs(&self, consent: Consent) -> Option<bool> {
        self.cpreg[consent.name()]["load"]["runs"].as_bool()
    }

    /// Returns the symbol of the load without cpreg.
    pub(crate) fn as_is_symbol(&self, same_kernel: &SameKernelChanges<'_>) -> char {
        match self.runs_as_is {
            false => '.',
            true if is_stuck(self.as_is) => 's',
            true if same_kernel.extra_changes(self, self.as_is).is_empty() => '+',
            true => '~',
        }
    }

    pub(crate) fn load(&self, consent: Consent) -> &'a Value {
        &self.cpreg[consent.name()]["load"]
    }

    /// Returns the symbol of the smallest sufficient consent.
    pub(crate) fn cpreg_symbol(&self, same_kernel: &SameKernelChanges<'_>) -> char {
        for (consent, character) in Consent::ALL.into_iter().zip(['+', 'l', 'a']) {
            match self.runs(consent) {
                Some(true) if is_stuck(self.load(consent)) => return '!',
                Some(true)
                    if same_kernel
                        .extra_changes(self, self.load(consent))
                        .is_empty() =>
                {
                    return character;
                }
                Some(true) => return '~',
                Some(false) => return '!',
                None => {}
            }
        }
        if self.verdict(Consent::AllProposed) == "unknown" {
            '?'
        } else {
            '-'
        }
    }

    pub(crate) fn reasons(&self, consent: Consent) -> Vec<&str> {
        let reasons = self.cpreg[consent.name()]["reasons"].as_array();
        reasons
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    pub(crate) fn name(&self) -> String {
        format!(
            "{} -> {}, QEMU {}",
            self.source, self.destination, self.qemu
        )
    }
}

/// Registers that change even if source and destination have the same kernel, for each kernel.
pub(crate) struct SameKernelChanges<'a>(pub(crate) BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> SameKernelChanges<'a> {
    pub(crate) fn from_rows(rows: &[PairRow<'a>]) -> Self {
        let mut same_kernel: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.source == row.destination) {
            let registers = same_kernel.entry(row.source).or_default();
            registers.extend(texts(row.as_is, "differences").map(register_name));
            registers.sort_unstable();
            registers.dedup();
        }
        Self(same_kernel)
    }

    /// Returns the registers that change on some kernel.
    pub(crate) fn registers(&self) -> impl Iterator<Item = &'a str> {
        self.0.values().flatten().copied()
    }

    /// Returns the changes of a load that are not those of its two kernels.
    pub(crate) fn extra_changes<'b>(&self, row: &PairRow<'_>, load: &'b Value) -> Vec<&'b str> {
        let is_known = |difference: &str| {
            [row.source, row.destination].iter().any(|kernel| {
                let registers = self.0.get(*kernel);
                registers.is_some_and(|registers| registers.contains(&register_name(difference)))
            })
        };
        texts(load, "differences")
            .filter(|difference| !is_known(difference))
            .collect()
    }
}

/// Returns the name of the register in a difference such as `X7 0x1 0x2`.
pub(crate) fn register_name(difference: &str) -> &str {
    difference.split(' ').next().unwrap_or(difference)
}

/// Returns the texts of a list in a load.
pub(crate) fn texts<'a>(load: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    let words = load[name].as_array().into_iter().flatten();
    words.filter_map(Value::as_str)
}

/// Returns the distinct words, in the order of their first occurrence.
pub(crate) fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for word in words {
        if !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

/// Returns `true` if the guest runs, and QEMU cannot save it again.
pub(crate) fn is_stuck(load: &Value) -> bool {
    load["runs"] == true && load["saved_again"] == false
}

/// Describes the failure of a load.
pub(crate) fn describe_failure(load: &Value) -> String {
    let errors: Vec<_> = distinct(texts(load, "errors"));
    let failure = if is_stuck(load) {
        "QEMU cannot save the guest again"
    } else if load["resumed"] == true {
        "the guest does not run"
    } else {
        "QEMU does not load it"
    };
    format!("{failure}: {}", errors.join("; "))
}
