//! [`Gradual`]: a check of a VM whose vCPUs come one after the other, so that hardly anything is left to do when the last one has come.
//!
//! It answers less than [`Check`] does, and never something else: each vCPU is checked alone, and so is what has to agree between vCPUs.
//! Where a vCPU alone does not tell, it says nothing, and the check of the whole VM tells. What it lets go on the check of the whole VM
//! lets go on, with the same result.

use alloc::vec;
use alloc::vec::Vec;

use super::check::{Check, Verdict};
use super::{Consents, merge};
use crate::destination::{Accelerator, Destination, HostVcpu};
use crate::tolerance::Tolerances;
use crate::vm::{Extension, Vcpu, Vm};

/// A VM of which not all vCPUs have come.
#[derive(Debug)]
pub struct Gradual<'g> {
    tolerances: &'g Tolerances,
    consents: &'g Consents,
    /// The destination with one vCPU: that which the newest one is judged by.
    there: Destination,
    /// Those that judge the next ones; behind them the last one judges all.
    hosts: alloc::vec::IntoIter<HostVcpu>,
    /// The first vCPU that came, with which the others must agree.
    first: Option<Vcpu>,
    come: usize,
    /// A vCPU alone did not tell.
    is_open: bool,
    all_load_as_they_are: bool,
    all_load_converted: bool,
}

impl<'g> Gradual<'g> {
    /// A VM of which nothing has come.
    pub fn new(
        destination: &Destination,
        tolerances: &'g Tolerances,
        consents: &'g Consents,
    ) -> Self {
        let there = Destination {
            vcpus: Vec::new(),
            shape: destination.shape.as_ref().map(|shape| crate::shape::Shape {
                machine: shape.machine.clone(),
                ..Default::default()
            }),
            name: destination.name.clone(),
            ..*destination
        };
        let hosts = &destination.vcpus;
        // Which loaders can be there is told by the first vCPU's list.
        let is_one_kind = hosts
            .first()
            .is_some_and(|first| hosts.iter().all(|host| is_alike(first, host)));
        Self {
            tolerances,
            consents,
            there,
            hosts: hosts.clone().into_iter(),
            first: None,
            come: 0,
            is_open: !is_one_kind,
            all_load_as_they_are: true,
            all_load_converted: true,
        }
    }

    /// The next vCPU has come: gives it as it would be loaded, or nothing if only the whole VM tells.
    pub fn add(&mut self, vcpu: &Vcpu) -> Option<Vcpu> {
        self.come += 1;
        if self.is_open {
            return None;
        }
        let result = self.check(vcpu);
        self.is_open = result.is_none();
        if self.first.is_none() {
            self.first = Some(vcpu.clone());
        }
        result
    }

    /// Whether the VM goes on if these vCPUs are all.
    pub fn goes_on(&self) -> bool {
        let all_alike = self.all_load_as_they_are || self.all_load_converted;
        self.come > 0 && !self.is_open && all_alike
    }

    fn check(&mut self, vcpu: &Vcpu) -> Option<Vcpu> {
        if let Some(host) = self.hosts.next() {
            self.there.vcpus = vec![host];
        }
        let there = &self.there;
        if let Some(first) = &self.first
            && there.accelerator != Some(Accelerator::Tcg)
            && !merge::surely_agree(first, vcpu)
        {
            return None;
        }
        let vm = Vm {
            vcpus: vec![vcpu.clone()],
        };
        let check = Check::new(&vm, there, self.tolerances, self.consents);
        self.all_load_as_they_are &= check.verdict == Verdict::Loads;
        self.all_load_converted &= match check.verdict {
            Verdict::Loads => check.loads_converted(&vm, there),
            Verdict::Converts => true,
            Verdict::Refused | Verdict::Unknown => return None,
        };
        check.plan.vcpus.first().map(|plan| plan.result(vcpu))
    }
}

/// Whether two vCPUs list the same.
fn is_alike(one: &HostVcpu, other: &HostVcpu) -> bool {
    let ids = |host: &HostVcpu| {
        let registers = host.registers().iter();
        registers.map(|register| register.id).collect::<Vec<_>>()
    };
    let has_features = |host: &HostVcpu| host.extension(Extension::FEATURES).is_some();
    ids(one) == ids(other) && has_features(one) == has_features(other)
}
