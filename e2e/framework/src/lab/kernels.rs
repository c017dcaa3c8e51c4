//! Debian's arm64 kernels, one or more of each generation, fetched and unpacked.
//!
//! | in the lab folder | what |
//! |---|---|
//! | `kernels/6.12.107/Image` | what boots |
//! | `kernels/6.12.107/modules/` | the modules of a network card; see [`modules`](super::modules) |
//! | `kernels/6.12.107/package` | the package and its version; written last, so its presence means complete |
//!
//! These are the `cloud` kernels: they have NVMe, ext4, the PL011 and KVM built in. Debian's suites drop a kernel some time after its successor came. Of
//! one that is gone the newest of its series is taken instead, under its own version, and that is said; who asks for the old one by name gets an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{image, modules};
use crate::debian::{self, Archive};
use crate::{Result, parallel};

/// A kernel, and where Debian has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Package {
    /// The upstream version, which is its name here.
    version: &'static str,
    suite: &'static str,
    /// From 6.19 on the kernel proper is in `linux-binary-…`.
    name: &'static str,
}

/// In the order of their versions. What of KVM's interface changed with which is in docs/registers.md.
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

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its upstream version; of a kernel that the user brought, the name of its file.
    pub version: String,
    /// What `uname -r` will say.
    pub release: String,
    /// What boots.
    pub image: PathBuf,
    /// The modules of a network card, in the order in which they are loaded. Empty if there are none at hand.
    pub modules: Vec<PathBuf>,
}

impl Kernel {
    fn read_cached(lab: &Path, version: &str) -> Result<Option<Self>> {
        let folder = folder(lab, version);
        if !folder.join("package").exists() {
            return Ok(None);
        }
        let image = folder.join("Image");
        let known = folder.join("release");
        if !known.exists() {
            fs::write(&known, release(&fs::read(&image)?)?)?;
        }
        Ok(Some(Self {
            version: version.to_owned(),
            release: fs::read_to_string(known)?,
            image,
            modules: modules::list(&folder.join("modules"))?,
        }))
    }

    /// A kernel of the user's own: an Image or a vmlinuz.
    ///
    /// # Errors
    /// If the file cannot be read, or is no arm64 kernel.
    pub fn from_file(lab: &Path, file: &Path) -> Result<Self> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let packed = fs::read(file).map_err(|error| told(&error))?;
        let image = image::unpack(&packed).map_err(|error| told(&error))?;
        let folder = lab.join("kernels/own");
        fs::create_dir_all(&folder)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let place = folder.join(format!("{name}.{}", std::process::id()));
        fs::write(&place, &image)?;
        Ok(Self {
            version: name.into_owned(),
            release: release(&image).map_err(|error| told(&error))?,
            image: place,
            modules: Vec::new(),
        })
    }

    /// Whether two emulated hosts with this kernel can be put on one network.
    pub fn has_network(&self) -> bool {
        !self.modules.is_empty()
    }
}

fn folder(lab: &Path, version: &str) -> PathBuf {
    lab.join("kernels").join(version)
}

/// `cargo xtask lab kernels`.
///
/// # Errors
/// If one cannot be fetched, nor another of its series.
pub fn run(lab: &Path) -> Result<()> {
    let kernels = all(lab)?;
    for kernel in &kernels {
        let package = fs::read_to_string(folder(lab, &kernel.version).join("package"))?;
        let network = if kernel.has_network() {
            "network"
        } else {
            "no network driver at hand"
        };
        println!("{:<9} {}  {network}", kernel.version, package.trim_end());
    }
    Ok(())
}

/// All kernels of the table, or what the suites have instead. Quick if they are there.
///
/// # Errors
/// Those of [`run`].
pub fn all(lab: &Path) -> Result<Vec<Kernel>> {
    let packages: Vec<_> = PACKAGES.iter().collect();
    let found = fetch(lab, &packages)?;
    let mut kernels = Vec::new();
    for version in found {
        if kernels
            .iter()
            .all(|kernel: &Kernel| kernel.version != version)
        {
            kernels.extend(Kernel::read_cached(lab, &version)?);
        }
    }
    Ok(kernels)
}

/// These kernels; each must be in the table or in the lab folder.
///
/// # Errors
/// If one is not, or cannot be fetched, or only another of its series could.
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
                    "there is no kernel {version}: `cargo xtask lab kernels` fetches and lists \
                     those there are"
                )
                .into()
            })
        })
        .collect()
}

/// Fetches those that are not there. Gives the version of each, in their order.
fn fetch(lab: &Path, packages: &[&Package]) -> Result<Vec<String>> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|package| !folder(lab, package.version).join("package").exists())
        .collect();
    let mut suites: Vec<_> = missing.iter().map(|package| package.suite).collect();
    suites.dedup();
    suites.sort_unstable();
    suites.dedup();
    let came = Mutex::new(Vec::new());
    let failed = Mutex::new(Vec::new());
    if !suites.is_empty() {
        let mirror = debian::ensure_mirror()?;
        println!("fetching {} kernels from {mirror}", missing.len());
        parallel::for_each(2, suites.iter(), |suite| {
            let of_suite = missing.iter().filter(|package| package.suite == *suite);
            let fetched = Archive::open(lab, &mirror, suite, "arm64").and_then(|archive| {
                for package in of_suite {
                    let version = fetch_one(lab, &archive, package)?;
                    if let Ok(mut came) = came.lock() {
                        came.push((package.version, version));
                    }
                }
                Ok(())
            });
            if let (Err(error), Ok(mut failed)) = (fetched, failed.lock()) {
                failed.push(format!("{suite}: {error}"));
            }
        });
    }
    let failed = failed.into_inner().unwrap_or_default();
    if !failed.is_empty() {
        return Err(failed.join("\n").into());
    }
    let came = came.into_inner().unwrap_or_default();
    Ok(packages
        .iter()
        .map(|package| {
            let instead = came.iter().find(|(asked, _)| *asked == package.version);
            instead.map_or(package.version.to_owned(), |(_, version)| version.clone())
        })
        .collect())
}

