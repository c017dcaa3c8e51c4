//! The QEMUs of the live tests: Debian's own, of four generations, side by side.
//!
//! Each is fetched from its Debian suite with every library it needs, and unpacked into a folder of its own; nothing is
//! installed, root is not needed, and the QEMUs do not see each other's libraries nor those of the machine:
//!
//! | in the lab folder | what |
//! |---|---|
//! | `qemu-10.0/root/` | the unpacked packages |
//! | `qemu-10.0/qemu-system-aarch64`, `…-arm` | start it, as an installed one would be |
//! | `qemu-10.0/packages` | what it was made of; written last, so its presence means complete |
//! | `apt-bullseye/` … | private package lists and downloads, removed when done with |
//!
//! The mirror is the one this machine's own apt uses (`CPREG_DEBIAN_MIRROR` overrides), with its proxies and passwords; signatures
//! are checked with the machine's Debian keyring. A Debian release that has moved on within the series is accepted, and
//! the change named; one that has left the series is an error, because the tests would no longer test what they say.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::tools::{self, Tool};
use crate::{Result, lab};

/// One generation of QEMU, and where Debian has it.
#[derive(Clone, Copy, Debug)]
struct Generation {
    /// The first two numbers of the version: all that must not change.
    series: &'static str,
    /// The Debian suite.
    suite: &'static str,
    /// The package version that the expectations of the tests were written with.
    package: &'static str,
}

const GENERATIONS: [Generation; 4] = [
    Generation {
        series: "5.2",
        suite: "bullseye",
        package: "1:5.2+dfsg-11+deb11u3",
    },
    Generation {
        series: "7.2",
        suite: "bookworm",
        package: "1:7.2+dfsg-7+deb12u18+b3",
    },
    Generation {
        series: "10.0",
        suite: "trixie",
        package: "1:10.0.13+ds-0+deb13u1",
    },
    Generation {
        series: "11.1",
        suite: "trixie-backports",
        package: "1:11.1.3+ds-1~bpo13+1",
    },
];

/// The emulator, and the boot ROMs that its default network card wants.
const PACKAGES: [&str; 2] = ["qemu-system-arm", "ipxe-qemu"];
const PROGRAMS: [&str; 2] = ["qemu-system-aarch64", "qemu-system-arm"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A QEMU that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    /// The first two numbers of its version.
    pub(crate) series: &'static str,
    /// What it says its version is: `10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)`.
    pub(crate) version: String,
    folder: PathBuf,
}

impl Qemu {
    /// What to start for a 64-bit Arm machine.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder.join(PROGRAMS[0])
    }
}

/// The generations, by the first two numbers of their versions.
pub(crate) fn series() -> impl Iterator<Item = &'static str> {
    GENERATIONS.iter().map(|generation| generation.series)
}

/// `cargo xtask qemus`.
pub(crate) fn run() -> Result<()> {
    for qemu in ensure()? {
        println!("{}\n  {}", qemu.version, qemu.program().display());
    }
    Ok(())
}

