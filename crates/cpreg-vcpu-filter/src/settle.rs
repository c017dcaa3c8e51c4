//! End of a load: makes the plan for all incoming values, and writes the values that it changes.

use std::collections::BTreeMap;

use cpreg::destination::AcceptedValues;
use cpreg::destination::kernel::{RegisterKind, Scope};
use cpreg::errno::Errno;
use cpreg::plan::{Action, Decision};
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::record::GuestRecord;
use cpreg_kvm::{Vcpu, probe, value};

use crate::event::{ChangedRegister, Event};
use crate::judgement::{self, Judgement};
use crate::phase::{Phase, Step};
use crate::refusal::Refusal;
use crate::vcpu::{Substitution, VcpuFilter};
use crate::vm::{VmFilter, is_fixed_by_run};

impl VmFilter {
    /// Makes the plan for the VM, and gives one vCPU the plan's values.
    ///
    /// # Errors
    /// Returns [`Errno::EINVAL`] if the plan is not ready or the kernel refuses its values.
    pub(crate) fn settle(&mut self, number: usize, kernel: &impl Vcpu) -> Result<(), Errno> {
        let judgement = match self.judgement.take() {
            Some(judgement) => judgement,
            None => match self.make_plan(number, kernel) {
                Ok(judgement) => judgement,
                Err(refusal) => {
                    self.refuse(&[number], refusal);
                    return Err(Errno::EINVAL);
                }
            },
        };
        let result = if judgement.is_ready {
            self.apply(number, kernel, &judgement)
        } else {
            Err(Refusal::from_plan(&judgement, &self.tolerances))
        };
        let result = match result {
            Ok(()) => Ok(()),
            Err(refusal) => {
                self.refuse(&judgement.numbers, refusal);
                Err(Errno::EINVAL)
            }
        };
        self.judgement = Some(judgement);
        result
    }

    /// Refuses the VM if the decision about a register that the host lacks is final. The refusal
    /// also names the registers that arrived earlier and block the load.
    ///
    /// # Errors
    /// Returns [`Errno::EINVAL`] if the VM is refused.
    pub(crate) fn refuse_early(
        &mut self,
        number: usize,
        kernel: &impl Vcpu,
        id: RegisterId,
    ) -> Result<(), Errno> {
        let Some(vcpu) = self.vcpus.get(&number) else {
            return Ok(());
        };
        let Some(incoming) = vcpu.incoming.get(id) else {
            return Ok(());
        };
        let judgement = self.judge_alone(number, id, incoming);
        let mut decisions = judgement.plan.vcpus.iter().flat_map(|plan| &plan.decisions);
        if !decisions.any(|decision| decision.is_final_refusal(&self.tolerances)) {
            return Ok(());
        }
        let mut refusal = Refusal::from_plan(&judgement, &self.tolerances);
        if let Ok(judgement) = self.make_plan(number, kernel) {
            refusal.add_final(&judgement, &self.tolerances);
        }
        self.refuse(&[number], refusal);
        Err(Errno::EINVAL)
    }

    /// Makes the plan for a vCPU that has only this register, on a host that lacks it.
    pub(crate) fn judge_alone(&self, number: usize, id: RegisterId, value: &Value) -> Judgement {
        let mut alone = VcpuFilter {
            phase: Phase::Incoming,
            listed: Some(Vec::new()),
            ..VcpuFilter::default()
        };
        alone.incoming.insert(id, value.clone());
        judgement::judge(
            &self.policy,
            &self.tolerances,
            [(number, &alone)],
            &self.accepted_values,
        )
    }

    /// Reports the refusal once, and keeps the vCPUs from running.
    pub(crate) fn refuse(&mut self, numbers: &[usize], refusal: Refusal) {
        for number in numbers {
            if let Some(vcpu) = self.vcpus.get_mut(number) {
                vcpu.step(Step::PlanNotReady);
            }
        }
        let event = Event::Refused(refusal);
        if !self.events.contains(&event) {
            self.events.push(event);
        }
    }

    /// Makes the plan. Trial writes find the accepted values of registers whose incoming value the
    /// kernel did not keep. If the plan is not ready, they also find those of all other registers.
    fn make_plan(&mut self, number: usize, kernel: &impl Vcpu) -> Result<Judgement, Refusal> {
        let vcpus = || self.vcpus.values();
        let mut questionable: Vec<RegisterId> = vcpus()
            .flat_map(|vcpu| vcpu.refused_writes.keys().chain(&vcpu.replaced))
            .copied()
            .collect();
        let sets = self.policy.consents.set.iter();
        questionable.extend(sets.map(|set| set.register));
        if self.has_run {
            let incoming = vcpus().flat_map(|vcpu| vcpu.incoming.iter().map(|(id, _)| id));
            questionable.extend(incoming.filter(|id| is_fixed_by_run(*id)));
        }
        let all: Vec<_> = vcpus()
            .flat_map(|vcpu| vcpu.incoming.iter().map(|(id, _)| id))
            .collect();
        self.probe(number, kernel, questionable)?;
        let judgement = self.judge();
        if !judgement.is_ready && self.probe(number, kernel, all)? {
            return Ok(self.judge());
        }
        Ok(judgement)
    }

    fn judge(&self) -> Judgement {
        let vcpus = self.vcpus.iter().map(|(number, vcpu)| (*number, vcpu));
        judgement::judge(&self.policy, &self.tolerances, vcpus, &self.accepted_values)
    }

