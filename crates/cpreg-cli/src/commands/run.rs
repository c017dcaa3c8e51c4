//! `cpreg run [POLICY] -- COMMAND…`: starts a VMM with cpreg at its KVM calls.
//!
//! The command preloads `libcpreg_interpose.so` into the VMM and passes the policy in one variable
//! of the environment. It then becomes the VMM (`exec`), so descriptors, signals and the process id
//! stay.

mod policy;
mod program;
mod status;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments;
use crate::failure::{Failure, Status};
use crate::printer::Printer;

/// File name of the preloaded library.
const LIBRARY_NAME: &str = "libcpreg_interpose.so";
/// Variable of the dynamic linker with the libraries to preload.
const PRELOAD_VARIABLE: &str = "LD_PRELOAD";
/// Variable with the policy, which the library reads.
const POLICY_VARIABLE: &str = "CPREG_INTERPOSE";

pub(crate) fn run(arguments: &arguments::Run, printer: &mut Printer) -> Result<Status, Failure> {
    if let Some(process) = arguments.start.status {
        status::print(process, arguments.format, printer)?;
        return Ok(Status::Success);
    }
    let policy = policy::document(arguments, printer)?;
    if arguments.start.print_policy {
        printer.line(policy);
        return Ok(Status::Success);
    }
    let library = find_library(arguments)?;
    if arguments.start.print_libvirt {
        // The printer escapes the end of a line.
        for line in libvirt_elements(&library, &policy).lines() {
            printer.line(line);
        }
        return Ok(Status::Success);
    }
    let [name, rest @ ..] = arguments.start.command.as_slice() else {
        return Err(Failure::new("a command is missing"));
    };
    program::check(name, &library)?;
    let mut command = Command::new(name);
    command.args(rest).env(POLICY_VARIABLE, policy).env(
        PRELOAD_VARIABLE,
        preload(&library, std::env::var_os(PRELOAD_VARIABLE).as_deref()),
    );
    let error = command.exec();
    Err(Failure::io("start", Path::new(name), error))
}

/// Returns the value of `LD_PRELOAD`: the library, in front of those that it names already.
fn preload(library: &Path, current: Option<&OsStr>) -> OsString {
    let mut value = library.as_os_str().to_owned();
    if let Some(current) = current.filter(|current| !current.is_empty()) {
        value.push(":");
        value.push(current);
    }
    value
}

/// Returns the library of `--library`, beside this program, or in `../lib/cpreg`.
fn find_library(arguments: &arguments::Run) -> Result<PathBuf, Failure> {
    let candidates = if let Some(library) = &arguments.start.library {
        vec![library.clone()]
    } else {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new("cannot find this program").with_cause(error))?;
        let folder = program.parent().unwrap_or(Path::new("/")).to_owned();
        vec![
            folder.join(LIBRARY_NAME),
            folder.join("../lib/cpreg").join(LIBRARY_NAME),
        ]
    };
    let found = candidates.iter().find_map(|path| path.canonicalize().ok());
    let found = found.ok_or_else(|| {
        let names: Vec<_> = candidates
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Failure::new(format!("{} does not exist", names.join(" or ")))
            .with_hint("install it with cpreg's packages, or name it with --library FILE")
    })?;
    // The dynamic linker separates libraries by colons and spaces.
    let text = found.to_str();
    if text.is_none_or(|text| text.contains([':', ' '])) {
        return Err(Failure::new(format!(
            "cannot preload {}: LD_PRELOAD takes no path with a colon or a space",
            found.display()
        ))
        .with_hint("copy the library to another folder, and name it with --library FILE"));
    }
    Ok(found)
}

/// Returns the elements of a libvirt domain that start its QEMU with the library.
fn libvirt_elements(library: &Path, policy: &str) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('\'', "&apos;")
            .replace('"', "&quot;")
    };
    format!(
        "<!-- In the domain element: xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'\n     \
         AppArmor lets QEMU load libraries below /usr/lib. SELinux needs the type lib_t:\n     \
         restorecon {library} -->\n\
         <qemu:commandline>\n  \
         <qemu:env name='{PRELOAD_VARIABLE}' value='{library}'/>\n  \
         <qemu:env name='{POLICY_VARIABLE}' value='{policy}'/>\n\
         </qemu:commandline>",
        library = escape(&library.display().to_string()),
        policy = escape(policy)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_preload_is_kept() {
        let library = Path::new("/lib/one.so");
        assert_eq!(preload(library, None), "/lib/one.so");
        assert_eq!(preload(library, Some(OsStr::new(""))), "/lib/one.so");
        let current = Some(OsStr::new("/lib/two.so"));
        assert_eq!(preload(library, current), "/lib/one.so:/lib/two.so");
    }

    #[test]
    fn the_elements_for_libvirt_are_escaped() {
        let text = libvirt_elements(Path::new("/usr/lib/cpreg/l.so"), r#"{"schema":"a&b"}"#);
        assert!(
            text.contains("value='{&quot;schema&quot;:&quot;a&amp;b&quot;}'"),
            "{text}"
        );
        assert!(
            text.contains("name='LD_PRELOAD' value='/usr/lib/cpreg/l.so'"),
            "{text}"
        );
    }
}
