//! Debian's arm64 kernels, one or more of each generation, fetched and unpacked.
//!
//! | in the lab folder | content |
//! |---|---|
//! | `kernels/6.12.107/Image` | bootable image |
//! | `kernels/6.12.107/modules/` | modules of a network card; see [`modules`] |
//! | `kernels/6.12.107/package` | package and version; written last, it marks completion |
//!
//! These are the `cloud` kernels, with NVMe, ext4, the PL011 and KVM built in. Debian's suites drop
//! a kernel some time after its successor appears. The lab then fetches the newest kernel of the
//! series instead, stores it under its own version, and prints a note. A request for exactly the
//! old version fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::image;
use super::modules::{self, NETWORK_MODULES};
use crate::debian::{self, Archive};
use crate::{Result, parallel};

/// A kernel package of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Package {
    /// Upstream version, used as the name of the kernel.
    version: &'static str,
    suite: &'static str,
    /// Package name. From 6.19 on the kernel itself is in `linux-binary-…`.
    name: &'static str,
}

/// Kernels, ordered by version. docs/registers.md lists their changes to KVM's interface.
const PACKAGES: [Package; 14] = [
    package(
        "5.10.223",
        "bullseye",
        "linux-image-5.10.0-32-cloud-arm64-unsigned",
    ),
    package("6.1.176", "bookworm", "linux-image-6.1.0-50-cloud-arm64"),
    package(
        "6.12.43",
        "bookworm-backports",
        "linux-image-6.12.43+deb12-cloud-arm64",
    ),
    package(
        "6.12.95",
        "bookworm-backports",
        "linux-image-6.12.95+deb12-cloud-arm64",
    ),
    package(
        "6.12.107",
        "trixie",
        "linux-image-6.12.107+deb13-cloud-arm64",
    ),
    package(
        "6.16.3",
        "trixie-backports",
        "linux-image-6.16.3+deb13-cloud-arm64",
    ),
    package(
        "6.16.12",
        "trixie-backports",
        "linux-image-6.16.12+deb13-cloud-arm64",
    ),
    package(
        "6.17.13",
        "trixie-backports",
        "linux-image-6.17.13+deb13-cloud-arm64",
    ),
    package(
        "6.18.15",
        "trixie-backports",
        "linux-image-6.18.15+deb13-cloud-arm64",
    ),
    package(
        "6.19.14",
        "trixie-backports",
        "linux-binary-6.19.14+deb13-cloud-arm64",
    ),
    package(
        "7.0.13",
        "trixie-backports",
        "linux-binary-7.0.13+deb13-cloud-arm64",
    ),
    package(
        "7.1.13",
        "trixie-backports",
        "linux-binary-7.1.13+deb13-cloud-arm64",
    ),
    package("7.2.12", "forky", "linux-binary-7.2.12+deb14-cloud-arm64"),
    package(
        "7.3.4",
        "trixie-backports",
        "linux-binary-7.3.4+deb13-cloud-arm64",
    ),
];

const fn package(version: &'static str, suite: &'static str, name: &'static str) -> Package {
    Package {
        version,
        suite,
        name,
    }
}

/// A kernel that QEMU can boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Upstream version, or the file name of a local kernel.
    pub version: String,
    /// Output of `uname -r`.
    pub release: String,
    /// Path of the bootable image.
    pub image: PathBuf,
    /// Modules of a network card, in the order of loading. Empty if none are available.
    pub modules: Vec<PathBuf>,
}

impl Kernel {
    fn read_cached(lab: &Path, version: &str) -> Result<Option<Self>> {
        let folder = folder(lab, version);
        if !folder.join("package").exists() {
            return Ok(None);
        }
        let image = folder.join("Image");
        let release_file = folder.join("release");
        if !release_file.exists() {
            fs::write(&release_file, release(&fs::read(&image)?)?)?;
        }
        Ok(Some(Self {
            version: version.to_owned(),
            release: fs::read_to_string(release_file)?,
            image,
            modules: modules::list(&folder.join("modules"))?,
        }))
    }