    /// Tries values of the VM-wide registers among `ids`. Returns `true` if a register was tried
    /// for the first time.
    ///
    /// # Errors
    /// Returns a refusal for a register that does not accept its former value after a trial.
    fn probe(
        &mut self,
        number: usize,
        kernel: &impl Vcpu,
        ids: Vec<RegisterId>,
    ) -> Result<bool, Refusal> {
        let mut has_tried = false;
        for id in ids {
            // The registers are VM-wide, and the VMM may have written them to another vCPU only.
            let is_listed = self.vcpus.values().any(|vcpu| vcpu.is_listed(id));
            let is_known = self.accepted_values.contains_key(&id);
            if is_known || !is_listed || !probe::can_probe(id) {
                continue;
            }
            let Ok(current) = value::read(kernel, id) else {
                continue;
            };
            if self.has_run && is_fixed_by_run(id) {
                let accepted = AcceptedValues::OneOf(current.as_u64().into_iter().collect());
                self.accepted_values.insert(id, accepted);
                // A plan copies a value that equals the own one, and the own one is gone.
                let vcpus = self.vcpus.values_mut();
                for vcpu in vcpus.filter(|vcpu| vcpu.incoming.get(id).is_some()) {
                    vcpu.own.insert(id, current.clone());
                }
                has_tried = true;
                continue;
            }
            // A vCPU may have read the register after a write to another vCPU.
            let mut owns = self.vcpus.values().filter_map(|vcpu| vcpu.own.get(id));
            let Some(first) = owns.next() else {
                continue;
            };
            let other = [first].into_iter().chain(owns).find(|own| **own != current);
            let own = other.unwrap_or(first).clone();
            if own != current && value::write(kernel, id, &own).is_err() {
                continue;
            }
            let record = probe::probe_register(kernel, id);
            let restored = if own == current {
                Ok(())
            } else {
                value::write(kernel, id, &current)
            };
            let record = restored
                .and(record)
                .map_err(|errno| Refusal::from_kernel(number, id, &current, errno))?;
            let guest = GuestRecord {
                registers: vec![record],
                writable: None,
            };
            let accepted = guest
                .to_destination_vcpu()
                .get(id)
                .map_or_else(AcceptedValues::default, |register| {
                    register.accepted_values.clone()
                });
            self.accepted_values.insert(id, accepted);
            has_tried = true;
        }
        Ok(has_tried)
    }

    /// Gives a vCPU the values of the plan, where they differ from the incoming ones.
    fn apply(
        &mut self,
        number: usize,
        kernel: &impl Vcpu,
        judgement: &Judgement,
    ) -> Result<(), Refusal> {
        let (Some(plan), Some(vcpu)) = (judgement.vcpu_plan(number), self.vcpus.get_mut(&number))
        else {
            return Ok(());
        };
        let (mut ignored, mut changed) = (Vec::new(), Vec::new());
        let (mut substitutions, mut kernel_values) = (BTreeMap::new(), BTreeMap::new());
        vcpu.unhide_listed();
        for decision in &plan.decisions {
            let id = decision.register;
            let Some(source) = &decision.source else {
                continue;
            };
            if decision.action == Action::Ignore && decision.is_listed {
                vcpu.hide(id);
            }
            let value = match &decision.action {
                Action::Set(value) | Action::WriteReset(value) => Some(value.clone()),
                Action::KeepAtReset => vcpu.own.get(id).cloned(),
                // The VM may lack a register whose value is still the first one.
                Action::Ignore if vcpu.incoming.get(id).is_none() => continue,
                Action::Ignore => None,
                _ => {
                    let is_incoming = vcpu.incoming.get(id).is_some();
                    // The plan's ID registers, written before, may show the register again. A
                    // write to another vCPU may have changed a VM-wide register.
                    let is_shared = RegisterKind::from_id(id).scope() == Scope::Vm;
                    if vcpu.refused_writes.contains_key(&id) || is_shared && is_incoming {
                        write(number, kernel, decision, source)?;
                        vcpu.refused_writes.remove(&id);
                    }
                    if let Some(held) = decision.replaced_value.clone().filter(|_| is_incoming) {
                        kernel_values.insert(id, held.clone());
                        changed.push(ChangedRegister {
                            register: id,
                            from: source.clone(),
                            to: held,
                        });
                    }
                    continue;
                }
            };
            let Some(value) = value else {
                ignored.push((id, source.clone()));
                substitutions.insert(id, Substitution::None);
                continue;
            };
            write(number, kernel, decision, &value)?;
            if value != *source {
                changed.push(ChangedRegister {
                    register: id,
                    from: source.clone(),
                    to: value.clone(),
                });
            }
            substitutions.insert(id, Substitution::Value(value));
        }
        let has_changed =
            vcpu.substitutions != substitutions || vcpu.kernel_values != kernel_values;
        vcpu.substitutions = substitutions;
        vcpu.kernel_values = kernel_values;
        vcpu.step(Step::PlanReady);
        if !vcpu.hidden.is_empty() {
            let lacking = vcpu.remembered.keys().chain(vcpu.hidden.keys());
            let lacking = lacking.copied().collect();
            self.report_list(lacking, Vec::new());
        }
        if has_changed {
            self.events.push(Event::Loaded {
                vcpu: number,
                ignored,
                changed,
            });
        }
        Ok(())
    }
}

/// Writes the value of a decision, unless the kernel holds it.
///
/// KVM refuses other values of VM-wide registers after the first run of a vCPU, and the VM's other
/// vCPUs run later.
fn write(
    number: usize,
    kernel: &impl Vcpu,
    decision: &Decision,
    value: &Value,
) -> Result<(), Refusal> {
    let id = decision.register;
    let held = decision.replaced_value.as_ref().unwrap_or(value);
    if value::read(kernel, id).as_ref() == Ok(held) {
        return Ok(());
    }
    value::write(kernel, id, value).map_err(|errno| Refusal::from_kernel(number, id, value, errno))
}
