//! Options of QEMU's command line, and the policy for each of them in an isolated QEMU.
//!
//! The names are from `qemu-system-aarch64 --help` of QEMU 5.2, 7.2, 10.0 and 11.1, which a test
//! compares, plus a few of the versions in between. Sibling modules rewrite
//! [`OptionPolicy::ByValue`].
//!
//! QEMU accepts `-name` and `--name`. A value is always the next word, whatever its form: in
//! `-append -S`, `-S` is a kernel command line. A word that is neither option nor value is a disk
//! image (`-hda`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Policy for an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionPolicy {
    /// Keep the option: it is part of the VM, or reads at most a file that a paused guest cannot
    /// change.
    Keep,
    /// Remove the option; holds the reason.
    Drop(&'static str),
    /// Replace the option by these words; holds the words and the reason.
    Replace(&'static [&'static str], &'static str),
    /// Refuse the option, because a VM with it cannot be isolated; holds the reason.
    Refuse(&'static str),
    /// Rewrite the option depending on its value.
    ByValue(OptionKind),
}

/// Options whose rewrite depends on the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionKind {
    Audio,
    Audiodev,
    Blockdev,
    Chardev,
    Device,
    /// Option whose whole value is a disk image; holds the equivalent beginning of a `-drive`.
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
    /// `-serial`, `-parallel` and `-debugcon`.
    Port,
    Soundhw,
    Usbdevice,
    Virtfs,
}

/// Entry of [`OPTIONS`] for an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownOption {
    pub(crate) name: &'static str,
    pub(crate) takes_value: bool,
    pub(crate) policy: OptionPolicy,
}

/// Returns the entry of an option; `None` if it is unknown.
pub(crate) fn find_option(name: &str) -> Option<KnownOption> {
    OPTIONS
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|&(name, takes_value, policy)| KnownOption {
            name,
            takes_value,
            policy,
        })
}

/// Returns the name of an option without its one or two dashes; `None` if the word is not an
/// option.
pub(crate) fn option_name(word: &OsStr) -> Option<&OsStr> {
    let word = word.as_bytes();
    let name = word.strip_prefix(b"-")?;
    let name = name.strip_prefix(b"-").unwrap_or(name);
    (!name.is_empty()).then(|| OsStr::from_bytes(name))
}

/// Command line in its parts, as QEMU parses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandLine<'a> {
    /// Words of the launcher (`taskset -c 1`, `sudo -u qemu`), or none.
    pub(crate) launcher: &'a [OsString],
    /// Program that starts QEMU; `None` if there are no words.
    pub(crate) program: Option<&'a OsString>,
    /// Options and disk images, in order.
    pub(crate) arguments: Vec<Argument<'a>>,
}

/// Option with its value, or a disk image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument<'a> {
    /// Words of the argument: one or two.
    pub(crate) words: &'a [OsString],
    /// Name of the option without dashes; `None` for a disk image.
    pub(crate) name: Option<&'a OsStr>,
    /// Entry of the option, if it is known.
    pub(crate) option: Option<KnownOption>,
}

impl<'a> Argument<'a> {
    /// Returns the value of the option, which is the second word.
    pub(crate) fn value(&self) -> Option<&'a OsStr> {
        self.words.get(1).map(OsString::as_os_str)
    }
}

/// Parses a command line.
///
/// An unknown option takes the next word as its value if that word does not begin with a dash.
pub(crate) fn parse_command_line(command: &[OsString]) -> CommandLine<'_> {
    let at = find_program(command);
    let (launcher, rest) = command.split_at(at);
    let (program, mut rest) = match rest.split_first() {
        Some((program, rest)) => (Some(program), rest),
        None => (None, rest),
    };
    let mut arguments = Vec::new();
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
        let (words, remaining) = rest.split_at(length);
        arguments.push(Argument {
            words,
            name,
            option: known,
        });
        rest = remaining;
    }
    CommandLine {
        launcher,
        program,
        arguments,
    }
}

/// Programs that start another program from their arguments.
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

/// Returns the position of QEMU: after the arguments of a known launcher, else 0.
fn find_program(command: &[OsString]) -> usize {
    let base = |word: &OsString| {
        let name = Path::new(word).file_name()?.to_str()?;
        Some(name.to_owned())
    };
    let is_launcher = |word: &OsString| base(word).is_some_and(|name| LAUNCHERS.contains(&&*name));
    if !command.first().is_some_and(is_launcher) {
        return 0;
    }
    let is_qemu = |word: &OsString| {
        base(word).is_some_and(|name| {
            name.starts_with("qemu-system-") || matches!(&*name, "qemu-kvm" | "kvm")
        })
    };
    let has_qemu_prefix =
        |word: &OsString| base(word).is_some_and(|name| name.starts_with("qemu") && name != "qemu");
    command
        .iter()
        .position(is_qemu)
        .or_else(|| command.iter().position(has_qemu_prefix))
        .unwrap_or(0)
}

use OptionPolicy::{ByValue, Drop, Keep, Refuse, Replace};

const DISPLAY_REASON: &str = "no display may be opened";
const MONITOR_REASON: &str = "cpreg controls QEMU through its own monitor";
const LOG_REASON: &str = "it writes to a file or to the terminal";
const PROCESS_REASON: &str = "cpreg watches and ends QEMU";
const USER_REASON: &str = "QEMU runs as the user of cpreg";
const MEMORY_REASON: &str = "the guest's memory is neither filled nor used";
const EXIT_REASON: &str = "QEMU would print something and exit";
const HOST_REASON: &str = "cpreg does not know what it accesses on this host";

