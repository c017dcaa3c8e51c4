//! Devices that access the host, and their stand-ins.
//!
//! Places on a bus are assigned in order, so a removed device would move the devices that follow
//! it. A stand-in takes the place of such a device: `pci-testdev` on PCI, `virtio-rng-device` on
//! virtio's own bus, `usb-mouse` on USB. No stand-in accesses the host, and no stream has a section
//! that a stand-in would wrongly take for its own. The state of the real device is not verified.
//!
//! Devices, each with the resource that it accesses, its stand-in, and the sections that no device
//! then accepts:
//! - `vfio-*`: a host's device; `pci-testdev`, none on the platform bus; `vfio`, `vfio-pci`, …
//! - `vhost-user-*`, `vhost-*`: a process, the kernel; `pci-testdev` or `virtio-rng-device`;
//!   sections named as in QEMU's `-dump-vmstate`
//! - `virtio-gpu-*`, `virtio-vga` with `blob=on`: pages of a memfd, `/dev/udmabuf`; `pci-testdev`;
//!   `virtio-gpu`, `virtio-vga`
//! - `ivshmem-doorbell`, `virtio-input-host-*`, `*-gl*`, `qxl`, `pvrdma`: a server, an input, a
//!   renderer, SPICE, RDMA; `pci-testdev` or `virtio-rng-device`
//! - `tpm-*`: a TPM, or swtpm; none; `tpm-tis`, `tpm-emulator`, …
//! - `usb-host`, `usb-mtp`, `u2f-*`, `canokey`: a host's device, folder, file; `usb-mouse`
//! - `scsi-block`, `scsi-generic`: a host's SCSI device; `scsi-hd` on the disk's stand-in; sections
//!   of `scsi-generic` only

use super::isolated_command::UnverifiedPart;
use super::values::Values;

/// Rewrite of a `-device` option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceRewrite {
    /// Keep the device unchanged.
    Keep,
    /// Replace the device by this value, or remove it if `None`; with the reason and the part that
    /// the load then does not verify.
    Replace(Option<String>, &'static str, Option<UnverifiedPart>),
}

const HOST_ACCESS_REASON: &str = "it needs access to the host, which is not allowed";

/// Properties of any device that write a file or open a connection.
pub(crate) const HOST_ACCESS_PROPERTIES: &[&str] = &["pcap", "pcapfile", "jsonfile", "spdm_port"];

/// Devices that open the host's sound without an `audiodev` (`-device X,help` of QEMU 5.2 and
/// 11.1).
const SOUND_DEVICES: &[&str] = &[
    "AC97",
    "ES1370",
    "hda-duplex",
    "hda-micro",
    "hda-output",
    "usb-audio",
    "virtio-sound-device",
    "virtio-sound-pci",
    "wm8750",
    "sb16",
    "cs4231a",
    "adlib",
    "gus",
];

/// Id of the audio backend that is added for these devices.
pub(crate) const NULL_AUDIODEV_ID: &str = "cpreg-null-audio";

/// Bus of a device that accesses the host.
enum Bus {
    Pci,
    Virtio,
    Usb,
    Scsi,
    None,
}

/// Returns the rewrite of the `-device` option with these values.
pub(crate) fn rewrite_device(values: &Values) -> DeviceRewrite {
    let driver = values.get("driver").unwrap_or_default();
    let shares_pages = ["virtio-gpu", "virtio-vga"]
        .iter()
        .any(|start| driver.starts_with(start))
        && values.get("blob").is_some_and(is_on);
    let host_device = if shares_pages {
        Some((Bus::Pci, vec!["virtio-gpu", "virtio-vga"]))
    } else {
        classify_host_device(driver)
    };
    let Some((bus, sections)) = host_device else {
        return strip_host_access(driver, values);
    };
    let (stand_in, keys): (&str, &[&str]) = match bus {
        Bus::Pci => ("pci-testdev", &["id", "bus", "addr", "multifunction"]),
        Bus::Virtio => ("virtio-rng-device", &["id", "bus"]),
        Bus::Usb => ("usb-mouse", &["id", "bus", "port"]),
        Bus::Scsi => (
            "scsi-hd",
            &[
                "id",
                "bus",
                "channel",
                "scsi-id",
                "lun",
                "drive",
                "share-rw",
                "bootindex",
            ],
        ),
        Bus::None => ("", &[]),
    };
    let value = (!stand_in.is_empty()).then(|| values.format_only(("driver", stand_in), keys));
    let unverified = (!sections.is_empty()).then(|| UnverifiedPart {
        description: format!("the device `{driver}`"),
        sections: sections.iter().map(|&name| name.to_owned()).collect(),
        ram_blocks: ram_blocks(driver),
        reason: HOST_ACCESS_REASON,
    });
    DeviceRewrite::Replace(value, HOST_ACCESS_REASON, unverified)
}

