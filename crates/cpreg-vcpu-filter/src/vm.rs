//! [`VmFilter`]: answers to a VMM's calls about the vCPUs of one VM.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cpreg::destination::AcceptedValues;
use cpreg::destination::kernel::RegisterKind;
use cpreg::errno::Errno;
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg_kvm::{Vcpu, value};

use crate::event::Event;
use crate::judgement::Judgement;
use crate::list;
use crate::phase::{Phase, Step};
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::vcpu::{Substitution, VcpuFilter, is_judged};

/// Filter of the calls about one VM.
///
/// A vCPU has the number that the VMM gave it. The kernel's side of a call is the argument
/// `kernel`, which must be that vCPU.
#[derive(Debug)]
pub struct VmFilter {
    pub(crate) policy: Arc<Policy>,
    pub(crate) tolerances: Tolerances,
    pub(crate) vcpus: BTreeMap<usize, VcpuFilter>,
    /// Values that VM-wide registers accept, as trial writes showed.
    pub(crate) accepted_values: BTreeMap<RegisterId, AcceptedValues>,
    /// Plan for the incoming values; `None` after a change of them.
    pub(crate) judgement: Option<Judgement>,
    /// Values with which the VMM replaced a setting, and that were reported.
    pub(crate) replaced_settings: BTreeSet<(RegisterId, u64)>,
    /// `true` if the settings of a guest's vCPU were reported.
    pub(crate) has_reported_settings: bool,
    /// Remembered and dropped registers of the last reported list.
    reported_list: [Vec<RegisterId>; 2],
    /// `true` once a vCPU has run. KVM then keeps the ID registers as they are.
    pub(crate) has_run: bool,
    /// Kernel's list of the call before this one.
    pub(crate) last_list: Option<LastList>,
    pub(crate) events: Vec<Event>,
}

/// Kernel's list for a vCPU without incoming values.
#[derive(Clone, Debug)]
pub(crate) struct LastList {
    vcpu: usize,
    ids: Vec<RegisterId>,
    /// `true` if the VMM had too little memory for it.
    is_kept: bool,
}

impl VmFilter {
    /// Returns the filter of a VM without vCPUs.
    pub fn new(policy: Arc<Policy>) -> Self {
        Self {
            tolerances: policy.tolerances(),
            policy,
            vcpus: BTreeMap::new(),
            accepted_values: BTreeMap::new(),
            judgement: None,
            replaced_settings: BTreeSet::new(),
            has_reported_settings: false,
            reported_list: [const { Vec::new() }; 2],
            has_run: false,
            last_list: None,
            events: Vec::new(),
        }
    }

    /// Returns the state of a vCPU.
    pub fn vcpu(&self, number: usize) -> Option<&VcpuFilter> {
        self.vcpus.get(&number)
    }

    /// Returns the events since the last call, and forgets them.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns `true` if a read or a write of the register passes to the kernel and changes nothing
    /// here. The caller then makes the call without the filter.
    pub fn passes(&self, number: usize, id: RegisterId) -> bool {
        if self.has_setting(id) {
            return false;
        }
        if !self.policy.is_receiving {
            return true;
        }
        let vcpu = self.vcpus.get(&number);
        vcpu.is_some_and(|vcpu| {
            let is_answered_here =
                vcpu.remembered.contains_key(&id) || vcpu.hidden.contains_key(&id);
            vcpu.phase == Phase::Running && !is_answered_here
        })
    }

    /// Returns `true` if the vCPU has run since its initialisation.
    pub fn is_running(&self, number: usize) -> bool {
        let vcpu = self.vcpus.get(&number);
        vcpu.is_some_and(|vcpu| vcpu.phase == Phase::Running)
    }

    /// Adds a vCPU that the VMM created.
    pub fn add_vcpu(&mut self, number: usize) {
        self.vcpus.entry(number).or_default();
    }

