//! Many VMs at every recorded host: `cpreg matrix VMS --to all`.
//!
//! Each VM is the device state of a recorded stream, without RAM, with other values in the
//! registers in which the VMs of a fleet differ: counters and timers, TCR_EL1, the tables and
//! vectors, and the keys of pointer authentication. The recordings differ in kernels, CPU models,
//! features, devices and numbers of vCPUs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cpreg::register::{RegisterId, Value};
use cpreg::vm::Vcpu;
use cpreg_stream::{ReadAt, Stream};
use cpreg_testdata::large_stream::{self, Size};
use e2e_framework::Result;

use crate::commands::Benchmark;
use crate::inputs::{RECORDED_SIZE, SOURCE, create, remove, unpack_stream};
use crate::measure::{self, Cost};
use crate::table::mebibytes;

/// Numbers of VMs, if the user gives none.
pub(crate) const VM_COUNTS: [usize; 3] = [100, 1000, 10_000];
/// Recorded streams.
const RECORDINGS: [&str; 7] = [
    "kvm/5.10.223__q10.0__neoverse-n1__virt10.0-smp1",
    "kvm/6.1.176__q7.2__neoverse-n1__virt7.2-smp4",
    "kvm/6.12.107__q10.0__max__virt10.0-smp4",
    "kvm/6.16.12__q10.0__neoverse-n1__virt10.0-smp1-pmuoff",
    "kvm/7.3.4__q10.0__neoverse-n1__virt10.0-smp2-virtio",
    "kvm/7.3.4__q11.1__max__virt10.0-smp1",
    "kvm/7.3.4__q11.1__neoverse-n1__virt11.1-smp4",
];
/// Numbers of vCPUs of further VMs, which are copies of the recorded VM's vCPU.
const LARGE_VCPU_COUNTS: [u32; 2] = [8, 16];
/// Folder with the VMs.
const FOLDER: &str = "vms";
/// Registers that get other values in each VM, with the bits that change. A kernel sets them alike
/// on all its vCPUs.
const VM_REGISTERS: [(&str, u64); 3] = [
    ("TCR_EL1", 0x8),
    ("TTBR1_EL1", 0x0000_ffff_ffff_f000),
    ("VBAR_EL1", 0x0000_ffff_ffff_f800),
];
/// Registers that get other values in each vCPU, with the bits that change.
const VCPU_REGISTERS: [(&str, u64); 11] = [
    ("KVM_REG_ARM_TIMER_CVAL", 0x0000_ffff_ffff_ffff),
    ("KVM_REG_ARM_TIMER_CNT", 0x0000_ffff_ffff_ffff),
    ("KVM_REG_ARM_TIMER_CTL", 0x3),
    ("TTBR0_EL1", 0x0000_ffff_ffff_f000),
    ("TPIDR_EL0", u64::MAX),
    ("TPIDR_EL1", u64::MAX),
    ("CONTEXTIDR_EL1", 0xffff),
    ("APIAKEYLO_EL1", u64::MAX),
    ("APIAKEYHI_EL1", u64::MAX),
    ("APIBKEYLO_EL1", u64::MAX),
    ("PMCCNTR_EL0", 0xffff_ffff),
];

/// Device state of a recorded VM, without RAM.
pub(crate) struct Template {
    bytes: Vec<u8>,
    stream: Stream,
}

/// Measures a matrix for each number of VMs, and prints the curve.
///
/// # Errors
/// Returns an error if something cannot be made or run.
pub(crate) fn run(benchmark: &Benchmark<'_>, counts: &[usize]) -> Result<()> {
    let templates = templates(benchmark)?;
    let folder = benchmark.folder.join(FOLDER);
    fs::create_dir(&folder)?;
    println!(
        "{:>8} {:>10} {:>10} {:>12} {:>12} {:>10} {:>12}",
        "VMs", "time", "CPU time", "time a VM", "CPU a VM", "memory", "input"
    );
    let mut written = 0;
    let mut input = 0;
    for count in counts {
        while written < *count {
            input += write_vm(&templates, &folder, written)?;
            written += 1;
        }
        if written > *count {
            return Err("the numbers of VMs must rise".into());
        }
        let cost = measure_matrix(benchmark)?;
        let cpu_time = cost.cpu_time.ok_or("the run has no CPU time")?;
        print_row(*count, cost, cpu_time, input);
    }
    Ok(())
}

