//! Benchmark of loading the registers of many vCPUs.
//!
//! Compares planning and loading by cpreg with the minimum, a bare loop of `KVM_SET_ONE_REG` over
//! the same registers and values.

use std::cell::Cell;
use std::time::{Duration, Instant};

use cpreg::destination::Features;
use cpreg::plan::{Consents, Plan};
use cpreg::register::RegisterId;
use cpreg::tolerance::Tolerances;
use cpreg_kvm::errno::to_io_error;
use cpreg_kvm::{Errno, Host, Kvm, Vcpu, Vm as _};
use kvm_ioctls::VcpuFd;

use crate::migrate::Failure;

/// Results of the benchmark. Times are medians.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadStatistics {
    /// Number of registers written, of all vCPUs.
    pub registers: usize,
    /// Number of system calls of a load by cpreg.
    pub calls: usize,
    /// Time to plan the load.
    pub plan: Duration,
    /// Time to carry the plan out.
    pub load: Duration,
    /// Time to write the same registers, in the same order, and nothing else.
    pub bare_load: Duration,
}

/// A vCPU that counts its system calls.
struct CountingVcpu<'a> {
    vcpu: &'a VcpuFd,
    calls: &'a Cell<usize>,
}

impl CountingVcpu<'_> {
    fn count(&self) {
        self.calls.set(self.calls.get() + 1);
    }
}

impl Vcpu for CountingVcpu<'_> {
    fn list(&self) -> Result<Vec<RegisterId>, Errno> {
        self.count();
        self.vcpu.list()
    }

    fn get(&self, id: RegisterId, bytes: &mut [u8]) -> Result<(), Errno> {
        self.count();
        Vcpu::get(self.vcpu, id, bytes)
    }

    fn set(&self, id: RegisterId, bytes: &[u8]) -> Result<(), Errno> {
        self.count();
        Vcpu::set(self.vcpu, id, bytes)
    }

    fn finalize_sve(&self) -> Result<(), Errno> {
        self.count();
        self.vcpu.finalize_sve()
    }
}

/// Runs the benchmark `times` times, with new VMs for each load.
///
/// # Errors
/// Fails with the step that did not work.
pub fn bench(features: Features, vcpus: usize, times: usize) -> Result<LoadStatistics, Failure> {
    let kvm = Kvm::open()?;
    let make = || kvm.create_vm(features, vcpus);
    let destination = cpreg_kvm::probe::probe_destination(&kvm, features, vcpus, "this host")?;
    let source = make()?;
    if features.contains(Features::SVE) {
        for vcpu in source.vcpus() {
            vcpu.finalize_sve()
                .map_err(|errno| Failure::new("cannot finalize SVE", to_io_error(errno)))?;
        }
    }
    let vm = cpreg_kvm::save(source.vcpus())?;
    drop(source);

    let (tolerances, consents) = (Tolerances::default(), Consents::default());
    let (mut plans, mut loads, mut bare_loads) = (Vec::new(), Vec::new(), Vec::new());
    let mut statistics = LoadStatistics::default();
    for _ in 0..times.max(1) {
        let start = Instant::now();
        let plan = Plan::new(&vm, &destination, &tolerances, &consents);
        plans.push(start.elapsed());

        let target = make()?;
        let calls = Cell::new(0);
        let counted: Vec<_> = target
            .vcpus()
            .iter()
            .map(|vcpu| CountingVcpu {
                vcpu,
                calls: &calls,
            })
            .collect();
        let start = Instant::now();
        let loaded = cpreg_kvm::load(&plan, &counted)?;
        loads.push(start.elapsed());
        statistics.registers = loaded.written_registers;
        statistics.calls = calls.get();
        drop(target);

        let target = make()?;
        bare_loads.push(load_bare(&plan, target.vcpus())?);
    }
    statistics.plan = median(plans);
    statistics.load = median(loads);
    statistics.bare_load = median(bare_loads);
    Ok(statistics)
}

/// Writes the registers of the plan without any check.
fn load_bare(plan: &Plan, vcpus: &[VcpuFd]) -> Result<Duration, Failure> {
    let mut writes = Vec::new();
    for (vcpu, plan) in vcpus.iter().zip(&plan.vcpus) {
        let vcpu_writes: Vec<_> = plan
            .writes()
            .into_iter()
            .map(|(id, value)| match value {
                cpreg::register::Value::U64(value) => {
                    let bytes = value.to_le_bytes();
                    let size = id.size_bytes().unwrap_or(bytes.len());
                    (id, bytes.get(..size).unwrap_or(&bytes).to_vec())
                }
                cpreg::register::Value::Bytes(bytes) => (id, bytes.to_vec()),
            })
            .collect();
        writes.push((vcpu, vcpu_writes));
    }
    let start = Instant::now();
    for (vcpu, writes) in &writes {
        let mut must_finalize = writes.iter().any(|(id, _)| *id == RegisterId::SVE_VLS);
        for (id, bytes) in writes {
            if must_finalize && *id != RegisterId::SVE_VLS {
                vcpu.finalize_sve()
                    .map_err(|errno| Failure::new("cannot finalize SVE", to_io_error(errno)))?;
                must_finalize = false;
            }
            Vcpu::set(*vcpu, *id, bytes)
                .map_err(|errno| Failure::new(format!("cannot write {id}"), to_io_error(errno)))?;
        }
    }
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