    /// Answers `KVM_GET_REG_LIST`.
    ///
    /// A VMM that starts to receive a VM gets the registers that the VM may have, until the vCPU
    /// has loaded or run.
    ///
    /// # Errors
    /// Returns the kernel's errno.
    pub fn list(&mut self, number: usize, kernel: &impl Vcpu) -> Result<Vec<RegisterId>, Errno> {
        let list = match self.last_list.take() {
            Some(last) if last.is_kept && last.vcpu == number => last.ids,
            _ => kernel.list()?,
        };
        let vcpu = self.vcpus.entry(number).or_default();
        // A VMM that lists the registers of a loaded vCPU saves the VM. QEMU does not: its list is
        // that of the vCPU's creation.
        let is_save = matches!(vcpu.phase, Phase::Ready | Phase::Running);
        if is_save || !self.policy.is_receiving {
            let dropped = self.policy.drop.iter().copied();
            let dropped = dropped.filter(|id| list.contains(id)).collect();
            if !is_save {
                self.report_list(Vec::new(), dropped);
            }
            return Ok(list::without_dropped(&self.policy, list));
        }
        if vcpu.phase == Phase::Own {
            let mut listed = list.clone();
            listed.sort_unstable();
            vcpu.listed = Some(listed);
            self.last_list = Some(LastList {
                vcpu: number,
                ids: list.clone(),
                is_kept: false,
            });
        }
        let list = list::with_candidates(&self.policy, &self.tolerances, vcpu, list);
        let remembered = vcpu.remembered.keys().copied().collect();
        // The plan has the remembered registers.
        self.judgement = None;
        self.report_list(remembered, Vec::new());
        Ok(list)
    }

    /// Records that the VMM had too little memory for the list. Its next call gets the same list
    /// without a call to the kernel, if no other call precedes it.
    pub fn keep_list(&mut self, number: usize) {
        if let Some(last) = &mut self.last_list {
            last.is_kept = last.vcpu == number;
        }
    }

    /// Reports the difference of the list to the kernel's, once.
    pub(crate) fn report_list(&mut self, remembered: Vec<RegisterId>, dropped: Vec<RegisterId>) {
        let list = [remembered, dropped];
        if self.reported_list != list {
            self.reported_list.clone_from(&list);
            let [remembered, dropped] = list;
            self.events.push(Event::Listed {
                remembered,
                dropped,
            });
        }
    }

    /// Answers `KVM_GET_ONE_REG`.
    ///
    /// # Errors
    /// Returns the kernel's errno.
    pub fn get(
        &mut self,
        number: usize,
        kernel: &impl Vcpu,
        id: RegisterId,
        bytes: &mut [u8],
    ) -> Result<(), Errno> {
        self.last_list = None;
        let is_filtered = self.is_filtered(id);
        let vcpu = self.vcpus.entry(number).or_default();
        if let Some(remembered) = vcpu.remembered.get(&id) {
            return copy_value(id, remembered.current, bytes);
        }
        if let Err(errno) = kernel.get(id, bytes) {
            return match vcpu.hidden_value(id) {
                Some(value) if errno == Errno::ENOENT => copy_value(id, value, bytes),
                _ => Err(errno),
            };
        }
        if is_filtered && vcpu.phase == Phase::Own && is_judged(id) {
            vcpu.own.insert(id, Value::from_le_bytes(bytes));
            self.judgement = None;
        }
        Ok(())
    }

