//! A pair of source and destination in the matrix.

use super::convert::{Consent, Conversion};
use super::outcome::GuestOutcome;

/// A pair of source and destination, with its outcomes.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) cpu: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    /// Series of QEMU at the source and at the destination.
    pub(crate) series: String,
    /// Destination as an argument of cpreg.
    pub(crate) destination_spec: String,
    /// Outcome of the load without cpreg; `None` if only loads through `cpreg run` were made.
    pub(crate) as_is: Option<GuestOutcome>,
    /// Conversions by consent, with the outcome of the load if cpreg wrote a stream.
    pub(crate) converted: Vec<(Consent, Conversion, Option<GuestOutcome>)>,
    /// Loads through `cpreg run`.
    pub(crate) run: Vec<RunLoad>,
}

/// Load of the unconverted stream by a QEMU that `cpreg run` starts.
#[derive(Clone, Debug)]
pub(crate) struct RunLoad {
    pub(crate) consent: Consent,
    /// Options of `cpreg run`.
    pub(crate) options: Vec<String>,
    /// Names of the blockers with which `cpreg convert` refuses the pair with this consent; none if
    /// it converts.
    pub(crate) blockers: Vec<String>,
    pub(crate) outcome: GuestOutcome,
}

/// Returns the conversions whose consent is tried with `cpreg run`: that without consent, and that
/// with the smallest sufficient consent. If none suffices, the latter is that with all proposals.
pub(crate) fn conversions_to_run(
    conversions: &[(Consent, Conversion)],
) -> Vec<&(Consent, Conversion)> {
    let mut tried = Vec::new();
    tried.extend(conversions.first());
    let mut converted = conversions.iter();
    let smallest = converted
        .find(|(_, conversion)| conversion.stream.is_some())
        .or_else(|| conversions.last());
    tried.extend(smallest.filter(|(consent, _)| *consent != Consent::None));
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_sufficient_consent_is_tried() {
        let conversions = |sufficient: Option<Consent>| {
            Consent::ALL.map(|consent| {
                let is_converted = sufficient.is_some_and(|sufficient| consent >= sufficient);
                let conversion = Conversion {
                    verdict: String::new(),
                    reasons: Vec::new(),
                    blockers: Vec::new(),
                    options: Vec::new(),
                    stream: is_converted.then(|| "stream".into()),
                };
                (consent, conversion)
            })
        };
        for (sufficient, expected) in [
            (Some(Consent::None), vec![Consent::None]),
            (Some(Consent::Low), vec![Consent::None, Consent::Low]),
            (None, vec![Consent::None, Consent::AllProposed]),
        ] {
            let conversions = conversions(sufficient);
            let tried = conversions_to_run(&conversions);
            let tried: Vec<_> = tried.iter().map(|(consent, _)| *consent).collect();
            assert_eq!(tried, expected);
        }
    }
}