/// Names of options, `true` if the option takes a value, and its policy.
const OPTIONS: &[(&str, bool, OptionPolicy)] = &[
    // The machine.
    ("machine", true, ByValue(OptionKind::Machine)),
    ("M", true, ByValue(OptionKind::Machine)),
    ("cpu", true, Keep),
    ("accel", true, Keep),
    ("enable-kvm", false, Keep),
    ("smp", true, Keep),
    ("m", true, Keep),
    ("numa", true, Keep),
    ("global", true, ByValue(OptionKind::Global)),
    (
        "set",
        true,
        Refuse("it changes another option: write the value into that option"),
    ),
    ("boot", true, Keep),
    ("rtc", true, Keep),
    ("icount", true, ByValue(OptionKind::Icount)),
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
    // The rewrite of `-chardev` replaces the chardev, and a paused guest makes no semihosting call.
    ("semihosting-config", true, Keep),
    // Memory.
    ("mem-path", true, Drop(MEMORY_REASON)),
    ("mem-prealloc", false, Drop(MEMORY_REASON)),
    ("overcommit", true, Drop(MEMORY_REASON)),
    ("realtime", true, Drop(MEMORY_REASON)),
    // Devices and objects.
    ("device", true, ByValue(OptionKind::Device)),
    ("object", true, ByValue(OptionKind::Object)),
    ("usb", false, Keep),
    ("usbdevice", true, ByValue(OptionKind::Usbdevice)),
    (
        "tpmdev",
        true,
        Drop("no TPM, and no program that emulates one, may be opened"),
    ),
    ("fsdev", true, ByValue(OptionKind::Fsdev)),
    ("virtfs", true, ByValue(OptionKind::Virtfs)),
    ("vga", true, Keep),
    ("audio", true, ByValue(OptionKind::Audio)),
    ("audiodev", true, ByValue(OptionKind::Audiodev)),
    ("soundhw", true, ByValue(OptionKind::Soundhw)),
    // Disks.
    ("drive", true, ByValue(OptionKind::Drive)),
    ("blockdev", true, ByValue(OptionKind::Blockdev)),
    ("hda", true, ByValue(OptionKind::Disk("index=0,media=disk"))),
    ("hdb", true, ByValue(OptionKind::Disk("index=1,media=disk"))),
    ("hdc", true, ByValue(OptionKind::Disk("index=2,media=disk"))),
    ("hdd", true, ByValue(OptionKind::Disk("index=3,media=disk"))),
    (
        "cdrom",
        true,
        ByValue(OptionKind::Disk("index=2,media=cdrom")),
    ),
    ("fda", true, ByValue(OptionKind::Disk("if=floppy,index=0"))),
    ("fdb", true, ByValue(OptionKind::Disk("if=floppy,index=1"))),
    ("sd", true, ByValue(OptionKind::Disk("if=sd"))),
    ("pflash", true, ByValue(OptionKind::Disk("if=pflash"))),
    ("mtdblock", true, ByValue(OptionKind::Disk("if=mtd"))),
    ("snapshot", false, Drop("no image needs protection")),
    ("iscsi", true, Drop("no disk is opened")),
    // The network.
    ("netdev", true, ByValue(OptionKind::Netdev)),
    ("nic", true, ByValue(OptionKind::Nic)),
    ("net", true, ByValue(OptionKind::Net)),
    // Character devices and monitors.
    ("chardev", true, ByValue(OptionKind::Chardev)),
    ("serial", true, ByValue(OptionKind::Port)),
    ("parallel", true, ByValue(OptionKind::Port)),
    ("debugcon", true, ByValue(OptionKind::Port)),
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
    ("display", true, ByValue(OptionKind::Display)),
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
        Drop("cpreg determines when and from where QEMU loads the state"),
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
        Drop("no descriptor is passed to this QEMU, and no remaining option uses one"),
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
        Refuse("cpreg does not read the file: write its content as options"),
    ),
    (
        "loadvm",
        true,
        Refuse("the state would be a snapshot's, not the stream's"),
    ),
    (
        "preconfig",
        false,
        Refuse("QEMU would wait before it creates the machine"),
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

    /// Options of `qemu-system-aarch64 --help` of QEMU 5.2, 7.2, 10.0 and 11.1.
    const LISTED: &str = include_str!("listed_options.txt");

    #[test]
    fn every_option_that_qemu_lists_is_classified() {
        let mut count = 0;
        for line in LISTED.lines().filter(|line| !line.starts_with('#')) {
            let mut columns = line.split_whitespace();
            let (name, value) = (columns.next().unwrap(), columns.next().unwrap());
            let known = find_option(name).unwrap_or_else(|| panic!("-{name} is not classified"));
            assert_eq!(known.takes_value, value == "value", "-{name}");
            count += 1;
        }
        assert_eq!(count, 130);
    }

    #[test]
    fn every_option_is_listed_once() {
        for (index, (name, ..)) in OPTIONS.iter().enumerate() {
            assert!(
                OPTIONS[index + 1..].iter().all(|(other, ..)| other != name),
                "{name}"
            );
        }
    }

    #[test]
    fn values_may_look_like_options_and_images_may_stand_alone() {
        let command =
            words("qemu-system-aarch64 disk.img -append -S --m 1G -nodefaults -strange x -odd -S");
        let parts = parse_command_line(&command);
        let texts: Vec<String> = parts
            .arguments
            .iter()
            .map(|argument| argument.words.join(OsStr::new(" ")).into_string().unwrap())
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
    fn launchers_are_distinguished_from_the_program() {
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