/// Fetches one kernel, or the newest of its series. Gives its version.
fn fetch_one(lab: &Path, archive: &Archive, package: &Package) -> Result<String> {
    let (name, full) = match archive.versions(package.name)?.first() {
        Some(full) => (package.name.to_owned(), full.clone()),
        None => find_newest_in_series(archive, package)?,
    };
    let version = upstream_version(&full).to_owned();
    if version != package.version {
        println!(
            "note: Debian's {} has no kernel {} any more; {version} ({name}) is taken instead",
            package.suite, package.version
        );
        if folder(lab, &version).join("package").exists() {
            return Ok(version);
        }
    }
    let partial = folder(lab, &format!("{version}.partial"));
    debian::remove(&partial)?;
    fs::create_dir_all(&partial)?;
    let mut files = archive.download(&[&name])?;
    // From 6.19 on modules have a package of their own, which leaves the suite before the kernel does.
    if let Some(rest) = name.strip_prefix("linux-binary-") {
        let modules = format!("linux-modules-{rest}");
        if !archive.versions(&modules)?.is_empty() {
            files.extend(archive.download(&[&modules])?);
        }
    }
    let root = partial.join("root");
    debian::unpack(&files, &root)?;
    let vmlinuz = find_file(&root, &|name| name.starts_with("vmlinuz"))?
        .ok_or_else(|| format!("{name} has no vmlinuz"))?;
    let image = image::unpack(&fs::read(&vmlinuz)?)
        .map_err(|error| format!("{name}: {}: {error}", vmlinuz.display()))?;
    fs::write(partial.join("Image"), image)?;
    modules::collect(&root, &partial.join("modules"))?;
    debian::remove(&root)?;
    fs::write(partial.join("package"), format!("{name} {full}\n"))?;
    let place = folder(lab, &version);
    debian::remove(&place)?;
    fs::rename(&partial, &place)?;
    Ok(version)
}

/// The newest kernel of the same series that the suite has: its package and that one's version.
fn find_newest_in_series(archive: &Archive, package: &Package) -> Result<(String, String)> {
    let series = series(package.version);
    let kinds = format!("^linux-(image|binary)-{series}\\..*-cloud-arm64(-unsigned)?$");
    let mut found: Vec<(Vec<u32>, String, String)> = Vec::new();
    for name in archive.names(&kinds)? {
        // An image package without a kernel of its own, where both are there, is skipped by preferring `binary` below.
        if let Some(full) = archive.versions(&name)?.first() {
            found.push((parse_version(upstream_version(full)), name, full.clone()));
        }
    }
    let is_binary = |name: &str| name.starts_with("linux-binary-");
    found.sort_by(|a, b| (&a.0, is_binary(&a.1)).cmp(&(&b.0, is_binary(&b.1))));
    found
        .pop()
        .map(|(_, name, full)| (name, full))
        .ok_or_else(|| {
            format!(
                "Debian's {} has neither kernel {} ({}) nor another {series}: change PACKAGES in \
                 e2e/framework/src/lab/kernels.rs, and what tests expect",
                package.suite, package.version, package.name
            )
            .into()
        })
}

/// `6.12.107` of `6.12.107-1~bpo12+1`.
fn upstream_version(full: &str) -> &str {
    full.split('-').next().unwrap_or(full)
}

/// `6.12` of `6.12.107`.
fn series(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn parse_version(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(|number| number.parse().unwrap_or(0))
        .collect()
}

/// The first file below `folder` whose name is wanted.
fn find_file(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(found) = find_file(&entry.path(), wanted)? {
                return Ok(Some(found));
            }
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(wanted) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// The release that an Image says it is of: `6.12.107+deb13-cloud-arm64`.
fn release(image: &[u8]) -> Result<String> {
    const RELEASE_PREFIX: &[u8] = b"Linux version ";
    let found = image
        .windows(RELEASE_PREFIX.len())
        .enumerate()
        .find_map(|(at, window)| {
            let rest = image.get(at + RELEASE_PREFIX.len()..)?;
            let starts = window == RELEASE_PREFIX && rest.first()?.is_ascii_digit();
            let word = rest.split(|byte| *byte == b' ').next()?;
            starts.then(|| String::from_utf8_lossy(word).into_owned())
        });
    found.ok_or_else(|| "an Image that says no release of Linux".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_versions_and_names_each_kernel_once() {
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
    fn versions_are_taken_apart() {
        assert_eq!(upstream_version("6.12.43-1~bpo12+1"), "6.12.43");
        assert_eq!(series("6.12.107"), "6.12");
        assert!(parse_version("6.12.107") > parse_version("6.12.43"));
    }

    #[test]
    fn an_image_says_its_release() {
        let text =
            b"\x00Linux version %s\n\x00Linux version 6.12.107+deb13-cloud-arm64 (debian@\x00";
        assert_eq!(release(text).unwrap(), "6.12.107+deb13-cloud-arm64");
        assert!(release(b"nothing").is_err());
    }
}
