//! Recorded hosts as destinations, by name.
//!
//! The [`HostIndex`] has one host for each kernel, CPU model and mode.
//!
//! | name | meaning |
//! |---|---|
//! | `linux-6.12.107/neoverse-n1` | a host |
//! | `linux-6.12.107/max+nested` | the same kernel in another mode |
//! | `linux-6.12.107/neoverse-n1/pmu` | the host, for a guest with exactly these features |
//! | `linux-6.12.107+deb13-cloud-arm64/neoverse-n1` | the host by its full kernel release |
//! | `linux-6.1/n1` | a short name, if one host matches |
//!
//! A short name consists of the first numbers of the version and the last words of the CPU's name.
//! [`crate::record::destination`] derives the destination for a guest.

use std::collections::BTreeMap;

use cpreg::cpu_model::CpuModel;
use cpreg::destination::loader::Program;
use cpreg::destination::{Destination, Features};
use strsim::levenshtein;

use crate::error::{Error, ErrorKind};
use crate::host_index::{self, HostIndex, KernelRecord};
use crate::kernel_name::KernelName;
use crate::record::HostRecord;

pub use crate::record::HOST_NAME_PREFIX;
pub use crate::record::destination::EMULATED_HOST_EVIDENCE;

/// Maximum number of similar names in an error.
const MAX_SUGGESTIONS: usize = 3;
/// Maximum number of characters compared per part of a name; recorded names are much shorter.
const MAX_COMPARED_LEN: usize = 100;

/// A recorded host: a kernel on a CPU, with the recorded feature sets of guests.
#[derive(Clone, Copy, Debug)]
pub struct IndexedHost<'a> {
    index: &'a HostIndex,
    number: usize,
    entry: &'a host_index::HostEntry,
}

/// Result of resolving a name.
#[derive(Clone, Copy, Debug)]
pub struct NamedHost<'a> {
    /// The host.
    pub host: IndexedHost<'a>,
    /// The guest's features, if the name has them.
    pub features: Option<Features>,
}

impl HostIndex {
    /// Returns the recorded hosts in the order of the recordings: by kernel, oldest first.
    pub fn hosts(&self) -> Vec<IndexedHost<'_>> {
        let hosts = self.host_entries().iter().enumerate();
        let hosts = hosts.map(|(number, entry)| IndexedHost {
            index: self,
            number,
            entry,
        });
        hosts.collect()
    }

    /// Returns the hosts that match a full or short name without features.
    pub fn find_hosts(&self, name: &str) -> Vec<IndexedHost<'_>> {
        let (kernel, cpu) = split_host_name(name);
        let all = self.hosts();
        let hosts_with_kernel = filter_exact_or_short(
            &all,
            |host| [&*host.kernel().release, &*host.kernel().version].contains(&kernel),
            |host| is_version_prefix(&host.kernel().version, kernel),
        );
        match cpu {
            None => hosts_with_kernel,
            Some(cpu) => filter_cpu(&hosts_with_kernel, cpu),
        }
    }

    /// Returns the host that matches a name, and the features in the name.
    ///
    /// # Errors
    /// Returns an error if no host or several hosts match, or if the features are invalid.
    ///
    /// # Examples
    ///
    /// ```
    /// let index = cpreg_hosts::HostIndex::built_in()?;
    /// let named = index.resolve("linux-6.12.107/neoverse-n1/pmu")?;
    /// assert_eq!(named.features, Some(cpreg::destination::Features::PMU));
    /// // A name that matches several hosts, or none, is an error that lists names.
    /// assert!(index.resolve("linux-6.12").is_err());
    /// # Ok::<(), cpreg_hosts::Error>(())
    /// ```
    pub fn resolve(&self, name: &str) -> Result<NamedHost<'_>, Error> {
        let (full_name, features) = split_features(name)?;
        match self.find_hosts(&full_name).as_slice() {
            [host] => Ok(NamedHost {
                host: *host,
                features,
            }),
            [] => {
                let nearest = self.nearest_names(&full_name).join(", ");
                let message =
                    format!("no recorded host is named {full_name}; the closest names: {nearest}");
                Err(Error::new(ErrorKind::UnknownName, message))
            }
            several => {
                let matches: Vec<_> = several.iter().map(IndexedHost::name).collect();
                let message = format!(
                    "{full_name} matches {} recorded hosts: {}",
                    matches.len(),
                    matches.join(", ")
                );
                Err(Error::new(ErrorKind::AmbiguousName, message))
            }
        }
    }

    /// Returns the full names of up to three similar hosts.
    ///
    /// If the name has a kernel's version, these are the hosts with the next versions. Otherwise
    /// these are the hosts whose full or short names are spelled most similarly.
    pub fn nearest_names(&self, name: &str) -> Vec<String> {
        let (kernel, cpu) = split_host_name(name);
        let cpu = cpu.unwrap_or_default();
        let [kernel_text, cpu_text] =
            [kernel, cpu].map(|part| part.chars().take(MAX_COMPARED_LEN).collect::<String>());
        let with_cpu = filter_cpu(&self.hosts(), cpu);
        let mut hosts = if with_cpu.is_empty() {
            self.hosts()
        } else {
            with_cpu
        };
        let version = KernelName::parse(kernel).map(KernelName::number);
        hosts.sort_by_cached_key(|host| {
            let KernelRecord {
                version: recorded,
                release,
                ..
            } = host.kernel();
            let spelling_distance = || {
                let ends = recorded.match_indices('.').map(|(end, _)| end);
                let short = ends.filter_map(|end| recorded.get(..end));
                let names = short.chain([&**recorded, &**release]);
                min_distance(names, &kernel_text) as u64
            };
            let numbers = version.zip(host.kernel_number());
            let kernel_distance =
                numbers.map_or_else(spelling_distance, |(named, other)| named.abs_diff(other));
            let full_cpu = host.cpu();
            let cpus = [&*full_cpu, full_cpu.rsplit('-').next().unwrap_or_default()];
            let cpu_distance = min_distance(cpus, &cpu_text);
            match version {
                Some(_) => (kernel_distance, cpu_distance),
                None => (kernel_distance + cpu_distance as u64, 0),
            }
        });
        hosts.truncate(MAX_SUGGESTIONS);
        hosts.iter().map(IndexedHost::name).collect()
    }
}

