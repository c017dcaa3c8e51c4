//! A user's QEMU command line, made so that QEMU can load a VM's device state and touch nothing outside itself.
//!
//! [`isolate`] is a function of the words alone; what it asks of the host goes through [`HostQueries`]. It keeps what
//! makes up the guest's machine (so that the stream's sections and RAM blocks meet their like), and replaces or
//! leaves out what reaches a disk, network, socket, display, device or file. An option, object or use that is not
//! known to be harmless is refused, unless the user keeps it.
//!
//! | part of the command line | becomes | module |
//! |---|---|---|
//! | `-machine`, `-cpu`, `-smp`, `-m`, `-numa`, `-device`, `-global`, `-boot`, `-rtc`, `-smbios`, `-fw_cfg`, `-bios`, `-kernel`, `-initrd`, `-dtb` … | itself: part of the machine, files only read | [`options`] |
//! | `-drive`, `-replace_blockdev`, `-hda`, `-cdrom`, `-pflash`, `-sd` …, disk images as words | `null-co` of the same name, place and size | [`disks`] |
//! | `-netdev`, `-nic`, `-net` | a tap in an empty namespace, a hub port, or `user` without forwards | [`network`], [`namespace`] |
//! | `-chardev`, `-serial`, `-parallel`, `-debugcon` | `null`, one for one: the number of serial ports decides which UARTs there are | [`work`] |
//! | `-monitor`, `-qmp`, `-mon`, `-gdb`, `-s` | nothing: cpreg has a monitor of its own | [`options`] |
//! | `-display`, `-nographic`, `-vnc`, `-spice`, none of these | `-display none` | [`work`] |
//! | `-audiodev`, `-audio`, `-soundhw`, sound devices with no backend | the backend `none` | [`work`], [`devices`] |
//! | `-object` | memory without files; what stays, stands in or goes | [`objects`] |
//! | `-device` of something outside (`step_vfio-*`, `vhost-*`, `usb-host`, `tpm-*` …) | a stand-in at the same place, or nothing; its sections are not judged | [`devices`] |
//! | `-fsdev`, `-virtfs` | the backend `synth`, which has no files | [`work`] |
//! | `-mem-path`, `-mem-prealloc`, `-overcommit`, `-daemonize`, `-pidfile`, `-incoming`, `-D`, `-d`, `-trace`, `-runas`, `-add-fd` … | nothing | [`options`] |
//! | `-plugin`, `-readconfig`, `-loadvm`, `-preconfig`, `-set`, unknown options and objects | refused | [`options`] |
//! | | `-S` and `-no-user-config` are added | [`work`] |
//!
//! [`values`] reads what stands behind an option, [`images`] how big a disk image is.
//!
//! What a launcher in front does (`sudo`, `taskset`) is not looked at, nor is what a program that is a script of the
//! user's adds to the words. Starting QEMU and loading the stream is for the caller.

mod devices;
mod disks;
mod host_queries;
mod images;
mod isolated_command;
mod namespace;
mod network;
mod objects;
pub(crate) mod options;
mod rewriter;
mod values;

use std::ffi::OsString;

pub use host_queries::{HostQueries, LocalHost};
pub use images::{ImageFormat, size as image_size};
pub use isolated_command::{IsolatedCommand, OptionChange, UnverifiedPart};
pub use namespace::probe_namespace;

use crate::error::{Error, ErrorKind};
use rewriter::Rewriter;