    /// Reads a local kernel, an Image or a vmlinuz.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or is not an arm64 kernel.
    pub fn from_file(lab: &Path, file: &Path) -> Result<Self> {
        let with_path = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let packed = fs::read(file).map_err(|error| with_path(&error))?;
        let image = image::unpack(&packed).map_err(|error| with_path(&error))?;
        let folder = lab.join("kernels/own");
        fs::create_dir_all(&folder)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = folder.join(format!("{name}.{}", std::process::id()));
        fs::write(&path, &image)?;
        Ok(Self {
            version: name.into_owned(),
            release: release(&image).map_err(|error| with_path(&error))?,
            image: path,
            modules: Vec::new(),
        })
    }

    /// Returns `true` if two emulated hosts with this kernel can share a network.
    pub fn has_network(&self) -> bool {
        !self.modules.is_empty()
    }
}

fn folder(lab: &Path, version: &str) -> PathBuf {
    lab.join("kernels").join(version)
}

/// Runs `cargo xtask lab kernels`.
///
/// # Errors
/// Returns an error if neither a kernel nor another of its series can be fetched.
pub fn run(lab: &Path) -> Result<()> {
    let kernels = all(lab)?;
    for kernel in &kernels {
        let package = fs::read_to_string(folder(lab, &kernel.version).join("package"))?;
        let network = if kernel.has_network() {
            "network"
        } else {
            "no network driver available"
        };
        println!("{:<9} {}  {network}", kernel.version, package.trim_end());
    }
    Ok(())
}

/// Returns all kernels of the table, or their replacements. Quick if they are fetched.
///
/// # Errors
/// Returns the errors of [`run`].
pub fn all(lab: &Path) -> Result<Vec<Kernel>> {
    let packages: Vec<_> = PACKAGES.iter().collect();
    let versions = fetch(lab, &packages)?;
    let mut kernels = Vec::new();
    for version in versions {
        if kernels
            .iter()
            .all(|kernel: &Kernel| kernel.version != version)
        {
            kernels.extend(Kernel::read_cached(lab, &version)?);
        }
    }
    Ok(kernels)
}

/// Returns the kernels with these versions. Each must be in the table or in the lab folder.
///
/// # Errors
/// Returns an error if a kernel is neither in the table nor in the lab folder, cannot be fetched,
/// or is replaced by another of its series.
pub fn fetch_versions(lab: &Path, versions: &[&str]) -> Result<Vec<Kernel>> {
    let packages: Vec<_> = PACKAGES
        .iter()
        .filter(|package| versions.contains(&package.version))
        .collect();
    fetch(lab, &packages)?;
    versions
        .iter()
        .map(|version| {
            Kernel::read_cached(lab, version)?.ok_or_else(|| {
                format!(
                    "unknown kernel {version}: `cargo xtask lab kernels` fetches and lists \
                     all kernels"
                )
                .into()
            })
        })
        .collect()
}