/// Returns `true` if the text has the form of a host's name: it begins with `linux-`, or with a
/// distribution and its release, as in `ubuntu-24.04/n1`.
pub fn is_host_name(text: &str) -> bool {
    let kernel = text.split_once('/').map_or(text, |(kernel, _)| kernel);
    text.starts_with(HOST_NAME_PREFIX) || KernelName::from_distribution(kernel).is_some()
}

/// Splits the name of a host without features into kernel and CPU.
pub(crate) fn split_host_name(name: &str) -> (&str, Option<&str>) {
    let name = name.strip_prefix(HOST_NAME_PREFIX).unwrap_or(name);
    match name.split_once('/') {
        Some((kernel, cpu)) => (kernel, Some(cpu)),
        None => (name, None),
    }
}

/// Splits a name into the name of the host and the features.
pub(crate) fn split_features(name: &str) -> Result<(String, Option<Features>), Error> {
    let mut parts = name.splitn(3, '/');
    let full_name: Vec<_> = parts.by_ref().take(2).collect();
    let features = parts.next().map(parse_features).transpose()?;
    Ok((full_name.join("/"), features))
}

fn parse_features(text: &str) -> Result<Features, Error> {
    Features::from_names(&text.to_ascii_lowercase()).ok_or_else(|| {
        let message = format!(
            "`{text}` is not a set of vCPU features; separate features with commas, such as \
             pmu,sve, or write none"
        );
        Error::new(ErrorKind::Features, message)
    })
}

/// Returns the smallest edit distance from `name` to one of `names`.
fn min_distance<'a>(names: impl IntoIterator<Item = &'a str>, name: &str) -> usize {
    let distances = names.into_iter().map(|other| levenshtein(other, name));
    distances.min().unwrap_or_default()
}

/// Returns the hosts with a CPU: by its full name, by the end of its name, or by a machine that has
/// it (`graviton2`). Case does not matter.
pub(crate) fn filter_cpu<'a>(hosts: &[IndexedHost<'a>], cpu: &str) -> Vec<IndexedHost<'a>> {
    let by_name = filter_exact_or_short(
        hosts,
        |host| host.cpu().eq_ignore_ascii_case(cpu),
        |host| is_cpu_suffix(&host.cpu(), &cpu.to_ascii_lowercase()),
    );
    if !by_name.is_empty() {
        return by_name;
    }
    let (machine, mode) = cpu.split_once('+').unwrap_or((cpu, ""));
    let models: Vec<_> = CpuModel::for_machine(machine).collect();
    let has_model = |host: &&IndexedHost<'a>| {
        models.iter().any(|model| model.name() == host.model())
            && host.mode().eq_ignore_ascii_case(mode)
    };
    hosts.iter().filter(has_model).copied().collect()
}

