//! The capabilities of KVM that concern a guest's registers.

use cpreg_hosts::record::Capabilities;

/// Names and numbers (Linux v7.3 `include/uapi/linux/kvm.h`), ascending by number.
const QUERIED_CAPABILITIES: [(&str, u64); 28] = [
    ("KVM_CAP_NR_VCPUS", 9),
    ("KVM_CAP_MAX_VCPUS", 66),
    ("KVM_CAP_ONE_REG", 70),
    ("KVM_CAP_ARM_PSCI", 87),
    ("KVM_CAP_ARM_EL1_32BIT", 93),
    ("KVM_CAP_ARM_PSCI_0_2", 102),
    ("KVM_CAP_GUEST_DEBUG_HW_BPS", 119),
    ("KVM_CAP_GUEST_DEBUG_HW_WPS", 120),
    ("KVM_CAP_ARM_PMU_V3", 126),
    ("KVM_CAP_VCPU_ATTRIBUTES", 127),
    ("KVM_CAP_MAX_VCPU_ID", 128),
    ("KVM_CAP_ARM_USER_IRQ", 144),
    ("KVM_CAP_ARM_INJECT_SERROR_ESR", 158),
    ("KVM_CAP_ARM_VM_IPA_SIZE", 165),
    ("KVM_CAP_ARM_SVE", 170),
    ("KVM_CAP_ARM_PTRAUTH_ADDRESS", 171),
    ("KVM_CAP_ARM_PTRAUTH_GENERIC", 172),
    ("KVM_CAP_STEAL_TIME", 187),
    ("KVM_CAP_PTP_KVM", 198),
    ("KVM_CAP_ARM_MTE", 205),
    ("KVM_CAP_ARM_SYSTEM_SUSPEND", 216),
    ("KVM_CAP_COUNTER_OFFSET", 227),
    ("KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES", 230),
    ("KVM_CAP_ARM_WRITABLE_IMP_ID_REGS", 239),
    ("KVM_CAP_ARM_EL2", 240),
    ("KVM_CAP_ARM_EL2_E2H0", 241),
    ("KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED", 243),
    ("KVM_CAP_ARM_SEA_TO_USER", 245),
];

/// Returns the value of each queried capability, which is 0 if this KVM lacks the capability or the
/// query fails.
pub(super) fn query_capabilities(kvm: &kvm_ioctls::Kvm) -> Capabilities {
    let queried = QUERIED_CAPABILITIES.into_iter();
    queried
        .map(|(name, number)| (name.to_owned(), kvm.check_extension_raw(number).max(0)))
        .collect()
}
