//! Saved VMs in the files of other programs: disk images, save images of libvirt, and the states of
//! Firecracker and Cloud Hypervisor.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use cpreg_snapshot::libvirt::Image;
use cpreg_testdata::large_qcow2;
use e2e_framework::Result;

use crate::commands::Benchmark;
use crate::inputs::{DESTINATION_FILE, GIB, create, remove, unpack};

/// RAM of the large images.
const RAM_LEN: u64 = 8 * GIB;
/// Recorded save image of libvirt, whose header and XML the large one gets.
const LIBVIRT_IMAGE: &str = "libvirt/libvirt11.3__q10.0__virt-10.0-neoverse-n1-smp1-raw.save.xz";
/// Bytes of the recorded stream in front of the hole: header, configuration and list of RAM.
const FRONT_LEN: usize = 64 << 10;
/// Host that the states of Firecracker and Cloud Hypervisor are checked against.
const HOST: &str = "linux-6.16.12/neoverse-n1";
/// States to check: name of the case, name of the file, recording.
const STATES: [(&str, &str, &str); 3] = [
    (
        "Firecracker 1.14, 2 vCPUs",
        "vm.vmstate",
        "vmm/firecracker/v1.14.4/6.12.107__neoverse-n1__v2.vmstate.xz",
    ),
    (
        "Firecracker 1.16, 2 vCPUs",
        "vm.vmstate",
        "vmm/firecracker/v1.16.1/6.12.107__neoverse-n1__v2.vmstate.xz",
    ),
    (
        "Cloud Hypervisor, 2 vCPUs",
        "state.json",
        "vmm/cloud-hypervisor/v53.0/6.12.107__neoverse-n1__v2/state.json.xz",
    ),
];

/// Measures all kinds of saved VMs.
///
/// # Errors
/// Returns an error if something cannot be made or run.
pub(crate) fn run(benchmark: &Benchmark<'_>) -> Result<()> {
    measure_disk_image(benchmark)?;
    measure_save_image(benchmark)?;
    measure_states(benchmark)
}

/// Measures a disk image of 64 GiB with a snapshot, whose state has 8 GiB of RAM.
///
/// The baseline lists the snapshots, and also reads header and snapshot table only.
fn measure_disk_image(benchmark: &Benchmark<'_>) -> Result<()> {
    let size = large_qcow2::Size {
        disk: 64 * GIB,
        ram: RAM_LEN,
    };
    let vm = benchmark.folder.join("vm");
    let write = || Ok(large_qcow2::write(&benchmark.source, size, &create(&vm)?)?);
    let baseline = "qemu-img snapshot -l vm > /dev/null";
    measure_image(
        benchmark,
        "8 GiB of RAM in a qcow2 snapshot",
        baseline,
        write,
    )?;
    remove(&vm)
}

/// Measures a raw save image of libvirt with 8 GiB of RAM.
///
/// The baseline copies the first 2 MiB of the file to another file, and the latter to the disk.
fn measure_save_image(benchmark: &Benchmark<'_>) -> Result<()> {
    let vm = benchmark.folder.join("vm");
    let recorded = benchmark.folder.join("recorded");
    fs::write(&recorded, unpack(LIBVIRT_IMAGE)?)?;
    let offset = Image::open(File::open(&recorded)?, &recorded)?
        .header()
        .stream_offset();
    let mut header = vec![0; usize::try_from(offset)?];
    File::open(&recorded)?.read_exact_at(&mut header, 0)?;
    let write = || write_save_image(&vm, &header, &benchmark.source);
    let baseline = "head -c 2097152 vm > out && sync out";
    measure_image(
        benchmark,
        "8 GiB of RAM in an image of libvirt",
        baseline,
        write,
    )?;
    remove(&recorded)?;
    remove(&benchmark.folder.join("out"))?;
    remove(&vm)
}

/// Writes a save image with this header and stream, and a hole in place of RAM.
fn write_save_image(path: &Path, header: &[u8], stream: &[u8]) -> Result<()> {
    let file = create(path)?;
    let (front, back) = stream
        .split_at_checked(FRONT_LEN)
        .ok_or("the stream is too short")?;
    let offset = header.len() as u64;
    file.write_all_at(header, 0)?;
    file.write_all_at(front, offset)?;
    file.write_all_at(back, offset + FRONT_LEN as u64 + RAM_LEN)?;
    Ok(())
}

/// Measures `show`, `check` and `convert --in-place` of the image that `write` makes.
fn measure_image(
    benchmark: &Benchmark<'_>,
    name: &str,
    baseline: &str,
    write: impl Fn() -> Result<()>,
) -> Result<()> {
    fs::write(
        benchmark.folder.join(DESTINATION_FILE),
        &benchmark.destination,
    )?;
    write()?;
    let commands = [
        &["show", "vm"][..],
        &["check", "vm", DESTINATION_FILE],
        &["convert", "vm", DESTINATION_FILE, "--in-place"],
    ];
    for command in commands {
        let reset = || match command {
            ["convert", ..] => write(),
            _ => Ok(()),
        };
        benchmark.measure_row(&format!("{}, {name}", command[0]), command, baseline, reset)?;
    }
    Ok(())
}

/// Measures `check` of states of Firecracker and Cloud Hypervisor. The baseline reads the file.
fn measure_states(benchmark: &Benchmark<'_>) -> Result<()> {
    for (name, file, recording) in STATES {
        let path = benchmark.folder.join(file);
        fs::write(&path, unpack(recording)?)?;
        let baseline = format!("cat {file} > /dev/null");
        let command = ["check", file, HOST];
        benchmark.measure_row(&format!("check, {name}"), &command, &baseline, || Ok(()))?;
        remove(&path)?;
    }
    Ok(())
}
