//! Isolation of a user's QEMU command line.
//!
//! The isolated QEMU can load a VM's device state and touches nothing outside itself.
//!
//! [`isolate`] depends on the words alone and on the answers of [`HostQueries`]. The isolated
//! command keeps the guest's machine, so that the stream's sections and RAM blocks match. Parts
//! that access a disk, network, socket, display, device or file are replaced or removed. An option
//! or object that is not known to be harmless is refused, unless the user allows it.
//!
//! Parts of the command line, with the module that rewrites them:
//! - `-machine`, `-cpu`, `-smp`, `-m`, `-numa`, `-device`, `-global`, `-boot`, `-rtc`, `-smbios`,
//!   `-fw_cfg`, `-bios`, `-kernel`, `-initrd`, `-dtb` …: kept as part of the machine; files are
//!   only read (`options`)
//! - `-drive`, `-blockdev`, `-hda`, `-cdrom`, `-pflash`, `-sd` …, and disk images as words:
//!   `null-co` with the same name, place and size (`disks`)
//! - `-netdev`, `-nic`, `-net`: a tap in an empty namespace, a hub port, or `user` without forwards
//!   (`network`, `namespace`)
//! - `-chardev`, `-serial`, `-parallel`, `-debugcon`: `null`, one for each, because the number of
//!   serial ports determines the UARTs (`rewriter`)
//! - `-monitor`, `-qmp`, `-mon`, `-gdb`, `-s`: removed; cpreg has its own monitor (`options`)
//! - `-display`, `-nographic`, `-vnc`, `-spice`, or no such option: `-display none` (`rewriter`)
//! - `-audiodev`, `-audio`, `-soundhw`, sound devices without a backend: the backend `none`
//!   (`rewriter`, `devices`)
//! - `-object`: memory without files; others are kept, replaced or removed (`objects`)
//! - `-device` with access to the host (`vfio-*`, `vhost-*`, `usb-host`, `tpm-*` …): a stand-in at
//!   the same place, or removed; its sections are not verified (`devices`)
//! - `-fsdev`, `-virtfs`: the backend `synth`, which has no files (`rewriter`)
//! - `-mem-path`, `-mem-prealloc`, `-overcommit`, `-daemonize`, `-pidfile`, `-incoming`, `-D`,
//!   `-d`, `-trace`, `-runas`, `-add-fd` …: removed (`options`)
//! - `-plugin`, `-readconfig`, `-loadvm`, `-preconfig`, `-set`, unknown options and objects:
//!   refused (`options`)
//! - `-S` and `-no-user-config` are added (`rewriter`)
//!
//! `values` parses the value of an option, `images` determines the size of a disk image.
//!
//! This module does not check the effects of a launcher (`sudo`, `taskset`), or of a user's script
//! in place of QEMU. The caller starts QEMU and loads the stream.

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

/// Isolates `command`, which begins with the program or a known launcher.
///
/// `allowed_options` has names of options (`plugin`) that stay unchanged, whatever their effect. An
/// entry such as `object arm-rme` allows only options whose value begins with that word.
///
/// # Errors
/// - [`ErrorKind::NoCommand`] if there are no words.
/// - [`ErrorKind::CannotIsolate`] if an option cannot be isolated.
pub fn isolate(
    command: &[OsString],
    allowed_options: &[String],
    host: &dyn HostQueries,
) -> Result<IsolatedCommand, Error> {
    let parts = options::parse_command_line(command);
    let Some(program) = parts.program else {
        return Err(Error::new(ErrorKind::NoCommand));
    };
    let mut rewriter = Rewriter::new(allowed_options, host);
    for argument in &parts.arguments {
        rewriter.collect_references(argument);
    }
    for argument in &parts.arguments {
        rewriter.rewrite_argument(argument)?;
    }
    rewriter.finish(program);

    let mut isolated = parts.launcher.to_vec();
    let mut namespace_error = None;
    match rewriter.network.namespace() {
        Some(Ok(words)) => {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            isolated.extend_from_slice(&words);
            rewriter.changes.push(OptionChange {
                before: Vec::new(),
                after: words,
                reason: "tap devices are created in a namespace without a network",
            });
        }
        Some(Err(reason)) => namespace_error = Some(reason.clone()),
        None => {}
    }
    isolated.push(program.clone());
    isolated.append(&mut rewriter.options);
    rewriter.unverified.append(&mut rewriter.network.unverified);
    Ok(IsolatedCommand {
        command: isolated,
        changes: rewriter.changes,
        unverified: rewriter.unverified,
        namespace_error,
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;

    use super::*;

    struct TestHost;

    impl HostQueries for TestHost {
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

    fn isolated(command: &str, allowed: &[&str]) -> Result<String, Error> {
        let allowed: Vec<String> = allowed.iter().map(|&word| word.to_owned()).collect();
        let isolated = isolate(&words(command), &allowed, &TestHost)?;
        Ok(isolated
            .command
            .join(OsStr::new(" "))
            .into_string()
            .unwrap())
    }

    const TAIL: &str = "-display none -no-user-config -S";

    #[test]
    fn the_machine_is_kept_and_host_access_is_removed() {
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
    fn the_namespace_is_between_launcher_and_program() {
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
    fn changes_have_words_and_reasons() {
        let isolated = isolate(
            &words("qemu -M virt -vnc :1 -device tpm-tis-device,tpmdev=t -S"),
            &[],
            &TestHost,
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
    fn unknown_options_are_refused_unless_allowed() {
        for (command, message) in [
            (
                "qemu -strange x",
                "cannot isolate `-strange x`: the option is unknown to this cpreg",
            ),
            (
                "qemu -plugin a.so",
                "cannot isolate `-plugin a.so`: a plugin may do anything",
            ),
            (
                "qemu -object arm-rme,id=r",
                "cannot isolate `-object arm-rme,id=r`: cpreg does not know what this object accesses on this host",
            ),
            (
                "qemu -icount 1,rr=record,rrfile=/x",
                "cannot isolate `-icount 1,rr=record,rrfile=/x`: QEMU would read or write a recording of the guest",
            ),
            (
                "qemu -M virt,dumpdtb=/x",
                "cannot isolate `-M virt,dumpdtb=/x`: QEMU would write the device tree to a file and exit",
            ),
            (
                "qemu -device",
                "cannot isolate `-device`: its value is missing",
            ),
            (
                "qemu -device {x",
                "cannot isolate `-device {x`: its value begins like JSON but is not valid JSON",
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
            "leave it out, or keep it unchanged at your own risk with `--allow-option 'object arm-rme'`"
        );
    }
}