/// Isolates `command`: the program first, or a launcher that is known in front of it.
///
/// `keep` has names of options (`plugin`) that are kept as they are, whatever they do; `object arm-rme` keeps only those
/// whose value begins so.
///
/// # Errors
/// [`ErrorKind::NoCommand`] if there are no words, [`ErrorKind::CannotIsolate`] if an option stands
/// in the way.
pub fn isolate(
    command: &[OsString],
    keep: &[String],
    around: &dyn HostQueries,
) -> Result<IsolatedCommand, Error> {
    let parts = options::parse_command_line(command);
    let Some(program) = parts.program else {
        return Err(Error::new(ErrorKind::NoCommand));
    };
    let mut work = Rewriter::new(keep, around);
    for part in &parts.arguments {
        work.collect_references(part);
    }
    for part in &parts.arguments {
        work.rewrite_argument(part)?;
    }
    work.finish(program);

    let mut all = parts.launcher.to_vec();
    let mut no_namespace = None;
    match work.network.namespace() {
        Some(Ok(words)) => {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            all.extend_from_slice(&words);
            work.changes.push(OptionChange {
                before: Vec::new(),
                after: words,
                reason: "tap devices are made where there is no network",
            });
        }
        Some(Err(reason)) => no_namespace = Some(reason.clone()),
        None => {}
    }
    all.push(program.clone());
    all.append(&mut work.options);
    work.unverified.append(&mut work.network.unverified);
    Ok(IsolatedCommand {
        command: all,
        changes: work.changes,
        unverified: work.unverified,
        namespace_error: no_namespace,
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;

    use super::*;

    struct NoHost;

    impl HostQueries for NoHost {
        fn image_size(&self, path: &Path, _: ImageFormat) -> Option<u64> {
            (path == Path::new("/disk")).then_some(4096)
        }

        fn network_namespace_command(&self) -> Result<&'static [&'static str], String> {
            Ok(&["unshare", "--net", "--"])
        }
    }

    fn words(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(OsString::from).collect()
    }

    fn isolated(command: &str, keep: &[&str]) -> Result<String, Error> {
        let keep: Vec<String> = keep.iter().map(|&word| word.to_owned()).collect();
        let isolated = isolate(&words(command), &keep, &NoHost)?;
        Ok(isolated
            .command
            .join(OsStr::new(" "))
            .into_string()
            .unwrap())
    }

    const TAIL: &str = "-display none -no-user-config -S";

    #[test]
    fn the_machine_stays_and_the_rest_of_the_host_does_not() {
        for (given, expected) in [
            (
                "-M virt,gic-version=3 -cpu max -smp 2 -m 1G -append -S",
                "-M virt,gic-version=3 -cpu max -smp 2 -m 1G -append -S",
            ),
            (
                "-chardev socket,id=c,path=/x,server=on,wait=off,mux=on -serial chardev:c -serial mon:stdio",
                "-chardev null,id=c,mux=on -serial chardev:c -serial null",
            ),
            (
                "-monitor stdio -qmp unix:/x,server -mon chardev=c -gdb tcp::1 -s -incoming defer",
                "-monitor none",
            ),
            (
                "-mem-path /dev/hugepages -mem-prealloc -daemonize -pidfile /p -D /log -d int -snapshot",
                "",
            ),
            (
                "disk -M virt",
                "-drive index=0,media=disk,driver=null-co,size=1073741824,read-zeroes=on -M virt",
            ),
            (
                "-hdb /disk",
                "-drive index=1,media=disk,driver=null-co,size=4096,read-zeroes=on",
            ),
            (
                "-fsdev local,id=f,path=/srv,security_model=none -virtfs local,path=/,mount_tag=t",
                "-fsdev synth,id=f -virtfs synth,mount_tag=t",
            ),
            (
                "-audiodev pa,id=a,server=/x -audio pipewire,model=hda",
                "-audiodev none,id=a -audio none,model=hda",
            ),
            (
                "-global usb-kbd.pcap=/x -global virtio-net-pci.rx_queue_size=512",
                "-global virtio-net-pci.rx_queue_size=512",
            ),
        ] {
            let expected = words(&format!("qemu {expected} {TAIL}")).join(OsStr::new(" "));
            assert_eq!(
                isolated(&format!("qemu {given}"), &[]).unwrap(),
                expected.into_string().unwrap()
            );
        }
        assert_eq!(
            isolated("qemu -vnc :1 -nographic -S -nouserconfig", &[]).unwrap(),
            "qemu -display none -display none -S -nouserconfig"
        );
        assert_eq!(
            isolated("qemu -device AC97", &[]).unwrap(),
            format!(
                "qemu -device AC97,audiodev=cpreg-null-audio -audiodev none,id=cpreg-null-audio {TAIL}"
            )
        );
    }

    #[test]
    fn a_tap_is_made_between_launcher_and_program() {
        assert_eq!(
            isolated(
                "taskset -c 1 qemu-system-aarch64 -nic tap -display none -no-user-config -S",
                &[]
            )
            .unwrap(),
            "taskset -c 1 unshare --net -- qemu-system-aarch64 -nic tap,ifname=cpreg0,script=no,downscript=no \
             -display none -no-user-config -S"
        );
    }

    #[test]
    fn changes_say_what_and_why() {
        let isolated = isolate(
            &words("qemu -M virt -vnc :1 -device tpm-tis-device,tpmdev=t -S"),
            &[],
            &NoHost,
        )
        .unwrap();
        assert_eq!(
            isolated.changes[0],
            OptionChange {
                before: words("-vnc :1"),
                after: words("-display none"),
                reason: "no display may be opened",
            }
        );
        assert_eq!(isolated.changes[1].after, words(""));
        assert!(isolated.unverified[0].should_skip_section("tpm-tis"));
        assert!(isolated.unverified[0].should_skip_ram_block("tpm-ppi"));
        assert_eq!(isolated.namespace_error, None);
    }

    #[test]
    fn what_is_not_known_is_refused_unless_kept() {
        for (command, message) in [
            (
                "qemu -strange x",
                "cannot isolate `-strange x`: this option is not known here, nor what it does",
            ),
            (
                "qemu -plugin a.so",
                "cannot isolate `-plugin a.so`: a plugin may do anything",
            ),
            (
                "qemu -object arm-rme,id=r",
                "cannot isolate `-object arm-rme,id=r`: what this object reaches on this host is not known here",
            ),
            (
                "qemu -icount 1,rr=record,rrfile=/x",
                "cannot isolate `-icount 1,rr=record,rrfile=/x`: a recording of the guest's run would be written or read",
            ),
            (
                "qemu -M virt,dumpdtb=/x",
                "cannot isolate `-M virt,dumpdtb=/x`: with `dumpdtb` QEMU writes a file and ends",
            ),
            (
                "qemu -device",
                "cannot isolate `-device`: its value is missing",
            ),
            (
                "qemu -device {x",
                "cannot isolate `-device {x`: it begins like JSON and is none",
            ),
        ] {
            assert_eq!(isolated(command, &[]).unwrap_err().to_string(), message);
        }
        assert_eq!(isolated("", &[]).unwrap_err().kind(), &ErrorKind::NoCommand);
        assert_eq!(
            isolated(
                "qemu --plugin a.so -strange x -object arm-rme,id=r",
                &["-plugin", "strange", "object arm-rme"]
            )
            .unwrap(),
            format!("qemu --plugin a.so -strange x -object arm-rme,id=r {TAIL}")
        );
        let error = isolated("qemu -object arm-rme,id=r", &["plugin"]).unwrap_err();
        assert_eq!(
            error.hint().unwrap(),
            "leave it out, or keep it as it is, at your own risk, with `--allow-option 'object arm-rme'`"
        );
    }
}
