//! Programs into which the dynamic linker can preload a library.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Number of interpreters that are followed, as in Linux (`BINPRM_MAX_RECURSION`).
const MAX_INTERPRETERS: usize = 5;
/// Number of bytes read of a file: more than the headers of an ELF file.
const HEAD_LEN: u64 = 64 * 1024;
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

/// Checks that the dynamic linker preloads the library into the command's program.
///
/// # Errors
/// Returns an error for a program that is linked statically or runs with other privileges, and for
/// a program of another machine than the library.
pub(super) fn check(command: &OsStr, library: &Path) -> Result<(), Failure> {
    let library = ElfHead::read(library)?
        .ok_or_else(|| Failure::new(format!("{} is not a shared library", library.display())))?;
    let mut program = find(command)?;
    for _ in 0..MAX_INTERPRETERS {
        let head = read_head(&program)?;
        if let Some(interpreter) = interpreter(&head) {
            program = find(&interpreter)?;
            continue;
        }
        return check_program(&program, &head, library);
    }
    Err(Failure::new(format!(
        "{}: more than {MAX_INTERPRETERS} interpreters",
        Path::new(command).display()
    )))
}

fn check_program(program: &Path, head: &[u8], library: ElfHead) -> Result<(), Failure> {
    let name = program.display();
    let Some(elf) = ElfHead::parse(head) else {
        return Err(Failure::new(format!("{name} is not a program")));
    };
    if !elf.has_interpreter {
        return Err(Failure::new(format!(
            "{name} is linked statically: the dynamic linker cannot load cpreg into it"
        ))
        .with_hint("use a dynamically linked build, or convert the VM with `cpreg convert`"));
    }
    if elf.machine != library.machine {
        return Err(Failure::new(format!(
            "{name} and the library are built for different machines"
        ))
        .with_hint("name a library for the program's machine with --library FILE"));
    }
    let metadata = program.metadata();
    let metadata = metadata.map_err(|error| Failure::io("read", program, error))?;
    if metadata.mode() & (SET_USER_ID | SET_GROUP_ID) != 0 {
        return Err(Failure::new(format!(
            "{name} has the set-user-ID or set-group-ID bit: the dynamic linker ignores \
             LD_PRELOAD"
        )));
    }
    Ok(())
}

/// Finds a command in the folders of `PATH`, unless the command has a slash.
fn find(command: &OsStr) -> Result<PathBuf, Failure> {
    if command.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(command));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(command));
    paths.find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(format!("{} is not in PATH", Path::new(command).display()))
            .with_hint("name the program with its folder")
    })
}

fn read_head(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_LEN).read_to_end(&mut head));
    read.map_err(|error| Failure::io("read", path, error))?;
    Ok(head)
}

/// Returns the program that runs a script: the interpreter in its first line, or the command of
/// `env`.
fn interpreter(head: &[u8]) -> Option<OsString> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let mut words = line.split(is_blank).filter(|word| !word.is_empty());
    let program = words.next()?;
    if program.ends_with(b"/env") {
        let mut words = words.filter(|word| !word.starts_with(b"-") && !word.contains(&b'='));
        return words.next().map(|word| OsStr::from_bytes(word).to_owned());
    }
    Some(OsStr::from_bytes(program).to_owned())
}

/// Facts in the headers of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ElfHead {
    /// Class, byte order and machine.
    machine: [u8; 4],
    /// `true` if the dynamic linker starts the program (`PT_INTERP`).
    has_interpreter: bool,
}

impl ElfHead {
    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        read_head(path).map(|head| Self::parse(&head))
    }

    /// Parses the head of an ELF file of 64 bits, least significant byte first. Returns `None` for
    /// another file.
    fn parse(head: &[u8]) -> Option<Self> {
        const PT_INTERP: u64 = 3;
        let number = |offset: usize, length: usize| {
            let bytes = head.get(offset..offset.checked_add(length)?)?;
            let bytes = bytes.iter().rev();
            Some(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        if !head.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let table = usize::try_from(number(32, 8)?).ok()?;
        let size = usize::try_from(number(54, 2)?).ok()?;
        let count = usize::try_from(number(56, 2)?).ok()?;
        let mut kinds = (0..count).map(|index| {
            let offset = table.checked_add(index.checked_mul(size)?)?;
            number(offset, 4)
        });
        Some(Self {
            machine: [*head.get(4)?, *head.get(5)?, *head.get(18)?, *head.get(19)?],
            has_interpreter: kinds.any(|kind| kind == Some(PT_INTERP)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Returns an ELF file with one program header of this kind.
    fn elf(kind: u8, machine: u8) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = machine;
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = kind;
        file
    }

    #[test]
    fn only_dynamically_linked_programs_are_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, content).expect("a file");
            path
        };
        let library = write("library.so", &elf(1, 183));
        let dynamic = write("dynamic", &elf(3, 183));
        let script = |name: &str, line: String| write(name, line.as_bytes());
        let cases = [
            (dynamic.clone(), None),
            (write("static", &elf(1, 183)), Some("linked statically")),
            (write("other", &elf(3, 62)), Some("different machines")),
            (write("text", b"text"), Some("is not a program")),
            (
                write("short", &elf(3, 183)[..60]),
                Some("linked statically"),
            ),
            (
                script("script", format!("#!{} -x\n", dynamic.display())),
                None,
            ),
            (
                script(
                    "static script",
                    format!("#! {}\n", folder.path().join("static").display()),
                ),
                Some("linked statically"),
            ),
            (
                script(
                    "circle",
                    format!("#!{}\n", folder.path().join("circle").display()),
                ),
                Some("interpreters"),
            ),
        ];
        for (program, expected) in cases {
            let result = check(program.as_os_str(), &library);
            let message = result.err().map(|failure| failure.to_string());
            match expected {
                None => assert_eq!(message, None, "{}", program.display()),
                Some(words) => {
                    let message = message.expect("refused");
                    assert!(message.contains(words), "{message}");
                }
            }
        }
        let set_user_id = fs::Permissions::from_mode(0o4755);
        fs::set_permissions(&dynamic, set_user_id).expect("permissions");
        assert!(check(dynamic.as_os_str(), &library).is_err());
    }

    #[test]
    fn the_command_of_env_runs_a_script() {
        let interpreter = |line: &str| interpreter(line.as_bytes());
        assert_eq!(
            interpreter("#!/usr/bin/env -S A=1 sh -e\n"),
            Some("sh".into())
        );
        assert_eq!(interpreter("#!/bin/sh\n"), Some("/bin/sh".into()));
        assert_eq!(interpreter("#!\n"), None);
        assert_eq!(interpreter("echo\n"), None);
    }
}