/// Returns `true` if QEMU parses this word as true.
fn is_on(word: &str) -> bool {
    ["on", "yes", "true", "y"].contains(&word)
}

/// Rewrites a device that needs no stand-in: removes properties that would open files and
/// connections.
fn strip_host_access(driver: &str, values: &Values) -> DeviceRewrite {
    if values.has_any(HOST_ACCESS_PROPERTIES) {
        return DeviceRewrite::Replace(
            Some(values.format_without(HOST_ACCESS_PROPERTIES, "driver")),
            "no device may write a file or open a connection",
            None,
        );
    }
    if SOUND_DEVICES.contains(&driver) && values.get("audiodev").is_none() {
        return DeviceRewrite::Replace(
            Some(values.format_with("audiodev", NULL_AUDIODEV_ID, "driver")),
            "it would open the host's sound device",
            None,
        );
    }
    DeviceRewrite::Keep
}

/// Replaces a NIC with queues that only its own kind of backend supports.
pub(crate) fn replace_nic(values: &Values) -> DeviceRewrite {
    let driver = values.get("driver").unwrap_or_default();
    let keys: &[&str] = &["id", "bus", "addr", "multifunction"];
    let value = if driver.ends_with("-device") {
        values.format_only(("driver", "virtio-rng-device"), &["id", "bus"])
    } else {
        values.format_only(("driver", "pci-testdev"), keys)
    };
    let reason =
        "transmit queues of more than 256 entries need its backend, which must not be accessed";
    let unverified = UnverifiedPart {
        description: format!("the device `{driver}`"),
        sections: vec!["virtio-net".to_owned()],
        ram_blocks: Vec::new(),
        reason,
    };
    DeviceRewrite::Replace(Some(value), reason, Some(unverified))
}

/// Returns the bus and the section names of a device that accesses the host.
fn classify_host_device(driver: &str) -> Option<(Bus, Vec<&str>)> {
    let is_pci = driver.ends_with("-pci") || driver.contains("-pci-") || driver.ends_with("-vga");
    let virtio = if is_pci { Bus::Pci } else { Bus::Virtio };
    // `vhost-user-blk-pci-non-transitional` → `vhost-user-blk`.
    let bare = driver.split_once("-pci").map_or(driver, |(bare, _)| bare);
    let bare = bare.strip_suffix("-device").unwrap_or(bare);
    Some(match driver {
        "vfio-platform" | "vfio-amd-xgbe" | "vfio-calxeda-xgmac" => {
            (Bus::None, vec!["vfio", driver])
        }
        _ if driver.starts_with("vfio-") => (Bus::Pci, vec!["vfio", "vfio-pci", "vfio-cpr-pci"]),
        _ if driver.starts_with("vhost-") => {
            let name = match bare {
                // The state of this device is that of an ordinary virtio-scsi, under that name.
                "vhost-user-scsi" => "virtio-scsi",
                "vhost-scsi" => "virtio-vhost_scsi",
                "vhost-vsock" => "virtio-vhost_vsock",
                "vhost-user-vga" => "vhost-user-gpu",
                _ => bare,
            };
            (virtio, vec![name, driver.trim_end_matches("-pci")])
        }
        "x-pci-proxy-dev" => (Bus::Pci, vec![driver]),
        "ivshmem-doorbell" | "ivshmem" => (Bus::Pci, vec!["ivshmem-doorbell", "ivshmem"]),
        _ if driver.starts_with("virtio-input-host") => (virtio, vec!["virtio-input-host"]),
        _ if driver.starts_with("virtio-gpu-gl") || driver.starts_with("virtio-gpu-rutabaga") => {
            (virtio, vec!["virtio-gpu"])
        }
        "virtio-vga-gl" | "virtio-vga-rutabaga" => (Bus::Pci, vec!["virtio-gpu", "virtio-vga"]),
        "qxl" | "qxl-vga" => (Bus::Pci, vec!["qxl"]),
        "pvrdma" => (Bus::Pci, vec!["pvrdma"]),
        _ if driver.starts_with("tpm-") => {
            let sections = vec![
                "tpm-tis",
                "tpm-tis-i2c",
                "tpm-crb",
                "tpm-emulator",
                "tpm-ppi",
            ];
            (Bus::None, sections)
        }
        "usb-host" | "usb-mtp" => (Bus::Usb, vec![driver]),
        "u2f-passthru" | "u2f-emulated" => (
            Bus::Usb,
            vec!["u2f-key", "u2f-key-passthru", "u2f-key-emulated"],
        ),
        "canokey" => (Bus::Usb, vec![driver]),
        "ccid-card-emulated" => (Bus::None, vec![driver]),
        "scsi-generic" => (Bus::Scsi, vec!["SCSIDevice"]),
        // The state of this device is that of an ordinary disk, under the same name, and loads into
        // one.
        "scsi-block" => (Bus::Scsi, Vec::new()),
        _ => return None,
    })
}

