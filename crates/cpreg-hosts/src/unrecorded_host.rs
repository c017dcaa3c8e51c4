//! [`UnrecordedHost`]: a host with an unrecorded kernel, and the recorded hosts next to it.
//!
//! Kernels of one series rarely differ in KVM's registers: stable releases receive fixes only. So
//! the recorded kernels around an unrecorded one show its behaviour where they agree. A kernel with
//! a recorded one on only one side, or with backported changes, has no such neighbours.

use cpreg::cpu_model::CpuModel;
use cpreg::destination::Features;

use crate::error::{Error, ErrorKind};
use crate::host::{IndexedHost, filter_cpu, split_features, split_host_name};
use crate::host_index::HostIndex;
use crate::kernel_name::KernelName;

/// A host whose kernel was not recorded.
#[derive(Clone, Debug)]
pub struct UnrecordedHost<'a> {
    /// Name of the host as it was given, without features.
    pub name: String,
    /// Kernel in the name.
    pub kernel: KernelName,
    /// Relation of the kernel to the recorded ones.
    pub gap: Gap,
    /// Recorded hosts with the same CPU and mode whose kernels are next to this one, oldest first.
    /// Empty if the distribution backports changes; otherwise never empty.
    pub neighbours: Vec<IndexedHost<'a>>,
    /// The guest's features, if the name has them.
    pub features: Option<Features>,
}

/// Relation of an unrecorded kernel to the recorded ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Another release of the same series was recorded.
    SameSeries,
    /// An older and a newer series were recorded.
    BetweenSeries,
    /// All recorded series are older, or all are newer.
    OutsideSeries,
    /// Distribution that backports large changes: the version does not determine KVM's behaviour.
    Backports(&'static str),
}

impl Gap {
    /// Returns `true` if the recorded neighbours enclose the kernel, so that a result of all of
    /// them is also the kernel's.
    pub const fn is_enclosed(self) -> bool {
        matches!(self, Self::SameSeries | Self::BetweenSeries)
    }
}

/// Hosts that a name selects.
#[derive(Clone, Debug)]
pub struct HostSelection<'a> {
    /// Recorded hosts that the name matches or, for an unrecorded kernel, the neighbours on each
    /// CPU; by kernel, oldest first.
    pub hosts: Vec<IndexedHost<'a>>,
    /// Relation of the kernel in the name to the recorded ones; `None` if it was recorded.
    pub gap: Option<Gap>,
}

impl<'a> UnrecordedHost<'a> {
    /// Returns the recorded host that stands for this one: a neighbour in the same series, if all
    /// such neighbours list, hold and accept the same.
    ///
    /// Returns `None` if the neighbours differ, or if the series was not recorded.
    pub fn substitute(&self) -> Option<IndexedHost<'a>> {
        let (newest, others) = self.neighbours.split_last()?;
        let record = newest.record();
        let are_equal = others.iter().all(|other| {
            let other = other.record();
            other.guests == record.guests && other.capabilities == record.capabilities
        });
        (self.gap == Gap::SameSeries && are_equal).then_some(*newest)
    }
}