    /// Answers `KVM_SET_ONE_REG`.
    ///
    /// # Errors
    /// Returns the kernel's errno, or [`Errno::EINVAL`] if the incoming VM is refused.
    pub fn set(
        &mut self,
        number: usize,
        kernel: &impl Vcpu,
        id: RegisterId,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        self.last_list = None;
        self.report_replaced_setting(number, id, bytes);
        if !self.is_filtered(id) {
            return kernel.set(id, bytes);
        }
        let vcpu = self.vcpus.entry(number).or_default();
        if id == RegisterId::CORE_PSTATE {
            vcpu.pstate = Value::from_le_bytes(bytes).as_u64();
        }
        if !is_judged(id) {
            return kernel.set(id, bytes);
        }
        if id.size_bytes() != Some(bytes.len()) {
            return kernel.set(id, bytes);
        }
        let written = Value::from_le_bytes(bytes);
        match vcpu.phase {
            Phase::Running => {
                if !vcpu.remembered.contains_key(&id) {
                    match kernel.set(id, bytes) {
                        Err(Errno::ENOENT) if vcpu.hidden.contains_key(&id) => {}
                        result => return result,
                    }
                }
                vcpu.remember_write(id, &written);
                return Ok(());
            }
            Phase::Refused => return Err(Errno::EINVAL),
            Phase::Own | Phase::Incoming | Phase::Ready => {}
        }
        // QEMU writes the registers in one order. The first register again begins the pass that
        // follows the load of all vCPUs.
        let starts_pass = *vcpu.pass_start.get_or_insert(id) == id;
        if starts_pass
            && vcpu.phase == Phase::Incoming
            && vcpu.known_value(id) == Some(written.clone())
        {
            self.settle(number, kernel)?;
        }
        self.write(number, kernel, id, bytes, &written)
    }

    /// Writes a judged register in a phase before the first run.
    fn write(
        &mut self,
        number: usize,
        kernel: &impl Vcpu,
        id: RegisterId,
        bytes: &[u8],
        written: &Value,
    ) -> Result<(), Errno> {
        let vcpu = self.vcpus.entry(number).or_default();
        if vcpu.known_value(id).as_ref() == Some(written) {
            return self.repeat(number, kernel, id, bytes);
        }
        if vcpu.listed.is_none() {
            let Ok(mut listed) = kernel.list() else {
                return kernel.set(id, bytes);
            };
            listed.sort_unstable();
            vcpu.listed = Some(listed);
        }
        if !vcpu.is_listed(id) {
            return self.remember(number, kernel, id, written);
        }
        if vcpu.own.get(id).is_none() {
            let own = value::read(kernel, id)?;
            let is_own = own == *written;
            vcpu.own.insert(id, own);
            // The vCPU held another vCPU's value of a VM-wide register in the plan so far.
            self.judgement = None;
            if is_own {
                // The plan had another vCPU's value.
                vcpu.substitutions.remove(&id);
                return kernel.set(id, bytes);
            }
        }
        let result = kernel.set(id, bytes);
        match result {
            Ok(()) => {
                vcpu.refused_writes.remove(&id);
                let is_replaced = cpreg_kvm::probe::can_probe(id)
                    && value::read(kernel, id).as_ref() != Ok(written);
                if is_replaced {
                    vcpu.replaced.insert(id);
                } else {
                    vcpu.replaced.remove(&id);
                }
            }
            Err(errno) if is_refusal(errno) => {
                vcpu.refused_writes.insert(id, errno);
            }
            Err(errno) => return Err(errno),
        }
        vcpu.remember_write(id, written);
        vcpu.incoming.insert(id, written.clone());
        vcpu.step(Step::IncomingWrite);
        self.judgement = None;
        Ok(())
    }

    /// Writes the value of a register that the VMM has written or read before.
    fn repeat(
        &mut self,
        number: usize,
        kernel: &impl Vcpu,
        id: RegisterId,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let vcpu = self.vcpus.entry(number).or_default();
        let result = match (vcpu.phase, vcpu.substitutions.get(&id)) {
            (Phase::Ready, Some(Substitution::Value(value))) => value::write(kernel, id, value),
            (Phase::Ready, Some(Substitution::None)) => return Ok(()),
            _ if vcpu.refused_writes.contains_key(&id) => return Ok(()),
            _ if vcpu.remembered.contains_key(&id) || vcpu.is_unlisted_incoming(id) => {
                return Ok(());
            }
            _ => kernel.set(id, bytes),
        };
        match result {
            Err(Errno::ENOENT) if vcpu.hidden.contains_key(&id) => Ok(()),
            // An incoming ID register may hide a register that the VM lacks.
            Err(errno) if vcpu.phase == Phase::Incoming && is_refusal(errno) => {
                vcpu.refused_writes.insert(id, errno);
                self.judgement = None;
                Ok(())
            }
            Err(errno) if vcpu.phase == Phase::Ready && is_refusal(errno) => {
                let value = Value::from_le_bytes(bytes);
                let refusal = Refusal::from_kernel(number, id, &value, errno);
                self.refuse(&[number], refusal);
                Err(Errno::EINVAL)
            }
            result => result,
        }
    }