/// Returns the suffixes of the names of a device's RAM blocks.
fn ram_blocks(driver: &str) -> Vec<String> {
    let names: &[&str] = match driver {
        "ivshmem-doorbell" | "ivshmem" => &["ivshmem.bar2"],
        "vhost-user-vga" | "virtio-vga-gl" | "virtio-vga-rutabaga" => &["vga.vram"],
        "qxl" | "qxl-vga" => &["qxl.vram", "qxl.vrom", "qxl.rom", "vga.vram"],
        _ if driver.starts_with("tpm-") => &["tpm-ppi"],
        _ => &[],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(text: &str) -> (Option<String>, Vec<String>) {
        match rewrite_device(&Values::parse(text, "driver").unwrap()) {
            DeviceRewrite::Keep => (Some("kept".to_owned()), Vec::new()),
            DeviceRewrite::Replace(value, _, unverified) => (
                value,
                unverified.map_or(Vec::new(), |unverified| unverified.sections),
            ),
        }
    }

    #[test]
    fn stand_ins_keep_the_places_on_buses() {
        for (given, expected, section) in [
            (
                "vfio-pci,host=01:00.0,id=h,bus=rp0,addr=0x0",
                Some("pci-testdev,id=h,bus=rp0,addr=0x0"),
                "vfio",
            ),
            (
                "virtio-gpu-pci,id=g,blob=on",
                Some("pci-testdev,id=g"),
                "virtio-gpu",
            ),
            (
                r#"{"driver":"virtio-vga","id":"g","blob":true}"#,
                Some(r#"{"driver":"pci-testdev","id":"g"}"#),
                "virtio-vga",
            ),
            (
                "vhost-user-fs-pci,chardev=c,tag=t",
                Some("pci-testdev"),
                "vhost-user-fs",
            ),
            (
                "vhost-vsock-pci-non-transitional,guest-cid=3",
                Some("pci-testdev"),
                "virtio-vhost_vsock",
            ),
            (
                "vhost-user-fs-device,chardev=c,tag=t",
                Some("virtio-rng-device"),
                "vhost-user-fs",
            ),
            (
                "vhost-user-blk,chardev=c",
                Some("virtio-rng-device"),
                "vhost-user-blk",
            ),
            (
                "usb-host,hostbus=1,hostaddr=2,bus=x.0,port=2",
                Some("usb-mouse,bus=x.0,port=2"),
                "usb-host",
            ),
            (
                "scsi-generic,drive=d,lun=3",
                Some("scsi-hd,drive=d,lun=3"),
                "SCSIDevice",
            ),
            ("tpm-tis-device,tpmdev=t", None, "tpm-tis"),
        ] {
            let (stand_in, sections) = rewrite(given);
            assert_eq!(stand_in.as_deref(), expected, "{given}");
            assert!(
                sections.iter().any(|name| name == section),
                "{given}: {sections:?}"
            );
        }
    }

    #[test]
    fn json_stays_json_with_its_types() {
        let (stand_in, _) = rewrite(
            r#"{"driver":"vfio-pci","host":"0000:01:00.0","multifunction":true,"addr":"0x2"}"#,
        );
        assert_eq!(
            stand_in.as_deref(),
            Some(r#"{"addr":"0x2","driver":"pci-testdev","multifunction":true}"#)
        );
    }

    #[test]
    fn other_devices_are_kept_without_host_access() {
        assert_eq!(rewrite("virtio-blk-pci,drive=d").0.as_deref(), Some("kept"));
        assert_eq!(
            rewrite("scsi-block,drive=d"),
            (Some("scsi-hd,drive=d".to_owned()), Vec::new())
        );
        assert_eq!(
            rewrite("usb-kbd,pcap=/tmp/x,port=1").0.as_deref(),
            Some("usb-kbd,port=1")
        );
        assert_eq!(
            rewrite("hda-duplex,id=s").0.as_deref(),
            Some("hda-duplex,id=s,audiodev=cpreg-null-audio")
        );
        assert_eq!(rewrite("hda-duplex,audiodev=a").0.as_deref(), Some("kept"));
    }
}
