//! Settings with which a VM is born.

use cpreg::errno::Errno;
use cpreg::plan::SetConsent;
use cpreg::register::{RegisterId, Value};
use cpreg_kvm::{Vcpu, value};

use crate::event::Event;
use crate::phase::Phase;
use crate::vcpu::FailedSetting;
use crate::vm::VmFilter;

/// Use of a vCPU, as its initialisation shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a guest has PSCI or not")]
pub enum VcpuUse {
    /// The vCPU is made to run a guest.
    Guest,
    /// The vCPU is made to look at the host. QEMU makes a VM for this before its own.
    Trial,
}

impl VcpuUse {
    /// Returns the use of a vCPU with these features, the first word of `kvm_vcpu_init.features`.
    ///
    /// Guests have PSCI 0.2 or later in all VMMs, because they start their vCPUs with it. QEMU asks
    /// for SVE, pointer authentication and a PMU in its trial VM, and never for PSCI.
    pub const fn from_features(features: u32) -> Self {
        /// `KVM_ARM_VCPU_PSCI_0_2`.
        const PSCI_0_2: u32 = 1 << 2;
        if features & PSCI_0_2 == 0 {
            Self::Trial
        } else {
            Self::Guest
        }
    }
}

impl VmFilter {
    /// Records that the VMM initialised a vCPU (`KVM_ARM_VCPU_INIT`), and makes the settings of the
    /// policy.
    ///
    /// On a trial vCPU, a setting that the kernel does not accept prevents the first run, and no
    /// other call.
    ///
    /// # Errors
    /// Returns [`Errno::EINVAL`] if the kernel does not accept a setting on a guest's vCPU. The
    /// caller ends the VMM.
    pub fn initialize(
        &mut self,
        number: usize,
        vcpu_use: VcpuUse,
        kernel: &impl Vcpu,
    ) -> Result<(), Errno> {
        self.last_list = None;
        self.judgement = None;
        // Only incoming ID registers change the kernel's list.
        let has_list = self.vcpus.values().all(|vcpu| vcpu.phase() == Phase::Own);
        let vcpu = self.vcpus.entry(number).or_default();
        let listed = vcpu.listed.take().filter(|_| has_list);
        vcpu.reset();
        vcpu.listed = listed;
        let settings = self.policy.born_with.iter();
        let failed: Vec<_> = settings
            .filter_map(|setting| {
                let errno = self.make_setting(number, *setting, kernel).err()?;
                Some(FailedSetting {
                    setting: *setting,
                    errno,
                })
            })
            .collect();
        if failed.is_empty() {
            let is_guest = vcpu_use == VcpuUse::Guest && !self.policy.born_with.is_empty();
            if is_guest && !std::mem::replace(&mut self.has_reported_settings, true) {
                self.events.push(Event::SettingsMade {
                    settings: self.policy.born_with.clone(),
                });
            }
            return Ok(());
        }
        if vcpu_use == VcpuUse::Trial {
            self.vcpus.entry(number).or_default().failed_settings = failed;
            return Ok(());
        }
        self.events.push(Event::SettingsRefused {
            vcpu: number,
            settings: failed,
        });
        Err(Errno::EINVAL)
    }

    /// Makes a setting.
    ///
    /// A register that the host lacks needs no setting if the table ignores the value: hosts with
    /// the register and hosts without it then show the guest the same.
    fn make_setting(
        &self,
        number: usize,
        setting: SetConsent,
        kernel: &impl Vcpu,
    ) -> Result<(), Errno> {
        let id = setting.register;
        let current = match value::read(kernel, id) {
            Err(Errno::ENOENT) => {
                let value = Value::U64(setting.apply(0));
                let judgement = self.judge_alone(number, id, &value);
                return if judgement.is_ready {
                    Ok(())
                } else {
                    Err(Errno::ENOENT)
                };
            }
            current => current?,
        };
        let current = current.as_u64().ok_or(Errno::EINVAL)?;
        let value = setting.apply(current);
        if value == current {
            return Ok(());
        }
        value::write(kernel, id, &Value::U64(value))?;
        // KVM may accept a value and keep another.
        if value::read(kernel, id)? == Value::U64(value) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// Returns `true` if the policy sets the register.
    pub(crate) fn has_setting(&self, id: RegisterId) -> bool {
        let mut settings = self.policy.born_with.iter();
        settings.any(|setting| setting.register == id)
    }

    /// Reports a value of the VMM that differs from a setting, once for the VM.
    pub(crate) fn report_replaced_setting(&mut self, number: usize, id: RegisterId, bytes: &[u8]) {
        let Some(value) = Value::from_le_bytes(bytes).as_u64() else {
            return;
        };
        let mut settings = self.policy.born_with.iter();
        let differs =
            settings.any(|setting| setting.register == id && setting.apply(value) != value);
        if differs && self.replaced_settings.insert((id, value)) {
            self.events.push(Event::SettingReplaced {
                vcpu: number,
                register: id,
                value,
            });
        }
    }
}