/// Fetches the missing kernels. Returns the version of each, in the order of `packages`.
fn fetch(lab: &Path, packages: &[&Package]) -> Result<Vec<String>> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|package| !folder(lab, package.version).join("package").exists())
        .collect();
    let mut suites: Vec<_> = missing.iter().map(|package| package.suite).collect();
    suites.dedup();
    suites.sort_unstable();
    suites.dedup();
    let fetched = Mutex::new(Vec::new());
    let failed = Mutex::new(Vec::new());
    if !suites.is_empty() {
        let mirror = debian::ensure_mirror()?;
        println!("fetching {} kernels from {mirror}", missing.len());
        parallel::for_each(2, suites.iter(), |suite| {
            let packages_of_suite = missing.iter().filter(|package| package.suite == *suite);
            let result = Archive::open(lab, &mirror, suite, "arm64").and_then(|archive| {
                for package in packages_of_suite {
                    let version = fetch_one(lab, &archive, package)?;
                    if let Ok(mut fetched) = fetched.lock() {
                        fetched.push((package.version, version));
                    }
                }
                Ok(())
            });
            if let (Err(error), Ok(mut failed)) = (result, failed.lock()) {
                failed.push(format!("{suite}: {error}"));
            }
        });
    }
    let failed = failed.into_inner().unwrap_or_default();
    if !failed.is_empty() {
        return Err(failed.join("\n").into());
    }
    let fetched = fetched.into_inner().unwrap_or_default();
    Ok(packages
        .iter()
        .map(|package| {
            let replacement = fetched
                .iter()
                .find(|(requested, _)| *requested == package.version);
            replacement.map_or(package.version.to_owned(), |(_, version)| version.clone())
        })
        .collect())
}

/// Fetches one kernel, or the newest of its series. Returns its version.
fn fetch_one(lab: &Path, archive: &Archive, package: &Package) -> Result<String> {
    let (name, package_version) = match archive.versions(package.name)?.first() {
        Some(newest) => (package.name.to_owned(), newest.clone()),
        None => find_newest_in_series(archive, package)?,
    };
    let version = upstream_version(&package_version).to_owned();
    if version != package.version {
        println!(
            "note: Debian's {} no longer has kernel {}; {version} ({name}) replaces it",
            package.suite, package.version
        );
        if folder(lab, &version).join("package").exists() {
            return Ok(version);
        }
    }
    let partial = folder(lab, &format!("{version}.partial"));
    debian::remove(&partial)?;
    fs::create_dir_all(&partial)?;
    let root = partial.join("root");
    unpack(archive, &name, &root)?;
    let vmlinuz = find_file(&root, &|name| name.starts_with("vmlinuz"))?
        .ok_or_else(|| format!("{name} has no vmlinuz"))?;
    let image = image::unpack(&fs::read(&vmlinuz)?)
        .map_err(|error| format!("{name}: {}: {error}", vmlinuz.display()))?;
    fs::write(partial.join("Image"), image)?;
    modules::collect(&root, &NETWORK_MODULES, &partial.join("modules"))?;
    debian::remove(&root)?;
    fs::write(
        partial.join("package"),
        format!("{name} {package_version}\n"),
    )?;
    let path = folder(lab, &version);
    debian::remove(&path)?;
    fs::rename(&partial, &path)?;
    Ok(version)
}

/// Fetches and unpacks a kernel and its modules.
fn unpack(archive: &Archive, name: &str, root: &Path) -> Result<()> {
    let mut files = archive.download(&[name])?;
    // From 6.19 on modules have their own package, which leaves the suite before the kernel does.
    if let Some(rest) = name.strip_prefix("linux-binary-") {
        let modules = format!("linux-modules-{rest}");
        if !archive.versions(&modules)?.is_empty() {
            files.extend(archive.download(&[&modules])?);
        }
    }
    debian::unpack(&files, root)
}

/// Fetches these modules of a fetched kernel into `modules-NAME` in its folder, if they are
/// missing. Returns their paths in the order of loading.
///
/// # Errors
/// Returns an error if the kernel is a local file, or its package has left Debian's suites.
pub fn ensure_modules(
    lab: &Path,
    kernel: &Kernel,
    name: &str,
    modules: &[&str],
) -> Result<Vec<PathBuf>> {
    let path = folder(lab, &kernel.version).join(format!("modules-{name}"));
    if !path.exists() {
        let package = PACKAGES
            .iter()
            .find(|package| package.version == kernel.version)
            .ok_or_else(|| format!("kernel {} has no package", kernel.version))?;
        let archive = Archive::open(lab, &debian::ensure_mirror()?, package.suite, "arm64")?;
        let scratch = tempfile::Builder::new()
            .prefix("modules-")
            .tempdir_in(lab)?;
        let (root, partial) = (scratch.path().join("root"), scratch.path().join("modules"));
        unpack(&archive, package.name, &root)?;
        modules::collect(&root, modules, &partial)?;
        fs::rename(&partial, &path)?;
    }
    modules::list(&path)
}