impl HostIndex {
    /// Returns the unrecorded host of a name, and its neighbours.
    ///
    /// # Errors
    /// Returns an error if the name has no known kernel or CPU, or if its features are invalid.
    pub fn find_unrecorded(&self, name: &str) -> Result<UnrecordedHost<'_>, Error> {
        let (full_name, features) = split_features(name)?;
        let (kernel, cpu) = split_host_name(&full_name);
        let unknown = |message| Error::new(ErrorKind::UnknownName, message);
        let Some(kernel) = KernelName::parse(kernel) else {
            return Err(unknown(format!(
                "`{kernel}` in {full_name} is not a kernel's version or release, and not a known \
                 distribution"
            )));
        };
        if let Some(distribution) = kernel.backporter {
            self.reject_unknown_cpu(&full_name, cpu)?;
            return Ok(UnrecordedHost {
                name: full_name,
                kernel,
                gap: Gap::Backports(distribution),
                neighbours: Vec::new(),
                features,
            });
        }
        let cpu = cpu.unwrap_or_default();
        let hosts = filter_cpu(&self.hosts(), cpu);
        let Some(first) = hosts.first() else {
            return Err(self.unknown_cpu_error(&full_name, cpu));
        };
        // A short name or a machine may stand for several CPUs.
        if let Some(other) = hosts.iter().find(|host| host.cpu() != first.cpu()) {
            return Err(Error::new(
                ErrorKind::AmbiguousName,
                format!(
                    "the CPU of {full_name} is not unique: {}, {}",
                    first.cpu(),
                    other.cpu()
                ),
            ));
        }
        let (gap, neighbours) = find_neighbours(&hosts, kernel);
        Ok(UnrecordedHost {
            name: full_name,
            kernel,
            gap,
            neighbours,
            features,
        })
    }

    /// Returns the recorded hosts that a name selects: the name of a host, or only its kernel,
    /// distribution, CPU or machine.
    ///
    /// ```
    /// use cpreg_hosts::HostIndex;
    /// use cpreg_hosts::unrecorded_host::Gap;
    ///
    /// # fn main() -> Result<(), cpreg_hosts::Error> {
    /// let index = HostIndex::built_in()?;
    /// let graviton3 = index.select("graviton3")?;
    /// assert!(graviton3.hosts.iter().all(|host| host.cpu() == "neoverse-v1"));
    /// let ubuntu = index.select("ubuntu-24.04/graviton3")?;
    /// assert_eq!(ubuntu.gap, Some(Gap::BetweenSeries));
    /// assert_eq!(ubuntu.hosts.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an error if the name has no known kernel or CPU, or if it has features.
    pub fn select(&self, name: &str) -> Result<HostSelection<'_>, Error> {
        let recorded = |hosts| HostSelection { hosts, gap: None };
        let hosts = self.find_hosts(name);
        if !hosts.is_empty() {
            return Ok(recorded(hosts));
        }
        let all = self.hosts();
        let (kernel_text, cpu) = split_host_name(name);
        let kernel = KernelName::parse(kernel_text);
        let Some(kernel) = kernel.filter(|_| !cpu.is_some_and(|cpu| cpu.contains('/'))) else {
            let hosts = filter_cpu(&all, name);
            return match self.resolve(name) {
                _ if !hosts.is_empty() => Ok(recorded(hosts)),
                _ if is_known_cpu(name) => Err(self.unknown_cpu_error(name, name)),
                Err(error) => Err(error),
                Ok(_) => Err(Error::new(
                    ErrorKind::Features,
                    format!("{name} has features at its end"),
                )),
            };
        };
        if let Some(distribution) = kernel.backporter {
            self.reject_unknown_cpu(name, cpu)?;
            return Ok(HostSelection {
                hosts: Vec::new(),
                gap: Some(Gap::Backports(distribution)),
            });
        }
        let with_cpu = cpu.map_or_else(|| all.clone(), |cpu| filter_cpu(&all, cpu));
        let mut cpus: Vec<_> = with_cpu.iter().map(IndexedHost::cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        if cpus.is_empty() {
            return Err(self.unknown_cpu_error(name, cpu.unwrap_or_default()));
        }
        let mut selected = Vec::new();
        let mut gap = None;
        for cpu in cpus {
            let of_cpu = with_cpu.iter().filter(|host| host.cpu() == cpu);
            let (of_cpu_gap, neighbours) =
                find_neighbours(&of_cpu.copied().collect::<Vec<_>>(), kernel);
            // A CPU in another mode may be recorded on fewer kernels.
            gap = match gap {
                None | Some(Gap::OutsideSeries) => Some(of_cpu_gap),
                known => known,
            };
            selected.extend(neighbours.iter().map(IndexedHost::name));
        }
        let hosts = all.into_iter();
        Ok(HostSelection {
            hosts: hosts
                .filter(|host| selected.contains(&host.name()))
                .collect(),
            gap,
        })
    }

    /// Returns an error if the name has a CPU that is neither recorded nor known.
    fn reject_unknown_cpu(&self, name: &str, cpu: Option<&str>) -> Result<(), Error> {
        match cpu {
            Some(cpu) if filter_cpu(&self.hosts(), cpu).is_empty() && !is_known_cpu(cpu) => {
                Err(self.unknown_cpu_error(name, cpu))
            }
            _ => Ok(()),
        }
    }

    fn unknown_cpu_error(&self, name: &str, cpu: &str) -> Error {
        Error::new(ErrorKind::UnknownCpu, self.describe_unknown_cpu(name, cpu))
    }

    fn describe_unknown_cpu(&self, name: &str, cpu: &str) -> String {
        let mut recorded: Vec<_> = self.hosts().iter().map(IndexedHost::cpu).collect();
        recorded.sort_unstable();
        recorded.dedup();
        let recorded = recorded.join(", ");
        if cpu.is_empty() {
            return format!("{name} lacks a CPU; recorded CPUs: {recorded}");
        }
        let models: Vec<_> = CpuModel::for_machine(cpu).map(CpuModel::name).collect();
        let cpu = if models.is_empty() {
            format!("the CPU `{cpu}`")
        } else {
            format!("the CPU of {cpu} ({})", models.join(", "))
        };
        format!("no recorded host has {cpu}; recorded CPUs: {recorded}")
    }
}

