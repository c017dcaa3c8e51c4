//! [`VcpuThreads`]: a thread for each vCPU, and how they are stopped.
//!
//! Whoever stops a vCPU gets its [`VcpuFd`] back from the thread, so that nobody can read or write registers of one that runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::memory::Memory;
use crate::migrate::Failure;
use crate::report::{REPORT_BASE, REPORT_SIZE, ReportDevice};

/// The threads.
#[derive(Debug)]
pub struct VcpuThreads {
    threads: Vec<JoinHandle<(VcpuFd, Result<(), Failure>)>>,
    stop_flag: Arc<AtomicBool>,
    start_flag: Arc<AtomicBool>,
}

/// Its only purpose is to interrupt KVM_RUN.
extern "C" fn on_kick(_: std::ffi::c_int, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {}

impl VcpuThreads {
    /// Starts a thread for each, and lets none run its vCPU before all are there.
    ///
    /// # Errors
    /// If a thread cannot be had; then no vCPU has run.
    pub fn start(
        vcpus: Vec<VcpuFd>,
        report: &Arc<ReportDevice>,
        memory: &Arc<Memory>,
    ) -> Result<Self, Failure> {
        register_signal_handler(SIGRTMIN(), on_kick)
            .map_err(|error| Failure::new("cannot handle a signal", error))?;
        let mut running = Self {
            threads: Vec::with_capacity(vcpus.len()),
            stop_flag: Arc::default(),
            start_flag: Arc::default(),
        };
        for (number, mut vcpu) in vcpus.into_iter().enumerate() {
            let (stop, go) = (
                Arc::clone(&running.stop_flag),
                Arc::clone(&running.start_flag),
            );
            let (report, memory) = (Arc::clone(report), Arc::clone(memory));
            let thread = thread::Builder::new().name(format!("vcpu{number}"));
            let started = thread.spawn(move || {
                while !go.load(Ordering::Acquire) {
                    if stop.load(Ordering::Acquire) {
                        return (vcpu, Ok(()));
                    }
                    thread::park();
                }
                let result = run(&mut vcpu, number, &stop, &report, &memory);
                (vcpu, result)
            });
            match started {
                Ok(thread) => running.threads.push(thread),
                Err(error) => {
                    running.stop()?;
                    return Err(Failure::new("cannot start a thread", error));
                }
            }
        }
        running.start_flag.store(true, Ordering::Release);
        for thread in &running.threads {
            thread.thread().unpark();
        }
        Ok(running)
    }

    /// Stops all threads and takes the vCPUs back.
    ///
    /// # Errors
    /// If a vCPU failed while it ran.
    pub fn stop(self) -> Result<Vec<VcpuFd>, Failure> {
        self.stop_flag.store(true, Ordering::Release);
        // A signal that comes before the thread is in KVM_RUN is lost: it is sent again until the thread has ended.
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            for thread in self.threads.iter().filter(|it| !it.is_finished()) {
                thread.thread().unpark();
                // The thread may just have ended: then there is nobody to be interrupted.
                let _ = thread.kill(SIGRTMIN());
            }
            thread::sleep(Duration::from_micros(200));
        }
        let mut vcpus = Vec::with_capacity(self.threads.len());
        let mut failed = Ok(());
        for thread in self.threads {
            let (vcpu, result) = thread
                .join()
                .map_err(|_| Failure("the thread of a vCPU ended in disorder".into()))?;
            vcpus.push(vcpu);
            failed = failed.and(result);
        }
        failed.map(|()| vcpus)
    }
}

/// Runs a vCPU until it is to stop.
fn run(
    vcpu: &mut VcpuFd,
    number: usize,
    stop: &AtomicBool,
    report: &ReportDevice,
    memory: &Memory,
) -> Result<(), Failure> {
    while !stop.load(Ordering::Acquire) {
        match vcpu.run() {
            Ok(VcpuExit::MmioWrite(address, data)) => {
                let offset = address.wrapping_sub(REPORT_BASE);
                if offset < REPORT_SIZE {
                    let mut value = [0; 8];
                    for (to, from) in value.iter_mut().zip(data) {
                        *to = *from;
                    }
                    let value = u64::from_le_bytes(value);
                    report.write(number, offset, value, |at| memory.text(at));
                }
            }
            // No device of this VMM can be read.
            Ok(VcpuExit::MmioRead(_, data)) => data.fill(0),
            Ok(exit) => {
                return Err(Failure(format!("vCPU {number} stopped: {exit:?}")));
            }
            Err(error) if is_interruption(error) => {}
            Err(error) => return Err(Failure::new(format!("vCPU {number}: KVM_RUN"), error)),
        }
    }
    // KVM ends an access to a device only when the vCPU runs again: without this the instruction would be lost, or run twice, elsewhere.
    vcpu.set_kvm_immediate_exit(1);
    let ended = vcpu.run().map(|exit| format!("{exit:?}"));
    vcpu.set_kvm_immediate_exit(0);
    match ended {
        Err(error) if is_interruption(error) => Ok(()),
        Err(error) => Err(Failure::new(format!("vCPU {number}: KVM_RUN"), error)),
        Ok(exit) => Err(Failure(format!("vCPU {number} did not stop: {exit}"))),
    }
}

/// EINTR: a signal came. EAGAIN: the vCPU was told to wait a little.
fn is_interruption(error: kvm_ioctls::Error) -> bool {
    matches!(error.errno(), 4 | 11)
}