    /// Remembers the incoming value of a register that the host lacks, and refuses the VM if no
    /// other register can change the decision about it.
    fn remember(
        &mut self,
        number: usize,
        kernel: &impl Vcpu,
        id: RegisterId,
        written: &Value,
    ) -> Result<(), Errno> {
        let vcpu = self.vcpus.entry(number).or_default();
        vcpu.remember_write(id, written);
        vcpu.incoming.insert(id, written.clone());
        vcpu.step(Step::IncomingWrite);
        self.judgement = None;
        self.refuse_early(number, kernel, id)
    }

    /// Checks a vCPU whose state the VMM has written (`KVM_SET_MP_STATE`).
    ///
    /// # Errors
    /// Returns [`Errno::EINVAL`] if the incoming VM is refused.
    pub fn check_state(&mut self, number: usize, kernel: &impl Vcpu) -> Result<(), Errno> {
        self.last_list = None;
        match self.vcpus.entry(number).or_default().phase {
            Phase::Incoming => self.settle(number, kernel),
            Phase::Refused => Err(Errno::EINVAL),
            Phase::Own | Phase::Ready | Phase::Running => Ok(()),
        }
    }

    /// Checks a vCPU before it runs (`KVM_RUN`).
    ///
    /// # Errors
    /// Returns [`Errno::EINVAL`] if the vCPU must not run. The caller ends the VMM.
    pub fn check_run(&mut self, number: usize, kernel: &impl Vcpu) -> Result<(), Errno> {
        self.last_list = None;
        let vcpu = self.vcpus.entry(number).or_default();
        if vcpu.phase == Phase::Running {
            return Ok(());
        }
        if !vcpu.failed_settings.is_empty() {
            let settings = vcpu.failed_settings.clone();
            self.events.push(Event::SettingsRefused {
                vcpu: number,
                settings,
            });
            return Err(Errno::EINVAL);
        }
        let phases = || self.vcpus.values().map(|vcpu| vcpu.phase);
        if phases().any(|phase| phase == Phase::Refused) {
            return Err(Errno::EINVAL);
        }
        if phases().any(Phase::has_incoming_values) {
            self.settle(number, kernel)?;
        }
        let vcpu = self.vcpus.entry(number).or_default();
        vcpu.step(Step::Run);
        if vcpu.phase != Phase::Running {
            return Err(Errno::EINVAL);
        }
        if !std::mem::replace(&mut self.has_run, true) {
            self.accepted_values.retain(|id, _| !is_fixed_by_run(*id));
        }
        Ok(())
    }

    /// Returns `true` if the filter judges writes of this register before the vCPU runs.
    fn is_filtered(&self, id: RegisterId) -> bool {
        self.policy.is_receiving || self.has_setting(id)
    }
}

/// Copies the value of a register to the VMM's memory.
fn copy_value(id: RegisterId, value: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    if id.size_bytes() != Some(bytes.len()) {
        return Err(Errno::EINVAL);
    }
    for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()) {
        *to = from;
    }
    Ok(())
}

/// Returns `true` if KVM fixes the register's value at the first run of the VM.
pub(crate) fn is_fixed_by_run(id: RegisterId) -> bool {
    RegisterKind::from_id(id) == RegisterKind::Identification
}

/// Returns `true` if KVM refuses a register or its value with this error. Other errors are about
/// the call.
const fn is_refusal(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINVAL | Errno::ENOENT | Errno::EBUSY | Errno::EPERM
    )
}
