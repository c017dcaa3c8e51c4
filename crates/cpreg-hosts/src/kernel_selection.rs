//! [`SelectedKernel`]: a recorded kernel by a name without a CPU, with all of its hosts.

use crate::error::{Error, ErrorKind};
use crate::host::{HOST_NAME_PREFIX, IndexedHost};
use crate::host_index::{HostIndex, KernelRecord};
use crate::kernel_name::KernelName;
use crate::unrecorded_host::Gap;

/// A recorded kernel.
#[derive(Clone, Debug)]
pub struct SelectedKernel<'a> {
    /// Name as it was given.
    pub name: String,
    /// The kernel.
    pub record: &'a KernelRecord,
    /// Its hosts.
    pub hosts: Vec<IndexedHost<'a>>,
    /// Older recorded versions that the name matches too.
    pub older_versions: Vec<String>,
}

impl HostIndex {
    /// Returns the newest recorded kernel that a name matches: a version, series or release, or a
    /// distribution whose series was recorded.
    ///
    /// ```
    /// # fn main() -> Result<(), cpreg_hosts::Error> {
    /// let index = cpreg_hosts::HostIndex::built_in()?;
    /// let kernel = index.select_kernel("debian-13")?;
    /// assert_eq!(kernel.record.version, "6.12.107");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an error if no recorded kernel matches, or if kernels of several series match.
    pub fn select_kernel(&self, name: &str) -> Result<SelectedKernel<'_>, Error> {
        let error = |kind, reason: &str, hosts: &[IndexedHost<'_>]| {
            let mut names: Vec<_> = hosts
                .iter()
                .map(|host| format!("{HOST_NAME_PREFIX}{}", host.kernel().version))
                .collect();
            names.dedup();
            let names = match names.join(", ") {
                names if names.is_empty() => names,
                names => format!(": {names}"),
            };
            Error::new(kind, format!("{name} {reason}{names}"))
        };
        let selection = self.select(name)?;
        let mut hosts = selection.hosts;
        let text = name.strip_prefix(HOST_NAME_PREFIX).unwrap_or(name);
        let parsed = KernelName::parse(text);
        let has_patch = parsed.is_some_and(|it| it.patch.is_some());
        let series =
            |host: &IndexedHost<'_>| KernelName::parse(&host.kernel().version).map(|it| it.series);
        match selection.gap {
            Some(Gap::Backports(distribution)) => {
                let reason = format!("was not recorded: {distribution} backports changes of KVM");
                return Err(error(ErrorKind::UnknownName, &reason, &[]));
            }
            Some(gap) if gap != Gap::SameSeries || has_patch => {
                let reason = "was not recorded; the recorded kernels next to it";
                // Some CPUs were recorded with fewer kernels, so their neighbours are more distant.
                let named = parsed.map(KernelName::number);
                let numbers = || hosts.iter().map(IndexedHost::kernel_number);
                let older = numbers().filter(|number| *number <= named).max();
                let newer = numbers().filter(|number| *number >= named).min();
                hosts.retain(|host| {
                    let number = Some(host.kernel_number());
                    number == older || number == newer
                });
                return Err(error(ErrorKind::UnknownName, reason, &hosts));
            }
            // A CPU that was not recorded with the series has neighbours in other series.
            Some(_) => hosts.retain(|host| series(host) == parsed.map(|it| it.series)),
            None => {}
        }
        let Some(record) = hosts.last().map(IndexedHost::kernel) else {
            return Err(error(
                ErrorKind::UnknownName,
                "matches no recorded kernel",
                &[],
            ));
        };
        if hosts.first().map(series) != hosts.last().map(series) {
            let reason = "matches recorded kernels of several series";
            return Err(error(ErrorKind::AmbiguousName, reason, &hosts));
        }
        let mut older_versions: Vec<_> = hosts
            .iter()
            .filter(|host| host.kernel() != record)
            .map(|host| host.kernel().version.clone())
            .collect();
        older_versions.dedup();
        hosts.retain(|host| host.kernel() == record);
        Ok(SelectedKernel {
            name: name.to_owned(),
            record,
            hosts,
            older_versions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(name: &str) -> Result<(String, Vec<String>), ErrorKind> {
        let index = HostIndex::built_in().expect("the checked-in index is valid");
        let kernel = index.select_kernel(name).map_err(|error| error.kind())?;
        let mut hosts = kernel.hosts.iter();
        assert!(hosts.all(|host| host.kernel() == kernel.record), "{name}");
        Ok((kernel.record.version.clone(), kernel.older_versions))
    }

    #[test]
    fn names_select_the_newest_recorded_release() {
        let older = vec!["6.12.43".to_owned(), "6.12.95".to_owned()];
        for (name, version, older) in [
            ("linux-6.12", "6.12.107", older.clone()),
            ("debian-13", "6.12.107", older),
            ("linux-6.12.95", "6.12.95", Vec::new()),
            ("linux-7.3", "7.3.4", Vec::new()),
        ] {
            assert_eq!(select(name), Ok((version.to_owned(), older)), "{name}");
        }
    }

    /// Checks that no recorded kernel stands for one that may behave differently.
    #[test]
    fn unrecorded_and_ambiguous_kernels_are_errors() {
        for (name, kind) in [
            ("linux-6.12.63", ErrorKind::UnknownName),
            ("linux-6.8", ErrorKind::UnknownName),
            ("linux-7.3.0-rc3", ErrorKind::UnknownName),
            ("rhel-10", ErrorKind::UnknownName),
            ("linux-6", ErrorKind::AmbiguousName),
        ] {
            assert_eq!(select(name), Err(kind), "{name}");
        }
        let index = HostIndex::built_in().expect("the checked-in index is valid");
        let error = index.select_kernel("linux-6.8").expect_err("not recorded");
        assert_eq!(
            error.to_string(),
            "linux-6.8 was not recorded; the recorded kernels next to it: linux-6.1.176, \
             linux-6.12.43"
        );
    }
}