/// Runs the command once.
fn measure_matrix(benchmark: &Benchmark<'_>) -> Result<Cost> {
    // Exit status 3 says that some cells are unknown, as in every matrix of this size.
    let script = "\"$0\" matrix \"$1\" --to all --loader qemu-10.0 --format csv || test $? -eq 3";
    measure::run(
        benchmark.folder,
        &["sh", "-c", script, &benchmark.cpreg, FOLDER],
    )
}

fn print_row(count: usize, cost: Cost, cpu_time: Duration, input: u64) {
    let each = |time: Duration| time / u32::try_from(count).unwrap_or(u32::MAX).max(1);
    // `Debug` rounds to the given precision but does not pad.
    let text = |time: Duration| format!("{time:.1?}");
    println!(
        "{count:>8} {:>10} {:>10} {:>12} {:>12} {:>6.0} MiB {:>8.0} MiB",
        text(cost.time),
        text(cpu_time),
        text(each(cost.time)),
        text(each(cpu_time)),
        mebibytes(cost.peak_memory),
        mebibytes(input),
    );
}

/// Returns the VMs from which all others are made.
pub(crate) fn templates(benchmark: &Benchmark<'_>) -> Result<Vec<Template>> {
    let mut streams = Vec::new();
    for recording in RECORDINGS {
        streams.push(unpack_stream(recording)?);
    }
    let path = benchmark.folder.join("large");
    for vcpus in LARGE_VCPU_COUNTS {
        let size = Size {
            vcpus,
            ..RECORDED_SIZE
        };
        large_stream::write(&benchmark.source, size, &create(&path)?)?;
        streams.push(fs::read(&path)?);
    }
    remove(&path)?;
    streams.iter().map(|stream| Template::new(stream)).collect()
}

impl Template {
    /// Returns the device state in a stream.
    fn new(stream: &[u8]) -> Result<Self> {
        let edit = Stream::open(&stream)?.without_ram(&[])?;
        let mut bytes = vec![0; usize::try_from(edit.new_length())?];
        edit.apply_to(&stream).read_exact_at(&mut bytes, 0)?;
        let stream = Stream::open(&bytes)?;
        Ok(Self { bytes, stream })
    }

    /// Returns the device state with other values, which depend on the number of the VM.
    fn vary(&self, number: usize) -> Result<Vec<u8>> {
        let mut vm = self.stream.vm()?;
        let number = u64::try_from(number)?;
        let mut random = Random(number);
        for vcpu in &mut vm.vcpus {
            vary(vcpu, &VM_REGISTERS, &mut Random(!number))?;
            vary(vcpu, &VCPU_REGISTERS, &mut random)?;
        }
        let edits = self.stream.diff_to(&vm)?;
        let edit = self.stream.edit_unverified(&self.bytes, &edits)?;
        let mut bytes = vec![0; usize::try_from(edit.new_length())?];
        edit.apply_to(&self.bytes).read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

fn vary(vcpu: &mut Vcpu, registers: &[(&str, u64)], random: &mut Random) -> Result<()> {
    for (name, mask) in registers {
        let id: RegisterId = name.parse()?;
        let bits = random.next() & mask;
        // A VM without the feature lacks the register.
        if let Some(value) = vcpu.registers.get_u64(id) {
            let value = value & !mask | bits;
            vcpu.registers.insert(id, Value::U64(value));
        }
    }
    Ok(())
}

/// Returns the name of the recorded host on which a VM ran.
pub(crate) fn host_name(number: usize) -> Option<String> {
    let recording = number % (RECORDINGS.len() + LARGE_VCPU_COUNTS.len());
    // The large VMs are copies of this one.
    let recording = RECORDINGS.get(recording).unwrap_or(&SOURCE);
    let mut parts = recording.strip_prefix("kvm/")?.split("__");
    let (kernel, _, cpu) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("linux-{kernel}/{cpu}"))
}

/// Returns the name of the file of a VM.
pub(crate) fn file_name(number: usize) -> String {
    format!("vm-{number:05}.stream")
}

/// Writes a VM, and returns its length in bytes.
pub(crate) fn write_vm(templates: &[Template], folder: &Path, number: usize) -> Result<u64> {
    let template = &templates[number % templates.len()];
    let bytes = template.vary(number)?;
    fs::write(folder.join(file_name(number)), &bytes)?;
    Ok(bytes.len() as u64)
}

/// Sequence of numbers that is the same in each run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
