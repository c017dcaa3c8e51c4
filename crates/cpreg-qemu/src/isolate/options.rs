//! Every option of QEMU's command line: whether it takes a value, and what an isolated QEMU makes of it.
//!
//! The names are those of `qemu-system-aarch64 --help` of QEMU 5.2, 7.2, 10.0 and 11.1 (a test holds the table against
//! them), and a few that were there in between. What is [`OptionPolicy::Looked`] at lives in the sibling modules.
//!
//! QEMU takes `-name` and `--name` alike, and a value only as the next word, whatever that looks like: `-append -S` is a
//! kernel command line. A word that is no option and no value is a disk image (`-hda`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What is done with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionPolicy {
    /// It is part of the VM, or reads at most a file that a paused guest cannot change.
    Keep,
    /// It goes; why.
    Drop(&'static str),
    /// These words come in its place; why.
    Replace(&'static [&'static str], &'static str),
    /// A VM with it cannot be isolated; why.
    Refuse(&'static str),
    /// It depends on the value.
    ByValue(OptionKind),
}

/// Options whose value decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionKind {
    Audio,
    Audiodev,
    Blockdev,
    Chardev,
    Device,
    /// A disk image as a whole value; what `-drive` makes of it.
    Disk(&'static str),
    Display,
    Drive,
    Fsdev,
    Global,
    Icount,
    Machine,
    Net,
    Netdev,
    Nic,
    Object,
    /// `-serial`, `-parallel`, `-debugcon`.
    Port,
    Soundhw,
    Usbdevice,
    Virtfs,
}

/// An option of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownOption {
    pub(crate) name: &'static str,
    pub(crate) takes_value: bool,
    pub(crate) policy: OptionPolicy,
}

/// What QEMU would do with this option; `None` if it is not known here.
pub(crate) fn find_option(name: &str) -> Option<KnownOption> {
    OPTIONS
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|&(name, takes_value, treatment)| KnownOption {
            name,
            takes_value,
            policy: treatment,
        })
}

/// The name of an option, given with one dash or two; `None` if the word is no option.
pub(crate) fn option_name(word: &OsStr) -> Option<&OsStr> {
    let word = word.as_bytes();
    let name = word.strip_prefix(b"-")?;
    let name = name.strip_prefix(b"-").unwrap_or(name);
    (!name.is_empty()).then(|| OsStr::from_bytes(name))
}

/// A command line in its parts, as QEMU reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandLine<'a> {
    /// `taskset -c 1`, `sudo -u qemu`, or nothing.
    pub(crate) launcher: &'a [OsString],
    /// QEMU itself.
    pub(crate) program: Option<&'a OsString>,
    /// The options and disk images, in order.
    pub(crate) arguments: Vec<Argument<'a>>,
}

/// One option with its value, or a disk image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument<'a> {
    /// Its words: one, or two.
    pub(crate) words: &'a [OsString],
    /// Its name without dashes; `None` of a disk image.
    pub(crate) name: Option<&'a OsStr>,
    /// What is known of it.
    pub(crate) option: Option<KnownOption>,
}

impl<'a> Argument<'a> {
    /// The value: the second word.
    pub(crate) fn value(&self) -> Option<&'a OsStr> {
        self.words.get(1).map(OsString::as_os_str)
    }
}

/// Takes a command line apart.
///
/// An option that is not known takes the next word if that does not begin with a dash.
pub(crate) fn parse_command_line(command: &[OsString]) -> CommandLine<'_> {
    let at = find_program(command);
    let (launcher, rest) = command.split_at(at);
    let (program, mut rest) = match rest.split_first() {
        Some((program, rest)) => (Some(program), rest),
        None => (None, rest),
    };
    let mut options = Vec::new();
    while let Some(word) = rest.first() {
        let name = option_name(word);
        let known = name.and_then(OsStr::to_str).and_then(find_option);
        let takes_value = match (name, known) {
            (_, Some(known)) => known.takes_value,
            (Some(_), None) => rest
                .get(1)
                .is_some_and(|next| !next.as_bytes().starts_with(b"-")),
            (None, None) => false,
        };
        let length = if takes_value { rest.len().min(2) } else { 1 };
        let (words, after) = rest.split_at(length);
        options.push(Argument {
            words,
            name,
            option: known,
        });
        rest = after;
    }
    CommandLine {
        launcher,
        program,
        arguments: options,
    }
}