/// Returns `true` if the CPU is a known model, or that of a known machine.
fn is_known_cpu(cpu: &str) -> bool {
    let mut models = CpuModel::all().iter();
    models.any(|model| model.name().eq_ignore_ascii_case(cpu))
        || CpuModel::for_machine(cpu).next().is_some()
}

/// Returns the hosts next to a kernel. `hosts` have one CPU, and are ordered by version.
fn find_neighbours<'a>(
    hosts: &[IndexedHost<'a>],
    kernel: KernelName,
) -> (Gap, Vec<IndexedHost<'a>>) {
    // A release candidate lacks the later fixes of its series.
    let is_in_series = |host: &&IndexedHost<'a>| {
        let recorded = KernelName::parse(&host.kernel().version);
        recorded.is_some_and(|it| it.series == kernel.series && !kernel.is_candidate)
    };
    let series: Vec<_> = hosts.iter().filter(is_in_series).copied().collect();
    let gap = if series.is_empty() {
        Gap::BetweenSeries
    } else {
        Gap::SameSeries
    };
    if gap == Gap::SameSeries && kernel.patch.is_none() {
        return (gap, series);
    }
    let candidates = if series.is_empty() { hosts } else { &series };
    let number = Some(kernel.number());
    let older = candidates
        .iter()
        .rfind(|host| host.kernel_number() <= number);
    let newer = candidates
        .iter()
        .find(|host| host.kernel_number() >= number);
    let neighbours: Vec<_> = older.into_iter().chain(newer).copied().collect();
    let gap = match gap {
        Gap::BetweenSeries if neighbours.len() < 2 => Gap::OutsideSeries,
        gap => gap,
    };
    (gap, neighbours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> Result<(Gap, Vec<String>), String> {
        let index = HostIndex::built_in().expect("the checked-in index is valid");
        let host = index.find_unrecorded(name);
        let host = host.map_err(|error| error.to_string())?;
        let neighbours = host.neighbours.iter().map(IndexedHost::name).collect();
        Ok((host.gap, neighbours))
    }

    fn found(gap: Gap, names: &[&str]) -> (Gap, Vec<String>) {
        (gap, names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn a_release_has_the_neighbours_in_its_series() {
        let neighbours = ["linux-6.12.43/neoverse-n1", "linux-6.12.95/neoverse-n1"];
        for name in [
            "linux-6.12.63/n1",
            "linux-6.12.63/NEOVERSE-N1",
            "6.12.63/graviton2/pmu",
        ] {
            assert_eq!(
                find(name),
                Ok(found(Gap::SameSeries, &neighbours)),
                "{name}"
            );
        }
        // Newer or older than all of the series.
        let newest = Ok(found(Gap::SameSeries, &["linux-6.12.107/neoverse-n1"]));
        assert_eq!(find("linux-6.12.200/n1"), newest);
        let oldest = Ok(found(Gap::SameSeries, &["linux-6.12.43/neoverse-n1"]));
        assert_eq!(find("linux-6.12.1+custom/n1"), oldest);
    }

    #[test]
    fn a_series_has_all_its_recorded_releases() {
        let expected = ["linux-6.16.3/max+nested", "linux-6.16.12/max+nested"];
        assert_eq!(
            find("linux-6.16/max+nested"),
            Ok(found(Gap::SameSeries, &expected))
        );
        assert_eq!(
            find("ubuntu-26.04/altra"),
            Ok(found(Gap::SameSeries, &["linux-7.0.13/neoverse-n1"]))
        );
    }

    #[test]
    fn an_unrecorded_series_has_a_neighbour_on_each_side() {
        let expected = ["linux-6.1.176/neoverse-n1", "linux-6.12.43/neoverse-n1"];
        for name in [
            "linux-6.8/n1",
            "linux-6.8.0-45-generic/n1",
            "ubuntu-24.04/n1",
        ] {
            assert_eq!(
                find(name),
                Ok(found(Gap::BetweenSeries, &expected)),
                "{name}"
            );
        }
        assert_eq!(
            find("linux-7.0.0-rc3/n1"),
            Ok(found(
                Gap::BetweenSeries,
                &["linux-6.19.14/neoverse-n1", "linux-7.0.13/neoverse-n1"]
            ))
        );
        assert_eq!(
            find("linux-5.4/n1"),
            Ok(found(Gap::OutsideSeries, &["linux-5.10.223/neoverse-n1"]))
        );
        assert_eq!(
            find("linux-9.0/n1"),
            Ok(found(Gap::OutsideSeries, &["linux-7.3.4/neoverse-n1"]))
        );
    }

    #[test]
    fn equal_neighbours_stand_for_a_release() {
        let index = HostIndex::built_in().expect("the checked-in index is valid");
        let substitute = |name| {
            let host = index.find_unrecorded(name).expect("a known kernel and CPU");
            host.substitute().map(|host| host.name())
        };
        let expected = |name: &str| Some(name.to_owned());
        assert_eq!(
            substitute("linux-6.12.100/n1"),
            expected("linux-6.12.107/neoverse-n1")
        );
        assert_eq!(
            substitute("linux-6.16/n1"),
            expected("linux-6.16.12/neoverse-n1")
        );
        assert_eq!(
            substitute("linux-6.12.200/n1"),
            expected("linux-6.12.107/neoverse-n1")
        );
        // KVM's writable bits of AArch32 ID registers changed between 6.12.43 and 6.12.95.
        assert_eq!(substitute("linux-6.12.63/n1"), None);
        assert_eq!(substitute("linux-6.8/n1"), None);
        assert_eq!(substitute("rhel-10/n1"), None);
    }

    #[test]
    fn backports_are_named() {
        let Ok((gap, neighbours)) = find("linux-5.14.0-427.13.1.el9_4.aarch64/n1") else {
            panic!("the kernel is known");
        };
        assert_eq!(gap, Gap::Backports("Red Hat Enterprise Linux"));
        assert!(neighbours.is_empty());
        for name in ["rhel-9/graviton4", "rhel-9/neoverse-v2", "sles-16"] {
            let (gap, neighbours) = find(name).expect("no recording of the CPU is needed");
            assert!(matches!(gap, Gap::Backports(_)) && neighbours.is_empty());
            assert!(!gap.is_enclosed());
        }
        assert!(find("rhel-9/z80").is_err());
    }

    #[test]
    fn a_part_of_a_name_selects_hosts() {
        let index = HostIndex::built_in().expect("the checked-in index is valid");
        let select = |name| {
            let selection = index.select(name).expect("a known name");
            let names: Vec<_> = selection.hosts.iter().map(IndexedHost::name).collect();
            (selection.gap, names)
        };
        for (name, gap, count) in [
            ("linux-7.3/n2", None, 1),
            ("graviton3", None, 14),
            ("N1", None, 14),
            ("max+nested", None, 9),
            ("ubuntu-26.04", Some(Gap::SameSeries), 9),
            ("linux-6.12.100/altra", Some(Gap::SameSeries), 2),
            ("ubuntu-24.04/graviton3", Some(Gap::BetweenSeries), 2),
            ("linux-9.0/n1", Some(Gap::OutsideSeries), 1),
            (
                "rhel-9",
                Some(Gap::Backports("Red Hat Enterprise Linux")),
                0,
            ),
        ] {
            let (found_gap, names) = select(name);
            assert_eq!((found_gap, names.len()), (gap, count), "{name}: {names:?}");
        }
        let (gap, names) = select("ubuntu-24.04");
        assert_eq!(gap, Some(Gap::BetweenSeries));
        assert_eq!(
            names.first().map(String::as_str),
            Some("linux-6.1.176/cortex-a57")
        );
        assert!(names.iter().any(|name| name == "linux-6.12.43/max+mte"));
        for (name, kind) in [
            ("graviton4", ErrorKind::UnknownCpu),
            ("linux-6.8/graviton4", ErrorKind::UnknownCpu),
            ("z80", ErrorKind::UnknownName),
            ("linux-7.3/n2/pmu", ErrorKind::Features),
        ] {
            let error = index.select(name).expect_err(name);
            assert_eq!(error.kind(), kind, "{name}");
        }
    }

    #[test]
    fn unknown_parts_are_errors() {
        const CPUS: &str = "cortex-a57, cortex-a76, max, max+mte, max+nested, neoverse-n1, \
                            neoverse-n1+nvhe, neoverse-n2, neoverse-v1";
        for (name, message) in [
            (
                "linux-next/n1",
                "`next` in linux-next/n1 is not a kernel's version or release, and not a known \
                 distribution"
                    .to_owned(),
            ),
            (
                "linux-6.8/graviton4",
                format!(
                    "no recorded host has the CPU of graviton4 (neoverse-v2); recorded CPUs: {CPUS}"
                ),
            ),
            (
                "linux-6.8/z80",
                format!("no recorded host has the CPU `z80`; recorded CPUs: {CPUS}"),
            ),
            (
                "linux-6.8",
                format!("linux-6.8 lacks a CPU; recorded CPUs: {CPUS}"),
            ),
        ] {
            assert_eq!(find(name), Err(message));
        }
    }
}
