//! Relays one live migration to a recorded host, by a policy of its own:
//! `relay_policy LISTEN CONNECT HOST/FEATURES MAX_VCPUS`.
//!
//! The policy rejects VMs with more vCPUs than the user permits, and converts all others by the
//! plan. Addresses have QEMU's form: `tcp:HOST:PORT` or `unix:PATH`.
#![expect(clippy::print_stdout, reason = "an example prints for its user")]

use std::env;
use std::error::Error;

use cpreg::destination::Destination;
use cpreg::destination::loader::Program;
use cpreg::plan::{Consents, Plan, PlanOutcome};
use cpreg::tolerance::Tolerances;
use cpreg_hosts::HostIndex;
use cpreg_relay::{
    CancelToken, Decision, Event, MigrationOutcome, MigrationPolicy, Observer, Relay,
};
use cpreg_stream::Stream;
use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};

/// Policy of one migration.
struct VcpuLimit {
    destination: Destination,
    max_vcpus: usize,
    /// Reason of a rejection.
    rejection: Option<String>,
}

impl VcpuLimit {
    fn reject(&mut self, reason: impl Into<String>) -> Decision {
        self.rejection = Some(reason.into());
        Decision::Reject
    }
}

impl MigrationPolicy for VcpuLimit {
    fn on_setup(&mut self, setup: &StreamSetup) -> bool {
        // Without a return path, a VM that is refused at its end stays stopped.
        if !setup.return_path {
            self.rejection = Some("switch the capability return-path on".to_owned());
        }
        setup.return_path
    }

    fn on_device_state(&mut self, device_state: &DeviceStateBuffer, stream: Stream) -> Decision {
        if stream.cpus().len() > self.max_vcpus {
            return self.reject("the VM has too many vCPUs");
        }
        let vm = match stream.vm() {
            Ok(vm) => vm,
            Err(error) => return self.reject(error.to_string()),
        };
        let (tolerances, consents) = (Tolerances::default(), Consents::default());
        let plan = Plan::new(&vm, &self.destination, &tolerances, &consents);
        if plan.outcome() != PlanOutcome::Ready {
            return self.reject("the VM needs a decision");
        }
        match device_state.convert(&stream, &plan.apply(&vm)) {
            Ok(edit) => Decision::Forward(edit),
            Err(error) => self.reject(error.to_string()),
        }
    }
}

/// Observer that prints the names of events, without the frequent ones.
struct EventNames;

impl Observer for EventNames {
    fn on_event(&self, event: &Event<'_>) {
        if !matches!(event, Event::Progress { .. } | Event::Phase { .. }) {
            println!("{}", event.name());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().collect();
    let [_, listen, connect, host, max_vcpus] = words.as_slice() else {
        return Err("usage: relay_policy LISTEN CONNECT HOST/FEATURES MAX_VCPUS".into());
    };
    let index = HostIndex::built_in()?;
    let named = index.resolve(host)?;
    let features = named.features.ok_or("name the features: HOST/pmu")?;
    let mut policy = VcpuLimit {
        destination: named.host.destination(features, Program::QEMU)?,
        max_vcpus: max_vcpus.parse()?,
        rejection: None,
    };
    let relay = Relay::bind(&listen.parse()?, connect.parse()?)?;
    println!("listening");
    let result = relay.serve_migration(&mut policy, &EventNames, &CancelToken::new()?)?;
    let result = result.ok_or("no migration began")?;
    println!("the VM is at: {}", result.vm_location.name());
    match (result.outcome, policy.rejection) {
        (MigrationOutcome::Completed, _) => Ok(()),
        (_, Some(reason)) => Err(reason.into()),
        (outcome, None) => Err(format!("{outcome:?}").into()),
    }
}