/// Programs that start the one named among their arguments.
const LAUNCHERS: &[&str] = &[
    "taskset",
    "sudo",
    "doas",
    "numactl",
    "nice",
    "ionice",
    "chrt",
    "env",
    "setpriv",
    "runuser",
    "systemd-run",
    "unshare",
    "nsenter",
    "cgexec",
    "prlimit",
    "stdbuf",
    "timeout",
    "setarch",
    "choom",
    "nohup",
    "strace",
];

/// Where QEMU is in the command: behind the arguments of a launcher that is known, else first.
fn find_program(command: &[OsString]) -> usize {
    let base = |word: &OsString| {
        let name = Path::new(word).file_name()?.to_str()?;
        Some(name.to_owned())
    };
    let starts = |word: &OsString| base(word).is_some_and(|name| LAUNCHERS.contains(&&*name));
    if !command.first().is_some_and(starts) {
        return 0;
    }
    let is_qemu = |word: &OsString| {
        base(word).is_some_and(|name| {
            name.starts_with("qemu-system-") || matches!(&*name, "qemu-kvm" | "kvm")
        })
    };
    let is_like_it =
        |word: &OsString| base(word).is_some_and(|name| name.starts_with("qemu") && name != "qemu");
    command
        .iter()
        .position(is_qemu)
        .or_else(|| command.iter().position(is_like_it))
        .unwrap_or(0)
}

use OptionKind as L;
use OptionPolicy::{ByValue as Look, Drop, Keep, Refuse, Replace};

const DISPLAY_REASON: &str = "no display may be opened";
const MONITOR_REASON: &str = "QEMU is steered through a monitor of cpreg's own";
const LOG_REASON: &str = "it writes to a file or to the terminal";
const PROCESS_REASON: &str = "QEMU is watched, and ended, by cpreg";
const USER_REASON: &str = "QEMU runs as who starts cpreg";
const MEMORY_REASON: &str = "the guest's memory is neither filled nor used";
const EXIT_REASON: &str = "with it QEMU prints something and ends";
const HOST_REASON: &str = "what it reaches on this host is not known here";

