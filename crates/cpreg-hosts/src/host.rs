//! Recorded hosts as destinations: one for each kernel, CPU model and mode of the [`HostIndex`], by name.
//!
//! | name | names |
//! |---|---|
//! | `linux-6.12.107/neoverse-n1` | a host |
//! | `linux-6.12.107/max+nested` | the same kernel in another mode |
//! | `linux-6.12.107/neoverse-n1/pmu` | the host, for a guest with just these features |
//! | `linux-6.12.107+deb13-cloud-arm64/neoverse-n1` | the host by its full kernel release |
//! | `linux-6.1/n1` | the same with less: the version's first numbers, the CPU's last part; only where one host matches |
//!
//! What a host is for a guest lives in [`crate::record::destination`].

use std::collections::BTreeMap;

use cpreg::destination::loader::Program;
use cpreg::destination::{Destination, Features};
use strsim::levenshtein;

use crate::error::{Error, ErrorKind};
use crate::host_index::{self, HostIndex, KernelRecord};
use crate::record::HostRecord;

pub use crate::record::PREFIX;
pub use crate::record::destination::EMULATED_HOST_EVIDENCE;

/// The most names that an error lists.
const MAX_SUGGESTIONS: usize = 3;
/// Characters of a part of a name that are compared: no recorded host's is nearly as long.
const MAX_COMPARED_LEN: usize = 100;

/// A recorded host: a kernel on a CPU, with the feature sets of guests that were recorded there.
#[derive(Clone, Copy, Debug)]
pub struct IndexedHost<'a> {
    index: &'a HostIndex,
    number: usize,
    entry: &'a host_index::HostEntry,
}

/// What a name names.
#[derive(Clone, Copy, Debug)]
pub struct NamedHost<'a> {
    /// The host.
    pub host: IndexedHost<'a>,
    /// The guest's features, if they were named.
    pub features: Option<Features>,
}

impl HostIndex {
    /// The recorded hosts, in the order of the recordings: by kernel, oldest first.
    pub fn hosts(&self) -> Vec<IndexedHost<'_>> {
        let hosts = self.host_entries().iter().enumerate();
        let hosts = hosts.map(|(number, recorded)| IndexedHost {
            index: self,
            number,
            entry: recorded,
        });
        hosts.collect()
    }

    /// The hosts that a name, whole or short, may name, features aside.
    pub fn find_hosts(&self, name: &str) -> Vec<IndexedHost<'_>> {
        let (kernel, cpu) = match name.split_once('/') {
            Some((kernel, cpu)) => (kernel, Some(cpu)),
            None => (name, None),
        };
        let kernel = kernel.strip_prefix(PREFIX).unwrap_or(kernel);
        let all = self.hosts();
        let of_kernel = filter_exact_or_short(
            &all,
            |host| [&*host.kernel().release, &*host.kernel().version].contains(&kernel),
            |host| is_version_prefix(&host.kernel().version, kernel),
        );
        match cpu {
            None => of_kernel,
            Some(cpu) => filter_exact_or_short(
                &of_kernel,
                |host| host.cpu() == cpu,
                |host| is_cpu_suffix(&host.cpu(), cpu),
            ),
        }
    }

    /// The one host that a name names, and the features in it.
    ///
    /// # Errors
    /// If no host or several have that name, or the features are none.
    pub fn resolve(&self, name: &str) -> Result<NamedHost<'_>, Error> {
        let mut parts = name.splitn(3, '/');
        let whole: Vec<_> = parts.by_ref().take(2).collect();
        let whole = whole.join("/");
        let features = parts.next().map(parse_features).transpose()?;
        match self.find_hosts(&whole).as_slice() {
            [host] => Ok(NamedHost {
                host: *host,
                features,
            }),
            [] => {
                let nearest = self.nearest_names(&whole).join(", ");
                let message = format!("no recorded host is called {whole}; the nearest: {nearest}");
                Err(Error::new(ErrorKind::UnknownName, message))
            }
            several => {
                let matches: Vec<_> = several.iter().map(IndexedHost::name).collect();
                let message = format!(
                    "{whole} names {} recorded hosts: {}",
                    matches.len(),
                    matches.join(", ")
                );
                Err(Error::new(ErrorKind::AmbiguousName, message))
            }
        }
    }

    /// The hosts whose names, whole or short, are most like this one.
    pub fn nearest_names(&self, name: &str) -> Vec<String> {
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        let (kernel, cpu) = name.split_once('/').unwrap_or((name, ""));
        let [kernel, cpu] =
            [kernel, cpu].map(|part| part.chars().take(MAX_COMPARED_LEN).collect::<String>());
        let mut hosts = self.hosts();
        hosts.sort_by_cached_key(|host| {
            let own = host.kernel();
            let ends = own.version.match_indices('.').map(|(end, _)| end);
            let short = ends.filter_map(|end| own.version.get(..end));
            let kernels = short.chain([&*own.version, &*own.release]);
            let own = host.cpu();
            let cpus = [&*own, own.rsplit('-').next().unwrap_or_default()];
            min_distance(kernels, &kernel) + min_distance(cpus, &cpu)
        });
        hosts.truncate(MAX_SUGGESTIONS);
        hosts.iter().map(IndexedHost::name).collect()
    }
}