/// Returns the newest kernel of the series in the suite: its package and the package version.
fn find_newest_in_series(archive: &Archive, package: &Package) -> Result<(String, String)> {
    let series = series(package.version);
    let pattern = format!("^linux-(image|binary)-{series}\\..*-cloud-arm64(-unsigned)?$");
    let mut candidates: Vec<(Vec<u32>, String, String)> = Vec::new();
    for name in archive.names(&pattern)? {
        // The sort below prefers `binary` packages, because the image package of the same
        // version has no kernel.
        if let Some(newest) = archive.versions(&name)?.first() {
            let version = parse_version(upstream_version(newest));
            candidates.push((version, name, newest.clone()));
        }
    }
    let is_binary = |name: &str| name.starts_with("linux-binary-");
    candidates.sort_by(|a, b| (&a.0, is_binary(&a.1)).cmp(&(&b.0, is_binary(&b.1))));
    candidates
        .pop()
        .map(|(_, name, package_version)| (name, package_version))
        .ok_or_else(|| {
            format!(
                "Debian's {} has neither kernel {} ({}) nor another {series}: change PACKAGES in \
                 e2e/framework/src/lab/kernels.rs, and the expectations of the tests",
                package.suite, package.version, package.name
            )
            .into()
        })
}

/// Returns `6.12.107` for `6.12.107-1~bpo12+1`.
fn upstream_version(package_version: &str) -> &str {
    package_version.split('-').next().unwrap_or(package_version)
}

/// Returns `6.12` for `6.12.107`.
fn series(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn parse_version(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(|number| number.parse().unwrap_or(0))
        .collect()
}

/// Returns the first file below `folder` whose name matches.
fn find_file(folder: &Path, is_match: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(found) = find_file(&entry.path(), is_match)? {
                return Ok(Some(found));
            }
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_match) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Returns the release in an Image: `6.12.107+deb13-cloud-arm64`.
fn release(image: &[u8]) -> Result<String> {
    const RELEASE_PREFIX: &[u8] = b"Linux version ";
    let release = image
        .windows(RELEASE_PREFIX.len())
        .enumerate()
        .find_map(|(index, window)| {
            let rest = image.get(index + RELEASE_PREFIX.len()..)?;
            let is_release = window == RELEASE_PREFIX && rest.first()?.is_ascii_digit();
            let word = rest.split(|byte| *byte == b' ').next()?;
            is_release.then(|| String::from_utf8_lossy(word).into_owned())
        });
    release.ok_or_else(|| "an Image without a release of Linux".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_and_has_each_kernel_once() {
        let versions: Vec<_> = PACKAGES
            .iter()
            .map(|package| parse_version(package.version))
            .collect();
        assert!(versions.is_sorted_by(|a, b| a < b));
        for package in &PACKAGES {
            assert!(
                package.name.contains(&series(package.version)),
                "{package:?}"
            );
            assert!(package.name.contains("-cloud-arm64"), "{package:?}");
        }
    }

    #[test]
    fn versions_are_parsed() {
        assert_eq!(upstream_version("6.12.43-1~bpo12+1"), "6.12.43");
        assert_eq!(series("6.12.107"), "6.12");
        assert!(parse_version("6.12.107") > parse_version("6.12.43"));
    }

    #[test]
    fn the_release_is_read_from_an_image() {
        let text =
            b"\x00Linux version %s\n\x00Linux version 6.12.107+deb13-cloud-arm64 (debian@\x00";
        assert_eq!(release(text).unwrap(), "6.12.107+deb13-cloud-arm64");
        assert!(release(b"nothing").is_err());
    }
}