/// The options; by name, whether they take a value, and their treatment.
const OPTIONS: &[(&str, bool, OptionPolicy)] = &[
    // The machine.
    ("machine", true, Look(L::Machine)),
    ("M", true, Look(L::Machine)),
    ("cpu", true, Keep),
    ("accel", true, Keep),
    ("enable-kvm", false, Keep),
    ("smp", true, Keep),
    ("m", true, Keep),
    ("numa", true, Keep),
    ("global", true, Look(L::Global)),
    (
        "set",
        true,
        Refuse("it changes another option: write the value there"),
    ),
    ("boot", true, Keep),
    ("rtc", true, Keep),
    ("icount", true, Look(L::Icount)),
    ("uuid", true, Keep),
    ("name", true, Keep),
    ("smbios", true, Keep),
    ("fw_cfg", true, Keep),
    ("acpitable", true, Keep),
    ("no-acpi", false, Keep),
    ("bios", true, Keep),
    ("kernel", true, Keep),
    ("initrd", true, Keep),
    ("append", true, Keep),
    ("dtb", true, Keep),
    ("shim", true, Keep),
    ("option-rom", true, Keep),
    ("L", true, Keep),
    ("k", true, Keep),
    ("nodefaults", false, Keep),
    ("no-user-config", false, Keep),
    ("nouserconfig", false, Keep),
    ("only-migratable", false, Keep),
    ("compat", true, Keep),
    ("seed", true, Keep),
    ("semihosting", false, Keep),
    ("old-param", false, Keep),
    ("tb-size", true, Keep),
    ("singlestep", false, Keep),
    ("sandbox", true, Keep),
    ("msg", true, Keep),
    ("echr", true, Keep),
    ("S", false, Keep),
    ("no-reboot", false, Keep),
    ("no-shutdown", false, Keep),
    ("action", true, Keep),
    ("watchdog", true, Keep),
    ("watchdog-action", true, Keep),
    ("enable-fips", false, Keep),
    ("enable-sync-profile", false, Keep),
    // Its chardev is a stand-in, and a guest that does not run calls nothing.
    ("semihosting-config", true, Keep),
    // Memory.
    ("mem-path", true, Drop(MEMORY_REASON)),
    ("mem-prealloc", false, Drop(MEMORY_REASON)),
    ("overcommit", true, Drop(MEMORY_REASON)),
    ("realtime", true, Drop(MEMORY_REASON)),
    // Devices and objects.
    ("device", true, Look(L::Device)),
    ("object", true, Look(L::Object)),
    ("usb", false, Keep),
    ("usbdevice", true, Look(L::Usbdevice)),
    (
        "tpmdev",
        true,
        Drop("no TPM, nor a program that emulates one, may be opened"),
    ),
    ("fsdev", true, Look(L::Fsdev)),
    ("virtfs", true, Look(L::Virtfs)),
    ("vga", true, Keep),
    ("audio", true, Look(L::Audio)),
    ("audiodev", true, Look(L::Audiodev)),
    ("soundhw", true, Look(L::Soundhw)),
    // Disks.
    ("drive", true, Look(L::Drive)),
    ("blockdev", true, Look(L::Blockdev)),
    ("hda", true, Look(L::Disk("index=0,media=disk"))),
    ("hdb", true, Look(L::Disk("index=1,media=disk"))),
    ("hdc", true, Look(L::Disk("index=2,media=disk"))),
    ("hdd", true, Look(L::Disk("index=3,media=disk"))),
    ("cdrom", true, Look(L::Disk("index=2,media=cdrom"))),
    ("fda", true, Look(L::Disk("if=floppy,index=0"))),
    ("fdb", true, Look(L::Disk("if=floppy,index=1"))),
    ("sd", true, Look(L::Disk("if=sd"))),
    ("pflash", true, Look(L::Disk("if=pflash"))),
    ("mtdblock", true, Look(L::Disk("if=mtd"))),
    ("snapshot", false, Drop("there are no images to protect")),
    ("iscsi", true, Drop("no disk is opened")),
    // The network.
    ("netdev", true, Look(L::Netdev)),
    ("nic", true, Look(L::Nic)),
    ("net", true, Look(L::Net)),
    // Character devices and monitors.
    ("chardev", true, Look(L::Chardev)),
    ("serial", true, Look(L::Port)),
    ("parallel", true, Look(L::Port)),
    ("debugcon", true, Look(L::Port)),
    (
        "monitor",
        true,
        Replace(&["-monitor", "none"], MONITOR_REASON),
    ),
    ("qmp", true, Drop(MONITOR_REASON)),
    ("qmp-pretty", true, Drop(MONITOR_REASON)),
    ("mon", true, Drop(MONITOR_REASON)),
    ("gdb", true, Drop("no debugger may connect")),
    ("s", false, Drop("no debugger may connect")),
    // Displays.
    ("display", true, Look(L::Display)),
    (
        "nographic",
        false,
        Replace(&["-display", "none"], DISPLAY_REASON),
    ),
    (
        "curses",
        false,
        Replace(&["-display", "none"], DISPLAY_REASON),
    ),
    ("sdl", false, Replace(&["-display", "none"], DISPLAY_REASON)),
    ("vnc", true, Replace(&["-display", "none"], DISPLAY_REASON)),
    (
        "spice",
        true,
        Replace(&["-display", "none"], DISPLAY_REASON),
    ),
    ("full-screen", false, Drop(DISPLAY_REASON)),
    ("alt-grab", false, Drop(DISPLAY_REASON)),
    ("ctrl-grab", false, Drop(DISPLAY_REASON)),
    ("no-quit", false, Drop(DISPLAY_REASON)),
    ("show-cursor", false, Drop(DISPLAY_REASON)),
    ("portrait", false, Drop(DISPLAY_REASON)),
    ("rotate", true, Drop(DISPLAY_REASON)),
    // The process.
    (
        "incoming",
        true,
        Drop("cpreg says when and from where the state comes"),
    ),
    ("daemonize", false, Drop(PROCESS_REASON)),
    ("pidfile", true, Drop(PROCESS_REASON)),
    ("run-with", true, Drop(USER_REASON)),
    ("runas", true, Drop(USER_REASON)),
    ("chroot", true, Drop(USER_REASON)),
    ("async-teardown", false, Drop(PROCESS_REASON)),
    (
        "add-fd",
        true,
        Drop("nobody hands files to this QEMU, and nothing that would use them is left"),
    ),
    ("d", true, Drop(LOG_REASON)),
    ("D", true, Drop(LOG_REASON)),
    ("dfilter", true, Drop(LOG_REASON)),
    ("trace", true, Drop(LOG_REASON)),
    ("perfmap", false, Drop(LOG_REASON)),
    ("jitdump", false, Drop(LOG_REASON)),
    ("writeconfig", true, Drop(LOG_REASON)),
    ("plugin", true, Refuse("a plugin may do anything")),
    (
        "readconfig",
        true,
        Refuse("what is in the file is not looked at: write it as options"),
    ),
    (
        "loadvm",
        true,
        Refuse("the state would be a snapshot's, not the stream's"),
    ),
    (
        "preconfig",
        false,
        Refuse("QEMU would wait before it makes the machine"),
    ),
    ("dump-vmstate", true, Refuse(EXIT_REASON)),
    ("h", false, Refuse(EXIT_REASON)),
    ("help", false, Refuse(EXIT_REASON)),
    ("version", false, Refuse(EXIT_REASON)),
    ("audio-help", false, Refuse(EXIT_REASON)),
    ("xen-domid", true, Refuse(HOST_REASON)),
    ("xen-attach", false, Refuse(HOST_REASON)),
    ("xen-domid-restrict", false, Refuse(HOST_REASON)),
    ("qtest", true, Refuse(HOST_REASON)),
    ("qtest-log", true, Refuse(HOST_REASON)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(OsString::from).collect()
    }

    /// What `qemu-system-aarch64 --help` of QEMU 5.2, 7.2, 10.0 and 11.1 lists, and whether a value is shown.
    const LISTED: &str = include_str!("listed_options.txt");

    #[test]
    fn every_option_that_qemu_lists_is_classified() {
        let mut seen = 0;
        for line in LISTED.lines().filter(|line| !line.starts_with('#')) {
            let mut columns = line.split_whitespace();
            let (name, value) = (columns.next().unwrap(), columns.next().unwrap());
            let known = find_option(name).unwrap_or_else(|| panic!("-{name} is not classified"));
            assert_eq!(known.takes_value, value == "value", "-{name}");
            seen += 1;
        }
        assert_eq!(seen, 130);
    }

    #[test]
    fn no_option_is_there_twice() {
        for (index, (name, ..)) in OPTIONS.iter().enumerate() {
            assert!(
                OPTIONS[index + 1..].iter().all(|(other, ..)| other != name),
                "{name}"
            );
        }
    }

    #[test]
    fn values_may_look_like_options_and_images_stand_alone() {
        let command =
            words("qemu-system-aarch64 disk.img -append -S --m 1G -nodefaults -strange x -odd -S");
        let parts = parse_command_line(&command);
        let texts: Vec<String> = parts
            .arguments
            .iter()
            .map(|part| part.words.join(OsStr::new(" ")).into_string().unwrap())
            .collect();
        assert_eq!(
            texts,
            [
                "disk.img",
                "-append -S",
                "--m 1G",
                "-nodefaults",
                "-strange x",
                "-odd",
                "-S"
            ]
        );
        assert_eq!(parts.arguments[0].name, None);
        assert!(parts.arguments[4].option.is_none());
    }

    #[test]
    fn launchers_are_told_from_the_program() {
        for (command, program) in [
            ("qemu-system-aarch64 -m 1", 0),
            ("taskset -c 1 qemu-system-aarch64 -m 1", 3),
            ("sudo -u qemu /usr/libexec/qemu-kvm -m 1", 3),
            ("./start-vm.sh -drive file=qemu-system-aarch64", 0),
            ("env A=1 /opt/qemu-wrapper -m 1", 2),
        ] {
            assert_eq!(super::find_program(&words(command)), program, "{command}");
        }
    }
}