fn parse_features(text: &str) -> Result<Features, Error> {
    Features::from_names(text).ok_or_else(|| {
        let message = format!(
            "`{text}` is no set of vCPU features; write them with commas between, such as \
             pmu,sve, or none"
        );
        Error::new(ErrorKind::Features, message)
    })
}

/// How far the nearest of these is.
fn min_distance<'a>(names: impl IntoIterator<Item = &'a str>, name: &str) -> usize {
    let distances = names.into_iter().map(|own| levenshtein(own, name));
    distances.min().unwrap_or_default()
}

/// Those whose name is just that one, else those that it is short for.
fn filter_exact_or_short<'a>(
    hosts: &[IndexedHost<'a>],
    exact: impl Fn(&IndexedHost<'a>) -> bool,
    short: impl Fn(&IndexedHost<'a>) -> bool,
) -> Vec<IndexedHost<'a>> {
    let matching = |is: &dyn Fn(&IndexedHost<'a>) -> bool| -> Vec<_> {
        hosts.iter().filter(|host| is(host)).copied().collect()
    };
    let found = matching(&exact);
    if found.is_empty() {
        matching(&short)
    } else {
        found
    }
}

/// `6.12.107` begins with `6` and `6.12`, not with `6.1`.
fn is_version_prefix(version: &str, short: &str) -> bool {
    let rest = version.strip_prefix(short);
    !short.is_empty() && rest.is_some_and(|rest| rest.starts_with('.'))
}

/// `neoverse-n1` ends with `n1`, not with `1`.
fn is_cpu_suffix(cpu: &str, short: &str) -> bool {
    let rest = cpu.strip_suffix(short);
    !short.is_empty() && rest.is_some_and(|rest| rest.ends_with('-'))
}

impl<'a> IndexedHost<'a> {
    /// Its kernel.
    pub fn kernel(&self) -> &'a KernelRecord {
        &self.index.kernels()[self.entry.kernel]
    }

    /// Its CPU model, and what was special about it: `neoverse-n1`, `max+nested`.
    pub fn cpu(&self) -> String {
        self.entry.identity.cpu_and_mode()
    }

    /// Its CPU model.
    pub fn model(&self) -> &'a str {
        &self.entry.identity.cpu
    }

    /// What was special about it; empty if nothing.
    pub fn mode(&self) -> &'a str {
        &self.entry.identity.mode
    }

    /// MIDR_EL1 of its first CPU.
    pub const fn midr(&self) -> u64 {
        self.entry.identity.midr
    }

    /// Whether its CPU was an emulator's.
    pub const fn is_emulated(&self) -> bool {
        self.entry.identity.emulated
    }

    /// Its name: `linux-6.12.107/neoverse-n1`.
    pub fn name(&self) -> String {
        self.entry.identity.name()
    }

    /// The feature sets that were recorded, each once, and how many registers KVM lists for it.
    pub fn register_counts(&self) -> BTreeMap<Features, usize> {
        let recordings = self.index.recordings().iter().enumerate();
        recordings
            .filter(|(_, recording)| recording.host == self.number)
            .map(|(number, it)| (it.features, self.index.entries_in_recording(number).count()))
            .collect()
    }

    /// All that was recorded of it.
    pub fn record(&self) -> HostRecord {
        let record = self.index.record(self.number);
        // It is one of the history's.
        record.unwrap_or_else(|| HostRecord {
            identity: self.entry.identity.clone(),
            capabilities: self.entry.capabilities.clone(),
            guests: BTreeMap::new(),
        })
    }

    /// Returns the host as a destination for a guest with these features, see
    /// [`HostRecord::destination`].
    ///
    /// # Errors
    /// If there are no such recordings.
    pub fn destination(&self, features: Features, program: Program) -> Result<Destination, Error> {
        self.record().destination(features, program)
    }
}

#[cfg(test)]
mod tests {
    use cpreg::destination::{AcceptedValues, ValueOrigin};
    use cpreg::register::RegisterId;

    use super::*;

    fn host_index() -> HostIndex {
        HostIndex::built_in().expect("the checked-in history is one")
    }