/// Sees to it that all generations are there, and says where. Quick if they are.
///
/// # Errors
/// If one cannot be fetched, does not start, or is not of its series.
pub(crate) fn ensure() -> Result<Vec<Qemu>> {
    let lab = lab();
    fs::create_dir_all(&lab).map_err(|error| format!("{}: {error}", lab.display()))?;
    // Paths go into apt's configuration and into scripts that are started from anywhere.
    let lab = fs::canonicalize(&lab)?;
    let lock = File::create(lab.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;

    let missing: Vec<_> = GENERATIONS
        .iter()
        .filter(|generation| !folder(&lab, generation).join("packages").exists())
        .collect();
    if !missing.is_empty() {
        fetch_all(&lab, &missing)?;
    }
    GENERATIONS
        .iter()
        .map(|generation| check(generation, &folder(&lab, generation)))
        .collect()
}

fn folder(lab: &Path, generation: &Generation) -> PathBuf {
    lab.join(format!("qemu-{}", generation.series))
}

fn fetch_all(lab: &Path, missing: &[&Generation]) -> Result<()> {
    tools::need(&[
        Tool {
            program: "apt-get",
            package: "apt",
        },
        Tool {
            program: "dpkg-deb",
            package: "dpkg",
        },
        Tool {
            program: "tar",
            package: "tar",
        },
        Tool {
            program: "xz",
            package: "xz-utils",
        },
    ])?;
    if !Path::new(KEYRING).exists() {
        return Err(format!("{KEYRING} is missing: apt-get install debian-archive-keyring").into());
    }
    let mirror = mirror()?;
    println!("fetching {} QEMUs from {mirror}", missing.len());
    thread::scope(|scope| {
        let threads: Vec<_> = missing
            .iter()
            .map(|generation| (generation, scope.spawn(|| fetch(lab, generation, &mirror))))
            .collect();
        let mut failed = Vec::new();
        for (generation, thread) in threads {
            let fetched = thread
                .join()
                .unwrap_or_else(|_| Err("the fetching thread died".into()));
            if let Err(error) = fetched {
                failed.push(format!("QEMU {}: {error}", generation.series));
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(failed.join("\n").into())
        }
    })
}

/// The address that this machine's apt gets Debian from.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("CPREG_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    // Origin and label are known only for lists that have been fetched before; then the addresses must do.
    let mut targets = String::new();
    for release_info in ["--release-info", "--no-release-info"] {
        let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(LABEL)";
        targets += &tools::output_of(Command::new("apt-get").args([
            "indextargets",
            release_info,
            "--format",
            format,
            "Created-By: Packages",
        ]))?;
        targets.push('\n');
    }
    choose_mirror(&targets).ok_or_else(|| {
        "this machine's apt has no Debian mirror: set CPREG_DEBIAN_MIRROR to the address of one"
            .into()
    })
}

/// Chooses among lines of `ADDRESS|SUITE|COMPONENT|ORIGIN|LABEL`.
fn choose_mirror(targets: &str) -> Option<String> {
    let mut candidates = Vec::new();
    for line in targets.lines() {
        let fields: Vec<_> = line.split('|').collect();
        let [address, suite, "main", origin, label] = fields[..] else {
            continue;
        };
        // The security archive has the same packages' updates only.
        if suite.contains("security") || address.contains("security") {
            continue;
        }
        let known = origin == "Debian" && label == "Debian";
        let debian =
            known || (!origin.starts_with(char::is_alphabetic) && address.contains("debian"));
        if debian {
            candidates.push((!known, suite.contains('-'), address));
        }
    }
    candidates.sort_unstable();
    candidates
        .first()
        .map(|(_, _, address)| address.trim_end_matches('/').to_owned())
}

/// Fetches and unpacks one generation, and puts it in place when it is complete.
fn fetch(lab: &Path, generation: &Generation, mirror: &str) -> Result<()> {
    let apt = lab.join(format!("apt-{}", generation.suite));
    let partial = lab.join(format!("qemu-{}.partial", generation.series));
    for folder in [&apt, &partial] {
        remove(folder)?;
        fs::create_dir_all(folder)?;
    }
    let packages = download(&apt, generation, mirror)?;
    let root = partial.join("root");
    unpack(&packages, &root)?;
    write_programs(&partial, &root)?;
    let mut names: Vec<_> = packages
        .iter()
        .filter_map(|package| package.file_name()?.to_str())
        .collect();
    names.sort_unstable();
    fs::write(partial.join("packages"), names.join("\n") + "\n")?;

    let place = folder(lab, generation);
    remove(&place)?;
    fs::rename(&partial, &place)?;
    remove(&apt)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}

/// Downloads QEMU and all it depends on, with package lists of its own. Gives the package files.
fn download(apt: &Path, generation: &Generation, mirror: &str) -> Result<Vec<PathBuf>> {
    for folder in [
        "etc/preferences.d",
        "etc/apt.conf.d",
        "state/lists/partial",
        "cache/archives/partial",
        "dpkg",
    ] {
        fs::create_dir_all(apt.join(folder))?;
    }
    // An empty machine: everything that QEMU needs, down to the C library, is downloaded.
    fs::write(apt.join("dpkg/status"), "")?;

    let mut sources = String::new();
    let base = generation.suite.strip_suffix("-backports");
    for suite in [Some(generation.suite), base].into_iter().flatten() {
        writeln!(sources, "deb [signed-by={KEYRING}] {mirror} {suite} main")?;
    }
    fs::write(apt.join("etc/sources.list"), sources)?;

    let at = apt.display();
    let mut configuration = format!(
        "APT::Install-Recommends \"false\";\n\
         APT::Sandbox::User \"root\";\n\
         Binary::apt-get::APT::Keep-Downloaded-Packages \"true\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         Dir::Etc \"{at}/etc\";\n\
         Dir::Etc::sourcelist \"{at}/etc/sources.list\";\n\
         Dir::Etc::sourceparts \"-\";\n\
         Dir::Etc::parts \"{at}/etc/apt.conf.d\";\n\
         Dir::State \"{at}/state\";\n\
         Dir::State::status \"{at}/dpkg/status\";\n\
         Dir::Cache \"{at}/cache\";\n"
    );
    configuration += &machine_settings()?;
    let file = apt.join("apt.conf");
    fs::write(&file, configuration)?;

    let apt_get = || {
        let mut command = Command::new("apt-get");
        command
            .env("APT_CONFIG", &file)
            .env("LC_ALL", "C")
            .arg("-q");
        command
    };
    tools::run(apt_get().arg("update"))?;
    tools::run(
        apt_get()
            .args(["-y", "--download-only", "--no-install-recommends"])
            .args(["--target-release", generation.suite, "install"])
            .args(PACKAGES),
    )?;
    let mut packages = Vec::new();
    for entry in fs::read_dir(apt.join("cache/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    Ok(packages)
}

/// How this machine's apt reaches its mirrors (proxies, passwords, lists that need not be fresh), as configuration lines.
fn machine_settings() -> Result<String> {
    let mut settings = String::new();
    let ours = [
        "Acquire::Languages",
        "Acquire::Retries",
        "Acquire::IndexTargets",
    ];
    for line in tools::output_of(Command::new("apt-config").arg("dump"))?.lines() {
        if line.starts_with("Acquire::") && !ours.iter().any(|name| line.starts_with(name)) {
            settings += line;
            settings.push('\n');
        }
    }
    let places = ["netrc/f", "netrcparts/d"].map(|name| format!("Dir::Etc::{name}"));
    for place in &places {
        let [name, _] = place.split('/').collect::<Vec<_>>()[..] else {
            continue;
        };
        // Prints X='/etc/apt/auth.conf'
        let found = tools::output_of(Command::new("apt-config").args(["shell", "X", place]))?;
        if let Some(path) = found
            .strip_prefix("X='")
            .and_then(|rest| rest.strip_suffix('\''))
        {
            writeln!(settings, "{name} \"{path}\";")?;
        }
    }
    Ok(settings)
}

/// Unpacks packages over one another into `root`, without running anything of theirs.
fn unpack(packages: &[PathBuf], root: &Path) -> Result<()> {
    // Debian's merged /usr: packages of either habit end up in the same place.
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        symlink(Path::new("usr").join(folder), root.join(folder))?;
    }
    for package in packages {
        let mut contents = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(package)
            .stdout(Stdio::piped())
            .spawn()?;
        let archive = contents.stdout.take().ok_or("dpkg-deb without output")?;
        let unpacked = tools::run(
            Command::new("tar")
                .arg("-xC")
                .arg(root)
                .args(["--keep-directory-symlink", "--no-same-owner"])
                .args(
                    ["doc", "man", "locale", "info", "bash-completion", "icons"]
                        .map(|folder| format!("--exclude=./usr/share/{folder}")),
                )
                .stdin(archive),
        );
        let status = contents.wait()?;
        unpacked?;
        if !status.success() {
            return Err(format!("{} cannot be read ({status})", package.display()).into());
        }
    }
    Ok(())
}

/// Writes the scripts that start the programs with their own loader, libraries, modules and data.
fn write_programs(folder: &Path, root: &Path) -> Result<()> {
    let triplet = find_triplet(root)?;
    let libraries = root.join("usr/lib").join(&triplet);
    let loader = fs::read_dir(&libraries)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| name.starts_with("ld-linux"))
        .ok_or("the unpacked C library has no program loader")?;
    for program in PROGRAMS {
        let listed = tools::output_of(
            Command::new(libraries.join(&loader))
                .arg("--library-path")
                .arg(&libraries)
                .arg("--list")
                .arg(root.join("usr/bin").join(program)),
        )?;
        for line in listed.lines() {
            // "name => path (address)"; the kernel's own vdso and the loader have no arrow.
            let outside = line
                .split_once("=> ")
                .is_some_and(|(_, path)| !Path::new(path).starts_with(root));
            if outside {
                return Err(format!("{program} is not complete: {}", line.trim()).into());
            }
        }
        let script = format!(
            "#!/bin/sh\n\
             # Starts this QEMU with the libraries it was built for. Written by `cargo xtask qemus`.\n\
             here=$(dirname \"$(readlink -f \"$0\")\")/root\n\
             export QEMU_MODULE_DIR=\"$here/usr/lib/{triplet}/qemu\"\n\
             exec \"$here/usr/lib/{triplet}/{loader}\" --library-path \"$here/usr/lib/{triplet}\" \\\n    \
             \"$here/usr/bin/{program}\" -L \"$here/usr/share/qemu\" -L \"$here/usr/lib/ipxe/qemu\" \"$@\"\n"
        );
        let path = folder.join(program);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.write_all(script.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The architecture's folder of libraries: the one that has the C library.
fn find_triplet(root: &Path) -> Result<String> {
    for entry in fs::read_dir(root.join("usr/lib"))? {
        let entry = entry?;
        if entry.path().join("libc.so.6").exists() {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Err("no C library was unpacked".into())
}

/// Asks a QEMU for its version, and compares it with what the tests expect.
fn check(generation: &Generation, folder: &Path) -> Result<Qemu> {
    let mut qemu = Qemu {
        series: generation.series,
        version: String::new(),
        folder: folder.to_owned(),
    };
    let said = tools::output_of(Command::new(qemu.program()).arg("--version"))?;
    let (version, package) = parse_version(&said)
        .ok_or_else(|| format!("QEMU {}: no version in {said:?}", generation.series))?;
    if !version.starts_with(&format!("{}.", generation.series)) {
        return Err(format!(
            "QEMU {0}: Debian's {1} now has {version} ({package}), which is another series. \
             The tests are about {0}: change GENERATIONS in xtask/src/qemus.rs, and what the tests expect.",
            generation.series, generation.suite
        )
        .into());
    }
    if package != generation.package {
        println!(
            "note: QEMU {}: Debian's {} has moved on: expected {}, found {package}",
            generation.series, generation.suite, generation.package
        );
    }
    qemu.version = format!("{version} (Debian {package})");
    Ok(qemu)
}

/// Takes `10.0.13` and `1:10.0.13+ds-0+deb13u1` out of `QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)`.
fn parse_version(said: &str) -> Option<(&str, &str)> {
    let rest = said
        .lines()
        .next()?
        .strip_prefix("QEMU emulator version ")?;
    let (version, package) = rest.split_once(" (Debian ")?;
    Some((version, package.strip_suffix(')')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_debian_writes_them() {
        let said = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022 …";
        assert_eq!(
            parse_version(said),
            Some(("7.2.22", "1:7.2+dfsg-7+deb12u18+b3"))
        );
        assert_eq!(parse_version("QEMU emulator version 10.0.50"), None);
    }

    #[test]
    fn the_mirror_is_the_main_archive() {
        let fetched = "http://m/debian-security/|bookworm-security|main|Debian|Debian-Security\n\
                       http://other/apt/|stable|main|Other|Other\n\
                       http://m/debian/|bookworm-updates|main|Debian|Debian\n\
                       http://n/debian/|bookworm|main|Debian|Debian\n";
        assert_eq!(choose_mirror(fetched).as_deref(), Some("http://n/debian"));
        let never_fetched = "http://m/debian-security/|bookworm-security|main|$(ORIGIN)|$(LABEL)\n\
                             http://m/debian/|bookworm|main|$(ORIGIN)|$(LABEL)\n";
        assert_eq!(
            choose_mirror(never_fetched).as_deref(),
            Some("http://m/debian")
        );
        assert_eq!(
            choose_mirror("http://other/apt/|stable|main|Other|Other\n"),
            None
        );
    }
}
