//! Inputs of a load: the incoming values, and the policy of the library.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;

use cpreg::plan::Consents;
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg_hosts::{HostIndex, IndexedHost};
use cpreg_stream::Stream;
use cpreg_vcpu_filter::policy::HostFacts;
use cpreg_vcpu_filter::{Candidate, GuestList, Policy};

/// Returns the values of a VM with `vcpus` copies of the first vCPU of a recorded stream.
pub(crate) fn values(path: &str, vcpus: u64) -> String {
    let mut stream = Vec::new();
    let packed = File::open(path).expect("a recorded stream");
    let mut unpacked = lzma_rust2::XzReader::new(packed, true);
    unpacked.read_to_end(&mut stream).expect("xz");
    let vm = Stream::open(&stream).expect("a stream").vm().expect("a VM");
    let mut registers = vm.vcpus[0].registers.clone();
    let affinity_of_first = registers.get_u64(RegisterId::MPIDR_EL1);
    let affinity_of_first = affinity_of_first.expect("MPIDR_EL1");
    let mut text = String::new();
    for number in 0..vcpus {
        // KVM gives 16 vCPUs each value of Aff1.
        let affinity = affinity_of_first & !0xffff | ((number / 16) << 8) | (number % 16);
        registers.insert(RegisterId::MPIDR_EL1, Value::U64(affinity));
        for (id, value) in registers.iter() {
            if let Some(value) = value.as_u64() {
                let _ = writeln!(text, "{number:x} {:x} {value:x}", id.raw());
            }
        }
    }
    text
}

/// Returns the policy of a VMM that receives a VM on a recorded host.
pub(crate) fn policy(host: &str) -> String {
    let index = HostIndex::built_in().expect("the built-in index");
    let hosts = index.hosts();
    let records = hosts.iter().map(IndexedHost::record);
    let lists = records.flat_map(|record| GuestList::from_record(&record));
    let (tolerances, consents) = (Tolerances::default(), Consents::default());
    let named = index.resolve(host).expect("a recorded host");
    let record = named.host.record();
    let mut host = HostFacts {
        kernel_release: Some(record.identity.release.clone()),
        ..HostFacts::default()
    };
    host.hardware.is_emulated = record.identity.emulated;
    let policy = Policy {
        candidates: Candidate::from_hosts(lists, &tolerances, &consents),
        host,
        ..Policy::default()
    };
    policy.to_json(Some(true)).expect("a policy")
}