    fn named(name: &str) -> Result<(String, Option<String>), String> {
        let index = host_index();
        let named = index.resolve(name).map_err(|error| error.to_string())?;
        let features = named.features.map(|features| features.to_string());
        Ok((named.host.name(), features))
    }

    fn found(name: &str, features: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), features.map(str::to_owned))
    }

    #[test]
    fn every_host_has_a_name_of_its_own() {
        let index = host_index();
        let hosts = index.hosts();
        assert_eq!(hosts.len(), 120);
        for host in hosts {
            assert_eq!(named(&host.name()), Ok(found(&host.name(), None)));
        }
    }

    #[test]
    fn short_names_name_the_one_that_matches() {
        let n1 = Ok(found("linux-6.16.12/neoverse-n1", None));
        for short in [
            "linux-6.16.12/n1",
            "linux-6.16.12+deb13-cloud-arm64/neoverse-n1",
            "linux-6.16.12/neoverse-n1",
        ] {
            assert_eq!(named(short), n1, "{short}");
        }
        assert_eq!(
            named("linux-7.3/max+nested/pmu,sve"),
            Ok(found("linux-7.3.4/max+nested", Some("pmu,sve")))
        );
        // Not 6.12 and 6.16 as well, nor the modes of max.
        assert_eq!(named("linux-6.1/max"), Ok(found("linux-6.1.176/max", None)));
    }

    #[test]
    fn other_names_are_told_from_what_there_is() {
        assert_eq!(
            named("linux-6.12/n1"),
            Err(
                "linux-6.12/n1 names 3 recorded hosts: linux-6.12.43/neoverse-n1, \
                 linux-6.12.95/neoverse-n1, linux-6.12.107/neoverse-n1"
                    .to_owned()
            )
        );
        assert_eq!(
            named("linux-6.16.1/n1"),
            Err("no recorded host is called linux-6.16.1/n1; the nearest: \
                 linux-6.16.3/neoverse-n1, linux-6.16.12/neoverse-n1, linux-6.16.3/neoverse-n2"
                .to_owned())
        );
        assert_eq!(
            named("linux-6.16.12/n1/avx"),
            Err(
                "`avx` is no set of vCPU features; write them with commas between, such as \
                 pmu,sve, or none"
                    .to_owned()
            )
        );
        assert!(named("linux-6.16").is_err());
        assert!(named("").is_err());
    }

    #[test]
    fn sets_that_cannot_be_put_together_are_not() {
        let index = host_index();
        let host = index.resolve("linux-6.12.107/n1").expect("a host").host;
        let error = host
            .destination(Features::PMU | Features::SVE, Program::QEMU)
            .expect_err("a CPU without SVE");
        assert_eq!(
            error.to_string(),
            "linux-6.12.107/neoverse-n1 was not recorded for guests with the features pmu,sve; it was for: none; pmu"
        );
    }

    /// A value is known where all recordings of the host agree.
    #[test]
    fn what_is_put_together_says_no_more_than_its_parts() {
        let index = host_index();
        let host = index.resolve("linux-6.12.107/max").expect("a host").host;
        let features = Features::PMU | Features::SVE;
        let made = host.destination(features, Program::QEMU);
        let destination = made.expect("both were recorded");
        let evidence = host.record().evidence(features);
        assert!(evidence.starts_with("put together from"), "{evidence}");
        let vcpu = &destination.vcpus[0];
        assert_eq!(vcpu.registers().len(), 260);
        assert_eq!(vcpu.value(RegisterId::ID_AA64PFR0_EL1), None);
        assert_eq!(vcpu.value(RegisterId::PSCI_VERSION), Some(0x1_0001));
    }

    #[test]
    fn what_is_no_value_is_none_and_masks_are_kept() {
        let index = host_index();
        let host = index.resolve("linux-6.12.107/n1").expect("a host").host;
        let made = host.destination(Features::PMU, Program::QEMU);
        let destination = made.expect("it was recorded");
        assert_eq!(
            host.record().evidence(Features::PMU),
            "a recorded host with an emulated CPU, Linux 6.12.107+deb13-cloud-arm64: right about its kernel, no proof of a real machine's values"
        );
        assert_eq!(destination.value_origin, ValueOrigin::EmulatedHost);
        let get = |id| destination.vcpus[0].get(id).expect("it is listed");
        assert_eq!(get(RegisterId::PIR_EL1).value, None);
        assert_eq!(get(RegisterId::TIMER_CNT).value, None);
        assert!(matches!(
            get(RegisterId::ID_AA64MMFR2_EL1).accepted_values,
            AcceptedValues::Writable(_)
        ));
        // QEMU keeps core registers elsewhere.
        assert!(destination.vcpus[0].registers().len() < host.register_counts()[&Features::PMU]);
    }
}