/// Returns the hosts that match exactly. If there are none, returns the hosts that match as a short
/// name.
fn filter_exact_or_short<'a>(
    hosts: &[IndexedHost<'a>],
    exact: impl Fn(&IndexedHost<'a>) -> bool,
    short: impl Fn(&IndexedHost<'a>) -> bool,
) -> Vec<IndexedHost<'a>> {
    let matching = |predicate: &dyn Fn(&IndexedHost<'a>) -> bool| -> Vec<_> {
        hosts
            .iter()
            .filter(|host| predicate(host))
            .copied()
            .collect()
    };
    let exact_matches = matching(&exact);
    if exact_matches.is_empty() {
        matching(&short)
    } else {
        exact_matches
    }
}

/// Returns `true` if `short` is a prefix of whole numbers: `6` and `6.12` of `6.12.107`, but not
/// `6.1`.
fn is_version_prefix(version: &str, short: &str) -> bool {
    let rest = version.strip_prefix(short);
    !short.is_empty() && rest.is_some_and(|rest| rest.starts_with('.'))
}

/// Returns `true` if `short` is a suffix of whole words: `n1` of `neoverse-n1`, but not `1`.
fn is_cpu_suffix(cpu: &str, short: &str) -> bool {
    let rest = cpu.strip_suffix(short);
    !short.is_empty() && rest.is_some_and(|rest| rest.ends_with('-'))
}

impl<'a> IndexedHost<'a> {
    /// Returns the kernel of the host.
    pub fn kernel(&self) -> &'a KernelRecord {
        &self.index.kernels()[self.entry.kernel]
    }

    /// Returns the version of the kernel as a number that orders versions.
    pub(crate) fn kernel_number(&self) -> Option<u64> {
        KernelName::parse(&self.kernel().version).map(KernelName::number)
    }

    /// Returns the CPU model and the mode: `neoverse-n1`, `max+nested`.
    pub fn cpu(&self) -> String {
        self.entry.identity.cpu_and_mode()
    }

    /// Returns the CPU model.
    pub fn model(&self) -> &'a str {
        &self.entry.identity.cpu
    }

    /// Returns the mode of KVM, such as `nested`, or an empty text for the usual mode.
    pub fn mode(&self) -> &'a str {
        &self.entry.identity.mode
    }

    /// Returns MIDR_EL1 of the host's first CPU.
    pub const fn midr(&self) -> u64 {
        self.entry.identity.midr
    }

    /// Returns `true` if the CPU is emulated.
    pub const fn is_emulated(&self) -> bool {
        self.entry.identity.emulated
    }

    /// Returns the name of the host: `linux-6.12.107/neoverse-n1`.
    pub fn name(&self) -> String {
        self.entry.identity.name()
    }

    /// Returns each recorded feature set with the number of registers that KVM lists for it.
    pub fn register_counts(&self) -> BTreeMap<Features, usize> {
        let recordings = self.index.recordings().iter().enumerate();
        recordings
            .filter(|(_, recording)| recording.host == self.number)
            .map(|(number, recording)| {
                let registers = self.index.entries_in_recording(number).count();
                (recording.features, registers)
            })
            .collect()
    }

    /// Returns everything that was recorded of the host.
    pub fn record(&self) -> HostRecord {
        let record = self.index.record(self.number);
        // The index contains every `IndexedHost`: the fallback is unreachable.
        record.unwrap_or_else(|| HostRecord {
            identity: self.entry.identity.clone(),
            capabilities: self.entry.capabilities.clone(),
            guests: BTreeMap::new(),
            hardware: self.entry.hardware,
        })
    }

    /// Returns the host as a destination for a guest with these features.
    ///
    /// See [`HostRecord::destination`].
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
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
        HostIndex::built_in().expect("the checked-in index is valid")
    }

    fn resolve(name: &str) -> Result<(String, Option<String>), String> {
        let index = host_index();
        let named = index.resolve(name).map_err(|error| error.to_string())?;
        let features = named.features.map(|features| features.to_string());
        Ok((named.host.name(), features))
    }

    fn resolved(name: &str, features: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), features.map(str::to_owned))
    }

    #[test]
    fn every_host_has_a_unique_name() {
        let index = host_index();
        let hosts = index.hosts();
        assert_eq!(hosts.len(), 120);
        for host in hosts {
            assert_eq!(resolve(&host.name()), Ok(resolved(&host.name(), None)));
        }
    }

    #[test]
    fn short_names_match_one_host() {
        let n1 = Ok(resolved("linux-6.16.12/neoverse-n1", None));
        for short in [
            "linux-6.16.12/n1",
            "linux-6.16.12+deb13-cloud-arm64/neoverse-n1",
            "linux-6.16.12/neoverse-n1",
        ] {
            assert_eq!(resolve(short), n1, "{short}");
        }
        assert_eq!(
            resolve("linux-7.3/max+nested/pmu,sve"),
            Ok(resolved("linux-7.3.4/max+nested", Some("pmu,sve")))
        );
        for name in [
            "linux-7.3/Graviton2",
            "linux-7.3.4/NEOVERSE-N1",
            "linux-7.3/ampere-altra",
        ] {
            assert_eq!(
                resolve(name),
                Ok(resolved("linux-7.3.4/neoverse-n1", None)),
                "{name}"
            );
        }
        assert_eq!(
            resolve("linux-7.3/Max+Nested/PMU,SVE"),
            Ok(resolved("linux-7.3.4/max+nested", Some("pmu,sve")))
        );
        // Must match neither 6.12 and 6.16 nor the modes of max.
        assert_eq!(
            resolve("linux-6.1/max"),
            Ok(resolved("linux-6.1.176/max", None))
        );
    }

    #[test]
    fn ambiguous_and_unknown_names_are_errors() {
        assert_eq!(
            resolve("linux-6.12/n1"),
            Err(
                "linux-6.12/n1 matches 3 recorded hosts: linux-6.12.43/neoverse-n1, \
                 linux-6.12.95/neoverse-n1, linux-6.12.107/neoverse-n1"
                    .to_owned()
            )
        );
        assert_eq!(
            resolve("linux-6.16.1/n1"),
            Err(
                "no recorded host is named linux-6.16.1/n1; the closest names: \
                 linux-6.16.3/neoverse-n1, linux-6.16.12/neoverse-n1, linux-6.17.13/neoverse-n1"
                    .to_owned()
            )
        );
        assert_eq!(
            resolve("linux-6.16.12/n1/avx"),
            Err(
                "`avx` is not a set of vCPU features; separate features with commas, such as \
                 pmu,sve, or write none"
                    .to_owned()
            )
        );
        assert!(resolve("linux-6.16").is_err());
        assert!(resolve("").is_err());
    }

    #[test]
    fn features_without_recordings_are_not_combined() {
        let index = host_index();
        let host = index.resolve("linux-6.12.107/n1").expect("a host").host;
        let error = host
            .destination(Features::PMU | Features::SVE, Program::QEMU)
            .expect_err("a CPU without SVE");
        assert_eq!(
            error.to_string(),
            "linux-6.12.107/neoverse-n1 was not recorded for guests with the features pmu,sve; recorded features: none; pmu"
        );
    }

    /// Values are known if all recordings of the host agree, or show the feature that decides.
    #[test]
    fn combined_recordings_know_no_more_than_their_parts() {
        let index = host_index();
        let host = index.resolve("linux-6.12.107/max").expect("a host").host;
        let features = Features::PMU | Features::SVE;
        let combined = host.destination(features, Program::QEMU);
        let destination = combined.expect("both were recorded");
        let evidence = host.record().evidence(features);
        assert!(evidence.starts_with("combined from"), "{evidence}");
        let vcpu = &destination.vcpus[0];
        assert_eq!(vcpu.registers().len(), 260);
        let value = |features, id| {
            let destination = host.destination(features, Program::QEMU);
            destination.expect("it was recorded").vcpus[0].value(id)
        };
        // SVE, PMUVer, and address authentication, which this guest lacks.
        for (id, like) in [
            (RegisterId::ID_AA64PFR0_EL1, Features::SVE),
            (RegisterId::ID_AA64DFR0_EL1, Features::PMU),
            (RegisterId::ID_AA64ISAR1_EL1, Features::NONE),
        ] {
            let combined = vcpu.value(id);
            assert!(combined.is_some());
            assert_eq!(combined, value(like, id), "{id}");
        }
        assert_eq!(vcpu.value(RegisterId::PSCI_VERSION), Some(0x1_0001));
    }

    /// Without the recording of all features, the combination has its values.
    #[test]
    fn combined_values_equal_recorded_ones() {
        let (mut hosts, mut values) = (0, 0);
        let all = Features::PMU | Features::SVE | Features::POINTER_AUTHENTICATION;
        for host in host_index().hosts() {
            let mut record = host.record();
            let recorded = record.destination(all, Program::QEMU);
            if record.guests.remove(&all).is_none() {
                continue;
            }
            let combined = record.destination(all, Program::QEMU);
            let [recorded, combined] = [recorded, combined].map(|it| it.expect("recorded"));
            hosts += 1;
            for register in combined.vcpus[0].registers() {
                let Some(value) = &register.value else {
                    continue;
                };
                values += 1;
                let known = recorded.vcpus[0].get(register.id);
                let known = known.and_then(|it| it.value.as_ref());
                assert_eq!(Some(value), known, "{} {}", host.name(), register.id);
            }
        }
        assert!(hosts > 10 && values > 1000, "{hosts} {values}");
    }

    #[test]
    fn a_new_vm_with_combined_features_loads_on_its_own_host() {
        use cpreg::plan::{Check, Consents, PlanOutcome};
        use cpreg::tolerance::Tolerances;

        let features = Features::PMU | Features::SVE;
        let mut hosts = 0;
        for host in host_index().hosts() {
            let record = host.record();
            // The recordings of other modes do not show each feature alone.
            if host.cpu() != "max" {
                continue;
            }
            assert!(!record.guests.contains_key(&features), "{}", host.name());
            let destination = record.destination(features, Program::QEMU);
            let destination = destination.expect("both were recorded");
            hosts += 1;
            let vm = record
                .new_vm(features, Program::QEMU)
                .expect("it was combined");
            let (tolerances, consents) = (Tolerances::default(), Consents::default());
            let check = Check::new(&vm, &destination, &tolerances, &consents);
            assert_eq!(check.plan.outcome(), PlanOutcome::Ready, "{}", host.name());
        }
        assert!(hosts > 3, "{hosts}");
    }

    /// A new VM holds what its vCPUs hold after a reset, and nothing is invented.
    #[test]
    fn a_new_vm_has_reset_values() {
        let index = host_index();
        let host = index.resolve("linux-6.12.107/n1").expect("a host").host;
        let vm = host.record().new_vm(Features::PMU, Program::QEMU);
        let vm = vm.expect("it was recorded");
        let registers = &vm.vcpus[0].registers;
        let destination = host.destination(Features::PMU, Program::QEMU);
        let listed = destination.expect("it was recorded").vcpus[0]
            .registers()
            .len();
        assert_eq!(registers.len(), listed);
        assert_eq!(
            registers.get_u64(RegisterId::PIR_EL1),
            Some(cpreg::tolerance::condition::RESET_POISON)
        );
        assert_eq!(registers.get_u64(RegisterId::PSCI_VERSION), Some(0x1_0001));
        let is_unknown = |id| {
            registers
                .get(id)
                .is_some_and(cpreg::register::Value::is_unknown)
        };
        assert!(is_unknown(RegisterId::TIMER_CNT));
        assert!(!is_unknown(RegisterId::SCTLR_EL1));
    }

    #[test]
    fn vector_lengths_are_known_for_guests_with_sve() {
        let index = host_index();
        let lengths = |name: &str, features: Features| {
            let host = index.resolve(name).expect("a host").host;
            let destination = host.destination(features, Program::QEMU);
            let destination = destination.expect("it was recorded");
            // QEMU's list leaves the register out.
            assert_eq!(destination.vcpus[0].get(RegisterId::SVE_VLS), None);
            let lengths = destination.hardware.vector_lengths;
            lengths.map(cpreg::hardware::VectorLengths::bits)
        };
        let sve = Features::PMU | Features::SVE;
        assert_eq!(lengths("linux-7.3.4/max", sve), Some(0xffff));
        assert_eq!(lengths("linux-7.3.4/neoverse-v1", sve), Some(3));
        assert_eq!(lengths("linux-7.3.4/neoverse-n2", sve), Some(1));
        assert_eq!(lengths("linux-7.3.4/max", Features::PMU), None);
        assert_eq!(lengths("linux-7.3.4/neoverse-n1", Features::PMU), None);
    }

    #[test]
    fn poison_and_counters_have_no_value_and_masks_are_kept() {
        let index = host_index();
        let host = index.resolve("linux-6.12.107/n1").expect("a host").host;
        let destination = host.destination(Features::PMU, Program::QEMU);
        let destination = destination.expect("it was recorded");
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
            AcceptedValues::Fields(_)
        ));
        // QEMU keeps core registers outside this list.
        assert!(destination.vcpus[0].registers().len() < host.register_counts()[&Features::PMU]);
    }
}
