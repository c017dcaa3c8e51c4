//! [`VcpuThreads`]: a thread for each vCPU.
//!
//! The thread returns its [`VcpuFd`] when it stops. So no code can read or write registers of a
//! running vCPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::memory::Memory;
use crate::migrate::Failure;
use crate::report::{REPORT_BASE, REPORT_SIZE, ReportDevice};

/// Threads of the running vCPUs.
#[derive(Debug)]
pub struct VcpuThreads {
    threads: Vec<JoinHandle<(VcpuFd, Result<(), Failure>)>>,
    stop_flag: Arc<AtomicBool>,
    start_flag: Arc<AtomicBool>,
}

/// Does nothing. The signal only interrupts KVM_RUN.
extern "C" fn on_kick(_: std::ffi::c_int, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {}

impl VcpuThreads {
    /// Starts a thread for each vCPU. No vCPU runs before all threads exist.
    ///
    /// # Errors
    /// Returns an error if a thread cannot be created. No vCPU has run then.
    pub fn start(
        vcpus: Vec<VcpuFd>,
        report: &Arc<ReportDevice>,
        memory: &Arc<Memory>,
    ) -> Result<Self, Failure> {
        register_signal_handler(SIGRTMIN(), on_kick)
            .map_err(|error| Failure::new("cannot handle a signal", error))?;
        let mut threads = Self {
            threads: Vec::with_capacity(vcpus.len()),
            stop_flag: Arc::default(),
            start_flag: Arc::default(),
        };
        for (number, mut vcpu) in vcpus.into_iter().enumerate() {
            let (stop, go) = (
                Arc::clone(&threads.stop_flag),
                Arc::clone(&threads.start_flag),
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
                Ok(thread) => threads.threads.push(thread),
                Err(error) => {
                    threads.stop()?;
                    return Err(Failure::new("cannot start a thread", error));
                }
            }
        }
        threads.start_flag.store(true, Ordering::Release);
        for thread in &threads.threads {
            thread.thread().unpark();
        }
        Ok(threads)
    }

    /// Stops all threads and takes the vCPUs back.
    ///
    /// # Errors
    /// Returns an error if a vCPU failed while it ran.
    pub fn stop(self) -> Result<Vec<VcpuFd>, Failure> {
        self.stop_flag.store(true, Ordering::Release);
        // A signal before the thread enters KVM_RUN is lost, so it is sent until the thread ends.
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            for thread in self.threads.iter().filter(|thread| !thread.is_finished()) {
                thread.thread().unpark();
                // The thread may have ended just now.
                let _ = thread.kill(SIGRTMIN());
            }
            thread::sleep(Duration::from_micros(200));
        }
        let mut vcpus = Vec::with_capacity(self.threads.len());
        let mut failed = Ok(());
        for thread in self.threads {
            let (vcpu, result) = thread
                .join()
                .map_err(|_| Failure("the thread of a vCPU panicked".into()))?;
            vcpus.push(vcpu);
            failed = failed.and(result);
        }
        failed.map(|()| vcpus)
    }
}

/// Runs a vCPU until the stop flag is set.
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
                    report.write(number, offset, value, |address| memory.text(address));
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
    // KVM completes a device access only in the next KVM_RUN. Without it the instruction would be
    // lost, or run twice at the destination.
    vcpu.set_kvm_immediate_exit(1);
    let result = vcpu.run().map(|exit| format!("{exit:?}"));
    vcpu.set_kvm_immediate_exit(0);
    match result {
        Err(error) if is_interruption(error) => Ok(()),
        Err(error) => Err(Failure::new(format!("vCPU {number}: KVM_RUN"), error)),
        Ok(exit) => Err(Failure(format!("vCPU {number} did not stop: {exit}"))),
    }
}

/// Returns `true` for EINTR, a signal, and for EAGAIN, a request to wait.
fn is_interruption(error: kvm_ioctls::Error) -> bool {
    matches!(error.errno(), 4 | 11)
}
